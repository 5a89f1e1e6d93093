"""Steps of the coordinates over the valley between two modes of an onset: chains move from one to the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize
from scipy.sparse.linalg import splu
from scipy.special import expit

from hddm_sbi.hierarchy.pilot.empirical_bayes import ALONG, Line, SecondMode
from hddm_sbi.inference import Steps, Whitening
from hddm_sbi.types import Array, Index

# On the line through two modes, t = s + h r[(s - c) / w] with r the logistic function. With p the posterior of t there,
# the normal law that is nearest to the posterior of s is away from it, in Kullback-Leibler divergence, by
#   log sd(s) + E[log dt/ds]
# and a constant. c, w and h make this least.

#: points of s at which the posterior is added up.
_POINTS = 401
#: w and h where the search starts, and what ends it: c so that the step is in the middle of the valley.
_WIDTH, _HEIGHTS = 0.05, (0.3, 0.6, 0.9)
_SEARCH = {"maxiter": 600, "xatol": 1e-3, "fatol": 1e-5}
#: a narrower step, in sds of s, would be passed over unseen by the sampler.
_NARROWEST = 0.1
#: a higher step leaves the line.
_HIGHEST = 1.5
#: of a normal law that fits nothing.
_POOR = 1e3

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
    ways, shapes = [], []
    for line in lines:
        other = start.copy()
        other[places[line.factor][0][line.level]] += line.way / places[line.factor][1][line.level]
        ways.append(linear.bends.straightened(other) - first)
        shapes.append(_shape(line))
    way, (centre, width, height) = np.array(ways), np.array(shapes).T
    own = way[np.arange(len(at)), at]
    # Each step leaves the numbers of the others where they are.
    way[:, at] = np.diag(own)
    rows = linear.matrix[at].toarray()
    whitened = splu(linear.matrix.tocsc()).solve((height[:, None] * way).T).T
    return Steps(at, rows, first[at] + centre * own, width * own, whitened)


def _shape(line: Line) -> tuple[float, float, float]:
    """c, w and h on the line through two modes, as long as this line."""
    log_p = CubicSpline(ALONG, line.heights - line.heights.max())
    inside = np.flatnonzero((ALONG > 0.0) & (ALONG < 1.0))
    valley = float(ALONG[inside[line.heights[inside].argmin()]])

    def distance(shape: Array) -> float:
        centre, width, height = shape[0], *np.exp(shape[1:])
        if height > _HIGHEST:
            return _POOR
        s = np.linspace(ALONG[0], ALONG[-1] - height, _POINTS)
        rise = expit((s - centre) / width)
        t, slope = s + height * rise, 1.0 + height / width * rise * (1.0 - rise)
        weight = slope * np.exp(log_p(t))
        weight /= weight.sum()
        mean = weight @ s
        sd = float(np.sqrt(weight @ (s - mean) ** 2))
        return _POOR if width < _NARROWEST * sd else float(np.log(sd) + weight @ np.log(slope))

    starts = [np.array([valley - h / 2, np.log(_WIDTH), np.log(h)]) for h in _HEIGHTS]
    found = min((minimize(distance, x, method="Nelder-Mead", options=_SEARCH) for x in starts), key=lambda f: f.fun)
    return float(found.x[0]), float(np.exp(found.x[1])), float(np.exp(found.x[2]))
