"""Declare a decision model: its parameters, what it produces, its symmetries, and how one trial is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numba as nb
import numpy as np
from numba import types
from numba.core.types import NumPyRandomGeneratorType
from numba.np.unsafe.ndarray import to_fixed_tuple
from numpy.typing import ArrayLike, NDArray

from hddm_sbi.errors import InputError, did_you_mean, name_rows
from hddm_sbi.simulation.first_passage import Passage
from hddm_sbi.simulation.outcome import Outcome
from hddm_sbi.simulation.python_function import BlackBox, MissingSimulator, Simulated
from hddm_sbi.types import Array

Link = Literal["identity", "log", "logit"]
Power = float | Callable[[Mapping[str, Any]], Any]
Tail = Literal["late", "early"]

#: trials per random stream; part of what a seed means, so changing it changes every simulated table.
_BLOCK = 16_384


#: `Simulator.discretisation` of a simulator without any.
EXACT = "none: every trial is drawn from the model's law"


@dataclass(frozen=True)
class Prior:
    """A prior as plain data; `hddm_sbi.hierarchy.priors` turns it into a Pyro distribution.

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
    typical: range seen in human data. prior: default prior of its coefficients. from_data: not estimated but read
    from the column of that name in the trial table (a condition the simulator receives), with `low` and `high` its two
    codes. accuracy_range: where the accuracy per trial of a learned likelihood is scored; None: the whole box.
    bias_range: where its posterior bias is scored; None: the box but 15 % of its width at either end.
    """

    name: str
    low: float
    high: float
    description: str
    unit: str
    typical: tuple[float, float]
    support: tuple[float, float]
    prior: ParameterPrior
    from_data: bool = False
    accuracy_range: tuple[float, float] | None = None
    bias_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Symmetries:
    """Exact symmetries of a model, by which its likelihood is reduced before it is learned.

    shift: parameter that is added to the decision time and does nothing else (the network never sees it).
    delay: parameter w such that a time uniform on [0, w] is added to the decision time, and that does nothing else (the
    network never sees it either: the density is averaged over the delay in closed form).
    scale: parameter b that sets the scale of space: p(t; theta, b) = b**-time_power p(t / b**time_power; theta', 1)
    with theta'_j = theta_j * b**scale_powers[j] (0 where not listed), or tan(theta_j) of a parameter in `tangents`, an
    angle in radians. A power is a number, or a function of the other parameters by name (tensors).
    negated, complemented: parameters that turn into -x and 1 - x when the two choices are swapped.
    even_given_choice: parameters whose sign does not matter for the decision time once the choice is known. For
    constant drift and bounds, reversing the drift multiplies p(t, choice) by a constant (Girsanov), so p(t | choice)
    stays the same.
    exchanged: stem of the parameters of which every choice has one (v for v0, v1, ...): permuting the choices permutes
    them.
    """

    shift: str | None = None
    delay: str | None = None
    scale: str | None = None
    time_power: Power = 2.0
    scale_powers: Mapping[str, Power] = field(default_factory=dict)
    tangents: tuple[str, ...] = ()
    negated: tuple[str, ...] = ()
    complemented: tuple[str, ...] = ()
    even_given_choice: tuple[str, ...] = ()
    exchanged: str | None = None


@dataclass(frozen=True)
class Simulator:
    """A decision model: everything the package knows about it, in one place.

    parameters: in the order of the columns of every theta. choices: response codes; a trial's `choice` is the
    position of its response in this tuple. trial: Numba function `trial(*theta, rng) -> (rt, choice)` whose argument
    names are the parameter names, with `rng` a numpy Generator; exchanged parameters come first, as one tuple called
    by their stem, so that one function serves any number of choices. accumulator: instead of `trial`, where the
    choices race without touching each other: the finishing time of one of them, a Numba function of the exchanged
    parameter (called by its stem), then the other parameters in order, then `rng`. log_density: closed form, or None
    (see `exact.py`).
    tail: "late" where P(rt > t), or that of an accumulator, falls no faster than a power of t; "early" where P(rt <= t0
    + t) does, because evidence jumps.
    closing: where the bounds meet, so that decisions end at a finite time: one over that time, in 1/s, as a function
    of the parameters by name (tensors). collapse: where they fall like exp(-(rate t)**power): (rate, power), likewise.
    discretisation: how far simulated trials are from the model's law, as measured and where.
    passage: `passage(*theta, t_max)`, an independent density of the decision time (see `first_passage.py`) by which a
    learned likelihood is checked where there is no closed form.
    outcomes: the columns of a model that produces anything else than rt and response; it has no choices. run: instead
    of `trial`, any Python function that makes the outcomes, vectorised or not (see `python_function.py`).
    """

    name: str
    title: str
    parameters: tuple[Parameter, ...]
    choices: tuple[int, ...] = ()
    trial: Callable[..., tuple[float, int]] | None = None
    symmetries: Symmetries = Symmetries()
    citation: str = ""
    log_density: Callable[..., Any] | None = None
    accumulator: Callable[..., float] | None = None
    tail: Tail | None = None
    closing: Callable[[Mapping[str, Any]], Any] | None = None
    collapse: Callable[[Mapping[str, Any]], tuple[Any, Any]] | None = None
    passage: Callable[..., Passage] | None = None
    discretisation: str = "not known"
    literature_priors: Mapping[str, Mapping[str, ParameterPrior]] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    run: Callable[..., Any] | None = None
    vectorised: bool = False

    def __post_init__(self) -> None:
        names = self.names
        if len(set(names)) != len(names):
            raise InputError(f"parameter names of {self.name!r} must be unique; got {names}.")
        for p in self.parameters:
            if not p.support[0] <= p.low < p.high <= p.support[1]:
                raise InputError(
                    f"the box of {p.name!r}, [{p.low}, {p.high}], must lie inside its support {p.support}."
                )
        symmetries = self.symmetries
        mentioned = {
            symmetries.shift,
            symmetries.delay,
            symmetries.scale,
            *symmetries.scale_powers,
            *symmetries.negated,
        }
        mentioned |= {*symmetries.complemented, *symmetries.even_given_choice, *symmetries.tangents}
        unknown = mentioned - {None, *names, *(p.name for p in self.learned)}
        if unknown:
            raise InputError(
                f"the symmetries of {self.name!r} name {sorted(map(str, unknown))}, which are no parameters."
            )
        if names[: len(self.exchanged)] != self.exchanged:
            raise InputError(f"the first parameters of {self.name!r} must be {self.exchanged}; got {names}.")
        if self.accumulator is not None and not self.exchanged:
            raise InputError(f"{self.name!r} has an accumulator; say in its symmetries which parameter is exchanged.")
        if bool(self.choices) == bool(self.outcomes):
            raise InputError(f"{self.name!r} must have either choices, or outcomes other than rt and response.")
        if self.run is not None and self.trial is None and self.accumulator is None:
            self.black_box(self.run)
            return
        kind, kernel = ("trial", self.trial) if self.trial else ("accumulator", self.accumulator)
        if kernel is None or (self.trial and self.accumulator) or self.run is not None or self.outcomes:
            raise InputError(
                f"{self.name!r} must have either a trial or an accumulator, which make rt and response, or a run."
            )
        arguments = tuple(inspect.signature(getattr(kernel, "py_func", kernel)).parameters)
        stem = (symmetries.exchanged,) if symmetries.exchanged else ()
        expected = (*stem, *names[len(self.exchanged) :], "rng")
        if arguments != expected:
            raise InputError(f"{kind} of {self.name!r} must take the arguments {expected}; it takes {arguments}.")

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names, in the order of the columns of theta."""
        return tuple(p.name for p in self.parameters)

    @property
    def columns(self) -> tuple[Outcome, ...]:
        """What the model produces: its outcomes, or rt and response."""
        return self.outcomes or (Outcome("rt", "positive"), Outcome("response", "categorical", self.choices))

    @property
    def is_decision_model(self) -> bool:
        """Whether it is a decision model: one of rt and response."""
        return bool(self.choices)

    @property
    def can_simulate(self) -> bool:
        """Whether it can simulate; a declaration read from a file cannot."""
        return not isinstance(self.run, MissingSimulator)

    def black_box(self, run: Callable[..., Any]) -> BlackBox:
        """A Python function as what makes this model's outcomes."""
        return BlackBox(run, self.names, self.columns, self.vectorised)

    @property
    def exchanged(self) -> tuple[str, ...]:
        """The parameters of which every choice has one, in the order of the choices."""
        stem = self.symmetries.exchanged
        return () if stem is None else tuple(f"{stem}{choice}" for choice in range(len(self.choices)))

    @property
    def learned(self) -> tuple[Parameter, ...]:
        """Parameters of what a network learns: the model's, or those of one accumulator where the choices race
        independently (the exchanged one, called by its stem, then the shared ones)."""
        if self.accumulator is None:
            return self.parameters
        own = next(p for p in self.parameters if p.name == self.exchanged[0])
        shared = (p for p in self.parameters if p.name not in self.exchanged)
        return (replace(own, name=str(self.symmetries.exchanged)), *shared)

    @property
    def box(self) -> dict[str, tuple[float, float]]:
        """(low, high) of every parameter: where simulators are tested and networks trained."""
        return {p.name: (p.low, p.high) for p in self.parameters}

    @property
    def support(self) -> dict[str, tuple[float, float]]:
        """(low, high) of every parameter: where the model is defined."""
        return {p.name: p.support for p in self.parameters}

    def theta_matrix(self, theta: Mapping[str, ArrayLike], n: int) -> Array:
        """Parameters by name, each a scalar or (n,), as an (n, p) matrix with columns in the order of `parameters`."""
        for name in theta:
            if name not in self.names:
                hint = did_you_mean(name, self.names)
                raise InputError(f"{self.name!r} has no parameter {name!r}{hint} Parameters: {', '.join(self.names)}.")
        missing = [name for name in self.names if name not in theta]
        if missing:
            raise InputError(
                f"theta lacks {', '.join(missing)}; {self.name!r} has the parameters {', '.join(self.names)}."
            )
        matrix = np.empty((n, len(self.names)))
        for column, name in enumerate(self.names):
            value = np.asarray(theta[name], dtype=np.float64)
            if value.shape not in ((), (1,), (n,)):
                raise InputError(
                    f"theta[{name!r}] must be a number or have one value per trial ({n}); got {value.shape}."
                )
            matrix[:, column] = value
        return matrix

    def simulate(self, theta: Array, seed: int | Sequence[int], n_threads: int = 1) -> tuple[Array, NDArray[np.int64]]:
        """One trial per row of theta.

        theta: (n, p). seed: same seed, same bytes, on any number of threads. Returns rt (n,) in seconds and choice
        (n,), positions in `choices`. Raises InputError where theta is not finite or outside the support of the model.
        """
        n, p = len(self.exchanged), len(self.parameters)
        if self.run is not None:
            made = self.simulate_outcomes(theta, seed, n_threads)
            if made.failed.any():
                raise InputError(f"{self.name!r}: {made.statement()}")
            return made.values[:, 0], made.values[:, 1].astype(np.int64)
        if self.accumulator is not None:
            return self._run(_races(n, p - n), self.accumulator, self.parameters, theta, seed, n_threads)
        assert self.trial is not None
        return self._run(_trials(n, p - n), self.trial, self.parameters, theta, seed, n_threads)

    def simulate_outcomes(
        self,
        theta: Array,
        seed: int | Sequence[int],
        n_jobs: int | None = None,
        progress: bool = False,
        folder: Path | None = None,
    ) -> Simulated:
        """Outcomes of every row of theta, in the order of `columns`; simulations that fail are told (see `Simulated`).

        n_jobs, folder: of a Python function, see `BlackBox.run`; a kernel needs neither. All else as in `simulate`.
        """
        if self.run is None:
            return Simulated(np.stack(self.simulate(theta, seed), -1))
        theta = np.ascontiguousarray(theta, dtype=np.float64)
        self._check(theta, self.parameters)
        return self.black_box(self.run).run(theta, seed, n_jobs, progress, folder)

    def simulate_learned(
        self, theta: Array, seed: int | Sequence[int], n_threads: int = 1
    ) -> tuple[Array, NDArray[np.int64]]:
        """What a network learns from: trials, or finishing times of one accumulator (choice 0 throughout). The choice
        of a simulation that failed is -1.

        theta: (n, len(self.learned)). All else as in `simulate`.
        """
        if self.run is not None:
            values = self.simulate_outcomes(theta, seed, n_threads).values
            return values[:, 0], np.where(np.isnan(values[:, 1]), -1, values[:, 1]).astype(np.int64)
        if self.accumulator is None:
            return self.simulate(theta, seed, n_threads)
        alone = _races(1, len(self.learned) - 1)
        return self._run(alone, self.accumulator, self.learned, theta, seed, n_threads)

    def _run(
        self,
        loop: Callable[..., None],
        kernel: Callable[..., Any],
        parameters: tuple[Parameter, ...],
        theta: Array,
        seed: int | Sequence[int],
        n_threads: int,
    ) -> tuple[Array, NDArray[np.int64]]:
        theta = np.ascontiguousarray(theta, dtype=np.float64)
        self._check(theta, parameters)
        n = len(theta)
        rt, choice = np.empty(n), np.zeros(n, dtype=np.int64)
        streams = np.random.SeedSequence(seed).spawn(-(-n // _BLOCK))

        def block(index: int) -> None:
            rows = slice(index * _BLOCK, (index + 1) * _BLOCK)
            loop(kernel, theta[rows], np.random.Generator(np.random.PCG64(streams[index])), rt[rows], choice[rows])

        if n_threads == 1 or len(streams) < 2:
            for index in range(len(streams)):
                block(index)
        else:
            with ThreadPoolExecutor(n_threads) as pool:
                list(pool.map(block, range(len(streams))))
        return rt, choice

    def _check(self, theta: Array, parameters: tuple[Parameter, ...]) -> None:
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

    def __repr__(self) -> str:
        makes = f"{len(self.choices)} choices" if self.is_decision_model else " ".join(o.name for o in self.outcomes)
        return f"Simulator({self.name}: {' '.join(self.names)}, {makes})"


# The loops take the model's own function as an argument of a declared type, so that they can be kept on disk compiled
# and serve every model with p parameters.
_number, _generator = types.float64, NumPyRandomGeneratorType("NumPyRandomGeneratorType")


@cache
def _trials(n: int, shared: int) -> Callable[..., None]:
    """Loop over trials: a response time and a choice per row of theta, of which the first n are one argument."""
    exchanged = [types.UniTuple(_number, n)] if n else []
    trial_type = types.FunctionType(types.Tuple((_number, types.int64))(*exchanged, *[_number] * shared, _generator))
    if n:

        @nb.njit(
            types.void(trial_type, _number[:, ::1], _generator, _number[::1], types.int64[::1]), cache=True, nogil=True
        )
        def run_exchanged(trial, theta, rng, rt, choice):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            for i in range(theta.shape[0]):
                own, others = to_fixed_tuple(theta[i, :n], n), to_fixed_tuple(theta[i, n:], shared)  # type: ignore
                rt[i], choice[i] = trial(own, *others, rng)

        return run_exchanged

    @nb.njit(
        types.void(trial_type, _number[:, ::1], _generator, _number[::1], types.int64[::1]), cache=True, nogil=True
    )
    def run(trial, theta, rng, rt, choice):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        for i in range(theta.shape[0]):
            rt[i], choice[i] = trial(*to_fixed_tuple(theta[i], shared), rng)  # type: ignore[call-arg]

    return run


@cache
def _races(n: int, shared: int) -> Callable[..., None]:
    """Loop over trials of n accumulators: the first finishing time, and whose it is, per row of theta."""
    accumulator_type = types.FunctionType(_number(*[_number] * (1 + shared), _generator))

    @nb.njit(
        types.void(accumulator_type, _number[:, ::1], _generator, _number[::1], types.int64[::1]),
        cache=True,
        nogil=True,
    )
    def run(accumulator, theta, rng, rt, choice):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        for i in range(theta.shape[0]):
            rt[i], choice[i] = np.inf, 0
            for c in range(n):
                t = accumulator(theta[i, c], *to_fixed_tuple(theta[i, n:], shared), rng)  # type: ignore[call-arg]
                if t < rt[i]:
                    rt[i], choice[i] = t, c

    return run
