"""What a formula may call: formulae's transforms and a few functions of numpy, each by its name, and nothing else.

A formula may come from a saved fit of somebody else's, and numpy alone reaches the operating system.
"""

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from hddm_sbi.data.formulae_parts import ENCODINGS, TRANSFORMS, Call, LazyCall, LazyValue
from hddm_sbi.data.smooths import SMOOTHS
from hddm_sbi.errors import InputError, did_you_mean

#: what the value of a term in one row may depend on: that row, the levels of its columns, or all their values.
ROW, LEVELS, TABLE = range(3)

#: functions of formulae for responses, for which a linear predictor has no place, and of brms.
_NOT_PREDICTORS = {
    "gp": "a Gaussian process, and the smooth curve there is here is a penalised spline, s(x)",
    "p": "for the proportion that a formula explains",
    "prop": "for the proportion that a formula explains",
    "proportion": "for the proportion that a formula explains",
}
#: numpy's, written with or without np.
_SHORT = ("abs", "exp", "log", "log10", "log2", "sqrt")
#: numpy's, written with np. before them: these see one row, and those all rows.
_NUMPY = (*_SHORT, "expm1", "log1p", "sign", "square", "sin", "cos", "tanh", "minimum", "maximum", "clip", "where")
_SUMMARIES = ("mean", "median", "std", "min", "max")
#: functions of formulae that make a factor, or an array, of one row's values.
_OF_ROW = ("I", "offset", *_SHORT, *(f"np.{name}" for name in _NUMPY))
_OF_LEVELS = ("C", "T", "S", "B", "binary", "mo", *ENCODINGS)
#: a number in a call that makes columns (poly, bs) is at most this.
_COLUMNS = 100

#: every function that a formula may call.
_NUMPYS = (f"np.{name}" for name in (*_NUMPY, *_SUMMARIES))
KNOWN = tuple(sorted({*_SHORT, *_NUMPYS, *TRANSFORMS, "mo", *SMOOTHS} - {*_NOT_PREDICTORS}))


def _remembered(summary: Callable[[Any], Any]) -> type:
    """A summary of a column that is that of the table which was fitted, also on a new table."""

    class Remembered:
        __stateful_transform__ = True
        value = None

        def __call__(self, column: Any) -> Any:
            """Of the first column."""
            self.value = summary(column) if self.value is None else self.value
            return self.value

    return Remembered


#: the names that formulae looks up.
NAMESPACE: dict[str, Any] = {name: getattr(np, name) for name in _SHORT} | {
    "np": SimpleNamespace(
        **{name: getattr(np, name) for name in _NUMPY},
        **{name: _remembered(getattr(np, name)) for name in _SUMMARIES},
    ),
    **SMOOTHS,
}


def check_calls(text: str, component: Any) -> None:
    """Refuse a term that calls a function outside `KNOWN`. Raises InputError with their list."""
    for call in calls(component.call if isinstance(component, Call) else None):
        name = str(call.callee)
        if name in _NOT_PREDICTORS:
            raise InputError(f"formula '{text}': {call} is not supported: {name}() is {_NOT_PREDICTORS[name]}.")
        if name not in (*KNOWN, *ENCODINGS):
            raise InputError(
                f"formula '{text}' calls an unknown function {name!r}{did_you_mean(name, KNOWN)} Known: "
                f"{', '.join(KNOWN)}. Compute anything else as a column of the table."
            )
        numbers = [value.value for value in (*call.args, *call.kwargs.values()) if isinstance(value, LazyValue)]
        if name not in _OF_ROW and any(isinstance(n, int | float) and n > _COLUMNS for n in numbers):
            raise InputError(f"formula '{text}': the numbers in {call} must be at most {_COLUMNS}.")


def depends_on(component: Any) -> int:
    """What a component depends on, by the functions that it calls."""
    called = re.findall(r"([\w.]+)\(", component.name) if isinstance(component, Call) else []
    others = set(called) - set(_OF_ROW)
    return ROW if not others else LEVELS if others <= set(_OF_LEVELS) else TABLE


def calls(lazy: Any) -> Iterator[LazyCall]:
    """A call and those inside it."""
    if isinstance(lazy, LazyCall):
        yield lazy
    for part in (*getattr(lazy, "args", ()), *getattr(lazy, "kwargs", {}).values()):
        yield from calls(part)
