"""Simulations -> weights, and how good they are.

Doors: train, further, shipped, accuracy, held_out, ranks.
"""
