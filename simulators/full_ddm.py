"""Full drift-diffusion model: drift, starting point and non-decision time differ between trials."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._elsewhere import diffusions
from hddm_sbi.simulators._parameters import (
    BIAS,
    DELAY,
    DRIFT,
    DRIFT_SD,
    NON_DECISION,
    START_WIDTH,
    THRESHOLD,
    two_bounds,
)
from scipy.special import logsumexp

from hddm_sbi.simulation import EXACT, DecisionModel
from hddm_sbi.simulation.first_passage import Passage, Solution, crowded, grid
from hddm_sbi.simulation.wiener import first_exit, log_density_of_varying_drift
from hddm_sbi.types import Array

# dx = d dt + dW with d ~ N(v, sv²), x(0) = (2y - 1) a with y uniform on [z - sz / 2, z + sz / 2], response when
# |x| >= a, rt = decision time + a time uniform on [t0, t0 + st0]. Starts outside (0, 1) do not count.


@nb.njit(cache=True, nogil=True)
def trial(v: float, a: float, z: float, t0: float, sv: float, sz: float, st0: float, rng: Any) -> tuple[float, int]:
    """One trial, exactly: a drift, a start and a delay, then the Wiener process."""
    low, high = max(z - 0.5 * sz, 0.0), min(z + 0.5 * sz, 1.0)
    start = low + (high - low) * rng.random()
    time, choice = first_exit(v + sv * rng.standard_normal(), a, start, rng)
    return t0 + st0 * rng.random() + time, choice


def _passage(v: float, a: float, z: float, t0: float, sv: float, sz: float, st0: float, t_max: float) -> Passage:
    """Density of the decision time and the delay: the closed form given the start, by quadrature over the start."""
    shares, weights = crowded(step=0.4)
    starts = z + sz * (shares - 0.5)

    def log_density_at(t: Array) -> Array:
        log_p, grad = np.full((2, len(starts), len(t)), -np.inf), np.empty((5, len(t)))
        for k, start in enumerate(starts):
            log_density_of_varying_drift(t, 0, 0.0, start, 2.0 * a, v, sv * sv, log_p[0, k], grad)
            log_density_of_varying_drift(t, 0, 0.0, 1.0 - start, 2.0 * a, -v, sv * sv, log_p[1, k], grad)
        return np.asarray(logsumexp(log_p, axis=1, b=weights[:, None]))

    def early(t: Array) -> Array:
        """log of the integral over a uniform start of the density of one bound, whose exponent is taken for a line."""
        near, far = (2.0 * a * np.array([[z - s], [1.0 - z - s]]) for s in (0.5 * sz, -0.5 * sz))
        from_near, from_far = (
            0.5 * c**2 / t - 0.5 * ((sv * c) ** 2 - 2.0 * c * np.array([[v], [-v]]) - v * v * t) / (1.0 + sv * sv * t)
            for c in (near, far)
        )
        reach = from_far - from_near
        reach = np.where(reach == 0.0, 1e-300, reach)
        amount = -np.expm1(-reach) / reach * 0.5 * (far + near)
        return np.asarray(np.log(amount) - from_near - 0.5 * np.log(2.0 * math.pi * t**3))

    @cache
    def solution(n: int) -> Solution:
        t = grid(t_max, n)
        beyond = log_density_at(t[1:]) - early(t[1:])
        return Solution(t, np.concatenate([np.zeros((2, 1)), beyond], axis=1), early)

    return Passage(solution, st0)


# Non-decision times begin at t0 here and in R; elsewhere t is their mean. ssm-simulators has half widths, that of the
# start in evidence.
_MEAN = "t0 + st0/2"
_ELSEWHERE = diffusions(
    {
        "HSSM": ("full_ddm", {"t": _MEAN, "sv": "sv", "sz": "sz", "st": "st0"}),
        "ssm-simulators": ("full_ddm", {"t": _MEAN, "sv": "sv", "sz": "a*sz", "st": "st0/2"}),
        "HDDM": ("HDDM, include='all'", {"t": _MEAN, "sv": "sv", "sz": "sz", "st": "st0"}),
        "rtdists": ("ddiffusion", {"sv": "sv", "sz": "2*a*sz", "st0": "st0"}),
        "fast-dm": ("fast-dm", {"t0": _MEAN, "sv": "sv", "szr": "sz", "st0": "st0"}),
        "Ratcliff": ("diffusion model, s = 0.1", {"Ter": _MEAN, "eta": "sv/10", "sz": "a*sz/5", "st": "st0"}),
        "EMC2": ("DDM", {"sv": "sv", "SZ": "sz/(2*min(z, 1 - z))", "st0": "st0"}),
    }
)

SIMULATOR = DecisionModel(
    name="full_ddm",
    title="full drift-diffusion model",
    # Inside the box the whole starting interval lies between the bounds.
    parameters=(DRIFT, THRESHOLD, replace(BIAS, low=0.3, high=0.7), NON_DECISION, DRIFT_SD, START_WIDTH, DELAY),
    trial=trial,
    passage=_passage,
    symmetries=replace(two_bounds(sv=1.0, st0=-2.0), delay="st0"),
    discretisation=EXACT,
    citation="Ratcliff & Rouder (1998), Psychol. Sci. 9:347; Ratcliff & Tuerlinckx (2002), Psychon. Bull. Rev. 9:438",
    counterparts=_ELSEWHERE,
)
