"""The table of operations: what each tensor operation becomes in a program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from hddm_sbi.inference.compiler.indexing import INDEXING
from hddm_sbi.inference.compiler.lazy import Lazy
from hddm_sbi.inference.compiler.lowering import Lowering, Rule
from hddm_sbi.inference.compiler.pointwise import POINTWISE
from hddm_sbi.inference.compiler.program import Program
from hddm_sbi.inference.compiler.sums import SUMS
from hddm_sbi.inference.compiler.views import VIEWS

#: name of an operation, with its overload where only that one is meant -> its rule.
OPERATIONS: dict[str, Rule] = POINTWISE | VIEWS | SUMS | INDEXING


def lower(graph: fx.GraphModule, values: Mapping[fx.Node, Any]) -> tuple[Program, tuple[Lazy, ...]]:
    """The program of a graph, and the lazy tensors of its results. Raises UnknownOperationError.

    values: every node's value at one input, for shapes and constants.
    """
    lowering = Lowering(OPERATIONS, values)
    results = lowering.run(graph.graph)
    return lowering.program, results
