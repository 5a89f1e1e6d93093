"""What laws are tested over, and with: the likelihoods of the catalogue, random parameters, one goodness of fit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from hddm_sbi.likelihoods.catalogue import load_simulator, names, weights_of
from hddm_sbi.simulation import Power, Simulator
from hddm_sbi.simulation.first_passage import Passage, grid

#: of every goodness of fit: five standard errors.
FALSE_ALARM = 5.7e-7

#: (model, kind) of every likelihood that is there without training or solving anything.
LIKELIHOODS = [(name, "exact") for name in names() if load_simulator(name).log_density is not None]
LIKELIHOODS += [(name, "neural") for name in names() if weights_of(name) is not None]


def random_thetas(simulator: Simulator, n: int, seed: int, margin: float = 0.0) -> np.ndarray:
    """(n, p), uniform in the box or this share of its width inside; a condition has any of its codes."""
    rng = np.random.default_rng(seed)
    theta = np.empty((n, len(simulator.parameters)))
    for column, p in enumerate(simulator.parameters):
        by = margin * (p.high - p.low)
        theta[:, column] = rng.choice(p.codes, n) if p.from_data else rng.uniform(p.low + by, p.high - by, n)
    return theta


def by_name(simulator: Simulator, theta: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of theta (n, p), or one row (p,), by parameter name."""
    return dict(zip(simulator.names, theta.T, strict=True))


def power_at(power: Power, at: dict[str, np.ndarray]) -> float | np.ndarray:
    """The value of a power of a model's symmetries at these parameters."""
    return power(at) if callable(power) else power


def edges_of(rt: np.ndarray, choice: np.ndarray, n_choices: int, bins: int = 20) -> list[np.ndarray]:
    """For every choice, the times that split a pilot sample's trials into equal parts, of 50 trials or more."""
    edges = []
    for c in range(n_choices):
        own = rt[choice == c]
        parts = int(np.clip(len(own) / 50, 1, bins))
        edges.append(np.quantile(own, np.arange(1, parts) / parts) if parts > 1 else np.empty(0))
    return edges


def chi_square_p(
    rt: np.ndarray,
    choice: np.ndarray,
    edges: list[np.ndarray],
    cdf: Callable[[int, np.ndarray], np.ndarray],
) -> float:
    """P-value of trials (n,) between the edges of every choice, which these trials had no part in choosing.

    cdf: (choice, times) -> P(choice, RT <= time). Bins that expect fewer than 5 trials are taken together and tested,
    as a Poisson number, for too many; the smaller p-value of the two counts.
    """
    expected, observed = [], []
    for c, inner in enumerate(edges):
        ends = np.concatenate([[0.0], inner, [np.inf]])
        expected += (len(rt) * np.diff(cdf(c, ends))).tolist()
        observed += np.histogram(rt[choice == c], ends)[0].tolist()
    expected, observed = np.array(expected), np.array(observed)
    common = expected > 5.0
    statistic = ((observed - expected)[common] ** 2 / expected[common]).sum()
    rare = stats.poisson.sf(observed[~common].sum() - 1, expected[~common].sum()) if not common.all() else 1.0
    return float(min(stats.chi2.sf(statistic, common.sum()), rare))


def goodness_of_fit(
    simulator: Simulator, theta: np.ndarray, n: int, seed: int, reference: Callable[[np.ndarray, float], Passage]
) -> float:
    """The smallest p-value of n trials of one theta: of their mean, choice shares and distribution. t0 must be 0.

    reference: (theta, t_max) -> density of the decision time.
    """
    rows = np.tile(theta, (n, 1))
    rt, choice = simulator.simulate(rows, [seed, 0])
    t = grid(1.05 * rt.max(), 1_000)
    mass = reference(theta, t[-1]).mass(t)
    mean = np.diff(mass.sum(0)) @ (t[1:] + t[:-1]) / 2
    p_values = [2 * stats.norm.sf(abs(rt.mean() - mean) / rt.std() * math.sqrt(n))]
    for c, share in enumerate(mass[:, -1]):
        # One trial more or less is no evidence against a share that expects fewer than one.
        deviation = max(abs((choice == c).mean() - share) - 1 / n, 0.0)
        p_values.append(2 * stats.norm.sf(deviation / math.sqrt(max(share * (1 - share), 1e-12) / n)))
    edges = edges_of(*simulator.simulate(rows, [seed, 1]), len(simulator.choices), bins=30)
    p_values.append(chi_square_p(rt, choice, edges, lambda c, at: np.interp(at, t, mass[c])))
    return min(p_values)
