"""A small compiler: the operations of a density become a program, which one machine runs without Python.

`recorder` watches torch evaluate the density once; `operations` (with `functions` and `kernel_entry`) says what each
operation becomes; `program` holds the instructions and their memory; `machine`, compiled once, runs them.
"""
