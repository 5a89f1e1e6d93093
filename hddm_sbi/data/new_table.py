"""A new table of trials, for predictions: its columns in the coding of the table that was fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.data.columns import at_rows, check_columns
from hddm_sbi.data.design import find_cells, is_categorical, ordered_levels
from hddm_sbi.data.missing import Missing
from hddm_sbi.data.recoding import CONGRUENCY
from hddm_sbi.data.trials import Trials, outcomes_in
from hddm_sbi.errors import InputError
from hddm_sbi.simulation import Simulator


def check_new_table(
    data: pd.DataFrame, simulator: Simulator, fitted: Trials, groups: tuple[str, ...], missing: Missing
) -> Trials:
    """Trials of a new table; its outcomes are all nan, and none of its columns, where it has not all or they are empty.

    fitted: of the model. groups: the predictors that are only grouping factors, which may have new levels; those of any
    other factor must be among the fitted ones. missing: why an rt or response may be, as it was fitted.
    Raises InputError for a column that is not there, and for a value that the fitted table gives no meaning.
    """
    used, may_lack = [*fitted.predictors, *missing.columns], set(missing.columns) - set(fitted.predictors)
    frame = check_columns(data, used, [*may_lack])
    told = set(fitted.outcomes) <= set(data.columns) and data[[*fitted.outcomes]].notna().to_numpy().any()
    if told:
        may_lack |= set(fitted.outcomes) if simulator.is_decision_model else set()
        frame = check_columns(data, [*used, *fitted.outcomes], [*may_lack])
    for name in (name for name in fitted.predictors if name not in groups):
        frame = frame.assign(**{name: _coded(frame[name], fitted.frame[name])})
    outcomes, seen, observation = np.full((len(frame), fitted.values.shape[1]), np.nan), fitted.observation, None
    if told:
        outcomes, observation = outcomes_in(frame, simulator, fitted.outcomes, fitted.responses, missing)
    elif seen is not None:
        observation = missing.unobserved(frame, seen.n_choices, seen.withheld, fitted.rt)
    cells = find_cells(frame, list(fitted.predictors))
    return Trials(outcomes, frame, fitted.outcomes, fitted.predictors, cells, fitted.responses, observation)


def _coded(new: pd.Series[Any], fitted: pd.Series[Any]) -> pd.Series[Any]:
    """A column with the levels of the fitted one, or as numbers where that has numbers."""
    if not is_categorical(fitted):
        numbers = pd.to_numeric(new, errors="coerce")
        # Dates, spans of time and truth values could be counted, but not as the numbers that were fitted.
        wrong = np.flatnonzero(numbers.isna() | np.full(len(new), new.dtype.kind in "bmM"))
        if wrong.size:
            raise InputError(
                f"column {str(new.name)!r} must be numbers, as in the table that was fitted; got "
                f"{new.tolist()[wrong[0]]!r} in {at_rows(wrong)}.{_remedy(new)}"
            )
        return numbers
    levels = ordered_levels(fitted).categories
    wrong = np.flatnonzero(~new.isin(levels))
    if wrong.size:
        raise InputError(
            f"column {str(new.name)!r} holds {new.tolist()[wrong[0]]!r} in {at_rows(wrong)}, a level that the table "
            f"that was fitted does not have; its levels there are {', '.join(map(repr, levels))}.{_remedy(new)}"
        )
    ordered = isinstance(fitted.dtype, pd.CategoricalDtype) and bool(fitted.dtype.ordered)
    coded = pd.Categorical(new.astype(object), categories=levels, ordered=ordered)
    return pd.Series(coded, index=new.index, name=new.name)


def _remedy(new: pd.Series[Any]) -> str:
    """What to do where labels of congruency were recoded for the fit."""
    return " Write +1 for congruent, 0 for neutral and -1 for incongruent trials." if new.name == CONGRUENCY else ""
