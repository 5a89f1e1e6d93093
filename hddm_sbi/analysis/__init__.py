"""What one asks of a fit: predictions, hypotheses, comparison, calibration, recovery.

Doors: predictions, comparisons, hypothesis, predictive, comparison, calibration, shrinkage, experiment.
"""
