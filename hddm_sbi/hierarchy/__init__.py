"""Designs x priors x likelihood -> Pyro model -> posterior.

Doors: model, pyro_model, posterior, link, predictor, priors.
"""
