"""A checked table of trials: finite, coded, nothing missing; every refusal names rows and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.data.columns import OMISSION, at_rows, check_columns, is_hashable
from hddm_sbi.data.design import Cells, Label, find_cells, is_categorical, labels, ordered_levels, sort_values
from hddm_sbi.errors import InputError
from hddm_sbi.simulation import Outcome, Simulator
from hddm_sbi.types import Array, Index

#: seconds; a longer response time can only be milliseconds.
_LONGEST_RT = 60.0
#: seconds; a shorter one is rounding, or a mark for none.
_SHORTEST_RT = 1e-9
_VALUES_SHOWN = 8


@dataclass(frozen=True)
class Trials:
    """Trials that passed every check, in the caller's order.

    values: (n, k) float64, one column for each outcome of the model; categories by their position.
    frame: the columns that are used, as the caller gave them, with index 0 ... n-1.
    outcomes: names of the outcomes in the table, in the order of `values`. predictors: of its other columns, in the
    order of first use. cells: trials that share every predictor.
    """

    values: Array
    frame: pd.DataFrame
    outcomes: tuple[str, ...]
    predictors: tuple[str, ...]
    cells: Cells

    @property
    def levels(self) -> dict[str, tuple[Label, ...]]:
        """Levels, in order, of every predictor that is categorical."""
        columns = {name: self.frame[name] for name in self.predictors if is_categorical(self.frame[name])}
        return {str(name): labels(ordered_levels(column).categories) for name, column in columns.items()}

    @property
    def rt(self) -> Array:
        """Response times of a decision model, (n,) seconds."""
        return self.values[:, 0]

    @property
    def choice(self) -> Index:
        """Responses of a decision model as positions in its `choices`, (n,)."""
        return self.values[:, 1].astype(np.int64)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Trials({len(self)}: {' '.join(map(str, self.frame.columns))})"


def check_table(
    data: pd.DataFrame,
    simulator: Simulator,
    predictors: Sequence[str] = (),
    *,
    rt: str = "rt",
    response: str = "response",
    upper: object = None,
) -> Trials:
    """Check a table of what a simulator produces; rows are never removed.

    data: one row per trial, a column for each outcome. predictors: further columns that must be complete. rt, response:
    names of these columns. upper: which response value is the upper bound, if not coded +1 and -1.
    Raises InputError for anything that cannot be used, with the positions of the rows (0 = first).

    >>> from hddm_sbi.simulation import declare
    >>> cookies = declare({"rate": (0.5, 20)}, {"chips": "count"})(lambda rate, rng: rng.poisson(rate))
    >>> check_table(pd.DataFrame({"chips": [8, 12]}), cookies).values
    array([[ 8.],
           [12.]])
    """
    outcomes = simulator.outcomes
    names = (rt, response) if simulator.is_decision_model else tuple(outcome.name for outcome in outcomes)
    if not (is_hashable(rt) and is_hashable(response)):
        raise InputError(f"the data have no column {rt if not is_hashable(rt) else response!r}; give the name of one.")
    explained = [column for column in names if column in predictors]
    if explained:
        raise InputError(f"{explained[0]!r} is what the model explains; it cannot be a predictor in a formula.")
    frame = check_columns(data, [*names, *predictors], names if simulator.is_decision_model else ())
    if simulator.is_decision_model:
        columns = [_seconds(frame[rt], rt), _choices(frame[response], simulator.choices, response, upper)]
    else:
        for name, value, default in (("rt", rt, "rt"), ("response", response, "response"), ("upper", upper, None)):
            if value != default:
                raise InputError(
                    f"{name}={value!r} is for models of rt and response; {simulator.name!r} has the outcomes "
                    f"{', '.join(names)}: leave it out."
                )
        columns = [_numbers(frame[outcome.name], outcome) for outcome in outcomes]
    return Trials(np.stack(columns, -1), frame, names, tuple(predictors), find_cells(frame, predictors))


def _numbers(column: pd.Series[Any], outcome: Outcome) -> Array:
    numbers = outcome.numbers(column.to_numpy())
    wrong = np.flatnonzero(~outcome.allows(numbers))
    if wrong.size:
        raise InputError(
            f"column {outcome.name!r} must be {outcome.expected}; got {column.tolist()[wrong[0]]!r} in "
            f"{at_rows(wrong)}: correct it, or take out those rows."
        )
    return numbers


def check_codes(trials: Trials, column: str, codes: tuple[float, float]) -> Array:
    """A condition that the simulator receives, (n,): a column that holds its two codes.

    Raises InputError with the positions of the rows (0 = first) that hold anything else.
    """
    values = pd.to_numeric(trials.frame[column], errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isin(values, codes))
    if wrong.size:
        raise InputError(
            f"column {column!r} is a condition of the model and must be {codes[1]:+g} or {codes[0]:+g}; got "
            f"{trials.frame[column].iloc[wrong[0]]!r} in {at_rows(wrong)}; recode it."
        )
    return values


def _seconds(values: pd.Series[Any], column: str) -> Array:
    if pd.api.types.is_bool_dtype(values.dtype) or not pd.api.types.is_numeric_dtype(values.dtype):
        wrong = np.flatnonzero(pd.to_numeric(values.astype(object), errors="coerce").isna())
        found = f"{str(values.iloc[wrong[0]])!r} in {at_rows(wrong)}; correct" if wrong.size else "convert"
        raise InputError(
            f"column {column!r} must be numbers, in seconds; got {values.dtype}: {found} it, with pandas.to_numeric."
        )
    seconds = values.to_numpy(dtype=np.float64)
    negative = np.flatnonzero(seconds <= _SHORTEST_RT)
    if negative.size:
        raise InputError(
            f"column {column!r} must be positive, in seconds; it is zero or negative in {at_rows(negative)}: take "
            f"off the sign if it codes the choice. {OMISSION}"
        )
    long = np.flatnonzero(seconds > _LONGEST_RT)
    if long.size:
        raise InputError(
            f"column {column!r} holds {long.size} {'value' if long.size == 1 else 'values'} above {_LONGEST_RT:g}, in "
            f"{at_rows(long)}; {column} must be in seconds: divide milliseconds by 1000."
        )
    return seconds


def _choices(values: pd.Series[Any], choices: tuple[int, ...], column: str, upper: object) -> Index:
    """Position of each response in `choices`."""
    if upper is not None:
        return _coded_by_upper(values, choices, column, upper)
    # A boolean is not a code: True would pass for +1 and False for nothing.
    number = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    codes = values.to_numpy(dtype=np.float64) if number else np.full(len(values), np.nan)
    position = Outcome(column, "categorical", choices).numbers(codes)
    wrong = np.flatnonzero(np.isnan(position))
    if wrong.size:
        raise InputError(_outside_coding(values, choices, column, wrong))
    return position.astype(np.int64)


def _coded_by_upper(values: pd.Series[Any], choices: tuple[int, ...], column: str, upper: object) -> Index:
    if not is_hashable(upper) or isinstance(upper, tuple):
        raise InputError(f"upper must be one value of column {column!r}; got {upper!r}.")
    if len(choices) != 2:
        raise InputError(
            f"upper= is for models with two choices; this one has {len(choices)}: code {column!r} {choices}."
        )
    occurring = _occurring(values)
    if len(occurring) > 2:
        raise InputError(
            f"upper={upper!r} needs a column {column!r} with two values; it has {_listed(occurring)}. "
            f"Recode the others. {OMISSION}"
        )
    is_upper = values.astype(object).to_numpy() == upper
    if not np.any(is_upper):
        raise InputError(f"upper={upper!r} does not occur in column {column!r}; it holds {_listed(occurring)}.")
    return is_upper.astype(np.int64)


def _outside_coding(values: pd.Series[Any], choices: tuple[int, ...], column: str, wrong: Index) -> str:
    occurring = _occurring(values)
    where = f"got {values.iloc[wrong[:1]].tolist()[0]!r} in {at_rows(wrong)}; the column holds {_listed(occurring)}."
    if len(choices) != 2:
        codes = dict(zip(occurring, choices, strict=False))
        recode = f" Recode it, for instance by .map({codes})." if len(occurring) == len(choices) else ""
        return f"column {column!r} must be one of {', '.join(map(str, choices))}; {where}{recode}"
    expected = f"column {column!r} must be {max(choices):+d} (upper bound) or {min(choices):+d} (lower bound); {where}"
    if len(occurring) > 2:
        return f"{expected} Recode it. {OMISSION}"
    if {str(value) for value in occurring} <= {"0", "1", "0.0", "1.0", "False", "True"}:
        return f"{expected} Say which value is the upper bound: upper={occurring[-1]!r}."
    return f"{expected} Say which value is the upper bound: {' or '.join(f'upper={value!r}' for value in occurring)}."


def _occurring(values: pd.Series[Any]) -> list[Any]:
    """Values that occur, as plain Python objects, sorted."""
    return sort_values(values.unique().tolist())


def _listed(values: list[Any]) -> str:
    rest = len(values) - _VALUES_SHOWN
    return ", ".join(map(repr, values[:_VALUES_SHOWN])) + (f" and {rest} more" if rest > 0 else "")
