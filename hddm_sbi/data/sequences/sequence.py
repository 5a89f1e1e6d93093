"""A covariate that is computed along trials in their order, by a rule of one trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from hddm_sbi.errors import InputError
from hddm_sbi.simulation import Parameter, parameter
from hddm_sbi.types import Array

Numbers = Mapping[str, Tensor]
#: (state, row, parameters) -> (state after the trial, covariate of the trial).
Step = Callable[[Numbers, Numbers, Numbers], tuple[Numbers, Tensor]]
#: what every choice pays: columns in the order of choices, or (table, rng) -> (n_trials, n_choices).
Paid = Ordered[str] | Callable[[pd.DataFrame, np.random.Generator], Array] | None
#: a state before the first trial: a number, several, or the parameter that is it.
Start = float | tuple[float, ...] | str


@dataclass(frozen=True)
class Sequence:
    """A covariate along trials, as `hs.sequence` and the shipped rules make it. The model gives it its name.

    Parameters
    ----------
    name
        Name of the rule.
    step
        The rule: (state, row, parameters) -> state after the trial, covariate of the trial.
    parameters
        The parameters of the rule, by the names that the rule uses.
    start
        Name of a state -> its value before the first trial.
    columns
        Name in the rule -> numeric column of the table.
    choices
        Name in the rule -> column of responses; the rule sees 1 for the choice and 0 elsewhere.
    by
        Columns whose levels have sequences of their own.
    order
        Column of numbers that ascend along each sequence.
    payoff
        The one of `columns` that depends on the choice; "" for none.
    paid
        What each choice pays, where predictions need it.
    settings
        Arguments of a rule of the package, as plain data; None for one of the user's own.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> rule = hs.delta_rule("feedback", "response", by="subject")
    >>> isinstance(rule, hs.Sequence), rule.by, sorted(rule.parameters)
    (True, ('subject',), ['alpha'])
    """

    name: str
    step: Step
    parameters: Mapping[str, Parameter]
    start: Mapping[str, Start]
    columns: Mapping[str, str]
    choices: Mapping[str, str]
    by: tuple[str, ...]
    order: str
    payoff: str = ""
    paid: Paid = None
    settings: Mapping[str, Any] | None = None

    @property
    def complete_columns(self) -> tuple[str, ...]:
        """Columns of the table in which nothing may be missing."""
        return (*self.by, self.order)

    @property
    def open_columns(self) -> tuple[str, ...]:
        """Columns of the table in which something may be missing: of such a trial nothing is learned."""
        return (*self.columns.values(), *self.choices.values(), *(() if callable(self.paid) else self.paid or ()))

    def begins(self, n_choices: int) -> dict[str, tuple[Start, ...]]:
        """Every state before the first trial: one for each choice where the rule sees choices, unless said."""
        n = n_choices if self.choices else 1
        return {name: at if isinstance(at, tuple) else (at,) * n for name, at in self.start.items()}

    @property
    def brought(self) -> tuple[str, ...]:
        """The column of what choices brought, where predictions draw from it what they bring; else none."""
        return (self.columns[self.payoff],) if self.payoff and self.paid is None else ()

    @property
    def record(self) -> dict[str, Any]:
        """The rule and what it was made from, as plain data; of one of the user's own all but its function."""
        if self.settings is not None:
            return {"rule": self.name, "settings": dict(self.settings)}
        own = {"parameters": {key: p.name for key, p in self.parameters.items()}, "start": dict(self.start)}
        read = {"columns": dict(self.columns), "choices": dict(self.choices), "by": list(self.by)}
        return {"rule": self.name, **own, **read, "order": self.order, "payoff": self.payoff}

    def __repr__(self) -> str:
        read = ", ".join(dict.fromkeys((*self.columns.values(), *self.choices.values())))
        own = ", ".join(p.name for p in self.parameters.values())
        return f"Sequence({self.name} by {', '.join(self.by) or 'nothing'}: {read or 'no column'}; {own})"


def sequence(
    *,
    start: Mapping[str, Start],
    parameters: Mapping[str, tuple[float, float] | Parameter] | None = None,
    columns: Ordered[str] | Mapping[str, str] = (),
    choices: Ordered[str] | Mapping[str, str] = (),
    by: str | Ordered[str] = (),
    order: str = "trial",
    payoff: str = "",
    paid: Paid = None,
    name: str | None = None,
) -> Callable[[Step], Sequence]:
    """Decorator that makes a `Sequence` of a rule of one trial.

    The rule is a function `(state, row, parameters) -> state, covariate` of dicts of tensors in double precision, in
    torch. It is recorded once and compiled, with its gradient, so it chooses between numbers by `torch.where`, not by
    `if`. Where a value that the rule reads is missing, that trial has its covariate all the same, but leaves the state
    as it is.

    Parameters
    ----------
    start
        Name of a state -> its value before the first trial: a number (the same for every choice, if there are
        `choices`), a tuple of numbers, or the name of a parameter.
    parameters
        Name -> (low, high), or a `Parameter`; each has a formula, priors and group effects like any other parameter.
    columns
        Numeric columns that the rule reads, or a dict: name in the rule -> column.
    choices
        Columns of responses, given in the same way and written as in the model's own column of responses. The rule sees
        a tensor with 1 at the choice and 0 elsewhere, in the order of the model's choices.
    by
        Columns whose levels have sequences of their own: `["subject", "pair"]`.
    order
        Column of numbers that ascend along each sequence.
    payoff
        The one of `columns` that depends on the choice. Predictions draw it anew.
    paid
        What each choice pays, where predictions need it: columns in the order of the choices, or a function
        `(table, rng)` that returns (n_trials, n_choices). By default a payoff that was observed after that choice,
        drawn at random within the levels of `by`.
    name
        Name of the rule; by default that of the function.

    Returns
    -------
    callable
        The decorator. The covariate is one number per trial, or one number per choice. A formula for all accumulators
        of a race uses the number of each accumulator. Any other formula uses the difference, upper minus lower choice.

    Raises
    ------
    InputError
        An argument cannot be used.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> @hs.sequence(parameters={"rate": (0.0, 1.0)}, start={"habit": 0.0}, choices=["response"], by="subject")
    ... def habits(state, row, parameters):
    ...     habit = state["habit"]
    ...     return {"habit": habit + parameters["rate"] * (row["response"] - habit)}, habit
    >>> habits
    Sequence(habits by subject: response; rate)
    """

    for what, given, example in (("start", start, "{'q': 0.5}"), ("parameters", parameters or {}, "{'alpha': (0, 1)}")):
        if not isinstance(given, Mapping):
            raise InputError(f"{what} must be a dict by name, such as {example}; got {given!r}.")

    def decorate(step: Step) -> Sequence:
        if not callable(step):
            raise InputError(f"a rule must be a function (state, row, parameters) -> state, covariate; got {step!r}.")
        return _checked(
            Sequence(
                name=name or str(getattr(step, "__name__", "sequence")),
                step=step,
                parameters={key: _parameter(key, box) for key, box in (parameters or {}).items()},
                start={state: _several(at) for state, at in start.items()},
                columns=_by_name("columns", columns),
                choices=_by_name("choices", choices),
                by=_names("by", by),
                order=order,
                payoff=payoff,
                paid=paid,
            )
        )

    return decorate


def _several(at: Any) -> Start:
    """What a state is before the first trial; a list or an array of numbers as a tuple of plain ones."""
    plain = at.tolist() if isinstance(at, np.ndarray | np.generic) else at
    return tuple(plain) if isinstance(plain, list) else plain


def _parameter(name: str, box: object) -> Parameter:
    if isinstance(box, Parameter):
        return box
    if not (isinstance(box, Ordered) and len(box) == 2):
        raise InputError(f"parameters[{name!r}] must be (low, high) or a Parameter; got {box!r}.")
    return parameter(name, float(box[0]), float(box[1]))


def _names(what: str, given: object) -> tuple[str, ...]:
    found = (given,) if isinstance(given, str) else given
    if not isinstance(found, Ordered) or not all(isinstance(each, str) for each in found):
        raise InputError(f"{what} must be names of columns, for instance ['subject']; got {given!r}.")
    return tuple(found)


def _by_name(what: str, given: object) -> dict[str, str]:
    if isinstance(given, Mapping) and all(isinstance(x, str) for pair in given.items() for x in pair):
        return dict(given)
    return {name: name for name in _names(what, given)}


def _checked(made: Sequence) -> Sequence:
    """The same sequence. Raises InputError where its parts do not fit together."""
    names = [*made.columns, *made.choices]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{made.name}: {twice!r} names two of what the rule reads; give one another name.")
    if not made.start:
        raise InputError(
            f"{made.name}: start must give the states before the first trial, as in {{'q': 0.5}}; got none."
        )
    for state, at in made.start.items():
        if isinstance(at, str) and at not in made.parameters:
            known = ", ".join(made.parameters) or "none"
            raise InputError(f"{made.name}: start[{state!r}] = {at!r} is no parameter of the rule, which has {known}.")
        numbers = at if isinstance(at, tuple) else (at,)
        if not isinstance(at, str) and not all(isinstance(x, int | float) and np.isfinite(x) for x in numbers):
            raise InputError(
                f"{made.name}: start[{state!r}] must be a finite number, several, or a parameter; got {at!r}."
            )
    if not isinstance(made.order, str):
        raise InputError(f"{made.name}: order must be the name of a column that counts trials; got {made.order!r}.")
    if made.payoff and made.payoff not in made.columns:
        raise InputError(f"{made.name}: payoff={made.payoff!r} is none of its columns, {list(made.columns)}.")
    if made.paid is not None and not callable(made.paid):
        _names("paid", made.paid)
    if made.payoff and not made.choices:
        raise InputError(f"{made.name}: a payoff follows from a choice; name the column of responses, choices=.")
    return made
