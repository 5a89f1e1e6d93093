"""Which group terms are sampled centred: what the caller forces, or else what the pilot fit says of their trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from hddm_sbi.errors import InputError, did_you_mean
from hddm_sbi.hierarchy.pilot.empirical_bayes import PilotFit
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.hierarchy.terms.group_effects import GroupEffects
from hddm_sbi.hierarchy.terms.own_trials import OwnTrials
from hddm_sbi.hierarchy.terms.smooth import Wiggles
from hddm_sbi.inference import TARGET_ACCEPT

Centring = Literal["auto"] | bool | Mapping[str, bool]
#: acceptance that the step size is tuned for where correlations may be singular.
_CAREFUL = 0.99
#: by how many nats a standard deviation of 0 must be less likely where effects are centred (decision 069).
_NOT_ZERO = 6.0
#: a share of next to nothing.
_NO_SHARE = 1e-9


def forced_centring(centered: Centring, hierarchy: Hierarchy) -> dict[str, bool]:
    """Centred or not for every group term that the caller decides about; none where `centered` is "auto".

    True and False pass by a term whose population can only be centred. Raises InputError for anything else than
    "auto", True, False, or a dict of these by group term.
    """
    terms = {term.name: term for term in hierarchy.groups}
    if isinstance(centered, bool):
        return {name: centered or term.population.centred_only for name, term in terms.items()}
    if isinstance(centered, str) and centered == "auto":
        return {}
    if not isinstance(centered, Mapping):
        raise InputError(f"centered must be 'auto', True, False, or a dict by group term; got {centered!r}.")
    for name, choice in centered.items():
        if name not in terms:
            hint = did_you_mean(str(name), list(terms))
            raise InputError(f"centered names {name!r}{hint} The group terms are {sorted(terms)}.")
        if not isinstance(choice, bool):
            raise InputError(f"centered[{name!r}] must be True or False; got {choice!r}.")
        if not choice and terms[name].population.centred_only:
            raise InputError(
                f"centered[{name!r}] = False: the population of its groups can only be sampled centred; leave it out."
            )
    return dict(centered)


def as_sampled(hierarchy: Hierarchy, pilot: PilotFit, forced: Mapping[str, bool]) -> Hierarchy:
    """The same model, its group terms and wiggles of smooths centred, partly or not. The posterior does not change.

    forced: what the caller decided, by group term.
    """
    centred = {**_choose_centring(hierarchy, pilot), **forced}
    hierarchy = _centre_wiggles(hierarchy.with_centring(centred), pilot)

    def changed(term: GroupEffects) -> GroupEffects:
        alone = not term.centred and term.correlation is None and term.name not in forced
        return replace(term, own_trials=_own_trials(term, pilot)) if alone else term

    predictors = (replace(p, groups=tuple(map(changed, p.groups))) for p in hierarchy.predictors)
    return replace(hierarchy, predictors=tuple(predictors))


def _own_trials(term: GroupEffects, pilot: PilotFit) -> OwnTrials:
    """What the trials of every group say of its effects, the group's other effects being uncertain.

    With w = 1 - V / sd², V the variance given trials and population: the effect that the pilot fit found is w of what
    trials say.
    """
    found = pilot.effects[term.factor]
    at = found.of(term)
    variance = np.diagonal(found.covariance, axis1=1, axis2=2)[:, at]
    prior = np.broadcast_to(found.sds[..., at] ** 2, variance.shape)
    share = np.clip(1.0 - variance / prior, _NO_SHARE, 1.0 - _NO_SHARE)
    mean = [0.0 if s is None else float(pilot.coefficients[s[0].name].reshape(-1)[s[1]]) for s in term.mean_of]
    level, d = mean + found.values[:, at] / share, prior * (1.0 - share) / share
    return OwnTrials(torch.from_numpy(level), torch.from_numpy(d))


def _centre_wiggles(hierarchy: Hierarchy, pilot: PilotFit) -> Hierarchy:
    """The same model, those wiggles of smooths sampled as themselves that trials determine better than their sd does.

    The posterior does not change.
    """
    variance, predictors, first = np.diagonal(pilot.covariance), [], 0
    for predictor in hierarchy.predictors:
        common = []
        for c in predictor.common:
            own = variance[first : first + c.matrix.shape[1]]
            first += len(own)
            if isinstance(c, Wiggles):
                c = c.settled(pilot.coefficients[c.name].numpy(), own)
            common.append(c)
        predictors.append(replace(predictor, common=tuple(common)))
    return replace(hierarchy, predictors=tuple(predictors))


def _choose_centring(hierarchy: Hierarchy, pilot: PilotFit) -> dict[str, bool]:
    """Centred (True) or not for every group term, by how much its groups' own trials say about their effects.

    A term is centred where the trials of a typical (median) group determine its effects better than the population
    does, and those of all groups say that the population's sd is not 0: near 0 centred effects are in a funnel. With d
    the variance of an effect given its trials alone, the group's other effects being uncertain by their populations,
    the first is d < sd², or r = 1 + sd² / d = sd² / V > 2, V being the variance given both. Means of n groups, of
    variance d + sd², have (n - 1) (r - 1 - log r) / 2 nats more likelihood than at a sd of 0.
    """
    choice = {}
    for term in hierarchy.groups:
        found = pilot.effects[term.factor]
        variance = np.diagonal(found.covariance, axis1=1, axis2=2)
        ratio = 1.0 / np.median(variance / found.sds**2, axis=0)
        nats = 0.5 * (len(term.levels) - 1) * (ratio - 1.0 - np.log(ratio))
        determined = ((ratio > 2.0) & (nats > _NOT_ZERO))[found.of(term)]
        choice[term.name] = bool(term.population.centred_only or determined.all())
    return choice


def acceptance(hierarchy: Hierarchy) -> float:
    """The acceptance that the step size is tuned for: nearer to 1 where centred effects that are correlated are as many
    as their groups.

    The effects of n groups around their mean span n - 1 dimensions, so a singular correlation matrix explains more of
    them than that entirely. On the way there the posterior is a funnel: as a residual variance falls to 0, so does the
    width of the correlations.
    """
    for term in hierarchy.groups:
        if term.correlation is not None and term.centred:
            parts = term.correlation.n_parts or 1
            if len(term.levels) <= parts * len(term.correlation.labels):
                return _CAREFUL
    return TARGET_ACCEPT
