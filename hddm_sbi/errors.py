"""The one exception for input that cannot be used, and warnings of tables, files and training: each says what to do."""

import difflib
import operator
from collections.abc import Sequence

_ROWS_SHOWN = 5


class InputError(ValueError):
    """An input cannot be used; the message says what was expected, what came, and what to do.

    The command line prints it without a traceback and exits with code 2.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> try:
    ...     hs.simulate("dmd", {"v": 1.0}, 10, seed=1)
    ... except hs.InputError as error:
    ...     print(str(error)[:53])
    there is no model called 'dmd'; did you mean 'dmc'? M
    """


class FitFileWarning(UserWarning):
    """Something about keeping a fit: a file could not be written or was damaged, or a fit was edited.

    The message says what, and where the draws are.

    Examples
    --------
    >>> import warnings
    >>> import hddm_sbi as hs
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", hs.FitFileWarning)  # refuse fits that were edited
    """


class TrainingWarning(UserWarning):
    """A learned likelihood cannot be trusted yet, or not everywhere; the message says why and what to do.

    Examples
    --------
    >>> import warnings
    >>> import hddm_sbi as hs
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", hs.TrainingWarning)  # refuse such a likelihood
    """


class TableWarning(UserWarning):
    """Something in a table of trials can be used, and is probably a mistake; the message says what, and in which rows.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> import warnings
    >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
    >>> data.loc[7, "rt"] = 55.0
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always", hs.TableWarning)
    ...     _ = hs.HierarchicalModel("v ~ 1", data, likelihood="exact")
    >>> str(caught[0].message)[:58]
    "column 'rt' holds 1 value above 30 s, in row 7 (0 = first)"
    """


def whole_number(name: str, value: object, least: int = 1) -> int:
    """An argument that is a whole number of at least this and below 2**63; NumPy's too. Raises InputError for others.

    >>> whole_number("draws", 3)
    3
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < least:
        raise InputError(f"{name} must be a whole number of at least {least}; got {value!r}.")
    if number >= 2**63:
        raise InputError(f"{name} must be below 2**63, which a file can hold; got {value!r}.")
    return number


def name_rows(rows: Sequence[object]) -> str:
    """Row labels for an error message, the first five of them.

    >>> name_rows([4, 17, 90])
    'rows 4, 17, 90'
    >>> name_rows(range(9))
    'rows 0, 1, 2, 3, 4 and 4 more'
    """
    shown = ", ".join(str(row) for row in list(rows)[:_ROWS_SHOWN])
    rest = len(rows) - _ROWS_SHOWN
    plural = "row" if len(rows) == 1 else "rows"
    return f"{plural} {shown}" + (f" and {rest} more" if rest > 0 else "")


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """End of an error message about an unknown name: the nearest known one, or a full stop.

    >>> did_you_mean("subjct", ["rt", "subject"])
    "; did you mean 'subject'?"
    >>> did_you_mean("V", ["v", "a"])
    "; did you mean 'v'?"
    >>> did_you_mean("x", ["rt", "subject"])
    '.'

    Of two that are equally near, the one that begins alike.

    >>> did_you_mean("dmm", ["dmc", "rdm"])
    "; did you mean 'dmc'?"
    """
    name, lower = name.lower(), {known.lower(): known for known in names}
    near = difflib.get_close_matches(name, lower, n=max(len(lower), 1))
    if not near:
        return "."

    def likeness(known: str) -> tuple[float, bool]:
        return difflib.SequenceMatcher(None, known, name).ratio(), known[:2] == name[:2]

    return f"; did you mean {lower[max(near, key=likeness)]!r}?"
