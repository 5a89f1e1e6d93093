"""A checked table of trials: finite, coded, nothing missing; every refusal names rows and remedy."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.data.design import Cells, Label, find_cells, is_categorical, labels, ordered_levels, sort_values
from hddm_sbi.errors import InputError, did_you_mean, name_rows
from hddm_sbi.simulation import Outcome, Simulator
from hddm_sbi.types import Array, Index

#: seconds; a longer response time can only be milliseconds.
_LONGEST_RT = 60.0
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
    explained = [column for column in names if column in predictors]
    if explained:
        raise InputError(f"{explained[0]!r} is what the model explains; it cannot be a predictor in a formula.")
    frame = check_columns(data, [*names, *predictors])
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
            f"column {outcome.name!r} must be {outcome.expected}; got {column.tolist()[wrong[0]]!r} in {_rows(wrong)}: "
            "correct it, or take out those rows."
        )
    return numbers


def check_columns(data: pd.DataFrame, used: Sequence[str]) -> pd.DataFrame:
    """The columns of a table that are used, each there once and complete, with index 0 ... n-1.

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
        _check_column(data, column)
    return data[[column for column in data.columns if column in used]].reset_index(drop=True)


def check_codes(trials: Trials, column: str, codes: tuple[float, float]) -> Array:
    """A condition that the simulator receives, (n,): a column that holds its two codes.

    Raises InputError with the positions of the rows (0 = first) that hold anything else.
    """
    values = pd.to_numeric(trials.frame[column], errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isin(values, codes))
    if wrong.size:
        raise InputError(
            f"column {column!r} is a condition of the model and must be {codes[1]:+g} or {codes[0]:+g}; got "
            f"{trials.frame[column].iloc[wrong[0]]!r} in {name_rows(wrong.tolist())} (0 = first); recode it."
        )
    return values


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table by its suffix: .csv, .tsv, .parquet or .feather. Raises InputError where it cannot be read."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"there is no file {str(path)!r}; check the path.")
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; give a file of trials.")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path.name!r} has an unknown suffix; expected one of {', '.join(_READERS)}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path.name!r} is empty; expected a table with one row per trial.")
    try:
        return reader(path)
    except InputError:
        raise
    except ImportError:
        raise InputError(
            f"reading {path.name!r} needs pyarrow: pip install pyarrow, or save the table as .csv."
        ) from None
    except Exception as error:
        problem = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path.name!r} cannot be read as {path.suffix.lower()[1:]} ({problem}); save it again, "
            "or as .csv in UTF-8."
        ) from None


def _read_text(path: Path, separator: str) -> pd.DataFrame:
    # pandas renames a repeated column to `rt.1` without a word, so the header is read first.
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file, delimiter=separator), [])
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(
            f"{path.name!r}: column names must be unique; {', '.join(map(repr, twice))} occurs more than once."
        )
    other = next((mark for mark in ";\t," if len(header) == 1 and mark != separator and mark in header[0]), None)
    if other is not None:
        raise InputError(
            f"{path.name!r} has one column, {header[0]!r}: it is separated by {other!r}, expected {separator!r}; "
            "save it as comma-separated .csv or tab-separated .tsv."
        )
    return pd.read_csv(path, sep=separator, encoding="utf-8-sig")


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda path: _read_text(path, ","),
    ".tsv": lambda path: _read_text(path, "\t"),
    ".parquet": pd.read_parquet,
    ".feather": pd.read_feather,
}


def _check_column(data: pd.DataFrame, column: str) -> None:
    """Raise InputError where a column is absent, has missing values, or is infinite somewhere."""
    if column not in data.columns:
        names = [str(name) for name in data.columns]
        raise InputError(
            f"the data have no column {column!r}{did_you_mean(str(column), names)} Columns: {', '.join(names)}."
        )
    values = data[column]
    missing = np.flatnonzero(values.isna())
    if missing.size:
        raise InputError(
            f"column {column!r} has missing values in {_rows(missing)}; fill them in or leave out those rows."
        )
    if pd.api.types.is_float_dtype(values.dtype):
        infinite = np.flatnonzero(np.isinf(values.to_numpy(dtype=np.float64)))
        if infinite.size:
            raise InputError(f"column {column!r} is infinite in {_rows(infinite)}; every value must be finite.")


def _seconds(values: pd.Series[Any], column: str) -> Array:
    if pd.api.types.is_bool_dtype(values.dtype) or not pd.api.types.is_numeric_dtype(values.dtype):
        wrong = np.flatnonzero(pd.to_numeric(values.astype(object), errors="coerce").isna())
        found = f"{str(values.iloc[wrong[0]])!r} in {_rows(wrong)}; correct" if wrong.size else "convert"
        raise InputError(
            f"column {column!r} must be numbers, in seconds; got {values.dtype}: {found} it, with pandas.to_numeric."
        )
    seconds = values.to_numpy(dtype=np.float64)
    negative = np.flatnonzero(seconds <= 0)
    if negative.size:
        raise InputError(
            f"column {column!r} must be positive, in seconds; it is zero or negative in {_rows(negative)}: take "
            "off the sign if it codes the choice. Trials without a response cannot be used yet, and leaving out those "
            "that a deadline cut off biases the estimates."
        )
    long = np.flatnonzero(seconds > _LONGEST_RT)
    if long.size:
        raise InputError(
            f"column {column!r} holds {long.size} {'value' if long.size == 1 else 'values'} above {_LONGEST_RT:g}, in "
            f"{_rows(long)}; {column} must be in seconds: divide milliseconds by 1000."
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
    if len(choices) != 2:
        raise InputError(
            f"upper= is for models with two choices; this one has {len(choices)}: code {column!r} {choices}."
        )
    occurring = _occurring(values)
    if len(occurring) > 2:
        raise InputError(
            f"upper={upper!r} needs a column {column!r} with two values; it has {_listed(occurring)}. "
            "Take out the trials that are neither."
        )
    is_upper = values.astype(object).to_numpy() == upper
    if not np.any(is_upper):
        raise InputError(f"upper={upper!r} does not occur in column {column!r}; it holds {_listed(occurring)}.")
    return is_upper.astype(np.int64)


def _outside_coding(values: pd.Series[Any], choices: tuple[int, ...], column: str, wrong: Index) -> str:
    occurring = _occurring(values)
    where = f"got {values.iloc[wrong[:1]].tolist()[0]!r} in {_rows(wrong)}; the column holds {_listed(occurring)}."
    if len(choices) != 2:
        return f"column {column!r} must be one of {', '.join(map(str, choices))}; {where}"
    expected = f"column {column!r} must be {max(choices):+d} (upper bound) or {min(choices):+d} (lower bound); {where}"
    if len(occurring) > 2:
        return f"{expected} Recode it, or take out the trials that are neither."
    if {str(value) for value in occurring} <= {"0", "1", "0.0", "1.0", "False", "True"}:
        return f"{expected} Say which value is the upper bound: upper={occurring[-1]!r}."
    return f"{expected} Say which value is the upper bound: {' or '.join(f'upper={value!r}' for value in occurring)}."


def _occurring(values: pd.Series[Any]) -> list[Any]:
    """Values that occur, as plain Python objects, sorted."""
    return sort_values(values.unique().tolist())


def _listed(values: list[Any]) -> str:
    rest = len(values) - _VALUES_SHOWN
    return ", ".join(map(repr, values[:_VALUES_SHOWN])) + (f" and {rest} more" if rest > 0 else "")


def _rows(rows: Index) -> str:
    return f"{name_rows(rows.tolist())} (0 = first)"
