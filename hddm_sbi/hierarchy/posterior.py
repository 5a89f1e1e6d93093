"""From unconstrained draws to the posterior a person reads: named variables, coordinates, and what made it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.types import Array

_VERSIONS = ("hddm_sbi", "torch", "pyro-ppl", "nutpie", "numba", "arviz")


def variables(hierarchy: Hierarchy, sites: Mapping[str, Tensor]) -> dict[str, Array]:
    """Posterior variables (chains, draws, ...) from sampled sites: coefficients, deviations, standard deviations."""
    kept = {name: sites[name] for name in hierarchy.coefficient_names}
    return {name: value.numpy() for name, value in {**kept, **hierarchy.named(sites)}.items()}


def coordinates(hierarchy: Hierarchy) -> tuple[dict[str, list[Any]], dict[str, list[str]]]:
    """Coords and dims of every posterior variable.

    `v_condition` has the dim `v_condition_dim` with the levels; `v_1|subject` the dim `subject`; a deviation with
    several columns both.
    """
    coords: dict[str, list[Any]] = {}
    dims: dict[str, list[str]] = {}
    for p in hierarchy.predictors:
        for c in p.common:
            if c.levels is not None:
                coords[f"{c.name}_dim"], dims[c.name] = list(c.levels), [f"{c.name}_dim"]
        for g in p.groups:
            coords[g.factor] = list(g.levels)
            for name, term in zip(g.effect_names, g.terms, strict=True):
                dims[name] = [g.factor]
                if term.levels is not None:
                    coords[f"{name}_dim"] = list(term.levels)
                    dims[name], dims[f"{name}_sigma"] = [g.factor, f"{name}_dim"], [f"{name}_dim"]
            if g.correlated:
                rows, columns = f"{g.name}_corr_dim", f"{g.name}_corr_dim_bis"
                coords[rows] = coords[columns] = list(g.column_labels)
                dims[f"{g.name}_corr"] = [rows, columns]
    return coords, dims


def log_likelihood(hierarchy: Hierarchy, theta: Array, lapse: Array) -> Array:
    """Pointwise log likelihood, lapses included, (n_draws, n) in the caller's order of trials.

    theta: (n_draws, n_cells, p). lapse: (n_draws,).
    """
    trials = hierarchy.trials
    cell, values = trials.cell, torch.as_tensor(trials.values)
    out = np.empty((len(theta), len(values)))
    with np.errstate(divide="ignore"):
        log_lapse, log_regular = np.log(lapse * trials.lapse_density), np.log1p(-lapse)
    with torch.no_grad():
        for draw in range(len(theta)):
            regular = hierarchy.likelihood.log_prob_rows(values, torch.as_tensor(theta[draw][cell]))
            out[draw, trials.order] = np.logaddexp(log_regular[draw] + regular.numpy(), log_lapse[draw])
    return out


def provenance(**facts: Any) -> dict[str, Any]:
    """Attributes that say what made a posterior: the facts given (JSON where needed) and the versions in use."""
    attrs: dict[str, Any] = {"versions": json.dumps({name: _version(name) for name in _VERSIONS})}
    for name, value in facts.items():
        attrs[name] = value if isinstance(value, str | int | float) else json.dumps(value)
    return attrs


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "uninstalled checkout"
