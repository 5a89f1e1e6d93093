"""Parts of a table by some of its columns, and the rows of the design over which a number is averaged in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hddm_sbi.data.design import Cells, find_cells
from hddm_sbi.data.trials import Trials
from hddm_sbi.errors import InputError, did_you_mean
from hddm_sbi.types import Array, Index

#: rows of a part at which response times are computed, where more differ: a covariate may differ in every trial.
_ROWS = 30


@dataclass(frozen=True)
class DesignCells:
    """Parts of a table.

    table: the columns that tell them apart, a row for each. cell: the trials' cell of every row of the design, (r,).
    weight: of every row in every part, (n, r); rows sum to 1, the share of its trials that every row has.
    """

    table: pd.DataFrame
    cell: Index
    weight: Array

    def mean(self, x: Array) -> Array:
        """Means over the rows in every part: (..., r, q) -> (..., n, q)."""
        return np.asarray(self.weight @ x)

    def few(self) -> tuple[Index, DesignCells]:
        """Positions of some of the rows, and the same parts with these alone: at most `_ROWS` of each, evenly spaced
        along its trials, in the order of the design."""
        share = np.zeros_like(self.weight)
        for part, weight in enumerate(self.weight):
            rows = np.flatnonzero(weight)
            if len(rows) <= _ROWS:
                share[part] = weight
                continue
            targets = (np.arange(_ROWS) + 0.5) / _ROWS
            chosen = rows[np.searchsorted(np.cumsum(weight[rows]), targets).clip(max=len(rows) - 1)]
            np.add.at(share[part], chosen, 1.0 / _ROWS)
        kept = np.flatnonzero(share.any(0))
        return kept, DesignCells(self.table, self.cell[kept], share[:, kept])


def design_cells(trials: Trials, columns: Sequence[str], by: Sequence[str]) -> DesignCells:
    """The parts of a table by the columns `by`, in the order of their levels.

    columns: that tell rows of the design apart, `by` among them or not.
    """
    first, frame = trials.cells.first, trials.frame
    cells = frame[list(dict.fromkeys([*by, *columns]))].iloc[first].reset_index(drop=True)
    if cells.shape[1]:
        # Rows in the order of their values, so that some of them, evenly spaced, stand for all.
        order = cells.groupby(list(cells), sort=True, observed=True, dropna=False).ngroup().to_numpy()
    else:
        order = np.zeros(len(cells), dtype=np.int64)
    _, row_first, row = np.unique(order, return_index=True, return_inverse=True)
    rows = cells.iloc[row_first].reset_index(drop=True)
    trials_of_row = np.bincount(row.reshape(-1), np.bincount(trials.cells.of_trial, minlength=len(first)))
    parts: Cells = find_cells(rows, list(by))
    weight = np.zeros((len(parts), len(rows)))
    weight[parts.of_trial, np.arange(len(rows))] = trials_of_row
    table = rows[list(by)].iloc[parts.first].reset_index(drop=True)
    return DesignCells(table, row_first, weight / weight.sum(1, keepdims=True))


def check_by(by: str | Sequence[str], known: Sequence[str], groups: Sequence[str]) -> tuple[str, ...]:
    """Names of columns, each once. known: that may be named. groups: grouping factors, which may not.

    Raises InputError for any other.
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    for name in (name for name in names if name not in known):
        if name in groups:
            raise InputError(f"by={name!r} names groups: for predictions of each, write level={name!r}.")
        near = did_you_mean(str(name), known)
        raise InputError(f"by={name!r} is no predictor of this model{near} Expected some of {list(known)}.")
    return tuple(dict.fromkeys(names))
