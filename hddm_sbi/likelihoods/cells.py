"""Trials arranged cell by cell, as likelihoods take them, with what is missing in them and the law of their lapses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hddm_sbi.likelihoods.lapse_law import LapseLaw, Ranges
from hddm_sbi.simulation import Observation as Observation
from hddm_sbi.types import Array, Index

#: probability of a lapse where fits must survive any outlier in the table, and where a likelihood is checked.
LAPSE = 0.05
#: seconds over which lapses are uniform where there is no table, or up to the longest rt if that is longer.
LAPSE_SECONDS = 10.0
#: seconds; a shorter time is none, for the density of a decision time there is 0 and its gradient overflows.
_SHORTEST = 1e-60


def with_lapses(log_p: Tensor, lapse: Tensor, lapse_density: float | Tensor) -> Tensor:
    """log[(1 - lapse) p + lapse * lapse_density] of every trial, (n,), lapse () or (n,); log_p where lapse is 0."""
    some = lapse.detach().numpy() > 0.0
    if not some.any():
        return log_p
    if not some.all():
        # The untaken branch must stay finite, or its gradient would be nan.
        known = torch.from_numpy(some)
        return torch.where(known, with_lapses(log_p, torch.where(known, lapse, 0.5), lapse_density), log_p)
    return torch.logaddexp(torch.log1p(-lapse) + log_p, torch.log(lapse * lapse_density))


def lapse_span(rt: Array, lapse_seconds: float | None) -> float:
    """The seconds over which lapses are uniform: up to the longest rt, and at least lapse_seconds."""
    return max(lapse_seconds or 0.0, float(rt.max(initial=0.0)))


def outcome_rows(rt: ArrayLike | Tensor, choice: ArrayLike | Tensor) -> Tensor:
    """rt (n,) seconds and choice (n,), positions in `simulator.choices`, as the outcomes (n, 2) a likelihood takes."""
    times, choices = (torch.as_tensor(column, dtype=torch.float64) for column in (rt, choice))
    return torch.stack([torch.where(times < _SHORTEST, times.clamp(max=0.0), times), choices], -1)


@dataclass(frozen=True)
class Events:
    """What is known of incomplete trials, cell by cell; equal events of a cell are one.

    cell: (m,), ascending. ranges: of time by response, (m, n_choices). weight: (m,), how many trials each is known of;
    less than 0 for the event that a trial was not removed, by which the others are divided.
    """

    cell: Index
    ranges: Ranges
    weight: Array

    def one_by_one(self) -> Events:
        """Each of them once, in a cell of its own."""
        m = len(self.cell)
        return Events(np.arange(m), self.ranges, np.ones(m))


@dataclass(frozen=True)
class IncompleteTrials:
    """What is known of trials from which something is missing, or among which some were removed.

    order, event: (j,) position of each incomplete trial in the caller's table, and its event. kept: (n,), the event
    that each of all trials was not removed; None where none could be. cell: (n,) of all trials, in the caller's order.
    observation: how they were seen.
    """

    events: Events
    order: Index
    event: Index
    kept: Index | None
    cell: Index
    observation: Observation

    def pooled(self, pool: Index, step: int) -> IncompleteTrials:
        """The same events in pools of cells, of each (n_cells,), counted as where one trial of `step` is there."""
        cell = pool[self.events.cell]
        order = np.argsort(cell, kind="stable")
        ranges = Ranges(*(np.ascontiguousarray(end[order]) for end in self.events.ranges))
        return replace(self, events=Events(cell[order], ranges, self.events.weight[order] / step))

    @classmethod
    def arrange(cls, cell: Index, values: Array, observation: Observation) -> IncompleteTrials:
        """From the cell of every trial (n,), its outcomes (n, 2), and how they were seen."""
        order, ranges, kept = np.flatnonzero(~np.isfinite(values).all(1)), observation.ranges(values), observation.kept
        rows = [np.column_stack([cell[order], *(end[order] for end in ranges)])]
        if kept is not None:
            rows.append(np.column_stack([cell, *kept]))
        distinct, event = np.unique(np.concatenate(rows), axis=0, return_inverse=True)
        event = event.reshape(-1)
        signs = np.where(np.arange(len(event)) < len(order), 1.0, -1.0)
        low, high = np.split(np.ascontiguousarray(distinct[:, 1:]), 2, axis=1)
        between = Ranges(np.ascontiguousarray(low), np.ascontiguousarray(high))
        weight = np.bincount(event, signs, len(distinct)).astype(np.float64)
        events = Events(distinct[:, 0].astype(np.int64), between, weight)
        return cls(events, order, event[: len(order)], None if kept is None else event[len(order) :], cell, observation)


@dataclass(frozen=True)
class CellTrials:
    """The outcomes of a table sorted by cell.

    values: (n, k), in the order of `simulator.outcomes`; a categorical one is the position of its category. cell: (n,),
    ascending. order: (n,) position of each complete trial in the caller's table. lapses: their law, None where the
    outcomes know none. incomplete: the other trials.
    """

    values: Array
    cell: Index
    order: Index
    n_cells: int
    lapses: LapseLaw | None = None
    incomplete: IncompleteTrials | None = None

    @cached_property
    def lapse_density(self) -> Tensor:
        """Density of a lapse at every complete trial, (n,); 0 where the outcomes know none."""
        if self.lapses is None:
            return torch.zeros(len(self.values), dtype=torch.float64)
        return torch.from_numpy(self.lapses.density(self.values[:, 0], self.values[:, 1].astype(np.int64)))

    def with_lapses(self, law: LapseLaw | None) -> Self:
        """The same trials with lapses of this law."""
        return replace(self, lapses=law)


@dataclass(frozen=True, kw_only=True)
class SortedTrials(CellTrials):
    """Trials sorted by (cell, choice, rt), so that a kernel walks through runs of ascending response times.

    rt: (n,) seconds. starts: (n_cells * n_choices + 1,) offsets of the runs; run `cell * n_choices + choice` is
    `rt[starts[run]:starts[run + 1]]`.
    """

    rt: Array
    starts: Index
    n_choices: int

    @classmethod
    def sort(
        cls,
        rt: Array,
        choice: Index,
        cell: Index,
        n_cells: int,
        n_choices: int,
        lapse_seconds: float = LAPSE_SECONDS,
    ) -> SortedTrials:
        """Sort complete trials by (cell, choice, rt). rt, choice, cell: (n,)."""
        order = np.lexsort((rt, choice, cell))
        rt, choice, cell = rt[order], choice[order], cell[order]
        starts = np.searchsorted(cell * n_choices + choice, np.arange(n_cells * n_choices + 1))
        span = lapse_span(rt, lapse_seconds)
        of_all = np.stack([rt, choice], -1), cell, order, n_cells, LapseLaw((1.0,) * n_choices, span)
        return cls(*of_all, rt=rt, starts=starts, n_choices=n_choices)

    def absolute(self, total: Tensor) -> Tensor:
        """What every cell's trials add up to, (n_cells,), from the same relative to exp(-rate rt), as of kernels."""
        return total if self._decay is None else total + self._decay

    @cached_property
    def _decay(self) -> Tensor | None:
        assert self.lapses is not None
        if self.lapses.rate == 0.0:
            return None
        return torch.from_numpy(-self.lapses.rate * np.bincount(self.cell, self.rt, self.n_cells))


@lru_cache(maxsize=32)
def alike(labels: bytes) -> tuple[Index, Index]:
    """Distinct whole numbers: the place of the first of each, and which of them every number equals."""
    _, first, same = np.unique(np.frombuffer(labels, dtype=np.int64), return_index=True, return_inverse=True)
    return first, same
