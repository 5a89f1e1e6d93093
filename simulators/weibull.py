"""Drift-diffusion model whose bounds collapse like the survival function of a Weibull law."""

import math
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._elsewhere import diffusions
from hddm_sbi.simulators._parameters import BIAS, DRIFT, NON_DECISION, THRESHOLD, log_normal, two_bounds

from hddm_sbi.simulation import Clock, DecisionModel, parameter
from hddm_sbi.simulation.first_passage import Diffusion, Passage, constant, first_passage
from hddm_sbi.simulation.moving_bounds import UNSEEN, crossing_of
from hddm_sbi.types import Array

# dx = v dt + dW, x(0) = (2z - 1) a, response when |x| >= a exp(-(t / beta)^alpha), rt = decision time t + t0.


@nb.njit(nogil=True)
def _curves(t: float, v: float, a: float, alpha: float, beta: float) -> tuple[float, float]:
    bound = a * math.exp(-((t / beta) ** alpha))
    return -bound - v * t, bound - v * t


_first_crossing = crossing_of(_curves)


@nb.njit(cache=True, nogil=True)
def trial(v: float, a: float, z: float, t0: float, alpha: float, beta: float, rng: Any) -> tuple[float, int]:
    """One trial."""
    time, choice, _ = _first_crossing((v, a, alpha, beta), (2.0 * z - 1.0) * a, beta, math.inf, rng)
    return t0 + time, choice


def _passage(v: float, a: float, z: float, t0: float, alpha: float, beta: float, t_max: float) -> Passage:
    """Density of the decision time, by the equation above."""

    def bound(t: Array) -> Array:
        return np.asarray(a * np.exp(-((t / beta) ** alpha)))

    def slope(t: Array) -> Array:
        return np.asarray(-bound(t) * alpha / beta * (t / beta) ** (alpha - 1.0))

    return first_passage(Diffusion((2.0 * z - 1.0) * a, constant(v), bound, slope), t_max)


_SHAPE = "shape of the collapse: early and gradual below 1, late and sudden above"
_ALPHA = parameter("alpha", 0.3, 5.0, _SHAPE, "1", typical=(1.0, 4.0), prior=log_normal(2.0, 0.6))
_TIME = "time at which the bounds have collapsed to 1/e of their first height"
_BETA = parameter("beta", 0.3, 7.0, _TIME, "s", typical=(0.8, 4.0), prior=log_normal(2.0, 0.6))

SIMULATOR = DecisionModel(
    name="weibull",
    title="drift-diffusion model with Weibull-collapsing bounds",
    parameters=(DRIFT, THRESHOLD, BIAS, NON_DECISION, _ALPHA, _BETA),
    trial=trial,
    passage=_passage,
    discretisation=UNSEEN,
    symmetries=two_bounds(beta=-2.0),
    clock=Clock(collapse=lambda at: (1.0 / at["beta"], at["alpha"])),
    citation="Hawkins, Forstmann, Wagenmakers, Ratcliff & Brown (2015), J. Neurosci. 35:2476; Fengler et al. (2021)",
    counterparts=diffusions(
        {name: ("weibull", {"alpha": "alpha", "beta": "beta"}) for name in ("HSSM", "ssm-simulators")}
    ),
)
