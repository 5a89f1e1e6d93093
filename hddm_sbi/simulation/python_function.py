"""Run a user's simulator: once per row of theta or on whole columns, in blocks with seeds of their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hddm_sbi.errors import InputError
from hddm_sbi.parallel import ResultStore, run_tasks
from hddm_sbi.simulation.outcome import Outcome
from hddm_sbi.types import Array

#: rows per random stream; part of what a seed means, so changing it changes every simulated table.
_BLOCK = 1_000


@dataclass(frozen=True)
class BlackBox:
    """A function that makes outcomes, and how it is called.

    function: `f(*parameters, rng)`, its arguments named after the parameters, or `f(theta, rng)` with theta (p,); rng
    is a numpy Generator. Returns one number, or one per outcome (a tuple, an array, or a dict by name). vectorised: it
    takes whole columns (n,), or theta (n, p), instead, and returns columns. A Numba function is called like any other.
    """

    function: Callable[..., Any]
    parameters: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    vectorised: bool = False

    def __post_init__(self) -> None:
        function = getattr(self.function, "py_func", self.function)
        arguments = tuple(inspect.signature(function).parameters)
        if arguments not in ((*self.parameters, "rng"), ("theta", "rng")):
            raise InputError(
                f"a simulator must take the arguments {(*self.parameters, 'rng')} or ('theta', 'rng'); {self.name!r} "
                f"takes {arguments}. rng is a numpy Generator: draw from it, and from nothing else."
            )

    @property
    def name(self) -> str:
        """Name of the function."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def run(
        self,
        theta: Array,
        seed: int | Sequence[int],
        n_jobs: int | None = None,
        progress: bool = False,
        folder: Path | None = None,
    ) -> Simulated:
        """Outcomes of every row of theta (n, p). The same seed gives the same outcomes on any number of processes.

        folder: keeps every block of rows as soon as it is there; blocks that are there are not run.
        """
        streams = np.random.SeedSequence(seed).spawn(-(-len(theta) // _BLOCK))
        rows = {f"rows-{i * _BLOCK:09d}": theta[i * _BLOCK : (i + 1) * _BLOCK] for i in range(len(streams))}
        blocks = {name: (block, stream) for (name, block), stream in zip(rows.items(), streams, strict=True)}
        store = None if folder is None else ResultStore(folder, ".npz", Simulated.write, Simulated.read)
        parts = run_tasks(self._block, blocks, store, n_jobs=n_jobs, unit="blocks", progress=progress).values()
        said = [message for part in parts for message in part.errors]
        return Simulated(np.concatenate([part.values for part in parts]) if parts else self._nothing(0), tuple(said))

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
        return Simulated(self._checked(list(zip(*rows, strict=True)), theta), tuple(errors))

    def _columns(self, theta: Array, rng: np.random.Generator) -> Simulated:
        try:
            returned = self._call(theta if self._takes_theta else theta.T, rng)
        except Exception as reason:
            return Simulated(self._nothing(len(theta)), (_said(reason),) * len(theta))
        if isinstance(returned, np.ndarray) and returned.ndim == 2:
            returned = tuple(returned.T)
        elif isinstance(returned, np.ndarray):
            returned = (returned,)
        columns = [np.asarray(column) for column in self._tidy(returned)]
        for outcome, column in zip(self.outcomes, columns, strict=True):
            if column.shape != (len(theta),):
                raise InputError(
                    f"simulator {self.name!r} is declared vectorised and must return one value of {outcome.name!r} for "
                    f"each of {len(theta)} rows, or n rows with a column for each of {len(columns)} outcomes; got "
                    f"shape {column.shape}."
                )
        return Simulated(self._checked(columns, theta), ())

    def _call(self, arguments: Any, rng: np.random.Generator) -> Any:
        return self.function(arguments, rng) if self._takes_theta else self.function(*arguments, rng)

    @property
    def _takes_theta(self) -> bool:
        function = getattr(self.function, "py_func", self.function)
        return self.parameters != ("theta",) and "theta" in inspect.signature(function).parameters

    def _tidy(self, returned: Any) -> Sequence[Any]:
        """One entry per outcome, in their order."""
        names = [outcome.name for outcome in self.outcomes]
        if isinstance(returned, Mapping):
            if set(returned) != set(names):
                raise InputError(f"simulator {self.name!r} must return the outcomes {names}; got {list(returned)}.")
            return [returned[name] for name in names]
        if isinstance(returned, np.ndarray) and returned.ndim == 0:
            returned = returned.item()
        if not isinstance(returned, tuple | list | np.ndarray):
            returned = (returned,)
        if len(returned) != len(names):
            raise InputError(
                f"simulator {self.name!r} must return {len(names)} value{'s' if len(names) > 1 else ''} "
                f"({', '.join(names)}); got {len(returned)}: {returned!r}."
            )
        return list(returned)

    def _checked(self, columns: Sequence[Any], theta: Array) -> Array:
        """Numbers (n, k), nan in rows that failed. Raises InputError for values that an outcome cannot be."""
        values = self._nothing(len(theta))
        for k, (outcome, column) in enumerate(zip(self.outcomes, columns, strict=True)):
            raw = np.asarray(column, dtype=None if isinstance(column, np.ndarray) else object)
            if raw.ndim != 1:
                raise InputError(
                    f"simulator {self.name!r} must return one number as {outcome.name!r}; got {column[0]!r}."
                )
            values[:, k] = outcome.numbers(raw)
            missing = pd.isna(raw) | np.isinf(values[:, k])
            wrong = np.flatnonzero(~missing & ~outcome.allows(values[:, k]))
            if wrong.size:
                at = ", ".join(f"{n} = {x:.4g}" for n, x in zip(self.parameters, theta[wrong[0]], strict=True))
                raise InputError(
                    f"simulator {self.name!r} returned {raw[wrong[0]]!r} as {outcome.name!r} at {at}; expected "
                    f"{outcome.expected}, or nan where a simulation fails."
                )
            values[missing, k] = np.nan
        values[np.isnan(values).any(1)] = np.nan
        return values

    def _nothing(self, n: int) -> Array:
        return np.full((n, len(self.outcomes)), np.nan)


@dataclass(frozen=True)
class Simulated:
    """What a black box made: values (n, k), nan in rows that failed; errors: what was raised, once per such row."""

    values: Array
    errors: tuple[str, ...] = ()

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Rows without an outcome."""
        return np.asarray(np.isnan(self.values).any(1))

    def write(self, path: Path) -> None:
        """Write it as numpy's arrays."""
        with path.open("wb") as file:
            np.savez(file, values=self.values, errors=np.array(self.errors, dtype=np.str_))

    @staticmethod
    def read(path: Path) -> Simulated:
        """What was written."""
        with np.load(path) as arrays:
            return Simulated(arrays["values"], tuple(arrays["errors"].tolist()))

    def statement(self) -> str:
        """How many simulations failed and why, in one sentence; "" where none did."""
        failed = int(self.failed.sum())
        if not failed:
            return ""
        raised = f" ({len(self.errors)} raised an error, the first {self.errors[0]})" if self.errors else ""
        return (
            f"{failed} of {len(self.values)} simulations failed{raised} and were left out: the likelihood is that of "
            "outcomes given that there is one."
        )


@dataclass(frozen=True)
class MissingSimulator:
    """Stands in for the function of a simulator that was read from a file: files hold no code."""

    model: str

    def __call__(self, theta: Any, rng: Any) -> Any:
        """Refuse."""
        raise InputError(
            f"the simulator of {self.model!r} is not here: a file holds its likelihood and no code. Pass simulator= to "
            "load_likelihood where simulations are needed."
        )


def _said(reason: Exception) -> str:
    return f"{type(reason).__name__}: {str(reason).strip().splitlines()[0] if str(reason).strip() else ''}"
