"""The machine that runs programs: a loop over instructions on one memory of numbers, compiled once for all programs.

An instruction is a row of `WIDTH` whole numbers: operation; number of operands, or 0 if they and the result lie side by
side in one loop; an address or another whole number; the first places in memory of the result and three operands; the
lengths of four nested loops, the innermost first; then for the result and each operand a step for each loop.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np
from numba import types
from numpy.typing import NDArray

from hddm_sbi.numerics import function_at, plus, pointer_to, vecmath
from hddm_sbi.types import Array

#: nested loops of an instruction.
DIMENSIONS = 4
#: numbers that are worked on at once; the first 4 * BLOCK places of memory are for them.
BLOCK = 256
SCRATCH = 4 * BLOCK
PLACES, LENGTHS, STEPS = 3, 7, 7 + DIMENSIONS
#: what an instruction of one loop needs lies in one cache line of eight numbers.
WIDTH = 32

# Result from operands, element by element. Conditions are 1.0 or 0.0.
ADD, SUB, MUL, DIV, POW, MAXIMUM, MINIMUM, LT, LE, EQ, NE, WHERE, COPY, EXP, LOG, SQRT, ABS, CALL_1, CALL_2 = range(19)
# Operands added to what the result holds, or to nothing if the third number is 1: sums, products, extremes, and sums of
# products.
SUM, PROD, AMAX, AMIN, DOT = range(19, 24)
NOTHING = (0.0, 1.0, -math.inf, math.inf, 0.0)
# The second operand says how far from its place to read an operand, or to write the result.
GATHER, SCATTER, SCATTER_ADD = range(24, 27)
# A kernel: its entry, and where in the whole numbers its arguments are.
KERNEL = 27

_Reals, _Wholes = types.CPointer(types.float64), types.CPointer(types.int64)
_ONE = types.FunctionType(types.float64(types.float64))
_TWO = types.FunctionType(types.float64(types.float64, types.float64))
#: memory, whole numbers, arguments.
ENTRY = types.FunctionType(types.void(_Reals, _Wholes, _Wholes))
#: program, whole numbers, memory.
SIGNATURE = types.void(types.int64[::1], types.int64[::1], types.float64[::1])


# Pointers, not arrays: an array would check and count every use, which takes ten times as long as a short loop.
# A branch and a loop for each operation: to choose it inside the loop would cost more than to compute it.
@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _pointwise(op: int, function: int, o: Any, a: Any, b: Any, c: Any, n: int) -> None:
    if op == ADD:
        for i in range(n):
            o[i] = a[i] + b[i]
    elif op == SUB:
        for i in range(n):
            o[i] = a[i] - b[i]
    elif op == MUL:
        for i in range(n):
            o[i] = a[i] * b[i]
    elif op == DIV:
        for i in range(n):
            o[i] = a[i] / b[i]
    elif op == POW:
        for i in range(n):
            o[i] = a[i] ** b[i]
    elif op == MAXIMUM:
        for i in range(n):
            o[i] = max(a[i], b[i])
    elif op == MINIMUM:
        for i in range(n):
            o[i] = min(a[i], b[i])
    elif op == LT:
        for i in range(n):
            o[i] = 1.0 if a[i] < b[i] else 0.0
    elif op == LE:
        for i in range(n):
            o[i] = 1.0 if a[i] <= b[i] else 0.0
    elif op == EQ:
        for i in range(n):
            o[i] = 1.0 if a[i] == b[i] else 0.0
    elif op == NE:
        for i in range(n):
            o[i] = 1.0 if a[i] != b[i] else 0.0
    elif op == WHERE:
        for i in range(n):
            x, y = b[i], c[i]
            o[i] = x if a[i] != 0.0 else y
    elif op == COPY:
        for i in range(n):
            o[i] = a[i]
    elif op == EXP:
        for i in range(n):
            o[i] = vecmath.exp(a[i])
    elif op == LOG:
        for i in range(n):
            o[i] = vecmath.log(a[i])
    elif op == SQRT:
        for i in range(n):
            o[i] = math.sqrt(a[i])
    elif op == ABS:
        for i in range(n):
            o[i] = abs(a[i])
    elif op == CALL_1:
        for i in range(n):
            o[i] = function_at(function, _ONE)(a[i])  # type: ignore[call-arg]
    elif op == CALL_2:
        for i in range(n):
            o[i] = function_at(function, _TWO)(a[i], b[i])  # type: ignore[call-arg]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _fold(op: int, a: Any, b: Any, n: int, total: float) -> float:
    """The elements of a, or of a * b, added to a total, multiplied with it, or the extreme of all."""
    if op == SUM:
        for i in range(n):
            total += a[i]
    elif op == DOT:
        for i in range(n):
            total += a[i] * b[i]
    elif op == PROD:
        for i in range(n):
            total *= a[i]
    elif op == AMAX:
        for i in range(n):
            total = max(total, a[i])
    elif op == AMIN:
        for i in range(n):
            total = min(total, a[i])
    return total


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _add_each(op: int, o: Any, step: int, a: Any, b: Any, n: int) -> None:
    """The same for every element on its own, in order: o may be a's next element."""
    if op == SUM:
        for i in range(n):
            o[i * step] += a[i]
    elif op == DOT:
        for i in range(n):
            o[i * step] += a[i] * b[i]
    else:
        for i in range(n):
            o[i * step] = _fold(op, plus(a, i), b, 1, o[i * step])  # type: ignore[call-arg]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _indexed(op: int, o: Any, o_step: int, a: Any, a_step: int, index: Any, n: int) -> None:
    if op == GATHER:
        for i in range(n):
            o[i * o_step] = a[i * a_step + int(index[i])]
    elif op == SCATTER:
        for i in range(n):
            o[i * o_step + int(index[i])] = a[i * a_step]
    else:
        for i in range(n):
            o[i * o_step + int(index[i])] += a[i * a_step]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _load(a: Any, step: int, scratch: Any, n: int) -> Any:
    """Elements side by side: where they are, or copied."""
    if step == 1:
        return a
    if step == 0:
        x = a[0]
        for i in range(n):
            scratch[i] = x
    else:
        for i in range(n):
            scratch[i] = a[i * step]
    return scratch


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _line(row: Any, memory: Any, o: Any, a: Any, b: Any, c: Any) -> None:
    """The innermost loop of an instruction, block by block."""
    op, arity, length = row[0], row[1], row[LENGTHS]
    by_o, by_a, by_b, by_c = row[STEPS], row[STEPS + 4], row[STEPS + 8], row[STEPS + 12]
    for first in range(0, length, BLOCK):
        n = min(BLOCK, length - first)
        to: Any = plus(o, first * by_o)  # type: ignore[call-arg]
        x: Any = plus(a, first * by_a)
        y = _load(plus(b, first * by_b), by_b, plus(memory, 2 * BLOCK), n) if arity > 1 else x
        if op >= GATHER:
            _indexed(op, to, by_o, x, by_a, y, n)
            continue
        x = _load(x, by_a, plus(memory, BLOCK), n)
        if op >= SUM and by_o == 0:
            to[0] = _fold(op, x, y, n, NOTHING[op - SUM] if row[2] == 1 and first == 0 else to[0])
        elif op >= SUM:
            _add_each(op, to, by_o, x, y, n)
        else:
            z = _load(plus(c, first * by_c), by_c, plus(memory, 3 * BLOCK), n) if arity > 2 else x
            _pointwise(op, row[2], to if by_o == 1 else memory, x, y, z, n)
            if by_o != 1:
                for i in range(n):
                    to[i * by_o] = memory[i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def run(program: NDArray[np.int64], wholes: NDArray[np.int64], memory: Array) -> None:
    """Run a program (instructions * WIDTH,) on a memory."""
    m: Any = pointer_to(memory.ctypes.data, _Reals)  # type: ignore[call-arg]
    k: Any = pointer_to(wholes.ctypes.data, _Wholes)
    row: Any = pointer_to(program.ctypes.data, _Wholes)
    for _ in range(len(program) // WIDTH):
        o, a, b, c = plus(m, row[PLACES]), plus(m, row[PLACES + 1]), plus(m, row[PLACES + 2]), plus(m, row[PLACES + 3])
        by: Any = plus(row, STEPS)
        if row[0] == KERNEL:
            function_at(row[2], ENTRY)(m, k, plus(k, row[PLACES]))
        elif row[1] == 0:
            _pointwise(row[0], row[2], o, a, b, c, row[LENGTHS])
        else:
            for i in range(row[LENGTHS + 3]):
                for j in range(row[LENGTHS + 2]):
                    for h in range(row[LENGTHS + 1]):
                        _line(
                            row,
                            m,
                            plus(o, i * by[3] + j * by[2] + h * by[1]),
                            plus(a, i * by[7] + j * by[6] + h * by[5]),
                            plus(b, i * by[11] + j * by[10] + h * by[9]),
                            plus(c, i * by[15] + j * by[14] + h * by[13]),
                        )
        row = plus(row, WIDTH)
