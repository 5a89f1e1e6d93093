"""Coordinates to sample in: a sparse linear map between them and the unconstrained sites."""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import splu

from hddm_sbi.types import Array, Index


@dataclass(frozen=True)
class Whitening:
    """The map x = M y from whitened to unconstrained coordinates, M (n, n) sparse.

    row_starts: (n + 1,), of every row the first of its columns and entries.
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
        """A gradient by y from that by x, (n,)."""
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
