"""A checked table of trials: in seconds, coded, what is missing accounted for; every refusal names rows and remedy."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hddm_sbi.data.accumulators import Accumulators
from hddm_sbi.data.columns import OMISSION, at_rows, check_columns, is_hashable
from hddm_sbi.data.design import Cells, Label, find_cells, is_categorical, labels, ordered_levels
from hddm_sbi.data.missing import Missing
from hddm_sbi.data.new_table import coded_as_fitted
from hddm_sbi.data.recoding import CONGRUENCY, by_accuracy, by_congruency
from hddm_sbi.data.responses import asked_for, positions, response_names
from hddm_sbi.errors import InputError, TableWarning
from hddm_sbi.simulation import Observation, Outcome, Simulator
from hddm_sbi.types import Array, Index

#: seconds; a longer median can only be milliseconds.
_LONGEST_MEDIAN = 60.0
#: a response time of more medians, or seconds, than this is an outlier; more than this share of them are none.
_OUTLIER, _MOST_OUTLIERS = 30.0, 0.05
#: what is said of a number that stands for no time.
_MARKED = (
    "If {mark:g} marks a missing time, put a missing value there: data[{column!r}].replace({mark:g}, float('nan'))."
)
#: seconds; a shorter one is rounding, or a mark for none.
_SHORTEST_RT = 1e-9
#: seconds that nobody waits for: marks for a missing time.
_MARKS = (999.0, 9999.0, 99999.0)


@dataclass(frozen=True)
class Trials:
    """Trials that passed every check, in the caller's order.

    values: (n, k) float64, one column for each outcome of the model; categories by their position. A missing rt or
    response is nan, and an rt beyond what could be measured infinite: `observation` says how they came to be so, None
    where every trial was seen whole.
    frame: the columns that are used, as the caller gave them, with index 0 ... n-1.
    outcomes: names of the outcomes in the table, in the order of `values`. predictors: of its other columns, in the
    order of first use. cells: trials that share every predictor. responses: the name of each choice in the table, where
    that is not the model's code.
    """

    values: Array
    frame: pd.DataFrame
    outcomes: tuple[str, ...]
    predictors: tuple[str, ...]
    cells: Cells
    responses: tuple[Any, ...] = ()
    observation: Observation | None = None

    @property
    def has_outcomes(self) -> bool:
        """Whether the table has them; a new one, for predictions, need not."""
        return set(self.outcomes) <= set(self.frame)

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
        """Responses of a decision model as positions in its `choices`, (n,); -1 where missing."""
        return np.where(np.isnan(self.values[:, 1]), -1, self.values[:, 1]).astype(np.int64)

    def accumulators(self, choices: tuple[int, ...], stimulus: str | None) -> Accumulators:
        """The accumulators of these choices; stimulus: the column that has the right response of each trial.

        Raises InputError for a stimulus that is no response.
        """
        asked = None if stimulus is None else asked_for(self.frame[stimulus], choices, self.responses)
        return Accumulators(self.responses or choices, asked)

    def labels(self, simulator: Simulator, values: Array) -> dict[str, NDArray[np.generic]]:
        """Outcomes (n, k) of the model as the columns that this table has for them, responses by their names here."""
        columns = dict(zip(self.outcomes, simulator.labels(values).values(), strict=True))
        if self.responses:
            missing = np.isnan(values[:, 1])
            named = pd.Series(self.responses).to_numpy()[np.where(missing, 0, values[:, 1]).astype(np.int64)]
            if missing.any():
                named = named.astype(object)
                named[missing] = None
            columns[self.outcomes[1]] = named
        return columns

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
    choices: Sequence[object] | None = None,
    correct: str | None = None,
    congruent: object = None,
    neutral: object = None,
    missing: Missing | None = None,
    beside: Sequence[str] = (),
    may_lack: Sequence[str] = (),
) -> Trials:
    """Check a table of what a simulator produces; rows are never removed.

    data: one row per trial, a column for each outcome. predictors: further columns that must be complete. rt, response:
    names of these columns. choices: the responses there, in the order of the model's choices, if they are not its
    codes. upper: of two, which is the upper bound. correct: the column that has the correct response of each trial;
    responses become "correct" and "error". congruent, neutral: the labels of such trials; the column `congruency`
    becomes +1, 0 and -1. missing: why an rt or a response may be. beside: columns that are no predictors, of sequences;
    may_lack: likewise, and something may be missing there.
    Raises InputError for anything that cannot be used, with the positions of the rows (0 = first).

    >>> from hddm_sbi.simulation import declare
    >>> cookies = declare({"rate": (0.5, 20)}, {"chips": "count"})(lambda rate, rng: rng.poisson(rate))
    >>> check_table(pd.DataFrame({"chips": [8, 12]}), cookies).values
    array([[ 8.],
           [12.]])
    """
    outcomes = simulator.outcomes
    names = (rt, response) if simulator.is_decision_model else tuple(outcome.name for outcome in outcomes)
    data = _recoded(data, simulator, response, correct, congruent, neutral)
    if not (is_hashable(rt) and is_hashable(response)):
        raise InputError(f"the data have no column {rt if not is_hashable(rt) else response!r}; give the name of one.")
    explained = [column for column in names if column in predictors]
    if explained:
        raise InputError(f"{explained[0]!r} is what the model explains; it cannot be a predictor in a formula.")
    missing = missing or Missing()
    decided = simulator.is_decision_model
    used = [*names, *predictors, *(limit for limit in missing.columns if limit not in predictors), *beside, *may_lack]
    whole = {*predictors, *beside} | ({*names} if not decided else set())
    open_to = [column for column in (*names, *missing.columns, *may_lack) if column not in whole]
    frame = check_columns(data, used, open_to)
    responses: tuple[Any, ...] = ()
    if decided:
        responses = response_names(frame[response], simulator.choices, upper, choices, correct)
    values, observation = _outcomes_in(frame, simulator, names, responses, missing)
    if decided:
        if not np.isfinite(values).all(1).any():
            raise InputError(f"no trial has both {rt!r} and {response!r}; a model needs some.")
    else:
        given = {"rt": rt, "response": response, "upper": upper, "choices": choices, **missing.facts}
        for name, value in given.items():
            if value is not None and not (isinstance(value, str) and value == name):
                raise InputError(
                    f"{name}={value!r} is for models of rt and response; {simulator.name!r} has the outcomes "
                    f"{', '.join(names)}: leave it out."
                )
    return Trials(values, frame, names, tuple(predictors), find_cells(frame, predictors), responses, observation)


def check_new_table(
    data: pd.DataFrame,
    simulator: Simulator,
    fitted: Trials,
    groups: tuple[str, ...],
    missing: Missing,
    beside: Sequence[str] = (),
    may_lack: Sequence[str] = (),
    brought: Sequence[str] = (),
) -> Trials:
    """Trials of a new table, with its outcomes where it has all of them and any value; else these are nan.

    fitted: of the model. groups: the predictors that are only grouping factors, which may have new levels; those of any
    other factor must be among the fitted ones. missing: why an rt or response may be, as it was fitted. beside,
    may_lack: columns of sequences, as in `check_table`. brought: those that follow from outcomes, and are there where
    these are.
    Raises InputError for a column that is not there, and for a value that the fitted table gives no meaning.
    """
    told = isinstance(data, pd.DataFrame) and set(fitted.outcomes) <= set(data.columns)
    told = told and bool(data[[*fitted.outcomes]].notna().to_numpy().any())
    used, whole = [*fitted.predictors, *missing.columns, *beside, *may_lack], {*fitted.predictors, *beside}
    if told:
        used += [*fitted.outcomes, *brought]
        whole |= set() if simulator.is_decision_model else {*fitted.outcomes}
    frame = check_columns(data, used, [name for name in used if name not in whole])
    for name in () if told else (name for name in brought if name in data and data[name].notna().any()):
        raise InputError(
            f"column {name!r} is what choices brought, and the table does not have these, "
            f"{' and '.join(map(repr, fitted.outcomes))}: give them too; or leave {name!r} out, and choices bring what "
            "they did in the table that was fitted."
        )
    for name in (name for name in fitted.predictors if name not in groups):
        frame = frame.assign(**{name: coded_as_fitted(frame[name], fitted.frame[name])})
    outcomes, seen, observation = np.full((len(frame), fitted.values.shape[1]), np.nan), fitted.observation, None
    if told:
        outcomes, observation = _outcomes_in(frame, simulator, fitted.outcomes, fitted.responses, missing)
    elif seen is not None:
        observation = missing.unobserved(frame, seen.n_choices, seen.withheld, fitted.rt)
    cells = find_cells(frame, list(fitted.predictors))
    return Trials(outcomes, frame, fitted.outcomes, fitted.predictors, cells, fitted.responses, observation)


def _outcomes_in(
    frame: pd.DataFrame, simulator: Simulator, names: tuple[str, ...], responses: tuple[Any, ...], missing: Missing
) -> tuple[Array, Observation | None]:
    """Outcomes (n, k) in columns of these names, and how they were seen, as `Trials` has both."""
    if not simulator.is_decision_model:
        return np.stack([_numbers(frame[outcome.name], outcome) for outcome in simulator.outcomes], -1), None
    rt, response = names
    choice = positions(frame[response], simulator.choices, responses)
    return missing.observe(frame, (rt, response), _seconds(frame[rt], rt), choice, simulator.choices, responses)


def _recoded(
    data: pd.DataFrame, simulator: Simulator, response: str, correct: str | None, congruent: object, neutral: object
) -> pd.DataFrame:
    """The table with accuracy and congruency as `check_table` is told."""
    if correct is not None and len(simulator.choices) != 2:
        raise InputError(
            f"correct={correct!r} is for models of two responses, correct and error; {simulator.name!r} is none: leave "
            "it out."
        )
    for name, label in {"congruent": congruent, "neutral": neutral}.items():
        if label is not None and CONGRUENCY not in simulator.names:
            raise InputError(
                f"{name}={label!r} is for models of conflict tasks; {simulator.name!r} has no {CONGRUENCY!r}: leave it "
                "out."
            )
    if neutral is not None and congruent is None:
        raise InputError(f"neutral={neutral!r} needs congruent=, the label of congruent trials.")
    data = data if congruent is None else by_congruency(data, congruent, neutral)
    return data if correct is None else by_accuracy(data, response, correct)


def _numbers(column: pd.Series[Any], outcome: Outcome) -> Array:
    numbers = outcome.numbers(column.to_numpy())
    wrong = np.flatnonzero(~outcome.allows(numbers))
    if wrong.size:
        raise InputError(
            f"column {outcome.name!r} must be {outcome.expected}; got {column.tolist()[wrong[0]]!r} in "
            f"{at_rows(wrong)}: correct it, or take out those rows."
        )
    return numbers


def _seconds(values: pd.Series[Any], column: str) -> Array:
    if pd.api.types.is_bool_dtype(values.dtype) or not pd.api.types.is_numeric_dtype(values.dtype):
        wrong = np.flatnonzero(pd.to_numeric(values.astype(object), errors="coerce").isna() & values.notna())
        found = f"{str(values.iloc[wrong[0]])!r} in {at_rows(wrong)}; correct" if wrong.size else "convert"
        raise InputError(
            f"column {column!r} must be numbers, in seconds; got {values.dtype}: {found} it, with pandas.to_numeric."
        )
    seconds = values.to_numpy(dtype=np.float64, na_value=np.nan)
    negative = np.flatnonzero((seconds <= _SHORTEST_RT) & ~np.isneginf(seconds))
    if negative.size:
        mark = seconds[negative[0]]
        raise InputError(
            f"column {column!r} must be positive, in seconds; it is zero or negative in {at_rows(negative)}: take "
            f"off the sign if it codes the choice. {_MARKED.format(mark=mark, column=column)} {OMISSION}"
        )
    _check_unit(seconds, column)
    return seconds


def _check_unit(seconds: Array, column: str) -> None:
    """Refuse milliseconds, by the median or in a part of the table, and warn of outliers."""
    known = seconds[np.isfinite(seconds)]
    median = float(np.median(known)) if known.size else 0.0
    if median > _LONGEST_MEDIAN:
        raise InputError(
            f"column {column!r} must be in seconds, and its median is {median:g}: divide milliseconds by 1000, "
            f"data[{column!r}] / 1000."
        )
    marked = np.flatnonzero(np.isin(seconds, _MARKS))
    if marked.size:
        raise InputError(
            f"column {column!r} is {seconds[marked[0]]:g} in {at_rows(marked)}, and no time is so long. "
            f"{_MARKED.format(mark=seconds[marked[0]], column=column)} {OMISSION}"
        )
    limit = _OUTLIER * max(1.0, median)
    long = np.flatnonzero((seconds > limit) & np.isfinite(seconds))
    if not long.size:
        return
    found = (
        f"column {column!r} holds {long.size} {'value' if long.size == 1 else 'values'} above {limit:.3g} s, in "
        f"{at_rows(long)}: the longest is {known.max():.6g}, and the median {median:.3g}."
    )
    if long.size > _MOST_OUTLIERS * known.size:
        raise InputError(f"{found} Those are too many for outliers: divide milliseconds by 1000, or leave them out.")
    warnings.warn(
        f"{found} They stay in the table, as slow trials or lapses; leave out those that are no decisions, "
        f"data[data[{column!r}] <= {limit:.3g}].",
        TableWarning,
        stacklevel=6,
    )
