"""Arithmetic that Numba lacks: fast elementary functions, and the compiled kernels behind torch operators.

Doors: vecmath, operators.
"""
