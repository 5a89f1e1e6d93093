"""A table in the coding of a model: responses as correct or error, labels of congruency as +1 and -1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.data.columns import OMISSION, at_rows, check_columns, is_hashable
from hddm_sbi.data.responses import ACCURACY, listed, occurring_in
from hddm_sbi.errors import InputError
from hddm_sbi.types import Index

#: the condition of a conflict task, in simulators and tables.
CONGRUENCY = "congruency"


def by_accuracy(data: pd.DataFrame, response: str, correct: str) -> pd.DataFrame:
    """A table whose column of responses says "correct" where it holds what the column `correct` does, else "error".

    Raises InputError with the positions of the rows (0 = first) for stimuli that are no response, and for responses
    that are never correct.

    >>> table = pd.DataFrame({"S": ["left", "right", "left"], "key": ["left", "left", "right"]})
    >>> by_accuracy(table, "key", "S")["key"].tolist()
    ['correct', 'error', 'error']
    """
    if not is_hashable(correct) or correct == response:
        raise InputError(f"correct must be the column that has the correct response of each trial; got {correct!r}.")
    used = check_columns(data, [response, correct], (response,))
    given, shown = (used[column].astype(object) for column in (response, correct))
    unanswered = np.flatnonzero(~shown.isin(given.unique()))
    if unanswered.size:
        raise InputError(
            f"{_foreign(correct, shown, unanswered, given)} Recode it; where column {response!r} itself says correct "
            "or error, write upper='correct' instead."
        )
    unasked = np.flatnonzero(~given.isin(shown.unique()) & given.notna())
    if unasked.size:
        raise InputError(f"{_foreign(correct, given, unasked, shown)} Recode it. {OMISSION}")
    coded = np.where(given == shown, *ACCURACY[::-1]).astype(object)
    coded[given.isna()] = None
    return data.assign(**{response: coded})


def _foreign(correct: str, column: pd.Series[Any], rows: Index, other: pd.Series[Any]) -> str:
    """Says where one of response and stimulus holds what the other never does."""
    return (
        f"correct={correct!r} compares responses with stimuli, and column {column.name!r} holds "
        f"{column.tolist()[rows[0]]!r} in {at_rows(rows)}, which column {other.name!r} never does: it holds "
        f"{listed(occurring_in(other))}."
    )


def by_congruency(data: pd.DataFrame, congruent: object, neutral: object = None) -> pd.DataFrame:
    """A table whose column `congruency` has +1 for trials with this label, 0 for neutral ones and -1 for all others.

    Raises InputError where these labels do not occur, or there is not one label more, or none.

    >>> by_congruency(pd.DataFrame({"congruency": ["comp", "incomp", "neut"]}), "comp", "neut")["congruency"].tolist()
    [1, -1, 0]
    """
    labels = check_columns(data, [CONGRUENCY])[CONGRUENCY].astype(object)
    named = {"congruent": congruent} | ({} if neutral is None else {"neutral": neutral})
    unknown = [name for name, label in named.items() if not is_hashable(label) or label not in labels.tolist()]
    others = labels.nunique() - len(named)
    if unknown or congruent == neutral or others > 1 or (others == 0 and neutral is None):
        said = " and ".join(f"{name}={label!r}" for name, label in named.items())
        raise InputError(
            f"{said} must say which trials are congruent, and which neutral if some are; the one label that is left is "
            f"incongruent. Column {CONGRUENCY!r} holds {listed(occurring_in(labels))}."
        )
    return data.assign(**{CONGRUENCY: np.select([labels == congruent, labels == neutral], [1, 0], -1)})
