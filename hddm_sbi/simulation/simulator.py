"""What every simulator declares: parameters, outcomes, symmetries, and the shape of its decision times."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import digits
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hddm_sbi.errors import InputError, did_you_mean, name_rows
from hddm_sbi.simulation.counterpart import Counterpart
from hddm_sbi.simulation.outcome import Outcome, Simulated
from hddm_sbi.simulation.parameter import Parameter, ParameterPrior
from hddm_sbi.types import Array

Power = float | Callable[[Mapping[str, Any]], Any]

#: `Simulator.discretisation` of a simulator without any.
EXACT = "none: every trial is drawn from the model's law"


@dataclass(frozen=True)
class Symmetries:
    """Exact symmetries of a model, by which its likelihood is reduced before a network learns it.

    Parameters
    ----------
    shift
        Parameter that is added to the decision time and does nothing else.
    delay
        Parameter w such that a time uniform on [0, w] is added to the decision time, and that does nothing else: the
        density is averaged over the delay in closed form.
    factors
        Parameter -> the condition by which it is multiplied, where both enter as that product alone.
    scale
        Parameter b that sets the scale of space: p(t; theta, b) = b**-time_power p(t / b**time_power; theta', 1) with
        theta'_j = theta_j * b**scale_powers[j] (0 where not listed), or tan(theta_j) for a parameter in `tangents`.
    time_power
        Time is divided by b to this power, as above: a number, or a function of the other parameters by name (tensors).
    scale_powers
        Parameter name -> the power of b by which it is multiplied, as above: a number, or such a function.
    tangents
        Parameters that are angles, in radians.
    negated
        Parameters that change their sign, x into -x, when the two choices are swapped.
    complemented
        Parameters that turn from x into 1 - x when the two choices are swapped.
    even_given_choice
        Parameters whose sign does not matter for the decision time once the choice is known. For constant drift and
        bounds, reversing the drift multiplies p(t, choice) by a constant (Girsanov), so p(t | choice) stays the same.
    per_choice
        Stems of the parameters that every choice has one of (v for v0, v1, ...): permuting the choices permutes them.
    time_unit
        Instead of `scale`, where no single parameter sets it: the unit u of decision times, a function of the
        parameters by name (tensors), with p(t; theta) = p(t / u; reduced) / u.
    reduced
        What is left of the parameters in that unit: name -> such a function.

    Examples
    --------
    >>> Symmetries(shift="t0", scale="a", scale_powers={"v": 1.0}, negated=("v",)).set_apart
    ('t0', 'a')
    """

    shift: str | None = None
    delay: str | None = None
    factors: Mapping[str, str] = field(default_factory=dict)
    scale: str | None = None
    time_power: Power = 2.0
    scale_powers: Mapping[str, Power] = field(default_factory=dict)
    tangents: tuple[str, ...] = ()
    negated: tuple[str, ...] = ()
    complemented: tuple[str, ...] = ()
    even_given_choice: tuple[str, ...] = ()
    per_choice: tuple[str, ...] = ()
    time_unit: Callable[[Mapping[str, Any]], Any] | None = None
    reduced: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)

    @property
    def set_apart(self) -> tuple[str, ...]:
        """The parameters that a network never sees by themselves: shift, delay, scale, and conditions that multiply."""
        return tuple(name for name in (self.shift, self.delay, self.scale, *self.factors.values()) if name is not None)

    @property
    def mentioned(self) -> set[str]:
        """The names of all parameters that have a part in a symmetry, `per_choice` aside."""
        listed = (self.scale_powers, self.tangents, self.negated, self.complemented, self.even_given_choice)
        return {*self.set_apart, *self.factors, *self.reduced, *(name for names in listed for name in names)}


@dataclass(frozen=True)
class Clock:
    """The shape of a model's decision times, where it is not the ordinary one.

    Parameters
    ----------
    closing
        Where the bounds meet, so that decisions end at a finite time: one over that time, in 1/s, as a function of the
        parameters by name (tensors).
    collapse
        Where the bounds fall like exp(-(rate t)**power): (rate, power), likewise.
    tail
        "late" where P(rt > t), or that of an accumulator, falls no faster than a power of t; "early" where
        P(rt <= t0 + t) does, because evidence jumps.

    Examples
    --------
    >>> Clock(closing=lambda at: at["theta"].tan() / at["a"]).tail is None
    True
    """

    closing: Callable[[Mapping[str, Any]], Any] | None = None
    collapse: Callable[[Mapping[str, Any]], tuple[Any, Any]] | None = None
    tail: Literal["late", "early"] | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Simulator(ABC):
    """A model as a simulator: everything the package knows about it, in one place.

    Abstract, with two final kinds: `DecisionModel`, compiled, as all shipped models are, and `BlackBoxSimulator`, any
    Python function, which `hddm_sbi.declare` makes.

    Parameters
    ----------
    name
        Short name, such as "ddm".
    title
        The model in a few words.
    parameters
        In the order of the columns of every theta.
    outcomes
        The columns it produces; `rt` and `response` of a decision model.
    symmetries
        Its exact symmetries, if any.
    clock
        The shape of its decision times.
    citation
        The paper that it comes from.
    discretisation
        How far simulated trials are from the model's law, as measured and where.
    literature_priors
        Sets of priors from papers, by name: parameter name -> prior.
    counterparts
        The same model in other packages, by the name of the package.

    Raises
    ------
    InputError
        Where parts of the declaration contradict each other.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.load_simulator("ddm")
    DecisionModel(ddm: v a z t0, 2 choices)
    """

    name: str
    title: str
    parameters: tuple[Parameter, ...]
    outcomes: tuple[Outcome, ...]
    symmetries: Symmetries = Symmetries()
    clock: Clock = Clock()
    citation: str = ""
    discretisation: str = "not known"
    literature_priors: Mapping[str, Mapping[str, ParameterPrior]] = field(default_factory=dict)
    counterparts: Mapping[str, Counterpart] = field(default_factory=dict)

    #: whether a trial costs microseconds.
    compiled: ClassVar[bool]

    def __post_init__(self) -> None:
        names = self.names
        if len(set(names)) != len(names):
            raise InputError(f"parameter names of {self.name!r} must be unique; got {names}.")
        for p in self.parameters:
            if not p.support[0] <= p.low < p.high <= p.support[1]:
                raise InputError(
                    f"the box of {p.name!r}, [{p.low}, {p.high}], must lie inside its support {p.support}."
                )
        if not self.outcomes:
            raise InputError(f"{self.name!r} must have at least one outcome, such as rt and response; got none.")
        if self.is_decision_model:
            _check_codes(self.outcomes[1].categories)
        if names[: len(self.per_choice)] != self.per_choice:
            raise InputError(f"the first parameters of {self.name!r} must be {self.per_choice}; got {names}.")
        self._check_function()
        unknown = self.symmetries.mentioned - {*names, *(self.stems if self.races else ())}
        if unknown:
            raise InputError(f"the symmetries of {self.name!r} name {sorted(unknown)}, which are no parameters.")

    @abstractmethod
    def _check_function(self) -> None:
        """Raise InputError where what makes the outcomes does not fit the declaration."""

    @abstractmethod
    def simulate_outcomes(
        self,
        theta: Array,
        seed: int | Sequence[int],
        *,
        n_threads: int = 1,
        n_jobs: int | None = None,
        progress: bool = False,
        folder: Path | None = None,
    ) -> Simulated:
        """Outcomes at every row of theta; simulations that fail are counted, not raised.

        Parameters
        ----------
        theta
            (n, p), columns in the order of `parameters`.
        seed
            Same seed, same bytes, on any number of threads and processes.
        n_threads
            Threads of a compiled model.
        n_jobs
            Processes that run a Python function; None for as many as `joblib.parallel_config` says, or one.
        progress
            Whether to show a bar while a Python function runs.
        folder
            Keeps every block of rows of a Python function as soon as it is there; blocks that are there are not run.

        Raises
        ------
        InputError
            Where theta is not finite or outside the support of the model, or an outcome is not what it is declared as.
        """

    @property
    @abstractmethod
    def can_simulate(self) -> bool:
        """Whether it can simulate; a declaration read from a file cannot."""

    @property
    @abstractmethod
    def races(self) -> bool:
        """Whether the choices are independent accumulators, the first of which to finish is the response."""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names, in the order of the columns of theta."""
        return tuple(p.name for p in self.parameters)

    @property
    def is_decision_model(self) -> bool:
        """Whether its outcomes are a positive `rt` and a categorical `response`."""
        return [(o.name, o.kind) for o in self.outcomes] == [("rt", "positive"), ("response", "categorical")]

    @property
    def choices(self) -> tuple[int, ...]:
        """Response codes of a decision model, else none; a trial's `choice` is the position of its response here."""
        return tuple(int(str(code)) for code in self.outcomes[1].categories) if self.is_decision_model else ()

    @property
    def per_choice(self) -> tuple[str, ...]:
        """The parameters that every choice has one of, stem by stem, in the order of the choices."""
        return tuple(name for members in self.stems.values() for name in members)

    @property
    def stems(self) -> dict[str, tuple[str, ...]]:
        """Stem -> the parameters that every choice has one of, in the order of the choices: v -> (v0, v1)."""
        choices = range(len(self.choices))
        return {stem: tuple(f"{stem}{choice}" for choice in choices) for stem in self.symmetries.per_choice}

    @property
    def family(self) -> str:
        """What its network is called: that of one accumulator serves a race of any number of choices, which its name
        ends in."""
        return self.name.rstrip(digits) if self.races else self.name

    @property
    def learned(self) -> tuple[Parameter, ...]:
        """Parameters of what a network learns: the model's, or those of one accumulator of a race, called by their
        stems, then the shared ones."""
        if not self.races:
            return self.parameters
        first = [
            replace(p, name=stem) for stem, p in zip(self.stems, self.parameters[:: len(self.choices)], strict=False)
        ]
        return (*first, *self.parameters[len(self.per_choice) :])

    @property
    def box(self) -> dict[str, tuple[float, float]]:
        """(low, high) of every parameter: where simulators are tested and networks trained."""
        return {p.name: (p.low, p.high) for p in self.parameters}

    @property
    def support(self) -> dict[str, tuple[float, float]]:
        """(low, high) of every parameter: where the model is defined."""
        return {p.name: p.support for p in self.parameters}

    def spelled_out(self, theta: Mapping[str, Any]) -> dict[str, Any]:
        """A theta by name with the parameters of all accumulators in place of their stem, unless they are there by
        their own names, and with those that are held at a number."""
        together = {name: theta[stem] for stem, members in self.stems.items() if stem in theta for name in members}
        own = {name: value for name, value in theta.items() if name not in self.stems}
        return {p.name: p.fixed for p in self.parameters if p.fixed is not None} | together | own

    def in_order(self, theta: Mapping[str, Any], n: int) -> list[Any]:
        """The entries of a theta by name, in the order of `parameters`; what is not said is at its `fixed` value.

        A stem stands for the parameters of all accumulators that are not there by their own names. Raises InputError
        for names that are missing or unknown, and entries that are neither a number nor have one value per trial (n,).
        """
        for name in theta:
            if name not in self.names and name not in self.stems:
                hint = did_you_mean(name, (*self.names, *self.stems))
                raise InputError(f"{self.name!r} has no parameter {name!r}{hint} Parameters: {', '.join(self.names)}.")
        theta = self.spelled_out(theta)
        missing = [name for name in self.names if name not in theta]
        if missing:
            raise InputError(
                f"theta lacks {', '.join(missing)}; {self.name!r} has the parameters {', '.join(self.names)}."
            )
        for name, value in theta.items():
            shape = tuple(np.shape(value))
            if shape not in ((), (1,), (n,)):
                raise InputError(f"theta[{name!r}] must be a number or have one value per trial ({n}); got {shape}.")
        return [theta[name] for name in self.names]

    def theta_matrix(self, theta: Mapping[str, ArrayLike], n: int) -> Array:
        """Parameters by name, each a number or (n,), as an (n, p) matrix; errors as in `in_order`."""
        columns = [np.broadcast_to(np.asarray(value, dtype=np.float64), n) for value in self.in_order(theta, n)]
        return np.stack(columns, -1)

    def labels(self, values: Array) -> dict[str, NDArray[np.generic]]:
        """Outcomes (n, k), a column for each, as the columns of a table: categories by name, counts as integers."""
        return {outcome.name: outcome.labels(values[:, k]) for k, outcome in enumerate(self.outcomes)}

    def simulate(self, theta: Array, seed: int | Sequence[int], n_threads: int = 1) -> tuple[Array, NDArray[np.int64]]:
        """One trial of a decision model at every row of theta: rt (n,) in seconds, and choice (n,).

        choice: positions in `choices`. All else as in `simulate_outcomes`. Raises InputError where a simulation fails.
        """
        values = self.simulate_outcomes(theta, seed, n_threads=n_threads).complete(self.name)
        return values[:, 0], values[:, 1].astype(np.int64)

    def _checked(self, theta: Array, parameters: tuple[Parameter, ...]) -> Array:
        """theta (n, p), contiguous, with every value inside the support of its parameter."""
        theta = np.ascontiguousarray(theta, dtype=np.float64)
        names = tuple(p.name for p in parameters)
        if theta.ndim != 2 or theta.shape[1] != len(names):
            raise InputError(f"theta must be (n, {len(names)}), one column for each of {names}; got {theta.shape}.")
        for column, p in enumerate(parameters):
            value, (low, high) = theta[:, column], p.support
            inside = np.isfinite(value) & (value >= low) & (value <= high)
            # An edge of the support belongs to it where the box reaches it, and 0 seconds may always be added: t0 = 0
            # is a model, a = 0 is none.
            added = p.name in (self.symmetries.shift, self.symmetries.delay)
            inside &= ((value > low) | (p.low == low) | added) & ((value < high) | (p.high == high))
            wrong = np.flatnonzero(~inside)
            if wrong.size:
                raise InputError(
                    f"theta[{p.name!r}] must be finite and inside ({low:g}, {high:g}); got {value[wrong[0]]:g} in "
                    f"{name_rows(wrong.tolist())} (0 = first)."
                )
        return theta

    def __repr__(self) -> str:
        choices = f"{len(self.choices)} choices" if self.is_decision_model else " ".join(o.name for o in self.outcomes)
        return f"{type(self).__name__}({self.name}: {' '.join(self.names)}, {choices})"


def _check_codes(codes: tuple[object, ...]) -> None:
    if not all(isinstance(code, int) for code in codes):
        raise InputError(f"the responses of a decision model are coded by whole numbers, such as (-1, 1); got {codes}.")
    if list(codes) != sorted(codes):  # type: ignore[type-var]
        raise InputError(f"response codes must be in ascending order; got {codes}.")
