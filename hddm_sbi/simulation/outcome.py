"""The columns that a simulator produces: names, kinds, the values they allow; and simulated values of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hddm_sbi.errors import InputError
from hddm_sbi.types import Array

OutcomeKind = Literal["real", "positive", "count", "categorical"]

_EXPECTED = {
    "real": "a finite number",
    "positive": "a positive, finite number",
    "count": "a whole number, 0 or more",
}


@dataclass(frozen=True)
class Outcome:
    """A column of a table that a model explains.

    Parameters
    ----------
    name
        Name of the column.
    kind
        "real", "positive" (continuous and above 0), "count" (0, 1, 2, ...), or "categorical".
    categories
        Codes or labels of a categorical outcome, in the order in which a simulator numbers them.

    Raises
    ------
    InputError
        For an unknown kind, or categories that are too few, repeated, or of an outcome that is not categorical.

    Examples
    --------
    >>> Outcome("chips", "count")
    Outcome(name='chips', kind='count', categories=())
    """

    name: str
    kind: OutcomeKind
    categories: tuple[object, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(OutcomeKind):
            kinds = ", ".join(get_args(OutcomeKind))
            raise InputError(f"outcome {self.name!r} must be one of {kinds}; got {self.kind!r}.")
        if (self.kind == "categorical") != bool(self.categories):
            raise InputError(
                f"outcome {self.name!r}: categories are for categorical outcomes, and those need them; got "
                f"{self.kind!r} with categories {self.categories}."
            )
        if self.categories and (len(self.categories) < 2 or len(set(self.categories)) < len(self.categories)):
            raise InputError(f"outcome {self.name!r} needs two or more distinct categories; got {self.categories}.")

    @property
    def discrete(self) -> bool:
        """Whether it is a count or a category."""
        return self.kind in ("count", "categorical")

    @property
    def expected(self) -> str:
        """What a value has to be, for error messages."""
        return _EXPECTED.get(self.kind) or f"one of {', '.join(map(repr, self.categories))}"

    def numbers(self, values: ArrayLike) -> Array:
        """Values as float64 (n,): categories by their position; nan for what is no number or no category.

        >>> Outcome("choice", "categorical", ("left", "right")).numbers(["right", "left", "up"])
        array([ 1.,  0., nan])
        """
        raw = np.asarray(values).reshape(-1)
        if self.kind == "categorical":
            known = {category: float(position) for position, category in enumerate(self.categories)}
            return np.array([known.get(value, np.nan) for value in raw.tolist()], dtype=np.float64)
        try:
            return raw.astype(np.float64)
        except (TypeError, ValueError):
            return np.array([_number(value) for value in raw.tolist()], dtype=np.float64)

    def allows(self, numbers: Array) -> NDArray[np.bool_]:
        """Whether each of these numbers, from `numbers`, is a value that the outcome can have."""
        finite = np.isfinite(numbers)
        if self.kind == "positive":
            return finite & (numbers > 0)
        if self.kind == "count":
            return finite & (numbers >= 0) & (numbers == np.floor(numbers))
        if self.kind == "categorical":
            return finite & np.isin(numbers, np.arange(len(self.categories)))
        return finite

    def labels(self, numbers: Array) -> NDArray[np.generic]:
        """Numbers as a table shows them: categories by name, counts as integers; a category that is missing as nan or,
        among names, as None."""
        if self.kind == "categorical":
            names, missing = np.array(self.categories), np.isnan(numbers)
            told = names[np.where(missing, 0, numbers).astype(np.int64)]
            if not missing.any():
                return told
            told = told.astype(np.float64 if names.dtype.kind in "iuf" else object)
            told[missing] = np.nan if names.dtype.kind in "iuf" else None
            return told
        return numbers.astype(np.int64) if self.kind == "count" else numbers


def rt_and_response(*codes: int) -> tuple[Outcome, Outcome]:
    """The outcomes of a decision model.

    Parameters
    ----------
    codes
        Codes of its responses, in ascending order.

    Returns
    -------
    tuple of Outcome
        A positive `rt`, and a `response` with these codes.

    Examples
    --------
    >>> [outcome.name for outcome in rt_and_response(-1, 1)]
    ['rt', 'response']
    """
    return Outcome("rt", "positive"), Outcome("response", "categorical", codes)


@dataclass(frozen=True)
class Simulated:
    """Simulated outcomes.

    values: (n, k), a column for each outcome, categories by their position; nan in rows where the simulation failed.
    errors: what was raised, once for each row that failed with an error.
    """

    values: Array
    errors: tuple[str, ...] = ()

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Whether the simulation of each row failed, (n,)."""
        return np.asarray(np.isnan(self.values).any(1))

    def write(self, path: Path) -> None:
        """Write a file of NumPy arrays."""
        with path.open("wb") as file:
            np.savez(file, values=self.values, errors=np.array(self.errors, dtype=np.str_))

    @staticmethod
    def read(path: Path) -> Simulated:
        """Read a file that `write` wrote."""
        with np.load(path) as arrays:
            return Simulated(arrays["values"], tuple(arrays["errors"].tolist()))

    def complete(self, model: str) -> Array:
        """The values of a simulation in which nothing failed. Raises InputError where something did.

        >>> Simulated(np.array([[0.5], [0.7]])).complete("cookies").tolist()
        [[0.5], [0.7]]
        """
        if self.failed.any():
            raise InputError(f"{model!r}: {self._count()}; simulate where every trial has an outcome.")
        return self.values

    def statement(self) -> str:
        """How many simulations failed and why, in one sentence; "" where none did."""
        if not self.failed.any():
            return ""
        return f"{self._count()} and were left out: the likelihood is that of outcomes given that there is one."

    def _count(self) -> str:
        raised = f" ({len(self.errors)} raised an error, the first {self.errors[0]})" if self.errors else ""
        return f"{int(self.failed.sum())} of {len(self.values)} simulations failed{raised}"


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")
