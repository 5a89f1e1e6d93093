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
from hddm_sbi.hierarchy.terms.link import onto_box, to_link
from hddm_sbi.hierarchy.terms.predictor import Predictor
from hddm_sbi.types import Array

#: without lapses, the non-decision time starts no later than at this fraction of the fastest trial of a cell.
_BELOW_FASTEST = 0.9
#: nor do bounds meet sooner than at this many times the decision time of the slowest one.
_BEYOND_SLOWEST = 1.1

#: coefficients of a predictor by name, and the deviations of each of its group terms.
Found = tuple[Mapping[str, Tensor], list[Tensor]]


def start_values(hierarchy: Hierarchy, pilot: PilotFit) -> dict[str, Tensor]:
    """A value for every sampled site: what the pilot fit found. Without lapses, one at which every trial is possible:
    t0 is below the fastest trials, and bounds that close meet after the slowest ones."""
    values: dict[str, Tensor] = {}
    for name in hierarchy.lapse_prior:
        values[name] = torch.tensor(pilot.lapse, dtype=torch.float64)
    found = {predictor.name: _of_pilot(predictor, pilot) for predictor in hierarchy.predictors}
    if hierarchy.lapse == 0.0:
        for latest in (_latest_onsets, _steepest_closing):
            for predictor in hierarchy.predictors:
                if (limit := latest(hierarchy, predictor, found)) is not None:
                    found[predictor.name] = _no_later(predictor, *found[predictor.name], limit)
    for predictor in hierarchy.predictors:
        coefficients, deviations = found[predictor.name]
        for c in predictor.common:
            values |= c.start(coefficients[c.name])
        for g, u in zip(predictor.groups, deviations, strict=True):
            own = pilot.effects[g.factor]
            values |= _group_start(g, u, torch.from_numpy(own.sds[..., own.of(g)]), coefficients)
    return values


def _of_pilot(predictor: Predictor, pilot: PilotFit) -> Found:
    effects = [pilot.effects[g.factor] for g in predictor.groups]
    deviations = [torch.from_numpy(own.values[:, own.of(g)]) for own, g in zip(effects, predictor.groups, strict=True)]
    return {c.name: inside(c.prior, pilot.coefficients[c.name]) for c in predictor.common}, deviations


def _latest_onsets(hierarchy: Hierarchy, predictor: Predictor, found: Mapping[str, Found]) -> Tensor | None:
    """Of the predictor of the non-decision time, the largest that it may be on every cell."""
    if predictor.name != hierarchy.likelihood.simulator.symmetries.shift:
        return None
    return to_link(_BELOW_FASTEST * torch.as_tensor(_extreme(hierarchy, np.minimum, np.inf)), predictor.link)


def _steepest_closing(hierarchy: Hierarchy, predictor: Predictor, found: Mapping[str, Found]) -> Tensor | None:
    """Of the predictor of the angle at which bounds close, likewise, where all others are as they were found."""
    simulator = hierarchy.likelihood.simulator
    if simulator.clock.closing is None or predictor.name not in simulator.symmetries.tangents:
        return None
    at = {name: torch.as_tensor(x, dtype=torch.float64) for name, x in hierarchy.fixed.items()}
    for other in hierarchy.predictors:
        at |= other.by_parameter(onto_box(other.linear(*found[other.name]), other.link, other.low, other.high))
    onset = at[simulator.symmetries.shift] if simulator.symmetries.shift else 0.0
    slowest = torch.as_tensor(_extreme(hierarchy, np.maximum, 0.0)) - onset
    share = (_BEYOND_SLOWEST * slowest * simulator.clock.closing(at)).clamp(min=1.0)
    return to_link(torch.atan(torch.tan(at[predictor.name]) / share), predictor.link)


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


def _extreme(hierarchy: Hierarchy, which: np.ufunc, start: float) -> Array:
    """Fastest or slowest response time of every cell of the design, (n_cells,); `start` of a cell without any."""
    times = np.full(hierarchy.n_cells, start)
    which.at(times, hierarchy.cell, hierarchy.trials.values[:, 0])
    return times
