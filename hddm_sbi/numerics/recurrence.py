"""A covariate computed along trials in their order, by any rule of one trial, and its gradient by a reverse sweep.

With s the state before a trial, x what the table says of it and p the parameters on its cell, the rule is
(s, x, p) -> s', c. Going back, with S the derivative of the whole by s' and C that by c, the rule's own pullback gives
those by s and p: trial after trial, for the price of one more sweep.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import torch
from numba import types
from torch import Tensor

from hddm_sbi.numerics.operators import Kernel, function_at, operator, plus, pointer_to
from hddm_sbi.types import Array, Index

_f8, _i8 = types.float64, types.int64
_REALS = types.CPointer(_f8)
#: machine code of a function from some numbers to others.
_RULE = types.FunctionType(types.void(_REALS, _REALS))


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _forward(
    parameters: Array,
    begin: Array,
    begin_of: Index,
    rows: Array,
    known: Index,
    cell: Index,
    trial: Index,
    starts: Index,
    width: int,
    step: int,
    pull: int,
    covariate: Array,
    tape: Array,
) -> None:
    """Covariates (n, width) of all trials, and what the rule was given at each, (n, states + parameters + columns)."""
    s, m, columns, long = len(begin), parameters.shape[1], rows.shape[1], tape.shape[1]
    y = np.empty(s + width)
    to: Any = pointer_to(y.ctypes.data, _REALS)  # type: ignore[call-arg]
    x: Any = pointer_to(tape.ctypes.data, _REALS)
    for run in range(len(starts) - 1):
        for i in range(starts[run], starts[run + 1]):
            if i == starts[run]:
                for j in range(s):
                    x[j] = begin[j] if begin_of[j] < 0 else parameters[cell[i], begin_of[j]]
            for j in range(m):
                x[s + j] = parameters[cell[i], j]
            for j in range(columns):
                x[s + m + j] = rows[i, j]
            function_at(step, _RULE)(x, to)
            for j in range(width):
                covariate[trial[i], j] = y[s + j]
            after: Any = plus(x, long)
            if i + 1 < starts[run + 1]:
                for j in range(s):
                    after[j] = y[j] if known[i] else x[j]
            x = after


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _backward(
    upstream: Array,
    tape: Array,
    begin_of: Index,
    known: Index,
    cell: Index,
    trial: Index,
    starts: Index,
    n_cells: int,
    n_parameters: int,
    pull: int,
    grad: Array,
) -> None:
    """Gradient by the parameters on every cell, (n_cells, n_parameters), from that by the covariates (n, width)."""
    s, m, long, width = len(begin_of), n_parameters, tape.shape[1], upstream.shape[1]
    given, result = np.empty(long + s + width), np.zeros(s + m)
    # Numba frees an array after its last use by name, so results are read from arrays, not through pointers.
    x: Any = pointer_to(given.ctypes.data, _REALS)  # type: ignore[call-arg]
    y: Any = pointer_to(result.ctypes.data, _REALS)
    grad[:] = 0.0
    for run in range(len(starts) - 1):
        by_state = np.zeros(s)
        for i in range(starts[run + 1] - 1, starts[run] - 1, -1):
            for j in range(long):
                given[j] = tape[i, j]
            for j in range(s):
                given[long + j] = by_state[j] if known[i] else 0.0
            for j in range(width):
                given[long + s + j] = upstream[trial[i], j]
            function_at(pull, _RULE)(x, y)
            for j in range(s):
                by_state[j] = result[j] if known[i] else by_state[j] + result[j]
            for j in range(m):
                grad[cell[i], j] += result[s + j]
        if starts[run + 1] > starts[run]:
            for j in range(s):
                if begin_of[j] >= 0:
                    grad[cell[starts[run]], begin_of[j]] += by_state[j]


_reals, _whole = _f8[:, ::1], _i8[::1]
_FORWARD = Kernel(
    _forward,
    types.void(_reals, _f8[::1], _whole, _reals, *[_whole] * 4, _i8, _i8, _i8, _reals, _reals),
)
_BACKWARD = Kernel(_backward, types.void(_reals, _reals, *[_whole] * 5, _i8, _i8, _i8, _reals))


def _recur(
    parameters: Tensor,
    begin: Tensor,
    begin_of: Tensor,
    rows: Tensor,
    known: Tensor,
    cell: Tensor,
    trial: Tensor,
    starts: Tensor,
    width: int,
    step: int,
    pull: int,
) -> tuple[Tensor, Tensor]:
    """Covariates of all trials, and what the rule was given at each."""
    covariate, tape = (x.numpy() for x in _shapes(parameters, begin, begin_of, rows, known, cell, trial, starts, width))
    given = (begin, begin_of, rows, known, cell, trial, starts)
    at = parameters.detach().contiguous().numpy()
    _FORWARD.compiled(at, *(x.numpy() for x in given), width, step, pull, covariate, tape)
    return torch.from_numpy(covariate), torch.from_numpy(tape)


def _shapes(
    parameters: Tensor,
    begin: Tensor,
    begin_of: Tensor,
    rows: Tensor,
    known: Tensor,
    cell: Tensor,
    trial: Tensor,
    starts: Tensor,
    width: int,
    *functions: int,
) -> tuple[Tensor, Tensor]:
    n, columns = rows.shape
    return parameters.new_empty(n, width), parameters.new_empty(n, len(begin) + parameters.shape[1] + columns)


def _by_parameters(ctx, upstream, *_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
    (tape,) = ctx.saved_tensors
    shape, _, begin_of, _, known, cell, trial, starts, _, _, pull = ctx.given
    grad = recur_back(upstream.contiguous(), tape, begin_of, known, cell, trial, starts, *shape, pull)
    return grad, *[None] * 10


def _recur_backward(
    upstream: Tensor,
    tape: Tensor,
    begin_of: Tensor,
    known: Tensor,
    cell: Tensor,
    trial: Tensor,
    starts: Tensor,
    n_cells: int,
    n_parameters: int,
    pull: int,
) -> Tensor:
    """Gradient by the parameters on every cell."""
    grad = np.empty((n_cells, n_parameters))
    given = (upstream, tape, begin_of, known, cell, trial, starts)
    _BACKWARD.compiled(*(x.detach().contiguous().numpy() for x in given), n_cells, n_parameters, pull, grad)
    return torch.from_numpy(grad)


def _shape_of_parameters(upstream: Tensor, *given: Any) -> Tensor:
    n_cells, n_parameters = given[-3:-1]
    return upstream.new_empty(n_cells, n_parameters)


recur_back = operator("hddm_sbi::recur_back", _BACKWARD, _recur_backward, _shape_of_parameters)
#: covariates (n_trials, width) of parameters (n_cells, m), and a tape for the gradient. begin, begin_of: of every state
#: before the first trial a number, or a parameter's position (else -1). In the order of sequences, one after the other:
#: rows (n, columns) of the table; known, 1 where the rule's new state counts, else the state stays; cell and trial of
#: each. starts: of the sequences, and the end. step, pull: addresses of the rule and its pullback.
recur = operator("hddm_sbi::recur", _FORWARD, _recur, _shapes, _by_parameters)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def apply_rule(step: int, given: Array, result: Array) -> None:
    """What a rule makes of every row: given (n, states + parameters + columns), result (n, states + width)."""
    n, long, wide = len(given), given.shape[1], result.shape[1]
    x: Any = pointer_to(given.ctypes.data, _REALS)  # type: ignore[call-arg]
    y: Any = pointer_to(result.ctypes.data, _REALS)
    for i in range(n):
        function_at(step, _RULE)(plus(x, i * long), plus(y, i * wide))
