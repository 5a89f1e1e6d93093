"""Diffusion model for conflict tasks: a brief automatic impulse on top of a controlled drift."""

import math
from dataclasses import replace
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._parameters import CONGRUENCY, DELAY, DRIFT, NON_DECISION, THRESHOLD, log_normal

from hddm_sbi.simulation import Counterpart, DecisionModel, Symmetries, parameter
from hddm_sbi.simulation.first_passage import Diffusion, Passage, constant, crowded, first_passage
from hddm_sbi.simulation.moving_bounds import UNSEEN, crossing_of
from hddm_sbi.types import Array

# dx = v dt + congruency dA(t) + dW, x(0) = (2 y - 1) a with y ~ beta(alpha, alpha), upper (correct) or lower (error)
# when |x| >= a, rt = decision time + a time uniform on [t0, t0 + st0]. The automatic impulse A rises to amp at
# t = (shape - 1) tau and dies away, like the density of a gamma law:
#   A(t) = amp [t e / ((shape - 1) tau)]^(shape - 1) e^(-t / tau)
# (Ulrich et al.'s numbers, with noise 4 per root millisecond, divided by 126.5 for evidence and 1000 for time; their
# non-decision time is normal.)


@nb.njit(nogil=True)
def _curves(t: float, v: float, a: float, amp: float, tau: float, power: float) -> tuple[float, float]:
    mean = v * t
    if t > 0.0:
        mean += amp * math.exp(power * (1.0 + math.log(t / (power * tau))) - t / tau)
    return -a - mean, a - mean


_first_crossing = crossing_of(_curves)


@nb.njit(cache=True, nogil=True)
def trial(
    v: float,
    a: float,
    t0: float,
    amp: float,
    tau: float,
    shape: float,
    alpha: float,
    st0: float,
    congruency: float,
    rng: Any,
) -> tuple[float, int]:
    """One trial."""
    start = a * (2.0 * rng.beta(alpha, alpha) - 1.0)
    time, choice, _ = _first_crossing((v, a, congruency * amp, tau, shape - 1.0), start, tau, math.inf, rng)
    return t0 + st0 * rng.random() + time, choice


def _passage(
    v: float,
    a: float,
    t0: float,
    amp: float,
    tau: float,
    shape: float,
    alpha: float,
    st0: float,
    congruency: float,
    t_max: float,
) -> Passage:
    """Density of the decision time and the delay, by the equation above."""

    def drift(t: Array) -> Array:
        automatic = amp * np.exp(-t / tau) * (t * math.e / ((shape - 1.0) * tau)) ** (shape - 1.0)
        return np.asarray(v + congruency * automatic * ((shape - 1.0) / t - 1.0 / tau))

    nodes, weights = crowded()
    weights = weights * (nodes * (1.0 - nodes)) ** (alpha - 1.0)
    start, weight = a * (2.0 * nodes - 1.0), weights / weights.sum()
    diffusion = Diffusion(start, drift, constant(a), constant(0.0), weight=weight, edge=alpha - 1.0)
    return first_passage(diffusion, t_max).delayed(st0)


_AMP = parameter(
    "amp", 0.0, 0.6, "height of the automatic impulse", "evidence", typical=(0.05, 0.3), prior=log_normal(0.15, 0.6)
)
_TAU = parameter(
    "tau", 0.01, 0.5, "time scale of the automatic impulse", "s", typical=(0.02, 0.15), prior=log_normal(0.05, 0.7)
)
_PEAK = "shape of the automatic impulse: its peak is at (shape - 1) tau"
_SHAPE = replace(
    parameter("shape", 1.5, 4.0, _PEAK, "1", typical=(2.0, 3.0), prior=log_normal(2.0, 0.3, slope=0.2, group_sd=0.2)),
    support=(1.0, math.inf),
    # The data tell (shape - 1) tau alone.
    fixed=2.0,
)
_ALPHA = parameter(
    "alpha",
    2.0,
    10.0,
    "shape of the beta law of the starting point between the bounds: the larger, the nearer to the middle",
    "1",
    typical=(2.0, 4.0),
    prior=log_normal(3.0, 0.4, group_sd=0.2),
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
            "resMean": "1000*(t0 + st0/2)",
            "amp": "4*sqrt(1000)*amp",
            "tau": "1000*tau",
            "aaShape": "shape",
            "spShape": "alpha",
            "resSD": "1000*st0/sqrt(12)",
        },
        note="spDist = 1, resDist = 2 (uniform, with this sd); comp is congruency +1, incomp -1",
    ),
    "dRiftDM": Counterpart(
        "dmc_dm",
        {
            "muc": "v",
            "b": "a",
            "non_dec": "t0 + st0/2",
            "sd_non_dec": "st0/sqrt(12)",
            "A": "amp",
            "tau": "tau",
            "a": "shape",
            "alpha": "alpha",
        },
        note="its non-decision time is normal with this mean and sd; comp is congruency +1, incomp -1",
    ),
}

SIMULATOR = DecisionModel(
    name="dmc",
    title="diffusion model for conflict tasks",
    parameters=(_DRIFT, THRESHOLD, NON_DECISION, _AMP, _TAU, _SHAPE, _ALPHA, DELAY, CONGRUENCY),
    trial=trial,
    passage=_passage,
    discretisation=UNSEEN,
    symmetries=Symmetries(
        shift="t0",
        delay="st0",
        factors={"amp": "congruency"},
        scale="a",
        scale_powers={"v": 1.0, "amp": -1.0, "tau": -2.0},
        negated=("v", "amp"),
    ),
    citation="Ulrich, Schroeter, Leuthold & Birngruber (2015), Cogn. Psychol. 78:148",
    counterparts=_ELSEWHERE,
)
