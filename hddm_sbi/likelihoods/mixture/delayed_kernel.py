"""Kernel of mixtures over log decision time that are averaged over a uniform delay, in one pass with the gradient."""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray

from hddm_sbi.numerics.vecmath import mix_lapse, total_of, upper_tail
from hddm_sbi.types import Array

_BLOCK = 128
_LOG_2PI_HALF = 0.9189385332046727
#: intervals narrower than this, in standard deviations, are integrated by quadrature: a difference would cancel.
NARROW = 0.02
#: seconds; a delay of 0 is taken for this long, so that its gradient is finite.
SHORTEST = 1e-9

# With d = rt - t0, s the log of the time scale, D the width of the delay, e_k = (log d - s - m_k) / sd_k, and e'_k the
# same at d - D (minus infinity where that is negative),
#   log p(rt, c) = log sum_k exp(log w_k + log G_k) - log D,   G_k = Phi(e_k) - Phi(e'_k)


@nb.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _log_between(low: float, high: float) -> float:
    """log[Phi(high) - Phi(low)], low < high, without cancellation."""
    width = high - low
    if width < NARROW:
        # Three-point Gauss-Legendre: relative error below width^6 high^6 / 1e6.
        middle, reach = 0.5 * (low + high), 0.5 * width * 0.7745966692414834
        average = (8.0 + 10.0 * math.exp(-0.5 * reach * reach) * math.cosh(reach * middle)) / 18.0
        return math.log(width * average) - 0.5 * middle * middle - _LOG_2PI_HALF
    if low + high < 0.0:
        low, high = -high, -low
    tail, beyond = upper_tail(low)[0], upper_tail(high)[0]
    return tail + math.log1p(-math.exp(beyond - tail))


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _density(
    d: Array,
    delay: float,
    s: float,
    log_w: Array,
    mean: Array,
    log_sd: Array,
    share: Array,
    at: Array,
    before: Array,
    e: Array,
    e_before: Array,
    logp: Array,
) -> None:
    """log density of the decision times of a block, averaged over the delay.

    Leaves per component its share, phi(e_k) / G_k and phi(e'_k) / G_k, e_k and e'_k (0 where there is no d - delay).
    """
    for i in range(d.shape[0]):
        z, past = math.log(d[i]) - s, d[i] - delay
        z_past = math.log(past) - s if past > 0.0 else -math.inf
        largest = -math.inf
        for k in range(log_w.shape[0]):
            per_sd = math.exp(-log_sd[k])
            e[k, i] = (z - mean[k]) * per_sd
            if past > 0.0:
                e_before[k, i] = (z_past - mean[k]) * per_sd
                log_g = _log_between(e_before[k, i], e[k, i])
                before[k, i] = math.exp(-0.5 * e_before[k, i] ** 2 - _LOG_2PI_HALF - log_g)
            else:
                log_g = upper_tail(-e[k, i])[0]
                e_before[k, i] = before[k, i] = 0.0
            at[k, i] = math.exp(-0.5 * e[k, i] ** 2 - _LOG_2PI_HALF - log_g)
            share[k, i] = log_w[k] + log_g
            largest = max(largest, share[k, i])
        total = 0.0
        for k in range(log_w.shape[0]):
            share[k, i] = math.exp(share[k, i] - largest)
            total += share[k, i]
        logp[i] = largest + math.log(total) - math.log(delay)
        for k in range(log_w.shape[0]):
            share[k, i] /= total


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _accumulate(
    d: Array,
    delay: float,
    log_sd: Array,
    share: Array,
    at: Array,
    before: Array,
    e: Array,
    e_before: Array,
    weight: Array,
    g_w: Array,
    g_mean: Array,
    g_sd: Array,
) -> tuple[float, float, float]:
    """Add the block's gradients by log weight, mean and log sd; returns those by s, t0 and the delay."""
    by_s, by_t0, by_delay = 0.0, 0.0, 0.0
    for k in range(log_sd.shape[0]):
        per_sd = math.exp(-log_sd[k])
        for i in range(d.shape[0]):
            q = share[k, i] * weight[i]
            now, then = q * at[k, i] * per_sd, q * before[k, i] * per_sd
            g_w[k] += q
            g_mean[k] -= now - then
            g_sd[k] -= q * (at[k, i] * e[k, i] - before[k, i] * e_before[k, i])
            by_s -= now - then
            by_t0 -= now / d[i]
            if then > 0.0:
                by_t0 += then / (d[i] - delay)
                by_delay += then / (d[i] - delay)
            by_delay -= q / delay
    return by_s, by_t0, by_delay


@nb.njit(cache=True, nogil=True, error_model="numpy")
def delayed_cells(
    log_w: Array,
    mean: Array,
    log_sd: Array,
    s: Array,
    t0: Array,
    delay: Array,
    lapse: float,
    lapse_density: float,
    starts: NDArray[np.int64],
    rt: Array,
    total: Array,
    g_w: Array,
    g_mean: Array,
    g_sd: Array,
    g_s: Array,
    g_t0: Array,
    g_delay: Array,
    g_lapse: Array,
) -> None:
    """Per cell: sum over trials of log[(1 - lapse) p + lapse * lapse_density] and its gradients (added to zeros)."""
    n_choices, shape = log_w.shape[1], (log_w.shape[2], _BLOCK)
    parts = np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape)
    logp, weight = np.empty(_BLOCK), np.ones(_BLOCK)
    log_lapse = math.log(lapse * lapse_density) if lapse > 0.0 else -math.inf
    log_odds = math.log1p(-lapse) - log_lapse
    for run in range(len(starts) - 1):
        c, winner = run // n_choices, run % n_choices
        width = max(delay[c], SHORTEST)
        # At or below t0 there is no density, only a lapse.
        above = starts[run] + np.searchsorted(rt[starts[run] : starts[run + 1]], t0[c], side="right")
        below = above - starts[run]
        if below > 0:
            total[c] += below * log_lapse
            g_lapse[c] += below / lapse if lapse > 0.0 else 0.0
        for first in range(above, starts[run + 1], _BLOCK):
            d = rt[first : min(first + _BLOCK, starts[run + 1])] - t0[c]
            n = len(d)
            _density(d, width, s[c], log_w[c, winner], mean[c, winner], log_sd[c, winner], *parts, logp)
            if lapse > 0.0:
                total[c] += n * log_lapse + mix_lapse(logp, weight, n, log_odds)
                regular = total_of(weight, n)
                g_lapse[c] += (n - regular) / lapse - regular / (1.0 - lapse)
            else:
                total[c] += total_of(logp, n)
            to = g_w[c, winner], g_mean[c, winner], g_sd[c, winner]
            by_s, by_t0, by_delay = _accumulate(d, width, log_sd[c, winner], *parts, weight, *to)
            g_s[c] += by_s
            g_t0[c] += by_t0
            g_delay[c] += by_delay
