"""Shrinking spotlight model of the flanker task: attention narrows down to the target while evidence accumulates."""

import math
from dataclasses import replace
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._parameters import (
    CONGRUENCY,
    DELAY,
    NON_DECISION,
    START_WIDTH,
    THRESHOLD,
    log_normal,
    plain_normal,
)
from scipy.special import ndtr

from hddm_sbi.simulation import Counterpart, DecisionModel, Symmetries, parameter
from hddm_sbi.simulation.first_passage import Diffusion, Passage, constant, crowded, first_passage
from hddm_sbi.simulation.moving_bounds import UNSEEN, crossing_of
from hddm_sbi.types import Array

# dx = p [A(t) + congruency (1 - A(t))] dt + dW, x(0) uniform on [-sz a, sz a], upper (correct) or lower (error) when
# |x| >= a, rt = decision time + a time uniform on [t0, t0 + st0]. The spotlight is a normal density of standard
# deviation u(t) = sda max(1 - t / ti, 0), in widths of an item; the target takes the part A = erf(k / u), k = 8^-1/2,
# and the flankers take the rest. In closed form,
#   int_0^t A = (F(sda) - F(u)) ti / sda + max(t - ti, 0),  F(u) = u erf(k / u) + k pi^-1/2 E1(k² / u²).
# White et al.'s rate of shrinking is sda / ti; the data tell the interference time ti, and next to nothing of sda.

_K = math.sqrt(0.125)
_EULER = 0.5772156649015329


@nb.njit(cache=True, nogil=True)
def _exponential_integral(x: float) -> float:
    """E1(x), x > 0, to 1e-12: power series below 5, continued fraction above (Abramowitz & Stegun 5.1.11, 5.1.22)."""
    if x < 5.0:
        total, term = -_EULER - math.log(x), -1.0
        for k in range(1, 35):
            term *= -x / k
            total += term / k
        return total
    fraction = 0.0
    for k in range(int(8.0 + 70.0 / x), 0, -1):
        fraction = k / (1.0 + k / (x + fraction))
    return math.exp(-x) / (x + fraction)


@nb.njit(cache=True, nogil=True)
def _area(u: float) -> float:
    """F(u): int_0^u erf(k / y) dy."""
    if u < 0.05:
        return u
    ratio = _K / u
    return u * math.erf(ratio) + _K / math.sqrt(math.pi) * _exponential_integral(ratio * ratio)


@nb.njit(nogil=True)
def _curves(
    t: float, p: float, a: float, ti: float, sda: float, congruency: float, widest: float
) -> tuple[float, float]:
    u = sda * max(1.0 - t / ti, 0.0)
    attended = (widest - _area(u)) * ti / sda + max(t - ti, 0.0)
    mean = p * (congruency * t + (1.0 - congruency) * attended)
    return -a - mean, a - mean


_first_crossing = crossing_of(_curves)


@nb.njit(cache=True, nogil=True)
def trial(
    p: float, a: float, t0: float, ti: float, sda: float, sz: float, st0: float, congruency: float, rng: Any
) -> tuple[float, int]:
    """One trial."""
    start = a * sz * (2.0 * rng.random() - 1.0)
    time, choice, _ = _first_crossing((p, a, ti, sda, congruency, _area(sda)), start, ti, math.inf, rng)
    return t0 + st0 * rng.random() + time, choice


def _passage(
    p: float, a: float, t0: float, ti: float, sda: float, sz: float, st0: float, congruency: float, t_max: float
) -> Passage:
    """Density of the decision time and the delay, by the equation above."""

    def drift(t: Array) -> Array:
        attended = 2.0 * ndtr(0.5 / np.maximum(sda * (1.0 - t / ti), 1e-9)) - 1.0
        return np.asarray(p * (attended + congruency * (1.0 - attended)))

    nodes, weight = crowded()
    start = a * sz * (2.0 * nodes - 1.0)
    return first_passage(Diffusion(start, drift, constant(a), constant(0.0), weight=weight), t_max).delayed(st0)


_STRENGTH = "perceptual strength of an item: drift under full attention"
_P = parameter("p", 0.0, 8.0, _STRENGTH, "1/s", typical=(2.0, 5.0), prior=plain_normal(3.0, 2.0, 1.5, 1.0))
_TIME = "interference time: until the spotlight has shrunk to the target"
_TI = parameter("ti", 0.02, 0.5, _TIME, "s", typical=(0.05, 0.3), prior=log_normal(0.1, 0.7))
_WIDTH = "standard deviation of the spotlight at first"
_SDA = replace(
    parameter("sda", 0.5, 3.0, _WIDTH, "items", typical=(1.0, 2.5), prior=log_normal(1.6, 0.3, 0.2, 0.2)),
    # As in White et al. (2011); the data tell sda and the rate sda / ti hardly apart.
    fixed=1.8,
)
_NO_VARIABILITY = {"sz": 0.0, "st0": 0.0}
_ELSEWHERE = {
    "ssm-simulators": Counterpart(
        "shrink_spot_simple",
        {
            "v": "0",
            "a": "a",
            "z": "0.5",
            "t": "t0",
            "ptarget": "p",
            "pouter": "congruency*p",
            "r": "sda/ti",
            "sda": "sda",
        },
        without=_NO_VARIABILITY,
    ),
    "dRiftDM": Counterpart(
        "ssp_dm",
        {
            "b": "a",
            "non_dec": "t0 + st0/2",
            "sd_non_dec": "st0/sqrt(12)",
            "p": "p",
            "sd_0": "sda",
            "r": "sda/ti",
        },
        without={"sz": 0.0},
        note="its non-decision time is normal with this mean and sd; comp is congruency +1, incomp -1",
    ),
    "Ratcliff": Counterpart(
        "White, Ratcliff & Starns (2011), s = 0.1",
        {"p": "p/10", "a": "a/5", "Ter": "t0", "sda": "sda", "rd": "sda/ti/1000"},
        without=_NO_VARIABILITY,
        note="rd per millisecond",
    ),
}

SIMULATOR = DecisionModel(
    name="ssp",
    title="shrinking spotlight model",
    parameters=(_P, THRESHOLD, NON_DECISION, _TI, _SDA, START_WIDTH, DELAY, CONGRUENCY),
    trial=trial,
    passage=_passage,
    discretisation=UNSEEN,
    symmetries=Symmetries(shift="t0", delay="st0", scale="a", scale_powers={"p": 1.0, "ti": -2.0}, negated=("p",)),
    citation="White, Ratcliff & Starns (2011), Cogn. Psychol. 63:210",
    counterparts=_ELSEWHERE,
)
