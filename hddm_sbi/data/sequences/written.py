"""A sequence of a shipped rule as the command line has it: `dq = delta_rule(feedback, response, by=[a, b])`."""

from __future__ import annotations

import ast

from hddm_sbi.data.sequences.rules import RULES
from hddm_sbi.data.sequences.sequence import Sequence
from hddm_sbi.errors import InputError

_EXAMPLE = "'dq = delta_rule(feedback, response, by=[subject, pair])'"


def read_sequence(written: str) -> tuple[str, Sequence]:
    """The name of a covariate and its sequence. Nothing is evaluated: a rule has names, numbers and lists of them.

    >>> read_sequence("dq = delta_rule(feedback, response, by=[subject, pair], start=0)")
    ('dq', Sequence(delta_rule by subject, pair: feedback, response; alpha))
    """
    name, equals, call = (part.strip() for part in written.partition("="))
    try:
        tree = ast.parse(call, mode="eval").body
    except (SyntaxError, ValueError):
        tree = None
    if not (equals and name.isidentifier() and isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)):
        raise InputError(f"a sequence is written NAME = RULE(...), as in {_EXAMPLE}; got {written!r}.")
    rule = tree.func.id
    if rule not in RULES:
        raise InputError(
            f"{rule!r} is not a rule that comes with hddm_sbi; expected one of {', '.join(sorted(RULES))}."
        )
    given = [_plain(written, each) for each in tree.args]
    named = {str(each.arg): _plain(written, each.value) for each in tree.keywords if each.arg is not None}
    try:
        return name, RULES[rule](*given, **named)
    except TypeError as error:
        raise InputError(f"the sequence {written!r} cannot be read: {error}; see help(hs.{rule}).") from None


def _plain(written: str, node: ast.expr) -> object:
    """A name or text as a text, a number, or a list of these."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.List | ast.Tuple):
        return [_plain(written, each) for each in node.elts]
    try:
        value = ast.literal_eval(node)
    except ValueError:
        value = None
    if isinstance(value, str | int | float):
        return value
    raise InputError(
        f"the sequence {written!r} cannot be read at {ast.unparse(node)!r}: an argument is a name, a number, or a list "
        "of them in brackets; a name with spaces stands in quotes."
    )
