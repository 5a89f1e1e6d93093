"""What a model predicts at rows of theta: choice probabilities, means and quantiles of rt, by one integral each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hddm_sbi.likelihoods.cells import outcome_rows
from hddm_sbi.likelihoods.likelihood import Likelihood, shift_of
from hddm_sbi.types import Array, Index

# With y = log(rt - t0) and f_c(y) = p(t0 + e^y, c) e^y, the density of response c over y, sums over equal steps h are
#   P(c) = h sum f_c,   E[rt, c] = h sum (t0 + e^y) f_c,
# and spectrally accurate, as f vanishes at both ends. A quantile lies where the integral of f, linear between nodes,
# reaches its share.

#: quantiles of rt that the field plots.
PROBABILITIES = (0.1, 0.3, 0.5, 0.7, 0.9)
#: log decision times (seconds) in which the density is looked for, and by how many nodes.
_LOOK, _N_LOOK = (-24.0, 11.0), 101
#: nodes between where the density begins and ends.
_NODES = 192
#: nats below the largest density under which nothing counts.
_NOTHING = 30.0
#: by how much the probabilities of all responses may differ from 1: more, and the law is not known there.
_MOST_LOST = 0.01
#: densities that are computed at a time.
_AT_A_TIME = 2**17


@dataclass(frozen=True)
class DecisionLaw:
    """Of rt and response at n rows of theta: nan in rows at which the density is none.

    probability: of every choice, (n, n_choices). mean: of rt in seconds, given every choice and then given any,
    (n, n_choices + 1). quantile: likewise, (n, n_choices + 1, n_probabilities).
    """

    probability: Array
    mean: Array
    quantile: Array


def decision_law(likelihood: Likelihood, theta: Array, probabilities: Sequence[float]) -> DecisionLaw:
    """The law of complete trials, no lapses, at every row of theta (n, p), a block of rows at a time."""
    n_choices = len(likelihood.simulator.choices)
    size = max(1, _AT_A_TIME // (_NODES * n_choices))
    blocks = [
        _law(likelihood, torch.as_tensor(theta[start : start + size]), np.asarray(probabilities, dtype=np.float64))
        for start in range(0, len(theta), size)
    ]
    parts = zip(*((b.probability, b.mean, b.quantile) for b in blocks), strict=True)
    return DecisionLaw(*(np.concatenate(part) for part in parts))


def _law(likelihood: Likelihood, theta: Tensor, probabilities: Array) -> DecisionLaw:
    with torch.no_grad():
        low, high = _where(likelihood, theta)
        step = (high - low) / (_NODES - 1)
        y = low[:, None] + step[:, None] * torch.arange(_NODES, dtype=torch.float64)
        f = torch.exp(_log_density(likelihood, theta, y)).numpy()
    rt, h = (shift_of(likelihood.simulator, theta)[:, None] + torch.exp(y)).numpy(), step.numpy()
    f = np.concatenate([f, f.sum(1, keepdims=True)], 1)
    mass = h[:, None] * f.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = h[:, None] * (rt[:, None] * f).sum(-1) / mass
    quantile = np.stack([_quantiles(f[:, c], y.numpy(), rt, probabilities) for c in range(f.shape[1])], 1)
    unknown = ~(np.abs(mass[:, -1] - 1.0) <= _MOST_LOST)
    for array in (mass, mean, quantile):
        array[unknown] = np.nan
    return DecisionLaw(mass[:, :-1] / mass[:, -1:], mean, quantile)


def _where(likelihood: Likelihood, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Ends of the log decision times at which there is any density, (n,) each."""
    y = torch.linspace(*_LOOK, _N_LOOK, dtype=torch.float64).expand(len(theta), -1)
    log_f = torch.logsumexp(_log_density(likelihood, theta, y), 1)
    some = log_f > log_f.max(1, keepdim=True).values - _NOTHING
    first = some.int().argmax(1) - 1
    last = _N_LOOK - some.flip(1).int().argmax(1)
    return y[0][first.clamp(min=0)], y[0][last.clamp(max=_N_LOOK - 1)]


def _log_density(likelihood: Likelihood, theta: Tensor, y: Tensor) -> Tensor:
    """log f of every choice, (n, n_choices, nodes)."""
    n, n_choices = len(theta), len(likelihood.simulator.choices)
    shift = shift_of(likelihood.simulator, theta)
    times = (shift[:, None] + torch.exp(y))[:, None].expand(-1, n_choices, -1)
    choice = torch.arange(n_choices, dtype=torch.float64)[None, :, None].expand_as(times)
    row = torch.arange(n)[:, None, None].expand_as(times)
    values = outcome_rows(times.reshape(-1), choice.reshape(-1))
    log_p = likelihood.log_prob_at(values, theta, row.reshape(-1)).reshape(times.shape)
    return torch.nan_to_num(log_p, nan=-torch.inf) + y[:, None]


def _quantiles(f: Array, y: Array, rt: Array, probabilities: Array) -> Array:
    """Times below which the shares `probabilities` of a density over y lie, (n, n_probabilities)."""
    h, shift = y[:, 1:2] - y[:, :1], rt[:, :1] - np.exp(y[:, :1])
    below = np.concatenate([np.zeros_like(h), np.cumsum(0.5 * h * (f[:, 1:] + f[:, :-1]), 1)], 1)
    rows = np.arange(len(f))
    found = np.empty((len(f), len(probabilities)))
    for k, probability in enumerate(probabilities):
        target = probability * below[:, -1]
        at: Index = np.minimum((below <= target[:, None]).sum(1), f.shape[1] - 1) - 1
        first, last, rest = f[rows, at], f[rows, at + 1], target - below[rows, at]
        # rest = h (first s + (last - first) s^2 / 2), for the share s of the step
        root = np.sqrt(np.maximum(first**2 + 2.0 * (last - first) * rest / h[:, 0], 0.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            share = 2.0 * rest / (h[:, 0] * (first + root))
        found[:, k] = shift[:, 0] + np.exp(y[rows, at] + h[:, 0] * share)
    return found
