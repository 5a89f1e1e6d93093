"""A formula's linear predictor as matrices: terms, group factors, cells, and whether they can be estimated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.errors import InputError
from hddm_sbi.types import Array, Index
from hddm_sbi.types import Label as Label

#: a column whose part outside the columns before it is shorter than this, relative to its length, is their combination;
#: rounding leaves 1e-15, the least separable real predictor (a Unix time within one hour) 1e-7.
_ALIASED = 1e-10


@dataclass(frozen=True)
class Term:
    """One term of a linear predictor.

    name: as in the formula: "Intercept" ("1" inside a group term), "condition", "condition:x", "scale(x)".
    levels: labels of the coefficients; None for one scalar coefficient. matrix: (n_cells, k).
    """

    name: str
    levels: tuple[Label, ...] | None
    matrix: Array

    @property
    def columns(self) -> tuple[str, ...]:
        """Labels of the columns: `x`, `condition[hard]`."""
        return (self.name,) if self.levels is None else tuple(f"{self.name}[{level}]" for level in self.levels)


@dataclass(frozen=True)
class By:
    """Parts of a factor's levels, each with standard deviations and correlations of its own: gr(subject, by=group).

    column: that tells them apart. levels: of it. index: (levels of the factor,) the part of each, position in `levels`.
    """

    column: str
    levels: tuple[Label, ...]
    index: Index

    @property
    def parts(self) -> tuple[Index, ...]:
        """Positions of the factor's levels in every part."""
        return tuple(np.flatnonzero(self.index == part) for part in range(len(self.levels)))


@dataclass(frozen=True)
class GroupTerm:
    """(terms | factor): each level of the factor has its own deviation for every column of the terms.

    factor: "subject", "subject:session". levels: of the factor. index: (n_cells,) position of each cell in levels.
    correlated: whether the deviations of one level are correlated, as lme4 does for `|` and does not for `||`.
    tag: with those of all terms of that tag, also of other parameters; "" for those of this term alone.
    """

    factor: str
    levels: tuple[Label, ...]
    index: Index
    terms: tuple[Term, ...]
    correlated: bool
    tag: str = ""
    by: By | None = None


@dataclass(frozen=True)
class Design:
    """A linear predictor on the cells: eta = sum of common terms + sum of group terms.

    parameters: that it is the predictor of. Where these are several, of the accumulators of a race, it has a row for
    every cell of the first, then of the second, and so on. offset: what is added as it is, a number per row; None for
    nothing. along: covariates of sequences; the parameters are then those at 0 of all covariates, followed by the same
    where each of them is 1 (`at_one`), all of them before the link: between these, the predictor is a straight line.
    """

    parameter: str
    parameters: tuple[str, ...]
    formula: str
    common: tuple[Term, ...]
    groups: tuple[GroupTerm, ...]
    offset: Array | None = None
    along: tuple[str, ...] = ()


def at_one(parameter: str, covariate: str) -> str:
    """A parameter's name where a covariate of sequences is 1 and the others are 0; its own where all are.

    >>> at_one("v", "dq"), at_one("v", "")
    ('v where dq is 1', 'v')
    """
    return f"{parameter} where {covariate} is 1" if covariate else parameter


@dataclass(frozen=True)
class Cells:
    """Trials that share the value of every predictor share theta: they are one cell.

    of_trial: the cell of each trial, (n_trials,). first: the first trial of each cell, (n_cells,).
    """

    of_trial: Index
    first: Index

    def __len__(self) -> int:
        return len(self.first)

    def repeated(self, n: int) -> Cells:
        """Cells of n copies of the table, one below the other.

        >>> Cells(np.array([0, 1, 0]), np.array([0, 1])).repeated(2)
        Cells(of_trial=array([0, 1, 0, 2, 3, 2]), first=array([0, 1, 3, 4]))
        """
        copies, n_trials = np.arange(n)[:, np.newaxis], len(self.of_trial)
        return Cells((copies * len(self) + self.of_trial).ravel(), (copies * n_trials + self.first).ravel())


def find_cells(data: pd.DataFrame, columns: Sequence[str]) -> Cells:
    """Cells of a table by these columns, in order of first appearance.

    >>> find_cells(pd.DataFrame({"x": ["b", "a", "b"]}), ["x"])
    Cells(of_trial=array([0, 1, 0]), first=array([0, 1]))
    """
    if not columns:
        return Cells(np.zeros(len(data), dtype=np.int64), np.zeros(1, dtype=np.int64))
    groups = data.groupby(list(columns), sort=False, observed=True, dropna=False)
    cell = np.array(groups.ngroup(), dtype=np.int64)
    new = np.diff(np.maximum.accumulate(cell), prepend=-1) > 0
    return Cells(cell, np.flatnonzero(new))


def ordered_levels(column: pd.Series[Any]) -> pd.Categorical:
    """A column as an ordered categorical of the values that occur, in the order of its dtype or else sorted.

    >>> ordered_levels(pd.Series(["b", "a", "b"])).categories.tolist()
    ['a', 'b']
    >>> ordered_levels(pd.Series(pd.Categorical(["b", "a"], categories=["c", "b", "a"]))).categories.tolist()
    ['b', 'a']
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        ordered = pd.Categorical(column).remove_unused_categories().as_ordered()
    else:
        ordered = pd.Categorical(column, categories=sort_values(column.unique().tolist()), ordered=True)
    labels = [str(level) for level in ordered.categories]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise InputError(
            f"column {str(column.name)!r} has two different values that are written {twice!r} (a number and a text?); "
            "give the column one type."
        )
    return ordered


def is_categorical(column: pd.Series[Any]) -> bool:
    """Whether a column is categorical unless a formula says otherwise: text, true and false, or pandas' own."""
    return pd.api.types.is_bool_dtype(column.dtype) or not pd.api.types.is_numeric_dtype(column.dtype)


def sort_values(values: list[Any]) -> list[Any]:
    """Values in their own order, or as text where they are of several types.

    >>> sort_values([10, 2]), sort_values(["b", 10, 2])
    ([2, 10], [10, 2, 'b'])
    """
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=str)


def labels(levels: Iterable[Any]) -> tuple[Label, ...]:
    """Levels as they are where all are numbers, or all true and false; as text otherwise.

    >>> labels([3, 205]), labels([np.True_]), labels([3, "b"])
    ((3, 205), (True,), ('3', 'b'))
    """
    plain = [level.item() if isinstance(level, np.generic) else level for level in levels]
    kept = next((kind for kind in (bool, int, float) if all(type(level) is kind for level in plain)), None)
    fits = kept is not int or all(abs(level) < 2**63 for level in plain)
    return tuple(plain) if kept is not None and fits else tuple(map(str, plain))


def in_files(name: str) -> str:
    """A name as files can hold it: netCDF keeps `/` for itself, so names have the division slash U+2215 instead.

    >>> in_files("v_I(age / 10)") == "v_I(age \\u2215 10)"
    True
    """
    return name.replace("/", "\u2215")


def group_levels(cells: pd.DataFrame, columns: Sequence[str], fewest: int = 2) -> tuple[tuple[Label, ...], Index]:
    """Levels of a grouping factor that occur, and each cell's position in them (n_cells,).

    cells: one row per cell. columns: several for an interaction, whose levels are joined by a colon. fewest: levels
    that there must be.

    >>> group_levels(pd.DataFrame({"s": [205, 3, 3]}), ["s"])
    ((3, 205), array([1, 0, 0]))
    >>> group_levels(pd.DataFrame({"s": [2, 10, 10], "day": ["b", "a", "b"]}), ["s", "day"])
    (('2:b', '10:a', '10:b'), array([0, 1, 2]))
    """
    factors = [ordered_levels(cells[column]) for column in columns]
    sizes = [len(factor.categories) for factor in factors]
    combined = np.ravel_multi_index(tuple(np.asarray(factor.codes, dtype=np.int64) for factor in factors), sizes)
    occurring, index = np.unique(combined, return_inverse=True)
    codes = zip(*np.unravel_index(occurring, sizes), strict=True)
    names = [labels(factor.categories) for factor in factors]
    rows = [tuple(of[code] for of, code in zip(names, row, strict=True)) for row in codes]
    levels = tuple(row[0] if len(row) == 1 else ":".join(map(str, row)) for row in rows)
    name = ":".join(columns)
    if len(levels) < fewest:
        raise InputError(
            f"grouping factor {name!r} has one level, {levels[0]!r}: a group needs at least two levels to have a "
            "variance; leave the group term out."
        )
    return levels, index.reshape(-1).astype(np.int64)


def check_estimable(formula: str, terms: Sequence[Term]) -> None:
    """Refuse common terms whose columns are linear combinations of the columns before them; name those columns."""
    names = [name for term in terms for name in term.columns]
    if not names:
        return
    X = np.concatenate([term.matrix for term in terms], axis=1)
    length = np.linalg.norm(X, axis=0)
    if (length == 0).any():
        raise InputError(
            f"formula '{formula}': column {names[int(np.argmin(length))]!r} is zero in every trial (a combination of "
            "levels without trials?); leave the term out or merge levels."
        )
    R: Any = np.linalg.qr(X / length, mode="r")
    outside = np.abs(np.diagonal(R))
    aliased = np.flatnonzero(outside < _ALIASED)
    if not aliased.size and len(outside) == len(names):
        return
    j = int(aliased[0]) if aliased.size else len(outside)
    weights = np.linalg.solve(R[:j, :j], R[:j, j])
    partners = [name for name, weight in zip(names, weights, strict=False) if abs(weight) > _ALIASED**0.5]
    raise InputError(
        f"formula '{formula}': column {names[j]!r} is a linear combination of {', '.join(map(repr, partners))}, so "
        "their coefficients cannot be told apart; leave one of them out."
    )
