"""Arithmetic that Numba lacks: fast elementary functions, and the compiled kernels behind torch operators.

Doors: vecmath, operators. Their cache (`kernel_cache`) is in place before the first kernel is compiled.
"""

from hddm_sbi.numerics import kernel_cache as kernel_cache
