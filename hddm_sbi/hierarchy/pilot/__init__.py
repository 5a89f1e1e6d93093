"""Quick fits before sampling: where it starts, which effects are centred, in which coordinates.

Doors: pooled, empirical_bayes, centring, start, whitening.
"""
