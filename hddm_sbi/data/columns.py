"""The columns of a table that are used: there, complete, and of a type that formulas and codes understand."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.errors import InputError, did_you_mean, name_rows
from hddm_sbi.types import Index

#: bytes of the floats that pandas groups by.
_FLOATS = (4, 8)


#: what is said of trials from which an outcome is missing.
OMISSION = (
    "A trial without a response (an omission) stays in the table, with rt and response missing, and deadline= says by "
    "when it had none: leaving out what a deadline cut off biases the estimates."
)


def check_columns(data: pd.DataFrame, used: Sequence[str], outcomes: Sequence[str] = ()) -> pd.DataFrame:
    """The columns of a table that are used, each there once and complete, with index 0 ... n-1.

    outcomes: those of them that are rt and response, which may be missing, and an rt infinite.

    >>> check_columns(pd.DataFrame({"x": [1.0, 2.0], "y": [0, 0]}, index=[7, 7]), ["x"]).index.tolist()
    [0, 1]
    """
    if not isinstance(data, pd.DataFrame):
        raise InputError(f"data must be a pandas DataFrame, one row per trial; got {type(data).__name__}.")
    if data.empty:
        raise InputError(
            f"the table is empty ({len(data)} rows, {len(data.columns)} columns); it needs one row per trial."
        )
    twice = sorted({str(name) for name in data.columns[data.columns.duplicated()]})
    if twice:
        raise InputError(f"column names must be unique; {', '.join(map(repr, twice))} occurs more than once.")
    for column in dict.fromkeys(used):
        if column not in data.columns:
            near = did_you_mean(str(column), [str(name) for name in data.columns])
            if column is not None and column in data.index.names:
                near = "; it is in the index of the table: give table.reset_index()."
            listed = ", ".join(map(str, data.columns))
            raise InputError(f"the data have no column {column!r}{near} Columns: {listed}.")
    frame = data[[column for column in data.columns if column in used]].reset_index(drop=True)
    frame = frame.assign(**{column: plain(frame[column]) for column in frame.columns if isinstance(column, str)})
    for column in dict.fromkeys(used):
        if column not in outcomes:
            _check_complete(frame[column], column)
    return frame


def plain(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column of numbers as numbers and one of true and false as such, whatever its dtype; any other as it is.

    Raises InputError for complex numbers, and for cells that are lists, dicts and the like.

    >>> plain(pd.Series([1, 2.5], dtype=object)).dtype, plain(pd.Series([1, 2], dtype=object)).dtype
    (dtype('float64'), dtype('int64'))
    """
    if isinstance(column.dtype, pd.SparseDtype):
        column = pd.Series(np.asarray(column), name=column.name)
    if pd.api.types.is_complex_dtype(column.dtype):
        raise InputError(f"column {column.name!r} holds complex numbers; give real and imaginary part as two columns.")
    if pd.api.types.is_float_dtype(column.dtype) and getattr(column.dtype, "itemsize", 8) not in _FLOATS:
        return column.astype(np.float64)
    if column.dtype != object:
        return column
    try:
        present = column[column.notna()]
    except ArithmeticError as reason:
        raise _unusable(column.name, reason) from reason
    cells = present.tolist()
    odd = next((row for row, cell in enumerate(cells) if not is_hashable(cell)), None)
    if odd is not None:
        raise InputError(
            f"column {column.name!r} holds a {type(cells[odd]).__name__} in "
            f"{at_rows(present.index.to_numpy()[[odd]])}; a cell must be a number, a text, or true or false."
        )
    whole = len(present) == len(column)
    if all(isinstance(cell, bool | np.bool_) for cell in cells):
        return column.astype(bool) if whole and cells else column
    if not all(isinstance(cell, numbers.Number) and not isinstance(cell, bool | complex) for cell in cells):
        return column
    whole &= all(isinstance(cell, numbers.Integral) and abs(int(cell)) < 2**63 for cell in cells)
    try:
        return column.astype(np.int64) if whole else column.where(column.notna(), np.nan).astype(np.float64)
    except (TypeError, ValueError, ArithmeticError) as reason:
        raise _unusable(column.name, reason) from reason


def _unusable(column: object, reason: Exception) -> InputError:
    return InputError(f"column {column!r} holds numbers that cannot be used ({reason}).")


def is_hashable(cell: object) -> bool:
    """Whether something can be a value in a table, or the name of a column."""
    try:
        hash(cell)
    except TypeError:
        return False
    return True


def _check_complete(values: pd.Series[Any], column: str) -> None:
    """Raise InputError where a column has missing values, or is infinite somewhere."""
    try:
        missing = np.flatnonzero(values.isna())
    except ArithmeticError as reason:
        raise _unusable(column, reason) from reason
    if missing.size:
        raise InputError(
            f"column {column!r} has missing values in {at_rows(missing)}; every trial needs one. Fill them in, or "
            "leave out those rows."
        )
    if pd.api.types.is_float_dtype(values.dtype):
        infinite = np.flatnonzero(np.isinf(values.to_numpy(dtype=np.float64)))
        if infinite.size:
            raise InputError(f"column {column!r} is infinite in {at_rows(infinite)}; expected finite numbers.")


def at_rows(rows: Index) -> str:
    """Rows of a table for an error message."""
    return f"{name_rows(rows.tolist())} (0 = first)"
