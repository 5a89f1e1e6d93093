"""A small function of a few numbers as machine code of its own, for loops that call it once a trial.

The machine of programs works on whole tensors, which is fast where they are long. Here a program's elements are so few
that every one is a value by itself: LLVM is given one straight line of them, which takes milliseconds.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from llvmlite import binding, ir
from torch import Tensor

from hddm_sbi.inference.compiler import machine as on
from hddm_sbi.inference.compiler.operations import UnknownOperationError
from hddm_sbi.inference.compiler.program import Call, Program, Step
from hddm_sbi.inference.compiler.recorder import record
from hddm_sbi.types import Array

_DOUBLE, _WHOLE = ir.DoubleType(), ir.IntType(64)
#: operation -> the builder's method, of two numbers.
_OF_TWO = {on.ADD: "fadd", on.SUB: "fsub", on.MUL: "fmul", on.DIV: "fdiv"}
_COMPARED = {on.LT: "<", on.LE: "<=", on.EQ: "==", on.NE: "!="}
_INTRINSIC = {on.EXP: "llvm.exp", on.LOG: "llvm.log", on.SQRT: "llvm.sqrt", on.ABS: "llvm.fabs", on.POW: "llvm.pow"}
#: sums and their kin -> the operation on what the result holds.
_FOLDED = {on.SUM: on.ADD, on.PROD: on.MUL, on.AMAX: on.MAXIMUM, on.AMIN: on.MINIMUM}


class Native:
    """Machine code of a function from n numbers to m: `void f(double *x, ..., double *y)`.

    function: in torch, of a vector (n,), to a vector. example: values at which it is recorded. parts: how many numbers
    lie together, in memory of their own each; all of them where nothing is said.
    Raises UnknownOperationError for what cannot be written as one straight line: reads and writes at places that depend
    on the numbers, and Python code that looks at their values.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], example: Array, parts: Sequence[int] = ()) -> None:
        x = torch.from_numpy(np.array(example, dtype=np.float64))
        program, (first, last) = record(lambda at: (function(at),), x)
        self.n, self.m, self._parts = first.numel(), last.numel(), tuple(parts) or (len(example),)
        # The machine code lives as long as what compiled it.
        self._engine = _compiled(_module(program, first, last, self._parts))
        self.address = int(self._engine.get_function_address("f"))

    def __call__(self, x: Array) -> Array:
        """The function of one vector (n,), -> (m,)."""
        given, result = np.array(x, dtype=np.float64), np.empty(self.m)
        begins = [sum(self._parts[:i]) for i in range(len(self._parts))]
        pointers = [*(given.ctypes.data + given.itemsize * begin for begin in begins), result.ctypes.data]
        ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(pointers))(self.address)(*pointers)
        return result


def _module(program: Program, x: Tensor, y: Tensor, parts: Sequence[int]) -> ir.Module:
    module = ir.Module("native")
    pointers = ir.FunctionType(ir.VoidType(), [_DOUBLE.as_pointer()] * (len(parts) + 1))
    function = ir.Function(module, pointers, "f")
    builder = ir.IRBuilder(function.append_basic_block())
    *given, result = function.args
    values: dict[int, Any] = {}
    for pointer, size in zip(given, parts, strict=True):
        first = int(x.storage_offset()) + len(values)
        values |= {first + i: builder.load(builder.gep(pointer, [_WHOLE(i)])) for i in range(size)}
    values |= {place: _DOUBLE(number) for place, number in program.constants()}
    for step in program.steps():
        _run(builder, values, step)
    for i, place in enumerate(_places(y)):
        builder.store(values[place], builder.gep(result, [_WHOLE(i)]))
    builder.ret_void()
    return module


def _places(tensor: Tensor) -> list[int]:
    """The place of every element, the last index fastest."""
    steps = tensor.stride()
    return [
        int(tensor.storage_offset()) + sum(i * s for i, s in zip(index, steps, strict=True))
        for index in np.ndindex(*tensor.shape)
    ]


def _run(builder: Any, values: dict[int, Any], step: Step | Call) -> None:
    """One instruction, element by element."""
    if isinstance(step, Call):
        raise UnknownOperationError("a kernel of its own")
    for index in itertools.product(*map(range, step.lengths)):
        to, *of = (first + sum(i * s for i, s in zip(index, by, strict=True)) for first, by in step.operands)
        if step.operation >= on.GATHER:
            far = _known(values[of.pop()])
            to, of = (to, [of[0] + far]) if step.operation == on.GATHER else (to + far, of)
        operands = [values[place] for place in of]
        if on.SUM <= step.operation < on.GATHER:
            begins = step.aux == 1 and index[-1] == 0
            held = _DOUBLE(on.NOTHING[step.operation - on.SUM]) if begins else values[to]
            values[to] = _folded(builder, step.operation, held, operands)
        elif step.operation >= on.GATHER:
            added = step.operation == on.SCATTER_ADD
            values[to] = builder.fadd(values[to], *operands) if added else operands[0]
        else:
            values[to] = _applied(builder, step.operation, operands, step.aux)


def _known(far: Any) -> int:
    """How far from its place an element is, where that is a constant."""
    if not isinstance(far, ir.Constant):
        raise UnknownOperationError("elements at places that depend on the numbers; choose them with torch.where")
    return int(far.constant)


def _folded(builder: Any, operation: int, held: Any, operands: list[Any]) -> Any:
    if operation == on.DOT:
        return builder.fadd(held, builder.fmul(*operands))
    return _applied(builder, _FOLDED[operation], [held, *operands], 0)


def _applied(builder: Any, operation: int, operands: list[Any], function: int) -> Any:
    """The value of an operation, as the machine has it."""
    if operation in _OF_TWO:
        return getattr(builder, _OF_TWO[operation])(*operands)
    if operation in _COMPARED:
        ordered = builder.fcmp_unordered if operation == on.NE else builder.fcmp_ordered
        return builder.uitofp(ordered(_COMPARED[operation], *operands), _DOUBLE)
    if operation in (on.MAXIMUM, on.MINIMUM):
        a, b = operands
        return builder.select(builder.fcmp_ordered(">" if operation == on.MAXIMUM else "<", b, a), b, a)
    if operation == on.WHERE:
        return builder.select(builder.fcmp_unordered("!=", operands[0], _DOUBLE(0.0)), *operands[1:])
    if operation == on.COPY:
        return operands[0]
    kind = ir.FunctionType(_DOUBLE, [_DOUBLE] * len(operands))
    if operation in _INTRINSIC:
        return builder.call(builder.module.declare_intrinsic(_INTRINSIC[operation], [_DOUBLE], kind), operands)
    return builder.call(builder.inttoptr(_WHOLE(function), kind.as_pointer()), operands)


def _compiled(module: ir.Module) -> Any:
    """The engine that holds the machine code of a module."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine(opt=3)
    checked = binding.parse_assembly(str(module))
    checked.verify()
    engine = binding.create_mcjit_compiler(checked, machine)
    engine.finalize_object()
    return engine
