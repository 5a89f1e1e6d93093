"""Decision models whose trials are made by compiled functions: one trial at a time, or a race of accumulators."""

import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, final

import numba as nb
import numpy as np
from numba import types
from numba.core.types import NumPyRandomGeneratorType
from numba.np.unsafe.ndarray import to_fixed_tuple
from numpy.typing import NDArray
from typing_extensions import override

from hddm_sbi.errors import InputError
from hddm_sbi.simulation.first_passage import Passage
from hddm_sbi.simulation.outcome import Outcome, Simulated, rt_and_response
from hddm_sbi.simulation.simulator import Simulator
from hddm_sbi.types import Array

#: trials per random stream; part of what a seed means, so changing it changes every simulated table.
_BLOCK = 16_384


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class DecisionModel(Simulator):
    """A compiled model of rt and response. All else as in `Simulator`.

    Parameters
    ----------
    outcomes
        By default two choices, coded -1 (lower) and 1 (upper).
    trial
        Numba function `trial(*theta, rng) -> (rt, choice)` whose argument names are the parameter names, with `rng` a
        numpy Generator. Parameters that every choice has one of come first, as one tuple called by their stem, so that
        one function serves any number of choices.
    accumulator
        Instead of `trial`, where the choices race without touching each other: the finishing time of one of them, a
        Numba function of its own parameters (called by their stems), then the shared ones in order, then `rng`.
    log_density
        Closed form, or None: a Numba function `log_density(theta, choice, rt, logp, grad)` of a run, which is trials of
        one theta (p,) and one choice with ascending rt (n,). It fills logp (n,) and grad (p, n), or longer: at or below
        t0, logp is -inf and the gradient 0.
    log_survival
        P(RT > rt), or None where it is integrated: a Numba function with the arguments of `log_density` and any choice,
        of rt above t0, that fills logp with log P(RT > rt).
    passage
        `passage(*theta, t_max)`, an independent density of the decision time (see `first_passage.py`) by which a
        learned likelihood is checked where there is no closed form.
    passage_judges
        Whether it is judged by `passage`; else by simulated trials, where slopes of `passage` are too rough to find a
        posterior mode by.
    solved_for_all
        Parameters at all of whose values the work for one density serves, or none.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> lba = hs.load_simulator("lba")
    >>> lba.races, lba.choices, lba.per_choice
    (True, (0, 1), ('v0', 'v1', 'sv0', 'sv1', 'A0', 'A1', 'B0', 'B1'))
    """

    outcomes: tuple[Outcome, ...] = rt_and_response(-1, 1)
    trial: Callable[..., tuple[float, int]] | None = None
    accumulator: Callable[..., float] | None = None
    log_density: Callable[..., Any] | None = None
    log_survival: Callable[..., Any] | None = None
    passage: Callable[..., Passage] | None = None
    passage_judges: bool = True
    solved_for_all: tuple[str, ...] = ()

    compiled: ClassVar[bool] = True

    @override
    def _check_function(self) -> None:
        if not self.is_decision_model:
            raise InputError(f"{self.name!r} must have the outcomes rt and response; got {self.outcomes}.")
        if (self.trial is None) == (self.accumulator is None):
            raise InputError(f"{self.name!r} must have either a trial or an accumulator, which make rt and response.")
        if self.races and not self.per_choice:
            raise InputError(
                f"{self.name!r} has an accumulator; name the parameters of each in symmetries: per_choice."
            )
        arguments = tuple(inspect.signature(getattr(self._kernel, "py_func", self._kernel)).parameters)
        expected = (*self.stems, *self.names[len(self.per_choice) :], "rng")
        if arguments != expected:
            kind = "accumulator" if self.races else "trial"
            raise InputError(f"{kind} of {self.name!r} must take the arguments {expected}; it takes {arguments}.")

    @property
    @override
    def can_simulate(self) -> bool:
        return True

    @property
    @override
    def races(self) -> bool:
        return self.accumulator is not None

    @property
    def _kernel(self) -> Callable[..., Any]:
        kernel = self.accumulator or self.trial
        assert kernel is not None
        return kernel

    @override
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
        n, shared = len(self.choices), len(self.parameters) - len(self.per_choice)
        loop = _races(n, len(self.stems), shared) if self.races else _trials(n if self.stems else 0, shared)
        rt, choice = self._run(loop, self._checked(theta, self.parameters), seed, n_threads)
        # Transposed, so that rt and choice are contiguous.
        return Simulated(np.stack([rt, choice.astype(np.float64)]).T)

    def simulate_accumulator(self, theta: Array, seed: int | Sequence[int], n_threads: int = 1) -> Array:
        """Finishing times (n,) of one accumulator of a race; theta (n, q): its own parameters, then the shared ones."""
        loop = _races(1, len(self.stems), len(self.learned) - len(self.stems))
        return self._run(loop, self._checked(theta, self.learned), seed, n_threads)[0]

    def _run(
        self, loop: Callable[..., None], theta: Array, seed: int | Sequence[int], n_threads: int
    ) -> tuple[Array, NDArray[np.int64]]:
        n = len(theta)
        rt, choice = np.empty(n), np.zeros(n, dtype=np.int64)
        streams = np.random.SeedSequence(seed).spawn(-(-n // _BLOCK))

        def block(index: int) -> None:
            rows = slice(index * _BLOCK, (index + 1) * _BLOCK)
            rng = np.random.Generator(np.random.PCG64(streams[index]))
            loop(self._kernel, theta[rows], rng, rt[rows], choice[rows])

        if n_threads == 1 or len(streams) < 2:
            for index in range(len(streams)):
                block(index)
        else:
            with ThreadPoolExecutor(n_threads) as pool:
                list(pool.map(block, range(len(streams))))
        return rt, choice


_number, _generator = types.float64, NumPyRandomGeneratorType("NumPyRandomGeneratorType")


def _loop(kernel: types.Type, *sizes: int) -> Callable[..., Any]:
    """Compiles a loop over trials (kernel, theta, rng, rt, choice), named by its sizes.

    The model's own function is an argument of a declared type, so that the loop's machine code is cached and serves
    every model with p parameters.
    """
    signature = types.void(kernel, _number[:, ::1], _generator, _number[::1], types.int64[::1])

    def compiled(run: Callable[..., None]) -> Callable[..., None]:
        run.__qualname__ += "".join(f"_{size}" for size in sizes)
        loop: Callable[..., None] = nb.njit(signature, cache=True, nogil=True)(run)
        return loop

    return compiled


@cache
def _trials(n: int, shared: int) -> Callable[..., None]:
    """Loop over trials: a response time and a choice per row of theta, of which the first n are one argument."""
    exchanged = [types.UniTuple(_number, n)] if n else []
    trial_type = types.FunctionType(types.Tuple((_number, types.int64))(*exchanged, *[_number] * shared, _generator))
    if n:

        @_loop(trial_type, n, shared)
        def run_exchanged(trial, theta, rng, rt, choice):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            for i in range(theta.shape[0]):
                own, others = to_fixed_tuple(theta[i, :n], n), to_fixed_tuple(theta[i, n:], shared)  # type: ignore
                rt[i], choice[i] = trial(own, *others, rng)

        return run_exchanged

    @_loop(trial_type, n, shared)
    def run(trial, theta, rng, rt, choice):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        for i in range(theta.shape[0]):
            rt[i], choice[i] = trial(*to_fixed_tuple(theta[i], shared), rng)  # type: ignore[call-arg]

    return run


@cache
def _races(n: int, own: int, shared: int) -> Callable[..., None]:
    """Loop over trials of n accumulators: the first finishing time, and whose it is, per row of theta."""

    @_loop(types.FunctionType(_number(*[_number] * (own + shared), _generator)), n, own, shared)
    def run(accumulator, theta, rng, rt, choice):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        for i in range(theta.shape[0]):
            rt[i], choice[i] = np.inf, 0
            others = to_fixed_tuple(theta[i, n * own :], shared)  # type: ignore
            for c in range(n):
                t = accumulator(*to_fixed_tuple(theta[i, c : n * own : n], own), *others, rng)
                if t < rt[i]:
                    rt[i], choice[i] = t, c

    return run
