"""A walk over a graph of tensor operations, which turns them one by one into instructions of a program."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from hddm_sbi.inference.compiler.graph import Operation, taken_apart
from hddm_sbi.inference.compiler.operations import OPERATIONS, UnknownOperationError
from hddm_sbi.inference.compiler.program import Compiled, Program
from hddm_sbi.numerics.operators import KERNELS


def compile_graph(graph: fx.GraphModule, values: Mapping[fx.Node, Any]) -> Compiled:
    """The program of a graph from a vector to a number and its gradient. Raises UnknownOperationError.

    values: every node's value at one input, for shapes and constants.
    """
    program = Program()
    x = program.allocate(next(values[n] for n in graph.graph.nodes if n.op == "placeholder").shape)
    value, gradient = _Lowering(program, values).run(graph.graph, [x])
    return program.finish(x, value, gradient)


class _Lowering:
    """Keeps the result of every node: tensors of the program, or real ones where they are known."""

    def __init__(self, program: Program, values: Mapping[fx.Node, Any]) -> None:
        self._program = program
        self._values = values
        self._results: dict[fx.Node, Any] = {}

    def run(self, graph: fx.Graph, inputs: Sequence[Any]) -> list[Tensor]:
        """Lower every node in turn; the tensors of the graph's output."""
        given = iter(inputs)
        for node in graph.nodes:
            if node.op == "output":
                return [self._program.tensor(self._results[result]) for result in node.args[0]]
            self._results[node] = next(given) if node.op == "placeholder" else self._lower(node)
        raise UnknownOperationError("a graph without output")

    def _lower(self, node: fx.Node) -> Any:
        operation = node.target
        if not any(self._varies(self._results[n]) for n in node.all_input_nodes):
            return self._values[node]
        arguments, named = fx.map_arg((node.args, dict(node.kwargs)), self._results.__getitem__)  # type: ignore[arg-type]
        if operation is operator.getitem:
            return arguments[0][arguments[1]]
        if not isinstance(operation, Operation):
            raise UnknownOperationError(str(operation))
        if operation.name() in KERNELS:
            return self._kernel(node, arguments)
        if operation.is_view:
            return self._view(operation, arguments, named)
        # "aten::max.dim" -> "max.dim", "max"
        full = operation.name().partition("::")[2]
        rule = OPERATIONS.get(full, OPERATIONS.get(full.partition(".")[0]))
        if rule is None:
            return self._apart(node)
        if full.startswith("index") and any(self._unknown_mask(n) for n in node.all_input_nodes):
            raise UnknownOperationError("indexing by a mask that depends on the parameters")
        try:
            return rule(self._program, *arguments, **named)
        except TypeError as reason:
            raise UnknownOperationError(f"{operation} with {node.args} {dict(node.kwargs)}") from reason

    def _kernel(self, node: fx.Node, arguments: Sequence[Any]) -> Any:
        given = [torch.tensor(a) if isinstance(a, list) else a for a in arguments]
        results = self._values[node]
        many = isinstance(results, tuple | list)
        shapes = [tuple(r.shape) for r in (results if many else [results])]
        tensors = self._program.call(KERNELS[node.target.name()], given, shapes)  # type: ignore[union-attr]
        return tensors if many else tensors[0]

    def _view(self, operation: Operation, arguments: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """Other places of the same elements, which torch finds."""
        tensor, *rest = arguments
        try:
            return operation(tensor, *rest, **named)
        except RuntimeError:
            return operation(self._program.copy(tensor), *rest, **named)

    def _apart(self, node: fx.Node) -> Any:
        """A compound operation, by those that torch says it is made of."""
        inputs = node.all_input_nodes
        parts = taken_apart(node, [self._values[n] for n in inputs])
        if parts is None:
            raise UnknownOperationError(f"{node.target} is not in the table of operations")
        graph, values = parts
        results = _Lowering(self._program, values).run(graph.graph, [self._results[n] for n in inputs])
        return results if isinstance(self._values[node], tuple | list) else results[0]

    def _varies(self, result: Any) -> bool:
        """Whether a result depends on the input."""
        return any(isinstance(t, Tensor) and t.is_meta for t in (result if isinstance(result, tuple | list) else [result]))

    def _unknown_mask(self, node: fx.Node) -> bool:
        value = self._values[node]
        return isinstance(value, Tensor) and value.dtype == torch.bool and self._varies(self._results[node])
