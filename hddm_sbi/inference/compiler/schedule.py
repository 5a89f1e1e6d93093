"""Statements of a program, grouped into shared loops."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

Shape = tuple[int, ...]

#: where an element or a piece of the workspace begins, its offset first; a variable.
_ELEMENT = re.compile(r"\bw\[(\d+)")
_VARIABLE = re.compile(r"\bs\d+\b")


@dataclass(frozen=True)
class Statement:
    """Lines inside loops over all indices of a shape, written with i0, i1, ... for the indices.

    buffer: offset in the workspace -> the buffer it belongs to. alone: shares its loops with no other statement,
    because it depends on their order or calls a kernel. part: assigns to a part of a buffer, of which other statements
    assign the other parts.
    """

    shape: Shape
    lines: tuple[str, ...]
    buffer: Callable[[int], int]
    alone: bool = False
    part: bool = False

    @cached_property
    def elements(self) -> dict[int, set[str]]:
        """Buffer of the workspace -> its elements that the statement reads or writes, as source text."""
        found: dict[int, set[str]] = {}
        for line in self.lines:
            for match in _ELEMENT.finditer(line):
                element = line[match.start() : _end(line, match.end())]
                found.setdefault(self.buffer(int(match[1])), set()).add(element)
        return found

    @cached_property
    def variables(self) -> set[str]:
        """Variables that it reads or assigns to."""
        return set(_VARIABLE.findall("\n".join(self.lines)))

    @cached_property
    def target(self) -> str:
        """The element or variable that it assigns to, as source text."""
        return re.split(r" [-+*/]?= ", self.lines[0], maxsplit=1)[0]

    @cached_property
    def assigned(self) -> int | str:
        """The buffer or variable it assigns to."""
        match = _ELEMENT.match(self.target)
        return self.target if match is None else self.buffer(int(match[1]))

    def independent(self, other: Statement) -> bool:
        """Whether either may come first: neither reads or writes what the other writes."""
        if self.alone or other.alone:
            return not (self.variables & other.variables or self.elements.keys() & other.elements.keys())
        return self._other_part(other) or not (self.touches(other.assigned) or other.touches(self.assigned))

    def touches(self, what: int | str) -> bool:
        """Whether it reads or assigns to a buffer or variable."""
        return what in (self.variables if isinstance(what, str) else self.elements)

    def may_join(self, other: Statement) -> bool:
        """Whether both may share a loop nest: neither reads or writes, at another index, what the other writes."""
        if self.alone or other.alone or self.shape != other.shape:
            return False
        return not self.shape or self._other_part(other) or (self._in_step(other) and other._in_step(self))

    def _other_part(self, other: Statement) -> bool:
        if not (self.part and other.part and self.assigned == other.assigned):
            return False
        values = [statement.lines[0].partition(" = ")[2] for statement in (self, other)]
        return not any(other.target in value or self.target in value for value in values)

    def _in_step(self, other: Statement) -> bool:
        every_time_another = all(re.search(rf"\bi{d}\b", self.target) for d in range(len(self.shape)))
        if isinstance(self.assigned, str) or not every_time_another:
            return not other.touches(self.assigned)
        return self.elements[self.assigned] | other.elements.get(self.assigned, set()) == {self.target}


def _end(line: str, position: int) -> int:
    """Position after the bracket that closes the one open at a position."""
    depth = 1
    while depth:
        depth += {"[": 1, "]": -1}.get(line[position], 0)
        position += 1
    return position


def schedule(statements: Iterable[Statement]) -> list[str]:
    """Source lines: each statement in the loops of an earlier one if it may join them, else in new loops."""
    groups: list[list[Statement]] = []
    for statement in statements:
        for group in reversed(groups):
            if all(statement.may_join(member) for member in group):
                group.append(statement)
                break
            if not all(statement.independent(member) for member in group):
                groups.append([statement])
                break
        else:
            groups.append([statement])
    return [line for group in groups for line in _loops(group)]


def _loops(group: Sequence[Statement]) -> list[str]:
    lines, depth = [], len(group[0].shape)
    for d, n in enumerate(group[0].shape):
        lines.append(f"{'    ' * d}for i{d} in range({n}):")
    return lines + [f"{'    ' * depth}{line}" for statement in group for line in statement.lines]
