"""Shrinking spotlight model of the flanker task: attention narrows down to the target while evidence accumulates."""

import math
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._parameters import CONGRUENCY, NON_DECISION, THRESHOLD, log_normal, plain_normal
from scipy.special import ndtr

from hddm_sbi.simulation import Counterpart, DecisionModel, Symmetries, parameter
from hddm_sbi.simulation.first_passage import Diffusion, Passage, constant, first_passage
from hddm_sbi.simulation.moving_bounds import UNSEEN, crossing_of
from hddm_sbi.types import Array

# dx = p [A(t) + congruency (1 - A(t))] dt + dW, x(0) = 0, upper (correct) or lower (error) when |x| >= a,
# rt = decision time + t0. The spotlight is a normal density of standard deviation u(t) = max(sda - rd t, 0), in widths
# of an item; the target takes the part A = erf(k / u), k = 8^-1/2, and the flankers take the rest. In closed form,
#   int_0^t A = (F(sda) - F(u)) / rd + max(t - sda / rd, 0),  F(u) = u erf(k / u) + k pi^-1/2 E1(k² / u²).

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
    t: float, p: float, a: float, sda: float, rd: float, congruency: float, widest: float
) -> tuple[float, float]:
    u = max(sda - rd * t, 0.0)
    attended = (widest - _area(u)) / rd + max(t - sda / rd, 0.0)
    mean = p * (congruency * t + (1.0 - congruency) * attended)
    return -a - mean, a - mean


_first_crossing = crossing_of(_curves)


@nb.njit(cache=True, nogil=True)
def trial(p: float, a: float, t0: float, sda: float, rd: float, congruency: float, rng: Any) -> tuple[float, int]:
    """One trial."""
    time, choice, _ = _first_crossing((p, a, sda, rd, congruency, _area(sda)), 0.0, sda / rd, math.inf, rng)
    return t0 + time, choice


def _passage(p: float, a: float, t0: float, sda: float, rd: float, congruency: float, t_max: float) -> Passage:
    """Density of the decision time, by the equation above."""

    def drift(t: Array) -> Array:
        attended = 2.0 * ndtr(0.5 / np.maximum(sda - rd * t, 1e-9)) - 1.0
        return np.asarray(p * (attended + congruency * (1.0 - attended)))

    return first_passage(Diffusion(0.0, drift, constant(a), constant(0.0)), t_max)


_STRENGTH = "perceptual strength of an item: drift under full attention"
_P = parameter("p", 0.0, 8.0, _STRENGTH, "1/s", typical=(2.0, 5.0), prior=plain_normal(3.0, 2.0, 1.5, 1.0))
_WIDTH = "standard deviation of the spotlight at first"
_SDA = parameter("sda", 0.5, 3.0, _WIDTH, "items", typical=(1.0, 2.5), prior=log_normal(1.6, 0.3, 0.2, 0.2))
_RD = parameter(
    "rd", 2.0, 60.0, "rate at which the spotlight shrinks", "items/s", typical=(10.0, 40.0), prior=log_normal(18.0, 0.7)
)
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
            "r": "rd",
            "sda": "sda",
        },
    ),
    "dRiftDM": Counterpart(
        "ssp_dm",
        {"b": "a", "non_dec": "t0", "p": "p", "sd_0": "sda", "r": "rd"},
        note="sd_non_dec = 0; comp is congruency +1, incomp -1",
    ),
    "Ratcliff": Counterpart(
        "White, Ratcliff & Starns (2011), s = 0.1",
        {"p": "p/10", "a": "a/5", "Ter": "t0", "sda": "sda", "rd": "rd/1000"},
        note="rd per millisecond",
    ),
}

SIMULATOR = DecisionModel(
    name="ssp",
    title="shrinking spotlight model",
    parameters=(_P, THRESHOLD, NON_DECISION, _SDA, _RD, CONGRUENCY),
    trial=trial,
    passage=_passage,
    discretisation=UNSEEN,
    symmetries=Symmetries(shift="t0", scale="a", scale_powers={"p": 1.0, "rd": 2.0}, negated=("p",)),
    citation="White, Ratcliff & Starns (2011), Cogn. Psychol. 63:210",
    counterparts=_ELSEWHERE,
)
