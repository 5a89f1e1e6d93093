"""Rules of indexing by tensors of whole numbers, to read and to write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from hddm_sbi.inference.compiler.lazy import Index, Lazy, Shape, literal, variable
from hddm_sbi.inference.compiler.lowering import Lowering, Rule, UnknownOperationError, option


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
            raise UnknownOperationError("indexing by a mask that depends on the parameters")
    return found


def _pick(tensor: Lazy, indices: Sequence[Lazy | None], shape: Shape) -> Lazy:
    """Elements at adjacent index tensors."""
    used = [d for d, index in enumerate(indices) if index is not None]
    if used != list(range(used[0], used[-1] + 1)):
        raise UnknownOperationError("index tensors that are not adjacent")
    wide = torch.broadcast_shapes(*(indices[d].shape for d in used))  # type: ignore[union-attr]
    spread = {d: indices[d].broadcast(tuple(wide)) for d in used}  # type: ignore[union-attr]
    lead, n = used[0], len(wide)

    def index(i: Index) -> Index:
        own = [variable(f"int({spread[d].element(i[lead : lead + n])})") for d in used]
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
    _write_at(lowering, _pick(to, indices, shape), node.args[2], bool(option(node, 3, "accumulate", False)))
    return to


def _write_at(lowering: Lowering, places: Lazy, argument: Any, add: bool) -> None:
    values = lowering.program.broadcast(lowering.tensor(argument), places.shape)
    lowering.program.loop(places.shape, lambda i: [f"{places.element(i)} {'+=' if add else '='} {values.element(i)}"])


def _along(lowering: Lowering, node: fx.Node, tensor: Lazy) -> Lazy:
    """Elements whose index along one dimension is read from a tensor."""
    dim = int(option(node, 1, "dim", 0)) % len(tensor.shape)
    index = lowering.program.store(lowering.tensor(node.args[2]))
    return tensor.view(index.shape, lambda i: [*i[:dim], variable(f"int({index.element(i)})"), *i[dim + 1 :]])


def _gather(lowering: Lowering, node: fx.Node) -> Lazy:
    return _along(lowering, node, lowering.program.store(lowering.tensor(node.args[0])))


def _scatter(add: bool) -> Rule:
    def rule(lowering: Lowering, node: fx.Node) -> Lazy:
        to = lowering.program.copy(lowering.tensor(node.args[0]))
        _write_at(lowering, _along(lowering, node, to), node.args[3], add)
        return to

    return rule


def _one_index(lowering: Lowering, node: fx.Node, tensor: Lazy) -> tuple[Lazy, Shape]:
    """Elements at an index tensor along one dimension."""
    dim = int(option(node, 1, "dim", 0)) % len(tensor.shape)
    (index,) = _indices(lowering, [node.args[2]])
    assert index is not None
    shape = (*tensor.shape[:dim], *index.shape, *tensor.shape[dim + 1 :])
    return _pick(tensor, [*[None] * dim, index], shape), shape


def _index_select(lowering: Lowering, node: fx.Node) -> Lazy:
    return _one_index(lowering, node, lowering.program.store(lowering.tensor(node.args[0])))[0]


def _index_add(lowering: Lowering, node: fx.Node) -> Lazy:
    to = lowering.program.copy(lowering.tensor(node.args[0]))
    places, shape = _one_index(lowering, node, to)
    source, alpha = lowering.tensor(node.args[3]), literal(option(node, 4, "alpha", 1.0))
    lowering.program.loop(shape, lambda i: [f"{places.element(i)} += {alpha} * {source.element(i)}"])
    return to


#: operation -> rule
INDEXING: dict[str, Rule] = {
    "index": _index,
    "index_select": _index_select,
    "index_put": _index_put,
    "index_add": _index_add,
    "gather": _gather,
    "scatter": _scatter(add=False),
    "scatter_add": _scatter(add=True),
}
