"""Any estimator of sbi as a likelihood and as a Pyro distribution.

Doors: likelihood, pyro, estimators, encoding.
"""
