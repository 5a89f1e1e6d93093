"""A quick empirical-Bayes fit before sampling: where groups lie, how far apart, and how well their trials say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from pyro.distributions import TorchDistribution
from scipy.optimize import minimize
from torch import Tensor

from hddm_sbi.hierarchy.link import to_link
from hddm_sbi.hierarchy.pilot.pooled import LAPSE, PooledFit
from hddm_sbi.hierarchy.predictor import GroupEffects, Predictor
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.types import Array

# Given the standard deviations of the population, groups are independent, and the effects u of one, those of all
# parameters together, have a precision near
#   P = sum over its trials of I * z z' + diag(1 / sd²),
# I the information of one trial on the scale of the links (pooled fit), z the trial's row of the design. Then
#   sd² = sum of u² / sum of (1 - V / sd²),  V = diag(P^-1),
# is MacKay's (1992) fixed point for the population: the divisor is the number of groups that the data determine.
# Coefficients and effects are searched in coordinates in which P is the identity.
#
# With B the same precision of the coefficients alone and C that between coefficients and the effects of a group, the
# precision of coefficients whose effects are uncertain is
#   S = B - sum over groups of C P^-1 C'.

#: rounds of effects given sds and sds given effects, and evaluations of the likelihood in each.
_ROUNDS, _EVALUATIONS = 6, 12
#: an sd stays within these multiples of the plausible one.
_SMALLEST, _LARGEST = 0.02, 20.0
#: sd of a coefficient whose prior has none.
_WIDE = 10.0


#: of a design: position of the predictor, and columns (n_cells or 1, k).
_Columns = list[tuple[int, Tensor]]


@dataclass(frozen=True)
class GroupPosterior:
    """The effects of one grouping factor, of all parameters together, on the scale of the links.

    names, widths: of the group terms, and how many columns each has. values: (levels, K). sds: of the population, (K,).
    covariance: of a level's effects given its trials and the population, (levels, K, K).
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]
    values: Array
    sds: Array
    covariance: Array

    def of(self, term: GroupEffects) -> slice:
        """The columns of one term."""
        position = self.names.index(term.name)
        first = sum(self.widths[:position])
        return slice(first, first + self.widths[position])


@dataclass(frozen=True)
class PilotFit:
    """What the fit found: coefficients by name, () or (k,), and the effects of every grouping factor, by its name.

    covariance: of all coefficients, in their order, while the effects are uncertain too, (K, K).
    """

    coefficients: Mapping[str, Tensor]
    covariance: Array
    effects: Mapping[str, GroupPosterior]


@dataclass(frozen=True)
class _Block:
    """Numbers x (levels, K) whose levels are independent: the effects of one grouping factor, or all coefficients.

    parts: of every posterior variable its name, whether it has one column without a label, and how many columns.
    gram: sum over the trials of a level of I * z z', (levels, K, K). mean, sd: of the normal prior, (K,).
    """

    parts: tuple[tuple[str, bool, int], ...]
    gram: Array
    mean: Array
    sd: Array

    @property
    def covariance(self) -> Array:
        """P^-1 of every level."""
        return np.asarray(np.linalg.inv(self.gram + np.diag(self.sd**-2.0)), np.float64)

    def values(self, x: Tensor) -> dict[str, Tensor]:
        """By posterior name, from (..., K)."""
        pieces = torch.split(x, [width for _, _, width in self.parts], dim=-1)
        return {
            name: piece.squeeze(-1) if scalar else piece
            for (name, scalar, _), piece in zip(self.parts, pieces, strict=True)
        }


def pilot_fit(hierarchy: Hierarchy, pooled: PooledFit) -> PilotFit:
    """Coefficients and effects at their mode, and the population's standard deviations, in turn; lapses included."""
    factors: dict[str, list[GroupEffects]] = {}
    for predictor in hierarchy.predictors:
        for term in predictor.groups:
            factors.setdefault(term.factor, []).append(term)
    blocks = [_common(hierarchy, pooled), *(_factor(hierarchy, pooled, terms) for terms in factors.values())]
    at = [_level(hierarchy, pooled), *(np.zeros(b.gram.shape[:2]) for b in blocks[1:])]
    for _ in range(_ROUNDS if factors else 1):
        at = _mode(hierarchy, blocks, at)
        for i, terms in enumerate(factors.values(), start=1):
            _move_means(blocks[0], at[0][0], at[i], terms)
            blocks[i] = replace(blocks[i], sd=_spread(blocks[i], at[i], _plausible(terms)))
    effects = {
        factor: GroupPosterior(
            tuple(g.name for g in terms), tuple(g.matrix.shape[1] for g in terms), x, b.sd, b.covariance
        )
        for (factor, terms), x, b in zip(factors.items(), at[1:], blocks[1:], strict=True)
    }
    covariance = _of_coefficients(hierarchy, pooled, blocks[0], [*zip(factors.values(), blocks[1:], strict=True)])
    return PilotFit(blocks[0].values(torch.from_numpy(at[0][0])), covariance, effects)


def _mode(hierarchy: Hierarchy, blocks: Sequence[_Block], at: Sequence[Array]) -> list[Array]:
    """Where likelihood times normal priors is largest, (levels, K) of every block, searched from `at`."""
    maps = [np.linalg.cholesky(b.covariance) for b in blocks]
    first = [np.linalg.solve(m, x[:, :, None])[:, :, 0] for m, x in zip(maps, at, strict=True)]
    ends = np.cumsum([y.size for y in first])[:-1]
    factors = [torch.from_numpy(m) for m in maps]
    lapse = torch.tensor(LAPSE if hierarchy.trials.lapse_density else 0.0, dtype=torch.float64)

    def unwhitened(flat: Tensor) -> list[Tensor]:
        pieces = torch.tensor_split(flat, ends.tolist())
        return [(m @ y.reshape(len(m), -1, 1))[:, :, 0] for m, y in zip(factors, pieces, strict=True)]

    def loss(flat: Array) -> tuple[float, Array]:
        y = torch.tensor(flat, requires_grad=True)
        x = unwhitened(y)
        values = blocks[0].values(x[0][0])
        for block, effects in zip(blocks[1:], x[1:], strict=True):
            values |= block.values(effects)
        total = -hierarchy.likelihood.log_prob_by_cell(hierarchy.trials, hierarchy.theta(values), lapse).sum()
        for b, effects in zip(blocks, x, strict=True):
            total = total + 0.5 * (((effects - torch.from_numpy(b.mean)) / torch.from_numpy(b.sd)) ** 2).sum()
        (gradient,) = torch.autograd.grad(total, y)
        return float(total.detach()), gradient.numpy()

    start = np.concatenate([y.ravel() for y in first])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxfun": _EVALUATIONS})
    flat = found.x if np.isfinite(found.fun) else start
    return [x.numpy() for x in unwhitened(torch.from_numpy(flat))]


def _spread(block: _Block, x: Array, plausible: Array) -> Array:
    """The population's sds that effects x suggest, (K,)."""
    variance = np.diagonal(block.covariance, axis1=1, axis2=2)
    determined = (1.0 - variance / block.sd**2).sum(0)
    sd = np.sqrt((x**2).sum(0) / np.maximum(determined, 1e-12))
    return np.clip(sd, _SMALLEST * plausible, _LARGEST * plausible)


def _move_means(common: _Block, coefficients: Array, x: Array, terms: Sequence[GroupEffects]) -> None:
    """Take means of effects x into the coefficients that are their means: neither changes the likelihood."""
    names, _, widths = zip(*common.parts, strict=True) if common.parts else ((), (), ())
    first = dict(zip(names, np.cumsum([0, *widths[:-1]]), strict=True))
    sources = [source for term in terms for source in term.mean_of]
    for column, source in enumerate(sources):
        if source is not None:
            mean = x[:, column].mean()
            coefficients[first[source[0].name] + source[1]] += mean
            x[:, column] -= mean


def _of_coefficients(
    hierarchy: Hierarchy, pooled: PooledFit, common: _Block, factors: Sequence[tuple[list[GroupEffects], _Block]]
) -> Array:
    """Covariance of the coefficients, (K, K): given all effects, and what the effects of each factor add to it."""
    given = common.covariance[0]
    total = given.copy()
    for terms, block in factors:
        cross = _gram(hierarchy, pooled, _common_columns(hierarchy), _group_columns(hierarchy, terms), terms[0])
        lost = (cross @ block.covariance @ cross.transpose(0, 2, 1)).sum(0)
        total += np.linalg.inv(np.linalg.inv(given) - lost) - given
    return total


def _common(hierarchy: Hierarchy, pooled: PooledFit) -> _Block:
    """All common coefficients."""
    owned = [c for p in hierarchy.predictors for c in p.common]
    widths = [c.matrix.shape[1] for c in owned]
    moments = [np.broadcast_to(_moments(c.prior), (k, 2)) for c, k in zip(owned, widths, strict=True)]
    mean, sd = np.concatenate([np.empty((0, 2)), *moments]).T
    parts = tuple((c.name, c.levels is None, k) for c, k in zip(owned, widths, strict=True))
    columns = _common_columns(hierarchy)
    return _Block(parts, _gram(hierarchy, pooled, columns, columns), mean, sd)


def _factor(hierarchy: Hierarchy, pooled: PooledFit, groups: Sequence[GroupEffects]) -> _Block:
    """All effects of one grouping factor."""
    columns = _group_columns(hierarchy, groups)
    gram = _gram(hierarchy, pooled, columns, columns, groups[0])
    parts = tuple(
        (name, term.levels is None, term.matrix.shape[1])
        for g in groups
        for name, term in zip(g.effect_names, g.terms, strict=True)
    )
    sd = _plausible(groups)
    return _Block(parts, gram, np.zeros_like(sd), sd)


def _common_columns(hierarchy: Hierarchy) -> _Columns:
    return [(i, c.matrix) for i, p in enumerate(hierarchy.predictors) for c in p.common]


def _group_columns(hierarchy: Hierarchy, groups: Sequence[GroupEffects]) -> _Columns:
    owner = {p.name: i for i, p in enumerate(hierarchy.predictors)}
    return [(owner[g.parameter], g.matrix) for g in groups]


def _gram(
    hierarchy: Hierarchy, pooled: PooledFit, left: _Columns, right: _Columns, by: GroupEffects | None = None
) -> Array:
    """Sum over the trials of every level of `by`, or over all trials, of I * z z', (levels, K left, K right)."""
    n = hierarchy.n_cells
    trials = np.bincount(hierarchy.cell, minlength=n)
    index, levels = (np.zeros(n, np.int64), 1) if by is None else (by.index.numpy(), len(by.levels))
    sides = [[(i, z) for i, m in side for z in m.expand(n, -1).numpy().T] for side in (left, right)]
    gram = np.empty((levels, len(sides[0]), len(sides[1])))
    for (j, (owner, z)), (k, (other, w)) in product(enumerate(sides[0]), enumerate(sides[1])):
        gram[:, j, k] = np.bincount(index, trials * z * w, minlength=levels) * pooled.information[owner, other]
    return gram


def _level(hierarchy: Hierarchy, pooled: PooledFit) -> Array:
    """Coefficients that put every cell at the pooled fit, (1, K)."""
    theta = dict(zip(hierarchy.likelihood.simulator.names, pooled.theta, strict=True))
    levels = [to_link(torch.tensor(theta[p.name]), p.link) for p in hierarchy.predictors]
    found = [constant_coefficients(p, level) for p, level in zip(hierarchy.predictors, levels, strict=True)]
    return np.concatenate([np.empty(0), *(b.reshape(-1).numpy() for part in found for b in part.values())])[np.newaxis]


def constant_coefficients(predictor: Predictor, level: Tensor) -> dict[str, Tensor]:
    """Common coefficients that put every cell at `level`, as nearly as the design can (least squares)."""
    if not predictor.common:
        return {}
    n = predictor.n_cells
    design = torch.cat([c.matrix.expand(n, -1) for c in predictor.common], dim=1)
    solution = torch.linalg.lstsq(design, level.expand(n, 1), driver="gelsd").solution[:, 0]
    pieces = torch.split(solution, [c.matrix.shape[1] for c in predictor.common])
    return {c.name: b[0] if c.levels is None else b for c, b in zip(predictor.common, pieces, strict=True)}


def _moments(prior: TorchDistribution) -> Array:
    """Mean and sd of a prior, (..., 2); wide where they do not exist."""
    mean, sd = (np.asarray(x.expand(prior.batch_shape), float) for x in (prior.mean, prior.variance.sqrt()))
    known = np.isfinite(mean) & np.isfinite(sd)
    return np.stack([np.where(known, mean, 0.0), np.where(known, sd, _WIDE)], -1)


def _median(prior: TorchDistribution) -> Tensor:
    """Median of a prior; of one without a quantile function, such as Gamma, that of 1 001 draws."""
    try:
        return prior.icdf(torch.tensor(0.5, dtype=torch.float64))
    except NotImplementedError:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return prior.sample((1_001,)).double().median(0).values


def _plausible(groups: Sequence[GroupEffects]) -> Array:
    """Plausible sds of the population before the groups are seen, (K,): half the prior median."""
    medians = [
        _median(prior).expand(term.matrix.shape[1]).numpy()
        for g in groups
        for prior, term in zip(g.sigma_priors, g.terms, strict=True)
    ]
    return 0.5 * np.concatenate(medians)
