"""Simulators that are Python functions: called once per row of theta or on whole columns, in blocks with own seeds."""

import functools
import inspect
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import pandas as pd
from typing_extensions import override

from hddm_sbi.errors import InputError
from hddm_sbi.parallel import ResultStore, run_tasks
from hddm_sbi.simulation.outcome import Simulated
from hddm_sbi.simulation.simulator import Simulator
from hddm_sbi.types import Array

#: rows per random stream; part of what a seed means, so changing it changes every simulated table.
_BLOCK = 1_000


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class BlackBoxSimulator(Simulator):
    """A Python function as a simulator; `hddm_sbi.declare` makes one. All else as in `Simulator`.

    Parameters
    ----------
    function
        `f(*parameters, rng)`, its arguments named after the parameters, or `f(theta, rng)` with theta (p,); rng is a
        numpy Generator. It returns one number, or one per outcome (a tuple, an array, or a dict by name). A Numba
        function is called like any other. None where the declaration was read from a file, which holds no code.
    vectorised
        The function takes whole columns (n,), or theta (n, p), instead, and returns columns.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> @hs.declare(parameters={"rate": (0.5, 20.0)}, outcomes={"chips": "count"}, vectorised=True)
    ... def cookies(rate, rng):
    ...     return rng.poisson(rate)
    >>> cookies.simulate_outcomes(np.full((3, 1), 5.0), seed=1).values.shape
    (3, 1)
    """

    function: Callable[..., Any] | None
    vectorised: bool = False

    compiled: ClassVar[bool] = False

    @override
    def _check_function(self) -> None:
        if self.can_simulate and self._arguments not in ((*self.names, "rng"), ("theta", "rng")):
            raise InputError(
                f"a simulator must take the arguments {(*self.names, 'rng')} or ('theta', 'rng'); {self.name!r} "
                f"takes {self._arguments}. rng is a numpy Generator: draw from it, and from nothing else."
            )

    @property
    @override
    def can_simulate(self) -> bool:
        return self.function is not None

    @property
    @override
    def races(self) -> bool:
        return False

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
        if not self.can_simulate:
            raise InputError(
                f"the simulator of {self.name!r} is not here: a file holds its likelihood and no code. Pass simulator= "
                "to load_likelihood where simulations are needed."
            )
        theta = self._checked(theta, self.parameters)
        streams = np.random.SeedSequence(seed).spawn(-(-len(theta) // _BLOCK))
        blocks = {
            f"rows-{i * _BLOCK:09d}": (theta[i * _BLOCK : (i + 1) * _BLOCK], stream) for i, stream in enumerate(streams)
        }
        store = None if folder is None else ResultStore(folder, ".npz", Simulated.write, Simulated.read)
        parts = run_tasks(self._block, blocks, store, n_jobs=n_jobs, unit="blocks", progress=progress).values()
        errors = tuple(message for part in parts for message in part.errors)
        return Simulated(np.concatenate([part.values for part in parts]) if parts else self._nothing(0), errors)

    def _block(self, theta: Array, stream: np.random.SeedSequence) -> Simulated:
        rng = np.random.Generator(np.random.PCG64(stream))
        if self.vectorised:
            return self._columns(theta, rng)
        rows, errors = [], []
        for row in theta:
            try:
                rows.append(self._tidy(self._call(row if self._takes_theta else row.tolist(), rng)))
            except InputError:
                raise
            except Exception as reason:
                rows.append([None] * len(self.outcomes))
                errors.append(_said(reason))
        return Simulated(self._numbers(list(zip(*rows, strict=True)), theta), tuple(errors))

    def _columns(self, theta: Array, rng: np.random.Generator) -> Simulated:
        try:
            returned = self._call(theta if self._takes_theta else theta.T, rng)
        except Exception as reason:
            return Simulated(self._nothing(len(theta)), (_said(reason),) * len(theta))
        returned = _as_array(returned)
        if isinstance(returned, np.ndarray):
            returned = tuple(returned.T) if returned.ndim == 2 else (returned,)
        columns = [np.asarray(column) for column in self._tidy(returned)]
        for outcome, column in zip(self.outcomes, columns, strict=True):
            if column.shape != (len(theta),):
                raise InputError(
                    f"simulator {self.name!r} is declared vectorised and must return one value of {outcome.name!r} for "
                    f"each of {len(theta)} rows, or n rows with a column for each of {len(columns)} outcomes; got "
                    f"shape {column.shape}."
                )
        return Simulated(self._numbers(columns, theta), ())

    def _call(self, arguments: Any, rng: np.random.Generator) -> Any:
        assert self.function is not None
        if isinstance(self.function, functools.partial):
            # What it has set by name may stand between the others.
            given = {"theta": arguments} if self._takes_theta else dict(zip(self.names, arguments, strict=True))
            return self.function(**given, rng=rng)
        return self.function(arguments, rng) if self._takes_theta else self.function(*arguments, rng)

    @property
    def _arguments(self) -> tuple[str, ...]:
        assert self.function is not None
        signature = inspect.signature(getattr(self.function, "py_func", self.function))
        # What functools.partial has set by name is no argument any more.
        bound = getattr(self.function, "keywords", {})
        return tuple(name for name in signature.parameters if name not in bound)

    @property
    def _takes_theta(self) -> bool:
        return self.names != ("theta",) and "theta" in self._arguments

    def _tidy(self, returned: Any) -> Sequence[Any]:
        """One entry per outcome, in their order."""
        names = [outcome.name for outcome in self.outcomes]
        if isinstance(returned, Mapping):
            if set(returned) != set(names):
                raise InputError(f"simulator {self.name!r} must return the outcomes {names}; got {list(returned)}.")
            return [_as_array(returned[name]) for name in names]
        returned = _as_array(returned)
        if isinstance(returned, np.ndarray) and returned.ndim == 0:
            returned = returned.item()
        if not isinstance(returned, tuple | list | np.ndarray):
            returned = (returned,)
        if len(returned) != len(names):
            raise InputError(
                f"simulator {self.name!r} must return {len(names)} value{'s' if len(names) > 1 else ''} "
                f"({', '.join(names)}); got {len(returned)}: {reprlib.repr(returned)}."
            )
        return [_as_array(value) for value in returned]

    def _numbers(self, columns: Sequence[Any], theta: Array) -> Array:
        """Numbers (n, k), nan in rows that failed. Raises InputError for values that an outcome cannot be."""
        values = self._nothing(len(theta))
        for k, (outcome, column) in enumerate(zip(self.outcomes, columns, strict=True)):
            raw = np.asarray(column, dtype=None if isinstance(column, np.ndarray) else object)
            if raw.ndim == 2 and raw.shape[1] == 1:
                raw = raw[:, 0]
            if raw.ndim != 1:
                raise InputError(
                    f"simulator {self.name!r} must return one number as {outcome.name!r}; got "
                    f"{reprlib.repr(column[0])}."
                )
            values[:, k] = outcome.numbers(raw)
            missing = pd.isna(raw) | np.isinf(values[:, k])
            wrong = np.flatnonzero(~missing & ~outcome.allows(values[:, k]))
            if wrong.size:
                at = ", ".join(f"{n} = {x:.4g}" for n, x in zip(self.names, theta[wrong[0]], strict=True))
                raise InputError(
                    f"simulator {self.name!r} returned {reprlib.repr(raw[wrong[0]])} as {outcome.name!r} at {at}; "
                    f"expected {outcome.expected}, or nan where a simulation fails."
                )
            values[missing, k] = np.nan
        values[np.isnan(values).any(1)] = np.nan
        return values

    def _nothing(self, n: int) -> Array:
        return np.full((n, len(self.outcomes)), np.nan)


def _as_array(value: Any) -> Any:
    """What numpy takes as an array, for instance a tensor or a column of pandas, as one; anything else as it is."""
    if isinstance(value, np.ndarray | np.generic | Mapping) or not hasattr(value, "__array__"):
        return value
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


def _said(reason: Exception) -> str:
    return f"{type(reason).__name__}: {str(reason).strip().splitlines()[0] if str(reason).strip() else ''}"
