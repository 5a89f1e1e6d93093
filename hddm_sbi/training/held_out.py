"""Is a learned likelihood any good? Held-out log score, ranks of simulated outcomes among its own, mass; in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy.special import roots_legendre
from scipy.stats import norm

from hddm_sbi.likelihoods.likelihood import Likelihood
from hddm_sbi.training.ranks import DRAWS, FALSE_ALARMS, uniform
from hddm_sbi.types import Array

#: simulations that are ranked, and how many parameter sets stand for "no parameters" in the baseline.
_RANKED, _BASELINE = 2_000, 100
#: a shift of the mean of ranks, in its standard errors, that passes.
_UNSEEN = float(norm.isf(FALSE_ALARMS / 2))
#: how far the total mass may be from 1, and at how many parameter sets it is summed.
_MASS, _MASS_SETS = 1e-3, 20
#: quadrature over a continuous outcome: so many points, this many standard deviations to either side of its median.
_POINTS, _REACH = 4_000, 15.0


@dataclass(frozen=True)
class HeldOutCheck:
    """What simulations that a likelihood has not seen say about it.

    log_score: mean log density. information: how much more that is than without the parameters, in nats per outcome.
    p_value: of the ranks, the smallest of many tests, corrected for their number. where: which test that was.
    distance: largest difference of distribution functions there. mass: total mass furthest from 1, None where several
    continuous outcomes make it a matter of construction. ranked: number of simulations.
    """

    log_score: float
    information: float
    p_value: float
    where: str
    distance: float
    mass: float | None
    ranked: int

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the likelihood."""
        return self.p_value >= FALSE_ALARMS and (self.mass is None or abs(self.mass - 1) <= _MASS)

    def verdict(self) -> str:
        """The check in words."""
        score = (
            f"Held-out log score {self.log_score:.3f} per outcome, {self.information:.3f} nats more than without the "
            "parameters."
        )
        resolution = math.sqrt(-0.5 * math.log(FALSE_ALARMS / 2) / self.ranked)
        if self.p_value >= FALSE_ALARMS:
            ranks = (
                f"{self.ranked} simulated outcomes lie among its own draws as they should (p = {self.p_value:.2g}): "
                f"distribution functions are right to about {resolution:.1%}, and a posterior from n outcomes may be "
                f"off by {_UNSEEN:.1f} sqrt(n / {self.ranked}) of its sds before they show it."
            )
        else:
            ranks = (
                f"It is miscalibrated in {self.where}: distribution functions are off by {self.distance:.1%} there "
                f"(p = {self.p_value:.1g}). Train on more simulations, or on a smaller box."
            )
        mass = "is 1 by construction" if self.mass is None else f"is {self.mass:.6f}"
        if self.mass is not None and abs(self.mass - 1) > _MASS:
            mass += ", which is not 1: outcomes lie where the network has none, or the other way round"
        return f"{'Good' if self.passed else 'Not good yet'}: {score} {ranks} Total mass {mass}."

    def scores(self) -> dict[str, Any]:
        """For the card."""
        return {**asdict(self), "passed": self.passed, "verdict": self.verdict()}


def check(likelihood: Likelihood, values: Array, theta: Array, seed: int) -> HeldOutCheck:
    """Check a likelihood on simulations (n, k) at theta (n, p) that it has not seen."""
    x, at = torch.as_tensor(values), torch.as_tensor(theta)
    with torch.no_grad():
        log_score = float(likelihood.log_prob_rows(x, at).mean())
    ranked = values[:_RANKED], theta[:_RANKED]
    tests = list(_rank_tests(likelihood, *ranked, seed))
    p, where, distance = min(tests)
    return HeldOutCheck(
        log_score=log_score,
        information=log_score - _baseline(likelihood, *ranked),
        p_value=min(1.0, p * len(tests)),
        where=where,
        distance=distance,
        mass=_mass(likelihood, theta),
        ranked=len(ranked[0]),
    )


def _baseline(likelihood: Likelihood, values: Array, theta: Array) -> float:
    """Mean log density of the mixture over many parameter sets: what a likelihood without parameters would score."""
    chosen = torch.as_tensor(theta[:_BASELINE])
    with torch.no_grad():
        each = [likelihood.log_prob_rows(torch.as_tensor(values), row.expand(len(values), -1)) for row in chosen]
    return float((torch.logsumexp(torch.stack(each), 0) - math.log(len(each))).clamp(min=-1e3).mean())


def _rank_tests(likelihood: Likelihood, values: Array, theta: Array, seed: int) -> Iterator[tuple[float, str, float]]:
    """p-value, description and distance of every test: each outcome, and the log density of all of them; everywhere,
    and where a parameter is low or high."""
    rng = np.random.default_rng(seed)
    repeated = torch.as_tensor(np.repeat(theta, DRAWS, axis=0))
    own = likelihood.sample_rows(repeated, seed)
    with torch.no_grad():
        density = likelihood.log_prob_rows(torch.as_tensor(values), torch.as_tensor(theta)).numpy()
        own_density = likelihood.log_prob_rows(torch.as_tensor(own), repeated).numpy()
    n = len(values)
    statistics = {outcome.name: (values[:, k], own[:, k]) for k, outcome in enumerate(likelihood.simulator.outcomes)}
    statistics["the joint density"] = (density, own_density)
    halves = {"": np.ones(n, dtype=bool)}
    for column, p in enumerate(likelihood.simulator.parameters):
        middle = np.median(theta[:, column])
        halves |= {f" where {p.name} is low": theta[:, column] <= middle}
        halves |= {f" where {p.name} is high": theta[:, column] > middle}
    for name, (simulated, drawn) in statistics.items():
        below = (drawn.reshape(n, DRAWS) < simulated[:, None]).sum(1)
        equal = (drawn.reshape(n, DRAWS) == simulated[:, None]).sum(1)
        # Ties, as among counts, are broken at random.
        rank = below + rng.integers(0, equal + 1)
        for half, rows in halves.items():
            p_value, distance = uniform(rank[rows])
            yield p_value, f"{name}{half}", distance


def _mass(likelihood: Likelihood, theta: Array) -> float | None:
    """Total mass at a few parameter sets, the one furthest from 1; None for more than one continuous outcome."""
    columns = likelihood.simulator.outcomes
    if sum(not outcome.discrete for outcome in columns) > 1:
        return None
    masses = [_mass_at(likelihood, torch.as_tensor(row)) for row in theta[:_MASS_SETS]]
    return max(masses, key=lambda mass: abs(mass - 1))


def _mass_at(likelihood: Likelihood, theta: torch.Tensor) -> float:
    columns = likelihood.simulator.outcomes
    grids, log_weights = [], []
    for k, outcome in enumerate(columns):
        if outcome.discrete:
            size = likelihood.n_values(k)
            grids.append(np.arange(float(size)))
            log_weights.append(np.zeros(size))
        else:
            grid, log_weight = _line(likelihood, theta, k)
            grids.append(grid)
            log_weights.append(log_weight)
    points = np.array(list(itertools.product(*grids)))
    log_weight = np.array([sum(w) for w in itertools.product(*log_weights)])
    with torch.no_grad():
        log_p = likelihood.log_prob_rows(torch.as_tensor(points), theta.expand(len(points), -1)).numpy()
    return float(np.exp(log_p + log_weight).sum())


def _line(likelihood: Likelihood, theta: torch.Tensor, column: int) -> tuple[Array, Array]:
    """Points and log weights of a quadrature over a continuous outcome; over its logarithm if it is positive."""
    simulator, outcome = likelihood.simulator, likelihood.simulator.outcomes[column]
    draws = likelihood.sample_rows(theta.expand(_RANKED, -1), seed=0)[:, column]
    shift = simulator.symmetries.shift if column == 0 else None
    offset = float(theta[simulator.names.index(shift)]) if shift else 0.0
    positive = outcome.kind == "positive"
    y = np.log(draws - offset) if positive else draws
    reach = _REACH * float(y.std())
    points, weights = _gauss_legendre()
    nodes = float(np.median(y)) + reach * points
    log_weight = np.log(reach * weights)
    return (offset + np.exp(nodes), log_weight + nodes) if positive else (nodes, log_weight)


@cache
def _gauss_legendre() -> tuple[Array, Array]:
    """Points and weights on [-1, 1]; by scipy, whose tridiagonal solver takes 0.3 s where numpy's dense one takes 5."""
    points, weights = roots_legendre(_POINTS)
    return points, weights
