"""The clock of bounds that collapse like a Weibull law: decision times read off it have ordinary tails."""

from __future__ import annotations

import torch
from torch import Tensor

from hddm_sbi.likelihoods.bisection import bisect
from hddm_sbi.numerics import FAST, exp_negative, inner, log_positive
from hddm_sbi.types import Array

# Between bounds b(t) = b exp(-s), s = (rate t)^power, decisions come at a pace of 1/b(t)²: they look as between
# constant bounds on the clock int_0^t exp(2 s) du. Its logarithm is log t + C; to first order at either end,
#   C = log(1 + (exp(2 s) - 1) / g),  g = 1 + power + 2 power s,
# and the density on it is that in log t divided by D = dy / dlog t = 1 + power s dC/ds. With q = exp(-2 s),
#   A = 1 + (g - 1) q,  N = 2 q (power + 1 - g),  C = 2 s - log g + log A,  dC/ds = 2 - 2 power / g + N / A.
# Any increasing C would do: the density is exact, and only how easily it is learned depends on the clock.


def collapse(log_t: Tensor, rate: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
    """C and log D at log decision times; all of one shape."""
    s = torch.exp(power * (log_t + torch.log(rate)))
    g, q = 1.0 + power + 2.0 * power * s, torch.exp(-2.0 * s)
    a = 1.0 + (g - 1.0) * q
    slope = 2.0 - 2.0 * power / g + 2.0 * q * (power + 1.0 - g) / a
    return 2.0 * s - torch.log(g) + torch.log(a), torch.log1p(power * s * slope)


def log_time_on(clock: Tensor, rate: Tensor, power: Tensor) -> Tensor:
    """The log decision time at which log t + C is `clock`, by bisection; all of one shape."""
    soonest = torch.minimum(clock, -torch.log(rate)) - 5.0 / power
    low, high = bisect(lambda log_t: log_t + collapse(log_t, rate, power)[0] < clock, soonest, clock)
    return 0.5 * (low + high)


@inner(fastmath=FAST, forceinline=True)
def _power_of(t: float, rate: float, power: float) -> tuple[float, float]:
    """log(rate t), and s."""
    log_ratio = log_positive(t * rate)
    e = exp_negative(-abs(power * log_ratio))
    return log_ratio, e if log_ratio < 0.0 else 1.0 / e


@inner(fastmath=FAST, forceinline=True)
def add_collapse(d: Array, rate: Array, power: Array, n: int, y: Array, logp: Array) -> None:
    """Add C to y and log D to logp, of the first n decision times."""
    for i in range(n):
        p = power[i]
        _, s = _power_of(d[i], rate[i], p)
        g, q = 1.0 + p + 2.0 * p * s, exp_negative(-2.0 * s)
        a = 1.0 + (g - 1.0) * q
        slope = 2.0 - 2.0 * p / g + 2.0 * q * (p + 1.0 - g) / a
        y[i] += 2.0 * s + log_positive(a / g)
        logp[i] += log_positive(1.0 + p * s * slope)


@inner(fastmath=FAST, forceinline=True)
def add_collapse_gradient(
    d: Array,
    rate: Array,
    power: Array,
    n: int,
    by_y: Array,
    weight: Array,
    by_d: Array,
    by_rate: Array,
    by_power: Array,
) -> None:
    """Add what C and log D contribute to gradients by d, rate and power: by_y is that by y, weight that by logp."""
    for i in range(n):
        p = power[i]
        log_ratio, s = _power_of(d[i], rate[i], p)
        g, q = 1.0 + p + 2.0 * p * s, exp_negative(-2.0 * s)
        a, m = 1.0 + (g - 1.0) * q, 2.0 * q * (p + 1.0 - g)
        m_by_s = -4.0 * q * (2.0 * p + 1.0 - g)
        by_s = 2.0 - 2.0 * p / g + m / a
        by_s_s = 4.0 * p * p / (g * g) + m_by_s / a - m * m / (a * a)
        g_by_power = 1.0 + 2.0 * s
        by_s_power = 2.0 * p * g_by_power / (g * g) - 2.0 / g - 4.0 * s * q / a - m * g_by_power * q / (a * a)
        stretch = 1.0 + p * s * by_s
        stretch_by_s = p * (by_s + s * by_s_s)
        by_log = by_y[i] * (stretch - 1.0) + weight[i] * stretch_by_s / stretch * p * s
        by_d[i] += by_log / d[i]
        by_rate[i] += by_log / rate[i]
        change = by_s * s * log_ratio + g_by_power * (q / a - 1.0 / g)
        stretch_change = stretch_by_s * s * log_ratio + s * (by_s + p * by_s_power)
        by_power[i] += by_y[i] * change + weight[i] * stretch_change / stretch
