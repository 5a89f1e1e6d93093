"""The learned likelihood of the shipped models: a reduced mixture network and its kernels.

Doors: likelihood, network, reduction.
"""
