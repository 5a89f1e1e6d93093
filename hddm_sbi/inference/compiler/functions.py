"""Functions of one or two numbers that have machine code already: those of C, and SciPy's special functions."""

from __future__ import annotations

import ctypes
from functools import cache

from llvmlite import binding

_C = "expm1 log1p exp2 log2 log10 sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh erf erfc trunc floor ceil"
#: torch's name -> SciPy's, in `scipy.special.cython_special`; "fuse" picks double precision of several.
_SCIPY = {
    "lgamma": "gammaln",
    "digamma": "__pyx_fuse_1psi",
    "erfinv": "__pyx_fuse_1erfinv",
    "special_erfcx": "__pyx_fuse_1erfcx",
    "special_log_ndtr": "__pyx_fuse_1log_ndtr",
    "special_ndtri": "ndtri",
    "i0": "i0",
    "special_i0e": "i0e",
    "special_i1": "i1",
    "special_i1e": "i1e",
    "special_bessel_j0": "j0",
    "special_bessel_j1": "j1",
}
#: torch's name -> the function's.
FUNCTIONS: dict[str, str] = {name: name for name in _C.split()} | _SCIPY


@cache
def function_address(name: str) -> int | None:
    """Where the machine code of a function lies, by torch's name; None where this computer does not have it."""
    if name not in _SCIPY:
        return binding.address_of_symbol(name)
    from scipy.special import cython_special

    capsule = getattr(cython_special, "__pyx_capi__", {}).get(_SCIPY[name])
    if capsule is None:
        return None
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    where: int | None = api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))
    return where
