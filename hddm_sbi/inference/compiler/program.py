"""The source of one function under construction: its loops, its workspace, its constants, the kernels it calls."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import torch
from numba import types
from torch import Tensor

from hddm_sbi.inference.compiler.lazy import START, Index, Lazy, Shape, literal, number, stored, variable
from hddm_sbi.inference.compiler.schedule import Statement
from hddm_sbi.numerics.operators import KERNELS, Kernel, address

#: expression that starts a reduction, and the statement that adds an element to it.
_REDUCTIONS = {
    "sum": ("0.0", "{to} += {x}"),
    "prod": ("1.0", "{to} *= {x}"),
    "amax": ("-math.inf", "{to} = max({to}, {x})"),
    "amin": ("math.inf", "{to} = min({to}, {x})"),
    "any": ("0.0", "{to} = 1.0 if {x} else {to}"),
}


def has_kernel(operator: str) -> bool:
    """Whether a torch operator, "namespace::name", has a compiled kernel."""
    return operator in KERNELS


class Program:
    """Statements over four arrays: x (the input), w (workspace), f and k (constants, real and whole numbers).

    Storing a lazy tensor computes it; every element is computed once.
    """

    def __init__(self) -> None:
        self.statements: list[Statement] = []
        self.workspace = 0
        self.reals: list[Tensor] = []
        self.wholes: list[Tensor] = []
        self.function_types: dict[str, types.FunctionType] = {}
        self._sizes = {"f": 0, "k": 0}
        self._variables = 0
        self._starts: list[int] = []

    def constant(self, value: Tensor) -> Lazy:
        """A constant tensor; if all its real values are equal, it takes the memory of one."""
        real = value.dtype.is_floating_point
        flat = value.detach().reshape(-1).to(torch.float64 if real else torch.int64)
        uniform = real and flat.numel() > 0 and bool((flat == flat[0]).all())
        array, pieces = ("f", self.reals) if real else ("k", self.wholes)
        offset = self._sizes[array]
        pieces.append(flat[:1] if uniform else flat)
        self._sizes[array] += len(pieces[-1])
        shape = tuple(value.shape)
        return number(f"{array}[{offset}]", shape) if uniform else stored(array, offset, shape)

    def allocate(self, shape: Shape) -> Lazy:
        """Room in the workspace."""
        offset = self.workspace
        self._starts.append(offset)
        self.workspace += math.prod(shape)
        return stored("w", offset, shape)

    def loop(
        self, shape: Shape, body: Callable[[Index], Sequence[str]], *, alone: bool = False, part: bool = False
    ) -> None:
        """The lines of `body` for all indices of a shape; `alone` where their order matters."""
        long = [d for d, n in enumerate(shape) if n != 1]
        index = [variable(f"i{long.index(d)}") if d in long else START for d in range(len(shape))]
        lines = tuple(body(index))
        self.statements.append(Statement(tuple(shape[d] for d in long), lines, self._buffer, alone, part))

    def _buffer(self, offset: int) -> int:
        return self._starts[bisect_right(self._starts, offset) - 1]

    def write(self, to: Lazy, value: Lazy, *, part: bool = False) -> None:
        """Compute every element into memory; `part` of a buffer where nothing else ever assigns to it."""
        self.loop(to.shape, lambda i: [f"{to.element(i)} = {value.element(i)}"], part=part)

    def store(self, value: Lazy) -> Lazy:
        """The same tensor, computed: a single number into a variable, others into the workspace."""
        if value.cheap:
            return value
        if value.size == 1:
            return number(self.assign(value.element([START] * len(value.shape))), value.shape)
        return self.copy(value)

    def copy(self, value: Lazy) -> Lazy:
        """The elements of a tensor in workspace of its own."""
        to = self.allocate(value.shape)
        self.write(to, value)
        return to

    def in_one_piece(self, value: Lazy) -> Lazy:
        """The same tensor in contiguous memory."""
        return value if value.flat is not None else self.copy(value)

    def assign(self, expression: str) -> str:
        """A new variable with this value."""
        self._variables += 1
        self.loop((), lambda i: [f"s{self._variables} = {expression}"])
        return f"s{self._variables}"

    def reshape(self, value: Lazy, shape: Shape) -> Lazy:
        """The same elements, in order, in another shape."""
        if [n for n in shape if n != 1] == [n for n in value.shape if n != 1]:
            return value.squeezed(shape)
        flat = self.in_one_piece(value).flat
        assert flat is not None
        return stored(*flat, shape)

    def broadcast(self, value: Lazy, shape: Shape) -> Lazy:
        """The same tensor, its elements repeated: so they are computed first."""
        return (self.store(value) if math.prod(shape) > value.size else value).broadcast(shape)

    def reduce(self, value: Lazy, dims: Sequence[int], keep: bool, how: str) -> Lazy:
        """Sum, product, largest, smallest or any along dimensions."""
        start, add = _REDUCTIONS[how]
        kept = tuple(1 if d in dims else n for d, n in enumerate(value.shape))
        shape = kept if keep else tuple(n for d, n in enumerate(value.shape) if d not in dims)
        if kept == value.shape:
            return value.squeezed(shape)
        if math.prod(kept) == 1:
            total = self.assign(start)
            self.loop(value.shape, lambda i: [add.format(to=total, x=value.element(i))])
            return number(total, shape)
        to = self.copy(number(start, kept))
        self.loop(
            value.shape,
            lambda i: [
                add.format(
                    to=to.element([START if d in dims else e for d, e in enumerate(i)]),
                    x=value.element(i),
                )
            ],
        )
        return to.squeezed(shape)

    def call(self, operator: str, given: Sequence[Any], shapes: Sequence[Shape]) -> list[Lazy]:
        """Results of an operator's kernel, whose machine code the program calls by its address."""
        kernel = KERNELS[operator]
        kinds, texts = zip(*(self._argument(a, kernel) for a in given), strict=True)
        results = [self.copy(number("0.0", shape)) for shape in shapes]
        outputs = [self._argument(r, kernel) for r in results]
        signature = types.void(*kinds, *(kind for kind, _ in outputs))
        function = self._function(kernel.function, signature)
        arguments = ", ".join([*texts, *(text for _, text in outputs)])
        self.loop((), lambda i: [f"F = {function}", f"F({arguments})"], alone=True)
        return results

    def _argument(self, value: Any, kernel: Kernel) -> tuple[types.Type, str]:
        """Numba type and source text of one argument of a kernel."""
        if isinstance(value, Lazy):
            if value.shape == ():
                return types.float64, value.element([])
            flat = self.in_one_piece(value).flat
            assert flat is not None
            array, offset = flat
            piece = f"{array}[{offset}:{offset + value.size}]"
            kind = types.int64 if array == "k" else types.float64
            shaped = piece if len(value.shape) == 1 else f"{piece}.reshape({value.shape})"
            return types.Array(kind, len(value.shape), "C"), shaped
        if isinstance(value, str):
            assert kernel.named_type is not None
            return kernel.named_type, self._function(kernel.named[value], kernel.named_type.signature)
        if isinstance(value, list):
            return self._argument(self.constant(torch.tensor(value)), kernel)
        if isinstance(value, bool):
            return types.boolean, str(value)
        return (types.int64, str(value)) if isinstance(value, int) else (types.float64, literal(value))

    def _function(self, function: Any, signature: Any) -> str:
        where = self.constant(torch.tensor(address(function, signature)))
        name = f"F{len(self.function_types)}"
        self.function_types[name] = types.FunctionType(signature)
        return f"function_at({where.element([])}, {name})"
