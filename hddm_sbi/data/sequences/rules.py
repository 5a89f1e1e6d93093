"""The rules that come with the package: learning from feedback, practice, fatigue, slowing after errors, habits.

Every rule is a function of one trial, as `hs.sequence` takes it; a file of a fit has its name and arguments.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Ordered
from dataclasses import replace
from typing import Any, Literal, ParamSpec

import torch
from torch import Tensor

from hddm_sbi.data.sequences.sequence import Numbers, Paid, Sequence, sequence
from hddm_sbi.errors import InputError
from hddm_sbi.simulation import Parameter, ParameterPrior, parameter

_P = ParamSpec("_P")
By = str | Ordered[str]
#: name -> what makes the sequence, from plain arguments.
RULES: dict[str, Callable[..., Sequence]] = {}


def _shipped(make: Callable[_P, Sequence]) -> Callable[_P, Sequence]:
    """A rule that a file can name: its sequence says which arguments made it."""

    @functools.wraps(make)
    def made(*args: _P.args, **kwargs: _P.kwargs) -> Sequence:
        given = inspect.signature(make).bind(*args, **kwargs).arguments
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        own = callable(plain.get("paid"))
        return replace(make(*args, **kwargs), name=make.__name__, settings=None if own else plain)

    RULES[make.__name__] = made
    return made


def from_record(record: Mapping[str, Any]) -> Sequence:
    """The sequence of a shipped rule, from its name and arguments."""
    return RULES[record["rule"]](**record["settings"])


def _share(name: str, fixed: float | None = None) -> Parameter:
    """A share between 0 and 1."""
    return replace(parameter(name, 0.0, 1.0, f"share {name}"), fixed=fixed)


def _positive(name: str, typical: float, high: float, fixed: float | None = None) -> Parameter:
    """A positive number, whose size the prior knows within a factor of twenty."""
    prior = ParameterPrior.normal("log", math.log(typical), 1.5, slope=0.75, group_sd=0.75)
    made = parameter(name, 0.0, high, f"positive {name}", prior=prior, typical=(typical / 3, 3 * typical))
    return replace(made, fixed=fixed)


def _learned(value: Tensor, row: Numbers, rate: Tensor) -> Tensor:
    """Values of all choices after the feedback to one."""
    return value + rate * row["chosen"] * (row["feedback"] - value)


def _from_feedback(
    rule: str,
    parameters: Mapping[str, Parameter],
    start: Mapping[str, float],
    feedback: str,
    chosen: str,
    by: By,
    order: str,
    paid: Paid,
) -> Callable[[Any], Sequence]:
    return sequence(
        name=rule,
        start=start,
        parameters=parameters,
        columns={"feedback": feedback},
        choices={"chosen": chosen},
        by=by,
        order=order,
        payoff="feedback",
        paid=paid,
    )


@_shipped
def delta_rule(
    feedback: str,
    chosen: str,
    by: By,
    *,
    order: str = "trial",
    start: float = 0.5,
    rate: str = "alpha",
    paid: Paid = None,
) -> Sequence:
    """Values of choices, learned from feedback: Q <- Q + alpha (feedback - Q) for the choice that was made.

    The rule of Rescorla and Wagner (1972), and of the reinforcement learning drift diffusion model of Pedersen, Frank
    and Biele (2017), whose drift is v times the difference of values.

    Parameters
    ----------
    feedback
        Column of numbers: what the choice brought.
    chosen
        Column of responses: the table's own, or one in the same words.
    by
        Columns whose levels learn by themselves: `["subject", "pair"]`.
    order
        Column of numbers that ascend along each sequence.
    start
        Every value before the first trial.
    rate
        Name of the learning rate, a parameter between 0 and 1.
    paid
        What each choice pays, for predictions; see `hs.sequence`.

    Returns
    -------
    Sequence
        Its covariate is the value of every choice; in formulas of a model of two choices their difference, upper less
        lower.

    Raises
    ------
    InputError
        For what are no names of columns, or no number to start from.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.delta_rule("feedback", "response", ["subject", "pair"])
    Sequence(delta_rule by subject, pair: feedback, response; alpha)
    """

    return _from_feedback("delta_rule", {"alpha": _share(rate)}, {"q": start}, feedback, chosen, by, order, paid)(
        _delta
    )


def _delta(state: Numbers, row: Numbers, p: Numbers) -> tuple[Numbers, Tensor]:
    return {"q": _learned(state["q"], row, p["alpha"])}, state["q"]


@_shipped
def dual_rate_rule(
    feedback: str,
    chosen: str,
    by: By,
    *,
    order: str = "trial",
    start: float = 0.5,
    gain: str = "alpha_gain",
    loss: str = "alpha_loss",
    paid: Paid = None,
) -> Sequence:
    """Values of choices, learned at one rate where feedback is better than expected and at another where it is worse.

    Parameters
    ----------
    feedback
        Column of numbers: what the choice brought.
    chosen
        Column of responses: the table's own, or one in the same words.
    by
        Columns whose levels learn by themselves.
    order
        Column of numbers that ascend along each sequence.
    start
        Every value before the first trial.
    gain
        Name of the rate where feedback is above the value.
    loss
        Name of the rate elsewhere.
    paid
        What each choice pays, for predictions; see `hs.sequence`.

    Returns
    -------
    Sequence
        Its covariate is the value of every choice, as in `hs.delta_rule`.

    Raises
    ------
    InputError
        For what are no names of columns, or no number to start from.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.dual_rate_rule("feedback", "response", "subject")
    Sequence(dual_rate_rule by subject: feedback, response; alpha_gain, alpha_loss)
    """

    own = {"gain": _share(gain), "loss": _share(loss)}
    return _from_feedback("dual_rate_rule", own, {"q": start}, feedback, chosen, by, order, paid)(_dual_rate)


def _dual_rate(state: Numbers, row: Numbers, p: Numbers) -> tuple[Numbers, Tensor]:
    q = state["q"]
    return {"q": _learned(q, row, torch.where(row["feedback"] > q, p["gain"], p["loss"]))}, q


@_shipped
def forgetting_rule(
    feedback: str,
    chosen: str,
    by: By,
    *,
    order: str = "trial",
    start: float = 0.5,
    rate: str = "alpha",
    forgetting: str = "forgetting",
    paid: Paid = None,
) -> Sequence:
    """Values of choices, learned by the delta rule; those of choices that were not made return to where they began.

    Parameters
    ----------
    feedback
        Column of numbers: what the choice brought.
    chosen
        Column of responses: the table's own, or one in the same words.
    by
        Columns whose levels learn by themselves.
    order
        Column of numbers that ascend along each sequence.
    start
        Every value before the first trial, to which it returns.
    rate
        Name of the learning rate.
    forgetting
        Name of the share of the way back that each trial takes.
    paid
        What each choice pays, for predictions; see `hs.sequence`.

    Returns
    -------
    Sequence
        Its covariate is the value of every choice, as in `hs.delta_rule`.

    Raises
    ------
    InputError
        For what are no names of columns, or no number to start from.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.forgetting_rule("feedback", "response", "subject")
    Sequence(forgetting_rule by subject: feedback, response; alpha, forgetting)
    """
    own = {"alpha": _share(rate), "forgetting": _share(forgetting)}

    step = functools.partial(_forgetting, start=start)
    return _from_feedback("forgetting_rule", own, {"q": start}, feedback, chosen, by, order, paid)(step)


def _forgetting(state: Numbers, row: Numbers, p: Numbers, start: float) -> tuple[Numbers, Tensor]:
    q = state["q"]
    return {"q": _learned(q, row, p["alpha"]) + p["forgetting"] * (1.0 - row["chosen"]) * (start - q)}, q


@_shipped
def kalman_rule(
    feedback: str,
    chosen: str,
    by: By,
    *,
    order: str = "trial",
    start: float = 0.5,
    noise: str = "noise",
    volatility: str = "volatility",
    gives: Literal["value", "uncertainty"] = "value",
    paid: Paid = None,
) -> Sequence:
    """Values of choices and how uncertain they are: learning is fast where a choice is unknown, and slows down.

    The filter of Kalman (1960) for values that drift: with s the variance of a value, in units of that before the first
    trial, its gain is s / (s + noise); the value moves by gain (feedback - value), s falls to s (1 - gain), and all
    variances grow by the volatility.

    Parameters
    ----------
    feedback
        Column of numbers: what the choice brought.
    chosen
        Column of responses: the table's own, or one in the same words.
    by
        Columns whose levels learn by themselves.
    order
        Column of numbers that ascend along each sequence.
    start
        Every value before the first trial.
    noise
        Name of the variance of feedback around the value.
    volatility
        Name of the variance by which values drift from trial to trial; 0 unless a formula says otherwise.
    gives
        The covariate: "value", or "uncertainty", the standard deviation of the value.
    paid
        What each choice pays, for predictions; see `hs.sequence`.

    Returns
    -------
    Sequence
        Its covariate is the value, or uncertainty, of every choice, as in `hs.delta_rule`.

    Raises
    ------
    InputError
        For what are no names of columns, no number to start from, or another covariate.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.kalman_rule("feedback", "response", "subject", gives="uncertainty")
    Sequence(kalman_rule by subject: feedback, response; noise, volatility)
    """
    if gives not in ("value", "uncertainty"):
        raise InputError(f"gives must be 'value' or 'uncertainty'; got {gives!r}.")
    own = {"noise": _positive(noise, 1.0, 100.0), "volatility": _positive(volatility, 0.05, 10.0, fixed=0.0)}

    step = functools.partial(_kalman, gives=gives)
    return _from_feedback("kalman_rule", own, {"q": start, "variance": 1.0}, feedback, chosen, by, order, paid)(step)


def _kalman(state: Numbers, row: Numbers, p: Numbers, gives: str) -> tuple[Numbers, Tensor]:
    q, variance = state["q"], state["variance"]
    gain = variance / (variance + p["noise"]) * row["chosen"]
    after = {"q": q + gain * (row["feedback"] - q), "variance": variance * (1.0 - gain) + p["volatility"]}
    return after, q if gives == "value" else torch.sqrt(variance)


@_shipped
def practice(
    by: By, *, order: str = "trial", law: Literal["exponential", "power"] = "exponential", rate: str = "practice_rate"
) -> Sequence:
    """What practice has not yet done: 1 on the first trial, and falling to 0 with the trials before.

    After n trials it is exp(-rate n), or (1 + n)^-rate by the power law of practice (Newell and Rosenbloom, 1981); with
    `v ~ 1 + left`, the intercept is where practice leads, and the slope how far it is at first.

    Parameters
    ----------
    by
        Columns whose levels practise by themselves.
    order
        Column of numbers that ascend along each sequence.
    law
        "exponential" or "power".
    rate
        Name of the rate.

    Returns
    -------
    Sequence
        Its covariate is a number.

    Raises
    ------
    InputError
        For what are no names of columns, or another law.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.practice("subject", law="power")
    Sequence(practice by subject: no column; practice_rate)
    """
    if law not in ("exponential", "power"):
        raise InputError(f"law must be 'exponential' or 'power'; got {law!r}.")
    typical = 0.03 if law == "exponential" else 0.5

    own = {"rate": _positive(rate, typical, 5.0)}
    return sequence(start={"n": 0.0}, parameters=own, by=by, order=order)(functools.partial(_practice, law=law))


def _practice(state: Numbers, row: Numbers, p: Numbers, law: str) -> tuple[Numbers, Tensor]:
    n = state["n"]
    return {"n": n + 1.0}, torch.exp(-p["rate"] * (n if law == "exponential" else torch.log(1.0 + n)))


@_shipped
def fatigue(by: By, *, order: str = "trial", rate: str = "fatigue_rate") -> Sequence:
    """How tired: 0 on the first trial, and growing to 1 with the trials before, 1 - exp(-rate n).

    With `by=["subject", "block"]` every block begins anew, as after a rest.

    Parameters
    ----------
    by
        Columns whose levels tire by themselves.
    order
        Column of numbers that ascend along each sequence.
    rate
        Name of the rate.

    Returns
    -------
    Sequence
        Its covariate is a number.

    Raises
    ------
    InputError
        For what are no names of columns.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.fatigue(["subject", "block"])
    Sequence(fatigue by subject, block: no column; fatigue_rate)
    """

    own = {"rate": _positive(rate, 0.01, 5.0)}
    return sequence(start={"tired": 0.0}, parameters=own, by=by, order=order)(_fatigue)


def _fatigue(state: Numbers, row: Numbers, p: Numbers) -> tuple[Numbers, Tensor]:
    tired = state["tired"]
    return {"tired": tired + (1.0 - torch.exp(-p["rate"])) * (1.0 - tired)}, tired


@_shipped
def post_error_slowing(
    response: str, by: By, *, correct: str | None = None, order: str = "trial", decay: str = "decay"
) -> Sequence:
    """Errors just made: 1 after an error and 0 after a correct response, or a trace of them that decays.

    Parameters
    ----------
    response
        Column of responses: the table's own.
    by
        Columns whose levels have sequences of their own.
    correct
        Column that has the right response of each trial, in the words of `response`; without it the lower response is
        the error, as in models of correct and wrong responses.
    order
        Column of numbers that ascend along each sequence.
    decay
        Name of the share of the trace that is left a trial later; 0 unless a formula says otherwise.

    Returns
    -------
    Sequence
        Its covariate is a number; `a ~ 1 + after_error` has the slowing as its slope.

    Raises
    ------
    InputError
        For what are no names of columns.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.post_error_slowing("response", "subject", correct="stimulus")
    Sequence(post_error_slowing by subject: response, stimulus; decay)
    """
    read = {"response": response} if correct is None else {"response": response, "correct": correct}
    own = {"decay": _share(decay, fixed=0.0)}
    return sequence(start={"trace": (0.0,)}, parameters=own, choices=read, by=by, order=order)(_after_error)


def _after_error(state: Numbers, row: Numbers, p: Numbers) -> tuple[Numbers, Tensor]:
    right = (row["response"] * row["correct"]).sum() if "correct" in row else row["response"][1:].sum()
    return {"trace": p["decay"] * state["trace"] + (1.0 - right)}, state["trace"]


@_shipped
def sticky_choice(response: str, by: By, *, order: str = "trial", rate: str = "habit_rate") -> Sequence:
    """Habits: how often every choice was made of late, C <- C + rate (1 - C) if it was made, C <- (1 - rate) C else.

    The choice kernel of Lau and Glimcher (2005); a rate of 1 is the last choice alone.

    Parameters
    ----------
    response
        Column of responses: the table's own.
    by
        Columns whose levels have habits of their own.
    order
        Column of numbers that ascend along each sequence.
    rate
        Name of the rate, a parameter between 0 and 1.

    Returns
    -------
    Sequence
        Its covariate is the habit of every choice; in formulas of a model of two choices their difference, upper less
        lower.

    Raises
    ------
    InputError
        For what are no names of columns.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.sticky_choice("response", "subject")
    Sequence(sticky_choice by subject: response; habit_rate)
    """

    own = {"rate": _share(rate)}
    return sequence(start={"habit": 0.0}, parameters=own, choices={"response": response}, by=by, order=order)(_habit)


def _habit(state: Numbers, row: Numbers, p: Numbers) -> tuple[Numbers, Tensor]:
    habit = state["habit"]
    return {"habit": habit + p["rate"] * (row["response"] - habit)}, habit
