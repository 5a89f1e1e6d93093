"""A function of one vector as a graph of tensor operations: recorded, and simplified.

All private parts of torch that the package uses to record are imported here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._decomp import get_decompositions
from torch._guards import TracingContext, tracing
from torch._ops import OpOverload
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
#: what the target of a call in a graph is, unless it is a Python function.
Operation = OpOverload

#: compound operations, each a few simple ones.
_COMPOUND = get_decompositions(
    [
        aten.addmm,
        aten.addmv,
        aten._log_softmax,
        aten._log_softmax_backward_data,
        aten._softmax,
        aten._softmax_backward_data,
        aten.log_sigmoid_forward,
        aten.log_sigmoid_backward,
        aten.logaddexp,
        aten.logsumexp,
        aten.masked_fill,
        aten.diagonal_backward,
    ]
)

#: operations that return their first argument unchanged when nothing is differentiated.
_PASS_THROUGH = {aten.detach.default, aten.alias.default, aten.lift_fresh_copy.default, aten.clone.default}
#: operations that do nothing if the shape stays the same.
_RESHAPES = {aten.expand.default, aten.view.default, aten.reshape.default, aten._unsafe_view.default}
#: operations whose result depends only on the shape of the argument.
_SHAPE_ONLY = {
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.full_like.default,
    aten.empty_like.default,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
    aten.new_empty.default,
}

#: operation -> second argument with which it does nothing.
_NEUTRAL = {aten.mul.Tensor: 1, aten.div.Tensor: 1, aten.pow.Tensor_Scalar: 1, aten.add.Tensor: 0, aten.sub.Tensor: 0}


def record(function: Callable[[Tensor], tuple[Tensor, ...]], example: Tensor) -> fx.GraphModule:
    """The operations that a function applies to `example`, gradients included, none of them in place.

    Recorded twice: first what autograd does, then that graph as pure functions, compound operations taken apart.
    """
    # torch keeps the shape of each result with a FakeTensorMode. Given none, it makes one each time, which doubles the
    # time of recording.
    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
        first = make_fx(function)(example)
        constants = {**dict(first.named_parameters()), **dict(first.named_buffers())}
        # Constants become inputs, because functionalize allows writing only to what comes from an input.
        pure = torch.func.functionalize(
            lambda x, given: torch.func.functional_call(first, given, (x,)), remove="mutations"
        )
        return make_fx(lambda x: pure(x, constants), decomposition_table=_COMPOUND)(example)  # type: ignore[arg-type]


def taken_apart(node: fx.Node, inputs: Sequence[Tensor]) -> tuple[fx.GraphModule, dict[fx.Node, Any]] | None:
    """The operations that a compound one is made of, as a graph of a node's inputs, and their values; None where torch
    knows none."""
    operation = node.target
    assert isinstance(operation, Operation)
    function = get_decompositions([operation]).get(operation)
    if function is None and not operation.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
        return None

    def apply(*given: Tensor) -> tuple[Any, ...]:
        by_node = dict(zip(node.all_input_nodes, given, strict=True))
        arguments, named = fx.map_arg((node.args, dict(node.kwargs)), by_node.__getitem__)  # type: ignore[arg-type]
        result = (function or operation.decompose)(*arguments, **named)
        return tuple(result) if isinstance(result, tuple | list) else (result,)

    graph = make_fx(apply)(*inputs)
    return graph, _values(graph, *inputs)


def simplify(graph: fx.GraphModule, example: Tensor) -> dict[fx.Node, Any]:
    """Reduce the graph to fewer operations: constants folded, idle operations dropped, equal ones shared.

    example: one input, for the values that do not depend on it. Returns the value of every node at `example`.
    """
    values = _values(graph, example)
    _fold(graph, values)
    _drop(graph, values)
    _share(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return values


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.values[n] = result.clone() if isinstance(result, Tensor) else result
        return result


def _values(graph: fx.GraphModule, *example: Tensor) -> dict[fx.Node, Any]:
    recorder = _Recorder(graph)
    with torch.no_grad():
        recorder.run(*example)
    return recorder.values


def _fold(graph: fx.GraphModule, values: dict[fx.Node, Any]) -> None:
    """Replace every result that does not depend on the input by its value."""
    dependent: set[fx.Node] = set()
    for n in list(graph.graph.nodes):
        varies = n.op == "placeholder" or any(a in dependent for a in n.all_input_nodes)
        if varies and n.target not in _SHAPE_ONLY:
            dependent.add(n)
            continue
        if n.op == "call_function" and isinstance(values[n], Tensor):
            name = f"folded_{len(graph._buffers)}"
            graph.register_buffer(name, values[n])
            with graph.graph.inserting_before(n):
                constant = graph.graph.get_attr(name)
            values[constant] = values[n]
            n.replace_all_uses_with(constant)
            graph.graph.erase_node(n)


def _drop(graph: fx.GraphModule, values: dict[fx.Node, Any]) -> None:
    for n in list(graph.graph.nodes):
        if n.op != "call_function" or not _does_nothing(n, values):
            continue
        n.replace_all_uses_with(n.args[0])
        graph.graph.erase_node(n)


def _does_nothing(n: fx.Node, values: dict[fx.Node, Any]) -> bool:
    if n.target in _PASS_THROUGH:
        return True
    first = n.args[0] if n.args else None
    if not isinstance(first, fx.Node) or not isinstance(values[first], Tensor):
        return False
    if n.target in _RESHAPES:
        return bool(values[n].shape == values[first].shape)
    if n.target not in _NEUTRAL:
        return False
    second = _uniform(values[n.args[1]]) if isinstance(n.args[1], fx.Node) and n.args[1].op == "get_attr" else n.args[1]
    same = values[n].shape == values[first].shape and values[n].dtype == values[first].dtype
    return bool(same and second == _NEUTRAL[n.target])


def _uniform(value: Any) -> float | None:
    """The number a constant tensor is filled with, or None."""
    if not isinstance(value, Tensor) or value.numel() == 0 or not bool((value == value.reshape(-1)[0]).all()):
        return None
    return float(value.reshape(-1)[0])


def _share(graph: fx.GraphModule) -> None:
    """Compute equal expressions once."""
    seen: dict[tuple[Any, ...], fx.Node] = {}
    for n in list(graph.graph.nodes):
        if n.op != "call_function" or n.target is operator.getitem:
            continue
        key = (n.target, str(n.args), str(sorted(n.kwargs.items(), key=lambda item: item[0])))
        if key in seen:
            n.replace_all_uses_with(seen[key])
            graph.graph.erase_node(n)
        else:
            seen[key] = n
