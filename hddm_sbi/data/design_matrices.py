"""Parsed formulas -> designs: one linear predictor per parameter, or for those of all accumulators, on the cells."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hddm_sbi.data.accumulators import Accumulators
from hddm_sbi.data.design import (
    By,
    Cells,
    Design,
    GroupTerm,
    Label,
    Term,
    at_one,
    check_estimable,
    group_levels,
    in_files,
    is_categorical,
    labels,
    ordered_levels,
)
from hddm_sbi.data.formula import columns_used
from hddm_sbi.data.formulae_parts import Environment, Model
from hddm_sbi.data.functions import LEVELS, NAMESPACE
from hddm_sbi.data.monotonic import MonotonicTerm, monotonic_columns
from hddm_sbi.data.smooths import SMOOTH_TERMS
from hddm_sbi.data.special_terms import MONOTONIC, OFFSET, called_by
from hddm_sbi.data.syntax import Formula, is_intercept
from hddm_sbi.errors import InputError, name_rows
from hddm_sbi.types import Array

#: a factor may have so many levels, however short the table.
_FEW_LEVELS = 20


@dataclass(frozen=True)
class Coding:
    """The table that was fitted, with its accumulators: it says how the columns of a new table are coded."""

    frame: pd.DataFrame
    accumulators: Accumulators | None = None


@dataclass(frozen=True)
class _Rows:
    """The rows on which a formula is evaluated: the trials, or several copies of them.

    table: prepared columns. copies: of the trials, one below the other. cells: rows that share every predictor.
    coded_by: prepared columns of the table whose levels and values code this one; itself, unless it is a new one.
    """

    table: pd.DataFrame
    copies: int
    cells: Cells
    coded_by: pd.DataFrame

    @classmethod
    def of(
        cls,
        data: pd.DataFrame,
        formula: Formula,
        columns: Sequence[str],
        cells: Cells,
        own: Accumulators | None,
        coding: Coding | None,
    ) -> _Rows:
        """Those of one formula: the trials once per accumulator, where it is that of all; all that with every covariate
        of sequences at 0, and then with each of them at 1."""
        together = len(formula.parameters) > 1
        table = _prepared(data, columns, own if together else None, formula.along)
        coded_by = table
        if coding is not None:
            coded_by = _prepared(coding.frame, columns, coding.accumulators if together else None, formula.along)
        copies = len(formula.parameters) * (1 + len(formula.along))
        return cls(table, copies, cells if copies == 1 else cells.repeated(copies), coded_by)

    @property
    def new(self) -> bool:
        """Whether another table codes this one."""
        return self.coded_by is not self.table

    def data(self, term: Any) -> NDArray[Any]:
        """The columns of a term that is evaluated, (n_rows, k)."""
        columns = term.eval_new_data(self.table) if self.new else term.data
        return np.asarray(columns).reshape(len(self.table), -1)

    def of_trials(self, rows: NDArray[Any]) -> list[int]:
        """The trials of these rows."""
        return sorted({int(row) % (len(self.table) // self.copies) for row in rows})


def build_designs(
    formulas: Mapping[str, Formula | float],
    data: pd.DataFrame,
    cells: Cells,
    accumulators: Accumulators | None = None,
    coding: Coding | None = None,
) -> dict[str, Design]:
    """Design of every formula.

    data: the columns that are used, as `check_columns` returns them. cells: trials that share all of them.
    accumulators: of a race; a formula of all of them is evaluated on the trials once per accumulator. coding: of the
    table that was fitted, where this one is new.

    Transforms such as scale() and poly() see all trials; their columns are then kept once per cell. A string, boolean
    or categorical column is categorical (the levels that occur, in the order of its dtype or else sorted; the first is
    the reference), a numeric one is numeric unless in C(); a grouping factor is always categorical.
    Raises InputError for a factor with one level, a transform that gives NaN or infinity, and columns that cannot be
    told apart.

    >>> from hddm_sbi.data.design import find_cells
    >>> from hddm_sbi.data.syntax import parse
    >>> data = pd.DataFrame({"condition": ["easy", "hard", "easy"]})
    >>> designs = build_designs({"v": parse("v", "condition"), "z": 0.5}, data, find_cells(data, ["condition"]))
    >>> [(term.name, term.levels, term.matrix.tolist()) for term in designs["v"].common]
    [('Intercept', None, [[1.0], [1.0]]), ('condition', ('hard',), [[0.0], [1.0]])]
    """
    columns = columns_used(formulas)
    _check_lengths(formulas, data)
    once = data[list(columns)].iloc[cells.first]
    rows: dict[tuple[int, tuple[str, ...]], _Rows] = {}
    designs = {}
    for name, formula in ((name, f) for name, f in formulas.items() if isinstance(f, Formula)):
        kind = len(formula.parameters), formula.along
        if kind not in rows:
            rows[kind] = _Rows.of(data, formula, columns, cells, accumulators, coding)
        designs[name] = _design(formula, rows[kind], once)
    _check_tagged(designs)
    return designs


def _prepared(
    data: pd.DataFrame, columns: Sequence[str], own: Accumulators | None, along: tuple[str, ...]
) -> pd.DataFrame:
    """Columns as formulae reads them; once per accumulator, with their columns; all that with every covariate of
    sequences at 0, and then with each of them at 1."""
    table = pd.DataFrame({column: _predictor(data[column]) for column in columns}, index=range(len(data)))
    if own is not None:
        copies = pd.concat([table] * len(own.responses), ignore_index=True)
        table = copies.assign(**own.columns(len(table)))
    blocks = [table.assign(**{name: float(name == covariate) for name in along}) for covariate in ("", *along)]
    return pd.concat(blocks, ignore_index=True) if along else table


def _check_tagged(designs: Mapping[str, Design]) -> None:
    """Refuse a tag of a single effect."""
    tagged = [(d, g) for d in designs.values() for g in d.groups if g.tag]
    for design, group in tagged:
        alike = [g for _, g in tagged if (g.tag, g.factor) == (group.tag, group.factor)]
        if sum(term.matrix.shape[1] for g in alike for term in g.terms) == 1:
            raise InputError(
                f"formula '{design.parameter} ~ {design.formula}': {group.terms[0].name}|{group.factor} is the only "
                f"effect of the tag {group.tag!r}, so there is nothing that it could be correlated with; give a term "
                f"of another parameter the tag too, as in (1|{group.tag}|{group.factor}), or leave the tag out."
            )


def _check_lengths(formulas: Mapping[str, Formula | float], data: pd.DataFrame) -> None:
    """Refuse a factor with nearly as many levels as there are trials: most likely it is not meant as one. mo() of
    numbers counts its steps itself."""
    for formula in (f for f in formulas.values() if isinstance(f, Formula)):
        counted = monotonic_columns(formula.rhs)
        for column, scope in formula.scope.items():
            factor = is_categorical(data[column]) or (scope == LEVELS and column not in counted)
            n = data[column].nunique() if factor else 0
            if n > max(_FEW_LEVELS, len(data) / 2):
                raise InputError(
                    f"formula '{formula}': column {column!r} is a factor with {n} levels in {len(data)} trials; "
                    "expected several trials of each. If it holds numbers, convert it with pandas.to_numeric; if it "
                    f"names subjects or items, write a group term, (1|{column})."
                )


def _predictor(column: pd.Series[Any]) -> Any:
    """A column as formulae reads it right: a plain numeric array, or an ordered categorical."""
    if is_categorical(column):
        return ordered_levels(column)
    whole = pd.api.types.is_integer_dtype(column.dtype)
    return column.to_numpy(dtype=np.int64 if whole else np.float64)


def _design(formula: Formula, rows: _Rows, once: pd.DataFrame) -> Design:
    """The terms of a formula. once: the caller's columns of every cell."""
    common, offset = _with_special(formula, _terms(formula, formula.common, rows), rows, once)
    if not rows.new:
        check_estimable(str(formula), common)
    groups = []
    for bar in formula.bars:
        effects = _terms(formula, bar.effects, rows)
        terms = tuple(Term("1", None, t.matrix) if t.name == "Intercept" else t for t in effects)
        if not terms:
            raise InputError(f"formula '{formula}': a group term has no effect; write (1|subject).")
        correlated = bar.correlated and sum(term.matrix.shape[1] for term in terms) > 1
        for columns in bar.factors:
            levels, index = group_levels(once, columns, fewest=1 if rows.new else 2)
            by = _by(formula, bar.by, columns, once, rows) if bar.by else None
            name, on_rows = in_files(":".join(columns)), np.tile(index, rows.copies)
            groups.append(GroupTerm(name, levels, on_rows, terms, correlated or bool(bar.tag), bar.tag, by))
    names = [f"{term.name}|{group.factor}" for group in groups for term in group.terms]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"formula '{formula}': the group effect {twice} occurs twice; keep one. A slope without its "
            "intercept is written (0 + x|subject)."
        )
    parameters = tuple(at_one(name, covariate) for covariate in ("", *formula.along) for name in formula.parameters)
    return Design(formula.parameter, parameters, formula.rhs, common, tuple(groups), offset, formula.along)


def _with_special(
    formula: Formula, terms: tuple[Term, ...], rows: _Rows, once: pd.DataFrame
) -> tuple[tuple[Term, ...], Array | None]:
    """The common terms with those of mo() and s() after them, and the sum of all offset() on the rows."""
    offsets, added = [], list[Term]()
    for term in formula.special:
        function, name = called_by(term), in_files(term.name)
        if function == MONOTONIC:
            coded_by = rows.coded_by if rows.new else once
            added.append(MonotonicTerm.of(str(formula), name, term.components[0], once, rows.copies, coded_by))
            continue
        model = Model(deepcopy(term))
        (columns,) = _evaluate(formula, model, rows)
        columns = columns.astype(np.float64)
        _check_values(formula, term.name, columns, rows)
        columns = np.ascontiguousarray(columns[rows.cells.first])
        if function == OFFSET:
            offsets.append(columns[:, 0])
        else:
            added.append(SMOOTH_TERMS[function](name, columns))
    return (*terms, *added), sum(offsets[1:], start=offsets[0]) if offsets else None


def _by(formula: Formula, column: str, factor: tuple[str, ...], once: pd.DataFrame, rows: _Rows) -> By:
    """The parts of a factor's levels that have standard deviations of their own. Refuses a level that is in two."""
    if once[column].nunique() == 1 and not rows.new:
        raise InputError(
            f"formula '{formula}': by={column} has one level, {labels(once[column])[0]!r}, so there is nothing by "
            "which standard deviations could differ; leave by= out, or is a group missing from the data?"
        )
    levels, of_cell = group_levels(once, factor, fewest=1)
    parts, part = group_levels(once, (column,), fewest=1)
    first = np.unique(of_cell, return_index=True)[1]
    wrong = np.flatnonzero(part != part[first][of_cell])
    if wrong.size:
        name, level = ":".join(factor), of_cell[wrong[0]]
        of_trial = rows.cells.of_trial[: len(rows.cells.of_trial) // rows.copies]
        there = np.flatnonzero(of_cell[of_trial] == level)
        usual = np.bincount(part[of_trial[there]]).argmax()
        others = there[part[of_trial[there]] != usual]
        raise InputError(
            f"formula '{formula}': {name} {levels[level]!r} has {column!r} {parts[usual]!r}, and another in "
            f"{name_rows(others.tolist())} (0 = first); by= needs a column with one value for every {name}, as a group "
            "of subjects is."
        )
    if len(levels) == len(parts) and not rows.new:
        raise InputError(
            f"formula '{formula}': by={column} has another level for every {':'.join(factor)}, and a standard "
            "deviation needs several of them: name the column of the groups that they belong to, or leave by= out."
        )
    return By(in_files(column), parts, part[first])


def _terms(formula: Formula, model: Any, rows: _Rows) -> tuple[Term, ...]:
    """Terms of a model, computed on all rows and kept once per cell."""
    model = deepcopy(model)
    terms = []
    for term, columns in zip(model.common_terms, _evaluate(formula, model, rows), strict=True):
        _check_levels(formula, term)
        _check_values(formula, term.name, columns, rows)
        matrix = np.ascontiguousarray(columns[rows.cells.first], dtype=np.float64)
        # A column may be called as the intercept is.
        name = "Intercept_" if term.name == "Intercept" and not is_intercept(term) else in_files(term.name)
        terms.append(Term(name, _levels(term, matrix.shape[1], rows.coded_by), matrix))
    _check_span(formula, model.common_terms, sum(term.matrix.shape[1] for term in terms))
    return tuple(terms)


def _evaluate(formula: Formula, model: Any, rows: _Rows) -> list[NDArray[Any]]:
    """The columns of every term, (n_rows, k)."""
    try:
        # formulae prints before it raises; numpy warns about log(-1), which _check_values reports with its rows.
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            model.eval(rows.coded_by, Environment([NAMESPACE]))
            return [rows.data(term) for term in model.common_terms]
    except Exception as error:
        for term in model.common_terms:
            _check_levels(formula, term)
        raise InputError(f"formula '{formula}' cannot be computed on these data: {str(error).rstrip('.')}.") from None


def _check_span(formula: Formula, terms: Sequence[Any], n_columns: int) -> None:
    """Refuse a design that lacks or repeats a part of what its terms mean.

    A term with factors S and numeric columns Q spans the sum over subsets T of S of spaces of dimension
    prod_{t in T} (levels_t - 1) * width(Q). formulae 0.9 drops some of them where an interaction of three factors is
    without its lower orders, and repeats one where x:y and y:x meet.
    """
    spaces: dict[tuple[frozenset[str], frozenset[str]], int] = {}
    for term in terms:
        components = getattr(term, "components", ())
        numeric = {c.name: math.prod(c.value.shape[1:]) for c in components if c.kind != "categoric"}
        factors = {c.name: len(c.levels) - 1 for c in components if c.kind == "categoric"}
        for size in range(len(factors) + 1):
            for chosen in itertools.combinations(factors, size):
                dimension = math.prod(factors[name] for name in chosen) * math.prod(numeric.values())
                spaces[frozenset(chosen), frozenset(numeric)] = dimension
    if n_columns != sum(spaces.values()):
        raise InputError(
            f"formula '{formula}': an interaction cannot be coded without its lower orders; write them out (a*b*c), "
            "or 0 + a:b:c for one coefficient per combination."
        )


def _check_levels(formula: Formula, term: Any) -> None:
    for component in getattr(term, "components", ()):
        if component.levels is not None and len(component.levels) < 2:
            raise InputError(
                f"formula '{formula}': {component.name!r} has one level, {str(component.levels[0])!r}, so it has no "
                "effect to estimate; leave it out, or is a condition missing from the data?"
            )


def _check_values(formula: Formula, name: str, columns: NDArray[Any], rows: _Rows) -> None:
    """columns: (n_rows, k), which must be finite and the same for all rows of a cell."""
    for column in columns.T:
        wrong = np.flatnonzero(~np.isfinite(column))
        if wrong.size:
            raise InputError(
                f"formula '{formula}': {name} is not a finite number in {name_rows(rows.of_trials(wrong))} (0 = "
                "first); transform the column so that every trial has one."
            )
        if not np.array_equal(column, column[rows.cells.first][rows.cells.of_trial]):
            raise InputError(
                f"formula '{formula}': {name} differs between trials with equal predictors, so it depends on the "
                "order of the rows; compute it as a column of the data."
            )


def _levels(term: Any, width: int, trials: pd.DataFrame) -> tuple[Label, ...] | None:
    """Labels of a term's columns: the values of its one factor, as the table has them, or text."""
    levels = getattr(term, "levels", None)
    if not levels:
        return None if width == 1 else tuple(str(position) for position in range(width))
    used = term.components[0].var_names & set(trials.columns) if len(term.components) == 1 else set()
    known = labels(ordered_levels(trials[min(used)]).categories) if len(used) == 1 else ()
    named, written = {str(label): label for label in known}, [str(level) for level in levels]
    return tuple(named[text] for text in written) if set(written) <= set(named) else tuple(written)
