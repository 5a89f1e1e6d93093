"""The Wiener process between two constant bounds: exact exits, and the series of its density."""

import math
from typing import Any

import numba as nb
import numpy as np

from hddm_sbi.numerics import FAST, exp_negative, log_positive
from hddm_sbi.simulation.accumulators import normal
from hddm_sbi.types import Array

# dx = v dt + dW between -a and a from x(0) = (2z - 1) a.


_PI = math.pi
#: exit times below and above are proposed from different laws (Devroye 2009).
_SPLIT = 0.64
#: reduced times u below and above are summed by different series; four terms of either are exact to 1e-11 there.
_SMALL_TIME = 0.25


@nb.njit(cache=True, nogil=True)
def _inverse_gaussian_below_split(z: float, rng: Any) -> float:
    """Inverse Gaussian with mean 1/z and shape 1, given that it lies below the split (Polson et al. 2013)."""
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
    # Weights of the two proposals, both times exp(z) so that neither overflows; the last term vanishes at z = 50.
    right = 0.5 * _PI / rate * math.exp(z - rate * _SPLIT)
    left = 2.0 * normal((_SPLIT * z - 1.0) / root)[1]
    if z < 50.0:
        left += 2.0 * math.exp(2.0 * z) * normal(-(_SPLIT * z + 1.0) / root)[1]
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
def first_exit(v: float, a: float, z: float, rng: Any) -> tuple[float, int]:
    """Time and side (1 upper, 0 lower), exactly: a walk over the largest centred intervals, each left at an exact time
    on an exact side."""
    width = 2.0 * a
    x = z * width
    time = 0.0
    while True:
        upper = width - x
        d = min(x, upper)
        time += d * d * _exit_time(abs(v) * d, rng)
        up = rng.random() * (1.0 + math.exp(-2.0 * v * d)) < 1.0
        if up and upper <= x:
            return time, 1
        if not up and x <= upper:
            return time, 0
        x = x + d if up else x - d


# Without drift, the density at the lower bound is A^-2 f(u, w), with A = 2a, w = z, u = t / A² (Navarro & Fuss 2009):
#   f(u, w) = (2 pi u³)^-1/2 sum_k (w + 2k) exp(-(w + 2k)² / (2u))          small u
#           = pi sum_k k sin(k pi w) exp(-k² pi² u / 2)                       large u
# The upper bound is the lower bound of the model with -v and 1 - z.


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _small_times(
    rt: Array, first: int, last: int, t0: float, w: float, A: float, f: Array, f_u: Array, f_w: Array
) -> None:
    """log f and its derivatives by u and w, for u <= 0.25: terms k = 0, -1, 1, -2 relative to exp(-w² / 2u)."""
    per_area = 1.0 / (A * A)
    c1, c2, c3 = w - 2.0, w + 2.0, w - 4.0
    log_2pi = math.log(2.0 * _PI)
    for i in range(first, last):
        v = 1.0 / ((rt[i] - t0) * per_area)
        b = exp_negative(-2.0 * w * v)
        e1 = exp_negative(-2.0 * (1.0 - w) * v)
        e2 = e1 * b * b
        e3 = e1 * e1 * e1 * e1 * b * b
        s0 = w + c1 * e1 + c2 * e2 + c3 * e3
        s1 = 1.0 + e1 + e2 + e3
        s2 = w * w + c1 * c1 * e1 + c2 * c2 * e2 + c3 * c3 * e3
        s3 = w * w * w + c1 * c1 * c1 * e1 + c2 * c2 * c2 * e2 + c3 * c3 * c3 * e3
        inverse = 1.0 / s0
        f[i] = -0.5 * log_2pi + 1.5 * log_positive(v) + log_positive(s0) - 0.5 * w * w * v
        f_u[i] = v * (-1.5 + 0.5 * v * s3 * inverse)
        f_w[i] = (s1 - v * s2) * inverse


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _large_times(
    rt: Array, first: int, last: int, t0: float, w: float, A: float, f: Array, f_u: Array, f_w: Array
) -> None:
    """log f and its derivatives by u and w, for u > 0.25: terms k = 1 to 4 relative to exp(-pi² u / 2)."""
    per_area = 1.0 / (A * A)
    half = 0.5 * _PI * _PI
    sin1, sin2, sin3, sin4 = math.sin(_PI * w), math.sin(2 * _PI * w), math.sin(3 * _PI * w), math.sin(4 * _PI * w)
    cos1, cos2, cos3, cos4 = math.cos(_PI * w), math.cos(2 * _PI * w), math.cos(3 * _PI * w), math.cos(4 * _PI * w)
    log_pi = math.log(_PI)
    for i in range(first, last):
        u = (rt[i] - t0) * per_area
        q = exp_negative(-half * u)
        q3 = q * q * q
        q8 = q3 * q3 * q * q
        q15 = q8 * q3 * q3 * q
        s0 = sin1 + 2.0 * sin2 * q3 + 3.0 * sin3 * q8 + 4.0 * sin4 * q15
        s_u = sin1 + 8.0 * sin2 * q3 + 27.0 * sin3 * q8 + 64.0 * sin4 * q15
        s_w = cos1 + 4.0 * cos2 * q3 + 9.0 * cos3 * q8 + 16.0 * cos4 * q15
        inverse = 1.0 / s0
        f[i] = log_pi + log_positive(s0) - half * u
        f_u[i] = -half * s_u * inverse
        f_w[i] = _PI * s_w * inverse


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_driftless(rt: Array, first: int, t0: float, w: float, A: float, f: Array, f_u: Array, f_w: Array) -> None:
    """log f(u, w) at the lower bound and its derivatives, for rt[first:], all above t0 and ascending."""
    split = max(first, int(np.searchsorted(rt, t0 + _SMALL_TIME * A * A, side="right")))
    _small_times(rt, first, split, t0, w, A, f, f_u, f_w)
    _large_times(rt, split, rt.shape[0], t0, w, A, f, f_u, f_w)


# A drift that differs between trials, N(v, q), leaves a Gaussian integral (Tuerlinckx 2004). With c = A w, D = 1 + q t:
#   p(t) = A^-2 f(u, w) D^-1/2 exp((q c² - 2 v c - v² t) / 2D)


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def log_density_of_varying_drift(
    rt: Array, first: int, t0: float, w: float, A: float, v: float, q: float, logp: Array, grad: Array
) -> None:
    """Log density at the lower bound of rt[first:], all above t0 and ascending, and its derivatives.

    grad: (5, n), rows by v, A, w, t and q = sv².
    """
    log_driftless(rt, first, t0, w, A, logp, grad[0], grad[2])
    per_area, log_area, c = 1.0 / (A * A), 2.0 * math.log(A), A * w
    for i in range(first, rt.shape[0]):
        t = rt[i] - t0
        f_u, f_w = grad[0, i], grad[2, i]
        inverse = 1.0 / (1.0 + q * t)
        e = 0.5 * (q * c * c - 2.0 * v * c - v * v * t) * inverse
        by_c = (q * c - v) * inverse
        logp[i] = logp[i] - log_area + e + 0.5 * log_positive(inverse)
        grad[0, i] = -(c + v * t) * inverse
        grad[1, i] = by_c * w - 2.0 / A * (1.0 + per_area * t * f_u)
        grad[2, i] = by_c * A + f_w
        grad[3, i] = per_area * f_u - (0.5 * v * v + e * q + 0.5 * q) * inverse
        grad[4, i] = 0.5 * c * c * inverse - (e + 0.5) * t * inverse
