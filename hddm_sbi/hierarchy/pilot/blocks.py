"""What the pilot fit searches: blocks of coefficients and effects, whose levels are independent, with information."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from hddm_sbi.hierarchy.pilot.pooled import PooledFit
from hddm_sbi.hierarchy.priors.choice import median
from hddm_sbi.hierarchy.pyro_model import LAPSES, Hierarchy
from hddm_sbi.hierarchy.terms.group_effects import GroupEffects
from hddm_sbi.hierarchy.terms.link import to_link
from hddm_sbi.hierarchy.terms.predictor import Predictor
from hddm_sbi.types import Array

#: sd of a coefficient whose prior has none.
_WIDE = 10.0
#: of a design: by what every column (K) moves the estimated numbers that it moves, by their positions, on the cells.
Columns = list[dict[int, Array]]


@dataclass(frozen=True)
class Block:
    """Numbers x (levels, K) whose levels are independent: the effects of one grouping factor, or all coefficients.

    parts: of every posterior variable its name, whether it has one column without a label, and how many columns.
    gram: sum over the trials of a level of I * z z', (levels, K, K). mean, sd: of the normal prior, (K,); sd may differ
    between levels, (levels, K).
    """

    parts: tuple[tuple[str, bool, int], ...]
    gram: Array
    mean: Array
    sd: Array

    @property
    def covariance(self) -> Array:
        """P^-1 of every level."""
        precision = self.sd[..., np.newaxis] ** -2.0 * np.eye(self.gram.shape[-1])
        return np.asarray(np.linalg.inv(self.gram + precision), np.float64)

    def place(self, column: int) -> tuple[str, tuple[int, ...]]:
        """The posterior variable that a column is of, and where in it; () where it has one column without a label."""
        for name, scalar, width in self.parts:
            if column < width:
                return name, () if scalar else (column,)
            column -= width
        raise IndexError(f"the block has no column {column} more")

    def columns(self, name: str) -> slice:
        """The columns of a posterior variable."""
        first = 0
        for own, _, width in self.parts:
            if own == name:
                return slice(first, first + width)
            first += width
        raise KeyError(name)

    def values(self, x: Tensor) -> dict[str, Tensor]:
        """By posterior name, from (..., K)."""
        pieces = torch.split(x, [width for _, _, width in self.parts], dim=-1)
        return {
            name: piece.squeeze(-1) if scalar else piece
            for (name, scalar, _), piece in zip(self.parts, pieces, strict=True)
        }


def common_block(hierarchy: Hierarchy, pooled: PooledFit) -> Block:
    """All common coefficients."""
    owned = [c for p in hierarchy.predictors for c in p.common]
    widths = [c.matrix.shape[1] for c in owned]
    moments = [np.broadcast_to(_moments(c.prior), (k, 2)) for c, k in zip(owned, widths, strict=True)]
    mean, sd = np.concatenate([np.empty((0, 2)), *moments]).T
    parts = tuple((c.name, c.levels is None, k) for c, k in zip(owned, widths, strict=True))
    columns = common_columns(hierarchy)
    return Block(parts, gram(hierarchy, pooled, columns, columns), mean, sd)


def factor_block(hierarchy: Hierarchy, pooled: PooledFit, groups: Sequence[GroupEffects]) -> Block:
    """All effects of one grouping factor."""
    columns = group_columns(hierarchy, groups)
    own = gram(hierarchy, pooled, columns, columns, groups[0])
    parts = tuple(
        (name, term.levels is None, term.matrix.shape[1])
        for g in groups
        for name, term in zip(g.effect_names, g.terms, strict=True)
    )
    sd = plausible_sds(groups)
    return Block(parts, own, np.zeros_like(sd), sd)


def common_columns(hierarchy: Hierarchy) -> Columns:
    """The columns of all coefficients."""
    return [z for p in hierarchy.predictors for c in p.common for z in _by_position(hierarchy, p, c.matrix)]


def group_columns(hierarchy: Hierarchy, groups: Sequence[GroupEffects]) -> Columns:
    """The columns of all effects of a factor."""
    owner = {p.name: p for p in hierarchy.predictors}
    return [z for g in groups for z in _by_position(hierarchy, owner[g.parameter], g.matrix)]


def _by_position(hierarchy: Hierarchy, predictor: Predictor, matrix: Tensor) -> Columns:
    """Columns (n_rows or 1, k) of a predictor by the positions of its numbers."""
    position = {names[0]: i for i, (names, _) in enumerate(hierarchy.estimated)}
    parts = [predictor.by_parameter(z) for z in matrix.expand(predictor.n_rows, -1).T]
    return [{position[name]: z.numpy() for name, z in part.items() if name in position} for part in parts]


def gram(
    hierarchy: Hierarchy, pooled: PooledFit, left: Columns, right: Columns, by: GroupEffects | None = None
) -> Array:
    """Sum over the trials of every level of `by`, or over all trials, of I * z z', (levels, K left, K right)."""
    n = hierarchy.n_cells
    trials = np.bincount(hierarchy.cell, minlength=n)
    index, levels = (np.zeros(n, np.int64), 1) if by is None else (by.index.numpy()[:n], len(by.levels))
    total = np.zeros((levels, len(left), len(right)))
    for (j, of_left), (k, of_right) in product(enumerate(left), enumerate(right)):
        for (owner, z), (other, w) in product(of_left.items(), of_right.items()):
            total[:, j, k] += np.bincount(index, trials * z * w, minlength=levels) * pooled.information[owner, other]
    return total


def pooled_level(hierarchy: Hierarchy, pooled: PooledFit) -> Array:
    """Coefficients that put every cell at the pooled fit, (1, K)."""
    theta = {LAPSES: pooled.lapse, **dict(zip(hierarchy.likelihood.simulator.names, pooled.theta, strict=True))}
    found = []
    for p in hierarchy.predictors:
        known = torch.tensor([theta[name] for name in p.parameters if name in theta], dtype=torch.float64)
        # Parameters of which the likelihood knows nothing stay where their priors have them.
        at_prior = {c.name: torch.from_numpy(_moments(c.prior))[..., 0].expand(c.matrix.shape[1]) for c in p.common}
        found.append(constant_coefficients(p, to_link(known, p.link)) if len(known) else at_prior)
    return np.concatenate([np.empty(0), *(b.reshape(-1).numpy() for part in found for b in part.values())])[np.newaxis]


def constant_coefficients(predictor: Predictor, level: Tensor) -> dict[str, Tensor]:
    """Common coefficients that put every cell at `level`, (), or of every parameter, as nearly as the design can (least
    squares)."""
    if not predictor.common:
        return {}
    n = predictor.n_rows
    design = torch.cat([c.matrix.expand(n, -1) for c in predictor.common], dim=1)
    rows = level.expand(len(predictor.parameters)).repeat_interleave(n // len(predictor.parameters))
    rows = rows if predictor.offset is None else rows - predictor.offset
    solution = torch.linalg.lstsq(design, rows.unsqueeze(-1), driver="gelsd").solution[:, 0]
    pieces = torch.split(solution, [c.matrix.shape[1] for c in predictor.common])
    return {c.name: b[0] if c.levels is None else b for c, b in zip(predictor.common, pieces, strict=True)}


def _moments(prior: TorchDistribution) -> Array:
    """Mean and sd of a prior, (..., 2); wide where they do not exist."""
    try:
        mean, sd = (np.asarray(x.expand(prior.batch_shape), float) for x in (prior.mean, prior.variance.sqrt()))
    except NotImplementedError:
        mean = sd = np.full(tuple(prior.batch_shape), np.nan)
    known = np.isfinite(mean) & np.isfinite(sd)
    return np.stack([np.where(known, mean, 0.0), np.where(known, sd, _WIDE)], -1)


def plausible_sds(groups: Sequence[GroupEffects]) -> Array:
    """Plausible sds of the population before the groups are seen, (K,): half the prior median."""
    medians = []
    for g in groups:
        for prior, term in zip(g.sigma_priors, g.terms, strict=True):
            middle = median(prior)
            # One number for each part of the groups.
            middle = middle.mean() if g.by is not None and term.levels is None else middle
            medians.append(middle.expand(term.matrix.shape[1]).numpy())
    return 0.5 * np.concatenate(medians)
