"""Sampled sites from what a posterior reports, on their own scales and unconstrained: the way back from a posterior."""

from __future__ import annotations

import torch
import xarray as xr
from torch import Tensor

from hddm_sbi.hierarchy.correlation import Scores
from hddm_sbi.hierarchy.predictor import Values
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.inference import FlatDensity
from hddm_sbi.types import Array

# A posterior reports deviations of groups and correlations. What is sampled of them are levels or offsets, whichever
# `hierarchy` says, and Cholesky factors. The posterior is the same, however its draws were made, so draws of one
# centring are draws of any other.


def sites(hierarchy: Hierarchy, posterior: Values) -> dict[str, Tensor]:
    """Every sampled site, (...) by name, from a posterior's variables with any leading batch of draws.

    The inverse of `posterior.variables`.
    """
    found = {name: posterior[name] for name in hierarchy.coefficient_names}
    found |= {c.site: c.recovered(posterior) for c in hierarchy.correlations}
    for coefficients in (c for p in hierarchy.predictors for c in p.common):
        found |= coefficients.recovered(posterior)
    known, scores = {**posterior, **found}, Scores()
    # Centred effects come first among those that are correlated.
    for effects in sorted(hierarchy.groups, key=lambda g: not g.centred):
        found[effects.site] = effects.recovered(known, scores)
    return found


def unconstrained(hierarchy: Hierarchy, density: FlatDensity, known: xr.Dataset) -> Array:
    """Draws of a posterior as vectors of the density of its model, (chains, draws, n)."""
    of_draws = known.transpose("chain", "draw", ...)
    found = sites(hierarchy, {str(name): torch.tensor(x.to_numpy()) for name, x in of_draws.data_vars.items()})
    shape = of_draws.sizes["chain"], of_draws.sizes["draw"], -1
    return torch.cat([density.transforms[name](found[name]).reshape(shape) for name in density.names], -1).numpy()
