"""A finished program as one Numba function, compiled once and kept on disk for the next process."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np
import torch
from numba import types
from numba.core import config
from numba.misc.appdirs import user_cache_dir
from numpy.typing import NDArray
from torch import Tensor, fx

from hddm_sbi.inference.compiler import elementary
from hddm_sbi.inference.compiler.lazy import stored
from hddm_sbi.inference.compiler.operations import lower
from hddm_sbi.inference.compiler.program import Program
from hddm_sbi.inference.compiler.schedule import schedule
from hddm_sbi.numerics import operators, vecmath
from hddm_sbi.types import Array

_reals, _wholes = types.float64[::1], types.int64[::1]
#: x, real constants, whole constants, gradient, workspace -> log density.
SIGNATURE = types.float64(_reals, _reals, _wholes, _reals, _reals)
#: modules whose functions become part of the emitted one: their text is part of the cache key.
_PARTS = (elementary, operators, vecmath)


@dataclass(frozen=True)
class Compiled:
    """A density as machine code: vector (n,) -> (number, gradient (n,)), without Python or its lock inside.

    Any number of threads may call it at once, each with its own workspace. reals, wholes: the constants it reads.
    workspace: how many intermediate numbers it writes.
    """

    function: Any
    reals: Array
    wholes: NDArray[np.int64]
    workspace: int

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Log density and gradient."""
        gradient = np.empty_like(x)
        return self.function(x, self.reals, self.wholes, gradient, np.empty(self.workspace)), gradient


def emit(graph: fx.GraphModule, values: dict[fx.Node, Any]) -> Compiled:
    """The function that a graph computes. Raises UnknownOperationError."""
    program, (log_density, gradient) = lower(graph, values)
    program.write(stored("g", 0, gradient.shape), gradient)
    function = _compiled(_source(program, log_density.element([])), program)
    reals, wholes = _joined(program.reals, np.float64), _joined(program.wholes, np.int64)
    return Compiled(function, reals, wholes, program.workspace)


def _source(program: Program, result: str) -> str:
    lines = [*schedule(program.statements), f"return {result}"]
    kinds = [f"# {name}: {kind}" for name, kind in program.function_types.items()]
    return "\n".join([*kinds, "def density(x, f, k, g, w):", *(f"    {line}" for line in lines), ""])


def _joined(pieces: Sequence[Tensor], kind: type) -> NDArray[Any]:
    return torch.cat(list(pieces)).numpy() if pieces else np.empty(0, kind)


def _compiled(source: str, program: Program) -> Any:
    """The source as a Numba function; the cache has the machine code of equal source."""
    path = _file(source)
    functions = {name: value for name, value in vars(elementary).items() if hasattr(value, "py_func")}
    # Numba resolves a cached function's globals in the module called `__name__`; run in this module's name, which
    # defines them all.
    namespace = {"__name__": __name__, "np": np, "math": math, "function_at": operators.function_at}
    namespace |= functions | program.function_types
    exec(compile(source, str(path or "<density>"), "exec"), namespace)
    function = namespace["density"]
    try:
        return nb.njit(SIGNATURE, nogil=True, error_model="numpy", cache=path is not None)(function)
    except Exception:
        # A cache that cannot be used (a full disk, a broken file) does not prevent compiling.
        return nb.njit(SIGNATURE, nogil=True, error_model="numpy")(function)


def _file(source: str) -> Path | None:
    """A file with this source, beside which Numba keeps the machine code; None where no folder can be written.

    Its name is a hash of what the machine code depends on and Numba does not look at.
    """
    texts = [Path(str(file)).read_text() for file in (__file__, *(module.__file__ for module in _PARTS))]
    parts = [source, *texts, nb.__version__]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    folder = Path(config.CACHE_DIR or user_cache_dir("hddm_sbi")) / "densities"  # type: ignore[attr-defined]
    path = folder / f"{name}.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            # Written under another name and moved, so that no other process reads half a file.
            aside = path.with_suffix(f".{os.getpid()}")
            aside.write_text(source)
            aside.replace(path)
    except OSError:
        return None
    return path
