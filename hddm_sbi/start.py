"""Where sampling starts and how each group term is parametrised: from one pooled maximum-likelihood fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pyro.distributions import TorchDistribution
from scipy.optimize import minimize
from torch import Tensor

from hddm_sbi.hierarchy import Hierarchy
from hddm_sbi.likelihood import CellTrials, SortedTrials
from hddm_sbi.link import onto_box, to_link
from hddm_sbi.predictor import GroupEffects, Predictor

Array = NDArray[np.float64]
Index = NDArray[np.int64]

#: lapse probability of the pooled fit, which must survive any outlier in the table.
_LAPSE = 0.05
#: at most this many trials enter the pooled fit.
_POOLED_TRIALS = 20_000
#: simulated trials behind the information of one trial.
_SIMULATED_TRIALS = 5_000
#: the non-decision time starts at this fraction of the fastest trial.
_BELOW_FASTEST = 0.9


@dataclass(frozen=True)
class Start:
    """A pooled fit: one theta for all trials, as if there were no design.

    theta: (p,). information: (q, q) expected information of one trial about the q estimated parameters, on the scale
    of their links.
    """

    theta: Array
    information: Array


def pooled_fit(hierarchy: Hierarchy) -> Start:
    """Maximum likelihood of one theta for all trials (at most 20 000 of them, evenly spaced), lapses included."""
    fixed, condition = _conditions(hierarchy)
    trials = _pool(hierarchy, condition)
    n = len(trials.order)
    lapse = torch.tensor(_LAPSE if trials.lapse_density else 0.0, dtype=torch.float64)

    def loss(x: Array) -> tuple[float, Array]:
        eta = torch.tensor(x, requires_grad=True)
        theta = _theta(hierarchy, eta.expand(len(fixed), -1), fixed)
        total = -hierarchy.likelihood.cell_log_prob(theta, trials, lapse).sum() / n
        (gradient,) = torch.autograd.grad(total, eta)
        return float(total.detach()), gradient.numpy()

    first = np.array([_first_eta(p, hierarchy) for p in hierarchy.predictors])
    found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=[(e - 5.0, e + 5.0) for e in first])
    eta = torch.tensor(found.x)
    return Start(_theta(hierarchy, eta, fixed[0]).numpy(), _expected_information(hierarchy, eta, fixed, condition))


def _conditions(hierarchy: Hierarchy) -> tuple[Tensor, Index]:
    """What is held fixed: its distinct rows (k, p), 0 for estimated parameters, and which of them each cell has."""
    names, n = hierarchy.likelihood.simulator.names, hierarchy.trials.n_cells
    columns = [torch.as_tensor(hierarchy.fixed.get(name, 0.0), dtype=torch.float64).expand(n) for name in names]
    rows, condition = torch.unique(torch.stack(columns, -1), dim=0, return_inverse=True)
    return rows, condition.numpy()


def _theta(hierarchy: Hierarchy, eta: Tensor, fixed: Tensor) -> Tensor:
    """Parameters (..., p) from those of the estimated ones on the scale of their links (..., q), and the fixed ones."""
    estimated = {p.name: onto_box(eta[..., i], p.link, p.low, p.high) for i, p in enumerate(hierarchy.predictors)}
    names = hierarchy.likelihood.simulator.names
    return torch.stack([estimated.get(name, fixed[..., j]) for j, name in enumerate(names)], -1)


def _expected_information(hierarchy: Hierarchy, eta: Tensor, fixed: Tensor, condition: Index) -> Array:
    """Information of one trial about eta, from trials simulated there: (q, q).

    Observed trials would understate it, above all for the non-decision time: different onsets blur the edge.
    """
    of_trial = condition[hierarchy.trials.cell]
    drawn = of_trial[np.linspace(0, len(of_trial) - 1, _SIMULATED_TRIALS).astype(int)]
    each = eta.expand(_SIMULATED_TRIALS, -1).clone().requires_grad_(True)
    theta = _theta(hierarchy, each, fixed[torch.as_tensor(drawn)])
    values = hierarchy.likelihood.draw(theta, seed=0)
    log_p = hierarchy.likelihood.outcome_log_prob(torch.as_tensor(values), theta)
    (score,) = torch.autograd.grad(log_p.sum(), each)
    return (score.T @ score / _SIMULATED_TRIALS).numpy()


def choose_centring(hierarchy: Hierarchy, start: Start) -> dict[str, bool]:
    """Centred (True) or not for every group term, by how much its groups' own trials say about their effects.

    A term is centred where the data determine its effects better than the population does: a plausible population
    variance exceeds the variance of the effect given the trials of a typical (median) group, in which the group's
    other effects are as uncertain as a population of that plausible size.
    """
    choice = {}
    for i, predictor in enumerate(hierarchy.predictors):
        sds = [_plausible_sd(p) for p in hierarchy.predictors]
        for effects in predictor.groups:
            same_factor = [g for g in predictor.groups if g.factor == effects.factor]
            columns = torch.cat([g.matrix for g in same_factor], dim=1)
            prior = np.concatenate([_plausible_sds(g) for g in same_factor]) ** -2.0
            gram, n = _typical_gram(columns, effects, _trials_per_cell(hierarchy.trials))
            precision = gram * _information(i, start.information, sds, n)
            first = sum(g.matrix.shape[1] for g in same_factor[: same_factor.index(effects)])
            own = range(first, first + effects.matrix.shape[1])
            variance = [
                np.linalg.inv(precision + np.diag(np.where(np.arange(len(prior)) == k, 1e-9, prior)))[k, k] for k in own
            ]
            choice[effects.name] = bool(effects.population == "gamma" or np.all(1 / prior[own] > variance))
    return choice


def _information(i: int, information: Array, sds: list[float], n: float) -> float:
    """Information of one of n trials about parameter i, less what the other parameters' uncertainty takes away."""
    others = [j for j in range(len(sds)) if j != i]
    inner = information[np.ix_(others, others)] + np.diag([sds[j] ** -2.0 / n for j in others])
    cross = information[i, others]
    return float(max(information[i, i] - cross @ np.linalg.solve(inner, cross), 1e-9))


def _typical_gram(columns: Tensor, effects: GroupEffects, trials_per_cell: Index) -> tuple[Array, float]:
    """Z'Z over the trials of the median group, (q, q), and their number."""
    products = torch.einsum("c,ci,cj->cij", torch.as_tensor(trials_per_cell).double(), columns, columns)
    gram = torch.zeros(len(effects.levels), *products.shape[1:], dtype=torch.float64)
    by_group = gram.index_add(0, effects.index, products).numpy()
    trials = np.bincount(effects.index.numpy(), trials_per_cell, minlength=len(effects.levels))
    return by_group[np.argsort(by_group.trace(axis1=1, axis2=2))[len(by_group) // 2]], float(np.median(trials))


def _median(prior: TorchDistribution) -> Tensor:
    """Median of a prior; of one without a quantile function, such as Gamma, that of 1 001 draws."""
    try:
        return prior.icdf(torch.tensor(0.5, dtype=torch.float64))
    except NotImplementedError:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return prior.sample((1_001,)).double().median(0).values


def _plausible_sds(effects: GroupEffects) -> Array:
    """Plausible population sd of every column, (k,): half the prior median for intercepts, a fifth for slopes, which
    vary less between groups."""
    medians = [_median(q).expand(t.matrix.shape[1]) for q, t in zip(effects.sigma_priors, effects.terms, strict=True)]
    shares = [0.5 if t.name == "1" else 0.2 for t in effects.terms]
    return torch.cat([share * median for share, median in zip(shares, medians, strict=True)]).numpy()


def _plausible_sd(predictor: Predictor) -> float:
    """How far groups plausibly lie apart on the link's scale; next to nothing where the formula says they do not."""
    return max((float(_plausible_sds(g).max()) for g in predictor.groups), default=1e-3)


def start_values(hierarchy: Hierarchy, start: Start) -> dict[str, Tensor]:
    """A value for every sampled site: intercepts at the pooled fit, t0 below the fastest trial of each cell."""
    values: dict[str, Tensor] = {}
    if not isinstance(hierarchy.lapse, float):
        values["lapse"] = torch.tensor(_LAPSE, dtype=torch.float64)
    shift = hierarchy.likelihood.simulator.symmetries.shift
    position = {name: i for i, name in enumerate(hierarchy.likelihood.simulator.names)}
    for predictor in hierarchy.predictors:
        on_cells = torch.full((hierarchy.trials.n_cells,), float(start.theta[position[predictor.name]]))
        on_cells = on_cells.double()
        if predictor.name == shift:
            on_cells = torch.minimum(on_cells, _BELOW_FASTEST * torch.as_tensor(_fastest(hierarchy.trials)))
        values.update(_predictor_start(predictor, to_link(on_cells, predictor.link)))
    return values


def _predictor_start(predictor: Predictor, eta: Tensor) -> dict[str, Tensor]:
    """Coefficients whose linear predictor nowhere exceeds `eta` (n_cells,): a level, and the groups' own intercepts."""
    values: dict[str, Tensor] = {}
    intercepts = [g for g in predictor.groups if bool((g.matrix == 1).all())]
    by_group = _minimum_by_group(intercepts[0], eta) if intercepts else eta.min().unsqueeze(0)
    level = by_group.mean()
    values.update(_constant_coefficients(predictor, level))
    for g in predictor.groups:
        deviation = torch.zeros(len(g.levels), g.matrix.shape[1], dtype=torch.float64)
        if intercepts and g is intercepts[0]:
            deviation = (by_group - level).unsqueeze(-1)
        sigma = []
        for name, term, prior in zip(g.effect_names, g.terms, g.sigma_priors, strict=True):
            median = _median(prior).expand(() if term.levels is None else (len(term.levels),))
            values[f"{name}_sigma"] = 0.5 * median
            sigma.append(values[f"{name}_sigma"].reshape(-1))
        if g.correlated:
            values[f"{g.name}_cholesky"] = torch.eye(g.matrix.shape[1], dtype=torch.float64)
        values[g.site] = deviation + g.mean(values) if g.centred else deviation / torch.cat(sigma)
    return values


def _constant_coefficients(predictor: Predictor, level: Tensor) -> dict[str, Tensor]:
    """Common coefficients that put every cell at `level`, as nearly as the design can (least squares)."""
    if not predictor.common:
        return {}
    n = predictor.n_cells
    design = torch.cat([c.matrix.expand(n, -1) for c in predictor.common], dim=1)
    solution = torch.linalg.lstsq(design, level.expand(n, 1), driver="gelsd").solution[:, 0]
    pieces = torch.split(solution, [c.matrix.shape[1] for c in predictor.common])
    return {c.name: b[0] if c.levels is None else b for c, b in zip(predictor.common, pieces, strict=True)}


def _minimum_by_group(effects: GroupEffects, eta: Tensor) -> Tensor:
    lowest = torch.full((len(effects.levels),), torch.inf, dtype=torch.float64)
    return lowest.scatter_reduce(0, effects.index, eta, reduce="amin")


def _first_eta(predictor: Predictor, hierarchy: Hierarchy) -> float:
    """Start of the pooled fit: the middle of the typical range; half the fastest trial for the non-decision time."""
    simulator = hierarchy.likelihood.simulator
    parameter = simulator.parameters[simulator.names.index(predictor.name)]
    value = sum(parameter.typical) / 2
    if predictor.name == simulator.symmetries.shift:
        value = float(np.clip(0.5 * hierarchy.trials.values[:, 0].min(), 1e-3, parameter.high))
    return float(to_link(torch.tensor(value, dtype=torch.float64), predictor.link))


def _pool(hierarchy: Hierarchy, condition: Index) -> CellTrials:
    """All trials, in one cell per condition, evenly thinned to the pooled maximum."""
    trials = hierarchy.trials
    kept = slice(None, None, max(1, -(-len(trials.order) // _POOLED_TRIALS)))
    n_conditions = int(condition.max()) + 1
    pooled = trials.values[kept], condition[trials.cell][kept], n_conditions
    if isinstance(trials, SortedTrials):
        return hierarchy.likelihood.arrange(*pooled, trials.lapse_seconds)
    return hierarchy.likelihood.arrange(*pooled)


def _trials_per_cell(trials: CellTrials) -> Index:
    return np.bincount(trials.cell, minlength=trials.n_cells)


def _fastest(trials: CellTrials) -> Array:
    """Fastest response time of every cell, (n_cells,)."""
    per_cell = _trials_per_cell(trials)
    return np.minimum.reduceat(trials.values[:, 0], np.cumsum(per_cell) - per_cell)
