"""A program under construction: instructions of the machine, and the tensors in memory that they read and write."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hddm_sbi.inference.compiler import machine
from hddm_sbi.inference.compiler.kernel_entry import kernel_entry
from hddm_sbi.numerics import Kernel, address
from hddm_sbi.types import Array

#: places that no program fills. A tensor of the program is a view of them without memory (device "meta"), so that torch
#: itself says where the elements of a view lie.
_PLACES = torch.empty(2**44, dtype=torch.float64, device="meta")
#: operation -> (position, value) of operands beside which the other operand is the result.
_NEUTRAL = {
    machine.ADD: ((0, 0.0), (1, 0.0)),
    machine.SUB: ((1, 0.0),),
    machine.MUL: ((0, 1.0), (1, 1.0)),
    machine.DIV: ((1, 1.0),),
    machine.POW: ((1, 1.0),),
}
#: sums and their kin -> the same of two numbers.
_OF_TWO = {
    machine.SUM: machine.ADD,
    machine.PROD: machine.MUL,
    machine.AMAX: machine.MAXIMUM,
    machine.AMIN: machine.MINIMUM,
}
#: places a new tensor may begin at, so that it does not share a cache line with another.
_LINE = 8


@dataclass
class Step:
    """An instruction: lengths of the loops, and for the result and the operands the first place and a step for each
    loop."""

    operation: int
    lengths: Sequence[int]
    operands: Sequence[tuple[int, Sequence[int]]]
    aux: int = 0

    def row(self, place: Callable[[int], int]) -> NDArray[np.int64]:
        """The instruction as the machine reads it."""
        row = np.zeros(machine.WIDTH, np.int64)
        row[:3] = self.operation, 0 if self._is_straight else len(self.operands) - 1, self.aux
        row[machine.LENGTHS : machine.STEPS] = self.lengths[::-1]
        for k, (first, steps) in enumerate(self.operands):
            row[machine.PLACES + k] = place(first)
            begin = machine.STEPS + machine.DIMENSIONS * k
            row[begin : begin + machine.DIMENSIONS] = steps[::-1]
        return row

    @property
    def _is_straight(self) -> bool:
        """Whether it is one loop over elements that lie side by side."""
        one_loop = math.prod(self.lengths[:-1]) == 1
        return self.operation < machine.SUM and one_loop and all(steps[-1] == 1 for _, steps in self.operands)


@dataclass
class Call:
    """A kernel's entry, and its arguments; a float64 place is given as a tensor."""

    entry: int
    arguments: list[int | Tensor]
    start: int = 0


@dataclass(frozen=True)
class Compiled:
    """A density as a program: vector (n,) -> (number, gradient (n,)), run without Python's lock.

    program, wholes: as the machine takes them. memory: with all constants; every thread needs one of its own. x, value,
    gradient: where in memory the machine finds the vector and leaves the results.
    """

    program: NDArray[np.int64]
    wholes: NDArray[np.int64]
    memory: Array
    x: slice
    value: int
    gradient: slice
    _free: list[Array] = field(default_factory=list)

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Log density and gradient."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = self.memory.copy()
        memory[self.x] = x
        machine.run(self.program, self.wholes, memory)
        result = float(memory[self.value]), memory[self.gradient].copy()
        self._free.append(memory)
        return result

    def __reduce__(self) -> str:
        # Another process has its machine code at other addresses.
        raise TypeError("a compiled density belongs to its process; compile the model in the other one")


class Program:
    """Instructions, and the tensors that they work on; every tensor is a view of places without memory."""

    def __init__(self) -> None:
        self._instructions: list[Step | Call] = []
        self._starts: list[int] = []
        self._sizes: list[int] = []
        self._next = 0
        self._constants: dict[int, Array] = {}
        self._numbers: dict[str, Tensor] = {}
        self._known: dict[tuple[Any, ...], Tensor] = {}
        self._applied: dict[tuple[Any, ...], Tensor] = {}
        self._wholes: list[NDArray[np.int64]] = []
        #: layout of a tensor that is zero but for one view -> that view of a tensor like it, and what is there.
        self.mostly_zero: dict[tuple[Any, ...], Callable[[Tensor], tuple[Tensor, Tensor]]] = {}

    # Tensors.

    def allocate(self, shape: Sequence[int]) -> Tensor:
        """A tensor that nothing has been written to."""
        self._starts.append(self._next)
        self._sizes.append(math.prod(shape))
        steps = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
        tensor = _PLACES.as_strided(tuple(shape), steps, self._next)
        self._next += -(-max(self._sizes[-1], 1) // _LINE) * _LINE
        return tensor

    def tensor(self, value: Tensor | float) -> Tensor:
        """A tensor of the program; or a number or real tensor as one, whose values share a place if they are equal."""
        if not isinstance(value, Tensor):
            return self._number(float(value))
        if value.is_meta:
            return value
        # Elements that are repeated along a dimension are kept once.
        once = value.detach()[tuple(slice(0, None if step else 1) for step in value.stride())]
        flat = np.ascontiguousarray(once.reshape(-1).to(torch.float64).numpy())
        if flat.size and (flat == flat[0]).all():
            return self._number(float(flat[0])).expand(value.shape)
        key = once.shape, blake2b(flat.data).digest()
        if key not in self._known:
            self._known[key] = self._constant(flat.copy(), once.shape)
        return self._known[key].expand(value.shape)

    def _number(self, value: float) -> Tensor:
        key = value.hex()
        if key not in self._numbers:
            self._numbers[key] = self._constant(np.array([value]), ())
        return self._numbers[key]

    def _is(self, tensor: Tensor, value: float) -> bool:
        """Whether all elements are that constant."""
        known = self._numbers.get(value.hex())
        return known is not None and _first(known) == _first(tensor)

    def _constant(self, numbers: Array, shape: Sequence[int]) -> Tensor:
        tensor = self.allocate(shape)
        self._constants[len(self._starts) - 1] = numbers
        return tensor

    def contiguous(self, tensor: Tensor) -> Tensor:
        """The same elements in one piece, the last index fastest."""
        return tensor if tensor.is_contiguous() else self.copy(tensor)

    def copy(self, value: Tensor | float) -> Tensor:
        """The elements of a tensor in places of their own."""
        tensor = self.tensor(value)
        copied = self.allocate(tensor.shape)
        self.write(copied, tensor)
        return copied

    # Instructions.

    def apply(self, operation: int, *operands: Tensor | float, function: int = 0) -> Tensor:
        """The result of a pointwise operation on operands, repeated to one shape; computed once if asked for twice."""
        tensors = [self.tensor(x) for x in operands]
        # torch's own function of that name imports SymPy.
        shape = np.broadcast_shapes(*(x.shape for x in tensors))
        for position, value in _NEUTRAL.get(operation, ()):
            if self._is(tensors[position], value):
                return tensors[1 - position].expand(shape)
        if operation == machine.WHERE and self._is(tensors[1], 1.0) and self._is(tensors[2], 0.0):
            return tensors[0].expand(shape)
        key = operation, function, *map(layout, tensors)
        if key not in self._applied:
            self._applied[key] = self.allocate(shape)
            self.instruct(operation, self._applied[key], *(x.expand(shape) for x in tensors), function=function)
        return self._applied[key]

    def write(self, to: Tensor, value: Tensor | float) -> None:
        """Elements of one tensor into the places of another."""
        self.instruct(machine.COPY, to, self.tensor(value).expand(to.shape))

    def reduce(self, operation: int, start: float, dims: Sequence[int], *operands: Tensor) -> Tensor:
        """Sum, product or extreme over dimensions, which disappear; `start` is that of no elements."""
        long = [d for d in dims if operands[0].shape[d] != 1]
        if not long:
            only = self.apply(machine.MUL, *operands) if operation == machine.DOT else operands[0]
            return only.squeeze(tuple(dims))
        if len(long) == 1 and operands[0].shape[long[0]] == 2 and operation in _OF_TWO:
            two = (half.squeeze(tuple(dims)) for half in operands[0].split(1, long[0]))
            return self.apply(_OF_TWO[operation], *two)
        shape = [1 if d in dims else n for d, n in enumerate(operands[0].shape)]
        result = self.allocate(shape)
        everywhere = result.expand(operands[0].shape)
        _, steps = _loops((everywhere, *operands), ordered=False)
        # The machine begins anew in every innermost loop, if that is the only one that adds to the same place.
        anew = everywhere.numel() > 0 and steps[0][-1] == 0 and all(steps[0][:-1])
        if not anew:
            self.write(result, start)
        self.instruct(operation, everywhere, *operands, function=int(anew))
        return result.squeeze(tuple(dims))

    def instruct(self, operation: int, *operands: Tensor, function: int = 0, ordered: bool = False) -> None:
        """One operation on a result and its operands, all of one shape; `ordered` where order of elements matters."""
        if operands[0].numel() == 0:
            return
        lengths, steps = _loops(operands, ordered)
        firsts = [_first(x) for x in operands]
        for shift in _outer(lengths, steps):
            moved = [first + by for first, by in zip(firsts, shift, strict=True)]
            self._add(operation, lengths, moved, steps, function)

    def _add(
        self, operation: int, lengths: list[int], firsts: list[int], steps: list[list[int]], function: int
    ) -> None:
        room = machine.DIMENSIONS - len(lengths)
        inner, by_inner = lengths[-machine.DIMENSIONS :], [s[-machine.DIMENSIONS :] for s in steps]
        padded = [(first, [0] * room + s) for first, s in zip(firsts, by_inner, strict=True)]
        self._instructions.append(Step(operation, [1] * room + inner, padded, function))

    def call(self, kernel: Kernel, given: Sequence[Any], shapes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Results of an operator's kernel. given: tensors, real ones of whole numbers, numbers, names."""
        results = [self.copy(self.tensor(0.0).expand(shape)) for shape in shapes]
        real = [isinstance(a, Tensor) and (a.is_meta or a.is_floating_point()) for a in given]
        arguments = [self.tensor(a) if tensor else a for a, tensor in zip(given, real, strict=True)]
        entry, function = kernel_entry(kernel, [*arguments, *results])
        call = Call(entry, [function])
        for argument in [*arguments, *results]:
            call.arguments += self._argument(argument, kernel)
        self._instructions.append(call)
        return results

    def _argument(self, value: Any, kernel: Kernel) -> list[int | Tensor]:
        """Numbers from which the entry of a kernel makes one argument."""
        if isinstance(value, str):
            assert kernel.named_type is not None
            return [address(kernel.named[value], kernel.named_type.signature)]
        if isinstance(value, int):
            return [int(value)]
        if isinstance(value, float) or value.is_meta:
            tensor = self.contiguous(self.tensor(value))
            return [tensor, *tensor.shape]
        start = sum(map(len, self._wholes))
        self._wholes.append(value.reshape(-1).to(torch.int64).numpy())
        return [start, *value.shape]

    # The finished program.

    def constants(self) -> Iterator[tuple[int, float]]:
        """Every place that holds a constant, and the number there."""
        for buffer, numbers in self._constants.items():
            yield from ((self._starts[buffer] + i, float(number)) for i, number in enumerate(numbers))

    def steps(self) -> Sequence[Step | Call]:
        """The instructions, in their order."""
        return self._instructions

    def finish(self, x: Tensor, value: Tensor, gradient: Tensor) -> Compiled:
        """The program that computes a number and its gradient from x."""
        gradient = self.contiguous(gradient)
        self._drop_unused([value, gradient])
        base, size = self._layout([x, value, gradient])
        memory = np.zeros(size)
        for buffer, numbers in self._constants.items():
            memory[base[buffer] : base[buffer] + len(numbers)] = numbers

        def place(first: int) -> int:
            buffer = self._buffer(first)
            return base[buffer] + first - self._starts[buffer]

        start, rows = sum(map(len, self._wholes)), []
        for instruction in self._instructions:
            if isinstance(instruction, Call):
                arguments = [a if isinstance(a, int) else place(_first(a)) for a in instruction.arguments]
                rows.append(np.array([machine.KERNEL, 0, instruction.entry, start] + [0] * (machine.WIDTH - 4)))
                self._wholes.append(np.array(arguments))
                start += len(arguments)
            else:
                rows.append(instruction.row(place))
        first, at, last = (place(_first(t)) for t in (x, value, gradient))
        wholes = np.concatenate(self._wholes or [np.zeros(0, np.int64)])
        program = np.concatenate([*rows, np.zeros(0, np.int64)])
        slices = slice(first, first + x.numel()), at, slice(last, last + gradient.numel())
        return Compiled(program, wholes, memory, *slices)

    def _buffer(self, first: int) -> int:
        """The buffer that a place belongs to."""
        return bisect_right(self._starts, first) - 1

    def _touched(self, instruction: Step | Call) -> Iterator[int]:
        """Buffers that an instruction reads or writes."""
        if isinstance(instruction, Call):
            yield from (self._buffer(_first(a)) for a in instruction.arguments if not isinstance(a, int))
        else:
            yield from (self._buffer(first) for first, _ in instruction.operands)

    def _copied(self, instruction: Step | Call) -> tuple[int, int] | None:
        """From which buffer to which an instruction copies all elements; None if it does anything else."""
        if isinstance(instruction, Call) or instruction.operation != machine.COPY:
            return None
        (to, steps), (of, same) = instruction.operands
        result, source = self._buffer(to), self._buffer(of)
        n = math.prod(instruction.lengths)
        begins = to == self._starts[result] and of == self._starts[source]
        whole = begins and n == self._sizes[result] == self._sizes[source] and list(steps) == list(same)
        return (source, result) if whole else None

    def _drop_unused(self, results: Sequence[Tensor]) -> None:
        """Leave out instructions whose result nothing reads."""
        needed, kept = {self._buffer(_first(t)) for t in results}, []
        for instruction in reversed(self._instructions):
            if isinstance(instruction, Call) or self._buffer(instruction.operands[0][0]) in needed:
                needed.update(self._touched(instruction))
                kept.append(instruction)
        self._instructions = kept[::-1]

    def _layout(self, kept: Sequence[Tensor]) -> tuple[list[int], int]:
        """Where each buffer begins in memory, and its size: a buffer takes the room of those no longer needed."""
        last = [-1] * len(self._starts)
        for at, instruction in enumerate(self._instructions):
            for buffer in self._touched(instruction):
                last[buffer] = at
        always = {*self._constants, *(self._buffer(_first(t)) for t in kept)}
        room = _Room(machine.SCRATCH)
        base = [0] * len(self._starts)
        for buffer in sorted(always):
            base[buffer] = room.take(self._sizes[buffer])
        placed, instructions = set(always), self._instructions
        self._instructions = []
        for at, instruction in enumerate(instructions):
            touched = set(self._touched(instruction)) - always
            copied = self._copied(instruction)
            if copied is not None and {*copied} <= touched and last[copied[0]] == at and copied[1] not in placed:
                # Nothing else wants the elements where they are, so they become the copy.
                base[copied[1]] = base[copied[0]]
                placed.add(copied[1])
                continue
            self._instructions.append(instruction)
            for buffer in sorted(touched - placed):
                base[buffer] = room.take(self._sizes[buffer])
            placed |= touched
            for buffer in sorted(touched):
                if last[buffer] == at:
                    room.free(base[buffer], self._sizes[buffer])
        return base, room.size


def layout(tensor: Tensor) -> tuple[int, torch.Size, tuple[int, ...]]:
    """Where the elements of a tensor lie."""
    return _first(tensor), tensor.shape, tensor.stride()


def _first(tensor: Tensor) -> int:
    """The place of a tensor's first element."""
    return int(tensor.storage_offset())


class _Room:
    """Memory that is taken and given back, in pieces; one of the same size that was given back is taken first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: dict[int, list[int]] = {}

    def take(self, size: int) -> int:
        """Where a piece of that size begins."""
        size = _rounded(size)
        at = self._free.get(size)
        if at:
            return at.pop()
        self.size += size
        return self.size - size

    def free(self, start: int, size: int) -> None:
        """Give a piece back."""
        self._free.setdefault(_rounded(size), []).append(start)


def _rounded(size: int) -> int:
    return -(-max(size, 1) // _LINE) * _LINE


def _loops(operands: Sequence[Tensor], ordered: bool) -> tuple[list[int], list[list[int]]]:
    """Lengths of the fewest loops over all elements, the longest innermost, and each operand's step for each loop."""
    dims = [d for d, n in enumerate(operands[0].shape) if n != 1]
    loops: list[tuple[int, list[int]]] = []
    for d in dims:
        n, steps = operands[0].shape[d], [x.stride(d) for x in operands]
        if loops and loops[-1][1] == [step * n for step in steps]:
            loops[-1] = loops[-1][0] * n, steps
        else:
            loops.append((n, steps))
    if not ordered and loops:
        longest = max(range(len(loops)), key=lambda d: (loops[d][0], d))
        loops.append(loops.pop(longest))
    lengths = [n for n, _ in loops] or [1]
    # One element alone lies beside itself.
    return lengths, [[steps[o] for _, steps in loops] or [1] for o in range(len(operands))]


def _outer(lengths: list[int], steps: list[list[int]]) -> Iterator[list[int]]:
    """How far each operand moves, in every round of the loops that the machine has no room for."""
    extra = max(len(lengths) - machine.DIMENSIONS, 0)
    for index in np.ndindex(*lengths[:extra]):
        yield [sum(i * step for i, step in zip(index, s[:extra], strict=True)) for s in steps]
