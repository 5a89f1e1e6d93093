"""Functions of one number that compiled densities call where Python's `math` has none."""

from __future__ import annotations

import math

import numba as nb

from hddm_sbi.numerics.vecmath import exp_negative

# Not cached: they become part of the density that calls them, whose cache knows this file's text.


@nb.njit(nogil=True, error_model="numpy")
def square(x: float) -> float:
    """x²."""
    return x * x


@nb.njit(nogil=True, error_model="numpy")
def sign(x: float) -> float:
    """-1, 0 or 1."""
    return math.copysign(1.0, x) if x != 0.0 else 0.0


@nb.njit(nogil=True, error_model="numpy")
def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x))."""
    e = exp_negative(-abs(x))
    return (1.0 if x >= 0.0 else e) / (1.0 + e)


@nb.njit(nogil=True, error_model="numpy")
def sigmoid_backward(upstream: float, y: float) -> float:
    """Upstream gradient times that of y = sigmoid(x)."""
    return upstream * y * (1.0 - y)


@nb.njit(nogil=True, error_model="numpy")
def tanh_backward(upstream: float, y: float) -> float:
    """Upstream gradient times that of y = tanh(x)."""
    return upstream * (1.0 - y * y)


@nb.njit(nogil=True, error_model="numpy")
def softplus(x: float) -> float:
    """log(1 + exp(x)); x itself above 20, as in torch."""
    return x if x > 20.0 else math.log1p(math.exp(x))


@nb.njit(nogil=True, error_model="numpy")
def softplus_backward(upstream: float, x: float) -> float:
    """Upstream gradient times that of softplus(x)."""
    return upstream if x > 20.0 else upstream * sigmoid(x)


@nb.njit(nogil=True, error_model="numpy")
def silu(x: float) -> float:
    """x sigmoid(x)."""
    return x * sigmoid(x)


@nb.njit(nogil=True, error_model="numpy")
def silu_backward(upstream: float, x: float) -> float:
    """Upstream gradient times that of silu(x)."""
    y = sigmoid(x)
    return upstream * y * (1.0 + x * (1.0 - y))


@nb.njit(nogil=True, error_model="numpy")
def xlogy(x: float, y: float) -> float:
    """x log(y), 0 where x = 0."""
    return 0.0 if x == 0.0 else x * math.log(y)


@nb.njit(nogil=True, error_model="numpy")
def digamma(x: float) -> float:
    """Derivative of log gamma, x > 0: its recurrence up to 10, then a series (Abramowitz & Stegun 6.3.18)."""
    below = 0.0
    while x < 10.0:
        below -= 1.0 / x
        x += 1.0
    f = 1.0 / (x * x)
    series = 1.0 / 12.0 - f * (
        1.0 / 120.0 - f * (1.0 / 252.0 - f * (1.0 / 240.0 - f * (1.0 / 132.0 - f * (691.0 / 32760.0 - f / 12.0))))
    )
    return below + math.log(x) - 0.5 / x - f * series
