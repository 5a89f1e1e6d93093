"""Incomplete trials: what an omission costs per gradient, as a multiple of a response.

8 000 trials of 40 subjects in two conditions, 15 % of which passed a deadline. Responses alone and omissions alone are
compiled and timed in turn, and divided by their number: where trials share cells and a deadline, where each has a theta
of its own, where each has a deadline of its own, and where each has both. Every model that comes with the package, by
its closed form and by the learned likelihood, and a race of one's own, learned from few simulations: as a chain of
networks with one and eight components, of two and four choices, and by its symmetries;
`python -m benchmarks.incomplete ddm angle own` for some.

`python -m benchmarks.incomplete fit`: a hierarchical fit of such a race with 15 % omissions, by the distribution
functions of the mixtures, and by quadrature of the same density.

`python -m benchmarks.incomplete solved`: processor seconds of 200 responses and of 200 omissions at four thetas, for
every model whose equation is solved.
"""

import sys
import time
import warnings
from collections.abc import Callable, Iterator

import arviz as az
import numpy as np
import pandas as pd
import torch

import hddm_sbi as hs
from benchmarks.timing import best_seconds
from hddm_sbi.inference.compiler.operations import UnknownOperationError
from hddm_sbi.inference.compiler.recorder import compile_function
from hddm_sbi.likelihoods.catalogue import load_simulator, names, weights_of
from hddm_sbi.simulation import Observation

N_CELLS, N_TRIALS, OMITTED = 80, 100, 0.15
LAPSE = 0.05
#: simulations from which a race of one's own is learned: its cost does not depend on how well.
N_SIMULATIONS = 4_000
#: people of the fit, trials of each of them in a condition.
PEOPLE, TRIALS = 5, 60


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


def own(n_choices: int, components: int, per_choice: tuple[str, ...] = ()) -> hs.DecisionLikelihood:
    """Of a race between log-normal times, of which the package knows no more than the onset, and the symmetries."""
    drifts = {f"m{c}": (-1.5, 1.0) for c in range(n_choices)}
    symmetries = hs.Symmetries(shift="t0", per_choice=per_choice)
    outcomes = {"rt": "positive", "response": tuple(range(n_choices))}

    @hs.declare(drifts | {"t0": (0.1, 0.5)}, outcomes, vectorised=True, symmetries=symmetries)
    def race(theta: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        times = np.exp(theta[:, :-1] + 0.5 * rng.normal(size=(len(theta), n_choices)))
        return theta[:, -1] + times.min(1), times.argmin(1)

    shape = None if per_choice else hs.EstimatorShape(components=components)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.TrainingWarning)
        return hs.train_likelihood(race, n_simulations=N_SIMULATIONS, budget=5.0, shape=shape, progress=False)


def likelihoods(asked: list[str]) -> Iterator[tuple[str, hs.DecisionLikelihood]]:
    """Those of the models asked for, or of all."""
    for name in asked or [*names(), "own"]:
        if name == "own":
            yield from ((f"own {c} choices {k}", own(c, k)) for c, k in ((2, 1), (2, 8), (4, 8)))
            yield "own mixture", own(2, 8, per_choice=("m",))
            continue
        if load_simulator(name).log_density is not None:
            yield f"{name} exact", hs.load_likelihood(name, kind="exact")
        if weights_of(name) is not None:
            yield f"{name} neural", hs.load_likelihood(name)


class ByDensity(hs.DecisionLikelihood):
    """A learned likelihood that says its density alone: incomplete trials are integrals."""

    kind = "neural"

    def __init__(self, learned: hs.DecisionLikelihood) -> None:
        super().__init__(learned.simulator, learned.box)
        self.learned = learned

    def log_prob_rows(self, values: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        return self.learned.log_prob_rows(values, theta)

    def log_prob_at(self, values: torch.Tensor, theta: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        return self.learned.log_prob_at(values, theta, row)

    def sample_rows(self, theta: torch.Tensor, seed: int) -> np.ndarray:
        return self.learned.sample_rows(theta, seed)


def fit() -> None:
    """Seconds and estimates of both ways."""
    learned, rng = own(2, 1), np.random.default_rng(1)
    table = pd.DataFrame(
        {"subject": np.repeat(np.arange(PEOPLE), 2 * TRIALS), "condition": np.tile(["easy", "hard"], PEOPLE * TRIALS)}
    )
    m0 = 0.3 * rng.normal(size=PEOPLE)[table["subject"]] - np.where(table["condition"] == "easy", 0.5, 0.0)
    theta = torch.from_numpy(np.column_stack([m0, np.full(len(table), 0.2), np.full(len(table), 0.3)]))
    table[["rt", "response"]] = learned.sample_rows(theta, 1)
    deadline = float(table["rt"].quantile(1 - OMITTED))
    late = table["rt"] > deadline
    table[["rt", "response"]] = table[["rt", "response"]].mask(late)
    print(f"{len(table)} trials of {PEOPLE} people, {late.mean():.0%} after a deadline of {deadline:.2f} s")
    for name, likelihood in (("by distribution functions", learned), ("by quadrature", ByDensity(learned))):
        model = hs.HierarchicalModel("m0 ~ condition + (1|subject)", table, likelihood=likelihood, deadline=deadline)
        began = time.process_time()
        with warnings.catch_warnings():
            # Short chains, for a quadrature takes minutes.
            warnings.simplefilter("ignore", hs.ConvergenceWarning)
            posterior = model.fit(draws=300, tune=300, chains=2, seed=1, progress=False)
        seconds = time.process_time() - began
        steps = int(posterior.sample_stats["n_steps"].sum())
        print(f"{name}: {seconds:.1f} processor seconds, {steps} steps")
        print(az.summary(posterior, var_names=["~|subject"], filter_vars="like", kind="stats", round_to=4))


def solved() -> None:
    """Of `kind="numerical"`, without gradients: every theta is solved once, for the density or for what survives."""
    for name in names():
        try:
            likelihood = hs.load_likelihood(name, kind="numerical")
        except hs.InputError:
            continue
        middle = [0.5 * sum(p.typical) for p in likelihood.simulator.parameters]
        theta = torch.tensor(middle).double() * torch.linspace(0.95, 1.05, 4).double().unsqueeze(-1)
        row = torch.arange(4).repeat_interleave(50)
        values = torch.as_tensor(likelihood.simulate(theta[row], seed=1))
        late = values[:, :1].quantile(1 - OMITTED).expand(len(row), len(likelihood.simulator.choices))
        try:
            began = time.process_time()
            likelihood.log_prob_at(values, theta, row)
            responded = time.process_time()
            likelihood.log_mass_at(late, torch.full_like(late, torch.inf), theta, row)
            omitted = time.process_time() - responded
        except hs.InputError as refusal:
            print(f"{name:12} refused: {refusal}", flush=True)
            continue
        print(f"{name:12} {omitted:7.3f} /{responded - began:7.3f} {omitted / (responded - began):6.1f}", flush=True)


def main(asked: list[str]) -> None:
    if asked == ["fit"]:
        return fit()
    if asked == ["solved"]:
        return solved()
    designs = {"cells": (False, False), "own theta": (True, False), "own deadline": (False, True), "both": (True, True)}
    print("ns of an omission / of a response, and their ratio")
    print(f"{'':16}" + "".join(f"{design:>22}" for design in designs))
    for name, likelihood in likelihoods(asked):
        cells = []
        for design in designs.values():
            response, omission = ratio(likelihood, *design)
            cells.append(f"{omission:6.0f} /{response:6.0f} {omission / response:6.1f}")
        print(f"{name:16}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
