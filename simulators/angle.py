"""Drift-diffusion model with linearly collapsing bounds."""

import math
from dataclasses import replace
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._elsewhere import diffusions
from hddm_sbi.simulators._parameters import BIAS, COLLAPSE_ANGLE, DRIFT, NON_DECISION, THRESHOLD, two_bounds

from hddm_sbi.simulation import EXACT, Clock, DecisionModel
from hddm_sbi.simulation.wiener import first_exit, log_density_of_varying_drift
from hddm_sbi.simulation.wiener_survival import log_survival_of_varying_drift
from hddm_sbi.types import Array

# dx = v dt + dW, x(0) = x0 = (2z - 1) a, response when |x| >= a - t tan(theta), rt = decision time t + t0.
#
# The bounds meet at T = a / tan(theta). Without bounds, x(T) = y is normal with mean x0 + v T and variance T, and given
# y, x is a Brownian bridge. With s = t / (1 - t / T), the process (1 + s / T) x(t) is then a Brownian motion from x0
# with drift y / T, and the bounds stand still at -a and a. So the model is the one with constant bounds and a drift
# that varies between trials, N(v + x0 / T, 1 / T), on the clock s: an exact simulator and a closed form.


@nb.njit(cache=True, nogil=True)
def trial(v: float, a: float, z: float, t0: float, theta: float, rng: Any) -> tuple[float, int]:
    """One trial, exactly."""
    q = math.tan(theta) / a
    s, choice = first_exit(v + q * (2.0 * z - 1.0) * a + math.sqrt(q) * rng.standard_normal(), a, z, rng)
    return t0 + s / (1.0 + q * s), choice


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_density(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
    """Log density and gradient of a run; theta: v, a, z, t0, theta.

    p(t) = p_s(s) ds/dt with ds/dt = (1 + q s)², q = 1 / T = tan(theta) / a, and p_s the density under a drift of mean
    v + q x0 and variance q. The upper bound is the lower bound of the model with -v and 1 - z. From t0 + T on, logp is
    -inf as well.
    """
    v, a, z, t0, angle = theta
    sign = 1.0 if choice == 0 else -1.0
    w = z if choice == 0 else 1.0 - z
    slope = math.tan(angle)
    q, x0 = slope / a, (2.0 * w - 1.0) * a
    n = rt.shape[0]
    first = np.searchsorted(rt, t0, side="right")
    last = n if q == 0.0 else max(first, np.searchsorted(rt, t0 + 1.0 / q, side="left"))
    for outside in (slice(0, first), slice(last, n)):
        logp[outside] = -np.inf
        grad[:, outside] = 0.0
    s = np.empty(last)
    for i in range(first, last):
        s[i] = (rt[i] - t0) / (1.0 - q * (rt[i] - t0))
    log_density_of_varying_drift(s, first, 0.0, w, 2.0 * a, sign * v + q * x0, q, logp, grad)
    for i in range(first, last):
        d = 1.0 + q * s[i]
        by_v, by_A, by_w, by_s, by_q = grad[:, i]
        by_q += by_v * x0 + by_s * s[i] * s[i] + 2.0 * s[i]
        logp[i] += 2.0 * math.log(d)
        grad[0, i] = sign * by_v
        grad[1, i] = 2.0 * by_A + by_v * q * (2.0 * w - 1.0) - by_q * q / a
        grad[2, i] = sign * (by_w + by_v * q * 2.0 * a)
        grad[3, i] = -by_s * d * d - 2.0 * q * d
        grad[4, i] = by_q * (1.0 + slope * slope) / a


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_survival(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
    """Log probability of a later response, and gradient, of a run; theta: v, a, z, t0, theta.

    What survives t survives s; nothing does from t0 + T on.
    """
    v, a, z, t0, angle = theta
    slope = math.tan(angle)
    q, x0 = slope / a, (2.0 * z - 1.0) * a
    n = rt.shape[0]
    last = n if q == 0.0 else np.searchsorted(rt, t0 + 1.0 / q, side="left")
    logp[last:n] = -np.inf
    grad[:, last:n] = 0.0
    s = np.empty(last)
    for i in range(last):
        s[i] = (rt[i] - t0) / (1.0 - q * (rt[i] - t0))
    log_survival_of_varying_drift(s, 2.0 * a, v + q * x0, q, z, logp, grad)
    for i in range(last):
        d = 1.0 + q * s[i]
        by_v, by_A, by_w, by_s, by_q = grad[:, i]
        by_q += by_v * x0 + by_s * s[i] * s[i]
        grad[1, i] = 2.0 * by_A + by_v * q * (2.0 * z - 1.0) - by_q * q / a
        grad[2, i] = by_w + by_v * q * 2.0 * a
        grad[3, i] = -by_s * d * d
        grad[4, i] = by_q * (1.0 + slope * slope) / a


SIMULATOR = DecisionModel(
    name="angle",
    title="drift-diffusion model with linearly collapsing bounds",
    parameters=(DRIFT, THRESHOLD, BIAS, NON_DECISION, COLLAPSE_ANGLE),
    trial=trial,
    symmetries=replace(two_bounds(theta=1.0), tangents=("theta",)),
    log_density=log_density,
    log_survival=log_survival,
    clock=Clock(closing=lambda at: at["theta"].tan() / at["a"]),
    discretisation=EXACT,
    citation="Fengler, Govindarajan, Chen & Frank (2021), eLife 10:e65074; closed form: the equations above the code",
    counterparts=diffusions(
        {
            "HSSM": ("angle", {"theta": "theta"}),
            "ssm-simulators": ("angle", {"theta": "theta"}),
            "PyDDM": ("DriftConstant, BoundCollapsingLinear, ICPointRatio", {"t": "tan(theta)"}),
        }
    ),
)
