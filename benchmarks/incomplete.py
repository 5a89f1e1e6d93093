"""Incomplete trials: what an omission costs per gradient, as a multiple of a response.

8 000 trials of 40 subjects in two conditions, 15 % of which passed a deadline. Responses alone and omissions alone are
compiled and timed in turn, and divided by their number: where trials share cells and a deadline, where each has a theta
of its own, where each has a deadline of its own, and where each has both. Every model that comes with the package, by
its closed form and by the learned likelihood; `python -m benchmarks.incomplete ddm angle` for some.
"""

import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

import hddm_sbi as hs
from benchmarks.timing import best_seconds
from hddm_sbi.inference.compiler.operations import UnknownOperationError
from hddm_sbi.inference.compiler.recorder import compile_function
from hddm_sbi.likelihoods.catalogue import load_simulator, names, weights_of
from hddm_sbi.simulation import Observation

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
    try:
        compiled = compile_function(function, torch.from_numpy(flat))
    except UnknownOperationError:
        # lca3 and lca4 sort accumulators, which the compiler does not: their models run in Pyro.
        return best_seconds(lambda: function(torch.from_numpy(flat)), clock=time.process_time)
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


def likelihoods(asked: list[str]) -> Iterator[tuple[str, hs.Likelihood]]:
    """Those of the models asked for, or of all."""
    for name in asked or names():
        if load_simulator(name).log_density is not None:
            yield f"{name} exact", hs.load_likelihood(name, kind="exact")
        if weights_of(name) is not None:
            yield f"{name} neural", hs.load_likelihood(name)


def main(asked: list[str]) -> None:
    designs = {"cells": (False, False), "own theta": (True, False), "own deadline": (False, True), "both": (True, True)}
    print("ns of an omission / of a response, and their ratio")
    print(f"{'':16}" + "".join(f"{design:>22}" for design in designs))
    for name, likelihood in likelihoods(asked):
        cells = []
        for own in designs.values():
            response, omission = ratio(likelihood, *own)
            cells.append(f"{omission:6.0f} /{response:6.0f} {omission / response:6.1f}")
        print(f"{name:16}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
