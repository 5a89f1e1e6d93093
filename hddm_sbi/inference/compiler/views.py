"""Rules of views, other indices into the same elements, and of tensors put together from parts."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from hddm_sbi.inference.compiler.lazy import Index, Lazy, Shape, literal, number, variable
from hddm_sbi.inference.compiler.lowering import Lowering, Rule, dims_of, option


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
    dim = int(option(node, position, "dim", 0)) % len(shape)
    ends = [option(node, position + i, name, None) for i, name in ((1, "start"), (2, "end"), (3, "step"))]
    return dim, *slice(*ends).indices(shape[dim])


def _slice(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor = lowering.tensor(node.args[0])
    return tensor.slice(*_range(node, tensor.shape))


def _split(lowering: Lowering, node: fx.Node) -> list[Lazy]:
    tensor = lowering.tensor(node.args[0])
    dim, at, pieces = int(option(node, 2, "dim", 0)) % len(tensor.shape), 0, []
    for piece in lowering.values[node]:
        pieces.append(tensor.slice(dim, at, at + piece.shape[dim]))
        at += piece.shape[dim]
    return pieces


def _unbind(lowering: Lowering, node: fx.Node) -> list[Lazy]:
    tensor = lowering.tensor(node.args[0])
    dim = int(option(node, 1, "dim", 0)) % len(tensor.shape)
    return [tensor.select(dim, at) for at in range(tensor.shape[dim])]


def _transpose(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor = lowering.tensor(node.args[0])
    order = list(range(len(tensor.shape)))
    a, b = (int(d) % len(order) for d in (node.args[1:] or (0, -1)))  # type: ignore[arg-type]
    order[a], order[b] = order[b], order[a]
    return tensor.permute(order)


def _permute(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor = lowering.tensor(node.args[0])
    return tensor.permute(dims_of(node, 1, len(tensor.shape)))


def _flip(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor = lowering.tensor(node.args[0])
    return tensor.flip(dims_of(node, 1, len(tensor.shape)))


def _diagonal_place(node: fx.Node, n: int, position: int) -> tuple[int, int, int]:
    """Offset and the two dimensions of a diagonal."""
    offset, dim1, dim2 = (
        int(option(node, position + i, name, i - 1 if i else 0)) for i, name in enumerate(("offset", "dim1", "dim2"))
    )
    return offset, dim1 % n, dim2 % n


def _diagonal(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor = lowering.tensor(node.args[0])
    return tensor.diagonal(*_diagonal_place(node, len(tensor.shape), 1))


# Elements from one tensor where a condition on the index holds, and from another elsewhere.


def _where_index(
    condition: Callable[[Index], str | bool], inside: Lazy, outside: Lazy, index: Callable[[Index], Index]
) -> Lazy:
    def element(i: Index) -> str:
        holds = condition(i)
        if isinstance(holds, str):
            return f"({inside.element(index(i))} if {holds} else {outside.element(i)})"
        return inside.element(index(i)) if holds else outside.element(i)

    return Lazy(outside.shape, element)


def _in_slice(inside: Lazy, outside: Lazy, dim: int, first: int, last: int, step: int) -> Lazy:
    def condition(i: Index) -> str | bool:
        if i[dim].fixed is not None:
            return i[dim].fixed in range(first, last, step)
        every = f" and ({i[dim] + -first}) % {step} == 0" if step > 1 else ""
        return f"{first} <= {i[dim]} < {last}{every}"

    def index(i: Index) -> Index:
        within = i[dim] + -first
        return [*i[:dim], within if step == 1 else variable(f"(({within}) // {step})"), *i[dim + 1 :]]

    return _where_index(condition, inside, outside, index)


def _at_position(inside: Lazy, outside: Lazy, dim: int, at: int) -> Lazy:
    def condition(i: Index) -> str | bool:
        return f"{i[dim]} == {at}" if i[dim].fixed is None else i[dim].fixed == at

    return _where_index(condition, inside, outside, lambda i: [*i[:dim], *i[dim + 1 :]])


def _parts(lowering: Lowering, node: fx.Node) -> tuple[Lazy, Lazy]:
    """The tensor that is placed, and the one around it: zeros in the gradient of a select or slice."""
    if isinstance(node.args[1], fx.Node):
        return lowering.tensor(node.args[1]), lowering.tensor(node.args[0])
    return lowering.tensor(node.args[0]), number("0.0", lowering.shape(node))


def _select_into(lowering: Lowering, node: fx.Node) -> Lazy:
    inside, outside = _parts(lowering, node)
    return _at_position(inside, outside, *_place(node, outside.shape, 2))


def _slice_into(lowering: Lowering, node: fx.Node) -> Lazy:
    inside, outside = _parts(lowering, node)
    return _in_slice(inside, outside, *_range(node, outside.shape, 2))


def _pad(lowering: Lowering, node: fx.Node) -> Lazy:
    tensor, padding = lowering.tensor(node.args[0]), list(node.args[1])  # type: ignore[arg-type]
    value = literal(option(node, 2, "value", 0.0))
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
        offset, zeros = int(option(node, 1, "diagonal", 0)), number("0.0", tensor.shape)
        return _where_index(lambda i: f"{i[-1] + i[-2] * -1} {comparison} {offset}", tensor, zeros, lambda i: i)

    return rule


def _concatenate(lowering: Lowering, node: fx.Node) -> Lazy:
    to, at = lowering.program.allocate(lowering.shape(node)), 0
    dim = int(option(node, 1, "dim", 0)) % len(to.shape)
    for part in map(lowering.tensor, node.args[0]):  # type: ignore[arg-type]
        if len(part.shape) == len(to.shape):
            lowering.program.write(to.slice(dim, at, at + part.shape[dim]), part, part=True)
            at += part.shape[dim]
    return to


def _stack(lowering: Lowering, node: fx.Node) -> Lazy:
    to = lowering.program.allocate(lowering.shape(node))
    dim = int(option(node, 1, "dim", 0)) % len(to.shape)
    for at, part in enumerate(map(lowering.tensor, node.args[0])):  # type: ignore[arg-type]
        lowering.program.write(to.select(dim, at), part, part=True)
    return to


#: operation -> rule
VIEWS: dict[str, Rule] = {
    # views
    "view": _reshape,
    "_unsafe_view": _reshape,
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
    "select_backward": _select_into,
    "select_scatter": _select_into,
    "slice_backward": _slice_into,
    "slice_scatter": _slice_into,
    "diagonal_scatter": _diagonal_scatter,
    "constant_pad_nd": _pad,
    "tril": _triangle("<="),
    "triu": _triangle(">="),
    "cat": _concatenate,
    "stack": _stack,
}
