"""Any Pyro model -> a compiled log density -> draws. Knows no hierarchy and no decision model.

Doors: density, sampling, coordinates, inference_data, approximation.
"""
