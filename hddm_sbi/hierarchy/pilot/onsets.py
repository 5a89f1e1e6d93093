"""Non-decision times in the best of several modes: which of the fastest trials are lapses, group by group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hddm_sbi.hierarchy.pilot.blocks import Block
from hddm_sbi.hierarchy.pilot.mode import find_mode, log_likelihood, log_prior, values_of
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.hierarchy.terms.group_effects import GroupEffects
from hddm_sbi.hierarchy.terms.link import to_link
from hddm_sbi.hierarchy.terms.predictor import Predictor
from hddm_sbi.types import Array, Index

# A trial faster than t0 can only be a lapse. Where the leading edge is steep, the posterior of t0 has a mode at every
# gap among the fastest trials. Neither a search nor NUTS goes from one to the next: there are tens of nats between.

#: where t0 is searched from: the share of the trials that are faster, and t0 as a fraction of the next trial.
_ONSETS = ((0.0, 0.93), (0.0, 0.99), (0.003, 0.99), (0.01, 0.99), (0.02, 0.99), (0.04, 0.99))
#: modes are of like weight up to this difference in log posterior, and apart where it is lower by this between them.
_LIKE, _DEEP = 3.0, 1.0
#: where between two modes a valley is looked for.
_BETWEEN = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class _Move:
    """One column of a block by which t0 of some trials moves.

    level: of each trial that moves, (n_moved,). moved: positions of these trials. of_cell: level of each of the
    design's cells, also of those without a complete trial.
    """

    block: int
    column: int
    level: Index
    moved: Index
    of_cell: Index


@dataclass(frozen=True)
class Rival:
    """A second mode of the posterior: one number of t0 elsewhere, so that other trials are lapses.

    move, level: of that number. way: all numbers of its level there, minus those in the best mode, (K,). lower: by how
    much the log posterior is, nats. trials: positions in the table of those between the two onsets.
    """

    move: _Move
    level: int
    way: Array
    lower: float
    trials: Index

    @property
    def apart(self) -> float:
        """The number of t0 there minus that in the best mode."""
        return float(self.way[self.move.column])


def find_onsets(
    hierarchy: Hierarchy, blocks: Sequence[Block], factors: Sequence[Sequence[GroupEffects]], at: list[Array]
) -> tuple[list[Array], list[Rival]]:
    """`at`, or better: every group, or coefficient, of t0 in the best of several modes; and others of like weight."""
    name = hierarchy.likelihood.simulator.symmetries.shift
    predictor = next((p for p in hierarchy.predictors if p.name == name), None)
    rivals: list[Rival] = []
    # An onset that moves along trials lies between others in every trial: none of them is looked for.
    if predictor is None or predictor.along or hierarchy.trials.lapses is None:
        return at, rivals
    for move in _moves(hierarchy, predictor, factors):
        found = _search(hierarchy, predictor, blocks, at, move)
        at = [x if i != move.block else found.best for i, x in enumerate(at)]
        rivals += _rivals(hierarchy, predictor, blocks, at, found)
    return at, rivals


def _moves(hierarchy: Hierarchy, predictor: Predictor, factors: Sequence[Sequence[GroupEffects]]) -> Iterator[_Move]:
    """The groups' own intercepts; without any, every coefficient with a column of zeros and ones."""
    everything = np.arange(len(hierarchy.cell))
    own = [g for g in predictor.groups if bool((g.matrix[:, 0] == 1).all())]
    for effects in own:
        block = next(i for i, terms in enumerate(factors, start=1) if terms[0].factor == effects.factor)
        before = sum(g.matrix.shape[1] for g in _before(effects, factors[block - 1]))
        of_cell = effects.index.numpy()
        yield _Move(block, before, of_cell[hierarchy.cell], everything, of_cell)
    if own:
        return
    column = 0
    for p in hierarchy.predictors:
        for c in p.common:
            for z in c.matrix.expand(p.n_rows, -1).T:
                if p is predictor and bool(((z == 0) | (z == 1)).all()):
                    moved = np.flatnonzero((z == 1).numpy()[hierarchy.cell])
                    yield _Move(0, column, np.zeros(len(moved), np.int64), moved, np.zeros(p.n_rows, np.int64))
                column += 1


def _before(effects: GroupEffects, terms: Sequence[GroupEffects]) -> Sequence[GroupEffects]:
    return terms[: next(i for i, g in enumerate(terms) if g.name == effects.name)]


@dataclass(frozen=True)
class _Search:
    """Modes of every level of the block that moves, (searches, levels, K), and their heights, (searches, levels)."""

    move: _Move
    modes: Array
    heights: Array

    @property
    def best(self) -> Array:
        """The highest of every level, (levels, K)."""
        return np.asarray(self.modes[self.heights.argmax(0), np.arange(self.modes.shape[1])])


def _search(
    hierarchy: Hierarchy, predictor: Predictor, blocks: Sequence[Block], at: list[Array], move: _Move
) -> _Search:
    """Every level of a block searched from several onsets, the first that of `at`."""
    covariance = blocks[move.block].covariance
    ridge = covariance[:, :, move.column] / covariance[:, move.column, move.column][:, None]
    modes, heights = [], []
    for shift in (np.zeros(len(ridge)), *_later(hierarchy, predictor, blocks, at, move)):
        start = list(at)
        start[move.block] = at[move.block] + shift[:, None] * ridge
        found = find_mode(hierarchy, blocks, start, only=move.block)
        modes.append(found[move.block])
        heights.append(_height(hierarchy, blocks, found, move))
    return _Search(move, np.array(modes), np.array(heights))


def _rivals(
    hierarchy: Hierarchy, predictor: Predictor, blocks: Sequence[Block], at: list[Array], found: _Search
) -> Iterator[Rival]:
    """Of every level the highest mode of like weight behind a valley, with trials between its onset and the best."""
    move, best, top = found.move, found.best, found.heights.max(0)
    above = _above(hierarchy, predictor, blocks, at, move)
    known: dict[int, Rival] = {}
    for modes, heights in zip(found.modes, found.heights, strict=True):
        valley = np.full(len(top), np.inf)
        for step in _BETWEEN:
            between = list(at)
            between[move.block] = best + step * (modes - best)
            valley = np.minimum(valley, _height(hierarchy, blocks, between, move))
        for level in map(int, np.flatnonzero((top - heights < _LIKE) & (valley < heights - _DEEP))):
            way, lower = (modes - best)[level], float((top - heights)[level])
            apart = float(way[move.column])
            inside = (move.level == level) & (above > min(apart, 0.0)) & (above < max(apart, 0.0))
            trials = np.sort(hierarchy.trials.order[move.moved[inside]])
            if len(trials) and (level not in known or lower < known[level].lower):
                known[level] = Rival(move, level, way, lower, trials)
    yield from known.values()


def heights_along(
    hierarchy: Hierarchy, blocks: Sequence[Block], at: Sequence[Array], rivals: Sequence[Rival], along: Array
) -> list[Array]:
    """Log posterior on the line through both modes, of every rival: at `along`, 0 in the best mode and 1 in the rival.

    Rivals of one move are evaluated together, as their levels are independent.
    """
    found = [np.empty(len(along)) for _ in rivals]
    for move in {id(rival.move): rival.move for rival in rivals}.values():
        mine = [i for i, rival in enumerate(rivals) if rival.move is move]
        for k, t in enumerate(along):
            there = list(at)
            there[move.block] = at[move.block].copy()
            for i in mine:
                there[move.block][rivals[i].level] += t * rivals[i].way
            heights = _height(hierarchy, blocks, there, move)
            for i in mine:
                found[i][k] = heights[rivals[i].level]
    return found


def _later(
    hierarchy: Hierarchy, predictor: Predictor, blocks: Sequence[Block], at: Sequence[Array], move: _Move
) -> Iterator[Array]:
    """By how much the column of a move takes t0 to each of `_ONSETS`, (levels,) each."""
    n = np.bincount(move.level, minlength=len(at[move.block]))
    first = np.cumsum(n) - n
    for share, fraction in _ONSETS:
        above = _above(hierarchy, predictor, blocks, at, move, fraction)
        order = np.lexsort((above, move.level))
        position = first + np.floor(share * n).astype(int)
        yield np.where(n > 0, above[order][np.minimum(position, len(order) - 1)], 0.0)


def _above(
    hierarchy: Hierarchy,
    predictor: Predictor,
    blocks: Sequence[Block],
    at: Sequence[Array],
    move: _Move,
    fraction: float = 1.0,
) -> Array:
    """By how much a fraction of its rt is above t0 on the scale of the link, of every trial that moves."""
    values = values_of(blocks, [torch.from_numpy(x) for x in at])
    eta = to_link(predictor.reported_value(values), predictor.link).numpy()
    rt = torch.from_numpy(fraction * hierarchy.trials.values[move.moved, 0])
    return np.asarray(to_link(rt, predictor.link).numpy() - eta[hierarchy.cell[move.moved]])


def _height(hierarchy: Hierarchy, blocks: Sequence[Block], at: Sequence[Array], move: _Move) -> Array:
    """Log posterior of every level of the block that moves, up to a constant, (levels,)."""
    x = [torch.from_numpy(a) for a in at]
    with torch.no_grad():
        by_cell = log_likelihood(hierarchy, blocks, x).numpy()
        prior = log_prior(blocks[move.block], x[move.block]).numpy()
    level = move.of_cell[hierarchy.parameter_map.cell(hierarchy.trials)]
    return np.bincount(level, by_cell, minlength=len(prior)) + prior
