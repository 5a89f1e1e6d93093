"""Declare a simulator and run it.

Doors: simulator, declare, outcome, python_function, moving_bounds, first_passage, wiener.
"""
