"""How a program calls an operator's kernel: by a function of one form for all, made from the kernel's arguments.

The function is compiled once for each kernel and kept on disk for the next process.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numba as nb
from numba import types
from numba.core import config
from numba.misc.appdirs import user_cache_dir

from hddm_sbi.inference.compiler import machine
from hddm_sbi.numerics import Kernel, address, function_at, plus

#: name -> function, for as long as the process lives: programs have only its address.
_ENTRIES: dict[str, Any] = {}


def kernel_entry(kernel: Kernel, given: Sequence[Any]) -> tuple[int, int]:
    """Addresses of a function of type `machine.ENTRY`, and of the kernel, which must come first in its arguments.

    given: arguments and results of the kernel: tensors in memory (on "meta"), of whole numbers, numbers, names.
    """
    kinds: list[types.Type] = []
    texts: list[str] = []
    names: dict[str, types.Type] = {}
    at = 1
    for value in given:
        if isinstance(value, str):
            kinds.append(kernel.named_type)
            names["named"] = kernel.named_type
            texts.append(f"function_at(arguments[{at}], named)")
        elif isinstance(value, bool):
            kinds.append(types.boolean)
            texts.append(f"arguments[{at}] != 0")
        elif isinstance(value, int):
            kinds.append(types.int64)
            texts.append(f"arguments[{at}]")
        elif isinstance(value, float) or value.ndim == 0:
            kinds.append(types.float64)
            texts.append(f"memory[arguments[{at}]]")
        else:
            kind, where = (types.float64, "memory") if value.is_meta else (types.int64, "wholes")
            lengths = ", ".join(f"arguments[{at + 1 + d}]" for d in range(value.ndim))
            kinds.append(types.Array(kind, value.ndim, "C"))
            texts.append(f"carray(plus({where}, arguments[{at}]), ({lengths},))")
            at += value.ndim
        at += 1
    signature = types.void(*kinds)
    names["kernel"] = types.FunctionType(signature)
    call = f"function_at(arguments[0], kernel)({', '.join(texts)})"
    body = f"# {signature}\n    {call}\n"
    # Machine code is found by the function's name: two processes that fill one cache must not give it to two functions.
    name = f"enter_{hashlib.sha256(body.encode()).hexdigest()[:32]}"
    if name not in _ENTRIES:
        _ENTRIES[name] = _compiled(name, f"def {name}(memory, wholes, arguments):\n    {body}", names)
    return address(_ENTRIES[name], machine.ENTRY.signature), address(kernel.function, signature)


def _compiled(name: str, source: str, types_by_name: dict[str, types.Type]) -> Any:
    """The source as a Numba function; the cache has the machine code of equal source."""
    path = _file(name, source)
    # Numba resolves a cached function's globals in the module called `__name__`.
    namespace: dict[str, Any] = {"__name__": __name__, "function_at": function_at, "plus": plus}
    namespace |= {"carray": nb.carray, **types_by_name}  # type: ignore[attr-defined]
    exec(compile(source, str(path or "<kernel entry>"), "exec"), namespace)
    compiled = nb.njit(machine.ENTRY.signature, nogil=True, error_model="numpy", cache=path is not None)
    return compiled(namespace[name])


def _file(name: str, source: str) -> Path | None:
    """A file with this source, beside which Numba keeps the machine code; None where no folder can be written."""
    folder = Path(config.CACHE_DIR or user_cache_dir("hddm_sbi")) / "kernels"  # type: ignore[attr-defined]
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
