"""The interface of nutpie that takes C functions: a compiled density, and draws written down as they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray, cfunc, types  # type: ignore[attr-defined]
from numpy.typing import NDArray
from nutpie import _lib
from nutpie.sample import CompiledModel

from hddm_sbi.inference.compiler.emit import SIGNATURE, Compiled
from hddm_sbi.inference.coordinates import Whitening, unwhiten, whiten_gradient
from hddm_sbi.numerics.operators import address, function_at, memory_at
from hddm_sbi.types import Array

# What the C functions are told, as whole numbers: where the density's machine code lies, where its constants, its
# workspace and the map of the coordinates lie and how long they are, where x and its gradient may be kept, where draws
# are written, and how many have been.
_CODE, _REALS, _N_REALS, _WHOLES, _N_WHOLES, _WORKSPACE, _N_WORKSPACE = range(7)
_ROWS, _N_ROWS, _COLUMNS, _N_COLUMNS, _ENTRIES, _N_ENTRIES, _X, _N_X, _BY_X, _N_BY_X, _DRAWS, _MADE, _FACTS = range(
    7, 20
)
_DENSITY = types.FunctionType(SIGNATURE)
_NUMBERS = types.CPointer(types.float64)
#: codes after which nutpie gives up a trajectory, not the chain.
_BAD_GRADIENT, _BAD_VALUE = 3, 4


@cfunc(types.int64(types.uint64, _NUMBERS, _NUMBERS, _NUMBERS, types.voidptr), cache=True)
def _evaluate(n, y_at, gradient_at, value_at, facts_at):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    facts = carray(facts_at, (_FACTS,), np.int64)
    y, gradient = carray(y_at, (n,)), carray(gradient_at, (n,))
    x = carray(memory_at(facts[_X]), (n,), np.float64)  # type: ignore[call-arg]
    by_x = carray(memory_at(facts[_BY_X]), (n,), np.float64)
    rows = carray(memory_at(facts[_ROWS]), (n + 1,), np.int64)
    columns = carray(memory_at(facts[_COLUMNS]), (facts[_N_COLUMNS],), np.int64)
    entries = carray(memory_at(facts[_ENTRIES]), (facts[_N_ENTRIES],), np.float64)
    reals = carray(memory_at(facts[_REALS]), (facts[_N_REALS],), np.float64)
    wholes = carray(memory_at(facts[_WHOLES]), (facts[_N_WHOLES],), np.int64)
    workspace = carray(memory_at(facts[_WORKSPACE]), (facts[_N_WORKSPACE],), np.float64)
    density = function_at(facts[_CODE], _DENSITY)
    unwhiten(rows, columns, entries, y, x)
    value = density(x, reals, wholes, by_x, workspace)
    whiten_gradient(rows, columns, entries, by_x, gradient)
    carray(value_at, (1,))[0] = value
    if not np.isfinite(value):
        return _BAD_VALUE
    for slope in gradient:
        if not np.isfinite(slope):
            return _BAD_GRADIENT
    return 0


@cfunc(types.int64(types.uint64, types.uint64, _NUMBERS, _NUMBERS, types.voidptr), cache=True)
def _record(n, n_expanded, y_at, expanded_at, facts_at):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    facts = carray(facts_at, (_FACTS,), np.int64)
    rows = carray(memory_at(facts[_ROWS]), (n + 1,), np.int64)  # type: ignore[call-arg]
    columns = carray(memory_at(facts[_COLUMNS]), (facts[_N_COLUMNS],), np.int64)
    entries = carray(memory_at(facts[_ENTRIES]), (facts[_N_ENTRIES],), np.float64)
    to = carray(memory_at(facts[_DRAWS] + 8 * n * facts[_MADE]), (n,), np.float64)
    unwhiten(rows, columns, entries, carray(y_at, (n,)), to)
    facts[_MADE] += 1
    carray(expanded_at, (1,))[0] = facts[_MADE]
    return 0


@dataclass(frozen=True)
class NativeModel(CompiledModel):
    """One chain's model as nutpie takes it: what it made of our C functions, and what they are told."""

    n: int
    told: NDArray[np.int64]
    made_of: Any

    @property
    def n_dim(self) -> int:
        """Length of a draw."""
        return self.n

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of what nutpie itself stores: the number of the draw, because draws are kept here."""
        return {"number": ()}

    @property
    def coords(self) -> dict[str, Any]:
        """None."""
        return {}

    def _make_sampler(self, settings: Any, init_mean: Any, cores: int, *rest: Any) -> Any:
        return _lib.PySampler.from_pymc(settings, cores, self.made_of, *rest)


class NativeChain:
    """A compiled density for one chain of nutpie, in whitened coordinates. draws: (steps, n), unconstrained, filled as
    they are made. initial: whitened starting point of a seed.

    Raises AttributeError or TypeError where nutpie takes its C functions in another way.
    """

    def __init__(self, density: Compiled, whitening: Whitening, steps: int, initial: Callable[[int], Array]) -> None:
        n = whitening.size
        self.draws = np.empty((steps, n))
        self.failure: Exception | None = None
        # Every gradient in the same memory: to ask the system for it anew takes longer than to use it.
        its_own = density.reals, density.wholes, np.empty(density.workspace)
        coordinates = whitening.row_starts, whitening.columns, whitening.entries, np.empty(n), np.empty(n)
        memory = *its_own, *coordinates
        places = [number for array in memory for number in (array.ctypes.data, len(array))]
        told = np.array([address(density.function, SIGNATURE), *places, self.draws.ctypes.data, 0], np.int64)
        kept_alive = density, memory, told, self.draws
        variables = _lib.PyVariable.new_variables(["number"], ["float64"], [()], {}, {})
        value = _lib.LogpFunc(_evaluate.address, told.ctypes.data, kept_alive)
        record = _lib.ExpandFunc(n, 1, _record.address, told.ctypes.data, kept_alive)
        made_of = _lib.PyMcModel(value, record, variables, n, {}, {}, initial, None)
        self.model = NativeModel({}, n, told, made_of)

    @property
    def made(self) -> int:
        """Draws made so far."""
        return int(self.model.told[_MADE])
