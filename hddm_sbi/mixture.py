"""Kernels of mixtures over log decision time, alone or racing each other, in one pass with the analytic gradient."""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray

from hddm_sbi.clock import add_collapse, collapse_gradient
from hddm_sbi.vecmath import FAST, exp_negative, log_positive, mix_lapse, total_of, upper_tail

Array = NDArray[np.float64]

_BLOCK = 128
_LOG_2PI_HALF = 0.9189385332046727

# With d = rt - t0, y = log d - log(1 - r d) - s (s: log of the time scale; r: one over the time at which decisions end,
# or 0; where bounds collapse, log d + C - s as in `clock.py`), z = y, or z(y) below where a tail is heavy, and
# e_k = (z - m_k) / sd_k, for each choice
#   log f = log sum_k exp(log w_k - log sd_k - e_k² / 2) - log(2 pi) / 2 + log dz/dy - log d - log(1 - r d)
#   log S = log sum_k exp(log w_k + log Phi(-e_k)),   dS / dm_k = w_k phi(e_k) / sd_k
# log p(rt, c) is log f_c, or log f_c + sum_{j != c} log S_j where the choices race.
#
# Heavy tails, P(rt > t) ~ 1/t, are exponential in y. With w = log(1 + e^y), z = y - w + (1 + 2w)^1/2 - 1 goes from y to
# (2y)^1/2, where such a tail is that of a normal; `tail` is 1 where the late tail is so, -1 where the early one is.


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _density(
    z: Array,
    log_w: Array,
    mean: Array,
    log_sd: Array,
    per_sd: Array,
    n: int,
    e: Array,
    q: Array,
    largest: Array,
    total: Array,
    logp: Array,
) -> None:
    """Add the log density of z of a block to logp; leaves e_k and the responsibility of component k in e and q."""
    largest[:n], total[:n] = -1e300, 0.0
    for k in range(log_w.shape[0]):
        constant, m, scale = log_w[k] - log_sd[k] - _LOG_2PI_HALF, mean[k], per_sd[k]
        for i in range(n):
            e[k, i] = (z[i] - m) * scale
            q[k, i] = constant - 0.5 * e[k, i] * e[k, i]
            largest[i] = max(largest[i], q[k, i])
    for k in range(log_w.shape[0]):
        for i in range(n):
            q[k, i] = exp_negative(q[k, i] - largest[i])
            total[i] += q[k, i]
    for i in range(n):
        logp[i] += largest[i] + log_positive(total[i])
        total[i] = 1.0 / total[i]
    for k in range(log_w.shape[0]):
        for i in range(n):
            q[k, i] *= total[i]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _survival(
    z: Array,
    log_w: Array,
    mean: Array,
    per_sd: Array,
    n: int,
    e: Array,
    q: Array,
    h: Array,
    largest: Array,
    total: Array,
    logp: Array,
) -> None:
    """Add log S of a block to logp; leaves e_k, the share of component k in S, and w_k phi(e_k) / S in e, q and h."""
    largest[:n], total[:n] = -1e300, 0.0
    for k in range(log_w.shape[0]):
        m, scale = mean[k], per_sd[k]
        for i in range(n):
            e[k, i] = (z[i] - m) * scale
            log_tail, h[k, i] = upper_tail(e[k, i])
            q[k, i] = log_w[k] + log_tail
            largest[i] = max(largest[i], q[k, i])
    for k in range(log_w.shape[0]):
        for i in range(n):
            q[k, i] = exp_negative(q[k, i] - largest[i])
            total[i] += q[k, i]
    for i in range(n):
        logp[i] += largest[i] + log_positive(total[i])
        total[i] = 1.0 / total[i]
    for k in range(log_w.shape[0]):
        for i in range(n):
            q[k, i] *= total[i]
            h[k, i] *= q[k, i]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _accumulate(
    per_sd: Array,
    won: bool,
    e: Array,
    q: Array,
    h: Array,
    weight: Array,
    n: int,
    g_w: Array,
    g_mean: Array,
    g_sd: Array,
    slope: Array,
) -> None:
    """Add the block's gradients by one choice's log weight, mean and log sd, and to `slope` that by z."""
    for k in range(len(per_sd)):
        by_w, by_mean, by_sd, scale = 0.0, 0.0, 0.0, per_sd[k]
        for i in range(n):
            r = q[k, i] * weight[i]
            # d log f / d mean = q e / sd; d log S / d mean = h / sd.
            by_e = r * e[k, i] if won else h[k, i] * weight[i]
            by_w += r
            by_mean += by_e
            by_sd += by_e * e[k, i] - (r if won else 0.0)
            slope[i] -= by_e * scale
        g_w[k] += by_w
        g_mean[k] += by_mean * scale
        g_sd[k] += by_sd


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _by_time(
    rt: Array, t0: float, r: float, slope: Array, stretch: Array, bend: Array, weight: Array
) -> tuple[float, float, float]:
    """The block's gradients by s, t0 and r, from that by z, which is left as that by y in `slope`."""
    by_s, by_t0, by_r = 0.0, 0.0, 0.0
    for i in range(rt.shape[0]):
        d = rt[i] - t0
        left = 1.0 - r * d
        by_y = slope[i] * stretch[i] + weight[i] * bend[i]
        slope[i] = by_y
        by_s -= by_y
        by_t0 -= (by_y - weight[i]) / (d * left) + 2.0 * weight[i] * r / left
        by_r += (by_y + weight[i]) * d / left
    return by_s, by_t0, by_r


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _coordinate(
    rt: Array, t0: float, clock: Array, s: float, tail: int, z: Array, stretch: Array, bend: Array, logp: Array
) -> None:
    """z of a block, dz/dy, d log(dz/dy)/dy, and log(dz/dy) + log(dy/drt), with which log p begins."""
    n, r = rt.shape[0], clock[0]
    for i in range(n):
        log_d = log_positive(rt[i] - t0)
        z[i], stretch[i], bend[i], logp[i] = log_d - s, 1.0, 0.0, -log_d
    if r > 0.0:
        for i in range(n):
            log_left = log_positive(1.0 - r * (rt[i] - t0))
            z[i] -= log_left
            logp[i] -= log_left
    if clock[1] > 0.0:
        add_collapse(rt, t0, clock[1], clock[2], z, logp)
    if tail != 0:
        for i in range(n):
            y = tail * z[i]
            e = exp_negative(-abs(y))
            w = max(y, 0.0) + log_positive(1.0 + e)
            rise = (1.0 if y >= 0.0 else e) / (1.0 + e)
            root = math.sqrt(1.0 + 2.0 * w)
            z[i] = tail * (y - w + root - 1.0)
            stretch[i] = 1.0 - rise * (1.0 - 1.0 / root)
            change = -rise * (1.0 - rise) * (1.0 - 1.0 / root) - rise * rise / (root * root * root)
            bend[i] = tail * change / stretch[i]
            logp[i] += log_positive(stretch[i])


@nb.njit(cache=True, nogil=True, error_model="numpy")
def mixture_cells(
    log_w: Array,
    mean: Array,
    log_sd: Array,
    s: Array,
    t0: Array,
    clock: Array,
    racing: bool,
    tail: int,
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
    g_clock: Array,
    g_lapse: Array,
) -> None:
    """Per cell: sum over trials of log[(1 - lapse) p + lapse * lapse_density] and its gradients (added to zeros)."""
    n_choices, n_components = log_w.shape[1], log_w.shape[2]
    shape = (n_choices, n_components, _BLOCK)
    e, q, h = np.empty(shape), np.empty(shape), np.empty(shape)
    z, stretch, bend = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    logp, weight, slope = np.empty(_BLOCK), np.ones(_BLOCK), np.empty(_BLOCK)
    largest, sums, per_sd = np.empty(_BLOCK), np.empty(_BLOCK), np.empty((n_choices, n_components))
    log_lapse = math.log(lapse * lapse_density) if lapse > 0.0 else -math.inf
    log_odds = math.log1p(-lapse) - log_lapse
    for run in range(len(starts) - 1):
        c, winner = run // n_choices, run % n_choices
        # At or below t0, and once the bounds have met, there is no density, only a lapse.
        above = starts[run] + np.searchsorted(rt[starts[run] : starts[run + 1]], t0[c], side="right")
        last = starts[run + 1]
        if clock[c, 0] > 0.0:
            last = above + np.searchsorted(rt[above:last], t0[c] + 1.0 / clock[c, 0], side="left")
        outside = above - starts[run] + starts[run + 1] - last
        if outside > 0:
            total[c] += outside * log_lapse
            g_lapse[c] += outside / lapse if lapse > 0.0 else 0.0
        for j in range(n_choices):
            if last > above and (j == winner or racing):
                for k in range(n_components):
                    shrunk = exp_negative(-abs(log_sd[c, j, k]))
                    per_sd[j, k] = shrunk if log_sd[c, j, k] >= 0.0 else 1.0 / shrunk
        for first in range(above, last, _BLOCK):
            block = rt[first : min(first + _BLOCK, last)]
            n = len(block)
            _coordinate(block, t0[c], clock[c], s[c], tail, z, stretch, bend, logp)
            for j in range(n_choices):
                if j == winner:
                    sds = log_sd[c, j], per_sd[j]
                    _density(z, log_w[c, j], mean[c, j], *sds, n, e[j], q[j], largest, sums, logp)
                elif racing:
                    _survival(z, log_w[c, j], mean[c, j], per_sd[j], n, e[j], q[j], h[j], largest, sums, logp)
            if lapse > 0.0:
                total[c] += n * log_lapse + mix_lapse(logp, weight, n, log_odds)
                regular = total_of(weight, n)
                g_lapse[c] += (n - regular) / lapse - regular / (1.0 - lapse)
            else:
                total[c] += total_of(logp, n)
            slope[:n] = 0.0
            for j in range(n_choices):
                if j == winner or racing:
                    to = g_w[c, j], g_mean[c, j], g_sd[c, j]
                    _accumulate(per_sd[j], j == winner, e[j], q[j], h[j], weight, n, *to, slope)
            by_s, by_t0, by_closing = _by_time(block, t0[c], clock[c, 0], slope, stretch, bend, weight)
            g_s[c] += by_s
            g_t0[c] += by_t0
            g_clock[c, 0] += by_closing
            if clock[c, 1] > 0.0:
                by_t0, by_rate, by_power = collapse_gradient(block, t0[c], clock[c, 1], clock[c, 2], slope, weight)
                g_t0[c] += by_t0
                g_clock[c, 1] += by_rate
                g_clock[c, 2] += by_power
