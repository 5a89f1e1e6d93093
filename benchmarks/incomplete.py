"""Incomplete trials: what an omission costs per gradient, as a multiple of a response.

8 000 trials of 40 subjects in two conditions, 15 % of which passed a deadline. Responses alone and omissions alone are
compiled and timed in turn, and divided by their number: where trials share cells and a deadline, where each has a theta
of its own, where each has a deadline of its own, and where each has both.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

import hddm_sbi as hs
from benchmarks.timing import best_seconds
from hddm_sbi.inference.compiler.recorder import compile_function
from hddm_sbi.simulation import Observation

MODELS = (("ddm", "exact"), ("ddm", "neural"), ("lba", "exact"), ("full_ddm", "neural"))
N_CELLS, N_TRIALS, OMITTED = 80, 100, 0.15
LAPSE = 0.05


def thetas(simulator: hs.Simulator, n: int, seed: int) -> np.ndarray:
    """(n, p), near the middle of what human data show."""
    rng = np.random.default_rng(seed)
    low, high = np.array([p.typical for p in simulator.parameters]).T
    return low + (high - low) * rng.uniform(0.4, 0.6, (n, len(low)))


def seconds(of_theta: Callable[[torch.Tensor], torch.Tensor], theta: np.ndarray) -> float:
    """Processor time of the value and gradient of a compiled function of theta."""

    def function(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        at = x.detach().requires_grad_()
        value = of_theta(at.reshape(theta.shape)).sum()
        return value.detach(), torch.autograd.grad(value, at)[0]

    flat = theta.reshape(-1).copy()
    compiled = compile_function(function, torch.from_numpy(flat))
    return best_seconds(lambda: compiled(flat), clock=time.process_time)


def ratio(likelihood: hs.Likelihood, own_theta: bool, own_deadline: bool, seed: int = 1) -> tuple[float, float]:
    """Nanoseconds of a response and of an omission."""
    n = N_CELLS * N_TRIALS
    cell = np.arange(n) if own_theta else np.repeat(np.arange(N_CELLS), N_TRIALS)
    theta = thetas(likelihood.simulator, cell[-1] + 1, seed)
    values = np.stack(likelihood.simulator.simulate(theta[cell], seed), -1)
    deadline = np.quantile(values[:, 0], 1 - OMITTED)
    omitted = np.sort(np.random.default_rng(seed).permutation(n)[: int(OMITTED * n)])
    late = deadline * np.random.default_rng(seed).uniform(0.9, 1.1, len(omitted)) if own_deadline else deadline
    responded = np.setdiff1d(np.arange(n), omitted)
    lapse = torch.tensor(LAPSE, dtype=torch.float64)

    rows, of_row = np.unique(cell[responded], return_inverse=True)
    trials = likelihood.group_by_cell(values[responded], of_row, len(rows))
    complete = seconds(lambda at: likelihood.log_prob_by_cell(trials, at, lapse), theta[rows])
    rows, of_row = np.unique(cell[omitted], return_inverse=True)
    n_choices, n_omitted = len(likelihood.simulator.choices), len(omitted)
    blank, never = np.full((n_omitted, 2), np.nan), (np.zeros(n_omitted), np.full(n_omitted, np.inf))
    everything = np.ones(n_omitted, bool)
    seen = Observation(n_choices, np.broadcast_to(late, n_omitted), None, never, never, everything, everything)
    known = likelihood.group_by_cell(blank, of_row, len(rows), 10.0, seen)
    given = lapse.expand(len(rows)), known.lapses
    incomplete = seconds(lambda at: likelihood.events_by_cell(known.incomplete.events, at, *given), theta[rows])
    return complete / len(responded) * 1e9, incomplete / len(omitted) * 1e9


def main() -> None:
    designs = {"cells": (False, False), "own theta": (True, False), "own deadline": (False, True), "both": (True, True)}
    for name, kind in MODELS:
        likelihood = hs.load_likelihood(name, kind=kind)
        for design, own in designs.items():
            response, omission = ratio(likelihood, *own)
            print(
                f"{name} {kind}, {design}: {response:.0f} ns a response, {omission:.0f} ns an omission, "
                f"{omission / response:.1f} times as much"
            )


if __name__ == "__main__":
    main()
