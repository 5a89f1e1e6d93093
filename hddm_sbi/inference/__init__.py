"""Any Pyro model -> a compiled log density -> draws. Knows no hierarchy and no decision model.

Doors: density, sampling, nuts, coordinates, inference_data, approximation.
"""
