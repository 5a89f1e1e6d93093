"""Drift-diffusion model: constant drift between two constant bounds (the Wiener process)."""

import math
from dataclasses import replace
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._elsewhere import diffusions
from hddm_sbi.simulators._parameters import (
    BIAS,
    DRIFT,
    NON_DECISION,
    THRESHOLD,
    two_bounds,
)

from hddm_sbi.numerics import FAST
from hddm_sbi.simulation import EXACT, Counterpart, DecisionModel, ParameterPrior, Prior
from hddm_sbi.simulation.wiener import first_exit, log_driftless
from hddm_sbi.simulation.wiener_survival import log_survival_between
from hddm_sbi.types import Array

# dx = v dt + dW, x(0) = (2z - 1) a, response when |x| >= a, rt = decision time + t0.


@nb.njit(cache=True, nogil=True)
def trial(v: float, a: float, z: float, t0: float, rng: Any) -> tuple[float, int]:
    """One trial, exactly."""
    time, choice = first_exit(v, a, z, rng)
    return t0 + time, choice


# Density at the lower bound, with A = 2a, w = z, u = t / A² (Navarro & Fuss 2009; f is summed in simulation/wiener.py):
#   p(t) = A^-2 exp(-v A w - v² t / 2) f(u, w)
# The upper bound is the lower bound of the model with -v and 1 - z.


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _assemble(rt: Array, first: int, theta: Array, sign: float, w: float, logp: Array, grad: Array) -> None:
    """log p and its gradient, where logp holds log f and rows 0 and 2 of grad its derivatives by u and w."""
    v, A, t0 = sign * theta[0], 2.0 * theta[1], theta[3]
    log_area = 2.0 * math.log(A)
    for i in range(first, rt.shape[0]):
        t = rt[i] - t0
        f_u, f_w = grad[0, i], grad[2, i]
        logp[i] = logp[i] - log_area - v * A * w - 0.5 * v * v * t
        grad[0, i] = sign * (-A * w - v * t)
        grad[1, i] = 2.0 * (-2.0 / A - v * w - 2.0 * t / (A * A * A) * f_u)
        grad[2, i] = sign * (f_w - v * A)
        grad[3, i] = 0.5 * v * v - f_u / (A * A)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_density(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
    """Log density and gradient of a run; theta: v, a, z, t0."""
    sign = 1.0 if choice == 0 else -1.0
    w = theta[2] if choice == 0 else 1.0 - theta[2]
    first = np.searchsorted(rt, theta[3], side="right")
    logp[:first] = -np.inf
    grad[:, :first] = 0.0
    log_driftless(rt, first, theta[3], w, 2.0 * theta[1], logp, grad[0], grad[2])
    _assemble(rt, first, theta, sign, w, logp, grad)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_survival(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
    """Log probability of a later response, and gradient, of a run; theta: v, a, z, t0.

    It is that of -v and 1 - z as well.
    """
    sign = -1.0 if theta[0] < 0.0 else 1.0
    w = theta[2] if sign > 0.0 else 1.0 - theta[2]
    v, A, t0 = sign * theta[0], 2.0 * theta[1], theta[3]
    u = (rt - t0) / (A * A)
    log_survival_between(u, v * A, w, logp, grad)
    for i in range(rt.shape[0]):
        by_V, by_w, by_u = grad[0, i], grad[1, i], grad[2, i]
        grad[0, i] = sign * A * by_V
        grad[1, i] = 2.0 * (v * by_V - 2.0 * u[i] / A * by_u)
        grad[2, i] = sign * by_w
        grad[3, i] = -by_u / (A * A)


# HDDM's informative priors (Wiecki, Sofer & Frank 2013): its a is the full separation, ours half, so its means and
# standard deviations of a are halved.
_HDDM = {
    "v": ParameterPrior.normal("identity", 2.0, 3.0, slope=3.0, group_sd=2.0),
    "a": ParameterPrior(
        "identity", Prior("gamma", 0.75, 0.375), Prior("normal", 0.0, 0.75), Prior("halfnormal", 0.0, 1.0), "gamma"
    ),
    "z": ParameterPrior.normal("logit", 0.5, 0.5, slope=0.5, group_sd=0.05),
    "t0": ParameterPrior(
        "identity", Prior("gamma", 0.4, 0.2), Prior("normal", 0.0, 0.4), Prior("halfnormal", 0.0, 1.0), "gamma"
    ),
}

_ELSEWHERE = diffusions(
    {
        "HSSM": ("ddm", {}),
        "ssm-simulators": ("ddm", {}),
        "HDDM": ("HDDM", {}),
        "rtdists": ("ddiffusion", {}),
        "fast-dm": ("fast-dm", {}),
        "Ratcliff": ("diffusion model, s = 0.1", {}),
        "EMC2": ("DDM", {}),
        "PyDDM": ("DriftConstant, BoundConstant, ICPointRatio", {}),
        "SSM.jl": ("DDM", {}),
        "Stan": ("wiener", {}),
    }
) | {"dRiftDM": Counterpart("ratcliff_dm", {"muc": "v", "b": "a", "non_dec": "t0"}, without={"z": 0.5})}

SIMULATOR = DecisionModel(
    name="ddm",
    title="drift-diffusion model",
    parameters=(DRIFT, THRESHOLD, BIAS, NON_DECISION),
    trial=trial,
    symmetries=replace(two_bounds(), even_given_choice=("v",)),
    log_density=log_density,
    log_survival=log_survival,
    discretisation=EXACT,
    citation="Ratcliff & McKoon (2008), Neural Computation 20:873; Navarro & Fuss (2009), J. Math. Psychol. 53:222",
    literature_priors={"hddm": _HDDM},
    counterparts=_ELSEWHERE,
)
