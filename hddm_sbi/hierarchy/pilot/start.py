"""Where sampling starts: a value for every sampled site, from the pilot fit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from hddm_sbi.hierarchy.pilot.blocks import constant_coefficients
from hddm_sbi.hierarchy.pilot.empirical_bayes import PilotFit
from hddm_sbi.hierarchy.priors.natural import inside
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.hierarchy.terms.coefficients import Values
from hddm_sbi.hierarchy.terms.group_effects import GroupEffects
from hddm_sbi.hierarchy.terms.link import to_link
from hddm_sbi.hierarchy.terms.predictor import Predictor
from hddm_sbi.types import Array

#: without lapses, the non-decision time starts no later than at this fraction of the fastest trial of a cell.
_BELOW_FASTEST = 0.9


def start_values(hierarchy: Hierarchy, pilot: PilotFit) -> dict[str, Tensor]:
    """A value for every sampled site: what the pilot fit found; without lapses, t0 is below the fastest trials."""
    values: dict[str, Tensor] = {}
    for name in hierarchy.lapse_prior:
        values[name] = torch.tensor(pilot.lapse, dtype=torch.float64)
    for predictor in hierarchy.predictors:
        coefficients = {c.name: inside(c.prior, pilot.coefficients[c.name]) for c in predictor.common}
        found = [pilot.effects[g.factor] for g in predictor.groups]
        deviations = [torch.from_numpy(f.values[:, f.of(g)]) for f, g in zip(found, predictor.groups, strict=True)]
        if hierarchy.lapse == 0.0 and predictor.name == hierarchy.likelihood.simulator.symmetries.shift:
            latest = to_link(_BELOW_FASTEST * torch.as_tensor(_fastest(hierarchy)), predictor.link)
            coefficients, deviations = _no_later(predictor, coefficients, deviations, latest)
        for c in predictor.common:
            values |= c.start(coefficients[c.name])
        for f, g, u in zip(found, predictor.groups, deviations, strict=True):
            values |= _group_start(g, u, torch.from_numpy(f.sds[..., f.of(g)]), coefficients)
    return values


def _group_start(effects: GroupEffects, u: Tensor, sigma: Tensor, coefficients: Values) -> dict[str, Tensor]:
    """The sites of a group term whose deviations are u (levels, k), of sds sigma (k,) or (levels, k)."""
    of_parts = sigma if sigma.dim() == 1 else sigma[0]
    if effects.by is not None:
        of_parts = sigma[np.unique(effects.by.index, return_index=True)[1]]
    values = {f"{name}_sigma": part for name, part in effects.split(of_parts).items()}
    if effects.correlation is not None:
        values[effects.correlation.site] = effects.correlation.start
    known = {**coefficients, **values}
    site = effects.site_of(u, known)
    if effects.centred:
        site = effects.population.start(site, effects.mean(known))
    return {**values, effects.site: site}


def _no_later(
    predictor: Predictor, coefficients: Mapping[str, Tensor], deviations: list[Tensor], latest: Tensor
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Coefficients and deviations whose linear predictor nowhere exceeds `latest` (n_cells,): those given where theirs
    does not, else a level and the groups' own intercepts."""
    eta = predictor.linear(coefficients, deviations)
    if bool((eta <= latest).all()):
        return dict(coefficients), deviations
    latest = torch.minimum(eta, latest)
    own = next((i for i, g in enumerate(predictor.groups) if bool((g.matrix == 1).all())), None)
    by_group = latest.min().unsqueeze(0) if own is None else _minimum_by_group(predictor.groups[own], latest)
    deviations = [torch.zeros_like(u) for u in deviations]
    if own is not None:
        deviations[own] = (by_group - by_group.mean()).unsqueeze(-1)
    return constant_coefficients(predictor, by_group.mean()), deviations


def _minimum_by_group(effects: GroupEffects, eta: Tensor) -> Tensor:
    lowest = torch.full((len(effects.levels),), torch.inf, dtype=torch.float64)
    return lowest.scatter_reduce(0, effects.index, eta, reduce="amin")


def _fastest(hierarchy: Hierarchy) -> Array:
    """Fastest response time of every cell of the design, (n_cells,)."""
    fastest = np.full(hierarchy.n_cells, np.inf)
    np.minimum.at(fastest, hierarchy.cell, hierarchy.trials.values[:, 0])
    return fastest
