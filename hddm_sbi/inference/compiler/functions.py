"""Functions of one or two numbers that have machine code already: those of C, and SciPy's special functions."""

from __future__ import annotations

import ctypes
import re
from functools import cache

from llvmlite import binding

_C = [
    *("exp2", "expm1", "log2", "log10", "log1p", "hypot", "trunc", "floor", "ceil", "erf", "erfc"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
]
#: torch's name -> SciPy's, in `scipy.special.cython_special`.
_SCIPY = {
    "lgamma": "gammaln",
    "digamma": "psi",
    "erfinv": "erfinv",
    "special_erfcx": "erfcx",
    "special_log_ndtr": "log_ndtr",
    "special_ndtri": "ndtri",
    "i0": "i0",
    "special_i0e": "i0e",
    "special_i1": "i1",
    "special_i1e": "i1e",
    "special_bessel_j0": "j0",
    "special_bessel_j1": "j1",
}
#: torch's names of them.
FUNCTIONS = [*_C, *_SCIPY]


@cache
def function_address(name: str) -> int | None:
    """Where the machine code of a function lies, by torch's name; None where this computer does not have it."""
    if name not in _SCIPY:
        return binding.address_of_symbol(name)
    from scipy.special import cython_special

    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    for key, capsule in getattr(cython_special, "__pyx_capi__", {}).items():
        # One function for each type of number, "__pyx_fuse_1psi": that of real numbers in double precision is wanted.
        if re.sub(r"^__pyx_fuse_\d+", "", key) == _SCIPY[name]:
            signature = api.PyCapsule_GetName(capsule)
            if signature.startswith(b"double (double, int") or signature == b"double (double)":
                return int(api.PyCapsule_GetPointer(capsule, signature))
    return None
