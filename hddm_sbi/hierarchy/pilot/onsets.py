"""Non-decision times in the best of several modes: which of the fastest trials are lapses, group by group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hddm_sbi.hierarchy.link import to_link
from hddm_sbi.hierarchy.pilot.blocks import Block
from hddm_sbi.hierarchy.pilot.mode import find_mode, log_likelihood, log_prior, values_of
from hddm_sbi.hierarchy.predictor import GroupEffects, Predictor
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.types import Array, Index

# A trial faster than t0 can only be a lapse. Where the leading edge is steep, the posterior of t0 has a mode at every
# gap among the fastest trials. Neither a search nor NUTS goes from one to the next: there are tens of nats between.

#: shares of the trials that may be faster than t0.
_FASTER = (0.0, 0.003, 0.01, 0.02, 0.04)
#: t0 as a fraction of the next trial.
_BELOW = 0.99


@dataclass(frozen=True)
class _Move:
    """One column of a block by which t0 of some trials moves.

    level: of each trial that moves, (n_moved,). moved: positions of these trials.
    """

    block: int
    column: int
    level: Index
    moved: Index


def find_onsets(
    hierarchy: Hierarchy, blocks: Sequence[Block], factors: Sequence[Sequence[GroupEffects]], at: list[Array]
) -> list[Array]:
    """`at`, or better: with every group, or coefficient, of t0 in the best of several modes."""
    name = hierarchy.likelihood.simulator.symmetries.shift
    predictor = next((p for p in hierarchy.predictors if p.name == name), None)
    if predictor is None or hierarchy.lapse == 0.0 or not hierarchy.trials.lapse_density:
        return at
    for move in _moves(hierarchy, predictor, factors):
        at = _best(hierarchy, predictor, blocks, at, move)
    return at


def _moves(hierarchy: Hierarchy, predictor: Predictor, factors: Sequence[Sequence[GroupEffects]]) -> Iterator[_Move]:
    """The groups' own intercepts; without any, every coefficient with a column of zeros and ones."""
    everything = np.arange(len(hierarchy.cell))
    own = [g for g in predictor.groups if bool((g.matrix[:, 0] == 1).all())]
    for effects in own:
        block = next(i for i, terms in enumerate(factors, start=1) if terms[0].factor == effects.factor)
        before = sum(g.matrix.shape[1] for g in _before(effects, factors[block - 1]))
        yield _Move(block, before, effects.index.numpy()[hierarchy.cell], everything)
    if own:
        return
    column = 0
    for p in hierarchy.predictors:
        for c in p.common:
            for z in c.matrix.expand(p.n_cells, -1).T:
                if p is predictor and bool(((z == 0) | (z == 1)).all()):
                    moved = np.flatnonzero((z == 1).numpy()[hierarchy.cell])
                    yield _Move(0, column, np.zeros(len(moved), np.int64), moved)
                column += 1


def _before(effects: GroupEffects, terms: Sequence[GroupEffects]) -> Sequence[GroupEffects]:
    return terms[: next(i for i, g in enumerate(terms) if g.name == effects.name)]


def _best(
    hierarchy: Hierarchy, predictor: Predictor, blocks: Sequence[Block], at: list[Array], move: _Move
) -> list[Array]:
    """Every level of a block at the best of the modes found from several onsets, the first that of `at`."""
    covariance = blocks[move.block].covariance
    ridge = covariance[:, :, move.column] / covariance[:, move.column, move.column][:, None]
    later = _later(hierarchy, predictor, blocks, at, move)
    found, height = [], []
    for shift in (np.zeros(len(ridge)), *later):
        start = list(at)
        start[move.block] = at[move.block] + shift[:, None] * ridge
        found.append(find_mode(hierarchy, blocks, start, only=move.block))
        height.append(_height(hierarchy, blocks, found[-1], move))
    best = np.argmax(height, axis=0)
    chosen = list(at)
    chosen[move.block] = np.array([found[which][move.block][level] for level, which in enumerate(best)])
    return chosen


def _later(
    hierarchy: Hierarchy, predictor: Predictor, blocks: Sequence[Block], at: Sequence[Array], move: _Move
) -> Array:
    """By how much the column of a move takes t0 just below the trial that leaves a share faster, (shares, levels)."""
    values = values_of(blocks, [torch.from_numpy(x) for x in at])
    eta = to_link(predictor.reported_value(values), predictor.link).numpy()
    rt = torch.from_numpy(_BELOW * hierarchy.trials.values[move.moved, 0])
    above = to_link(rt, predictor.link).numpy() - eta[hierarchy.cell[move.moved]]
    order = np.lexsort((above, move.level))
    n = np.bincount(move.level, minlength=len(at[move.block]))
    first = np.cumsum(n) - n
    positions = first + np.floor(np.outer(_FASTER, n)).astype(int)
    return np.asarray(above[order][np.minimum(positions, len(order) - 1)])


def _height(hierarchy: Hierarchy, blocks: Sequence[Block], at: Sequence[Array], move: _Move) -> Array:
    """Log posterior of every level of the block that moves, up to a constant, (levels,)."""
    x = [torch.from_numpy(a) for a in at]
    with torch.no_grad():
        by_cell = log_likelihood(hierarchy, blocks, x).numpy()
        prior = log_prior(blocks[move.block], x[move.block]).numpy()
    level = np.zeros(hierarchy.trials.n_cells, np.int64)
    level[hierarchy.trials.cell[move.moved]] = move.level
    return np.bincount(level, by_cell, minlength=len(prior)) + prior
