"""Draws of everything that a posterior reports, from the prior; no trial is looked at."""

from __future__ import annotations

import pyro
import torch
from torch import Tensor

from hddm_sbi.hierarchy.fits.posterior import variables
from hddm_sbi.hierarchy.pyro_model import Hierarchy


def prior_draws(hierarchy: Hierarchy, n: int, seed: int) -> dict[str, Tensor]:
    """(n, ...) of every coefficient, deviation and correlation, and of a lapse that is estimated, by posterior name."""
    drawn: list[dict[str, Tensor]] = []
    with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False):
        torch.manual_seed(seed)
        for _ in range(n):
            values: dict[str, Tensor] = {}
            hierarchy.sample(values)
            for name, prior in hierarchy.lapse_prior.items():
                values[name] = pyro.sample(name, prior).double()
            drawn.append({name: torch.as_tensor(x) for name, x in variables(hierarchy, values).items()})
    return {name: torch.stack([values[name] for values in drawn]) for name in drawn[0]}
