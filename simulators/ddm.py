"""Drift-diffusion model: constant drift between two constant bounds (the Wiener process)."""

from __future__ import annotations

import math
from typing import Any

import numba as nb

from hddm_sbi.simulator import Parameter, ParameterPrior, Prior, Simulator, Symmetries

# dx = v dt + dW, x(0) = (2z - 1) a, response when |x| >= a, rt = decision time + t0.

_SPLIT = 0.64
_PI = math.pi


@nb.njit(cache=True, nogil=True)
def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


@nb.njit(cache=True, nogil=True)
def _inverse_gaussian_below_split(z: float, rng: Any) -> float:
    """Inverse Gaussian with mean 1/z and shape 1, given that it is below the split (Polson et al. 2013, algorithm 3)."""
    if z * _SPLIT < 1.0:
        while True:
            e1, e2 = rng.standard_exponential(), rng.standard_exponential()
            while e1 * e1 > 2.0 * e2 / _SPLIT:
                e1, e2 = rng.standard_exponential(), rng.standard_exponential()
            x = _SPLIT / (1.0 + _SPLIT * e1) ** 2
            if rng.random() <= math.exp(-0.5 * z * z * x):
                return x
    mean = 1.0 / z
    while True:
        y = rng.standard_normal() ** 2
        x = mean + 0.5 * mean * mean * y - 0.5 * mean * math.sqrt(4.0 * mean * y + (mean * y) ** 2)
        if rng.random() > mean / (mean + x):
            x = mean * mean / x
        if x < _SPLIT:
            return x


@nb.njit(cache=True, nogil=True)
def _series_term(n: int, x: float) -> float:
    k = n + 0.5
    if x <= _SPLIT:
        return _PI * k * (2.0 / (_PI * x)) ** 1.5 * math.exp(-2.0 * k * k / x)
    return _PI * k * math.exp(-0.5 * k * k * _PI * _PI * x)


@nb.njit(cache=True, nogil=True)
def _exit_time(z: float, rng: Any) -> float:
    """First exit from (-1, 1) of a unit Brownian motion with drift z >= 0 started at 0: exact, by alternating series.

    Its density is cosh(z) exp(-z² x / 2) sum_n (-1)^n a_n(x), the J*(1, z) law of Devroye (2009) and Polson, Scott &
    Windle (2013, section 4.4).
    """
    rate = _PI * _PI / 8.0 + 0.5 * z * z
    root = math.sqrt(_SPLIT)
    # Weights of the two proposals, both times exp(z) so that neither overflows; the last term is below 1e-300 at z = 50.
    right = 0.5 * _PI / rate * math.exp(z - rate * _SPLIT)
    left = 2.0 * _normal_cdf((_SPLIT * z - 1.0) / root)
    if z < 50.0:
        left += 2.0 * math.exp(2.0 * z) * _normal_cdf(-(_SPLIT * z + 1.0) / root)
    while True:
        if rng.random() * (right + left) < right:
            x = _SPLIT + rng.standard_exponential() / rate
        else:
            x = _inverse_gaussian_below_split(z, rng)
        total = _series_term(0, x)
        height = rng.random() * total
        n = 0
        while True:
            n += 1
            if n % 2 == 1:
                total -= _series_term(n, x)
                if height <= total:
                    return x
            else:
                total += _series_term(n, x)
                if height > total:
                    break


@nb.njit(cache=True, nogil=True)
def trial(v: float, a: float, z: float, t0: float, rng: Any) -> tuple[float, int]:
    """One trial, exactly: a walk over the largest centred intervals, each left at an exact time on a side drawn exactly."""
    width = 2.0 * a
    x = z * width
    time = 0.0
    while True:
        upper = width - x
        d = min(x, upper)
        time += d * d * _exit_time(abs(v) * d, rng)
        up = rng.random() * (1.0 + math.exp(-2.0 * v * d)) < 1.0
        if up and upper <= x:
            return t0 + time, 1
        if not up and x <= upper:
            return t0 + time, 0
        x = x + d if up else x - d


_V = Parameter(
    "v",
    -5.0,
    5.0,
    "drift rate, positive towards the upper bound",
    "1/s",
    typical=(0.0, 3.0),
    support=(-math.inf, math.inf),
    prior=ParameterPrior("identity", Prior("normal", 0.0, 3.0), Prior("normal", 0.0, 1.5), Prior("halfnormal", 0.0, 1.0)),
)
_A = Parameter(
    "a",
    0.3,
    2.5,
    "threshold: half the separation of the bounds",
    "evidence",
    typical=(0.5, 1.5),
    support=(0.0, math.inf),
    prior=ParameterPrior("log", Prior("normal", 0.0, 0.6), Prior("normal", 0.0, 0.4), Prior("halfnormal", 0.0, 0.4)),
)
_Z = Parameter(
    "z",
    0.1,
    0.9,
    "relative starting point (bias), 0.5 = unbiased",
    "1",
    typical=(0.4, 0.6),
    support=(0.0, 1.0),
    prior=ParameterPrior("logit", Prior("normal", 0.0, 0.6), Prior("normal", 0.0, 0.4), Prior("halfnormal", 0.0, 0.3)),
)
_T0 = Parameter(
    "t0",
    0.0,
    2.0,
    "non-decision time",
    "s",
    typical=(0.2, 0.5),
    support=(0.0, math.inf),
    prior=ParameterPrior(
        "log", Prior("normal", math.log(0.3), 0.6), Prior("normal", 0.0, 0.4), Prior("halfnormal", 0.0, 0.4)
    ),
)

# HDDM's informative priors (Wiecki, Sofer & Frank 2013): its a is the full separation, ours half, so its means and
# standard deviations of a are halved.
_HDDM = {
    "v": ParameterPrior("identity", Prior("normal", 2.0, 3.0), Prior("normal", 0.0, 3.0), Prior("halfnormal", 0.0, 2.0)),
    "a": ParameterPrior(
        "identity", Prior("gamma", 0.75, 0.375), Prior("normal", 0.0, 0.75), Prior("halfnormal", 0.0, 1.0), "gamma"
    ),
    "z": ParameterPrior("logit", Prior("normal", 0.5, 0.5), Prior("normal", 0.0, 0.5), Prior("halfnormal", 0.0, 0.05)),
    "t0": ParameterPrior(
        "identity", Prior("gamma", 0.4, 0.2), Prior("normal", 0.0, 0.4), Prior("halfnormal", 0.0, 1.0), "gamma"
    ),
}

SIMULATOR = Simulator(
    name="ddm",
    title="drift-diffusion model",
    parameters=(_V, _A, _Z, _T0),
    choices=(-1, 1),
    trial=trial,
    symmetries=Symmetries(
        shift="t0",
        scale="a",
        scale_powers={"v": 1.0},
        negated=("v",),
        complemented=("z",),
        even_given_choice=("v",),
    ),
    citation="Ratcliff & McKoon (2008), Neural Computation 20:873; Navarro & Fuss (2009), J. Math. Psychol. 53:222",
    literature_priors={"hddm": _HDDM},
)
