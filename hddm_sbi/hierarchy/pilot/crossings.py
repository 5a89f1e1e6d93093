"""Steps of the coordinates over the valley between two modes of an onset: chains move from one to the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize_scalar
from scipy.sparse.linalg import splu
from scipy.special import expit

from hddm_sbi.hierarchy.pilot.empirical_bayes import ALONG, Line, SecondMode
from hddm_sbi.inference import Steps, Whitening
from hddm_sbi.types import Array, Index

# On the line through two modes, 0 in one and 1 in the other, t = s + h r[(s - c) / w], r the logistic function. With p
# the posterior of t there, the normal law that is nearest to the posterior of s is away from it, in Kullback-Leibler
# divergence, by
#   log sd(s) + E[log dt/ds]
# and a constant: c makes this least, in the valley. Higher and narrower steps make it less, and the sampler's steps
# shorter (decision 065).

#: w and h, as parts of the line.
_WIDTH, _HEIGHT = 0.05, 0.3
#: points of s at which the posterior is added up.
_POINTS = 401

#: of every level of a block, its positions among the sites and the slopes of its numbers there, (levels, K) each.
Places = Mapping[str | None, tuple[Index, Array]]


def steps_across(modes: Sequence[SecondMode], places: Places, linear: Whitening, start: Array) -> Steps:
    """One step for each pair of modes whose numbers are sampled themselves, in coordinates without any.

    places: of the coefficients (None), and of the effects of grouping factors, by name. start: (n,), unconstrained.
    """
    lines = [mode.line for mode in modes if mode.line is not None]
    if not lines:
        return Steps()
    at = np.array([places[line.factor][0][line.level, line.column] for line in lines])
    first = linear.bends.straightened(start)
    ways, centre = [], np.array([_centre(line) for line in lines])
    for line in lines:
        other = start.copy()
        other[places[line.factor][0][line.level]] += line.way / places[line.factor][1][line.level]
        ways.append(linear.bends.straightened(other) - first)
    way = np.array(ways)
    own = way[np.arange(len(at)), at]
    # Each step leaves the numbers of the others where they are.
    way[:, at] = np.diag(own)
    rows = linear.matrix[at].toarray()
    whitened = splu(linear.matrix.tocsc()).solve(_HEIGHT * way.T).T
    return Steps(at, rows, first[at] + centre * own, _WIDTH * own, whitened)


def _centre(line: Line) -> float:
    """c on the line through two modes."""
    log_p = CubicSpline(ALONG, line.heights - line.heights.max())
    s = np.linspace(ALONG[0], ALONG[-1] - _HEIGHT, _POINTS)

    def distance(centre: float) -> float:
        rise = expit((s - centre) / _WIDTH)
        slope = 1.0 + _HEIGHT / _WIDTH * rise * (1.0 - rise)
        weight = slope * np.exp(log_p(s + _HEIGHT * rise))
        weight /= weight.sum()
        mean = weight @ s
        return float(0.5 * np.log(weight @ (s - mean) ** 2) + weight @ np.log(slope))

    return float(minimize_scalar(distance, bounds=(0.0, 1.0 - _HEIGHT), method="bounded").x)
