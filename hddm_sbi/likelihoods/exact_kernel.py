"""Kernels of closed forms: a model's own log density over sorted trials."""

from __future__ import annotations

from collections.abc import Callable

import numba as nb
import numpy as np
import torch
from numba import types
from numpy.typing import NDArray
from torch import Tensor

from hddm_sbi.numerics import Kernel, Lapses, dot, inner, lapse_law, lapse_of, mix_lapse, operator
from hddm_sbi.types import Array, Index

#: trials whose densities are in flight at a time: small enough for the first-level cache.
BLOCK = 128
#: numbers between rows.
_GAP = 16

_f8, _i8 = types.float64, types.int64
DENSITY = types.FunctionType(types.void(_f8[::1], _i8, _f8[::1], _f8[::1], _f8[:, ::1]))
#: a model's log density, or what survives: (theta, choice, rt, logp, grad), as `DecisionModel` says.
Law = Callable[[Array, int, Array, Array, Array], None]


@inner()
def apart(rows: int, n: int) -> Array:
    """Room for some rows of n numbers, each at a distance from the next, and from all other arrays.

    Loops look whether arrays that they write lie next to those that they read, and then do one number at a time, which
    rounds otherwise: where the heap has put an array must not decide.
    """
    return np.empty((rows + 2, n + _GAP))[1 : rows + 1]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _cells(
    theta: Array,
    lapse: Array,
    lapse_density: Array,
    lapse_rate: float,
    starts: NDArray[np.int64],
    n_choices: int,
    rt: Array,
    density: Callable[..., None],
    total: Array,
    grad: Array,
    grad_lapse: Array,
) -> None:
    """Per cell: sum over trials of log[(1 - lapse) p exp(lapse_rate rt) + lapse * lapse_density], gradients by theta
    and lapse."""
    p = theta.shape[1]
    room = apart(p + 2, BLOCK)
    logp, weight, partial = room[0], room[1], room[2:]
    lapses, law = Lapses(lapse, lapse_density, lapse_rate), lapse_law(0.0, 1.0)
    total[:] = 0.0
    grad[:] = 0.0
    grad_lapse[:] = 0.0
    for run in range(theta.shape[0] * n_choices):
        cell, choice = run // n_choices, run % n_choices
        law = lapse_of(lapses, cell, choice, law)
        for first in range(starts[run], starts[run + 1], BLOCK):
            last = min(first + BLOCK, starts[run + 1])
            n = last - first
            density(theta[cell], choice, rt[first:last], logp, partial)
            if lapse_rate > 0.0:
                for i in range(n):
                    logp[i] += lapse_rate * rt[first + i]
            value, by_lapse = mix_lapse(law, logp, weight, n)
            total[cell] += value
            grad_lapse[cell] += by_lapse
            for j in range(p):
                grad[cell, j] += dot(weight, partial[j], n)


# A torch operator takes tensors, numbers and strings, so it names a model's kernel by a key, of this process only.
DENSITIES: dict[str, Callable[..., None]] = {}
_SIGNATURE = types.void(
    *(_f8[:, ::1], _f8[::1], _f8[::1], _f8, _i8[::1], _i8, _f8[::1], DENSITY, _f8[::1], _f8[:, ::1], _f8[::1])
)
_KERNEL = Kernel(_cells, _SIGNATURE, DENSITIES)


def _forward(
    theta: Tensor,
    lapse: Tensor,
    lapse_density: list[float],
    lapse_rate: float,
    starts: Tensor,
    n_choices: int,
    rt: Tensor,
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log likelihood of every cell, its gradient by theta, and by the probability of a lapse, (n_cells,)."""
    total, grad, grad_lapse = np.empty(len(theta)), np.empty(tuple(theta.shape)), np.empty(len(theta))
    _KERNEL.compiled(
        theta.detach().contiguous().numpy(),
        lapse.detach().contiguous().numpy(),
        np.array(lapse_density),
        lapse_rate,
        starts.numpy(),
        n_choices,
        rt.numpy(),
        DENSITIES[kernel],
        total,
        grad,
        grad_lapse,
    )
    return torch.from_numpy(total), torch.from_numpy(grad), torch.from_numpy(grad_lapse)


def shapes(theta: Tensor, *given: object) -> tuple[Tensor, Tensor, Tensor]:
    """What `exact_cells` returns, of the right shapes."""
    return theta.new_empty(theta.shape[0]), theta.new_empty(theta.shape), theta.new_empty(theta.shape[0])


def _backward(ctx, upstream, *_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
    grad, grad_lapse = ctx.saved_tensors
    return upstream.unsqueeze(-1) * grad, upstream * grad_lapse, *[None] * 6


exact_cells = operator("hddm_sbi::exact_cells", _KERNEL, _forward, shapes, _backward)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _trials(theta: Array, row: Index, choice: Index, rt: Array, density: Law, log_p: Array) -> None:
    """Log density of every trial, each at its row of theta: neighbours of one row and choice together, while their
    times ascend."""
    room, first, n = apart(theta.shape[1] + 1, BLOCK), 0, len(rt)
    logp, partial = room[0], room[1:]
    while first < n:
        last = first + 1
        while last < n and last - first < BLOCK and row[last] == row[first] and choice[last] == choice[first]:
            if rt[last] < rt[last - 1]:
                break
            last += 1
        density(theta[row[first]], choice[first], rt[first:last], logp, partial)
        log_p[first:last] = logp[: last - first]
        first = last


_TRIALS_KERNEL = Kernel(_trials, types.void(_f8[:, ::1], _i8[::1], _i8[::1], _f8[::1], DENSITY, _f8[::1]), DENSITIES)


def log_densities(values: Tensor, theta: Tensor, row: Tensor, kernel: str) -> Tensor:
    """Log density of every trial, (n,), without a gradient: values (n, 2), theta (r, p), row (n,)."""
    log_p = np.empty(len(values))
    rt, choice = (np.ascontiguousarray(column.numpy()) for column in values.unbind(-1))
    at = theta.detach().contiguous().numpy()
    _TRIALS_KERNEL.compiled(at, row.contiguous().numpy(), choice.astype(np.int64), rt, DENSITIES[kernel], log_p)
    return torch.from_numpy(log_p)
