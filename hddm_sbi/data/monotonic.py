"""mo(x): an ordered factor whose levels are reached by steps in one direction."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.data.design import Term, is_categorical, labels, ordered_levels
from hddm_sbi.data.formulae_parts import LazyVariable
from hddm_sbi.errors import InputError
from hddm_sbi.types import Index, Label

#: steps at most.
_STEPS = 100


@dataclass(frozen=True)
class MonotonicTerm(Term):
    """mo(x): `matrix` (n_cells, 1) counts the steps from the lowest level. steps: the level that each leads to."""

    steps: tuple[Label, ...]

    @classmethod
    def of(
        cls, text: str, name: str, component: Any, cells: pd.DataFrame, copies: int, coded_by: pd.DataFrame
    ) -> MonotonicTerm:
        """text: the formula. component: formulae's call of mo(). cells: the caller's columns, one row per cell; the
        matrix has them `copies` times, one below the other. coded_by: the columns whose values are the levels."""
        column = _column(text, component, cells)
        codes, steps = _steps(text, cells[column], coded_by[column])
        if not steps:
            raise InputError(
                f"formula '{text}': {column!r} has one level, {str(cells[column].iloc[0])!r}, so mo() has no step; "
                "leave it out, or is a level missing from the data?"
            )
        return cls(name, None, np.tile(codes, copies)[:, np.newaxis].astype(np.float64), steps)


def monotonic_columns(rhs: str) -> set[str]:
    """Columns inside of mo() in the right-hand side of a formula.

    >>> sorted(monotonic_columns("mo(load) + mo(`my column`) + (1|subject)"))
    ['load', 'my column']
    """
    return {name.strip("`") for name in re.findall(r"\bmo\(\s*(`[^`]+`|\w+)\s*\)", rhs)}


def _column(text: str, component: Any, cells: pd.DataFrame) -> str:
    args = component.call.args
    plain = len(args) == 1 and isinstance(args[0], LazyVariable) and not component.call.kwargs
    if not plain or args[0].name not in cells:
        raise InputError(
            f"formula '{text}': {component.name}: mo() takes one column of the table as it is, mo(x); compute the "
            "column beforehand."
        )
    return str(args[0].name)


def _steps(text: str, column: pd.Series[Any], coded_by: pd.Series[Any]) -> tuple[Index, tuple[Label, ...]]:
    """Steps of every cell from the lowest level of `coded_by`, and the level that each step leads to."""
    name = str(column.name)
    if isinstance(column.dtype, pd.CategoricalDtype) and column.dtype.ordered:
        levels = ordered_levels(coded_by).categories
        _check_number(text, name, len(levels) - 1)
        return np.asarray(levels.get_indexer(pd.Index(column.astype(object))), dtype=np.int64), labels(levels)[1:]
    if is_categorical(column):
        raise InputError(
            f"formula '{text}': mo() needs levels in an order, and {name!r} has none ({column.dtype}); give them one, "
            f"data[{name!r}] = pandas.Categorical(data[{name!r}], ['low', 'middle', 'high'], ordered=True), or give "
            "whole numbers."
        )
    numbers = column.to_numpy(dtype=np.float64)
    wrong = numbers[numbers != np.round(numbers)]
    if wrong.size:
        raise InputError(
            f"formula '{text}': mo() needs whole numbers or an ordered factor, and {name!r} has {wrong[0]:g}; write "
            f"s({name}), or {name} for a straight line."
        )
    known = coded_by.to_numpy(dtype=np.float64)
    _check_number(text, name, known.max() - known.min())
    low, high = int(known.min()), int(known.max())
    outside = numbers[(numbers < low) | (numbers > high)]
    if outside.size:
        raise InputError(
            f"formula '{text}': {name!r} has {outside[0]:.0f}, and mo() knows the steps of the table that was fitted, "
            f"from {low} to {high}."
        )
    return numbers.astype(np.int64) - low, tuple(range(low + 1, high + 1))


def _check_number(text: str, name: str, steps: float) -> None:
    """Refuse more steps than a table can tell of."""
    if steps > _STEPS:
        raise InputError(
            f"formula '{text}': mo({name}) would have {steps:.0f} steps, and has {_STEPS} at most; write s({name}), or "
            "make classes of it, with pandas.cut."
        )
