"""Right-hand side of a formula -> trees of its common terms and its group terms, with errors that show where."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from hddm_sbi.data.bars import split
from hddm_sbi.data.formulae_parts import (
    ENCODINGS,
    Binary,
    Call,
    Intercept,
    Literal,
    Model,
    NegatedIntercept,
    ParseError,
    Parser,
    Resolver,
    ScanError,
    Scanner,
    Token,
)
from hddm_sbi.data.functions import ROW, check_calls, depends_on
from hddm_sbi.data.special_terms import take_special
from hddm_sbi.errors import InputError

#: columns that a formula of all accumulators of a race has beside those of the table.
MATCH, CHOICE = "match", "choice"
OWN = (MATCH, CHOICE)
#: the highest order of the interactions of (a + b)**order.
_ORDERS = 10
_HINTS = {
    "^": "powers are written I(x**2)",
    "_": "put column names that start with _ in backticks",
    "|": "a group term is written in parentheses: (1|subject)",
}


@dataclass(frozen=True)
class Bar:
    """A group term (effects | factors): formulae's model of its effects, and the columns of every grouping factor.

    `(1|a/b)` has the factors `a` and `a:b`; `||` is not correlated. tag: `p` of `(1|p|a)`, whose effects are correlated
    with those of other terms of that tag, or "". by: `b` of `(1|gr(a, by=b))`, a column with whose levels standard
    deviations and correlations differ, or "".
    """

    effects: Any
    factors: tuple[tuple[str, ...], ...]
    correlated: bool
    tag: str = ""
    by: str = ""

    @property
    def grouping(self) -> str:
        """What stands on the right of the bars, written out: `a + a:b`, `gr(a, by=b)`."""
        factors = " + ".join(":".join(columns) for columns in self.factors)
        return f"gr({factors}, by={self.by})" if self.by else factors


@dataclass(frozen=True)
class Formula:
    """A parsed formula: formulae's model of its common terms, its group terms, and its data columns, by first use.

    parameters: that it is the formula of; those of all accumulators of a race where `parameter` is their stem.
    own: the columns that it has of the accumulators, `match` and `choice`. along: covariates that it has of sequences.
    scope: what terms depend on, of every column that is not just a grouping factor: LEVELS of a column in C(), TABLE of
    one in scale(); a column that stands by itself depends on its levels where it is a factor.
    special: its common terms that are not columns times coefficients, offset(x), mo(x) and s(x).
    """

    parameter: str
    rhs: str
    common: Any
    bars: tuple[Bar, ...]
    columns: tuple[str, ...]
    parameters: tuple[str, ...]
    own: tuple[str, ...] = ()
    scope: Mapping[str, int] = field(default_factory=dict)
    special: tuple[Any, ...] = ()
    along: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.parameter} ~ {self.rhs}"

    def varies_with(self, columns: Iterable[str]) -> bool:
        """Whether its parameter may differ between values of one of the columns; where it differs between accumulators,
        it may with the stimulus, which no formula names."""
        return bool(self.own) or any(name in self.columns for name in columns)


def parse(parameter: str, rhs: str, accumulators: tuple[str, ...] = (), sequences: Sequence[str] = ()) -> Formula:
    """Parse and check the right-hand side of one parameter's formula.

    accumulators: the parameters of all accumulators, where `parameter` is their stem. sequences: names of covariates
    that are computed along trials.

    >>> formula = parse("v", "condition + (x || subject/day)")
    >>> formula.columns, formula.bars[0].factors
    (('condition', 'x', 'subject', 'day'), (('subject',), ('subject', 'day')))
    >>> parse("v", "condition + (1|subject")
    Traceback (most recent call last):
    hddm_sbi.errors.InputError: the formula of 'v' cannot be read: a parenthesis is not closed.
      v ~ condition + (1|subject
                                ^
    """
    tokens = _tokens(parameter, rhs)
    parser = Parser([Token("NUMBER", "1", 1), Token("PLUS", "+"), *tokens])
    try:
        tree = parser.parse()
    except ParseError as error:
        reason = "a parenthesis is not closed" if parser.at_end() and "Expect" in str(error) else ""
        if "assignment" in str(error):
            reason = "a fixed value is written with = instead of ~"
        raise _stopped(parameter, rhs, tokens, parser.current - 2, reason) from None
    if not parser.at_end():
        # formulae itself would ignore the rest of the formula.
        raise _stopped(parameter, rhs, tokens, parser.current - 2)
    text = f"{parameter} ~ {rhs}"
    common, bars = split(text, tree)
    for part in (common, *(side for bar in bars for side in (bar.effects, bar.factors))):
        _check_operators(text, part)
    models = [_model(text, common)]
    effect_models, found = [models[0]], []
    for bar in bars:
        effects, factors = _model(text, _with_intercept(bar.effects)), _model(text, bar.factors)
        by = [] if bar.by is None else [_model(text, bar.by)]
        models += [effects, factors, *by]
        effect_models.append(effects)
        named = "".join(column for model in by for (column,) in _factors(text, model))
        found.append(Bar(effects, _factors(text, factors), bar.correlated, bar.tag, named))
    columns: dict[str, None] = {}
    for component in (c for model in models for c in _components(model)):
        _check_component(parameter, text, component)
        columns.update(dict.fromkeys(sorted(name for name in component.var_names if name and name not in ENCODINGS)))
    scope: dict[str, int] = {}
    for component in (c for model in effect_models for c in _components(model)):
        for name in columns.keys() & component.var_names:
            scope[name] = max(scope.get(name, ROW), depends_on(component))
    own = tuple(name for name in OWN if accumulators and name in columns)
    along = tuple(name for name in sequences if name in columns)
    _check_factors(text, found, (*own, *along))
    _check_along(text, models, along)
    for name in (*own, *along):
        columns.pop(name)
        scope.pop(name, None)
    common, special = take_special(text, models[0], effect_models[1:])
    names = accumulators or (parameter,)
    return Formula(parameter, rhs, common, tuple(found), tuple(columns), names, own, scope, special, along)


def _tokens(parameter: str, rhs: str) -> list[Any]:
    """Tokens of a formula; `||`, which formulae does not know, is one of them."""
    if "~" in rhs:
        raise _syntax_error(parameter, rhs, rhs.index("~"), "a formula has one ~; several formulas are given as a list")
    scanner = Scanner(rhs)
    try:
        scanned = scanner.scan(add_intercept=False)
    except (ScanError, IndexError):
        # IndexError: formulae runs past the end of a backtick that is not closed.
        found = rhs[scanner.start]
        reason = f"{found} is not closed" if found in "'\"`" else _unexpected(found)
        raise _syntax_error(parameter, rhs, scanner.start, reason) from None
    tokens: list[Any] = []
    for token in scanned:
        if token.kind == "PIPE" and tokens and tokens[-1].lexeme == "|":
            tokens[-1] = Token("PIPE", "||")
        else:
            tokens.append(token)
    return tokens


def _with_intercept(tree: Any) -> Any:
    """`1 + tree`, read from the left, so that a 0 or a -1 further right takes the intercept away again."""
    if isinstance(tree, Binary) and tree.operator.kind in ("PLUS", "MINUS"):
        return Binary(_with_intercept(tree.left), tree.operator, tree.right)
    return Binary(Literal(1), Token("PLUS", "+"), tree)


def _model(text: str, tree: Any) -> Any:
    """formulae's model of a tree, lower orders first, so that factors are coded as in R.

    Each term is a copy: formulae lets `a` and `a:b` share a component, and one's coding overwrites the other's.
    """
    try:
        resolved = Resolver(tree).resolve()
    except Exception as error:
        if "no attribute 'callee'" in str(error):
            # formulae 0.9 compares log(x) with x, as LazyCall.__eq__ asks for no type.
            raise InputError(
                f"formula '{text}': two terms call the same function, one of them with another function inside, which "
                "formulae cannot tell apart; compute that one as a column of the table."
            ) from None
        raise InputError(
            f"formula '{text}': these terms cannot be combined; 0 and 1 are summands (0 + x), and arithmetic and "
            "comparisons of columns stand inside I(): I(x / 2), I(x == 2)."
        ) from None
    terms = resolved.common_terms if isinstance(resolved, Model) else [resolved]
    terms = [deepcopy(term) for term in terms if not isinstance(term, NegatedIntercept)]
    return Model(*sorted(terms, key=lambda term: 0 if isinstance(term, Intercept) else len(term.components)))


def _factors(text: str, model: Any) -> tuple[tuple[str, ...], ...]:
    """Columns of every grouping factor on the right of a bar."""
    for term in model.common_terms:
        if isinstance(term, Intercept) or any(isinstance(component, Call) for component in term.components):
            raise InputError(
                f"formula '{text}': {term.name!r} is not a grouping factor; on the right of | stand columns: "
                "(1|subject), (1|subject:session), (1|subject/session)."
            )
    return tuple(tuple(component.name for component in term.components) for term in model.common_terms)


def _check_factors(text: str, bars: Sequence[Bar], own: tuple[str, ...]) -> None:
    """Refuse accumulators and covariates of sequences as groups."""
    columns = {column for bar in bars for factor in (*bar.factors, (bar.by,)) for column in factor}
    for name in (name for name in own if name in columns):
        what = "tells accumulators apart" if name in OWN else "is a number for every trial"
        raise InputError(
            f"formula '{text}': {name!r} {what}, which are no groups; effects of it that differ between subjects are "
            f"written (0 + {name}|subject)."
        )


def _check_along(text: str, models: Sequence[Any], along: tuple[str, ...]) -> None:
    """Refuse covariates of sequences where they are not a column times a coefficient, and as groups."""
    for term in (term for model in models for term in model.common_terms if not isinstance(term, Intercept)):
        within = [c.var_names & {*along} for c in term.components]
        for component, names in zip(term.components, within, strict=True):
            if names and isinstance(component, Call):
                raise InputError(
                    f"formula '{text}': {component.name} is a function of {min(names)!r}, which is computed anew for "
                    "every draw; let its rule return that function of it, as a sequence of its own."
                )
        if sum(map(len, within)) > 1:
            raise InputError(
                f"formula '{text}': {term.name} is a product of two sequences; write one rule that returns it."
            )


def is_intercept(term: Any) -> bool:
    """Whether a term is the intercept, and not a column that is called so."""
    return isinstance(term, Intercept)


def _components(model: Any) -> Iterator[Any]:
    for term in model.common_terms:
        yield from () if isinstance(term, Intercept) else term.components


def _check_operators(text: str, tree: Any) -> None:
    """Refuse operators that formulae would read as something else than was meant."""
    operator = tree.operator.kind if isinstance(tree, Binary) else ""
    if operator == "PIPE":
        raise InputError(
            f"formula '{text}': a group term is written in parentheses and added with +, as in 1 + (1|subject)."
        )
    if operator == "STAR_STAR" and not isinstance(getattr(tree.left, "expression", None), Binary):
        # formulae reads x**2 as x.
        raise InputError(f"formula '{text}': powers of a column are written I(x**2); (a + b)**2 is for terms.")
    if operator == "STAR_STAR" and getattr(tree.right, "value", None) not in range(1, _ORDERS + 1):
        raise InputError(f"formula '{text}': the power of terms must be a whole number from 1 to {_ORDERS}.")
    for child in (getattr(tree, name, None) for name in ("left", "right", "expression")):
        if child is not None:
            _check_operators(text, child)


def _check_component(parameter: str, text: str, component: Any) -> None:
    """Refuse functions, numbers and levels that have no place in a linear predictor."""
    if isinstance(component, Call):
        check_calls(text, component)
    elif not isinstance(component.name, str):
        raise InputError(
            f"formula '{text}': the number {component.name} is not a term; to hold {parameter} at a value "
            f"write {parameter} = {component.name}."
        )
    elif component.reference is not None:
        raise InputError(
            f"formula '{text}': {component.name}[...] is not a term; to choose the reference level write "
            f"T({component.name}, '{component.reference}')."
        )


def _stopped(parameter: str, rhs: str, tokens: list[Any], index: int, reason: str = "") -> InputError:
    """The error for a formula that cannot be read from token `index` on."""
    position = 0
    for token in tokens[:index]:
        position = max(rhs.find(token.lexeme, position), position) + len(token.lexeme)
    found = tokens[index].lexeme
    before = tokens[index - 1].kind if index > 0 else ""
    if before == "PIPE" and found in ("", ")"):
        reason = "the group term has no factor; write (1|subject)"
    elif before == "LEFT_PAREN" and found.startswith("|"):
        reason = "the group term has no effect; write (1|subject)"
    if not found:
        return _syntax_error(parameter, rhs, len(rhs), reason or "it ends too early")
    return _syntax_error(parameter, rhs, max(rhs.find(found, position), position), reason or _unexpected(found))


def _unexpected(found: str) -> str:
    hint = _HINTS.get(found[0])
    return f"unexpected {found!r}" + (f" ({hint})" if hint else "")


def _syntax_error(parameter: str, rhs: str, position: int, reason: str) -> InputError:
    start = f"{parameter} ~ "
    caret = " " * (len(start) + position) + "^"
    return InputError(f"the formula of {parameter!r} cannot be read: {reason}.\n  {start}{rhs}\n  {caret}")
