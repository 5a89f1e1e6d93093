"""Distribution functions of a likelihood of rt and response: its density integrated over log decision time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hddm_sbi.likelihoods.cells import outcome_rows
from hddm_sbi.likelihoods.likelihood import Likelihood, shift_of

#: log decision times (seconds) outside which no distribution function looks.
Y_RANGE = (-46.0, 30.0)
#: rows that are integrated at a time, so that memory does not grow with them.
_ROWS = 256
#: nodes of the quadrature of one row: before its bulk, in either half of it, and after it.
_PANELS = (100, 700, 700, 100)
_N = sum(_PANELS)
#: the nearest node to where survival begins, exp of this on the way to the end: next to nothing is left before it.
_NEAREST = -36.0
#: intervals of that way.
_FAR = 8
#: nodes of each of two looks for where the density lies.
_LOOKS = (305, 64)
#: nats below the largest density under which nothing counts, and under which little is left outside the bulk.
_NOTHING, _LITTLE = 60.0, 16.0

# The limits of the integrals are times of responses, which have no derivatives, or lie where the density is next to
# nothing. A shift moves decision times between them: its derivative is the density at the first less that at the last.


class _Bulk(NamedTuple):
    """Where a density over log decision time lies, (n,) each: nothing outside low and high, little outside first and
    last, little behind late."""

    low: Tensor
    first: Tensor
    late: Tensor
    last: Tensor
    high: Tensor


def _nodes(start: Tensor, bulk: _Bulk) -> tuple[Tensor, Tensor]:
    """Nodes from start (n,) to the end of a density, most of them in its bulk, and weights: (n, nodes) each."""
    first, last, high = (torch.maximum(start, end) for end in (bulk.first, bulk.last, bulk.high))
    edges = [start, first, 0.5 * (first + last), last, high]
    y, weights = [], []
    for low, high, n in zip(edges[:-1], edges[1:], _PANELS, strict=True):
        half, (nodes, shares) = 0.5 * (high - low).unsqueeze(-1), _legendre(n)
        y.append(low.unsqueeze(-1) + half * (1.0 + nodes))
        weights.append(half * shares)
    return torch.cat(y, -1), torch.cat(weights, -1)


@cache
def _legendre(n: int) -> tuple[Tensor, Tensor]:
    """n nodes on [-1, 1] and weights of Gauss-Legendre quadrature; many take part of a second to compute."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return torch.from_numpy(nodes), torch.from_numpy(weights)


def log_mass(likelihood: Likelihood, choices: Sequence[Tensor], low: Tensor, high: Tensor, theta: Tensor) -> Tensor:
    """log P(one of these choices, low < RT <= high) per row: choices, low, high (n,), seconds, theta (n, p) -> (n,).

    By Gauss-Legendre; high may be inf.
    """
    columns = (column.split(_ROWS) for column in (low, high, theta, *choices))
    return torch.cat([_log_mass(likelihood, *part) for part in zip(*columns, strict=True)])


def _log_mass(likelihood: Likelihood, low: Tensor, high: Tensor, theta: Tensor, *each: Tensor) -> Tensor:
    shift = shift_of(likelihood.simulator, theta.detach())
    first, last = (low - shift).clamp(min=0.0), torch.minimum(high - shift, _longest(likelihood, theta))
    inside = first < last
    # The untaken branch must stay finite, or its gradient would be nan.
    end = torch.log(torch.where(inside, last, 1.0))
    bulk = _bulk(likelihood, each, theta, end)
    start = torch.maximum(torch.log(torch.where(inside, first, 0.5)), bulk.low)
    y, weights = _nodes(start, bulk)
    near = y, torch.log(weights)
    far = _far_nodes(start, torch.minimum(end, start.clamp(min=0.0) + Y_RANGE[1]) - start)
    y, log_weight = (torch.where((start < bulk.late).unsqueeze(-1), *both) for both in zip(near, far, strict=True))
    parts = [_log_density(likelihood, y, choice, theta) + log_weight for choice in each]
    possible = torch.stack([part.detach().amax(-1) > -torch.inf for part in parts]).any(0) & inside
    together = torch.where(possible[:, None], torch.cat(parts, -1), 0.0)
    mass = torch.where(possible, torch.logsumexp(together, -1).clamp(max=0.0), -torch.inf)
    return mass + _moved(likelihood, each, mass.detach(), first, high - shift, theta)


def _moved(
    likelihood: Likelihood, choices: Sequence[Tensor], mass: Tensor, first: Tensor, last: Tensor, theta: Tensor
) -> Tensor:
    """0, with the derivative by the shift of log masses of decision times after first and up to last; all (n,)."""
    if not theta.requires_grad:
        return torch.zeros_like(mass)
    rate = torch.zeros_like(mass)
    for sign, t in ((1.0, first), (-1.0, last)):
        inside = (t > 0.0) & (t < torch.inf) & (mass > -torch.inf)
        y = torch.log(torch.where(inside, t, 1.0))
        log_f = torch.stack([_log_density(likelihood, y[:, None], c, theta.detach())[:, 0] for c in choices])
        rate = rate + sign * torch.where(inside, torch.exp(torch.logsumexp(log_f, 0) - y - mass), 0.0)
    shift = shift_of(likelihood.simulator, theta)
    return rate * (shift - shift.detach())


def _far_nodes(start: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and log weights (n, nodes) on the way from a start that little survives.

    The density falls like exp(-rate rt): in log time, within 1 / (rate rt). With y = start + w log(1 + exp u) and
    Gauss-Legendre in u, on intervals of one length, nodes crowd towards the start at every scale.
    """
    w = way.clamp(max=1.0).unsqueeze(-1)
    length = (torch.log(torch.expm1(way.unsqueeze(-1) / w)) - _NEAREST) / _FAR
    nodes, shares = _legendre(_N // _FAR)
    u = _NEAREST + length.unsqueeze(-1) * (torch.arange(_FAR).unsqueeze(-1) + 0.5 * (1.0 + nodes))
    log_weight = torch.log(0.5 * length.unsqueeze(-1) * shares).expand_as(u)
    y = start.unsqueeze(-1) + w * torch.nn.functional.softplus(u.flatten(1))
    return y, torch.nn.functional.logsigmoid(u.flatten(1)) + torch.log(w) + log_weight.flatten(1)


@torch.no_grad()
def _bulk(likelihood: Likelihood, choices: Sequence[Tensor], theta: Tensor, end: Tensor) -> _Bulk:
    """Where the density of any of these choices (n,) lies up to an end (n,), by two looks: it may be narrow as 1e-4."""
    low, high = torch.full_like(end, Y_RANGE[0]), end.clamp(max=Y_RANGE[1])
    early, late, later = low, high, high
    for n in _LOOKS:
        step = (high - low) / (n - 1)
        y = low.unsqueeze(-1) + step.unsqueeze(-1) * torch.arange(n, dtype=theta.dtype)
        log_p = torch.stack([_log_density(likelihood, y, choice, theta) for choice in choices]).amax(0)
        most = log_p.amax(-1, keepdim=True)
        # Where no node sees a density, it may be anywhere.
        below = torch.where(most > -torch.inf, most - log_p, 0.0)
        (first, last), (early, late) = (_ends(y, below < nats) for nats in (_NOTHING, _LITTLE))
        # One node further: the density may begin anywhere before the first node that sees it.
        early, later = torch.maximum(early - step, low), torch.minimum(late + step, high)
        low, high = torch.maximum(first - step, low), torch.minimum(last + step, high)
    return _Bulk(low, early, late, later, high)


def _ends(y: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest y of some columns of every row, (n,) each."""
    return -torch.where(which, -y, -torch.inf).amax(-1), torch.where(which, y, -torch.inf).amax(-1)


def _log_density(likelihood: Likelihood, y: Tensor, choice: Tensor, theta: Tensor) -> Tensor:
    """Log density of log decision times y (n, nodes), with one choice and one theta a row."""
    row = torch.arange(len(theta)).repeat_interleave(y.shape[1])
    outcomes = outcome_rows(torch.exp(y).reshape(-1), choice[row])
    return likelihood.log_prob_at(outcomes, _without_shift(likelihood, theta), row).reshape(y.shape) + y


def _without_shift(likelihood: Likelihood, theta: Tensor) -> Tensor:
    """theta of the decision times: a shift of 0. Added to a short time, a shift would round it."""
    shift, names = likelihood.simulator.symmetries.shift, likelihood.simulator.names
    if shift is None:
        return theta
    return torch.where(torch.arange(theta.shape[1]) == names.index(shift), 0.0, theta)


def _longest(likelihood: Likelihood, theta: Tensor) -> Tensor:
    """The longest decision time of every row of theta, (n,): inf where the bounds never meet."""
    simulator, columns = likelihood.simulator, theta.detach().unbind(-1)
    if simulator.clock.closing is None:
        return torch.full_like(columns[0], torch.inf)
    return torch.as_tensor(1.0 / simulator.clock.closing(dict(zip(simulator.names, columns, strict=True))))
