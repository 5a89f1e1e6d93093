"""One theta for all trials: a pooled maximum-likelihood fit, and what a trial says about each parameter there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from hddm_sbi.hierarchy.pyro_model import LAPSE, LAPSES, CellTrials, Hierarchy, Observation, with_lapses
from hddm_sbi.hierarchy.terms.link import onto_box, to_link
from hddm_sbi.hierarchy.terms.predictor import Predictor
from hddm_sbi.types import Array, Index

#: at most this many trials enter the pooled fit.
_POOLED_TRIALS = 20_000
#: sd, on the scale of the links, of the normal prior of the pooled theta around where its search starts.
_TYPICAL_SD = 2.0
#: simulated trials behind the information of one trial.
_SIMULATED_TRIALS = 5_000


@dataclass(frozen=True)
class PooledFit:
    """A pooled fit: one theta for all trials, as if there were no design.

    theta: (p,). lapse: probability of one. information: (q, q) expected information of one trial about the q estimated
    numbers, on the scale of their links.
    """

    theta: Array
    lapse: float
    information: Array


def pooled_fit(hierarchy: Hierarchy) -> PooledFit:
    """The best theta for all trials (at most 20 000 of them, evenly spaced), lapses included, near typical ones."""
    fixed, condition = _conditions(hierarchy)
    trials = _pool(hierarchy, condition)
    n = len(trials.order)

    def loss(x: Array) -> tuple[float, Array]:
        eta = torch.tensor(x, requires_grad=True)
        theta = _theta(hierarchy, eta.expand(len(fixed), -1), fixed)
        total = -hierarchy.likelihood.log_prob_by_cell(trials, theta, _share(hierarchy, eta)).sum() / n
        # Blurred by different onsets, trials may say nothing of a number: without this, A of lba goes to 0.
        total = total + 0.5 * (((eta - middle) / _TYPICAL_SD) ** 2).sum() / n
        (gradient,) = torch.autograd.grad(total, eta)
        return float(total.detach()), gradient.numpy()

    first = np.array([_first_eta(names[0], p, hierarchy) for names, p in hierarchy.estimated])
    middle = torch.tensor(first)
    found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=[(e - 5.0, e + 5.0) for e in first])
    eta = torch.tensor(found.x)
    information = _expected_information(hierarchy, eta, fixed, condition)
    return PooledFit(_theta(hierarchy, eta, fixed[0]).numpy(), float(_share(hierarchy, eta)), information)


def _conditions(hierarchy: Hierarchy) -> tuple[Tensor, Index]:
    """What is held fixed: its distinct rows (k, p), 0 for estimated parameters, and which of them each cell has."""
    names, n = hierarchy.likelihood.simulator.names, hierarchy.n_cells
    columns = [torch.as_tensor(hierarchy.fixed.get(name, 0.0), dtype=torch.float64).expand(n) for name in names]
    rows, condition = torch.unique(torch.stack(columns, -1), dim=0, return_inverse=True)
    return rows, condition.numpy()


def _theta(hierarchy: Hierarchy, eta: Tensor, fixed: Tensor) -> Tensor:
    """Parameters (..., p) from those of the estimated ones on the scale of their links (..., q), and the fixed ones."""
    estimated: dict[str, Tensor] = {}
    for i, (together, p) in enumerate(hierarchy.estimated):
        estimated |= dict.fromkeys(together, onto_box(eta[..., i], p.link, p.low, p.high))
    names = hierarchy.likelihood.simulator.names
    return torch.stack([estimated.get(name, fixed[..., j]) for j, name in enumerate(names)], -1)


def _share(hierarchy: Hierarchy, eta: Tensor, assumed: float = LAPSE) -> Tensor:
    """Probability of a lapse, (...), from eta (..., q), where a formula says it; else what is assumed."""
    if hierarchy.lapse is not None:
        return torch.tensor(assumed if hierarchy.trials.lapses is not None else 0.0, dtype=torch.float64)
    position, p = next((i, p) for i, (_, p) in enumerate(hierarchy.estimated) if p.name == LAPSES)
    return onto_box(eta[..., position], p.link, p.low, p.high)


def _expected_information(hierarchy: Hierarchy, eta: Tensor, fixed: Tensor, condition: Index) -> Array:
    """Information of one trial about eta, from trials simulated there: (q, q). Lapses are among them where a formula
    says how many.

    Observed trials would understate it, above all for the non-decision time: different onsets blur the edge.
    """
    incomplete = hierarchy.trials.incomplete
    cell = hierarchy.trials.cell if incomplete is None else incomplete.cell
    of_trial = condition[hierarchy.parameter_map.cell(hierarchy.trials)][cell]
    drawn = np.linspace(0, len(of_trial) - 1, _SIMULATED_TRIALS).astype(int)
    each = eta.expand(_SIMULATED_TRIALS, -1).clone().requires_grad_(True)
    theta = _theta(hierarchy, each, fixed[torch.as_tensor(of_trial[drawn])])
    values, law = hierarchy.likelihood.simulate(theta, seed=0), hierarchy.trials.lapses
    lapse, density = _share(hierarchy, each, assumed=0.0).expand(_SIMULATED_TRIALS), torch.zeros(())
    if law is not None:
        rng = np.random.default_rng(0)
        some = rng.random(_SIMULATED_TRIALS) < lapse.detach().numpy()
        values[some] = np.column_stack(law.sample(int(some.sum()), rng))
        density = torch.from_numpy(law.density(values[:, 0], values[:, 1].astype(np.int64)))
    if incomplete is None:
        log_p = with_lapses(hierarchy.likelihood.log_prob_rows(torch.as_tensor(values), theta), lapse, density)
    else:
        log_p = _log_prob_as_seen(hierarchy, values, theta, lapse, incomplete.observation.of(drawn))
    (score,) = torch.autograd.grad(log_p.sum(), each)
    return (score.T @ score / _SIMULATED_TRIALS).numpy()


def _log_prob_as_seen(
    hierarchy: Hierarchy, values: Array, theta: Tensor, lapse: Tensor, observation: Observation
) -> Tensor:
    """Log probability of simulated outcomes (n, 2), as they would be seen, of those that would not be removed."""
    kept = np.flatnonzero(~observation.removed(values))
    there, likelihood = observation.of(kept), hierarchy.likelihood
    seen, row, at = there.seen(values[kept]), np.arange(len(kept)), torch.as_tensor(kept)
    trials = likelihood.group_by_cell(seen, row, len(kept), observation=there).with_lapses(hierarchy.trials.lapses)
    return likelihood.log_prob_by_cell(trials, theta[at], lapse[at])


def _first_eta(name: str, predictor: Predictor, hierarchy: Hierarchy) -> float:
    """Start of the pooled fit: the middle of the typical range; half the fastest trial for the non-decision time."""
    simulator = hierarchy.likelihood.simulator
    if hierarchy.lapse is None and name == LAPSES:
        return float(to_link(torch.tensor(LAPSE, dtype=torch.float64), predictor.link))
    parameter = simulator.parameters[simulator.names.index(name)]
    value = sum(parameter.typical) / 2
    if name == simulator.symmetries.shift:
        value = float(np.clip(0.5 * hierarchy.trials.values[:, 0].min(), 1e-3, parameter.high))
    return float(to_link(torch.tensor(value, dtype=torch.float64), predictor.link))


def _pool(hierarchy: Hierarchy, condition: Index) -> CellTrials:
    """All trials, in one cell per condition, evenly thinned to the pooled maximum."""
    trials = hierarchy.trials
    step = max(1, -(-len(trials.order) // _POOLED_TRIALS))
    values, of_trial = trials.values[::step], condition[hierarchy.cell][::step]
    pool = hierarchy.likelihood.group_by_cell(values, of_trial, int(condition.max()) + 1).with_lapses(trials.lapses)
    if trials.incomplete is None:
        return pool
    return replace(pool, incomplete=trials.incomplete.pooled(condition[hierarchy.parameter_map.cell(trials)], step))
