"""Hypotheses as text -> linear combinations of coefficients, with errors that show where."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hddm_sbi.errors import InputError, did_you_mean

# hypothesis := sum ("<" | ">" | "=") sum;  sum := product (("+" | "-") product)*;  product := unit (("*" | "/") unit)*
# unit := number | coefficient | "(" sum ")" | "-" unit

_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
#: what may not follow the name of a coefficient: then it is the beginning of another name.
_GOES_ON = re.compile(r"[\w\[|:]")


@dataclass(frozen=True)
class Linear:
    """constant + sum of weights times coefficients."""

    constant: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)

    def times(self, factor: float) -> Linear:
        """Multiplied by a number."""
        return Linear(factor * self.constant, {name: factor * weight for name, weight in self.weights.items()})

    def plus(self, other: Linear) -> Linear:
        """The sum; coefficients of weight 0 are not in it."""
        names = dict.fromkeys([*self.weights, *other.weights])
        weights = {name: self.weights.get(name, 0.0) + other.weights.get(name, 0.0) for name in names}
        return Linear(self.constant + other.constant, {name: w for name, w in weights.items() if w != 0.0})


def read_hypothesis(text: str, names: Sequence[str]) -> tuple[Linear, str]:
    """left - right of a hypothesis, and the sign between them. names: of coefficients.

    Raises InputError for what cannot be read, is not linear, or names no coefficient.

    >>> read_hypothesis("2 * v_x - 1 < v_x[hard]", ["v_x", "v_x[hard]"])
    (Linear(constant=-1.0, weights={'v_x': 2.0, 'v_x[hard]': -1.0}), '<')
    >>> read_hypothesis("v_x <> 0", ["v_x"])
    Traceback (most recent call last):
    hddm_sbi.errors.InputError: the hypothesis cannot be read: expected a number or a coefficient.
      v_x <> 0
           ^
    """
    reader = _Reader(text, names)
    left = reader.sum()
    sign = reader.taken("<>=")
    if not sign:
        raise reader.error("expected <, > or =")
    if reader.rest().startswith("="):
        raise reader.error(f"write {sign} without =, which is as probable" if sign != "=" else "write = once")
    difference = left.plus(reader.sum().times(-1.0))
    if reader.rest():
        one_by_one = "one sign at a time: of a range, test both ends, or see the rope of comparisons"
        raise reader.error(one_by_one if reader.rest()[0] in "<>=" else "expected its end")
    if not difference.weights:
        raise InputError(f"hypothesis {text!r} says nothing of a coefficient; name one, such as {names[0]!r}.")
    if not all(math.isfinite(x) for x in (difference.constant, *difference.weights.values())):
        raise InputError(f"hypothesis {text!r} holds a number that is too large or too small to compute with.")
    return difference, sign


class _Reader:
    """A hypothesis, and how far it is read."""

    def __init__(self, text: str, names: Sequence[str]) -> None:
        self.text, self.names, self.position = text, names, 0
        # The longest name that fits is meant; spaces in a name are as one likes, and a file has another slash.
        self.patterns = {name: _pattern(name) for name in sorted(names, key=len, reverse=True)}

    def rest(self) -> str:
        """What is not read yet; spaces are."""
        self.position += len(self.text[self.position :]) - len(self.text[self.position :].lstrip())
        return self.text[self.position :]

    def taken(self, signs: str) -> str:
        """One of these signs, if it is next."""
        found = self.rest()[:1]
        if not found or found not in signs:
            return ""
        self.position += 1
        return found

    def nearest(self, word: str) -> str:
        """The end of a message about a word that is no coefficient: the one that was meant, be it a function of one, a
        parameter in place of its intercept, or a slip of the pen."""
        inside = re.match(r"\w+\((.*)\)$", word)
        if inside and inside[1] in self.names:
            return (
                f", which is a function of {inside[1]!r}: coefficients are on the scale of the link; for parameters on "
                "their own scale see hs.comparisons and hs.predictions."
            )
        of_parameter = next((name for name in self.names if name.startswith(f"{word}_")), None)
        return did_you_mean(word, self.names) if of_parameter is None else f"; did you mean {of_parameter!r}?"

    def sum(self) -> Linear:
        total = self.product()
        while sign := self.taken("+-"):
            total = total.plus(self.product().times(1.0 if sign == "+" else -1.0))
        return total

    def product(self) -> Linear:
        found = self.unit()
        while sign := self.taken("*/"):
            at, other = self.position, self.unit()
            if sign == "*" and not found.weights:
                found, other = other, found
            if other.weights or (sign == "/" and other.constant == 0.0):
                self.position = at
                raise self.error("not linear: a coefficient may be multiplied or divided by a number that is not 0")
            found = found.times(other.constant if sign == "*" else 1.0 / other.constant)
        return found

    def unit(self) -> Linear:
        if self.taken("-"):
            return self.unit().times(-1.0)
        if self.taken("("):
            inside = self.sum()
            if not self.taken(")"):
                raise self.error("a parenthesis is not closed")
            return inside
        rest = self.rest()
        for name, pattern in self.patterns.items():
            match = pattern.match(rest)
            if match and not _GOES_ON.match(rest[match.end() :]):
                self.position += match.end()
                return Linear(0.0, {name: 1.0})
        number = _NUMBER.match(rest)
        if number and not _GOES_ON.match(rest[number.end() :]):
            self.position += number.end()
            return Linear(float(number[0]))
        word = re.match(r"[^\s<>=+*]+(\s*\|\s*[^\s<>=+*]+)?", rest)
        if word:
            known = ", ".join(self.names[:12]) + (", ..." if len(self.names) > 12 else ".")
            raise InputError(
                f"hypothesis {self.text!r}: there is no coefficient {word[0]!r}{self.nearest(word[0])} Known: {known}"
            )
        raise self.error("expected a number or a coefficient")

    def error(self, reason: str) -> InputError:
        """That it cannot be read from here on."""
        self.rest()
        return InputError(f"the hypothesis cannot be read: {reason}.\n  {self.text}\n  {' ' * self.position}^")


def _pattern(name: str) -> re.Pattern[str]:
    letters = ["[/\u2215]" if letter in "/\u2215" else re.escape(letter) for letter in name if letter != " "]
    return re.compile(r"\s*".join(letters))
