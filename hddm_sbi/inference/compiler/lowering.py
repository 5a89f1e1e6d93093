"""A walk over a graph of tensor operations, which turns them one by one into a program."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from hddm_sbi.inference.compiler.graph import Operation
from hddm_sbi.inference.compiler.lazy import Lazy, Shape, literal, number, stored
from hddm_sbi.inference.compiler.program import Program, has_kernel


class UnknownOperationError(NotImplementedError):
    """An operation that the table does not have, or not with these arguments."""


class Lowering:
    """Walks a graph and keeps the lazy tensor of every node.

    rules: by the name of an operation, with its overload ("max.dim") or without. values: every node's value
    at one input, for shapes and constants.
    """

    def __init__(self, rules: Mapping[str, Rule], values: Mapping[fx.Node, Any]) -> None:
        self.program = Program()
        self.values = values
        self._rules = rules
        self._lazy: dict[fx.Node, Any] = {}

    def run(self, graph: fx.Graph) -> tuple[Lazy, ...]:
        """Lower every node in turn; the lazy tensors of the graph's output."""
        for node in graph.nodes:
            if node.op == "output":
                return tuple(self.tensor(result) for result in node.args[0])
            self._lazy[node] = self._lower(node)
        raise UnknownOperationError("a graph without output")

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
        if not isinstance(node.target, Operation):
            raise UnknownOperationError(str(node.target))
        if has_kernel(node.target.name()):
            return _call_kernel
        # "aten::max.dim" -> "max.dim", "max"
        full = node.target.name().partition("::")[2]
        rule = self._rules.get(full, self._rules.get(full.partition(".")[0]))
        if rule is None:
            raise UnknownOperationError(f"{node.target} is not in the table of operations")
        return rule

    def tensor(self, argument: Any) -> Lazy:
        """The lazy tensor of a node, or of a number in the graph."""
        if isinstance(argument, fx.Node):
            lazy: Lazy = self._lazy[argument]
            return lazy
        if isinstance(argument, bool | int | float):
            return number(literal(argument))
        raise UnknownOperationError(f"an argument {argument!r}")

    def shape(self, node: fx.Node) -> Shape:
        """Shape of a node's result."""
        return tuple(self.values[node].shape)


Rule = Callable[[Lowering, fx.Node], Any]


def option(node: fx.Node, position: int, name: str, default: Any) -> Any:
    """An argument given by position, by name, or not at all."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def dims_of(node: fx.Node, position: int, n: int) -> list[int]:
    """Dimensions that an argument names, counted from the front; all where it names none."""
    dims = option(node, position, "dim", None)
    listed = [dims] if isinstance(dims, int) else dims
    return [d % n for d in listed] if listed else list(range(n))


def _call_kernel(lowering: Lowering, node: fx.Node) -> list[Lazy] | Lazy:
    arguments = [lowering.tensor(a) if isinstance(a, fx.Node) else a for a in node.args]
    results = lowering.values[node]
    many = isinstance(results, tuple | list)
    shapes = [tuple(r.shape) for r in (results if many else [results])]
    lazy = lowering.program.call(node.target.name(), arguments, shapes)  # type: ignore[union-attr]
    return lazy if many else lazy[0]
