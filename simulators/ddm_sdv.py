"""Drift-diffusion model whose drift differs between trials."""

from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._elsewhere import diffusions
from hddm_sbi.simulators._parameters import BIAS, DRIFT, DRIFT_SD, NON_DECISION, THRESHOLD, two_bounds

from hddm_sbi.simulation import EXACT, DecisionModel
from hddm_sbi.simulation.wiener import first_exit, log_density_of_varying_drift
from hddm_sbi.simulation.wiener_survival import log_survival_of_varying_drift
from hddm_sbi.types import Array

# dx = d dt + dW with d ~ N(v, sv²), x(0) = (2z - 1) a, response when |x| >= a, rt = decision time + t0.


@nb.njit(cache=True, nogil=True)
def trial(v: float, a: float, z: float, t0: float, sv: float, rng: Any) -> tuple[float, int]:
    """One trial, exactly: a drift, then the Wiener process."""
    time, choice = first_exit(v + sv * rng.standard_normal(), a, z, rng)
    return t0 + time, choice


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_density(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
    """Log density and gradient of a run; theta: v, a, z, t0, sv.

    The upper bound is the lower bound of the model with -v and 1 - z.
    """
    v, a, z, t0, sv = theta
    sign = 1.0 if choice == 0 else -1.0
    w = z if choice == 0 else 1.0 - z
    n = rt.shape[0]
    first = np.searchsorted(rt, t0, side="right")
    logp[:first] = -np.inf
    grad[:, :first] = 0.0
    log_density_of_varying_drift(rt, first, t0, w, 2.0 * a, sign * v, sv * sv, logp, grad)
    for i in range(first, n):
        grad[0, i] *= sign
        grad[1, i] *= 2.0
        grad[2, i] *= sign
        grad[3, i] = -grad[3, i]
        grad[4, i] *= 2.0 * sv


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_survival(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
    """Log probability of a later response, and gradient, of a run; theta: v, a, z, t0, sv."""
    v, a, z, t0, sv = theta
    log_survival_of_varying_drift(rt - t0, 2.0 * a, v, sv * sv, z, logp, grad)
    for i in range(rt.shape[0]):
        grad[1, i] *= 2.0
        grad[3, i] = -grad[3, i]
        grad[4, i] *= 2.0 * sv


_SV = {"sv": "sv"}
_ELSEWHERE = diffusions(
    {
        "HSSM": ("ddm_sdv", _SV),
        "ssm-simulators": ("ddm_sdv", _SV),
        "HDDM": ("HDDM, include='sv'", _SV),
        "rtdists": ("ddiffusion", _SV),
        "fast-dm": ("fast-dm", _SV),
        "Ratcliff": ("diffusion model, s = 0.1", {"eta": "sv/10"}),
        "EMC2": ("DDM", _SV),
    }
)

SIMULATOR = DecisionModel(
    name="ddm_sdv",
    title="drift-diffusion model with variable drift",
    parameters=(DRIFT, THRESHOLD, BIAS, NON_DECISION, DRIFT_SD),
    trial=trial,
    symmetries=two_bounds(sv=1.0),
    log_density=log_density,
    log_survival=log_survival,
    discretisation=EXACT,
    citation="Ratcliff (1978), Psychol. Rev. 85:59; Tuerlinckx (2004), Behav. Res. Methods 36:702",
    counterparts=_ELSEWHERE,
)
