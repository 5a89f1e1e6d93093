"""Make a simulator of a Python function, its parameters and its outcomes; and write its declaration as JSON."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from hddm_sbi.errors import InputError
from hddm_sbi.simulation.outcome import Outcome
from hddm_sbi.simulation.parameter import Parameter, ParameterPrior, Prior, parameter
from hddm_sbi.simulation.python_function import BlackBoxSimulator
from hddm_sbi.simulation.simulator import Clock, Simulator, Symmetries


def declare(
    parameters: Mapping[str, tuple[float, float] | Parameter],
    outcomes: Mapping[str, str | tuple[object, ...]],
    *,
    symmetries: Symmetries | None = None,
    vectorised: bool = False,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], BlackBoxSimulator]:
    """Decorator that makes a `BlackBoxSimulator` of a function.

    Parameters
    ----------
    parameters
        Name -> (low, high), the box where the simulator is run and the likelihood will hold; a `Parameter` says more
        (see `parameter`).
    outcomes
        Name -> "real", "positive", "count", or a tuple of categories, in the order in which the function returns them.
        A model of a positive `rt` and a categorical `response` is a decision model: it has lapses and plots as the
        shipped models have.
    symmetries
        Exact symmetries of a decision model, by which its likelihood is learned from fewer simulations.
    vectorised
        The function takes columns (n,), one for each parameter, and returns columns.
    name
        Name of the model; by default that of the function.

    Returns
    -------
    callable
        The decorator: from a function of parameters and a random generator to a `BlackBoxSimulator`.

    Raises
    ------
    InputError
        For a box without two finite ends, an outcome of unknown kind, or a function with other arguments.

    Examples
    --------
    >>> @declare(parameters={"rate": (0.5, 20.0)}, outcomes={"chips": "count"})
    ... def cookies(rate, rng):
    ...     return rng.poisson(rate)
    >>> cookies
    BlackBoxSimulator(cookies: rate, chips)
    """

    for what, given, example in (
        ("parameters", parameters, '{"rate": (0.5, 20.0)}'),
        ("outcomes", outcomes, '{"rt": "positive", "response": (-1, 1)}'),
    ):
        if not isinstance(given, Mapping):
            raise InputError(f"{what} must be a dict by name, such as {example}; got {given!r}.")

    def decorate(function: Callable[..., Any]) -> BlackBoxSimulator:
        whole = function.func if isinstance(function, functools.partial) else function
        source = getattr(whole, "py_func", whole)
        return BlackBoxSimulator(
            name=name or str(getattr(source, "__name__", "simulator")),
            title=(inspect.getdoc(source) or "a simulator of the user's own").splitlines()[0],
            parameters=tuple(_in_box(key, p, symmetries or Symmetries()) for key, p in parameters.items()),
            outcomes=tuple(_outcome(key, kind) for key, kind in outcomes.items()),
            symmetries=symmetries or Symmetries(),
            function=function,
            vectorised=vectorised,
        )

    return decorate


def _in_box(name: str, box: tuple[float, float] | Parameter, symmetries: Symmetries) -> Parameter:
    """A `Parameter`, or one made of a box; times and scales are positive without an upper end, however small it is."""
    if isinstance(box, Parameter):
        return box
    positive = name in symmetries.set_apart and box[0] >= 0
    return parameter(name, *box, link="log" if positive else None)


def _outcome(name: str, kind: str | tuple[object, ...]) -> Outcome:
    return Outcome(name, kind) if isinstance(kind, str) else Outcome(name, "categorical", tuple(kind))  # type: ignore[arg-type]


def as_json(simulator: Simulator) -> dict[str, Any]:
    """A simulator without its function, as JSON. Raises InputError where other parts of it are functions too."""
    symmetries = asdict(simulator.symmetries)
    powers = [simulator.symmetries.time_power, *simulator.symmetries.scale_powers.values()]
    functions = (simulator.clock.closing, simulator.clock.collapse, simulator.symmetries.time_unit)
    if any(functions) or simulator.symmetries.reduced or any(callable(power) for power in powers):
        raise InputError(
            f"{simulator.name!r} declares functions of its parameters (closing, collapse, time_unit, reduced, or a "
            "power), which a file cannot hold."
        )
    return {
        "name": simulator.name,
        "title": simulator.title,
        # JSON has no infinity: an end that is missing is none.
        "parameters": [
            {**asdict(p), "support": [end if math.isfinite(end) else None for end in p.support]}
            for p in simulator.parameters
        ],
        "outcomes": [asdict(outcome) for outcome in simulator.outcomes],
        "symmetries": symmetries,
        "racing": simulator.races,
        "tail": simulator.clock.tail,
        "discretisation": simulator.discretisation,
    }


def from_json(raw: Mapping[str, Any]) -> BlackBoxSimulator:
    """The simulator that `as_json` described; it can be fitted but not run."""
    if raw["racing"]:
        raise InputError(f"{raw['name']!r} is a race: pass simulator= to load its likelihood.")
    return BlackBoxSimulator(
        name=str(raw["name"]),
        title=str(raw["title"]),
        parameters=tuple(_parameter(p) for p in raw["parameters"]),
        outcomes=tuple(Outcome(o["name"], o["kind"], tuple(o["categories"])) for o in raw["outcomes"]),
        symmetries=_symmetries(raw["symmetries"]),
        clock=Clock(tail=raw["tail"]),
        discretisation=str(raw["discretisation"]),
        function=None,
    )


def _symmetries(raw: Mapping[str, Any]) -> Symmetries:
    known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    return Symmetries(**known)


def _parameter(raw: Mapping[str, Any]) -> Parameter:
    prior = raw["prior"]
    terms = {term: Prior(**prior[term]) for term in ("intercept", "slope", "group_sd")}
    known = ParameterPrior(prior["link"], **terms, population=prior["population"])
    low, high = raw["support"]
    support = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    names = ("typical", "accuracy_range", "bias_range")
    ranges = {name: (float(raw[name][0]), float(raw[name][1])) for name in names if raw.get(name) is not None}
    of_this_version = {field.name: raw[field.name] for field in fields(Parameter) if field.name in raw}
    codes = tuple(map(float, raw.get("codes") or ([raw["low"], raw["high"]] if raw.get("from_data") else [])))
    return Parameter(**{**of_this_version, **ranges, "codes": codes, "support": support, "prior": known})
