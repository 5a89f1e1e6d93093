"""Columns of a new table of trials, for predictions, in the coding of the table that was fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.data.columns import at_rows
from hddm_sbi.data.design import is_categorical, ordered_levels
from hddm_sbi.data.recoding import CONGRUENCY
from hddm_sbi.errors import InputError


def coded_as_fitted(new: pd.Series[Any], fitted: pd.Series[Any]) -> pd.Series[Any]:
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
