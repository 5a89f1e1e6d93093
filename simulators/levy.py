"""Lévy-flight model: evidence that moves in alpha-stable jumps."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._elsewhere import diffusions
from hddm_sbi.simulators._parameters import BIAS, DRIFT, NON_DECISION, THRESHOLD, plain_normal, two_bounds

from hddm_sbi.simulation import Clock, DecisionModel, parameter
from hddm_sbi.simulation.first_passage import Passage, Solution, grid
from hddm_sbi.simulation.moving_bounds import crossing_time
from hddm_sbi.simulation.stable_motion import exits, jumps_out
from hddm_sbi.types import Array

# dx = v dt + dL, x(0) = (2z - 1) a, response when |x| >= a, rt = decision time + t0. L is symmetric alpha-stable with
# E exp(i k L(t)) = exp(-t |k / 2^1/2|^alpha): alpha = 2 is the Wiener process, alpha = 1 the Cauchy process.
# (The noise of HSSM and of Voss et al. is larger by 2^1/2: divide their a and v by it.)
#
# L is the sum of its jumps, C |x|^(-1 - alpha) dx of them per unit of time with C = 2^(-alpha / 2) Gamma(1 + alpha)
# sin(pi alpha / 2) / pi. Those above a size e are drawn one by one. Between them L is taken for a Brownian motion of
# variance 2 C e^(2 - alpha) / (2 - alpha), that of the smaller ones (Asmussen & Rosinski 2001), whose crossing of the
# bounds is known exactly. It climbs higher than they do: the means of the two highest points differ by e times
#   kappa = 1/pi int_0^inf log[u² / (2 (2 - alpha) psi(u))] du / u²,  psi(u) = int_0^1 (1 - cos u x) x^(-1 - alpha) dx
# (the difference of two of Spitzer's identities), so the bounds are moved outwards by that, and the error left is of
# order e² without drift, and of order e where the drift decides. tests/simulation/test_levy.py states it.

#: smallest jump that is drawn, relative to the bound, for alpha = 1, and what is added until alpha = 2. Where the drift
#: decides and alpha is near 1, distribution functions are off by .1 %, in proportion to the first (docs/decisions/068).
_SMALLEST, _LARGER = 0.005, 0.03


@nb.njit(cache=True, nogil=True)
def _kappa(alpha: float) -> float:
    """kappa, by a polynomial in 2 - alpha with an error below 1e-8."""
    d = 2.0 - alpha
    p = -7.23514469e-04 + d * 1.25229796e-04
    p = 1.26077107e-02 + d * (-5.58246655e-03 + d * (2.12334793e-03 + d * p))
    return d * (1.66666661e-01 + d * (-3.61104988e-02 + d * p))


@nb.njit(cache=True, nogil=True)
def trial(v: float, a: float, z: float, t0: float, alpha: float, rng: Any) -> tuple[float, int]:
    """One trial."""
    smallest = (_SMALLEST + _LARGER * (alpha - 1.0)) * a
    d = 2.0 - alpha
    angle = 0.5 * math.pi * d
    intensity = 2.0 ** (-0.5 * alpha) * math.gamma(1.0 + alpha) * (0.5 * math.sin(angle) / angle if d > 0.0 else 0.5)
    variance = 2.0 * intensity * smallest**d
    jumps = variance * d / (alpha * smallest**2)
    bound = a + smallest * _kappa(alpha)
    longest = bound * bound / (3.0 * variance)
    t, x = 0.0, (2.0 * z - 1.0) * a
    while True:
        until_jump = rng.standard_exponential() / jumps if jumps > 0.0 else math.inf
        while until_jump > 0.0:
            h = min(until_jump, longest)
            spread = variance * h
            end = x + v * h + math.sqrt(spread) * rng.standard_normal()
            upper = x + end > 0.0
            gap, gap_end = (bound - x, bound - end) if upper else (bound + x, bound + end)
            if gap_end <= 0.0 or rng.random() < math.exp(-2.0 * gap * gap_end / spread):
                return t0 + t + crossing_time(gap, gap_end, spread, rng) / variance, 1 if upper else 0
            t, x, until_jump = t + h, end, until_jump - h
        jump = smallest * (1.0 - rng.random()) ** (-1.0 / alpha)
        x += jump if rng.random() < 0.5 else -jump
        if abs(x) >= bound:
            return t0 + t, 1 if x > 0.0 else 0


#: degree of the polynomials on a grid of 150 points, and how much more on one of twice as many.
_DEGREE, _HIGHER = 8, 2


def _passage(v: float, a: float, z: float, _: float, alpha: float, *, t_max: float) -> Passage:
    """Density of the decision time, by the backward equation: in units of a, and of time a^alpha."""
    unit, start, c = a**alpha, 2.0 * z - 1.0, 2.0 ** (-0.5 * alpha)
    at_once = np.log(jumps_out(start, c, alpha) / unit)

    def early(t: Array) -> Array:
        return np.repeat(at_once[:, None], len(t), axis=1)

    @cache
    def solution(n: int) -> Solution:
        found = exits(v * unit / a, c, alpha, _DEGREE + round(_HIGHER * math.log2(n / 150.0)))
        t = grid(t_max, n)
        with np.errstate(all="ignore"):
            beyond = np.log(found.density(start, t / unit) / unit) - early(t)
        beyond[:, 0] = 0.0
        return Solution(t, beyond, early)

    return Passage(solution)


_STABILITY = "stability: the smaller, the more often evidence jumps; 2 = Wiener process"
_ALPHA = replace(
    parameter("alpha", 1.0, 2.0, _STABILITY, "1", typical=(1.2, 2.0), prior=plain_normal(1.6, 0.3, 0.2, 0.2)),
    support=(1.0, 2.0),
)

_LOUDER = {"v": "sqrt(2)*v", "a": "sqrt(2)*a", "alpha": "alpha"}

SIMULATOR = DecisionModel(
    name="levy",
    title="Lévy-flight model",
    parameters=(DRIFT, THRESHOLD, BIAS, NON_DECISION, _ALPHA),
    trial=trial,
    passage=_passage,
    solved_for_all=("z",),
    symmetries=replace(two_bounds(v=lambda at: at["alpha"] - 1.0), time_power=lambda at: at["alpha"]),
    clock=Clock(tail="early"),
    discretisation="mean decision time off by less than 0.25 % (five se of 4e6 trials, tests/simulation/test_levy.py)",
    citation="Voss, Lerche, Mertens & Voss (2019), Psychon. Bull. Rev. 26:813",
    counterparts=diffusions(dict.fromkeys(("HSSM", "ssm-simulators"), ("levy", _LOUDER))),
)
