"""Simulations -> weights, and how good they are.

Doors: train, shipped, accuracy, held_out, ranks.
"""
