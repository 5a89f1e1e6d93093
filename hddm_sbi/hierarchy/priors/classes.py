"""Classes of coefficients, all of which one prior may be given for: Intercept, b, sigma, as in brms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hddm_sbi.errors import InputError

#: every class that `priors` may name, and what is in it, for messages.
CLASSES: dict[str, str] = {
    "Intercept": "intercept, nor a mean of conditions as in 0 + condition",
    "b": "slope, nor a difference between conditions",
    "sigma": "standard deviation of groups or of a smooth",
    "corr": "correlation of group effects that takes a prior",
    "simplex": "simplex of mo()",
}


@dataclass(frozen=True)
class Kind:
    """What a coefficient is: of which parameter, or stem of parameters of a race, and of which class."""

    parameter: str
    name: str


@dataclass(frozen=True)
class Choice:
    """The prior of one coefficient, and what `priors` says it under: its own name, or that of a class.

    of_class: whether it is one prior for several coefficients.
    """

    prior: Any
    key: str
    of_class: bool = False


def of_classes(priors: Mapping[str, Any], kinds: Mapping[str, Kind]) -> dict[str, Choice]:
    """The prior of every coefficient of the classes that `priors` names; `v_sigma` goes before `sigma`.

    A key that is the name of a coefficient is none of a class. Raises InputError for a class that is empty.

    >>> kinds = {"v_Intercept": Kind("v", "Intercept"), "v_x": Kind("v", "b"), "a_x": Kind("a", "b")}
    >>> {name: choice.prior for name, choice in of_classes({"v_b": 1, "b": 2}, kinds).items()}
    {'v_x': 1, 'a_x': 2}
    """
    chosen: dict[str, Choice] = {}
    for key, kind in sorted(class_keys(priors, kinds).items(), key=lambda each: each[1].parameter == ""):
        within = [n for n, k in kinds.items() if k.name == kind.name and kind.parameter in ("", k.parameter)]
        if not within:
            of = f" of {kind.parameter}" if kind.parameter else ""
            raise InputError(
                f"priors names the class {key!r}, and this model has no {CLASSES[kind.name]}{of}; leave it out. "
                f"Coefficients: {list(kinds)}"
            )
        for name in within:
            chosen.setdefault(name, Choice(priors[key], key, of_class=True))
    return {name: chosen[name] for name in kinds if name in chosen}


def class_keys(priors: Mapping[str, Any], kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    """The keys that name a class, of one parameter or, with "" for it, of all."""
    parameters, found = {kind.parameter for kind in kinds.values()}, dict[str, Kind]()
    for key in (key for key in priors if isinstance(key, str) and key not in kinds):
        parameter, underscore, name = key.rpartition("_")
        if name in CLASSES and (parameter in parameters or not underscore):
            found[key] = Kind(parameter, name)
    return found
