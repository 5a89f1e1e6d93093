"""A small compiler: the recorded operations of a density become one Numba function.

In the order in which a density passes through them: `graph` records and folds, `lowering` walks over the graph,
`operations` is the one table of what each operation becomes (rules in `pointwise`, `views`, `sums`, `indexing`), `lazy`
and `program` hold what there is so far, `schedule` gathers loops, `emit` makes machine code.
"""
