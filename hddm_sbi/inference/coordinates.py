"""Coordinates to sample in: steps, a sparse linear map, and bends, between them and the unconstrained sites."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numba as nb
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import splu
from scipy.special import expit

from hddm_sbi.inference.compiler import machine
from hddm_sbi.inference.compiler.program import Compiled
from hddm_sbi.inference.density import Evaluate
from hddm_sbi.numerics import address, function_at
from hddm_sbi.types import Array, Index

# A bend at c takes z to x = c + log[ s(u) / s(h) ], with s(u) = log(1 + e^u) and u = h + (z - c) s(h) / s'(h). At c, x
# is z and has slope 1. Above, and as far below as h says, e^x is nearly a line in z; farther below, x is.
#
# A step takes y to y + sum over k of r[ (a_k y - c_k) / w_k ] d_k, with r the logistic function and a_k d_l = 0 for
# k != l: between two modes of a_k y, where the density is low, a short way in y is a long one. Its determinant is the
# product of 1 + a_k d_k r' / w_k.

_RUN = nb.types.FunctionType(machine.SIGNATURE)
#: h: the larger, the farther below c the bend.
_HEIGHT = 3.0
_AT_CENTRE = float(np.logaddexp(0.0, _HEIGHT))
_STEEP = float(_AT_CENTRE * (1.0 + np.exp(-_HEIGHT)))
#: below this u, s(u) is e^u to rounding.
_FAR = -40.0
#: halvings after which a number before a step is known to rounding.
_HALVINGS = 60


@dataclass(frozen=True)
class Bends:
    """Logarithms of which the natural scale is the better coordinate where they are larger than at a centre.

    at: positions, (k,). centre: (k,).
    """

    at: Index = field(default_factory=lambda: np.empty(0, np.int64))
    centre: Array = field(default_factory=lambda: np.empty(0))

    def straightened(self, x: Array) -> Array:
        """z of x, (..., n)."""
        z, rise = x.copy(), _AT_CENTRE * np.exp(x[..., self.at] - self.centre)
        z[..., self.at] = self.centre + (rise + np.log(-np.expm1(-rise)) - _HEIGHT) / _STEEP
        return z

    def log_slope(self, x: Array) -> Array:
        """Log determinant of the derivatives of x by z, at x (..., n)."""
        rise = _AT_CENTRE * np.exp(x[..., self.at] - self.centre)
        return np.asarray(np.log(-np.expm1(-rise) * _STEEP / rise).sum(-1))


@dataclass(frozen=True)
class Steps:
    """Steps from one mode of a number to the other, with all that goes along.

    at: position in M y of the number, (k,). rows: a, its row of M, (k, n). centre, width: c and w, (k,). ways: d,
    (k, n).
    """

    at: Index = field(default_factory=lambda: np.empty(0, np.int64))
    rows: Array = field(default_factory=lambda: np.empty((0, 0)))
    centre: Array = field(default_factory=lambda: np.empty(0))
    width: Array = field(default_factory=lambda: np.empty(0))
    ways: Array = field(default_factory=lambda: np.empty((0, 0)))

    def taken(self, y: Array) -> Array:
        """y after the steps, (n,)."""
        return np.asarray(y + expit((self.rows @ y - self.centre) / self.width) @ self.ways)

    def undone(self, y: Array) -> Array:
        """y before the steps, (n,)."""
        return np.asarray(y - expit((self.before(self.rows @ y) - self.centre) / self.width) @ self.ways)

    def before(self, after: Array) -> Array:
        """The numbers (..., k) before the steps, from those after them."""
        low, high = after - np.maximum(self.heights, 0.0), after - np.minimum(self.heights, 0.0)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            below = middle + self.heights * expit((middle - self.centre) / self.width) < after
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray(0.5 * (low + high))

    @property
    def heights(self) -> Array:
        """a d of every step, (k,)."""
        return np.einsum("kn,kn->k", self.rows, self.ways)

    def log_slope(self, before: Array) -> Array:
        """Log determinant of the steps, from the numbers (..., k) before them."""
        rise = expit((before - self.centre) / self.width)
        return np.asarray(np.log1p(self.heights * rise * (1.0 - rise) / self.width).sum(-1))

    def before_them(self, evaluate: Evaluate) -> Evaluate:
        """A log density of y before the steps and its gradient, from those of y after them."""
        heights = self.heights

        def evaluate_before(y: Array) -> tuple[float, Array]:
            rise = expit((self.rows @ y - self.centre) / self.width)
            slope = rise * (1.0 - rise) / self.width
            value, gradient = evaluate(y + rise @ self.ways)
            change = heights * slope * (1.0 - 2.0 * rise) / (self.width * (1.0 + heights * slope))
            by_number = slope * (self.ways @ gradient) + change
            return float(value + np.log1p(heights * slope).sum()), gradient + by_number @ self.rows

        return evaluate_before


@dataclass(frozen=True)
class Whitening:
    """The map x = bent(M stepped(y)) from whitened to unconstrained coordinates, M (n, n) sparse, in compressed rows.

    row_starts: (n + 1,), position in `columns` and `entries` of the first of each row. bends: of single numbers.
    """

    row_starts: Index
    columns: Index
    entries: Array
    bends: Bends = field(default_factory=Bends)
    steps: Steps = field(default_factory=Steps)

    @property
    def size(self) -> int:
        """Length of x and of y."""
        return len(self.row_starts) - 1

    def unwhiten(self, y: Array) -> Array:
        """x of y, (n,)."""
        x, k = np.empty(self.size), len(self.bends.at)
        y = self.steps.taken(y) if len(self.steps.at) else y
        unwhiten(self.row_starts, self.columns, self.entries, y, x)
        bend(self.bends.at, self.bends.centre, x, np.empty(k), np.empty(k))
        return x

    def whiten(self, x: Array) -> Array:
        """y of x, (n,)."""
        y: Array = splu(self.matrix.tocsc()).solve(self.bends.straightened(x))
        return self.steps.undone(y) if len(self.steps.at) else y

    @property
    def matrix(self) -> csr_array:
        """M."""
        return csr_array((self.entries, self.columns, self.row_starts), shape=(self.size, self.size))

    def log_slope(self, x: Array) -> Array:
        """Log determinant of the derivatives of x by y without that of M, at x (..., n)."""
        steps, bends = self.steps, self.bends
        slope = bends.log_slope(x)
        return slope + steps.log_slope(steps.before(bends.straightened(x)[..., steps.at])) if len(steps.at) else slope


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


@nb.njit(cache=True, nogil=True, error_model="numpy")
def bend(at: Index, centre: Array, x: Array, slope: Array, change: Array) -> float:
    """Bend x in place; its slopes, and the derivatives of their logarithms, which are added up, go to the last two."""
    total = 0.0
    for k in range(len(at)):
        u = _HEIGHT + (x[at[k]] - centre[k]) * _STEEP
        rise = max(u, 0.0) + np.log1p(np.exp(-abs(u)))
        share = 1.0 / (1.0 + np.exp(-u))
        slope[k] = _STEEP * share / rise if u > _FAR else _STEEP
        change[k] = _STEEP * (1.0 - share - share / rise) if u > _FAR else 0.0
        x[at[k]] = centre[k] + (np.log(rise / _AT_CENTRE) if u > _FAR else u - np.log(_AT_CENTRE))
        total += np.log(slope[k])
    return total


@nb.njit(cache=True, nogil=True, error_model="numpy")
def bend_gradient(at: Index, slope: Array, change: Array, by_x: Array) -> Array:
    """The gradient of a log density of z, from that of the log density of x."""
    by_z = by_x.copy()
    for k in range(len(at)):
        by_z[at[k]] = by_x[at[k]] * slope[k] + change[k]
    return by_z


def whitened(evaluate: Evaluate, whitening: Whitening) -> Evaluate:
    """A log density of y and its gradient, from those of x; for one thread, because it writes in memory of its own.

    Of a compiled density the value is nan where the gradient is not finite.
    """
    if len(whitening.steps.at):
        return whitening.steps.before_them(whitened(evaluate, replace(whitening, steps=Steps())))
    bends, by_y = whitening.bends, np.empty(whitening.size)
    matrix = whitening.row_starts, whitening.columns, whitening.entries
    bent = bends.at, bends.centre, np.empty(len(bends.at)), np.empty(len(bends.at))
    if not isinstance(evaluate, Compiled):

        def in_python(y: Array) -> tuple[float, Array]:
            x, by_y = np.empty(whitening.size), np.empty(whitening.size)
            unwhiten(*matrix, y, x)
            steeper = bend(*bent[:2], x, *bent[2:])
            value, gradient = evaluate(x)
            whiten_gradient(*matrix, bend_gradient(bends.at, *bent[2:], np.asarray(gradient)), by_y)
            return value + steeper, by_y

        return in_python
    # To ask the system for this memory anew takes longer than to use it (decision 008).
    memory = evaluate.memory.copy()
    arguments = (
        address(machine.run, machine.SIGNATURE),
        evaluate.program,
        evaluate.wholes,
        memory,
        memory[evaluate.x],
        memory[evaluate.gradient],
        evaluate.value,
        *matrix,
        *bent,
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
    bent: Index,
    centre: Array,
    slope: Array,
    change: Array,
    by_y: Array,
) -> float:
    """Log density; its gradient goes to by_y. run: address of the machine."""
    unwhiten(row_starts, columns, entries, y, x)
    steeper = bend(bent, centre, x, slope, change)
    function_at(run, _RUN)(program, wholes, memory)  # type: ignore[call-arg]
    whiten_gradient(row_starts, columns, entries, bend_gradient(bent, slope, change, by_x), by_y)
    result: float = memory[value] + steeper
    return result if np.isfinite(by_y).all() else np.nan
