"""The learned likelihood of outcomes of any kind: a chain of laws, each given the parameters and earlier outcomes.

Doors: encoding, network, likelihood.
"""
