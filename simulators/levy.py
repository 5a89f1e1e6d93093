"""Lévy-flight model: evidence that moves in alpha-stable jumps."""

from __future__ import annotations

import math
from typing import Any

import numba as nb

from hddm_sbi.diffusion import BIAS, DRIFT, NON_DECISION, THRESHOLD
from hddm_sbi.simulator import Parameter, ParameterPrior, Prior, Simulator, Symmetries

# dx = v dt + dL, x(0) = (2z - 1) a, response when |x| >= a, rt = decision time + t0. L is symmetric alpha-stable with
# E exp(i k L(t)) = exp(-t |k / 2^1/2|^alpha): alpha = 2 is the Wiener process, alpha = 1 the Cauchy process.
# (The noise of HSSM and of Voss et al. is larger by 2^1/2: divide their a and v by it.)
#
# x is watched at times h apart, by which a bound is reached too late: the highest x seen in time t falls short of the
# highest x, in the mean, by -zeta(1 - 1 / alpha) E[L(h); L(h) > 0] (Spitzer 1956; for alpha = 2 the 0.5826 h^1/2 of
# Siegmund 1985). The bounds are moved inwards by that much, with steps cut off at 2a: longer ones never come back.

#: steps per unit of reduced time a^alpha. tests/test_diffusions.py states the error that is left.
_STEPS = 500.0


@nb.njit(cache=True, nogil=True)
def _stable(alpha: float, rng: Any) -> float:
    """A draw with E exp(i k S) = exp(-|k|^alpha), 1 <= alpha <= 2 (Chambers, Mallows & Stuck 1976)."""
    angle = math.pi * (rng.random() - 0.5)
    power = (1.0 - alpha) / alpha
    cosine = math.cos(angle)
    rest = math.cos((1.0 - alpha) * angle) / rng.standard_exponential()
    return math.sin(alpha * angle) / cosine * (rest / cosine) ** power


@nb.njit(cache=True, nogil=True)
def _zeta(s: float) -> float:
    """Riemann's zeta, 0 < s < 1, to 1e-9: nine terms and the Euler-Maclaurin remainder."""
    n = 10.0
    total = n ** (1.0 - s) / (s - 1.0) + 0.5 * n**-s + s / 12.0 * n ** (-s - 1.0)
    total -= s * (s + 1.0) * (s + 2.0) / 720.0 * n ** (-s - 3.0)
    for k in range(1, 10):
        total += float(k) ** -s
    return total


@nb.njit(cache=True, nogil=True)
def _late(alpha: float, cut: float) -> float:
    """Mean shortfall of the highest point seen, in units of h^1/alpha for the law of `_stable`, steps cut off."""
    alpha = max(alpha, 1.0 + 1e-7)  # where the two infinite terms still cancel in double precision
    beyond = math.gamma(1.0 + alpha) * math.sin(0.5 * math.pi * alpha) / (alpha - 1.0) * cut ** (1.0 - alpha)
    return -_zeta(1.0 - 1.0 / alpha) * (math.gamma(1.0 - 1.0 / alpha) - beyond) / math.pi


@nb.njit(cache=True, nogil=True)
def trial(v: float, a: float, z: float, t0: float, alpha: float, rng: Any) -> tuple[float, int]:
    """One trial; a response falls anywhere within the step in which it is seen."""
    h = a**alpha / _STEPS
    noise = math.sqrt(0.5) * h ** (1.0 / alpha)
    bound = a - noise * _late(alpha, 2.0 * a / noise)
    x, seen = (2.0 * z - 1.0) * a, 0
    while abs(x) < bound or seen == 0:
        x += v * h + noise * _stable(alpha, rng)
        seen += 1
    return t0 + h * (seen - rng.random()), 1 if x > 0.0 else 0


_ALPHA = Parameter(
    "alpha",
    1.0,
    2.0,
    "stability: the smaller, the more often evidence jumps; 2 = Wiener process",
    "1",
    typical=(1.2, 2.0),
    support=(1.0, 2.0),
    prior=ParameterPrior(
        "identity", Prior("normal", 1.6, 0.3), Prior("normal", 0.0, 0.2), Prior("halfnormal", 0.0, 0.2)
    ),
)

SIMULATOR = Simulator(
    name="levy",
    title="Lévy-flight model",
    parameters=(DRIFT, THRESHOLD, BIAS, NON_DECISION, _ALPHA),
    choices=(-1, 1),
    trial=trial,
    symmetries=Symmetries(
        shift="t0",
        scale="a",
        time_power=lambda at: at["alpha"],
        scale_powers={"v": lambda at: at["alpha"] - 1.0},
        negated=("v",),
        complemented=("z",),
    ),
    citation="Voss, Lerche, Mertens & Voss (2019), Psychon. Bull. Rev. 26:813",
)
