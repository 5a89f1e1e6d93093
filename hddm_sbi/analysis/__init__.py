"""What one asks of a fit: predictions, hypotheses, certificate, comparison, calibration, recovery.

Doors: predictions, comparisons, hypothesis, certificate, predictive, comparison, calibration, shrinkage, experiment.
"""
