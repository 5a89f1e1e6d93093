"""A quick empirical-Bayes fit before sampling: where groups lie, how far apart, and how well their trials say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hddm_sbi.hierarchy.along_trials import settled, tangent
from hddm_sbi.hierarchy.pilot.blocks import (
    Block,
    common_block,
    common_columns,
    constant_coefficients,
    factor_block,
    gram,
    group_columns,
    plausible_sds,
    pooled_level,
)
from hddm_sbi.hierarchy.pilot.mode import find_lapse, find_mode, log_posterior, values_of
from hddm_sbi.hierarchy.pilot.onsets import Rival, find_onsets, heights_along
from hddm_sbi.hierarchy.pilot.pooled import PooledFit
from hddm_sbi.hierarchy.pyro_model import LAPSE, LAPSES, Hierarchy
from hddm_sbi.hierarchy.terms.group_effects import GroupEffects
from hddm_sbi.hierarchy.terms.link import to_link
from hddm_sbi.types import Array, Index

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

#: rounds of effects given sds and sds given effects.
_ROUNDS = 6
#: shares of lapses with which onsets are searched, where that share is estimated.
_SHARES = (LAPSE, 0.1 * LAPSE)
#: groups whose trials determine less of an effect than this, all together, say nothing of its sd.
_NOTHING = 1e-9
#: where the log posterior is known on the line through two modes: 0 in the better one, 1 in the other.
ALONG = np.linspace(-1.0, 2.0, 61)
#: an sd stays within these multiples of the plausible one.
_SMALLEST, _LARGEST = 0.02, 20.0


@dataclass(frozen=True)
class GroupPosterior:
    """The effects of one grouping factor, of all parameters together, on the scale of the links.

    names, widths: of the group terms, and how many columns each has. values: (levels, K). sds: of the population, (K,),
    or (levels, K) where they differ between parts of the groups.
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
class Line:
    """The line through two modes of a number, and the log posterior on it.

    factor, level, column: of the number among the effects of a grouping factor; None: among the coefficients, and level
    0. way: from the better mode to the other, of all numbers of the level, (K,). heights: at `ALONG`.
    """

    factor: str | None
    level: int
    column: int
    way: Array
    heights: Array


@dataclass(frozen=True)
class SecondMode:
    """A number of a posterior variable in two modes of like weight.

    variable, index: the number. first, second: it in the better mode, and in the other. lower: by how much the log
    posterior is, nats. trials: positions in the table of those between the two onsets. line: through both.
    """

    variable: str
    index: tuple[int, ...]
    first: float
    second: float
    lower: float
    trials: Index
    line: Line | None = None


@dataclass(frozen=True)
class PilotFit:
    """What the fit found: coefficients by name, () or (k,), and the effects of every grouping factor, by its name.

    covariance: of all coefficients, in their order, while the effects are uncertain too, (K, K). lapse: the share of
    lapses with which it was found, where no formula says it. second_modes: of like weight, where the fastest trials
    leave it open which of them are lapses.
    """

    coefficients: Mapping[str, Tensor]
    covariance: Array
    effects: Mapping[str, GroupPosterior]
    lapse: float = LAPSE
    second_modes: tuple[SecondMode, ...] = ()


def pilot_fit(hierarchy: Hierarchy, pooled: PooledFit) -> PilotFit:
    """Coefficients and effects at their mode, and the population's standard deviations, in turn; lapses included."""
    linear = settled(hierarchy)
    factors, blocks = _by_factor(hierarchy), _blocks(linear, pooled)
    at = [pooled_level(linear, pooled), *(np.zeros(b.gram.shape[:2]) for b in blocks[1:])]
    rivals: list[Rival] = []
    assumed = hierarchy if hierarchy.lapse is None else replace(hierarchy, lapse=LAPSE)
    for number in range(_ROUNDS if factors or linear is not hierarchy else 1):
        linear = tangent(hierarchy, values_of(blocks, [torch.from_numpy(x) for x in at]))
        if linear is not hierarchy:
            blocks = [replace(b, gram=new.gram) for b, new in zip(blocks, _blocks(linear, pooled), strict=True)]
        at = find_mode(assumed, blocks, at)
        if number == 0 and hierarchy.lapse != 0.0:
            assumed, at = _with_lapses(hierarchy, blocks, [*factors.values()], at)
            at, rivals = find_onsets(assumed, blocks, [*factors.values()], at)
        for i, terms in enumerate(factors.values(), start=1):
            _move_means(blocks[0], at[0][0], at[i], terms)
            blocks[i] = replace(blocks[i], sd=_spread(blocks[i], at[i], terms))
    effects = {
        factor: GroupPosterior(
            tuple(g.name for g in terms), tuple(g.matrix.shape[1] for g in terms), x, b.sd, b.covariance
        )
        for (factor, terms), x, b in zip(factors.items(), at[1:], blocks[1:], strict=True)
    }
    covariance = _of_coefficients(linear, pooled, blocks)
    heights = heights_along(assumed, blocks, at, rivals, ALONG)
    second = tuple(_second_mode(*each, blocks, at, [*factors]) for each in zip(rivals, heights, strict=True))
    lapse = assumed.lapse if isinstance(assumed.lapse, float) else LAPSE
    return PilotFit(blocks[0].values(torch.from_numpy(at[0][0])), covariance, effects, lapse, second)


def _by_factor(hierarchy: Hierarchy) -> dict[str, list[GroupEffects]]:
    """The group terms of every grouping factor, of all parameters together."""
    factors: dict[str, list[GroupEffects]] = {}
    for term in hierarchy.groups:
        factors.setdefault(term.factor, []).append(term)
    return factors


def _blocks(hierarchy: Hierarchy, pooled: PooledFit) -> list[Block]:
    """All coefficients, then the effects of every grouping factor."""
    factors = _by_factor(hierarchy).values()
    return [common_block(hierarchy, pooled), *(factor_block(hierarchy, pooled, terms) for terms in factors)]


def _with_lapses(
    hierarchy: Hierarchy, blocks: Sequence[Block], factors: Sequence[Sequence[GroupEffects]], at: list[Array]
) -> tuple[Hierarchy, list[Array]]:
    """The hierarchy with a number for its share of lapses, or its formula, and `at`, or onsets that go with that share.

    Many lapses and late onsets may explain the fastest trials as well as few lapses and early ones.
    """
    if isinstance(hierarchy.lapse, float):
        return replace(hierarchy, lapse=LAPSE), at
    if hierarchy.lapse is None:
        starts = _at_shares(hierarchy, blocks, at)
        each = [find_mode(hierarchy, blocks, find_onsets(hierarchy, blocks, factors, x)[0]) for x in starts]
        return hierarchy, max(each, key=lambda x: log_posterior(hierarchy, blocks, x))
    tried = []
    for share in _SHARES:
        found, _ = find_onsets(replace(hierarchy, lapse=share), blocks, factors, at)
        lapse, height = find_lapse(hierarchy, blocks, found)
        tried.append((height, lapse, found))
    _, lapse, found = max(tried, key=lambda each: each[0])
    return replace(hierarchy, lapse=lapse), found


def _at_shares(hierarchy: Hierarchy, blocks: Sequence[Block], at: Sequence[Array]) -> Iterator[list[Array]]:
    """`at` with the coefficients of the share of lapses elsewhere: many in every cell, and few in every cell."""
    predictor = next(p for p in hierarchy.predictors if p.name == LAPSES)
    for share in _SHARES:
        level = to_link(torch.tensor(share, dtype=torch.float64), predictor.link)
        start = [x.copy() for x in at]
        for name, b in constant_coefficients(predictor, level).items():
            start[0][0, blocks[0].columns(name)] = b.numpy()
        yield start


def _second_mode(
    rival: Rival, heights: Array, blocks: Sequence[Block], at: Sequence[Array], factors: Sequence[str]
) -> SecondMode:
    """A rival by the name of its posterior variable. at: (levels, K) of every block at the end."""
    block, column = rival.move.block, rival.move.column
    variable, place = blocks[block].place(column)
    first = float(at[block][rival.level, column])
    index = (rival.level, *place) if block else place
    line = Line(factors[block - 1] if block else None, rival.level, column, rival.way, heights)
    return SecondMode(variable, index, first, first + rival.apart, rival.lower, rival.trials, line)


def _spread(block: Block, x: Array, terms: Sequence[GroupEffects]) -> Array:
    """The population's sds that effects x suggest, (K,), or (levels, K) where parts of the groups have their own."""
    variance = np.diagonal(block.covariance, axis1=1, axis2=2)
    determined, plausible = 1.0 - variance / block.sd**2, plausible_sds(terms)

    def spread(levels: Index | slice) -> Array:
        known = determined[levels].sum(0)
        sd = np.sqrt((x[levels] ** 2).sum(0) / np.maximum(known, 1e-12))
        # Effects that trials say nothing of are 0, and their sd is not.
        sd = np.where(known < _NOTHING, plausible, sd)
        return np.clip(sd, _SMALLEST * plausible, _LARGEST * plausible)

    whole, column = spread(slice(None)), 0
    if all(term.by is None for term in terms):
        return whole
    sds = np.tile(whole, (len(x), 1))
    for term in terms:
        mine = slice(column, column + term.matrix.shape[1])
        column = mine.stop
        for part in () if term.by is None else term.by.parts:
            sds[part, mine] = spread(part)[mine]
    return sds


def _move_means(common: Block, coefficients: Array, x: Array, terms: Sequence[GroupEffects]) -> None:
    """Take means of effects x into the coefficients that are their means: neither changes the likelihood."""
    names, _, widths = zip(*common.parts, strict=True) if common.parts else ((), (), ())
    first = dict(zip(names, np.cumsum([0, *widths[:-1]]), strict=True))
    sources = [source for term in terms for source in term.mean_of]
    for column, source in enumerate(sources):
        if source is not None:
            mean = x[:, column].mean()
            coefficients[first[source[0].name] + source[1]] += mean
            x[:, column] -= mean


def _of_coefficients(hierarchy: Hierarchy, pooled: PooledFit, blocks: Sequence[Block]) -> Array:
    """Covariance of the coefficients, (K, K): given all effects, and what the effects of each factor add to it."""
    given = blocks[0].covariance[0]
    total = given.copy()
    for terms, block in zip(_by_factor(hierarchy).values(), blocks[1:], strict=True):
        cross = gram(hierarchy, pooled, common_columns(hierarchy), group_columns(hierarchy, terms), terms[0])
        lost = (cross @ block.covariance @ cross.transpose(0, 2, 1)).sum(0)
        total += np.linalg.inv(np.linalg.inv(given) - lost) - given
    return total
