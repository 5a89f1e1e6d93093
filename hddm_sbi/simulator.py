"""Declare a decision model: its parameters, what it produces, its symmetries, and how one trial is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hddm_sbi.errors import InputError

Link = Literal["identity", "log", "logit"]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Prior:
    """A prior as plain data; `hddm_sbi.priors` turns it into a Pyro distribution.

    family: "normal" (mean, sd), "halfnormal" (scale), or "gamma" (mean, sd).
    """

    family: Literal["normal", "halfnormal", "gamma"]
    location: float
    scale: float


@dataclass(frozen=True)
class ParameterPrior:
    """Default priors of one parameter's coefficients, on the scale of its link.

    intercept: of the intercept (and of every cell mean under `0 + condition`).
    slope: of every other common coefficient. group_sd: of the standard deviation of every group effect.
    population: how groups spread around the mean: "normal" on the link scale, or "gamma" with that mean and sd.
    """

    link: Link
    intercept: Prior
    slope: Prior
    group_sd: Prior
    population: Literal["normal", "gamma"] = "normal"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model.

    low, high: the box, where simulators are tested and networks trained. support: where the model is defined.
    typical: range seen in human data. prior: default prior of its coefficients.
    """

    name: str
    low: float
    high: float
    description: str
    unit: str
    typical: tuple[float, float]
    support: tuple[float, float]
    prior: ParameterPrior


@dataclass(frozen=True)
class Symmetries:
    """Exact symmetries of a model, by which its likelihood is reduced before it is learned.

    shift: parameter that is added to the decision time and does nothing else (the network never sees it).
    scale: parameter b that sets the scale of space: p(t; theta, b) = b**-time_power p(t / b**time_power; theta', 1)
    with theta'_j = theta_j * b**scale_powers[j] (0 where not listed).
    negated, complemented: parameters that turn into -x and 1 - x when the two choices are swapped.
    """

    shift: str | None = None
    scale: str | None = None
    time_power: float = 2.0
    scale_powers: Mapping[str, float] = field(default_factory=dict)
    negated: tuple[str, ...] = ()
    complemented: tuple[str, ...] = ()


@dataclass(frozen=True)
class Simulator:
    """A decision model: everything the package knows about it, in one place.

    parameters: in the order of the columns of every theta. choices: response codes; a trial's `choice` is the
    position of its response in this tuple. trial: Numba function `trial(*theta, rng) -> (rt, choice)` whose argument
    names are the parameter names, with `rng` a numpy Generator. log_density: closed form, or None (see `exact.py`).
    """

    name: str
    title: str
    parameters: tuple[Parameter, ...]
    choices: tuple[int, ...]
    trial: Callable[..., tuple[float, int]]
    symmetries: Symmetries
    citation: str
    log_density: Callable[..., Any] | None = None
    literature_priors: Mapping[str, Mapping[str, ParameterPrior]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names, in the order of the columns of theta."""
        return tuple(p.name for p in self.parameters)
