"""The check of a learned likelihood on held-out simulations: log score, ranks among its own samples, mass; in words."""

import itertools
import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from scipy.special import roots_legendre
from scipy.stats import norm

from hddm_sbi.likelihoods import HeldOutScores, Likelihood
from hddm_sbi.training.ranks import DRAWS, FALSE_ALARMS, uniformity_test
from hddm_sbi.training.safety import SAFE_SHARE, SAFE_SHIFT
from hddm_sbi.types import Array

#: simulations that are ranked, and parameter sets in the mixture that is the baseline without parameters.
_RANKED, _BASELINE = 2_000, 100
#: the largest shift of the mean of ranks, in its standard errors, that passes.
_HIDDEN_SHIFT = float(norm.isf(FALSE_ALARMS / 2))
#: how far the total mass may be from 1, and the number of parameter sets at which it is computed.
_MASS, _MASS_SETS = 1e-3, 20
#: quadrature over a continuous outcome: number of points, and standard deviations to either side of its median.
_POINTS, _REACH = 4_000, 15.0


def check(likelihood: Likelihood, values: Array, theta: Array, seed: int, safe: int | None = None) -> HeldOutScores:
    """Check a likelihood on simulations (n, k) at theta (n, p) that it has not seen. safe: as `safe_outcomes` says."""
    x, at = torch.as_tensor(values), torch.as_tensor(theta)
    with torch.no_grad():
        log_score = float(likelihood.log_prob_rows(x, at).mean())
    ranked = values[:_RANKED], theta[:_RANKED]
    tests = list(_rank_tests(likelihood, *ranked, seed))
    p, where, distance = min(tests)
    p_value, n = min(1.0, p * len(tests)), len(ranked[0])
    information, mass = log_score - _baseline(likelihood, *ranked), _mass(likelihood, theta)
    uniform, whole = p_value >= FALSE_ALARMS, mass is None or abs(mass - 1) <= _MASS
    verdict = (
        f"{'Good' if uniform and whole else 'Not good yet'}: Held-out log score {log_score:.3f} per outcome, "
        f"{information:.3f} nats more than without the parameters. "
        f"{_calibrated(p_value, n, safe) if uniform else _miscalibrated(p_value, where, distance)} "
        f"Total mass {'is 1 by construction' if mass is None else f'is {mass:.6f}'}"
        f"{'' if whole else ', which is not 1: the network has no mass where outcomes lie, or mass where none lie'}."
    )
    return HeldOutScores(
        log_score=log_score,
        information=information,
        p_value=p_value,
        where=where,
        distance=distance,
        mass=mass,
        ranked=n,
        safe_outcomes=safe,
        passed=uniform and whole,
        verdict=verdict,
    )


def _calibrated(p_value: float, ranked: int, safe: int | None) -> str:
    """Uniform ranks in words, and for which posteriors that suffices."""
    resolution = math.sqrt(-0.5 * math.log(FALSE_ALARMS / 2) / ranked)
    uniform = (
        f"The ranks of {ranked} simulated outcomes among its own samples are uniform "
        f"(p = {p_value:.2g}): distribution functions are right to about {resolution:.1%}"
    )
    if safe is None:
        return (
            f"{uniform}, and a posterior of n outcomes may be off by {_HIDDEN_SHIFT:.1f} sqrt(n / {ranked}) sds "
            "unnoticed."
        )
    up_to = f"from up to about {safe:,} outcomes are".replace(",", " ") if safe else "from even ten outcomes are not"
    return (
        f"{uniform}. Posterior means {up_to} within {SAFE_SHIFT:g} sds at {SAFE_SHARE:.0%} of parameter sets, as two "
        "networks tell that saw half of the simulations each; for more outcomes refine it where the posterior lies "
        "(hs.refine_likelihood), or train on more simulations."
    )


def _miscalibrated(p_value: float, where: str, distance: float) -> str:
    """Ranks that are not uniform in words, and what to do."""
    return (
        f"It is miscalibrated in {where}: distribution functions are off by {distance:.1%} there "
        f"(p = {p_value:.1g}). Train on more simulations, or on a smaller box."
    )


def _baseline(likelihood: Likelihood, values: Array, theta: Array) -> float:
    """Mean log density of the mixture over many parameter sets: the log score of a likelihood without parameters."""
    sets = torch.as_tensor(theta[:_BASELINE])
    with torch.no_grad():
        each = [likelihood.log_prob_rows(torch.as_tensor(values), row.expand(len(values), -1)) for row in sets]
    return float((torch.logsumexp(torch.stack(each), 0) - math.log(len(each))).clamp(min=-1e3).mean())


def _rank_tests(likelihood: Likelihood, values: Array, theta: Array, seed: int) -> Iterator[tuple[float, str, float]]:
    """p-value, description and distance of every test.

    Tests of every outcome and of the joint log density; of all simulations, and of those where a parameter is low or
    high.
    """
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
            p_value, distance = uniformity_test(rank[rows])
            yield p_value, f"{name}{half}", distance


def _mass(likelihood: Likelihood, theta: Array) -> float | None:
    """The total mass furthest from 1 at a few parameter sets; None for more than one continuous outcome."""
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
    """Points and weights on [-1, 1]. scipy's tridiagonal solver takes 0.3 s, numpy's dense one 5 s."""
    points, weights = roots_legendre(_POINTS)
    return points, weights
