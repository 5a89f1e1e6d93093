"""Diffusion model for conflict tasks: a brief automatic impulse on top of a controlled drift."""

import math
from dataclasses import replace
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._parameters import CONGRUENCY, DRIFT, NON_DECISION, THRESHOLD, log_normal

from hddm_sbi.simulation import Counterpart, DecisionModel, Symmetries, parameter
from hddm_sbi.simulation.first_passage import Diffusion, Passage, constant, first_passage
from hddm_sbi.simulation.moving_bounds import UNSEEN, crossing_of
from hddm_sbi.types import Array

# dx = v dt + congruency dA(t) + dW, x(0) = 0, upper (correct) or lower (error) when |x| >= a, rt = decision time + t0.
# The automatic impulse A rises to amp at t = (shape - 1) tau and dies away, like the density of a gamma law:
#   A(t) = amp [t e / ((shape - 1) tau)]^(shape - 1) e^(-t / tau)
# (Ulrich et al.'s numbers, with noise 4 per root millisecond, divided by 126.5 for evidence and 1000 for time.)


@nb.njit(nogil=True)
def _curves(t: float, v: float, a: float, amp: float, tau: float, power: float) -> tuple[float, float]:
    mean = v * t
    if t > 0.0:
        mean += amp * math.exp(power * (1.0 + math.log(t / (power * tau))) - t / tau)
    return -a - mean, a - mean


_first_crossing = crossing_of(_curves)


@nb.njit(cache=True, nogil=True)
def trial(
    v: float, a: float, t0: float, amp: float, tau: float, shape: float, congruency: float, rng: Any
) -> tuple[float, int]:
    """One trial."""
    time, choice, _ = _first_crossing((v, a, congruency * amp, tau, shape - 1.0), 0.0, tau, math.inf, rng)
    return t0 + time, choice


def _passage(
    v: float, a: float, t0: float, amp: float, tau: float, shape: float, congruency: float, t_max: float
) -> Passage:
    """Density of the decision time, by the equation above."""

    def drift(t: Array) -> Array:
        automatic = amp * np.exp(-t / tau) * (t * math.e / ((shape - 1.0) * tau)) ** (shape - 1.0)
        return np.asarray(v + congruency * automatic * ((shape - 1.0) / t - 1.0 / tau))

    return first_passage(Diffusion(0.0, drift, constant(a), constant(0.0)), t_max)


_AMP = parameter(
    "amp", 0.0, 0.6, "height of the automatic impulse", "evidence", typical=(0.05, 0.3), prior=log_normal(0.15, 0.6)
)
_TAU = parameter(
    "tau", 0.01, 0.3, "time scale of the automatic impulse", "s", typical=(0.02, 0.15), prior=log_normal(0.05, 0.7)
)
_PEAK = "shape of the automatic impulse: its peak is at (shape - 1) tau"
_SHAPE = replace(
    parameter("shape", 1.5, 4.0, _PEAK, "1", typical=(2.0, 3.0), prior=log_normal(2.0, 0.3, slope=0.2, group_sd=0.2)),
    support=(1.0, math.inf),
)
_DRIFT = replace(
    DRIFT,
    low=0.0,
    high=8.0,
    description="controlled drift, towards the correct response",
    accuracy_range=None,
    bias_range=None,
)
# Ulrich et al.'s units: milliseconds, noise 4. Euler steps of 1 ms overshoot the bound by 0.5826 steps of noise
# (Siegmund 1985), as if it stood higher; dRiftDM solves the equation.
_ELSEWHERE = {
    "DMCfun": Counterpart(
        "dmcSim",
        {
            "drc": "v*4/sqrt(1000)",
            "bnds": "4*(sqrt(1000)*a - 0.5826)",
            "resMean": "1000*t0",
            "amp": "4*sqrt(1000)*amp",
            "tau": "1000*tau",
            "aaShape": "shape",
        },
        note="resSD = 0, spDist = 0; comp is congruency +1, incomp -1",
    ),
    "dRiftDM": Counterpart(
        "dmc_dm",
        {"muc": "v", "b": "a", "non_dec": "t0", "A": "amp", "tau": "tau", "a": "shape"},
        note="sd_non_dec = 0 and a fixed start; comp is congruency +1, incomp -1",
    ),
}

SIMULATOR = DecisionModel(
    name="dmc",
    title="diffusion model for conflict tasks",
    parameters=(_DRIFT, THRESHOLD, NON_DECISION, _AMP, _TAU, _SHAPE, CONGRUENCY),
    trial=trial,
    passage=_passage,
    discretisation=UNSEEN,
    symmetries=Symmetries(
        shift="t0",
        scale="a",
        scale_powers={"v": 1.0, "amp": -1.0, "tau": -2.0},
        negated=("v", "congruency"),
    ),
    citation="Ulrich, Schroeter, Leuthold & Birngruber (2015), Cogn. Psychol. 78:148",
    counterparts=_ELSEWHERE,
)
