"""Diffusion simulators: trials per second on one thread against Euler steps of 1 ms, and the bias of those."""

import importlib
import math

import numba as nb
import numpy as np

import hddm_sbi as hs
from benchmarks.timing import best_seconds

N = 500_000
DT = 1e-3

THETAS = {
    "ddm_sdv": (1.0, 1.0, 0.5, 0.0, 0.8),
    "full_ddm": (1.0, 1.0, 0.5, 0.0, 0.8, 0.2, 0.15),
    "angle": (1.0, 1.0, 0.5, 0.0, 0.5),
    "weibull": (1.0, 1.0, 0.5, 0.0, 2.0, 1.5),
    "ddm_exp": (1.0, 1.0, 0.5, 0.0, 1.5),
    "ornstein": (1.0, 1.0, 0.5, 0.0, 0.5),
    "dmc": (3.0, 0.7, 0.0, 0.15, 0.05, 2.0, 3.0, 0.0, -1.0),
    "ssp": (3.5, 0.7, 0.0, 0.1, 1.8, 0.0, 0.0, -1.0),
    "levy": (1.0, 1.0, 0.5, 0.0, 1.7),
    "race": (2.0, 1.0, 1.0, 0.2, 0.0, 0.5),
    "lca": (3.0, 2.0, 1.0, 0.2, 0.0, 1.0, 2.0),
    "lca4": (3.0, 2.0, 2.0, 1.0, 1.0, 0.2, 0.0, 1.0, 2.0),
}
#: without an Euler scheme here.
ALONE = ("ddm_sdv", "full_ddm", "levy", "race", "lca", "lca4")


@nb.njit
def euler(bound, push, leak, x0, dt, rng, rt):
    """The field's habit: bound (k,) and push = drift * dt (k,) tabulated once, Euler steps of dt, no delay."""
    root = math.sqrt(dt)
    for i in range(len(rt)):
        x, k = x0, 0
        while k < len(push) and abs(x) < bound[k]:
            x += push[k] - leak * x * dt + root * rng.standard_normal()
            k += 1
        rt[i] = k * dt


def tables(name: str, theta: tuple[float, ...], t: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Bound and push at the times t, and the leak, from the curves that the simulators cross."""
    if name == "ornstein":
        v, a, *_, g = theta
        return np.full(len(t), a), np.full(len(t) - 1, v * DT), g
    if name == "angle":
        v, a, *_, angle = theta
        return a - math.tan(angle) * t, np.full(len(t) - 1, v * DT), 0.0
    curves = importlib.import_module(f"hddm_sbi.simulators.{name}")._curves
    if name == "dmc":
        v, a, _, amp, tau, shape, _, _, congruency = theta
        arguments = v, a, congruency * amp, tau, shape - 1.0
    elif name == "ssp":
        area = importlib.import_module("hddm_sbi.simulators.ssp")._area
        p, a, _, ti, sda, _, _, congruency = theta
        arguments = p, a, ti, sda, congruency, area(sda)
    else:
        v, a, _, _, *rest = theta
        arguments = v, a, *rest
    lower, upper = np.array([curves(float(x), *arguments) for x in t]).T
    return (upper - lower) / 2, -np.diff(upper + lower) / 2, 0.0


def main() -> None:
    t = np.arange(15_001) * DT
    for name, theta in THETAS.items():
        simulator = hs.load_simulator(name)
        rows = np.tile(theta, (N, 1))
        rate = len(rows) / best_seconds(lambda simulator=simulator, rows=rows: simulator.simulate(rows, 1), 3)
        if name in ALONE:
            print(f"{name}: {rate:.1e} trials/s")
            continue
        bound, push, leak = tables(name, theta, t)
        few = np.empty(20_000)
        run = lambda rt, bound=bound, push=push, leak=leak: euler(  # noqa: E731
            bound, push, leak, 0.0, DT, np.random.default_rng(2), rt
        )
        slow = len(few) / best_seconds(lambda run=run, few=few: run(few), 3)
        many = np.empty(300_000)
        run(many)
        ours = simulator.simulate(rows, 3)[0]
        bias = (many.mean() - ours.mean()) / ours.std()
        # Euler's bias goes with the root of the step; ours is not seen at 1e6 trials, where a se is 1e-3 sd.
        print(
            f"{name}: {rate:.1e} trials/s, {rate / slow:.0f} times Euler of 1 ms ({slow:.1e}), whose mean is off by "
            f"{bias:.3f} sd; at a bias of 1e-3 sd {rate / slow * max(bias / 1e-3, 1.0) ** 2:.0f} times"
        )


if __name__ == "__main__":
    main()
