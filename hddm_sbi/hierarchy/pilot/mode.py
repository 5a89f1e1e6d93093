"""The mode of the likelihood times normal priors of the pilot fit, searched in coordinates of unit precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor
from torch.distributions import biject_to

from hddm_sbi.hierarchy.pilot.blocks import Block
from hddm_sbi.hierarchy.pyro_model import LAPSES, Hierarchy
from hddm_sbi.types import Array

#: evaluations of the likelihood in one search.
_EVALUATIONS = 12
#: where the share of lapses is searched, on the scale on which it is sampled: from .0003 to .88.
_LOGITS = (-8.0, 2.0)


def find_mode(
    hierarchy: Hierarchy, blocks: Sequence[Block], at: Sequence[Array], only: int | None = None
) -> list[Array]:
    """Where likelihood times priors is largest, (levels, K) of every block, searched from `at`, or in one only."""
    free = range(len(blocks)) if only is None else [only]
    maps = [np.linalg.cholesky(blocks[i].covariance) for i in free]
    first = [np.linalg.solve(m, at[i][:, :, None])[:, :, 0] for m, i in zip(maps, free, strict=True)]
    ends = np.cumsum([y.size for y in first])[:-1]
    factors = [torch.from_numpy(m) for m in maps]

    def unwhitened(flat: Tensor) -> list[Tensor]:
        pieces, x = torch.tensor_split(flat, ends.tolist()), [torch.from_numpy(a) for a in at]
        for i, m, y in zip(free, factors, pieces, strict=True):
            x[i] = (m @ y.reshape(len(m), -1, 1))[:, :, 0]
        return x

    def loss(flat: Array) -> tuple[float, Array]:
        y = torch.tensor(flat, requires_grad=True)
        x = unwhitened(y)
        total = -log_likelihood(hierarchy, blocks, x).sum()
        for i in free:
            total = total - log_prior(blocks[i], x[i]).sum()
        (gradient,) = torch.autograd.grad(total, y)
        return float(total.detach()), gradient.numpy()

    start = np.concatenate([y.ravel() for y in first])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxfun": _EVALUATIONS})
    flat = found.x if np.isfinite(found.fun) else start
    return [x.numpy() for x in unwhitened(torch.from_numpy(flat))]


def values_of(blocks: Sequence[Block], x: Sequence[Tensor]) -> dict[str, Tensor]:
    """Coefficients and effects by their posterior names, from (levels, K) of every block, the coefficients' first."""
    values = blocks[0].values(x[0][0])
    for block, effects in zip(blocks[1:], x[1:], strict=True):
        values |= block.values(effects)
    return values


def log_likelihood(hierarchy: Hierarchy, blocks: Sequence[Block], x: Sequence[Tensor]) -> Tensor:
    """Log likelihood of the trials of every cell, with the hierarchy's share of lapses, a number or by a formula."""
    values, none = values_of(blocks, x), hierarchy.trials.lapses is None
    lapse = torch.zeros((), dtype=torch.float64) if none else hierarchy.share(values)
    return hierarchy.likelihood.log_prob_by_cell(hierarchy.trials, hierarchy.theta(values), lapse)


def log_posterior(hierarchy: Hierarchy, blocks: Sequence[Block], at: Sequence[Array]) -> float:
    """Likelihood times normal priors at (levels, K) of every block, its logarithm up to a constant."""
    x = [torch.from_numpy(a) for a in at]
    with torch.no_grad():
        priors = sum(float(log_prior(block, part).sum()) for block, part in zip(blocks, x, strict=True))
        return priors + float(log_likelihood(hierarchy, blocks, x).sum())


def find_lapse(hierarchy: Hierarchy, blocks: Sequence[Block], at: Sequence[Array]) -> tuple[float, float]:
    """The share of lapses, estimated, at its mode on the scale on which it is sampled; and the log posterior there."""
    prior = hierarchy.lapse_prior[LAPSES]
    x, onto = [torch.from_numpy(a) for a in at], biject_to(prior.support)

    def height(y: float) -> float:
        site = torch.tensor(y, dtype=torch.float64)
        lapse = onto(site)
        total = log_likelihood(replace(hierarchy, lapse=float(lapse)), blocks, x).sum()
        return float(total + prior.log_prob(lapse) + onto.log_abs_det_jacobian(site, lapse))

    found = minimize_scalar(lambda y: -height(y), bounds=_LOGITS, method="bounded", options={"xatol": 0.1})
    priors = sum(float(log_prior(block, part).sum()) for block, part in zip(blocks, x, strict=True))
    return float(onto(torch.tensor(found.x, dtype=torch.float64))), priors - float(found.fun)


def log_prior(block: Block, x: Tensor) -> Tensor:
    """Log density of x (levels, K) in the normal prior, up to a constant, (levels,)."""
    return -0.5 * (((x - torch.from_numpy(block.mean)) / torch.from_numpy(block.sd)) ** 2).sum(-1)
