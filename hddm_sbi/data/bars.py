"""Group terms in the tree of a formula: (effects | factors), with a tag between bars, with gr(factors, by=column)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hddm_sbi.data.formulae_parts import Assign, Binary, CallExpression, Grouping, QuotedName, Variable
from hddm_sbi.errors import InputError

#: what a grouping factor is written in that has standard deviations by the levels of a column, as in brms.
_GR = "gr"


@dataclass(frozen=True)
class BarTree:
    """One group term: formulae's trees of its effects, of its factors, and of `by` in `(x|gr(subject, by=group))`.

    correlated: `|`, not `||`. tag: `p` of `(x|p|subject)`, or "". by: None where there is none.
    """

    effects: Any
    factors: Any
    correlated: bool
    tag: str
    by: Any


def split(text: str, tree: Any) -> tuple[Any, list[BarTree]]:
    """The tree without the group terms that are its summands, and those. text: the formula, for messages."""
    if not isinstance(tree, Binary) or tree.operator.kind not in ("PLUS", "MINUS"):
        return tree, []
    left, bars = split(text, tree.left)
    inner = tree.right.expression if isinstance(tree.right, Grouping) else None
    if tree.operator.kind == "PLUS" and _is_bar(inner):
        return left, [*bars, _bar(text, inner)]
    return Binary(left, tree.operator, tree.right), bars


def _is_bar(tree: Any) -> bool:
    return isinstance(tree, Binary) and tree.operator.kind == "PIPE"


def _bar(text: str, tree: Any) -> BarTree:
    factors, by = _grouping(text, tree.right)
    if not _is_bar(tree.left):
        return BarTree(tree.left, factors, tree.operator.lexeme == "|", "", by)
    effects, tag = tree.left.left, tree.left.right
    if _is_bar(effects):
        raise InputError(
            f"formula '{text}': a group term has one bar, (1|subject), or two with a tag between them, "
            "(1|p|subject); this one has more."
        )
    if not isinstance(tag, Variable) or tag.level is not None or not tag.name.lexeme.isidentifier():
        raise InputError(
            f"formula '{text}': between two bars stands a name, the tag of the terms that are correlated, as p in "
            "(1|p|subject); this is no name."
        )
    name = tag.name.lexeme
    if "||" in (tree.operator.lexeme, tree.left.operator.lexeme):
        raise InputError(
            f"formula '{text}': the tag {name!r} correlates effects, and || says that they are independent; keep one: "
            "(x|p|subject) with a tag, or (x||subject) without."
        )
    return BarTree(effects, factors, True, name, by)


def _grouping(text: str, tree: Any) -> tuple[Any, Any]:
    """The trees of the factors on the right of the bars, and of `by`, or None."""
    if not isinstance(tree, CallExpression) or not isinstance(tree.callee, Variable) or tree.callee.name.lexeme != _GR:
        return tree, None
    factors = [argument for argument in tree.args if not isinstance(argument, Assign)]
    named = [argument for argument in tree.args if isinstance(argument, Assign)]
    by = named[0].value if [argument.name.name.lexeme for argument in named] == ["by"] else None
    if len(factors) != 1 or not isinstance(by, Variable | QuotedName):
        raise InputError(
            f"formula '{text}': gr() has a grouping factor and, after by=, the column with whose levels its standard "
            "deviations differ: (1|gr(subject, by=group)); a factor without by= is written (1|subject)."
        )
    return factors[0], by
