"""What is missing from a table of rt and response, and why: deadlines, withheld responses, limits, removals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.data.columns import at_rows, is_hashable
from hddm_sbi.errors import InputError
from hddm_sbi.simulation import Observation
from hddm_sbi.types import Array, Index

#: a number of seconds, or the column that has one for every trial.
Limit = float | str
#: the shortest and the longest; None for no limit.
Limits = tuple[Limit | None, Limit | None]
#: a limit of more seconds, and of more longest response times, can only be milliseconds.
_MINUTE, _FAR = 60.0, 10.0


@dataclass(frozen=True)
class Missing:
    """Why something may be missing from a table; arguments as in `HierarchicalModel`."""

    deadline: Limit | None = None
    withheld: object = None
    censored: Limits | None = None
    truncated: Limits | None = None

    def __post_init__(self) -> None:
        for name in ("censored", "truncated"):
            pair = getattr(self, name)
            if pair is not None and not (isinstance(pair, tuple | list) and len(pair) == 2):
                raise InputError(
                    f"{name} must be the shortest and the longest time, each in seconds or a column of them, and None "
                    f"where there is no limit, such as {name}=(None, 2.0); got {pair!r}."
                )
        for name, limit in self._limits():
            number = isinstance(limit, int | float | np.number) and not isinstance(limit, bool)
            if limit is not None and not isinstance(limit, str) and not (number and 0 < float(limit) < np.inf):
                raise InputError(
                    f"{name}={getattr(self, name)!r} must be a positive number of seconds, or a column of them; got "
                    f"{limit!r}."
                )

    @property
    def columns(self) -> list[str]:
        """Columns of the table that are limits."""
        return list(dict.fromkeys(limit for _, limit in self._limits() if isinstance(limit, str)))

    @property
    def facts(self) -> dict[str, Any]:
        """What was said, as plain data."""
        said = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: _plain(value) for name, value in said.items() if value is not None}

    def observe(
        self,
        frame: pd.DataFrame,
        names: tuple[str, str],
        rt: Array,
        choice: Array,
        codes: tuple[int, ...],
        responses: tuple[Any, ...],
    ) -> tuple[Array, Observation | None]:
        """Outcomes (n, 2) as `Observation.seen`, and how they were seen; None where each trial was seen whole.

        names: of the columns of rt and response. rt: (n,) seconds, nan or infinite where it is not known. choice: (n,)
        positions, nan where missing. codes, responses: of the model's choices, and their names in the table.
        Raises InputError for what contradicts itself, with the positions of the rows (0 = first).
        """
        if not self.facts and np.isfinite(rt).all() and np.isfinite(choice).all():
            return np.stack([rt, choice], -1), None
        seen, answered = self.unobserved(frame, len(codes), self._position(codes, responses), rt), np.isfinite(choice)
        if seen.withheld is not None:
            held = choice == seen.withheld
            _refuse(
                held & ~np.isnan(rt),
                f"withheld={self.withheld!r} is the response of not responding, which takes no time; column "
                f"{names[0]!r} has one in {{rows}}: leave it missing there, or leave out withheld=.",
            )
            choice, answered = np.where(held, np.nan, choice), answered & ~held
        self._check(names, rt, answered, seen)
        early, late = rt < seen.censored[0], rt > seen.censored[1]
        rt = np.where(early, -np.inf, np.where(late, np.inf, rt))
        timed = ~np.isnan(rt)
        omitted = ~timed & ~answered
        return np.stack([rt, choice], -1), replace(seen, timed=timed | omitted, answered=answered | omitted)

    def unobserved(self, frame: pd.DataFrame, n_choices: int, withheld: int | None, rt: Array) -> Observation:
        """How trials will be seen of which there are no outcomes yet. withheld: position of the response; rt: seconds
        of other trials, which limits are compared with."""
        whole = np.ones(len(frame), dtype=bool)
        censored, truncated = (
            (self._seconds(frame, name, pair[0], 0.0), self._seconds(frame, name, pair[1], np.inf))
            for name, pair in (
                ("censored", self.censored or (None, None)),
                ("truncated", self.truncated or (None, None)),
            )
        )
        deadline = self._seconds(frame, "deadline", self.deadline, np.inf)
        seen = Observation(n_choices, deadline, withheld, censored, truncated, whole, whole)
        self._check_unit(rt, seen)
        self._check_limits(seen)
        return seen

    def _check_unit(self, rt: Array, seen: Observation) -> None:
        """Refuse limits in milliseconds beside times in seconds, and marks for no limit."""
        longest = rt[np.isfinite(rt)].max(initial=0.0)
        for name, limits in (("deadline", seen.deadline), ("censored", seen.censored), ("truncated", seen.truncated)):
            for limit in np.atleast_2d(limits):
                far = np.isfinite(limit) & (limit > max(_MINUTE, _FAR * longest)) & (longest > 0.0)
                _refuse(
                    far,
                    f"{name}={getattr(self, name)!r} must be in seconds, as times are: it is "
                    f"{limit[far].max(initial=0):g} in {{rows}}, and the longest response takes {longest:.3g}; divide "
                    "milliseconds by 1000, and leave a column empty where there is no limit, instead of 999.",
                )

    def _check_limits(self, seen: Observation) -> None:
        """Refuse limits that contradict each other."""
        for name, (start, end) in {"censored": seen.censored, "truncated": seen.truncated}.items():
            _refuse(
                start >= end,
                f"{name}={getattr(self, name)!r} must be the shortest and the longest time; {{rows}} have them the "
                "other way round, or equal.",
            )
        first, last = seen.truncated
        _refuse(
            np.isfinite(last) & (last < seen.deadline) & np.isfinite(seen.deadline),
            f"truncated={self.truncated!r} ends before the deadline in {{rows}}: trials between the two were removed, "
            "and later ones were not; end both at the same time.",
        )
        _refuse(
            first >= seen.deadline,
            f"truncated={self.truncated!r} begins after the deadline in {{rows}}, so that no response of these trials "
            "would be left: correct one of the two.",
        )

    def _check(self, names: tuple[str, str], rt: Array, answered: Any, seen: Observation) -> None:
        """Refuse rows that contradict what was said, or that nothing was said of."""
        (low, high), (first, last) = seen.censored, seen.truncated
        finite, neither = np.isfinite(rt), np.isnan(rt) & ~answered
        if seen.withheld is None:
            if isinstance(self.deadline, str):
                _refuse(
                    neither & ~np.isfinite(seen.deadline),
                    f"columns {names[0]!r} and {names[1]!r} are both missing in {{rows}}, and so is the deadline, "
                    f"column {self.deadline!r}: say there by when these trials had no response.",
                )
            _refuse(
                neither & ~np.isfinite(seen.deadline),
                f"columns {names[0]!r} and {names[1]!r} are both missing in {{rows}}: say by when these trials had no "
                "response, deadline= (seconds, or a column), or that not responding is a response, withheld=.",
            )
        _refuse(
            finite & (rt > seen.deadline),
            f"deadline={self.deadline!r} is shorter than the response time in {{rows}}: give the deadline of each "
            "trial as a column, or leave rt and response missing where the response came too late.",
        )
        for name, wrong, limits in (
            ("-inf", np.isneginf(rt) & (low <= 0), "(0.2, None)"),
            ("inf", np.isposinf(rt) & np.isinf(high), "(None, 2.0)"),
        ):
            _refuse(
                wrong,
                f"column {names[0]!r} is {name} in {{rows}}: say beyond which time it is not known, for instance "
                f"censored={limits}.",
            )
        _refuse(
            finite & ((rt < first) | (rt > last)),
            f"truncated={self.truncated!r} says that trials with times outside were removed; {{rows}} have one: remove "
            "them, or say censored= where only their side is to be known.",
        )
        _refuse(
            (np.isneginf(rt) & (low <= first)) | (np.isposinf(rt) & (high >= np.minimum(last, seen.deadline))),
            f"column {names[0]!r} is infinite in {{rows}}, beyond which time nothing is left that was not removed, or "
            "that is before the deadline.",
        )

    def _position(self, codes: tuple[int, ...], responses: tuple[Any, ...]) -> int | None:
        """Position of the withheld response, by its name in the table or by its code."""
        if self.withheld is None:
            return None
        for known in (responses, codes):
            if is_hashable(self.withheld) and self.withheld in known:
                return known.index(self.withheld)
        named = [*responses] or [*codes]
        raise InputError(f"withheld={self.withheld!r} must be one of the responses, {', '.join(map(repr, named))}.")

    def _seconds(self, frame: pd.DataFrame, name: str, limit: Limit | None, otherwise: float) -> Array:
        """A limit of every trial; none where a column has no number."""
        if not isinstance(limit, str):
            return np.full(len(frame), otherwise if limit is None else float(limit))
        column = frame[limit]
        if pd.api.types.is_bool_dtype(column.dtype) or not pd.api.types.is_numeric_dtype(column.dtype):
            raise InputError(f"{name}={limit!r} must be a column of seconds; got {column.dtype}.")
        seconds = column.to_numpy(dtype=np.float64, na_value=np.nan)
        _refuse(seconds <= 0.0, f"{name}={limit!r} must be positive, in seconds; it is not in {{rows}}.")
        return np.where(np.isnan(seconds), otherwise, seconds)

    def _limits(self) -> Iterator[tuple[str, Limit | None]]:
        yield "deadline", self.deadline
        for name in ("censored", "truncated"):
            for limit in getattr(self, name) or ():
                yield name, limit


def _plain(value: Any) -> Any:
    """Something said as JSON has it: numbers without NumPy, pairs as lists."""
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def _refuse(wrong: Any, message: str) -> None:
    """Raise InputError where there are wrong rows, which the message has as {rows}."""
    rows: Index = np.flatnonzero(wrong)
    if rows.size:
        raise InputError(message.replace("{rows}", at_rows(rows)))
