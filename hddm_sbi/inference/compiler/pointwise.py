"""Rules of pointwise operations: the expression of one element from those of the arguments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from hddm_sbi.inference.compiler.lazy import Lazy, literal
from hddm_sbi.inference.compiler.lowering import Lowering, Rule, UnknownOperationError, option


def _pointwise(template: str, *defaults: float, scaled: int | None = None) -> Rule:
    """One element of the result from one of each tensor.

    defaults: the only values that further arguments may have. scaled: position of the tensor that `alpha` multiplies.
    """
    n_tensors = len({part[0] for part in template.split("{")[1:]})

    def rule(lowering: Lowering, node: fx.Node) -> Lazy:
        tensors = [lowering.tensor(a) for a in node.args[:n_tensors]]
        options, alpha = node.args[n_tensors:], node.kwargs.get("alpha", 1)
        if options != defaults[: len(options)] or set(node.kwargs) - {"alpha"} or (scaled is None and alpha != 1):
            raise UnknownOperationError(f"{node.target} with {options} {dict(node.kwargs)}")
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
    low, high = option(node, 1, "min", None), option(node, 2, "max", None)
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


#: operation -> rule
POINTWISE: dict[str, Rule] = {
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
    "_to_copy": _convert,
}
