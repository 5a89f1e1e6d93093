"""Kernels of mixtures over log decision time, alone or racing each other, in one pass with the analytic gradient."""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numba import types
from numba.extending import overload

from hddm_sbi.likelihoods.mixture.collapse import add_collapse, add_collapse_gradient
from hddm_sbi.numerics.vecmath import FAST, exp_negative, log_positive, mix_lapse, total_of, upper_tail
from hddm_sbi.types import Array, Index

_BLOCK = 128
_LOG_2PI_HALF = 0.9189385332046727

# With d = rt - t0, y = log d - log(1 - r d) - s (s: log of the time scale; r: one over the time at which decisions end,
# or 0; where bounds collapse, log d + C - s as in `collapse.py`), z = y, or z(y) below where a tail is heavy, and
# e_k = (z - m_k) / sd_k, for each choice
#   log f = log sum_k exp(log w_k - log sd_k - e_k² / 2) - log(2 pi) / 2 + log dz/dy - log d - log(1 - r d)
#   log S = log sum_k exp(log w_k + log Phi(-e_k)),   dS / dm_k = w_k phi(e_k) / sd_k
# log p(rt, c) is log f_c, or log f_c + sum_{j != c} log S_j where the choices race.
#
# Heavy tails, P(rt > t) ~ 1/t, are exponential in y. With w = log(1 + e^y), z = y - w + (1 + 2w)^1/2 - 1 goes from y to
# (2y)^1/2, where such a tail is that of a normal; `tail` is 1 where the late tail is so, -1 where the early one is.


def _at(parameter: float | Array, i: int) -> float:
    """A parameter of trial i: a number where all trials share it, one of many where each has its own."""
    return parameter if isinstance(parameter, float) else float(parameter[i])


@overload(_at)
def _(parameter, i):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    if isinstance(parameter, types.Array):
        return lambda parameter, i: parameter[i]
    return lambda parameter, i: parameter


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def normalise(q: Array, n: int, largest: Array, total: Array, logp: Array) -> None:
    """From logs q_k and the largest of them to shares of sum_k exp(q_k), in place; adds the log of that sum to logp."""
    total[:n] = 0.0
    for k in range(q.shape[0]):
        for i in range(n):
            q[k, i] = exp_negative(q[k, i] - largest[i])
            total[i] += q[k, i]
    for i in range(n):
        logp[i] += largest[i] + log_positive(total[i])
        total[i] = 1.0 / total[i]
    for k in range(q.shape[0]):
        for i in range(n):
            q[k, i] *= total[i]


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
    """Add the log density of z of a block to logp; leaves e_k and the responsibility of component k in e and q.

    Parameters (k,), or of every trial its own (k, trials).
    """
    largest[:n] = -1e300
    for k in range(log_w.shape[0]):
        w, m, sd, scale = log_w[k], mean[k], log_sd[k], per_sd[k]
        for i in range(n):
            e[k, i] = (z[i] - _at(m, i)) * _at(scale, i)
            q[k, i] = (_at(w, i) - _at(sd, i) - _LOG_2PI_HALF) - 0.5 * e[k, i] * e[k, i]
            largest[i] = max(largest[i], q[k, i])
    normalise(q, n, largest, total, logp)


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
    largest[:n] = -1e300
    for k in range(log_w.shape[0]):
        m, scale = mean[k], per_sd[k]
        for i in range(n):
            e[k, i] = (z[i] - m) * scale
            log_tail, h[k, i] = upper_tail(e[k, i])
            q[k, i] = log_w[k] + log_tail
            largest[i] = max(largest[i], q[k, i])
    normalise(q, n, largest, total, logp)
    for k in range(log_w.shape[0]):
        for i in range(n):
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
def _accumulate_each(
    per_sd: Array, e: Array, q: Array, weight: Array, n: int, g_w: Array, g_mean: Array, g_sd: Array, slope: Array
) -> None:
    """The same of a density whose trials have parameters of their own: gradients (k, trials)."""
    for k in range(len(per_sd)):
        for i in range(n):
            r = q[k, i] * weight[i]
            by_e = r * e[k, i]
            g_w[k, i] += r
            g_mean[k, i] += by_e * per_sd[k, i]
            g_sd[k, i] += by_e * e[k, i] - r
            slope[i] -= by_e * per_sd[k, i]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _per_sd(log_sd: float) -> float:
    """exp(-log_sd)."""
    shrunk = exp_negative(-abs(log_sd))
    return shrunk if log_sd >= 0.0 else 1.0 / shrunk


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _by_time(
    d: Array,
    clock: Array,
    n: int,
    slope: Array,
    stretch: Array,
    bend: Array,
    weight: Array,
    by_d: Array,
    by_clock: Array,
) -> None:
    """Gradients by d and clock (3, trials), from that by z, which is left as that by y, and minus s, in `slope`."""
    for i in range(n):
        r = clock[0, i]
        left = 1.0 - r * d[i]
        by_y = slope[i] * stretch[i] + weight[i] * bend[i]
        slope[i] = by_y
        by_d[i] = (by_y - weight[i]) / (d[i] * left) + 2.0 * weight[i] * r / left
        by_clock[0, i] = (by_y + weight[i]) * d[i] / left
        by_clock[1, i] = by_clock[2, i] = 0.0
    if _any_positive(clock[1], n):
        add_collapse_gradient(d, clock[1], clock[2], n, slope, weight, by_d, by_clock[1], by_clock[2])


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _any_positive(x: Array, n: int) -> bool:
    largest = 0.0
    for i in range(n):
        largest = max(largest, x[i])
    return largest > 0.0


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _coordinate(
    d: Array, s: Array, clock: Array, tail: int, n: int, z: Array, stretch: Array, bend: Array, logp: Array
) -> None:
    """z of a block, dz/dy, d log(dz/dy)/dy, and log(dz/dy) + log(dy/drt), with which log p begins.

    d, s (trials,), clock (3, trials).
    """
    for i in range(n):
        log_d = log_positive(d[i])
        z[i], stretch[i], bend[i], logp[i] = log_d - s[i], 1.0, 0.0, -log_d
    if _any_positive(clock[0], n):
        for i in range(n):
            log_left = log_positive(1.0 - clock[0, i] * d[i])
            z[i] -= log_left
            logp[i] -= log_left
    if _any_positive(clock[1], n):
        add_collapse(d, clock[1], clock[2], n, z, logp)
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
    starts: Index,
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
    """Per cell: sum over trials of log[(1 - lapse) p + lapse * lapse_density] and its gradients (added to zeros).

    Mixtures (cells, choices, k).
    """
    n_choices, n_components = log_w.shape[1], log_w.shape[2]
    shape = (n_choices, n_components, _BLOCK)
    e, q, h = np.empty(shape), np.empty(shape), np.empty(shape)
    d, scale, clocks, by_clocks = np.empty(_BLOCK), np.empty(_BLOCK), np.empty((3, _BLOCK)), np.empty((3, _BLOCK))
    z, stretch, bend, by_d = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
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
                    per_sd[j, k] = _per_sd(log_sd[c, j, k])
        for i in range(min(last - above, _BLOCK)):
            scale[i] = s[c]
            clocks[0, i], clocks[1, i], clocks[2, i] = clock[c, 0], clock[c, 1], clock[c, 2]
        for first in range(above, last, _BLOCK):
            n = min(_BLOCK, last - first)
            for i in range(n):
                d[i] = rt[first + i] - t0[c]
            _coordinate(d, scale, clocks, tail, n, z, stretch, bend, logp)
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
            _by_time(d, clocks, n, slope, stretch, bend, weight, by_d, by_clocks)
            g_s[c] -= total_of(slope, n)
            g_t0[c] -= total_of(by_d, n)
            for part in range(3):
                g_clock[c, part] += total_of(by_clocks[part], n)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def mixture_rows(
    log_w: Array,
    mean: Array,
    log_sd: Array,
    cell: Index,
    first: Index,
    last: Index,
    s: Array,
    t0: Array,
    clock: Array,
    tail: int,
    lapse: float,
    lapse_density: float,
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
    """The same of rows of few trials, side by side, where choices do not race: mixtures (k, at least rows).

    cell: of every row. first, last: its trials in rt.
    """
    n, (n_components, width) = len(cell), log_w.shape
    e, q, per_sd = np.empty((n_components, width)), np.empty((n_components, width)), np.empty((n_components, width))
    d, scale, clocks, by_clocks = np.empty(width), np.empty(width), np.empty((3, width)), np.empty((3, width))
    z, stretch, bend, by_d = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    logp, weight, slope = np.empty(width), np.empty(width), np.empty(width)
    largest, sums, inside = np.empty(width), np.empty(width), np.empty(width, np.bool_)
    log_lapse = math.log(lapse * lapse_density) if lapse > 0.0 else -math.inf
    log_odds, most = math.log1p(-lapse) - log_lapse, 0
    for k in range(n_components):
        for i in range(n):
            per_sd[k, i] = _per_sd(log_sd[k, i])
    for i in range(n):
        c, most = cell[i], max(most, last[i] - first[i])
        scale[i], clocks[0, i], clocks[1, i], clocks[2, i] = s[c], clock[c, 0], clock[c, 1], clock[c, 2]
    for trial in range(most):
        for i in range(n):
            there, c = first[i] + trial < last[i], cell[i]
            d[i] = rt[first[i] + trial] - t0[c] if there else 0.0
            # At or below t0, and once the bounds have met, there is no density, only a lapse.
            inside[i] = d[i] > 0.0 and clocks[0, i] * d[i] < 1.0
            if not inside[i]:
                # Any decision time will do: its weight is 0.
                d[i] = 0.5 / clocks[0, i] if clocks[0, i] > 0.0 else 1.0
                if there:
                    total[c] += log_lapse
                    g_lapse[c] += 1.0 / lapse if lapse > 0.0 else 0.0
        _coordinate(d, scale, clocks, tail, n, z, stretch, bend, logp)
        _density(z, log_w, mean, log_sd, per_sd, n, e, q, largest, sums, logp)
        if lapse > 0.0:
            mix_lapse(logp, weight, n, log_odds)
        for i in range(n):
            c = cell[i]
            if not inside[i]:
                weight[i] = 0.0
            elif lapse > 0.0:
                total[c] += log_lapse + logp[i]
                g_lapse[c] += (1.0 - weight[i]) / lapse - weight[i] / (1.0 - lapse)
            else:
                total[c] += logp[i]
                weight[i] = 1.0
            slope[i] = 0.0
        _accumulate_each(per_sd, e, q, weight, n, g_w, g_mean, g_sd, slope)
        _by_time(d, clocks, n, slope, stretch, bend, weight, by_d, by_clocks)
        for i in range(n):
            c = cell[i]
            g_s[c] -= slope[i]
            g_t0[c] -= by_d[i]
            for part in range(3):
                g_clock[c, part] += by_clocks[part, i]
