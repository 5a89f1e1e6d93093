"""A table of trials and formulas -> cells and design matrices.

Doors: trials, formula, design.
"""
