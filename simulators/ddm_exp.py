"""Drift-diffusion model with exponentially collapsing bounds."""

import math
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._elsewhere import diffusions
from hddm_sbi.simulators._parameters import BIAS, DRIFT, NON_DECISION, THRESHOLD, log_normal, two_bounds

from hddm_sbi.simulation import DecisionModel, parameter
from hddm_sbi.simulation.first_passage import Diffusion, Passage, constant, first_passage
from hddm_sbi.simulation.moving_bounds import UNSEEN, crossing_of
from hddm_sbi.types import Array

# dx = v dt + dW, x(0) = (2z - 1) a, response when |x| >= a exp(-t / tau), rt = decision time t + t0.
# (PyDDM's BoundCollapsingExponential calls the rate 1 / tau "tau".)


@nb.njit(nogil=True)
def _curves(t: float, v: float, a: float, tau: float) -> tuple[float, float]:
    bound = a * math.exp(-t / tau)
    return -bound - v * t, bound - v * t


_first_crossing = crossing_of(_curves)


@nb.njit(cache=True, nogil=True)
def trial(v: float, a: float, z: float, t0: float, tau: float, rng: Any) -> tuple[float, int]:
    """One trial."""
    time, choice, _ = _first_crossing((v, a, tau), (2.0 * z - 1.0) * a, tau, math.inf, rng)
    return t0 + time, choice


def _passage(v: float, a: float, z: float, t0: float, tau: float, t_max: float) -> Passage:
    """Density of the decision time, by the equation above."""

    def bound(t: Array) -> Array:
        return np.asarray(a * np.exp(-t / tau))

    collapsing = Diffusion((2.0 * z - 1.0) * a, constant(v), bound, lambda t: -bound(t) / tau)
    return first_passage(collapsing, t_max)


_COLLAPSE = "time constant of the collapse: the bounds lose a factor e in every tau"
_TAU = parameter("tau", 0.2, 10.0, _COLLAPSE, "s", typical=(0.5, 5.0), prior=log_normal(1.5, 0.8))

SIMULATOR = DecisionModel(
    name="ddm_exp",
    title="drift-diffusion model with exponentially collapsing bounds",
    parameters=(DRIFT, THRESHOLD, BIAS, NON_DECISION, _TAU),
    trial=trial,
    passage=_passage,
    discretisation=UNSEEN,
    symmetries=two_bounds(tau=-2.0),
    citation="Milosavljevic, Malmaud, Huth, Koch & Rangel (2010), Judgm. Decis. Mak. 5:437; Shinn, Lam & Murray (2020)",
    counterparts=diffusions({"PyDDM": ("DriftConstant, BoundCollapsingExponential, ICPointRatio", {"tau": "1/tau"})}),
)
