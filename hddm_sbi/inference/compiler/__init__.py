"""A small compiler: the recorded operations of a density become one Numba function.

In the order of the passes: `graph` records and simplifies; `lowering` walks over the graph with the table in
`operations` (rules in `pointwise`, `views`, `sums`, `indexing`); `lazy` has tensors that are not computed yet,
`program` the statements written so far; `schedule` joins loops; `emit` makes machine code.
"""
