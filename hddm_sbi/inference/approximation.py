"""Normal approximations of the posterior: at its mode (Laplace), and by a Pyro autoguide (SVI)."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.optimize import minimize

from hddm_sbi.errors import InputError
from hddm_sbi.inference.density import FlatDensity
from hddm_sbi.inference.sampling import Draws, Settings
from hddm_sbi.types import Array

#: central differences of gradients, on the unconstrained scale.
_STEP = 1e-4
_SVI_STEPS = 4_000
_LEARNING_RATE = 0.02
#: over all steps, the learning rate falls to this share.
_LAST_RATE = 0.05


def laplace(density: FlatDensity, settings: Settings) -> Draws:
    """Draws from the normal with the mode and the curvature there of the log density.

    Raises InputError where there is no such mode.
    """

    def loss(x: Array) -> tuple[float, Array]:
        value, gradient = density(x)
        return -value, -gradient

    found = minimize(loss, density.start, jac=True, method="L-BFGS-B", options={"maxiter": 20_000, "maxfun": 50_000})
    steps = _STEP * np.eye(density.size)
    with np.errstate(invalid="ignore"):
        curvature = np.array([loss(found.x + step)[1] - loss(found.x - step)[1] for step in steps]) / (2 * _STEP)
    symmetric = 0.5 * (curvature + curvature.T)
    if not np.isfinite(symmetric).all() or np.linalg.eigvalsh(symmetric)[0] <= 0:
        raise InputError(
            "the posterior has no mode with a curvature (standard deviations of groups often run to zero): expected "
            "one for method='laplace'; use method='nuts'."
        )
    factor = np.linalg.cholesky(symmetric)
    normal = _normal(density, settings)
    flat = found.x + np.linalg.solve(factor.T, normal.reshape(-1, density.size).T).T
    return Draws(flat.reshape(normal.shape))


def _normal(density: FlatDensity, settings: Settings) -> Array:
    """Standard normal numbers, one for every number of the draws."""
    return np.random.default_rng(settings.seed).normal(size=(settings.chains, settings.draws, density.size))


def variational(density: FlatDensity, settings: Settings) -> Draws:
    """Draws from Pyro's AutoNormal guide, all sites independent, after 4 000 steps of SVI."""
    import pyro
    from pyro.infer import SVI, Trace_ELBO
    from pyro.infer.autoguide import AutoNormal
    from pyro.infer.autoguide.initialization import init_to_value
    from pyro.optim import ClippedAdam

    start = density.unflatten(torch.from_numpy(density.start))
    values = {name: density.transforms[name].inv(value) for name, value in start.items()}
    decay = _LAST_RATE ** (1 / _SVI_STEPS)
    with (
        torch.random.fork_rng(devices=[]),
        pyro.validation_enabled(False),
        pyro.get_param_store().scope(),
        warnings.catch_warnings(),
    ):
        # Pyro 1.9 calls torch functions that torch 2.13 has renamed.
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(settings.seed)
        guide = AutoNormal(density.model, init_loc_fn=init_to_value(values=values))
        svi = SVI(density.model, guide, ClippedAdam({"lr": _LEARNING_RATE, "lrd": decay}), Trace_ELBO())
        for _ in range(_SVI_STEPS):
            svi.step()
    parts = [(getattr(guide.locs, name), getattr(guide.scales, name)) for name in density.names]
    location, scale = (torch.cat([p[i].detach().reshape(-1) for p in parts]).double().numpy() for i in range(2))
    return Draws(location + scale * _normal(density, settings))
