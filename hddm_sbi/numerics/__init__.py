"""Arithmetic that Numba lacks: fast elementary functions, and the compiled kernels behind torch operators.

Doors: vecmath, operators. All else is imported from here, and loaded on first use. The cache of kernels
(`kernel_cache`) is in place before the first one is compiled.
"""

import lazy_loader

from hddm_sbi.numerics import kernel_cache as kernel_cache

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
