"""Formulas as a person writes them -> a parsed formula, or a number, for every parameter."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hddm_sbi.data.syntax import Bar, Formula, parse
from hddm_sbi.errors import InputError, did_you_mean


def parse_formulas(
    formulas: str | Sequence[str] | Mapping[str, str | float],
    parameters: Sequence[str],
    fixed: Mapping[str, float] | None = None,
    stems: Mapping[str, tuple[str, ...]] | None = None,
    sequences: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> dict[str, Formula | float]:
    """Parsed formula, or number, of every parameter, in the order of `parameters`; where not given, `fixed` or `~ 1`.

    formulas: "v ~ condition + (1|subject)", "z = 0.5", a list of these, or a dict parameter -> right side or number.
    stems: stem -> the parameters of all accumulators of a race, which may have one formula together. Where none is
    given, accumulators differ in the first stem alone: each has a formula of its own there. sequences: names of
    covariates that are computed along trials. beside: what may have a formula too, and is left out where it has none.
    Raises InputError for an unknown parameter, one given twice, and whatever is not a formula (shows where).

    >>> parsed = parse_formulas(["v ~ condition + (1|subject)", "z = 0.5"], ["v", "a", "z"])
    >>> print(parsed["v"], parsed["a"], parsed["z"], sep=", ")
    v ~ condition + (1|subject), a ~ 1, 0.5
    """
    stems, fixed, given = stems or {}, fixed or {}, dict[str, Formula | float]()
    for name, value in _pairs(formulas, parameters):
        if name not in parameters and name not in stems and name not in beside:
            together = [f"{stem} for all of {', '.join(members)}" for stem, members in stems.items()]
            raise InputError(
                f"unknown parameter {name!r} in a formula{did_you_mean(name, [*parameters, *stems, *beside])} On the "
                f"left of ~ stands a parameter of the model: {', '.join([*parameters, *together, *beside])}."
            )
        if name in given:
            raise InputError(f"parameter {name!r} has two formulas; give it one.")
        given[name] = parse(name, value, stems.get(name, ()), sequences) if isinstance(value, str) else value
    shared = dict[str, str]()
    for stem, members in stems.items():
        if _together(stem, members, given, fixed, first=stem == next(iter(stems))):
            shared |= dict.fromkeys(members, stem)
    found = dict[str, Formula | float]()
    for parameter in parameters:
        name = shared.get(parameter, parameter)
        if name not in found:
            known = given[name] if name in given else fixed.get(parameter)
            found[name] = parse(name, "1", stems.get(name, ())) if known is None else known
    found |= {name: given[name] for name in beside if name in given}
    _check_tags([formula for formula in found.values() if isinstance(formula, Formula)])
    return found


def _check_tags(formulas: Sequence[Formula]) -> None:
    """Refuse terms of one tag that have different groups."""
    first: dict[str, tuple[Formula, Bar]] = {}
    for formula, bar in ((f, bar) for f in formulas for bar in f.bars if bar.tag):
        other, known = first.setdefault(bar.tag, (formula, bar))
        if bar.grouping != known.grouping:
            raise InputError(
                f"formula '{formula}': the terms of the tag {bar.tag!r} have the groups {bar.grouping} here and "
                f"{known.grouping} in '{other}'; terms of one tag are correlated group by group: write the same "
                "groups, or give one of them another tag."
            )


def _together(
    stem: str,
    members: Sequence[str],
    given: Mapping[str, Formula | float],
    fixed: Mapping[str, float],
    *,
    first: bool,
) -> bool:
    """Whether all accumulators have one formula, or number, for their parameters of a stem."""
    alone = [member for member in members if member in given]
    if stem in given and alone:
        raise InputError(
            f"parameter {alone[0]!r} has two formulas, its own and that of {stem!r}, which is for all of "
            f"{', '.join(members)}; keep one."
        )
    held = {fixed.get(member) for member in members}
    return stem in given or (not alone and len(held) == 1 and (held != {None} or not first))


def columns_used(formulas: Mapping[str, Formula | float]) -> tuple[str, ...]:
    """Data columns that occur in the formulas, in order of first use.

    >>> columns_used({"v": parse("v", "a * np.log(b) + (a|s/day)"), "z": 0.5})
    ('a', 'b', 's', 'day')
    """
    parsed = [formula for formula in formulas.values() if isinstance(formula, Formula)]
    return tuple(dict.fromkeys(column for formula in parsed for column in formula.columns))


def _pairs(formulas: object, parameters: Sequence[str]) -> Iterator[tuple[str, str | float]]:
    """Parameter and right-hand side, or number, of everything given."""
    if isinstance(formulas, Mapping):
        for name, value in formulas.items():
            yield str(name), _right_hand_side(str(name), value)
        return
    texts = [formulas] if isinstance(formulas, str) else formulas
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"formulas must be a string, a list of strings, or a dict; got {formulas!r}.")
    for text in texts:
        left, tilde, right = text.partition("~")
        assignment = re.fullmatch(r"\s*(\w+)\s*=\s*([^~]*)", text)
        if assignment:
            yield assignment[1], _number(assignment[1], assignment[2].strip())
        elif tilde and left.strip():
            yield left.strip(), _tidy(left.strip(), right)
        else:
            raise InputError(
                f"formula {text!r} must be `parameter ~ terms`, for instance {parameters[0]} ~ 1, or a fixed value, "
                f"for instance {parameters[0]} = 0.5."
            )


def _number(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name} = {value} is not a finite number; a formula is written with ~, as in {name} ~ 1.")
    return number


def _right_hand_side(name: str, value: object) -> str | float:
    if not isinstance(value, str):
        return _number(name, value)
    left, tilde, right = value.partition("~")
    return _tidy(name, right if tilde and left.strip() in ("", name) else value)


def _tidy(name: str, rhs: str) -> str:
    text = re.sub(r"\s*\n\s*", " ", rhs).strip()
    if not text:
        raise InputError(f"the formula of {name!r} is empty; write {name} ~ 1 for an intercept alone.")
    return text
