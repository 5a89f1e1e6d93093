"""What one asks of a fit: predictions, comparison, calibration, recovery.

Doors: predictive, comparison, calibration, shrinkage, experiment.
"""
