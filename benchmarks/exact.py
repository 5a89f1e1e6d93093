"""Exact likelihoods: error of `ddm` against a 60-digit series, ns per trial with gradient (40 000 in 80 cells)."""

import time

import mpmath
import numpy as np
import torch

import hddm_sbi as hs
from benchmarks.timing import best_seconds
from hddm_sbi.likelihoods.decision import SortedTrials, outcome_rows

#: models whose closed form is timed.
TIMED = ("ddm", "lnr", "rdm", "lba", "lba4")


def forty_thousand_trials(simulator: hs.Simulator, n_cells: int, seed: int = 3) -> tuple[torch.Tensor, SortedTrials]:
    """Simulated trials in cells, each with parameters near the middle of what human data show."""
    rng = np.random.default_rng(seed)
    low, high = np.array([p.typical for p in simulator.parameters]).T
    theta = low + (high - low) * rng.uniform(0.45, 0.55, (n_cells, len(low)))
    cell = np.repeat(np.arange(n_cells), 40_000 // n_cells)
    rt, choice = simulator.simulate(theta[cell], seed)
    n_choices = len(simulator.choices)
    return torch.tensor(theta, requires_grad=True), SortedTrials.sort(rt, choice, cell, n_cells, n_choices)


def seconds_per_gradient(likelihood: hs.Likelihood, lapse: float, n_cells: int = 80) -> float:
    """Processor time of log likelihood and gradient by theta of all 40 000 trials, torch's overhead included."""
    theta, trials = forty_thousand_trials(likelihood.simulator, n_cells)
    probability = torch.tensor(lapse, dtype=torch.float64)

    def run() -> None:
        torch.autograd.grad(likelihood.log_prob_by_cell(trials, theta, probability).sum(), theta)

    return best_seconds(run, clock=time.process_time)


def series(t: float, choice: int, v: float, a: float, z: float) -> mpmath.mpf:
    """Log density in the working precision of mpmath (Navarro & Fuss 2009)."""
    v, a, z, t = map(mpmath.mpf, (v, a, z, t))
    v, z = (-v, 1 - z) if choice else (v, z)
    u = t / (2 * a) ** 2
    if u < 0.5:
        total = mpmath.fsum((z + 2 * k) * mpmath.exp(-((z + 2 * k) ** 2) / (2 * u)) for k in range(-30, 31))
        f = total / mpmath.sqrt(2 * mpmath.pi * u**3)
    else:
        pi = mpmath.pi
        f = pi * mpmath.fsum(k * mpmath.sin(k * pi * z) * mpmath.exp(-(k**2) * pi**2 * u / 2) for k in range(1, 40))
    return mpmath.log(f) - 2 * mpmath.log(2 * a) - v * 2 * a * z - v * v * t / 2


def main() -> None:
    exact = hs.load_likelihood("ddm", kind="exact")
    low, high = np.array(list(exact.simulator.box.values())).T
    rng = np.random.default_rng(1)
    theta = low + (high - low) * rng.random((2_000, 4))
    theta[:, 3] = 0.0
    t = theta[:, 1] ** 2 * np.exp(rng.uniform(np.log(1e-4), np.log(60), len(theta)))
    choice = rng.integers(0, 2, len(theta))
    with mpmath.workdps(60):
        true = np.array([float(series(*q)) for q in zip(t, choice, *theta.T[:3], strict=True)])
    error = np.abs(exact.log_prob_rows(outcome_rows(t, choice), torch.tensor(theta)).numpy() - true)
    inside = true > -700
    largest = (error / np.maximum(1, abs(true)))[inside].max()
    print(f"largest relative error over {inside.sum()} points with log p > -700: {largest:.1e}")
    for name in TIMED:
        likelihood = hs.load_likelihood(name, kind="exact")
        times = [seconds_per_gradient(likelihood, lapse) / 40_000 * 1e9 for lapse in (0.0, 0.05)]
        print(f"{name}: {times[0]:.1f} ns per trial with gradient, {times[1]:.1f} with lapses")


if __name__ == "__main__":
    main()
