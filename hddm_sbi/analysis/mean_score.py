"""The mean score of a likelihood over tables of its simulator: 0 where it is the law of that simulator.

With y simulated at theta, E[grad log p(y | theta)] = 0. A learned q that is not p has E[grad log q(y | theta)] = g, and
moves the means of posteriors from such tables, to first order, by Cov(x, theta) g.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hddm_sbi.analysis.fit import Fit
from hddm_sbi.analysis.predictive import simulate_table
from hddm_sbi.errors import InputError
from hddm_sbi.types import Array, Index


@dataclass(frozen=True)
class ScoreShifts:
    """What scores of simulated tables say of quantities x.

    by_table: (n_tables, q), how far each moves their means, in the unit of x; the error of a likelihood is the mean of
    all. log_ratio: (n,), of the simulator's law to the likelihood at the draws, but for a constant, to first order.
    """

    by_table: Array
    log_ratio: Array


def score_shifts(fit: Fit, x: Array, positions: Index, n_tables: int, seed: int) -> ScoreShifts:
    """From quantities x (n, q) at draws (n,), and tables simulated at other draws, evenly spaced."""
    on_cells, lapse = fit.parameters(positions)
    phi = np.column_stack([on_cells.reshape(len(on_cells), -1), lapse])
    centred = phi - phi.mean(0)
    covariance = (x - x.mean(0)).T @ centred / len(x)
    moved, total = np.empty((n_tables, x.shape[1])), np.zeros(phi.shape[1])
    spaced = np.linspace(0, fit.n_draws - 1, n_tables).astype(int)
    for some in np.array_split(np.arange(n_tables), max(1, n_tables // 100)):
        for i, at, lapse in zip(some, *fit.parameters(spaced[some]), strict=True):
            score = _score(fit, at, lapse, [seed, int(i)])
            moved[i], total = covariance @ score, total + score
    return ScoreShifts(moved, -centred @ total / n_tables)


def _score(fit: Fit, on_cells: Array, lapse: Array, seed: list[int]) -> Array:
    """Gradient of the log likelihood of a table simulated at these numbers, by them, (n_cells * q + n_rows,)."""
    outcomes, paid = simulate_table(fit.model, on_cells, lapse, seed, by_simulator=True)
    own = fit.model.with_outcomes(outcomes, paid).uncentred
    at, share = torch.tensor(on_cells, requires_grad=True), torch.tensor(lapse)
    # A share that is held, at 0 for instance, moves nothing.
    share.requires_grad_(bool(own.lapse is None or own.lapse_prior))
    theta = own.parameter_map.rows(at, own.trials)
    own.likelihood.log_prob_by_cell(own.trials, theta, share).sum().backward()
    by_share = torch.zeros_like(share) if share.grad is None else share.grad
    assert at.grad is not None
    score = np.concatenate([at.grad.numpy().reshape(-1), by_share.numpy()])
    if not np.isfinite(score).all():
        raise InputError(
            "the learned likelihood has no finite slope at some outcomes that its simulator gives at this posterior: "
            "train it there, hs.train_likelihood, or allow lapses."
        )
    return score
