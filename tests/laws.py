"""What laws are tested over, and with: the likelihoods of the catalogue, one of a simulator of one's own, random
parameters, one goodness of fit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import stats

import hddm_sbi as hs
from hddm_sbi.likelihoods.catalogue import load_simulator, names, weights_of
from hddm_sbi.likelihoods.factored import Encoding, Factored, FactoredNetwork, factored_likelihood
from hddm_sbi.simulation import Power, Simulator
from hddm_sbi.simulation.first_passage import Passage, grid

#: of every goodness of fit: five standard errors.
FALSE_ALARM = 5.7e-7

#: (model, kind) of every likelihood that is there without training or solving anything.
LIKELIHOODS = [(name, "exact") for name in names() if load_simulator(name).log_density is not None]
LIKELIHOODS += [(name, "neural") for name in names() if weights_of(name) is not None]
#: the likelihood of a simulator without symmetries of choices, a chain of networks.
OWN = ("own", "factored")


def load(name: str, kind: str) -> hs.DecisionLikelihood:
    """A likelihood of `LIKELIHOODS`, or that of `OWN`: any weights, three choices, two of three components next to
    normal; integrals of heavier tails end too early at exp(30) seconds."""
    if (name, kind) != OWN:
        return hs.load_likelihood(name, kind=kind)

    @hs.declare(
        {"m0": (-1.0, 1.0), "m1": (-1.0, 1.0), "m2": (-1.0, 1.0), "t0": (0.1, 0.4)},
        {"rt": "positive", "response": (0, 1, 2)},
        symmetries=hs.Symmetries(shift="t0"),
        vectorised=True,
    )
    def own(theta: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        times = np.exp(theta[:, :3] - 0.7 + 0.4 * rng.normal(size=(len(theta), 3)))
        return theta[:, 3] + times.min(1), times.argmin(1)

    likelihood, _, _ = untrained(hs.EstimatorShape(hidden=8, components=3), own)
    with torch.no_grad():
        *_, of_time = likelihood.network.factors
        of_time.constant[:3].copy_(torch.log(torch.tensor([12.0, 60.0, 5e3])))
    return likelihood


def untrained(shape: hs.EstimatorShape, simulator: Simulator, seed: int = 1) -> tuple[Factored, np.ndarray, np.ndarray]:
    """A chain of networks of any weights, and 400 outcomes and thetas."""
    theta = np.random.default_rng(seed).uniform(*np.array(list(simulator.box.values())).T, (400, len(simulator.names)))
    values = simulator.simulate_outcomes(theta, seed).values
    encoding = Encoding.of(simulator, values, theta)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = FactoredNetwork(encoding, shape)
        with torch.no_grad():
            for factor in network.factors:
                factor.straight.weight.normal_(0.0, 0.1)
    return factored_likelihood(network, encoding, simulator.box, None), values, theta


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
    # Of the first one in 10 000 a reference may refuse to tell when they ended: of such shares, 1e-6 is rounding.
    t = np.concatenate([[0.0], t[t > np.quantile(rt, 1e-4)]])
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
