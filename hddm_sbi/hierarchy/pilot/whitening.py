"""Coordinates in which the effects of a group are nearly independent, so that a sampler takes longer steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numba as nb
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import splu
from torch import Tensor

from hddm_sbi.hierarchy.pilot.empirical_bayes import Pilot
from hddm_sbi.hierarchy.predictor import GroupEffects
from hddm_sbi.hierarchy.pyro_model import Hierarchy

Array = NDArray[np.float64]
Index = NDArray[np.int64]

# With x the unconstrained sites of a group's effects, s their slopes in them, C the effects' covariance (pilot fit) and
# L L' = C, y = L^-1 s x has covariance near 1.


@dataclass(frozen=True)
class Whitening:
    """The map x = M y from whitened to unconstrained coordinates, M (n, n) sparse.

    row_starts: (n + 1,), of every row the first of its columns and entries.
    """

    row_starts: Index
    columns: Index
    entries: Array

    @property
    def size(self) -> int:
        """Length of x and of y."""
        return len(self.row_starts) - 1

    def unwhiten(self, y: Array) -> Array:
        """x of y, (n,)."""
        x = np.empty(self.size)
        unwhiten(self.row_starts, self.columns, self.entries, y, x)
        return x

    def gradient(self, by_x: Array) -> Array:
        """A gradient by y from that by x, (n,)."""
        by_y = np.empty(self.size)
        whiten_gradient(self.row_starts, self.columns, self.entries, by_x, by_y)
        return by_y

    def whiten(self, x: Array) -> Array:
        """y of x, (n,)."""
        matrix = csr_array((self.entries, self.columns, self.row_starts), shape=(self.size, self.size))
        y: Array = splu(matrix.tocsc()).solve(x)
        return y


def unwhitened(n: int) -> Whitening:
    """The identity: coordinates as they are."""
    return Whitening(np.arange(n + 1), np.arange(n), np.ones(n))


def whitening(
    hierarchy: Hierarchy, pilot: Pilot, start: Mapping[str, Tensor], positions: Mapping[str, Index]
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
    if effects.population == "gamma":
        return site
    return torch.ones_like(site) if effects.centred else effects.sigma(start).expand_as(site)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def unwhiten(row_starts: Index, columns: Index, entries: Array, y: Array, x: Array) -> None:
    """x = M y."""
    for i in range(len(x)):
        total = 0.0
        for k in range(row_starts[i], row_starts[i + 1]):
            total += entries[k] * y[columns[k]]
        x[i] = total


@nb.njit(cache=True, nogil=True, error_model="numpy")
def whiten_gradient(row_starts: Index, columns: Index, entries: Array, by_x: Array, by_y: Array) -> None:
    """by_y = M' by_x."""
    by_y[:] = 0.0
    for i in range(len(by_x)):
        for k in range(row_starts[i], row_starts[i + 1]):
            by_y[columns[k]] += entries[k] * by_x[i]
