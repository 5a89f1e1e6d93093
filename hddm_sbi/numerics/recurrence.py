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
from hddm_sbi.numerics.vecmath import inner
from hddm_sbi.types import Array, Index

_f8, _i8 = types.float64, types.int64
_REALS = types.CPointer(_f8)
#: machine code of a rule: state, parameters, what is read -> state and covariate.
_RULE = types.FunctionType(types.void(_REALS, _REALS, _REALS, _REALS))
#: and of its pullback: the same, derivatives by the new state and the covariate -> those by state and parameters.
_PULL = types.FunctionType(types.void(_REALS, _REALS, _REALS, _REALS, _REALS, _REALS))


@inner(forceinline=True)
def _at(x: Array) -> Any:
    """A pointer to the first number of an array, which must be used by name after the pointer is."""
    return pointer_to(x.ctypes.data, _REALS)  # type: ignore[call-arg]


@inner(forceinline=True)
def _on(pointer: Any, places: int) -> Any:
    """The pointer some places further on."""
    return plus(pointer, places)  # type: ignore[call-arg]


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
    states: Array,
    kept: Array,
) -> None:
    """Covariates (n, width) of all trials; for the way back the state before each, and the parameters.

    states: (n + 1, numbers + width), where a rule leaves the state before the next trial, and the covariate.
    """
    s, m, columns, each = len(begin), parameters.shape[1], rows.shape[1], states.shape[1]
    at_states, at_parameters, at_rows = _at(states), _at(kept), _at(rows)
    kept[:] = parameters
    for run in range(len(starts) - 1):
        for j in range(s):
            i = starts[run]
            if i < starts[run + 1]:
                states[i, j] = begin[j] if begin_of[j] < 0 else parameters[cell[i], begin_of[j]]
        for i in range(starts[run], starts[run + 1]):
            x, p, row = _on(at_states, each * i), _on(at_parameters, m * cell[i]), _on(at_rows, columns * i)
            function_at(step, _RULE)(x, p, row, _on(x, each))  # type: ignore[call-arg]
            for j in range(width):
                covariate[trial[i], j] = states[i + 1, s + j]
            if not known[i]:
                states[i + 1, :s] = states[i, :s]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _backward(
    upstream: Array,
    states: Array,
    parameters: Array,
    begin_of: Index,
    rows: Array,
    known: Index,
    cell: Index,
    trial: Index,
    starts: Index,
    pull: int,
    grad: Array,
) -> None:
    """Gradient by the parameters on every cell, (n_cells, m), from that by the covariates, (n, width)."""
    s, m, columns, width = len(begin_of), parameters.shape[1], rows.shape[1], upstream.shape[1]
    each, of_state = states.shape[1], s + m
    # Derivatives by the state after a trial, those by the state before it, in turn, and zeros.
    results = np.zeros((3, of_state))
    at_states, at_parameters, at_rows, at_upstream = _at(states), _at(parameters), _at(rows), _at(upstream)
    nothing, now, grad[:] = _on(_at(results), 2 * of_state), 0, 0.0
    for run in range(len(starts) - 1):
        results[now, :s] = 0.0
        for i in range(starts[run + 1] - 1, starts[run] - 1, -1):
            new = _on(_at(results), of_state * now) if known[i] else nothing
            x, p, row = _on(at_states, each * i), _on(at_parameters, m * cell[i]), _on(at_rows, columns * i)
            u, y = _on(at_upstream, width * trial[i]), _on(_at(results), of_state * (1 - now))
            function_at(pull, _PULL)(x, p, row, new, u, y)  # type: ignore[call-arg]
            if not known[i]:
                for j in range(s):
                    results[1 - now, j] += results[now, j]
            now = 1 - now
            for j in range(m):
                grad[cell[i], j] += results[now, s + j]
        for j in range(s):
            if starts[run + 1] > starts[run] and begin_of[j] >= 0:
                grad[cell[starts[run]], begin_of[j]] += results[now, j]


_reals, _whole = _f8[:, ::1], _i8[::1]
_FORWARD = Kernel(
    _forward,
    types.void(_reals, _f8[::1], _whole, _reals, *[_whole] * 4, _i8, _i8, _i8, *[_reals] * 3),
)
_BACKWARD = Kernel(_backward, types.void(_reals, _reals, _reals, _whole, _reals, *[_whole] * 4, _i8, _reals))


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
) -> tuple[Tensor, Tensor, Tensor]:
    """Covariates of all trials, the states between them, and a copy of the parameters."""
    given = (begin, begin_of, rows, known, cell, trial, starts)
    results = _shapes(parameters, *given, width)
    at = parameters.detach().contiguous().numpy()
    _FORWARD.compiled(at, *(x.numpy() for x in given), width, step, pull, *(x.numpy() for x in results))
    return results


def _shapes(parameters: Tensor, *given: Any) -> tuple[Tensor, Tensor, Tensor]:
    begin, _, rows, _, _, _, _, width, *_ = given
    n = len(rows)
    states = parameters.new_empty(n + 1, len(begin) + width)
    return parameters.new_empty(n, width), states, parameters.new_empty(parameters.shape)


def _by_parameters(ctx, upstream, *_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
    states, parameters = ctx.saved_tensors
    _, _, begin_of, *order, _, _, pull = ctx.given
    return recur_back(upstream.contiguous(), states, parameters, begin_of, *order, pull), *[None] * 10


def _recur_backward(
    upstream: Tensor,
    states: Tensor,
    parameters: Tensor,
    begin_of: Tensor,
    rows: Tensor,
    known: Tensor,
    cell: Tensor,
    trial: Tensor,
    starts: Tensor,
    pull: int,
) -> Tensor:
    """Gradient by the parameters on every cell."""
    grad = np.empty(tuple(parameters.shape))
    given = (upstream, states, parameters, begin_of, rows, known, cell, trial, starts)
    _BACKWARD.compiled(*(x.detach().contiguous().numpy() for x in given), pull, grad)
    return torch.from_numpy(grad)


def _shape_of_parameters(upstream: Tensor, states: Tensor, parameters: Tensor, *given: Any) -> Tensor:
    return parameters.new_empty(parameters.shape)


recur_back = operator("hddm_sbi::recur_back", _BACKWARD, _recur_backward, _shape_of_parameters)
#: covariates (n_trials, width) of parameters (n_cells, m), and what the way back needs. begin, begin_of: of every state
#: before the first trial a number, or a parameter's position (else -1). In the order of sequences, one after the other:
#: rows (n, columns) of the table; known, 1 where the rule's new state counts, else the state stays; cell and trial of
#: each. starts: of the sequences, and the end. step, pull: addresses of the rule and its pullback.
recur = operator("hddm_sbi::recur", _FORWARD, _recur, _shapes, _by_parameters)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def apply_rule(step: int, state: Array, parameters: Array, rows: Array, result: Array) -> None:
    """What a rule makes of every row, (n, states + width): state, parameters, rows (n, ...) each."""
    at_state, at_parameters, at_rows, y = _at(state), _at(parameters), _at(rows), _at(result)
    for i in range(len(state)):
        x, p = _on(at_state, i * state.shape[1]), _on(at_parameters, i * parameters.shape[1])
        function_at(step, _RULE)(x, p, _on(at_rows, i * rows.shape[1]), _on(y, i * result.shape[1]))  # type: ignore[call-arg]
