"""Coordinates in which the effects of a group are nearly independent, so that a sampler takes longer steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.sparse import coo_array
from torch import Tensor

from hddm_sbi.hierarchy.pilot.empirical_bayes import PilotFit
from hddm_sbi.hierarchy.predictor import GroupEffects
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.inference import Whitening
from hddm_sbi.types import Index

# With x the unconstrained sites of a group's effects, s their slopes in them, C the effects' covariance (pilot fit) and
# L L' = C, y = L^-1 s x has covariance near 1.


def whitening(
    hierarchy: Hierarchy, pilot: PilotFit, start: Mapping[str, Tensor], positions: Mapping[str, Index]
) -> Whitening:
    """Coordinates for a hierarchical model: triangular maps within every group's effects, the identity elsewhere.

    start: where sampling starts, by site. positions: of every site's numbers in the flat vector.
    """
    n = sum(p.size for p in positions.values())
    alone = np.ones(n, bool)
    rows, columns, entries = [], [], []
    for factor, found in pilot.effects.items():
        terms = [g for p in hierarchy.predictors for g in p.groups if g.factor == factor]
        at = np.concatenate([positions[g.site] for g in terms], axis=1)
        slope = np.concatenate([_slope(g, start).numpy() for g in terms], axis=1)
        whole = np.linalg.cholesky(found.covariance) / slope[:, :, None]
        alone[at] = False
        entries.append(whole.ravel())
        rows.append(np.broadcast_to(at[:, :, None], whole.shape).ravel())
        columns.append(np.broadcast_to(at[:, None, :], whole.shape).ravel())
    rest = np.flatnonzero(alone)
    places = np.concatenate([*rows, rest]), np.concatenate([*columns, rest])
    matrix = coo_array((np.concatenate([*entries, np.ones(len(rest))]), places), shape=(n, n)).tocsr()
    matrix.eliminate_zeros()
    return Whitening(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data)


def _slope(effects: GroupEffects, start: Mapping[str, Tensor]) -> Tensor:
    """Slope of every effect in its unconstrained site, where sampling starts, (levels, k)."""
    site = start[effects.site]
    return effects.population.slope(site) if effects.centred else effects.sigma(start).expand_as(site)
