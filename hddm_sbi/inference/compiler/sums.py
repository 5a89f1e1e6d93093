"""Rules of reductions, running totals, products of matrices and triangular systems."""

from __future__ import annotations

from torch import fx

from hddm_sbi.inference.compiler.lazy import START, Index, Lazy, literal, number, variable
from hddm_sbi.inference.compiler.lowering import Lowering, Rule, dims_of, option


def _reduction(how: str) -> Rule:
    def rule(lowering: Lowering, node: fx.Node) -> Lazy:
        tensor = lowering.tensor(node.args[0])
        keep = len(lowering.shape(node)) == len(tensor.shape)
        return lowering.program.reduce(tensor, dims_of(node, 1, len(tensor.shape)), keep, how)

    return rule


def _mean(lowering: Lowering, node: fx.Node) -> Lazy:
    total = _reduction("sum")(lowering, node)
    many = lowering.tensor(node.args[0]).size // max(total.size, 1)
    return Lazy(total.shape, lambda i: f"({total.element(i)} / {literal(many)})")


def _running(how: str) -> Rule:
    """Running sum or product along a dimension."""

    def rule(lowering: Lowering, node: fx.Node) -> Lazy:
        tensor, program = lowering.tensor(node.args[0]), lowering.program
        dim, to = int(option(node, 1, "dim", 0)) % len(tensor.shape), program.copy(tensor)
        before, after = to.slice(dim, 0, to.shape[dim] - 1), to.slice(dim, 1, to.shape[dim])
        program.loop(after.shape, lambda i: [f"{after.element(i)} {how}= {before.element(i)}"], alone=True)
        return to

    return rule


def _extreme(comparison: str) -> Rule:
    """Largest or smallest along a dimension and, in the second result, where it is."""

    def rule(lowering: Lowering, node: fx.Node) -> tuple[Lazy, Lazy]:
        program, tensor = lowering.program, lowering.program.store(lowering.tensor(node.args[0]))
        dim = int(option(node, 1, "dim", 0)) % len(tensor.shape)
        best = program.copy(tensor.slice(dim, 0, 1))
        where = program.copy(number("0.0", best.shape))

        def body(i: Index) -> list[str]:
            to = [*i[:dim], START, *i[dim + 1 :]]
            return [
                f"if {tensor.element(i)} {comparison} {best.element(to)}:",
                f"    {best.element(to)}, {where.element(to)} = {tensor.element(i)}, {i[dim]}",
            ]

        program.loop(tensor.shape, body, alone=True)
        shape = tuple(lowering.values[node][0].shape)
        return best.squeezed(shape), where.squeezed(shape)

    return rule


def _product(lowering: Lowering, node: fx.Node) -> Lazy:
    """Products of matrices and vectors, or of batches: sums over the last dimension of a and the next to last of b."""
    a, b = (lowering.program.store(lowering.tensor(x)) for x in node.args[:2])
    batch = len(a.shape) == 3
    rows, columns = a.shape[:-1], b.shape[2:] if batch else b.shape[1:]
    inner = len(rows) + len(columns)

    def term(i: Index) -> str:
        first = [*i[: len(rows)], i[inner]]
        second = [*(i[:1] if batch else []), i[inner], *i[len(rows) : inner]]
        return f"{a.element(first)} * {b.element(second)}"

    terms = Lazy((*rows, *columns, a.shape[-1]), term)
    return lowering.program.reduce(terms, [inner], False, "sum")


def _solve_triangular(lowering: Lowering, node: fx.Node) -> Lazy:
    """X with A X = B, or X A = B where `left` is false, row after row."""
    program, shape = lowering.program, lowering.shape(node)
    whole = [program.store(lowering.tensor(x)) for x in node.args[:2]]
    a, b = (program.broadcast(x, (*shape[:-2], *x.shape[-2:])) for x in whole)
    upper, left = node.kwargs["upper"], node.kwargs.get("left", True)
    if not left:
        last = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        a, b, upper = a.permute(last), b.permute(last), not upper
    x = program.copy(b)
    n = a.shape[-1]

    def body(i: Index) -> list[str]:
        *batch, row, column = i
        r, j = row * -1 + (n - 1) if upper else row, variable("j")
        at = x.element([*batch, r, column])
        lines = [
            f"for j in range({f'{r + 1}, {n}' if upper else f'0, {r}'}):",
            f"    {at} -= {a.element([*batch, r, j])} * {x.element([*batch, j, column])}",
        ]
        return lines if node.kwargs.get("unitriangular") else [*lines, f"{at} /= {a.element([*batch, r, r])}"]

    program.loop(x.shape, body, alone=True)
    return x if left else x.permute(last)


#: operation -> rule
SUMS: dict[str, Rule] = {
    "sum": _reduction("sum"),
    "mean": _mean,
    "prod": _reduction("prod"),
    "amax": _reduction("amax"),
    "amin": _reduction("amin"),
    "any": _reduction("any"),
    "cumsum": _running("+"),
    "cumprod": _running("*"),
    "max.dim": _extreme(">"),
    "min.dim": _extreme("<"),
    "dot": _product,
    "mv": _product,
    "mm": _product,
    "bmm": _product,
    "linalg_solve_triangular": _solve_triangular,
}
