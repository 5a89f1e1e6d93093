"""DDM simulator: trials per second on one thread, and mean and choice share against the closed form."""

import math

import numba as nb
import numpy as np

import hddm_sbi as hs
from benchmarks.timing import best_seconds

N = 1_000_000


@nb.njit
def euler(theta, dt, rng, rt):
    """The field's habit, for the ratio: Euler steps of dt."""
    v, a, z, t0 = theta
    for i in range(len(rt)):
        x, t = (2 * z - 1) * a, 0.0
        while -a < x < a:
            x += v * dt + math.sqrt(dt) * rng.standard_normal()
            t += dt
        rt[i] = t0 + t


def main() -> None:
    ddm = hs.load_simulator("ddm")
    for row in ([1.0, 1.0, 0.5, 0.3], [0.5, 1.0, 0.3, 0.3], [3.0, 2.0, 0.2, 0.3]):
        theta = np.tile(row, (N, 1))
        exact = N / best_seconds(lambda theta=theta: ddm.simulate(theta, 1), 3)
        rt = np.empty(20_000)
        steps = len(rt) / best_seconds(lambda row=row, rt=rt: euler(tuple(row), 1e-3, np.random.default_rng(1), rt), 3)
        print(f"v a z t0 = {row}: {exact:.2e} trials/s, {exact / steps:.0f} times an Euler scheme of 1 ms")
    rng = np.random.default_rng(1)
    low, high = np.array(list(ddm.box.values())).T
    worst = {"mean rt": 0.0, "choice share": 0.0}
    for k, (v, a, z, t0) in enumerate(low + (high - low) * rng.random((20, 4))):
        rt, choice = ddm.simulate(np.tile([v, a, z, t0], (N, 1)), seed=k)
        x = (2 * z - 1) * a
        p = math.expm1(-2 * v * (x + a)) / math.expm1(-4 * v * a)
        mean = t0 + ((2 * p - 1) * a - x) / v
        worst["mean rt"] = max(worst["mean rt"], abs(rt.mean() - mean) / rt.std() * math.sqrt(N))
        se = math.sqrt(max(p * (1 - p), 1 / N) / N)
        worst["choice share"] = max(worst["choice share"], abs(choice.mean() - p) / se)
    for name, value in worst.items():
        print(f"largest deviation of the {name} in 20 random parameter sets of 1e6 trials: {value:.1f} standard errors")


if __name__ == "__main__":
    main()
