"""The same model in another package: its parameters as formulas of ours, which are turned round to come back."""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hddm_sbi.errors import InputError

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
#: operator -> its left side from the result and the right side, and its right side from the result and the left side.
_TURNED: dict[type[ast.operator], tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    ast.Add: (operator.sub, operator.sub),
    ast.Sub: (operator.add, lambda result, left: left - result),
    ast.Mult: (operator.truediv, operator.truediv),
    ast.Div: (operator.mul, lambda result, left: left / result),
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": np.minimum, "sqrt": np.sqrt, "tan": np.tan}
_INVERSE: dict[str, Callable[[Any], Any]] = {"tan": np.arctan}
#: relative difference of numbers that are the same but for rounding in a table.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Counterpart:
    """The same model in another package.

    Parameters
    ----------
    model
        What that package calls it.
    parameters
        Name there -> a formula of our parameters, of `+ - * /`, `min`, `sqrt` and `tan`. Solved in a suitable order,
        each gives one of ours.
    without
        Our parameters that it lacks, and where the two models are the same: at a number, or a formula of the others.
    note
        What else must hold for that, in a few words.

    Examples
    --------
    >>> hddm = Counterpart("HDDM", {"a": "2*a", "t": "t0 + st0/2", "st": "st0"})
    >>> hddm.to({"a": 1.0, "t0": 0.25, "st0": 0.1})
    {'a': 2.0, 't': 0.3, 'st': 0.1}
    >>> hddm.back({"a": 2.0, "t": 0.3, "st": 0.1})
    {'a': 1.0, 'st0': 0.1, 't0': 0.25}
    """

    model: str
    parameters: Mapping[str, str]
    without: Mapping[str, float | str] = field(default_factory=dict)
    note: str = ""

    @property
    def ours(self) -> set[str]:
        """Our parameters that it has, or lacks."""
        return {name for formula in self.parameters.values() for name in _names(_tree(formula))} | set(self.without)

    def to(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Its parameters, from ours: numbers or arrays.

        Raises InputError where ours has what it lacks.
        """
        for name, value in self.without.items():
            if not _same(ours[name], _value(_tree(str(value)), ours)):
                only = value if isinstance(value, str) else f"{value:g}"
                raise InputError(f"{self.model!r} has no {name!r}: it can be {only} only; got {ours[name]}.")
        return {name: _value(_tree(formula), ours) for name, formula in self.parameters.items()}

    def back(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """Our parameters, from its own: numbers or arrays.

        Raises InputError where its parameters are of a law that our model does not have.
        """
        known: dict[str, Any] = {name: x for name, x in self.without.items() if not isinstance(x, str)}
        left = {name: _tree(formula) for name, formula in self.parameters.items()}
        while left:
            name = next(name for name, tree in left.items() if len(_names(tree) - known.keys()) <= 1)
            tree = left.pop(name)
            for unknown in _names(tree) - known.keys():
                known[unknown] = _solved(tree, theirs[name], known)
        known |= {name: _value(_tree(x), known) for name, x in self.without.items() if isinstance(x, str)}
        for name, value in self.to(known).items():
            if not _same(theirs[name], value):
                raise InputError(
                    f"{name} = {theirs[name]} of {self.model!r} has no counterpart here, where it is "
                    f"{self.parameters[name]} = {value}."
                )
        return known


def _tree(formula: str) -> ast.expr:
    return ast.parse(formula, mode="eval").body


def _names(tree: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - _FUNCTIONS.keys()


def _value(tree: ast.expr, at: Mapping[str, Any]) -> Any:
    """The value of a formula where its names have these."""
    match tree:
        case ast.Constant(value=number):
            return float(number)  # type: ignore[arg-type]
        case ast.Name(id=name):
            return at[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, at)
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, at), _value(right, at))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _plain(_FUNCTIONS[name](*(_value(argument, at) for argument in arguments)))
    raise AssertionError(f"no formula of a counterpart: {ast.unparse(tree)}")


def _solved(tree: ast.expr, value: Any, at: Mapping[str, Any]) -> Any:
    """The one name in a formula that is not known, where the formula has this value."""
    match tree:
        case ast.Name():
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _solved(operand, -value, at)
        case ast.BinOp(left=left, op=op, right=right):
            from_right, from_left = _TURNED[type(op)]
            if _names(left) - at.keys():
                return _solved(left, from_right(value, _value(right, at)), at)
            return _solved(right, from_left(value, _value(left, at)), at)
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return _solved(argument, _plain(_INVERSE[name](value)), at)
    raise AssertionError(f"cannot be solved: {ast.unparse(tree)}")


def _plain(value: Any) -> Any:
    """A number as a Python one; an array or a column as it is."""
    return float(value) if np.ndim(value) == 0 else value


def _same(one: Any, other: Any) -> bool:
    return bool(np.allclose(one, other, rtol=_ROUNDING, atol=_ROUNDING))
