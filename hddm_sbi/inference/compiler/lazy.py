"""A tensor that is not computed yet: its shape, and the expression of the element at an index."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Position:
    """A place along a dimension or in memory: first + the sum of step * variable.

    steps: variable, or any expression, -> its step.
    """

    first: int
    steps: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Position | int) -> Position:
        if isinstance(other, int):
            return Position(self.first + other, self.steps)
        steps = dict(self.steps)
        for variable, step in other.steps.items():
            steps[variable] = steps.get(variable, 0) + step
        return Position(self.first + other.first, steps)

    def __mul__(self, factor: int) -> Position:
        return Position(self.first * factor, {variable: step * factor for variable, step in self.steps.items()})

    @property
    def fixed(self) -> int | None:
        """The place if it is the same in all rounds of the loops, else None."""
        return None if any(self.steps.values()) else self.first

    def __str__(self) -> str:
        text = str(self.first)
        for variable, step in self.steps.items():
            times = "" if abs(step) == 1 else f"{abs(step)} * "
            text += f" {'-' if step < 0 else '+'} {times}{variable}" if step else ""
        return text


def variable(expression: str) -> Position:
    """The place that a variable holds."""
    return Position(0, {expression: 1})


START = Position(0)
Index = Sequence[Position]


@dataclass(frozen=True)
class Lazy:
    """A tensor inside a program.

    element: index, one position per dimension -> expression of that element. cheap: elements may be read any number
    of times, because they lie in memory. flat: array and offset, where they lie there in one piece, the last index
    fastest.
    """

    shape: Shape
    element: Callable[[Index], str]
    cheap: bool = False
    flat: tuple[str, int] | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def broadcast(self, shape: Shape) -> Lazy:
        """The same elements, repeated along dimensions that are new or of length one."""
        if shape == self.shape:
            return self
        new = len(shape) - len(self.shape)
        ones = [n == 1 for n in self.shape]
        return self.view(shape, lambda i: [START if one else e for one, e in zip(ones, i[new:], strict=True)])

    def view(self, shape: Shape, index: Callable[[Index], Index]) -> Lazy:
        """A tensor whose element at i is this one's at index(i)."""
        return Lazy(shape, lambda i: self.element(index(i)), self.cheap)

    def squeezed(self, shape: Shape) -> Lazy:
        """The same elements in a shape that differs by dimensions of length one."""

        def index(i: Index) -> Index:
            kept = iter([e for e, n in zip(i, shape, strict=True) if n != 1])
            return [START if n == 1 else next(kept) for n in self.shape]

        return replace(self.view(shape, index), flat=self.flat)

    def select(self, dim: int, at: int) -> Lazy:
        """One slice along a dimension, which disappears."""
        shape = self.shape[:dim] + self.shape[dim + 1 :]
        return self.view(shape, lambda i: [*i[:dim], Position(at), *i[dim:]])

    def slice(self, dim: int, first: int, last: int, step: int = 1) -> Lazy:
        """Positions first, first + step, ... before last, along a dimension."""
        n = len(range(first, last, step))
        shape = (*self.shape[:dim], n, *self.shape[dim + 1 :])
        part = self.view(shape, lambda i: [*i[:dim], i[dim] * step + first, *i[dim + 1 :]])
        if self.flat is None or dim > 0 or step > 1:
            return part
        array, offset = self.flat
        return replace(part, flat=(array, offset + first * math.prod(self.shape[1:])))

    def permute(self, order: Sequence[int]) -> Lazy:
        """Dimensions in another order."""
        return self.view(tuple(self.shape[d] for d in order), lambda i: [i[order.index(d)] for d in range(len(order))])

    def flip(self, dims: Sequence[int]) -> Lazy:
        """Dimensions read backwards."""
        last = [n - 1 if d in dims else 0 for d, n in enumerate(self.shape)]
        return self.view(
            self.shape,
            lambda i: [e * -1 + last[d] if d in dims else e for d, e in enumerate(i)],
        )

    def diagonal(self, offset: int, dim1: int, dim2: int) -> Lazy:
        """Elements whose index along dim2 is that along dim1 plus `offset`; they form the last dimension."""
        rest = [d for d in range(len(self.shape)) if d not in (dim1, dim2)]
        down, right = max(-offset, 0), max(offset, 0)
        n = min(self.shape[dim1] - down, self.shape[dim2] - right)

        def index(i: Index) -> Index:
            place = {**dict(zip(rest, i[:-1], strict=True)), dim1: i[-1] + down, dim2: i[-1] + right}
            return [place[d] for d in range(len(self.shape))]

        return self.view((*(self.shape[d] for d in rest), n), index)


def stored(array: str, offset: int, shape: Shape) -> Lazy:
    """A tensor in memory, the last index fastest."""
    strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]

    def element(i: Index) -> str:
        place = START
        for e, stride in zip(i, strides, strict=True):
            place += e * stride
        # Keep a literal offset inside this buffer first: `schedule` maps it to the buffer.
        return f"{array}[{place + offset}]" if place.first >= 0 else f"{array}[{offset} + {place}]"

    return Lazy(shape, element, cheap=True, flat=(array, offset))


def number(expression: str, shape: Shape = ()) -> Lazy:
    """One number, a literal or a variable, for all elements of a shape."""
    return Lazy(shape, lambda i: expression, cheap=True)


def literal(value: float | bool) -> str:
    """A number as source text."""
    if isinstance(value, bool):
        return str(value)
    value = float(value)
    text = "math.nan" if math.isnan(value) else "math.inf" if math.isinf(value) else repr(abs(value))
    return f"(-{text})" if math.copysign(1.0, value) < 0 else text
