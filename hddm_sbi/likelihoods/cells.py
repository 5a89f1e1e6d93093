"""Trials arranged cell by cell, as likelihoods take them, with what is missing in them; and the law of lapses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hddm_sbi.types import Array, Index

#: probability of a lapse where nothing else is said, and in fits that must survive any outlier in the table.
LAPSE = 0.05
#: lapses are uniform over the responses and over this many seconds, or up to the longest rt if that is longer.
LAPSE_SECONDS = 10.0
#: least density of a lapse under a logarithm.
_LEAST = 1e-300


def with_lapses(log_p: Tensor, lapse: Tensor, lapse_density: float | Tensor) -> Tensor:
    """log[(1 - lapse) p + lapse * lapse_density] of every trial, (n,); log_p itself where lapse is 0."""
    if float(lapse.detach()) == 0.0:
        return log_p
    return torch.logaddexp(torch.log1p(-lapse) + log_p, torch.log(lapse * lapse_density))


def lapse_span(rt: Array, lapse_seconds: float) -> float:
    """The seconds over which lapses are uniform: lapse_seconds, or up to the longest rt."""
    return max(lapse_seconds, float(rt.max(initial=0.0)))


def outcome_rows(rt: ArrayLike | Tensor, choice: ArrayLike | Tensor) -> Tensor:
    """rt (n,) seconds and choice (n,), positions in `simulator.choices`, as the outcomes (n, 2) a likelihood takes."""
    return torch.stack([torch.as_tensor(column, dtype=torch.float64) for column in (rt, choice)], -1)


class CellTrials(Protocol):
    """The outcomes of a table, cell by cell, as one kind of likelihood wants them."""

    @property
    def n_cells(self) -> int:
        """Number of cells, each with at least one trial."""

    @property
    def order(self) -> Index:
        """Position of each complete trial in the caller's table, (n,)."""

    @property
    def values(self) -> Array:
        """Outcomes (n, k), in the order of `simulator.outcomes`; a categorical one is the position of its category."""

    @property
    def cell(self) -> Index:
        """The cell of each trial, (n,), ascending."""

    @property
    def lapse_density(self) -> float:
        """Density of a lapse trial; 0 where the outcomes know no lapses."""

    @property
    def lapse_seconds(self) -> float:
        """Lapses are uniform over the responses and over these; 0 where the outcomes know no lapses."""

    @property
    def incomplete(self) -> IncompleteTrials | None:
        """Trials of which something is missing, or None."""


@dataclass(frozen=True)
class IncompleteTrials:
    """Trials without a time, without a response, or without either, with a mask that says so.

    values: (m, 2), as those of complete trials; an entry that is masked is never read. observed: (m, 2), False where
    rt or response is missing. deadline: (m,) seconds, inf for none. A missing time lies before the deadline where the
    response is known, and after it where both are missing. cell, order: (m,), as of complete trials.
    """

    values: Array
    observed: NDArray[np.bool_]
    deadline: Array
    cell: Index
    order: Index

    def lapse_density(self, n_choices: int, lapse_seconds: float) -> Tensor:
        """Probability, or density in time, of each of them among lapses, (m,): uniform over responses and seconds."""
        timed, answered = self.observed.T
        before = np.minimum(self.deadline / lapse_seconds, 1.0)
        untimed = np.where(answered, before / n_choices, 1.0 - before)
        # A lapse may be impossible, but the gradient of its logarithm must be finite.
        return torch.from_numpy(np.where(timed, 1.0 / lapse_seconds, untimed).clip(min=_LEAST))


@dataclass(frozen=True)
class CellOutcomes:
    """Outcomes of any kind sorted by cell: values (n, k), cell (n,), order (n,)."""

    values: Array
    cell: Index
    order: Index
    n_cells: int
    lapse_density: float = 0.0
    lapse_seconds: float = 0.0
    incomplete: None = None

    @classmethod
    def sort(cls, values: Array, cell: Index, n_cells: int) -> CellOutcomes:
        """Sort outcomes (n, k) by cell (n,)."""
        order = np.argsort(cell, kind="stable")
        return cls(np.ascontiguousarray(values[order]), cell[order], order, n_cells)


@dataclass(frozen=True)
class SortedTrials:
    """Trials sorted once by (cell, choice, rt), so that a kernel walks through runs of ascending response times.

    rt: (n,) seconds, sorted. starts: (n_cells * n_choices + 1,) offsets of the runs; run `cell * n_choices + choice`
    is `rt[starts[run]:starts[run + 1]]`. order: (n,) position of each sorted trial in the caller's table.
    lapse_seconds: lapses are uniform over the responses and over these. incomplete: the other trials.
    """

    rt: Array
    starts: Index
    order: Index
    n_cells: int
    n_choices: int
    lapse_seconds: float = LAPSE_SECONDS
    incomplete: IncompleteTrials | None = None

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
        counts = np.bincount(cell * n_choices + choice, minlength=n_cells * n_choices)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        span = lapse_span(rt, lapse_seconds)
        return cls(np.ascontiguousarray(rt[order]), starts, order, n_cells, n_choices, span)

    @property
    def values(self) -> Array:
        """rt and choice, (n, 2)."""
        return np.stack([self.rt, self._run % self.n_choices], -1)

    @property
    def cell(self) -> Index:
        """The cell of each trial, (n,)."""
        return self._run // self.n_choices

    @property
    def _run(self) -> Index:
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @property
    def lapse_density(self) -> float:
        """Density of a lapse trial: 1 / (n_choices * lapse_seconds)."""
        return 1.0 / (self.n_choices * self.lapse_seconds)
