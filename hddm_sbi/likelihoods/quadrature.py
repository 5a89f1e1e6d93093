"""Distribution functions of a likelihood of rt and response: its density integrated over log decision time."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from hddm_sbi.likelihoods.cells import outcome_rows
from hddm_sbi.likelihoods.likelihood import Likelihood, shift_of

#: log decision times (seconds) outside which no distribution function looks.
Y_RANGE = (-14.0, 30.0)
#: rows that are integrated at a time, so that memory does not grow with them.
_ROWS = 256
#: nodes of the quadrature of one row.
_N = 1000
#: the nearest node to where survival begins, exp of this on the way to the end: next to nothing is left before it.
_NEAREST = -36.0

# The limits of the integrals are treated as constants. Their derivative terms vanish because rt is one, and the density
# is 0 at the others (t0 and the closing time).


def cdf(likelihood: Likelihood, values: Tensor, theta: Tensor) -> Tensor:
    """P(response, RT <= rt) per row of values (n, 2), theta (n, p) -> (n,); rt may be inf. By Gauss-Legendre."""
    parts = zip(values.split(_ROWS), theta.split(_ROWS), strict=True)
    return torch.cat([_cdf(likelihood, some, at) for some, at in parts])


def _cdf(likelihood: Likelihood, values: Tensor, theta: Tensor) -> Tensor:
    rt, choice = values.unbind(-1)
    decision = torch.minimum(rt - shift_of(likelihood.simulator, theta.detach()), _longest(likelihood, theta))
    low = torch.full_like(rt, Y_RANGE[0])
    half = 0.5 * (torch.log(decision.clamp(min=np.exp(Y_RANGE[0]), max=np.exp(Y_RANGE[1]))) - low)
    nodes, weights = _legendre()
    y = low.unsqueeze(-1) + half.unsqueeze(-1) * (1.0 + nodes)
    return half * (torch.exp(_log_density(likelihood, y, choice, theta)) * weights).sum(-1)


@cache
def _legendre() -> tuple[Tensor, Tensor]:
    """Nodes on [-1, 1] and weights of Gauss-Legendre quadrature; they take a second to compute."""
    nodes, weights = np.polynomial.legendre.leggauss(_N)
    return torch.from_numpy(nodes), torch.from_numpy(weights)


def log_survival(likelihood: Likelihood, rt: Tensor, theta: Tensor) -> Tensor:
    """log P(RT > rt) per row: rt (n,), theta (n, p) -> (n,).

    Far out the density falls like exp(-rate rt): in log time, within 1 / (rate rt). With y = start + w log(1 + exp u)
    and the trapezoid rule in u, nodes crowd towards the start at every scale.
    """
    parts = zip(rt.split(_ROWS), theta.split(_ROWS), strict=True)
    return torch.cat([_log_survival(likelihood, some, at) for some, at in parts])


def _log_survival(likelihood: Likelihood, rt: Tensor, theta: Tensor) -> Tensor:
    decision, longest = rt - shift_of(likelihood.simulator, theta.detach()), _longest(likelihood, theta)
    inside = (decision > 0) & (decision < longest)
    # The untaken branch must stay finite, or its gradient would be nan.
    start = torch.log(torch.where(inside, decision, np.exp(Y_RANGE[0])))
    way = torch.minimum(torch.log(longest), start.clamp(min=0.0) + Y_RANGE[1]) - start
    w = way.clamp(max=1.0)
    last = torch.log(torch.expm1(way / w))
    step = ((last - _NEAREST) / (_N - 1)).unsqueeze(-1)
    u = _NEAREST + step * torch.arange(_N)
    y = start.unsqueeze(-1) + w.unsqueeze(-1) * torch.nn.functional.softplus(u)
    log_weight = torch.nn.functional.logsigmoid(u) + torch.log(w.unsqueeze(-1) * step)
    choices = range(len(likelihood.simulator.choices))
    parts = [_log_density(likelihood, y, torch.full_like(rt, c), theta) + log_weight for c in choices]
    log_s = torch.logsumexp(torch.cat(parts, -1), -1)
    return torch.where(inside, log_s, torch.where(decision > 0, -torch.inf, 0.0))


def _log_density(likelihood: Likelihood, y: Tensor, choice: Tensor, theta: Tensor) -> Tensor:
    """Log density of log decision times y (n, nodes), with one choice and one theta a row."""
    at = (shift_of(likelihood.simulator, theta.detach()).unsqueeze(-1) + torch.exp(y)).reshape(-1)
    row = torch.arange(len(theta)).repeat_interleave(y.shape[1])
    return likelihood.log_prob_at(outcome_rows(at, choice[row]), theta, row).reshape(y.shape) + y


def _longest(likelihood: Likelihood, theta: Tensor) -> Tensor:
    """The longest decision time of every row of theta, (n,): inf where the bounds never meet."""
    simulator, columns = likelihood.simulator, theta.detach().unbind(-1)
    if simulator.clock.closing is None:
        return torch.full_like(columns[0], torch.inf)
    return torch.as_tensor(1.0 / simulator.clock.closing(dict(zip(simulator.names, columns, strict=True))))
