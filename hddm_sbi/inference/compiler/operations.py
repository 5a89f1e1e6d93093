"""The table of operations: what each tensor operation becomes in a program.

A rule is a function of the program and of the operation's own arguments. A tensor among them is one of the program,
or a real one where its values are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hddm_sbi.inference.compiler import machine as on
from hddm_sbi.inference.compiler.functions import FUNCTIONS, function_address
from hddm_sbi.inference.compiler.program import Program, layout

Rule = Callable[..., Any]
aten = torch.ops.aten


class UnknownOperationError(NotImplementedError):
    """An operation that the table does not have, or not with these arguments."""


# Element by element.


def _pointwise(operation: int) -> Rule:
    return lambda p, *operands: p.apply(operation, *operands)


def _scaled(p: Program, x: Any, alpha: float) -> Any:
    return x if alpha == 1 else p.apply(on.MUL, x, alpha)


def _power(p: Program, x: Any, exponent: Any) -> Tensor:
    if isinstance(exponent, Tensor):
        return p.apply(on.POW, x, exponent)
    if exponent == 0:
        return p.tensor(1.0).expand(x.shape)
    if exponent == 2:
        return p.apply(on.MUL, x, x)
    return p.apply(on.SQRT, x) if exponent == 0.5 else p.apply(on.POW, x, exponent)


def _sign(p: Program, x: Tensor) -> Tensor:
    return p.apply(on.SUB, p.apply(on.LT, 0.0, x), p.apply(on.LT, x, 0.0))


def _xlogy(p: Program, x: Any, y: Any) -> Tensor:
    """x log y; 0 where x is, but not a number where y is none."""
    product = p.apply(on.WHERE, p.apply(on.EQ, x, 0.0), 0.0, p.apply(on.MUL, x, p.apply(on.LOG, y)))
    return p.apply(on.WHERE, p.apply(on.NE, y, y), math.nan, product)


def _sigmoid(p: Program, x: Tensor) -> Tensor:
    return p.apply(on.DIV, 1.0, p.apply(on.ADD, 1.0, p.apply(on.EXP, p.apply(on.MUL, x, -1.0))))


def _sigmoid_backward(p: Program, upstream: Any, y: Any) -> Tensor:
    return p.apply(on.MUL, upstream, p.apply(on.MUL, y, p.apply(on.SUB, 1.0, y)))


def _tanh_backward(p: Program, upstream: Any, y: Any) -> Tensor:
    return p.apply(on.MUL, upstream, p.apply(on.SUB, 1.0, p.apply(on.MUL, y, y)))


def _softplus(p: Program, x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    scaled = _scaled(p, x, beta)
    soft = p.apply(on.DIV, _function("log1p")(p, p.apply(on.EXP, scaled)), float(beta))
    return p.apply(on.WHERE, p.apply(on.LT, float(threshold), scaled), x, soft)


def _softplus_backward(p: Program, upstream: Tensor, x: Tensor, beta: float, threshold: float) -> Tensor:
    scaled = _scaled(p, x, beta)
    soft = p.apply(on.MUL, upstream, _sigmoid(p, scaled))
    return p.apply(on.WHERE, p.apply(on.LT, float(threshold), scaled), upstream, soft)


def _remainder(p: Program, x: Any, y: Any) -> Tensor:
    """What whole multiples of y, rounded down, leave of x."""
    return p.apply(on.SUB, x, p.apply(on.MUL, _function("floor")(p, p.apply(on.DIV, x, y)), y))


def _clamp(p: Program, x: Any, low: Any = None, high: Any = None, **named: Any) -> Tensor:
    low, high = named.get("min", low), named.get("max", high)
    x = x if low is None else p.apply(on.MAXIMUM, x, low)
    return x if high is None else p.apply(on.MINIMUM, x, high)


def _convert(p: Program, x: Tensor, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    whole = dtype is not None and not dtype.is_floating_point and dtype != torch.bool
    return _function("trunc")(p, x) if whole else x


def _function(name: str) -> Rule:
    """A function of one or two numbers that has machine code somewhere already."""

    def rule(p: Program, *operands: Any) -> Tensor:
        at = function_address(name)
        if at is None:
            raise UnknownOperationError(f"{name} has no machine code on this computer")
        return p.apply(on.CALL_1 if len(operands) == 1 else on.CALL_2, *operands, function=at)

    return rule


def _total(p: Program, x: Any, y: Any, alpha: float = 1) -> Tensor:
    """A sum; what one operand replaces in zeros is added to its own places in a copy of the other."""
    for whole, other in ((x, y), (y, x)):
        found = p.mostly_zero.get(layout(other)) if isinstance(other, Tensor) and other.is_meta else None
        if found and alpha == 1 and isinstance(whole, Tensor) and whole.shape == other.shape:
            to = p.copy(whole)
            place, part = found(to)
            p.instruct(on.ADD, place, place, part.expand(place.shape))
            return to
    return p.apply(on.ADD, x, _scaled(p, y, alpha))


POINTWISE: dict[str, Rule] = {
    "add": _total,
    "sub": lambda p, x, y, alpha=1: p.apply(on.SUB, x, _scaled(p, y, alpha)),
    "rsub": lambda p, x, y, alpha=1: p.apply(on.SUB, y, _scaled(p, x, alpha)),
    "mul": _pointwise(on.MUL),
    "div": _pointwise(on.DIV),
    "neg": lambda p, x: p.apply(on.MUL, x, -1.0),
    "reciprocal": lambda p, x: p.apply(on.DIV, 1.0, x),
    "abs": _pointwise(on.ABS),
    "sign": _sign,
    "sgn": _sign,
    "maximum": _pointwise(on.MAXIMUM),
    "minimum": _pointwise(on.MINIMUM),
    "clamp": _clamp,
    "clamp_min": _pointwise(on.MAXIMUM),
    "clamp_max": _pointwise(on.MINIMUM),
    "relu": lambda p, x: p.apply(on.MAXIMUM, x, 0.0),
    "pow": _power,
    "remainder": _remainder,
    "sqrt": _pointwise(on.SQRT),
    "rsqrt": lambda p, x: p.apply(on.DIV, 1.0, p.apply(on.SQRT, x)),
    "exp": _pointwise(on.EXP),
    "log": _pointwise(on.LOG),
    "xlogy": _xlogy,
    "sigmoid": _sigmoid,
    "sigmoid_backward": _sigmoid_backward,
    "tanh_backward": _tanh_backward,
    "softplus": _softplus,
    "softplus_backward": _softplus_backward,
    "eq": _pointwise(on.EQ),
    "ne": _pointwise(on.NE),
    "lt": _pointwise(on.LT),
    "le": _pointwise(on.LE),
    "gt": lambda p, x, y: p.apply(on.LT, y, x),
    "ge": lambda p, x, y: p.apply(on.LE, y, x),
    "isnan": lambda p, x: p.apply(on.NE, x, x),
    "isinf": lambda p, x: p.apply(on.EQ, p.apply(on.ABS, x), math.inf),
    "logical_and": _pointwise(on.MUL),
    "bitwise_and": _pointwise(on.MUL),
    "logical_or": _pointwise(on.MAXIMUM),
    "bitwise_or": _pointwise(on.MAXIMUM),
    "logical_not": lambda p, x: p.apply(on.EQ, x, 0.0),
    "bitwise_not": lambda p, x: p.apply(on.EQ, x, 0.0),
    "where": _pointwise(on.WHERE),
    "masked_fill": lambda p, x, mask, value: p.apply(on.WHERE, mask, value, x),
    "_to_copy": _convert,
    **{name: _function(name) for name in FUNCTIONS},
}


# Sums, extremes, products.


def _dims(x: Tensor, dim: int | Sequence[int] | None) -> list[int]:
    """Dimensions, counted from the front; all where none is named."""
    listed = [dim] if isinstance(dim, int) else dim
    return [d % max(x.ndim, 1) for d in listed] if listed else list(range(x.ndim))


def _reduction(operation: int, start: float) -> Rule:
    def rule(p: Program, x: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
        dims = _dims(x, dim)
        result = p.reduce(operation, start, dims, p.tensor(x))
        return result.reshape([1 if d in dims else n for d, n in enumerate(x.shape)]) if keepdim else result

    return rule


def _mean(p: Program, x: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    total = _reduction(on.SUM, 0.0)(p, x, dim, keepdim)
    return p.apply(on.DIV, total, float(x.numel() // max(total.numel(), 1)))


def _variance(
    p: Program, x: Tensor, dim: Any = None, correction: float | None = None, keepdim: bool = False, **_: Any
) -> Tensor:
    far = p.apply(on.SUB, x, _mean(p, x, dim, True))
    total = _reduction(on.SUM, 0.0)(p, p.apply(on.MUL, far, far), dim, keepdim)
    freedom = x.numel() // max(total.numel(), 1) - (1 if correction is None else correction)
    return p.apply(on.DIV, total, float(max(freedom, 0)))


def _running(operation: int) -> Rule:
    """Running sum or product along a dimension."""

    def rule(p: Program, x: Tensor, dim: int, **_: Any) -> Tensor:
        to = p.copy(x)
        if to.ndim and to.shape[dim] > 1:
            before, after = to.narrow(dim, 0, to.shape[dim] - 1), to.narrow(dim, 1, to.shape[dim] - 1)
            p.instruct(operation, after, before, ordered=True)
        return to

    return rule


def _extreme(operation: int, start: float) -> Rule:
    """Largest or smallest along a dimension, and the first place where it is."""

    def rule(p: Program, x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
        best = _reduction(operation, start)(p, x, dim, True)
        places = torch.arange(x.shape[dim]).reshape([-1] + [1] * (x.ndim - 1 - dim % x.ndim))
        found = p.apply(on.WHERE, p.apply(on.EQ, x, best), places, math.inf)
        where = _reduction(on.AMIN, math.inf)(p, found, dim, True)
        return (best, where) if keepdim else (best.squeeze(dim), where.squeeze(dim))

    return rule


def _search(p: Program, edges: Any, x: Any, *, right: bool = False, side: str | None = None, **_: Any) -> Tensor:
    """How many of the sorted edges lie before each x."""
    below = on.LE if right or side == "right" else on.LT
    is_below = p.apply(below, p.tensor(edges).unsqueeze(-2), p.tensor(x).unsqueeze(-1))
    return p.reduce(on.SUM, 0.0, [is_below.ndim - 1], is_below)


def _product(p: Program, a: Any, b: Any) -> Tensor:
    """Products of matrices and vectors, or of batches: sums over the last dimension of a and the next to last of b."""
    a, b = p.tensor(a), p.tensor(b)
    if b.ndim == 1:
        return p.reduce(on.DOT, 0.0, [a.ndim - 1], a, b.expand(a.shape))
    shape = (*a.shape, b.shape[-1])
    return p.reduce(on.DOT, 0.0, [a.ndim - 1], a.unsqueeze(-1).expand(shape), b.unsqueeze(-3).expand(shape))


def _solve_triangular(
    p: Program, a: Any, b: Any, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """X with A X = B, or X A = B where `left` is false, row after row."""
    if not left:
        turned = [p.tensor(t).transpose(-1, -2) for t in (a, b)]
        return _solve_triangular(p, *turned, upper=not upper, unitriangular=unitriangular).transpose(-1, -2)
    a, b, n = p.tensor(a), p.tensor(b), a.shape[-1]
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    x, minus = p.copy(b.expand(*batch, *b.shape[-2:])), p.apply(on.MUL, a.expand(*batch, n, n), -1.0)
    for row in range(n - 1, -1, -1) if upper else range(n):
        first, others = (row + 1, n - 1 - row) if upper else (0, row)
        shape = (*batch, others, x.shape[-1])
        known, by = x.narrow(-2, first, others), minus.select(-2, row).narrow(-1, first, others).unsqueeze(-1)
        to = x.narrow(-2, row, 1)
        p.instruct(on.DOT, to.expand(shape), by.expand(shape), known)
        if not unitriangular:
            pivot = a[..., row, row, None, None].expand(to.shape)
            p.instruct(on.DIV, to, to, pivot)
    return x


SUMS: dict[str, Rule] = {
    "sum": _reduction(on.SUM, 0.0),
    "mean": _mean,
    "var": _variance,
    "prod": _reduction(on.PROD, 1.0),
    "amax": _reduction(on.AMAX, -math.inf),
    "amin": _reduction(on.AMIN, math.inf),
    "max": _reduction(on.AMAX, -math.inf),
    "min": _reduction(on.AMIN, math.inf),
    "any": _reduction(on.AMAX, 0.0),
    "all": _reduction(on.AMIN, 1.0),
    "searchsorted": _search,
    "cumsum": _running(on.SUM),
    "cumprod": _running(on.PROD),
    "max.dim": _extreme(on.AMAX, -math.inf),
    "min.dim": _extreme(on.AMIN, math.inf),
    "dot": _product,
    "mv": _product,
    "mm": _product,
    "bmm": _product,
    "linalg_solve_triangular": _solve_triangular,
}


# Tensors put together from parts.


def _into(view: Callable[..., Tensor]) -> Rule:
    """A tensor of which one view is replaced."""

    def rule(p: Program, x: Any, part: Any, *place: Any, **named: Any) -> Tensor:
        if view(x, *place, **named).numel() == x.numel():
            return p.contiguous(p.tensor(part)).view(x.shape)
        to = p.copy(x)
        p.write(view(to, *place, **named), part)
        return to

    return rule


def _into_zeros(view: Callable[..., Tensor]) -> Rule:
    """Zeros of which one view is replaced: the gradient of a view."""

    def rule(p: Program, part: Any, shape: Sequence[int], *place: Any) -> Tensor:
        zeros = p.tensor(0.0).expand(shape)
        to = _into(view)(p, zeros, part, *place)
        if view(zeros, *place).numel() < to.numel():
            p.mostly_zero[layout(to)] = lambda whole: (view(whole, *place), p.tensor(part))
        return to

    return rule


def _pad(p: Program, x: Any, padding: Sequence[int], value: float = 0.0) -> Tensor:
    x = p.tensor(x)
    pairs = [(padding[2 * i], padding[2 * i + 1]) for i in range(len(padding) // 2)]
    around = [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]
    for d, (before, after) in enumerate(around):
        x = x.narrow(d, max(-before, 0), x.shape[d] + min(before, 0) + min(after, 0))
    outer = [max(before, 0) + n + max(after, 0) for n, (before, after) in zip(x.shape, around, strict=True)]
    to = p.copy(p.tensor(value).expand(outer))
    inside = to
    for d, (before, _) in enumerate(around):
        inside = inside.narrow(d, max(before, 0), x.shape[d])
    p.write(inside, x)
    return to


def _concatenate(p: Program, parts: Sequence[Any], dim: int = 0) -> Tensor:
    # torch lets a vector without elements stand among tensors of any shape.
    tensors = [p.tensor(x) for x in parts if x.shape != (0,)] or [p.tensor(x) for x in parts]
    sizes = [x.shape[dim] for x in tensors]
    shape = list(tensors[0].shape)
    shape[dim] = sum(sizes)
    to = p.allocate(shape)
    for place, x in zip(to.split(sizes, dim), tensors, strict=True):
        p.write(place, x)
    return to


def _stack(p: Program, parts: Sequence[Any], dim: int = 0) -> Tensor:
    return _concatenate(p, [p.tensor(x).unsqueeze(dim) for x in parts], dim)


def _reshape(p: Program, x: Tensor, shape: Sequence[int]) -> Tensor:
    return p.contiguous(x).view(*shape) if shape else p.contiguous(x).view(())


def _triangle(below: Callable[..., Tensor]) -> Rule:
    def rule(p: Program, x: Tensor, diagonal: int = 0) -> Tensor:
        return p.apply(on.WHERE, below(torch.ones(x.shape[-2:]), diagonal), x, 0.0)

    return rule


PARTS: dict[str, Rule] = {
    "copy": lambda p, x, y, non_blocking=False: p.tensor(y).expand(x.shape),
    "fill": lambda p, x, value: p.tensor(value).expand(x.shape),
    "zero": lambda p, x: p.tensor(0.0).expand(x.shape),
    "clone": lambda p, x, **_: x,
    "_unsafe_view": _reshape,
    "select_backward": _into_zeros(aten.select.int),
    "slice_backward": _into_zeros(aten.slice.Tensor),
    "diagonal_backward": _into_zeros(aten.diagonal.default),
    "select_scatter": _into(aten.select.int),
    "slice_scatter": _into(aten.slice.Tensor),
    "diagonal_scatter": _into(aten.diagonal.default),
    "constant_pad_nd": _pad,
    "cat": _concatenate,
    "stack": _stack,
    "tril": _triangle(torch.tril),
    "triu": _triangle(torch.triu),
}


# Elements whose places are read from tensors of whole numbers.


def _whole(index: Any) -> list[Any]:
    """Index tensors; a mask that is known becomes the positions where it holds."""
    known_mask = isinstance(index, Tensor) and index.dtype == torch.bool
    return list(index.nonzero(as_tuple=True)) if known_mask else [index]


def _places(p: Program, x: Tensor, indices: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Of the elements at index tensors: the place of each without them, and how far from there they say it is."""
    indices = [whole for index in indices for whole in ([None] if index is None else _whole(index))]
    used = [d for d, index in enumerate(indices) if index is not None]
    rest = [d for d in range(x.ndim) if d not in used]
    # torch puts the dimensions of index tensors that are not neighbours first.
    lead = used[0] if used == list(range(used[0], used[-1] + 1)) else 0
    wide = np.broadcast_shapes(*(indices[d].shape for d in used))
    shift: Any = 0
    for d in used:
        shift = _add(p, shift, _far(p, indices[d], x.shape[d], x.stride(d)))
    before, after = rest[:lead], rest[lead:]
    shape = [*(x.shape[d] for d in before), *wide, *(x.shape[d] for d in after)]
    steps = [*(x.stride(d) for d in before), *[0] * len(wide), *(x.stride(d) for d in after)]
    places = x.as_strided(shape, steps, x.storage_offset())
    return places, p.tensor(shift).reshape(*wide, *[1] * len(after)).expand(shape)


def _far(p: Program, index: Tensor, n: int, step: int) -> Any:
    """An index times its step; a known one may count from the end."""
    return p.apply(on.MUL, index, float(step)) if index.is_meta else torch.where(index < 0, index + n, index) * step


def _add(p: Program, x: Any, y: Any) -> Any:
    known = not any(isinstance(t, Tensor) and t.is_meta for t in (x, y))
    return x + y if known else p.apply(on.ADD, x, y)


def _along(p: Program, x: Tensor, dim: int, index: Tensor) -> tuple[Tensor, Tensor]:
    """The same, of elements whose index along one dimension is read from a tensor."""
    steps = [0 if d == dim % x.ndim else x.stride(d) for d in range(x.ndim)]
    places = x.as_strided(index.shape, steps, x.storage_offset())
    return places, p.tensor(_far(p, index, x.shape[dim], x.stride(dim)))


def _read(p: Program, places: Tensor, shift: Tensor) -> Tensor:
    result = p.allocate(places.shape)
    p.instruct(on.GATHER, result, places, shift)
    return result


def _index_put(p: Program, x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Tensor:
    to = p.copy(x)
    places, shift = _places(p, to, indices)
    operation = on.SCATTER_ADD if accumulate else on.SCATTER
    p.instruct(operation, places, p.tensor(values).expand(places.shape), shift, ordered=not accumulate)
    return to


def _scatter(operation: int) -> Rule:
    def rule(p: Program, x: Any, dim: int, index: Tensor, values: Any) -> Tensor:
        to, values = p.copy(x), p.tensor(values)
        places, shift = _along(p, to, dim, index)
        part = values[tuple(slice(n) for n in index.shape)] if values.ndim else values.expand(index.shape)
        p.instruct(operation, places, part, shift, ordered=True)
        return to

    return rule


def _flip(p: Program, x: Any, dims: Sequence[int]) -> Tensor:
    x = p.tensor(x)
    for d in dims:
        x = _read(p, *_places(p, x, [None] * (d % x.ndim) + [torch.arange(x.shape[d] - 1, -1, -1)]))
    return x


INDEXING: dict[str, Rule] = {
    "index": lambda p, x, indices: _read(p, *_places(p, p.tensor(x), indices)),
    "index_select": lambda p, x, dim, index: _read(p, *_places(p, p.tensor(x), [None] * (dim % x.ndim) + [index])),
    "index_put": _index_put,
    "index_add": lambda p, x, dim, index, values, alpha=1: _index_put(
        p, x, [None] * (dim % x.ndim) + [index], _scaled(p, values, alpha), accumulate=True
    ),
    "gather": lambda p, x, dim, index, **_: _read(p, *_along(p, p.tensor(x), dim, index)),
    "scatter": _scatter(on.SCATTER),
    "scatter_add": _scatter(on.SCATTER_ADD),
    "flip": _flip,
}

#: name of an operation, with its overload where only that one is meant -> its rule.
OPERATIONS: dict[str, Rule] = POINTWISE | SUMS | PARTS | INDEXING
