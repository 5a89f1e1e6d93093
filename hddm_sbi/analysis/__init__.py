"""What one asks of a fit: predictions, hypotheses, comparison, calibration, recovery.

Doors: predictions, comparisons, hypothesis, predictive_data, predictive, comparison, calibration, shrinkage, experiment.
"""
