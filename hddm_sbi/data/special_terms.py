"""Terms of a formula that are not columns times coefficients: offset(), mo(), s()."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hddm_sbi.data.formulae_parts import Call, Model
from hddm_sbi.data.functions import calls
from hddm_sbi.errors import InputError

OFFSET, MONOTONIC = "offset", "mo"
#: by name of the function: how its term is written, and what to write for one within another term, or of groups.
_SPECIAL = {
    OFFSET: ("offset(x)", "multiply the columns inside of it, as in offset(x * y)"),
    MONOTONIC: ("mo(x)", "write the column itself there"),
    "s": ("s(x)", "write a spline with coefficients of its own there, as in cr(x, df=4)"),
}


def take_special(text: str, common: Any, effects: Sequence[Any]) -> tuple[Any, tuple[Any, ...]]:
    """The common terms of a formula without its special terms, and those.

    effects: of groups. Raises InputError for a special term in an interaction, in a group term, or in another function.
    """
    special: list[Any] = []
    for model in (common, *effects):
        for term in model.common_terms:
            names = [_called(component) for component in getattr(term, "components", ())]
            found = next((name for called in names for name in called if name in _SPECIAL), None)
            if found is None:
                continue
            if model is not common or len(names) > 1 or names[0][0] != found or _count(names[0]) > 1:
                written, remedy = _SPECIAL[found]
                where = "a group term" if model is not common else "another term"
                raise InputError(
                    f"formula '{text}': {written} is a term by itself, added with +, and here it stands inside of "
                    f"{where}, {term.name}; {remedy}."
                )
            special.append(term)
    if not special:
        return common, ()
    taken = {term.name for term in special}
    return Model(*(term for term in common.common_terms if term.name not in taken)), tuple(special)


def called_by(term: Any) -> str:
    """The function of a special term."""
    return _called(term.components[0])[0]


def _called(component: Any) -> list[str]:
    """Functions that a component calls, the outermost first."""
    return [str(call.callee) for call in calls(component.call)] if isinstance(component, Call) else []


def _count(called: Sequence[str]) -> int:
    return sum(name in _SPECIAL for name in called)
