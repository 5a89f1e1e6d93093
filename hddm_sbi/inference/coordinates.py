"""Coordinates to sample in: a sparse linear map between them and the unconstrained sites."""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import splu

from hddm_sbi.inference.compiler import machine
from hddm_sbi.inference.compiler.program import Compiled
from hddm_sbi.inference.density import Evaluate
from hddm_sbi.numerics.operators import address, function_at
from hddm_sbi.types import Array, Index

_RUN = nb.types.FunctionType(machine.SIGNATURE)


@dataclass(frozen=True)
class Whitening:
    """The map x = M y from whitened to unconstrained coordinates, M (n, n) sparse, in compressed rows.

    row_starts: (n + 1,), position in `columns` and `entries` of the first of each row.
    """

    row_starts: Index
    columns: Index
    entries: Array

    @property
    def size(self) -> int:
        """Length of x and of y."""
        return len(self.row_starts) - 1

    def unwhiten(self, y: Array) -> Array:
        """x of y, (n,)."""
        x = np.empty(self.size)
        unwhiten(self.row_starts, self.columns, self.entries, y, x)
        return x

    def gradient(self, by_x: Array) -> Array:
        """Gradient with respect to y, from that with respect to x, (n,)."""
        by_y = np.empty(self.size)
        whiten_gradient(self.row_starts, self.columns, self.entries, by_x, by_y)
        return by_y

    def whiten(self, x: Array) -> Array:
        """y of x, (n,)."""
        matrix = csr_array((self.entries, self.columns, self.row_starts), shape=(self.size, self.size))
        y: Array = splu(matrix.tocsc()).solve(x)
        return y


def unwhitened(n: int) -> Whitening:
    """The identity: coordinates as they are."""
    return Whitening(np.arange(n + 1), np.arange(n), np.ones(n))


@nb.njit(cache=True, nogil=True, error_model="numpy")
def unwhiten(row_starts: Index, columns: Index, entries: Array, y: Array, x: Array) -> None:
    """x = M y."""
    for i in range(len(x)):
        total = 0.0
        for k in range(row_starts[i], row_starts[i + 1]):
            total += entries[k] * y[columns[k]]
        x[i] = total


@nb.njit(cache=True, nogil=True, error_model="numpy")
def whiten_gradient(row_starts: Index, columns: Index, entries: Array, by_x: Array, by_y: Array) -> None:
    """by_y = M' by_x."""
    by_y[:] = 0.0
    for i in range(len(by_x)):
        for k in range(row_starts[i], row_starts[i + 1]):
            by_y[columns[k]] += entries[k] * by_x[i]


def whitened(evaluate: Evaluate, whitening: Whitening) -> Evaluate:
    """A log density and its gradient by y, from those by x; for one thread, because it writes in memory of its own.

    Of a compiled density the value is nan where the gradient is not finite.
    """
    if not isinstance(evaluate, Compiled):

        def in_python(y: Array) -> tuple[float, Array]:
            value, gradient = evaluate(whitening.unwhiten(y))
            return value, whitening.gradient(gradient)

        return in_python
    # To ask the system for this memory anew takes longer than to use it (decision 008).
    memory, by_y = evaluate.memory.copy(), np.empty(whitening.size)
    arguments = (
        address(machine.run, machine.SIGNATURE),
        evaluate.program,
        evaluate.wholes,
        memory,
        memory[evaluate.x],
        memory[evaluate.gradient],
        evaluate.value,
        whitening.row_starts,
        whitening.columns,
        whitening.entries,
        by_y,
    )
    return lambda y: (_evaluate_whitened(y, *arguments), by_y)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _evaluate_whitened(
    y: Array,
    run: int,
    program: Index,
    wholes: Index,
    memory: Array,
    x: Array,
    by_x: Array,
    value: int,
    row_starts: Index,
    columns: Index,
    entries: Array,
    by_y: Array,
) -> float:
    """Log density; its gradient goes to by_y. run: address of the machine."""
    unwhiten(row_starts, columns, entries, y, x)
    function_at(run, _RUN)(program, wholes, memory)  # type: ignore[call-arg]
    whiten_gradient(row_starts, columns, entries, by_x, by_y)
    result: float = memory[value]
    return result if np.isfinite(by_y).all() else np.nan
