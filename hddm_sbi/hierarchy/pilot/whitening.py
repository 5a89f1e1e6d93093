"""Coordinates in which every number has a posterior sd near 1 and those of a group are nearly independent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import coo_array
from torch import Tensor
from torch.distributions import constraints

from hddm_sbi.hierarchy.pilot.crossings import steps_across
from hddm_sbi.hierarchy.pilot.empirical_bayes import PilotFit
from hddm_sbi.hierarchy.priors.natural import bounds
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.hierarchy.terms.group_effects import GroupEffects
from hddm_sbi.inference import Bends, FlatDensity, Whitening
from hddm_sbi.types import Array, Index

# With x the unconstrained sites of a group's effects, or of all coefficients, s their slopes in them, C their
# covariance (pilot fit) and L L' = C, y = L^-1 s x has covariance near 1.
#
# Where trials hardly tell a positive number from 0 (an onset, a collapse, a range), its logarithm has a long tail to
# the left, and a curved ridge with the numbers that make up for it. The number itself has neither: it is the coordinate
# (decision 041). So it is with the sd of a population that may be 0 (decision 072), and with the share of lapses:
# the density of n trials without one falls like e^(-n share).

#: posterior sd, roughly, of an unconstrained site of which the pilot fit says nothing: the log sd of 12 groups, lapses.
_ELSEWHERE = 0.2


def whitening(hierarchy: Hierarchy, pilot: PilotFit, start: Mapping[str, Tensor], density: FlatDensity) -> Whitening:
    """Coordinates for a hierarchical model: triangular maps within the effects of every group and within the common
    coefficients, one scale elsewhere; bends of the logarithms of positive numbers; steps between modes of onsets.

    start: where sampling starts, by site. density: of the model.
    """
    positions, n = density.positions, density.size
    sites: dict[str | None, tuple[Index, Array]] = {None: _of_coefficients(hierarchy, start, positions)}
    blocks = [_block(pilot.covariance[np.newaxis], *sites[None])]
    for factor, found in pilot.effects.items():
        terms = [g for p in hierarchy.predictors for g in p.groups if g.factor == factor]
        at = np.concatenate([positions[g.site] for g in terms], axis=1)
        slope = np.concatenate([g.slope(start).numpy() for g in terms], axis=1)
        blocks.append(_block(found.covariance, at, slope))
        sites[factor] = at, slope
    rows, columns, entries = (np.concatenate(part) for part in zip(*blocks, strict=True))
    alone = np.setdiff1d(np.arange(n), rows)
    places = np.concatenate([rows, alone]), np.concatenate([columns, alone])
    entries = np.concatenate([entries, np.full(len(alone), _ELSEWHERE)])
    matrix = coo_array((entries, places), shape=(n, n)).tocsr()
    matrix.eliminate_zeros()
    bends = _bends(hierarchy, start, positions)
    linear = Whitening(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data, bends)
    centred = [mode for mode in pilot.second_modes if not _is_scaled(hierarchy, mode.variable)]
    return replace(linear, steps=steps_across(centred, sites, linear, density.start))


def _is_scaled(hierarchy: Hierarchy, variable: str) -> bool:
    """Whether a posterior variable is the effects of groups that are sampled as multiples of their sd: with it, their
    modes move."""
    return any(variable in g.effect_names and not g.centred for g in hierarchy.groups)


def _bends(hierarchy: Hierarchy, start: Mapping[str, Tensor], positions: Mapping[str, Index]) -> Bends:
    """Of the levels of parameters with a log link, and the odds of a lapse, where sampling starts; of sds that may be
    0."""
    centres = {
        c.name: start[c.name]
        for p in hierarchy.predictors
        for c in p.common
        if p.link == "log" and c.prior.support is constraints.real and _of_levels(c.matrix)
    }
    shares = (n for n, prior in hierarchy.lapse_prior.items() if prior.support is constraints.unit_interval)
    centres |= {name: start[name].logit() for name in shares}
    for g in hierarchy.groups:
        centres |= _centres_of_sds(g, start)
    at = [positions[name].reshape(-1) for name in centres]
    centre = [centre.reshape(-1).numpy() for centre in centres.values()]
    return Bends(np.concatenate([np.empty(0, np.int64), *at]), np.concatenate([np.empty(0), *centre]))


def _centres_of_sds(term: GroupEffects, start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Centres of the bends of a term's sds by site, none where its effects are not partly centred: where the population
    says as much of an effect as its group's trials, or where sampling starts, if that is larger."""
    if term.own_trials is None:
        return {}
    told, centres = term.split(term.own_trials.variance.median(dim=0).values.sqrt()), {}
    for (name, sd), prior in zip(told.items(), term.sigma_priors, strict=True):
        if bounds(prior) == (0.0, torch.inf):
            centres[f"{name}_sigma"] = torch.maximum(start[f"{name}_sigma"], sd).log()
    return centres


def _of_levels(matrix: Tensor) -> bool:
    """Whether every cell's parameter is one of the coefficients, as far as these decide: an intercept, or means."""
    return bool(((matrix == 0) | (matrix == 1)).all() and (matrix.sum(1) == 1).all())


def _block(covariance: Array, at: Index, slope: Array) -> tuple[Index, Index, Array]:
    """Rows, columns and entries of the maps of numbers at `at`, of slopes `slope`, (levels, K) each."""
    whole = np.linalg.cholesky(covariance) / slope[:, :, None]
    rows, columns = np.broadcast_arrays(at[:, :, None], at[:, None, :])
    return rows.ravel(), columns.ravel(), whole.ravel()


def _of_coefficients(
    hierarchy: Hierarchy, start: Mapping[str, Tensor], positions: Mapping[str, Index]
) -> tuple[Index, Array]:
    """Positions of all coefficients, and their slopes in their unconstrained sites where sampling starts, (1, K)."""
    common = [c for p in hierarchy.predictors for c in p.common]
    at = [positions[c.site].reshape(-1) for c in common]
    slope = [c.slope(start).reshape(-1).numpy() for c in common]
    return np.concatenate([np.empty(0, np.int64), *at])[np.newaxis], np.concatenate([np.empty(0), *slope])[np.newaxis]
