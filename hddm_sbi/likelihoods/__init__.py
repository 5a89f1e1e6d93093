"""log p(outcomes | theta) behind one protocol: exact, learned, or solved on a grid.

Doors: likelihood, decision, catalogue, exact, numerical, card, scores, checkpoint.
"""
