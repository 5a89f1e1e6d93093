"""Parts of a table by some of its columns, and the rows of the design over which a number is averaged in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.data.design import find_cells
from hddm_sbi.data.trials import Trials
from hddm_sbi.errors import InputError, did_you_mean
from hddm_sbi.types import Array, Index

#: rows of a part at which response times are computed, where more differ: a covariate may differ in every trial.
_ROWS = 30


@dataclass(frozen=True)
class DesignCells:
    """Parts of a table.

    table: the columns that tell them apart, a row for each of n. cell: the trials' cell of every row of the design,
    (r,), those of a part one after the other. begin: the first row of every part, (n,). share: of every row among the
    trials of its part, (r,).
    """

    table: pd.DataFrame
    cell: Index
    begin: Index
    share: Array

    def mean(self, x: Array) -> Array:
        """Means over the rows of every part: (..., r, q) -> (..., n, q)."""
        return np.add.reduceat(x * self.share[:, np.newaxis], self.begin, axis=-2)

    def few(self) -> tuple[Index, DesignCells]:
        """Positions of some of the rows, and the same parts with these alone: at most `_ROWS` of each, evenly spaced
        along its trials, in the order of the design."""
        kept, shares = list[Index](), list[Array]()
        for first, share in zip(self.begin, np.split(self.share, self.begin[1:]), strict=True):
            chosen = np.arange(len(share))
            if len(share) > _ROWS:
                along = np.searchsorted(np.cumsum(share), (np.arange(_ROWS) + 0.5) / _ROWS)
                chosen, times = np.unique(along.clip(max=len(share) - 1), return_counts=True)
                share = times / _ROWS
            kept.append(first + chosen)
            shares.append(share)
        begin = np.cumsum([0, *(len(rows) for rows in kept[:-1])])
        rows = np.concatenate(kept)
        return rows, DesignCells(self.table, self.cell[rows], begin, np.concatenate(shares))


def design_cells(trials: Trials, columns: Sequence[str], by: Sequence[str]) -> DesignCells:
    """The parts of a table by the columns `by`, in the order of their levels.

    columns: that tell rows of the design apart, `by` among them or not.
    """
    first, frame = trials.cells.first, trials.frame
    cells = frame[list(dict.fromkeys([*by, *columns]))].iloc[first].reset_index(drop=True)
    if cells.shape[1]:
        # Rows in the order of their values: parts one after the other, and some rows, evenly spaced, stand for all.
        order = cells.groupby(list(cells), sort=True, observed=True, dropna=False).ngroup().to_numpy()
    else:
        order = np.zeros(len(cells), dtype=np.int64)
    _, row_first, row = np.unique(order, return_index=True, return_inverse=True)
    rows = cells.iloc[row_first].reset_index(drop=True)
    counts = np.bincount(row.reshape(-1), np.bincount(trials.cells.of_trial, minlength=len(first)))
    parts = find_cells(rows, list(by))
    share = counts / np.bincount(parts.of_trial, counts)[parts.of_trial]
    return DesignCells(rows[list(by)].iloc[parts.first].reset_index(drop=True), row_first, parts.first, share)


def check_by(by: str | Sequence[str], known: Sequence[str], groups: Sequence[str]) -> tuple[str, ...]:
    """Names of columns, each once. known: that may be named. groups: grouping factors, which may not.

    Raises InputError for any other.
    """
    if not isinstance(by, Sequence):
        raise InputError(f"by must be a column, or a list of columns, such as ['condition']; got {by!r}.")
    names = (by,) if isinstance(by, str) else tuple(by)
    for name in (name for name in names if name not in known):
        if name in groups:
            raise InputError(f"by={name!r} names groups: for predictions of each, write level={name!r}.")
        near = did_you_mean(str(name), known)
        raise InputError(f"by={name!r} is no predictor of this model{near} Expected some of {list(known)}.")
    return tuple(dict.fromkeys(names))


def records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """Rows as dicts by column. Older pandas has none of a table without columns.

    >>> records(pd.DataFrame({"x": [1, 2]})), records(pd.DataFrame(index=[0, 1]))
    ([{'x': 1}, {'x': 2}], [{}, {}])
    """
    return list(table.to_dict("records")) if len(table.columns) else [{} for _ in range(len(table))]
