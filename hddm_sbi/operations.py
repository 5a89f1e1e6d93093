"""The one table of operations: how each tensor operation becomes source text of a program."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from hddm_sbi.kernels import KERNELS
from hddm_sbi.lazy import Index, Lazy, Shape, affine, literal, number, stored
from hddm_sbi.program import Program


class UnknownOperation(NotImplementedError):
    """An operation that the table does not have, or not with these arguments."""


class Lowering:
    """Walks a graph and keeps the lazy tensor of every node.

    values: what every node was for one input, for shapes and for constants.
    """

    def __init__(self, values: Mapping[fx.Node, Any]) -> None:
        self.program = Program()
        self.values = values
        self._lazy: dict[fx.Node, Any] = {}

    def run(self, graph: fx.Graph) -> tuple[Lazy, ...]:
        """Lower every node in turn; the lazy tensors of the graph's output."""
        for node in graph.nodes:
            if node.op == "output":
                return tuple(self.tensor(result) for result in node.args[0])
            self._lazy[node] = self._lower(node)
        raise UnknownOperation("a graph without output")

    def _lower(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return stored("x", 0, self.shape(node))
        if node.op == "get_attr":
            return self.program.constant(self.values[node])
        if node.target is operator.getitem:
            result = self._lazy[node.args[0]][node.args[1]]  # type: ignore[index]
        else:
            result = self._rule(node)(self, node)
        read_twice = len(node.users) > 1 or any(user.args.count(node) > 1 for user in node.users)
        return self.program.store(result) if isinstance(result, Lazy) and read_twice else result

    def _rule(self, node: fx.Node) -> Rule:
        if not isinstance(node.target, torch._ops.OpOverload):
            raise UnknownOperation(str(node.target))
        if node.target.name() in KERNELS:
            return _kernel
        name, overload = node.target.overloadpacket.__name__, node.target._overloadname
        rule = OPERATIONS.get(f"{name}.{overload}", OPERATIONS.get(name))
        if rule is None:
            raise UnknownOperation(f"{node.target} is not in the table of operations")
        return rule

    def tensor(self, argument: Any) -> Lazy:
        """The lazy tensor of a node, or of a number that stands in the graph."""
        if isinstance(argument, fx.Node):
            lazy: Lazy = self._lazy[argument]
            return lazy
        if isinstance(argument, bool | int | float):
            return number(literal(argument))
        raise UnknownOperation(f"an argument {argument!r}")

    def shape(self, node: fx.Node) -> Shape:
        """Shape of a node's result."""
        return tuple(self.values[node].shape)


Rule = Callable[[Lowering, fx.Node], Any]


def _option(node: fx.Node, position: int, name: str, default: Any) -> Any:
    """An argument that may stand by position, by name, or not at all."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _dims(node: fx.Node, position: int, n: int) -> list[int]:
    """Dimensions that an argument names, counted from the front; all where it names none."""
    dims = _option(node, position, "dim", None)
    listed = [dims] if isinstance(dims, int) else dims
    return [d % n for d in listed] if listed else list(range(n))


# Pointwise: the expression of one element from those of the arguments.


def _pointwise(template: str, *defaults: float, scaled: int | None = None) -> Rule:
    """One element of the result from one of each tensor.

    defaults: the only values that further arguments may have. scaled: position of the tensor that `alpha` multiplies.
    """
    n_tensors = len({part[0] for part in template.split("{")[1:]})

    def rule(lowering: Lowering, node: fx.Node) -> Lazy:
        tensors = [lowering.tensor(a) for a in node.args[:n_tensors]]
        options, alpha = node.args[n_tensors:], node.kwargs.get("alpha", 1)
        if options != defaults[: len(options)] or set(node.kwargs) - {"alpha"} or (scaled is None and alpha != 1):
            raise UnknownOperation(f"{node.target} with {options} {dict(node.kwargs)}")
        if scaled is not None and alpha != 1:
            tensors[scaled] = _scaled(tensors[scaled], float(alpha))  # type: ignore[arg-type]
        return _apply(lowering, node, template, tensors)

    return rule


def _scaled(tensor: Lazy, factor: float) -> Lazy:
    return Lazy(tensor.shape, lambda i: f"({literal(factor)} * {tensor.element(i)})")


def _apply(lowering: Lowering, node: fx.Node, template: str, tensors: Sequence[Lazy]) -> Lazy:
    shape = lowering.shape(node)
    parts = [lowering.program.broadcast(t, shape) for t in tensors]
    return Lazy(shape, lambda i: template.format(*(p.element(i) for p in parts)))


def _clamp(lowering: Lowering, node: fx.Node) -> Lazy:
    low, high = _option(node, 1, "min", None), _option(node, 2, "max", None)
    tensors, template = [lowering.tensor(node.args[0])], "{0}"
    for bound, function in ((low, "max"), (high, "min")):
        if bound is not None:
            template = f"{function}({template}, {{{len(tensors)}}})"
            tensors.append(lowering.tensor(bound))
    return _apply(lowering, node, template, tensors)


def _power(lowering: Lowering, node: fx.Node) -> Lazy:
    exponent = node.args[1]
    template = "square({0})" if exponent == 2 else "math.sqrt({0})" if exponent == 0.5 else "({0} ** {1})"
    return _apply(lowering, node, template, [lowering.tensor(a) for a in node.args])


def _convert(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor = lowering.tensor(node.args[0])
    logical = lowering.values[node.args[0]].dtype == torch.bool  # type: ignore[index]
    return _apply(lowering, node, "(1.0 if {0} else 0.0)", [tensor]) if logical else tensor


# Views: another index into the same elements.


def _same(lowering: Lowering, node: fx.Node) -> Lazy:
    return lowering.tensor(node.args[0])


def _reshape(lowering: Lowering, node: fx.Node) -> Lazy:
    return lowering.program.reshape(lowering.tensor(node.args[0]), lowering.shape(node))


def _expand(lowering: Lowering, node: fx.Node) -> Lazy:
    return lowering.program.broadcast(lowering.tensor(node.args[0]), lowering.shape(node))


def _copy(lowering: Lowering, node: fx.Node) -> Lazy:
    return lowering.program.broadcast(lowering.tensor(node.args[1]), lowering.shape(node))


def _place(node: fx.Node, shape: Shape, position: int = 1) -> tuple[int, int]:
    """Dimension and position of a select."""
    dim = int(node.args[position]) % len(shape)  # type: ignore[arg-type]
    return dim, int(node.args[position + 1]) % shape[dim]  # type: ignore[arg-type]


def _select(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor = lowering.tensor(node.args[0])
    return tensor.select(*_place(node, tensor.shape))


def _range(node: fx.Node, shape: Shape, position: int = 1) -> tuple[int, int, int, int]:
    """Dimension, first, last and step of a slice."""
    dim = int(_option(node, position, "dim", 0)) % len(shape)
    ends = [_option(node, position + i, name, None) for i, name in ((1, "start"), (2, "end"), (3, "step"))]
    return dim, *slice(*ends).indices(shape[dim])


def _slice(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor = lowering.tensor(node.args[0])
    return tensor.slice(*_range(node, tensor.shape))


def _split(lowering: Lowering, node: fx.Node) -> list[Lazy]:
    tensor = lowering.tensor(node.args[0])
    dim, at, pieces = int(_option(node, 2, "dim", 0)) % len(tensor.shape), 0, []
    for piece in lowering.values[node]:
        pieces.append(tensor.slice(dim, at, at + piece.shape[dim]))
        at += piece.shape[dim]
    return pieces


def _unbind(lowering: Lowering, node: fx.Node) -> list[Lazy]:
    tensor = lowering.tensor(node.args[0])
    dim = int(_option(node, 1, "dim", 0)) % len(tensor.shape)
    return [tensor.select(dim, at) for at in range(tensor.shape[dim])]


def _transpose(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor = lowering.tensor(node.args[0])
    order = list(range(len(tensor.shape)))
    a, b = (int(d) % len(order) for d in (node.args[1:] or (0, -1)))  # type: ignore[arg-type]
    order[a], order[b] = order[b], order[a]
    return tensor.permute(order)


def _permute(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor = lowering.tensor(node.args[0])
    return tensor.permute(_dims(node, 1, len(tensor.shape)))


def _flip(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor = lowering.tensor(node.args[0])
    return tensor.flip(_dims(node, 1, len(tensor.shape)))


def _diagonal_place(node: fx.Node, n: int, position: int) -> tuple[int, int, int]:
    """Offset and the two dimensions of a diagonal."""
    offset, dim1, dim2 = (
        int(_option(node, position + i, name, i - 1 if i else 0)) for i, name in enumerate(("offset", "dim1", "dim2"))
    )
    return offset, dim1 % n, dim2 % n


def _diagonal(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor = lowering.tensor(node.args[0])
    return tensor.diagonal(*_diagonal_place(node, len(tensor.shape), 1))


# Placing: elements from one tensor where a condition on the index holds, and from another elsewhere.


def _where_index(condition: Callable[[Index], str], inside: Lazy, outside: Lazy, index: Callable[[Index], Index]) -> Lazy:
    return Lazy(
        outside.shape,
        lambda i: f"({inside.element(index(i))} if {condition(i)} else {outside.element(i)})",
    )


def _in_slice(inside: Lazy, outside: Lazy, dim: int, first: int, last: int, step: int) -> Lazy:
    def condition(i: Index) -> str:
        every = f" and ({i[dim]} - {first}) % {step} == 0" if step > 1 else ""
        return f"{first} <= {i[dim]} < {last}{every}"

    def index(i: Index) -> Index:
        return [*i[:dim], f"(({i[dim]} - {first}) // {step})", *i[dim + 1 :]]

    return _where_index(condition, inside, outside, index)


def _at_position(inside: Lazy, outside: Lazy, dim: int, at: int) -> Lazy:
    return _where_index(lambda i: f"{i[dim]} == {at}", inside, outside, lambda i: [*i[:dim], *i[dim + 1 :]])


def _select_backward(lowering: Lowering, node: fx.Node) -> Lazy:
    zeros = number("0.0", lowering.shape(node))
    return _at_position(lowering.tensor(node.args[0]), zeros, *_place(node, zeros.shape, 2))


def _select_scatter(lowering: Lowering, node: fx.Node) -> Lazy:
    outside = lowering.tensor(node.args[0])
    return _at_position(lowering.tensor(node.args[1]), outside, *_place(node, outside.shape, 2))


def _slice_backward(lowering: Lowering, node: fx.Node) -> Lazy:
    zeros = number("0.0", lowering.shape(node))
    return _in_slice(lowering.tensor(node.args[0]), zeros, *_range(node, zeros.shape, 2))


def _slice_scatter(lowering: Lowering, node: fx.Node) -> Lazy:
    outside = lowering.tensor(node.args[0])
    return _in_slice(lowering.tensor(node.args[1]), outside, *_range(node, outside.shape, 2))


def _pad(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor, padding = lowering.tensor(node.args[0]), list(node.args[1])  # type: ignore[arg-type]
    value = literal(_option(node, 2, "value", 0.0))
    for pair in range(len(padding) // 2):
        dim = len(tensor.shape) - 1 - pair
        before, after = padding[2 * pair : 2 * pair + 2]
        tensor = tensor.slice(dim, max(-before, 0), tensor.shape[dim] + min(after, 0))
        before, after, n = max(before, 0), max(after, 0), tensor.shape[dim]
        shape = (*tensor.shape[:dim], before + n + after, *tensor.shape[dim + 1 :])
        tensor = _in_slice(tensor, number(value, shape), dim, before, before + n, 1)
    return tensor


def _diagonal_scatter(lowering: Lowering, node: fx.Node) -> Lazy:
    outside, inside = (lowering.tensor(a) for a in node.args[:2])
    to = lowering.program.copy(outside)
    lowering.program.write(to.diagonal(*_diagonal_place(node, len(to.shape), 2)), inside)
    return to


def _triangle(comparison: str) -> Rule:
    def rule(lowering: Lowering, node: fx.Node) -> Lazy:
        tensor = lowering.tensor(node.args[0])
        offset, zeros = int(_option(node, 1, "diagonal", 0)), number("0.0", tensor.shape)
        return _where_index(lambda i: f"{i[-1]} - {i[-2]} {comparison} {offset}", tensor, zeros, lambda i: i)

    return rule


def _concatenate(lowering: Lowering, node: fx.Node) -> Lazy:
    to, at = lowering.program.allocate(lowering.shape(node)), 0
    dim = int(_option(node, 1, "dim", 0)) % len(to.shape)
    for part in map(lowering.tensor, node.args[0]):  # type: ignore[arg-type]
        if len(part.shape) == len(to.shape):
            lowering.program.write(to.slice(dim, at, at + part.shape[dim]), part)
            at += part.shape[dim]
    return to


def _stack(lowering: Lowering, node: fx.Node) -> Lazy:
    to = lowering.program.allocate(lowering.shape(node))
    dim = int(_option(node, 1, "dim", 0)) % len(to.shape)
    for at, part in enumerate(map(lowering.tensor, node.args[0])):  # type: ignore[arg-type]
        lowering.program.write(to.select(dim, at), part)
    return to


# Reductions, running totals, products of matrices.


def _reduction(how: str) -> Rule:
    def rule(lowering: Lowering, node: fx.Node) -> Lazy:
        tensor = lowering.tensor(node.args[0])
        keep = len(lowering.shape(node)) == len(tensor.shape)
        return lowering.program.reduce(tensor, _dims(node, 1, len(tensor.shape)), keep, how)

    return rule


def _mean(lowering: Lowering, node: fx.Node) -> Lazy:
    total = _reduction("sum")(lowering, node)
    many = lowering.tensor(node.args[0]).size // max(total.size, 1)
    return Lazy(total.shape, lambda i: f"({total.element(i)} / {literal(many)})")


def _running(how: str) -> Rule:
    """Running sum or product along a dimension."""

    def rule(lowering: Lowering, node: fx.Node) -> Lazy:
        tensor, program = lowering.tensor(node.args[0]), lowering.program
        dim, to = int(node.args[1]) % len(tensor.shape), program.copy(tensor)  # type: ignore[call-overload]
        before, after = to.slice(dim, 0, to.shape[dim] - 1), to.slice(dim, 1, to.shape[dim])
        program.loop(after.shape, lambda i: [f"{after.element(i)} {how}= {before.element(i)}"], alone=True)
        return to

    return rule


def _extreme(comparison: str) -> Rule:
    """Largest or smallest along a dimension and, in the second result, where it is."""

    def rule(lowering: Lowering, node: fx.Node) -> tuple[Lazy, Lazy]:
        program, tensor = lowering.program, lowering.program.store(lowering.tensor(node.args[0]))
        dim = int(node.args[1]) % len(tensor.shape)  # type: ignore[call-overload]
        best = program.copy(tensor.slice(dim, 0, 1))
        where = program.copy(number("0.0", best.shape))

        def body(i: Index) -> list[str]:
            to = [*i[:dim], "0", *i[dim + 1 :]]
            return [
                f"if {tensor.element(i)} {comparison} {best.element(to)}:",
                f"    {best.element(to)}, {where.element(to)} = {tensor.element(i)}, {i[dim]}",
            ]

        program.loop(tensor.shape, body, alone=True)
        shape = tuple(lowering.values[node][0].shape)
        return best.squeezed(shape), where.squeezed(shape)

    return rule


def _product(lowering: Lowering, node: fx.Node) -> Lazy:
    """Products of matrices and vectors, alone or in batches: sums over the last dimension of a and the next to last of b."""
    a, b = (lowering.program.store(lowering.tensor(x)) for x in node.args[:2])
    batch = len(a.shape) == 3
    rows, columns = a.shape[:-1], b.shape[2:] if batch else b.shape[1:]
    inner = len(rows) + len(columns)

    def term(i: Index) -> str:
        first = [*i[: len(rows)], i[inner]]
        second = [*(i[:1] if batch else []), i[inner], *i[len(rows) : inner]]
        return f"{a.element(first)} * {b.element(second)}"

    terms = Lazy((*rows, *columns, a.shape[-1]), term)
    return lowering.program.reduce(terms, [inner], False, "sum")


def _solve_triangular(lowering: Lowering, node: fx.Node) -> Lazy:
    """X with A X = B, or X A = B where `left` is false, row after row."""
    program, shape = lowering.program, lowering.shape(node)
    a, b = (program.broadcast(program.store(lowering.tensor(x)), (*shape[:-2], *lowering.shape(x)[-2:])) for x in node.args[:2])  # type: ignore[arg-type]
    upper, left = node.kwargs["upper"], node.kwargs.get("left", True)
    if not left:
        last = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        a, b, upper = a.permute(last), b.permute(last), not upper
    x = program.copy(b)
    n = a.shape[-1]

    def body(i: Index) -> list[str]:
        *batch, row, column = i
        r = affine(row, -1, n - 1) if upper else row
        at = x.element([*batch, r, column])
        lines = [
            f"for j in range({f'{r} + 1, {n}' if upper else f'0, {r}'}):",
            f"    {at} -= {a.element([*batch, r, 'j'])} * {x.element([*batch, 'j', column])}",
        ]
        return lines if node.kwargs.get("unitriangular") else [*lines, f"{at} /= {a.element([*batch, r, r])}"]

    program.loop(x.shape, body, alone=True)
    return x if left else x.permute(last)


# Indexing by tensors of whole numbers.


def _indices(lowering: Lowering, listed: Sequence[Any]) -> list[Lazy | None]:
    """Index tensors as memory; a constant mask becomes the positions where it holds."""
    found: list[Lazy | None] = []
    for argument in listed:
        if argument is None:
            found.append(None)
            continue
        known: Tensor = lowering.values[argument]
        if known.dtype != torch.bool:
            found.append(lowering.program.store(lowering.tensor(argument)))
        elif argument.op == "get_attr":
            found += [lowering.program.constant(positions) for positions in known.nonzero(as_tuple=True)]
        else:
            raise UnknownOperation("indexing by a mask that depends on the parameters")
    return found


def _pick(tensor: Lazy, indices: Sequence[Lazy | None], shape: Shape) -> Lazy:
    """Elements at index tensors that stand side by side."""
    used = [d for d, index in enumerate(indices) if index is not None]
    if used != list(range(used[0], used[-1] + 1)):
        raise UnknownOperation("index tensors that do not stand side by side")
    wide = torch.broadcast_shapes(*(indices[d].shape for d in used))  # type: ignore[union-attr]
    spread = {d: indices[d].broadcast(tuple(wide)) for d in used}  # type: ignore[union-attr]
    lead, n = used[0], len(wide)

    def index(i: Index) -> Index:
        own = [f"int({spread[d].element(i[lead : lead + n])})" for d in used]
        return [*i[:lead], *own, *i[lead + n :]]

    return tensor.view(shape, index)


def _index(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor = lowering.program.store(lowering.tensor(node.args[0]))
    return _pick(tensor, _indices(lowering, node.args[1]), lowering.shape(node))  # type: ignore[arg-type]


def _index_put(lowering: Lowering, node: fx.Node) -> Lazy:
    to = lowering.program.copy(lowering.tensor(node.args[0]))
    indices = _indices(lowering, node.args[1])  # type: ignore[arg-type]
    used = [index for index in indices if index is not None]
    wide = tuple(torch.broadcast_shapes(*(index.shape for index in used)))
    lead = indices.index(used[0])
    shape = (*to.shape[:lead], *wide, *to.shape[lead + len(used) :])
    return _write_at(lowering, node, _pick(to, indices, shape), to, bool(_option(node, 3, "accumulate", False)))


def _write_at(lowering: Lowering, node: fx.Node, places: Lazy, to: Lazy, add: bool) -> Lazy:
    values = lowering.program.broadcast(lowering.tensor(node.args[2]), places.shape)
    lowering.program.loop(places.shape, lambda i: [f"{places.element(i)} {'+=' if add else '='} {values.element(i)}"])
    return to


def _along(lowering: Lowering, node: fx.Node, tensor: Lazy) -> Lazy:
    """Elements whose index along one dimension is read from a tensor."""
    dim = int(node.args[1]) % len(tensor.shape)  # type: ignore[call-overload]
    index = lowering.program.store(lowering.tensor(node.args[2]))
    return tensor.view(index.shape, lambda i: [*i[:dim], f"int({index.element(i)})", *i[dim + 1 :]])


def _gather(lowering: Lowering, node: fx.Node) -> Lazy:
    return _along(lowering, node, lowering.program.store(lowering.tensor(node.args[0])))


def _scatter(add: bool) -> Rule:
    def rule(lowering: Lowering, node: fx.Node) -> Lazy:
        to = lowering.program.copy(lowering.tensor(node.args[0]))
        places = _along(lowering, node, to)
        source = lowering.program.broadcast(lowering.tensor(node.args[3]), places.shape)
        lowering.program.loop(places.shape, lambda i: [f"{places.element(i)} {'+=' if add else '='} {source.element(i)}"])
        return to

    return rule


def _one_index(lowering: Lowering, node: fx.Node, tensor: Lazy) -> tuple[Lazy, Shape]:
    """Elements at an index tensor along one dimension."""
    dim = int(node.args[1]) % len(tensor.shape)  # type: ignore[call-overload]
    indices: list[Lazy | None] = [None] * dim
    indices += _indices(lowering, [node.args[2]])
    assert indices[dim] is not None
    shape = (*tensor.shape[:dim], *indices[dim].shape, *tensor.shape[dim + 1 :])
    return _pick(tensor, indices, shape), shape


def _index_select(lowering: Lowering, node: fx.Node) -> Lazy:
    return _one_index(lowering, node, lowering.program.store(lowering.tensor(node.args[0])))[0]


def _index_add(lowering: Lowering, node: fx.Node) -> Lazy:
    to = lowering.program.copy(lowering.tensor(node.args[0]))
    places, shape = _one_index(lowering, node, to)
    source, alpha = lowering.tensor(node.args[3]), literal(_option(node, 4, "alpha", 1.0))
    lowering.program.loop(shape, lambda i: [f"{places.element(i)} += {alpha} * {source.element(i)}"])
    return to


def _kernel(lowering: Lowering, node: fx.Node) -> list[Lazy] | Lazy:
    arguments = [lowering.tensor(a) if isinstance(a, fx.Node) else a for a in node.args]
    results = lowering.values[node]
    many = isinstance(results, tuple | list)
    shapes = [tuple(r.shape) for r in (results if many else [results])]
    made = lowering.program.call(KERNELS[node.target.name()], arguments, shapes)  # type: ignore[union-attr]
    return made if many else made[0]


OPERATIONS: dict[str, Rule] = {
    # numbers
    "add": _pointwise("({0} + {1})", scaled=1),
    "sub": _pointwise("({0} - {1})", scaled=1),
    "rsub": _pointwise("({1} - {0})", scaled=0),
    "mul": _pointwise("({0} * {1})"),
    "div": _pointwise("({0} / {1})"),
    "neg": _pointwise("(-{0})"),
    "reciprocal": _pointwise("(1.0 / {0})"),
    "abs": _pointwise("abs({0})"),
    "sign": _pointwise("sign({0})"),
    "sgn": _pointwise("sign({0})"),
    "maximum": _pointwise("max({0}, {1})"),
    "minimum": _pointwise("min({0}, {1})"),
    "clamp": _clamp,
    "clamp_min": _pointwise("max({0}, {1})"),
    "clamp_max": _pointwise("min({0}, {1})"),
    "relu": _pointwise("max({0}, 0.0)"),
    "threshold_backward": _pointwise("({0} if {1} > 0.0 else 0.0)", 0),
    "pow": _power,
    "sqrt": _pointwise("math.sqrt({0})"),
    "rsqrt": _pointwise("(1.0 / math.sqrt({0}))"),
    # functions
    "exp": _pointwise("math.exp({0})"),
    "expm1": _pointwise("math.expm1({0})"),
    "log": _pointwise("math.log({0})"),
    "log1p": _pointwise("math.log1p({0})"),
    "xlogy": _pointwise("xlogy({0}, {1})"),
    "sin": _pointwise("math.sin({0})"),
    "cos": _pointwise("math.cos({0})"),
    "tan": _pointwise("math.tan({0})"),
    "asin": _pointwise("math.asin({0})"),
    "acos": _pointwise("math.acos({0})"),
    "atan": _pointwise("math.atan({0})"),
    "sinh": _pointwise("math.sinh({0})"),
    "cosh": _pointwise("math.cosh({0})"),
    "tanh": _pointwise("math.tanh({0})"),
    "tanh_backward": _pointwise("tanh_backward({0}, {1})"),
    "asinh": _pointwise("math.asinh({0})"),
    "acosh": _pointwise("math.acosh({0})"),
    "atanh": _pointwise("math.atanh({0})"),
    "erf": _pointwise("math.erf({0})"),
    "erfc": _pointwise("math.erfc({0})"),
    "lgamma": _pointwise("math.lgamma({0})"),
    "digamma": _pointwise("digamma({0})"),
    "sigmoid": _pointwise("sigmoid({0})"),
    "sigmoid_backward": _pointwise("sigmoid_backward({0}, {1})"),
    "softplus": _pointwise("softplus({0})", 1, 20),
    "softplus_backward": _pointwise("softplus_backward({0}, {1})", 1, 20),
    "silu": _pointwise("silu({0})"),
    "silu_backward": _pointwise("silu_backward({0}, {1})"),
    # conditions
    "eq": _pointwise("({0} == {1})"),
    "ne": _pointwise("({0} != {1})"),
    "lt": _pointwise("({0} < {1})"),
    "le": _pointwise("({0} <= {1})"),
    "gt": _pointwise("({0} > {1})"),
    "ge": _pointwise("({0} >= {1})"),
    "isnan": _pointwise("math.isnan({0})"),
    "isinf": _pointwise("math.isinf({0})"),
    "logical_and": _pointwise("({0} and {1})"),
    "bitwise_and": _pointwise("({0} and {1})"),
    "logical_or": _pointwise("({0} or {1})"),
    "bitwise_or": _pointwise("({0} or {1})"),
    "logical_not": _pointwise("(not {0})"),
    "bitwise_not": _pointwise("(not {0})"),
    "where": _pointwise("({1} if {0} else {2})"),
    # views
    "alias": _same,
    "clone": _same,
    "detach": _same,
    "lift_fresh_copy": _same,
    "_to_copy": _convert,
    "view": _reshape,
    "_unsafe_view": _reshape,
    "reshape": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "expand": _expand,
    "copy": _copy,
    "select": _select,
    "slice": _slice,
    "split": _split,
    "split_with_sizes": _split,
    "unbind": _unbind,
    "t": _transpose,
    "transpose": _transpose,
    "permute": _permute,
    "flip": _flip,
    "diagonal": _diagonal,
    # placing
    "select_backward": _select_backward,
    "select_scatter": _select_scatter,
    "slice_backward": _slice_backward,
    "slice_scatter": _slice_scatter,
    "diagonal_scatter": _diagonal_scatter,
    "constant_pad_nd": _pad,
    "tril": _triangle("<="),
    "triu": _triangle(">="),
    "cat": _concatenate,
    "stack": _stack,
    # sums and products
    "sum": _reduction("sum"),
    "mean": _mean,
    "prod": _reduction("prod"),
    "amax": _reduction("amax"),
    "amin": _reduction("amin"),
    "any": _reduction("any"),
    "cumsum": _running("+"),
    "cumprod": _running("*"),
    "max.dim": _extreme(">"),
    "min.dim": _extreme("<"),
    "dot": _product,
    "mv": _product,
    "mm": _product,
    "bmm": _product,
    "linalg_solve_triangular": _solve_triangular,
    # indexing
    "index": _index,
    "index_select": _index_select,
    "index_put": _index_put,
    "index_add": _index_add,
    "gather": _gather,
    "scatter": _scatter(add=False),
    "scatter_add": _scatter(add=True),
}


def lower(graph: fx.GraphModule, values: Mapping[fx.Node, Any]) -> tuple[Program, tuple[Lazy, ...]]:
    """The program of a graph, and the lazy tensors of its results. Raises UnknownOperation.

    values: what every node was for one input, for shapes and for constants.
    """
    lowering = Lowering(values)
    results = lowering.run(graph.graph)
    return lowering.program, results
