"""What each group's own trials say about its level of a parameter, beside what the hierarchy makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.optimize import minimize

from hddm_sbi.analysis.fit import Fit, central
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy import HierarchicalModel
from hddm_sbi.types import Array


@dataclass(frozen=True)
class GroupLevels:
    """Levels of one parameter in n groups, on the scale of its link.

    groups: their names. own: the level that maximises the likelihood of the group's own trials, all else at its
    posterior mean (n,). mean, low, high: of the posterior, low and high of its central 94 % (n,). population: posterior
    mean of the population's level.
    """

    groups: tuple[Any, ...]
    own: Array
    mean: Array
    low: Array
    high: Array
    population: float


def group_levels(model: HierarchicalModel, posterior: Any, parameter: str, group: str) -> GroupLevels:
    """Levels of a parameter with a term `1 + (1|group)`. Raises InputError where it has none."""
    terms = [effects for p in model.hierarchy.predictors if p.name == parameter for effects in p.groups]
    effects = next((e for e in terms if e.factor == group and e.terms[0].name == "1"), None)
    if effects is None:
        raise InputError(f"this model has no term `1 + (1|{group})` for {parameter!r}; it is {model!r}.")
    name = effects.effect_names[0]
    fit = Fit.of(model, posterior)
    draws = fit.draws()
    level = (draws[f"{parameter}_Intercept"] + draws[name]).to_numpy()
    population = float(draws[f"{parameter}_Intercept"].mean())
    low, high = central(level)
    own = population + _own_deviations(fit.model, fit.known, name)
    return GroupLevels(effects.levels, own, level.mean(0), low, high, population)


def _own_deviations(model: HierarchicalModel, known: xr.Dataset, name: str) -> Array:
    """Deviation of every group that maximises the likelihood of its own trials, all else at its posterior mean."""
    means = {str(variable): torch.tensor(x.mean(("chain", "draw")).to_numpy()) for variable, x in known.items()}
    hierarchy = model.hierarchy

    def loss(u: Array) -> tuple[float, Array]:
        level = torch.tensor(u, requires_grad=True)
        theta, lapse = (law({**means, name: level}) for law in (hierarchy.theta, hierarchy.share))
        value = -hierarchy.likelihood.log_prob_by_cell(hierarchy.trials, theta, lapse).sum()
        (gradient,) = torch.autograd.grad(value, level)
        return float(value.detach()), gradient.numpy()

    return np.asarray(minimize(loss, means[name].numpy(), jac=True, method="L-BFGS-B").x)
