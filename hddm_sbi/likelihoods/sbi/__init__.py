"""Any estimator that sbi trained, as a Pyro distribution.

Doors: pyro, compatibility.
"""
