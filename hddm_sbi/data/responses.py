"""The column of responses: which value stands for which choice of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.data.columns import OMISSION, at_rows, is_hashable
from hddm_sbi.data.design import sort_values
from hddm_sbi.errors import InputError
from hddm_sbi.types import Array, Index

#: the responses of accuracy coding, lower bound first.
ACCURACY = ("error", "correct")
_VALUES_SHOWN = 8


def positions(values: pd.Series[Any], codes: tuple[int, ...], responses: tuple[Any, ...]) -> Array:
    """Position of each response among the model's choices, by their names if there are any, or else by their codes;
    nan where it is missing."""
    position = _among(values, codes, responses)
    wrong = np.flatnonzero(np.isnan(position) & values.notna())
    if wrong.size:
        raise InputError(_outside_coding(values, codes, responses, wrong))
    return position


def asked_for(stimuli: pd.Series[Any], codes: tuple[int, ...], responses: tuple[Any, ...]) -> Index:
    """Position of the response that each stimulus asks for, likewise. Raises InputError for stimuli that are none."""
    position = _among(stimuli, codes, responses)
    wrong = np.flatnonzero(np.isnan(position))
    if wrong.size:
        remedy = (
            "leave out stimulus= and write choice for match, as the response 'correct' always matches."
            if responses == ACCURACY
            else "recode it, or name the responses in the order of the model's choices, choices=."
        )
        raise InputError(
            f"stimulus={stimuli.name!r} must be the column that has the right response of each trial, "
            f"{listed(list(responses or codes))}; got {stimuli.tolist()[wrong[0]]!r} in {at_rows(wrong)}: {remedy}"
        )
    return position.astype(np.int64)


def _among(values: pd.Series[Any], codes: tuple[int, ...], responses: tuple[Any, ...]) -> Array:
    """Position of each value among the choices, by name or by code; nan where it is none."""
    dtype = values.cat.categories.dtype if isinstance(values.dtype, pd.CategoricalDtype) else values.dtype
    # A boolean is not a code: True would pass for +1 and False for nothing.
    number = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
    position = np.full(len(values), np.nan)
    if responses or number:
        cells = values.astype(object).where(values.notna(), None).to_numpy()
        for choice, name in enumerate(responses or codes):
            position[cells == name] = choice
    return position


def response_names(
    values: pd.Series[Any],
    codes: tuple[int, ...],
    upper: object,
    choices: Sequence[object] | None,
    correct: str | None,
) -> tuple[Any, ...]:
    """Names of the responses in the order of the model's choices; none where its codes stand in the table."""
    if correct is not None:
        said = next((f"{name}={v!r}" for name, v in (("upper", upper), ("choices", choices)) if v is not None), "")
        if said:
            raise InputError(f"correct={correct!r} makes the responses error and correct; leave out {said}.")
        return ACCURACY
    if choices is not None:
        if upper is not None:
            raise InputError(f"choices={choices!r} says all that upper={upper!r} says; leave one of them out.")
        return _named(values, codes, choices)
    if upper is None:
        return ()
    if not _is_value(upper):
        raise InputError(f"upper must be one value of column {values.name!r}; got {upper!r}.")
    occurring = occurring_in(values)
    if len(codes) != 2:
        raise InputError(
            f"upper= is for models with two choices; this one has {len(codes)}: name them in their order, "
            f"{_example(occurring, codes)}."
        )
    if len(occurring) > 2:
        raise InputError(
            f"upper={upper!r} needs a column {values.name!r} with two values; it has {listed(occurring)}. "
            f"Recode the others. {OMISSION}"
        )
    if upper not in occurring:
        raise InputError(f"upper={upper!r} does not occur in column {values.name!r}; it holds {listed(occurring)}.")
    (upper,) = _as_in(occurring, (upper,))
    return next((value for value in occurring if value != upper), f"not {upper}"), upper


def _named(values: pd.Series[Any], codes: tuple[int, ...], choices: Sequence[object]) -> tuple[Any, ...]:
    """The names in `choices`, if they are as many different ones as the model has choices."""
    try:
        names = () if isinstance(choices, str | bytes | Mapping | Set) else tuple(choices)
    except TypeError:
        names = ()
    occurring = occurring_in(values)
    if len(names) != len(codes) or not all(map(_is_value, names)) or len(set(names)) < len(names):
        raise InputError(
            f"choices must name the {len(codes)} responses of the model in their order, for instance "
            f"{_example(occurring, codes)}; got {choices!r}."
        )
    return _as_in(occurring, names)


def _as_in(occurring: list[Any], names: tuple[Any, ...]) -> tuple[Any, ...]:
    """Names of responses as the values of the column are written, 1 for True or 1.0 beside 0.0 and 1.0."""
    own = {value: value for value in occurring}
    return tuple(own.get(name, _whole(name)) for name in names)


def _is_value(value: object) -> bool:
    """Whether something may be a value of a column, and is not missing."""
    return is_hashable(value) and not isinstance(value, tuple) and not bool(pd.isna(value))  # type: ignore[call-overload]


def _example(occurring: list[Any], codes: tuple[int, ...]) -> str:
    """How `choices` is written for a column that holds these values."""
    spare = [f"response {k}" for k in range(len(occurring), len(codes))]
    return f"choices={[*occurring[: len(codes)], *spare]!r}"


def _outside_coding(values: pd.Series[Any], codes: tuple[int, ...], responses: tuple[Any, ...], wrong: Index) -> str:
    occurring = occurring_in(values)
    where = f"got {values.iloc[wrong[:1]].tolist()[0]!r} in {at_rows(wrong)}; the column holds {listed(occurring)}."
    if len(occurring) > len(codes) > 2:
        where += (
            f" The model has {len(codes)} choices: take one of as many as the column has responses (the table of "
            "models says how many each has), declare a simulator of your own, or recode the column."
        )
    if responses:
        return f"column {values.name!r} must be one of {listed(list(responses))}, as the model was told; {where}"
    if codes != (-1, 1):
        said = f" Name the responses in the order of the model's choices: {_example(occurring, codes)}."
        expected = f"column {values.name!r} must be one of {', '.join(map(str, codes))}; {where}"
        return expected + (said if len(occurring) <= len(codes) else "")
    expected = f"column {values.name!r} must be +1 (upper bound) or -1 (lower bound); {where}"
    if len(occurring) > 2:
        return f"{expected} Recode it. {OMISSION}"
    if {str(value) for value in occurring} <= {"0", "1", "0.0", "1.0", "False", "True"}:
        return f"{expected} Say which value is the upper bound: upper={occurring[-1]!r}."
    meant = [value for value in occurring if str(value).lower() == "correct"] or occurring
    return f"{expected} Say which value is the upper bound: {' or '.join(f'upper={value!r}' for value in meant)}."


def occurring_in(values: pd.Series[Any]) -> list[Any]:
    """Values that occur, as plain Python objects, sorted, whole numbers as integers."""
    return sort_values(list(map(_whole, values.dropna().unique().tolist())))


def _whole(value: Any) -> Any:
    """1 for 1.0: a missing response makes a column of whole numbers one of floats, and files of fits have names."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def listed(values: list[Any]) -> str:
    """The first values for a message, and how many more there are."""
    rest = len(values) - _VALUES_SHOWN
    return ", ".join(map(repr, values[:_VALUES_SHOWN])) + (f" and {rest} more" if rest > 0 else "")
