"""Kernel of mixtures over log decision time that are averaged over a uniform delay, in one pass with the gradient."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np

from hddm_sbi.likelihoods.mixture.kernel import exp_minus, with_density
from hddm_sbi.likelihoods.mixture.records import Cells, Gradients, Law, Rows, Totals, Trials, of_row
from hddm_sbi.numerics.vecmath import (
    FAST,
    PER_SQRT_2PI,
    Lapse,
    exp_negative,
    inner,
    log_positive,
    mix_lapse,
    tail_ratio,
    total_of,
)
from hddm_sbi.types import Array

_BLOCK = 128
#: intervals narrower than this, in standard deviations, are integrated by quadrature: a difference would cancel.
NARROW = 0.01
#: standard deviations beyond which they must be as much narrower.
_OUTSIDE = 50.0
#: seconds; a delay of 0 is taken for this long, so that its gradient is finite.
SHORTEST = 1e-9
#: log time before which nothing happens, finite as its square must be.
_NEVER = -1e4
#: log weight of a component, relative to the largest, that is taken for 0; a trial is far out where its sum, of terms
#: that are 1e-304 at least, is less than the second.
_NOTHING, _FAR_OUT = -500.0, 1e-250

# With d = rt - t0, s the log of the time scale, D the width of the delay, e_k = (log d - s - m_k) / sd_k, and f_k the
# same at d - D (minus infinity where that is negative),
#   log p(rt, c) = log sum_k w_k G_k - log D,   G_k = Phi(e_k) - Phi(f_k)
# With the tails T(x) = P(Z > |x|), G is the difference of T(e) and T(f) where e and f have one sign, 1 - T(e) - T(f)
# where not. Every w_k exp(-e_k² / 2) is computed times exp(c), where c is 0 but for trials so far out that all of them
# would underflow; no interval of such a trial has 0 inside.


class _Block(NamedTuple):
    """What is known of a block of trials, each part (trials,), the last three (k, trials)."""

    #: decision time d, log d - s, log(d - D) - s, and the difference of the two
    d: Array
    z: Array
    z_before: Array
    width: Array
    #: log p, the weight of its gradient, and c
    logp: Array
    weight: Array
    c: Array
    #: sums over components of w G, and of w exp(-e² / 2) / sd at both ends, times exp(c)
    total: Array
    now: Array
    then: Array
    #: w G, w exp(-e² / 2) and w exp(-f² / 2), times exp(c)
    g: Array
    at: Array
    before: Array


class _Mixture(NamedTuple):
    """A mixture (k,): log weights relative to the largest, means, one over the sds; and the largest log weight."""

    log_w: Array
    mean: Array
    per_sd: Array
    log_most: float


@inner(fastmath={"contract"}, forceinline=True)
def _log_ratio(part: float, rest: float) -> float:
    """-log(part), part + rest = 1, exact where rest is small (Kahan): what rounds part divides out."""
    return rest if part == 1.0 else -log_positive(part) * (rest / (1.0 - part))


@inner(fastmath=FAST, forceinline=True)
def _times(block: _Block, n: int, delay: float, s: float) -> None:
    """Log times of a block of decision times, at the end of the delay and at its beginning."""
    d, z, z_before, width = block.d, block.z, block.z_before, block.width
    for i in range(n):
        past = d[i] - delay
        z[i] = log_positive(d[i]) - s
        width[i] = _log_ratio(past / d[i], delay / d[i]) if past > 0.0 else math.inf
        z_before[i] = max(z[i] - width[i], _NEVER)


@inner(fastmath=FAST, forceinline=True)
def _intervals(block: _Block, n: int, mixture: _Mixture, k: int, narrowest: float) -> None:
    """Add component k of a block to the sums over components."""
    z, z_before, width, c, total = block.z, block.z_before, block.width, block.c, block.total
    now, then, g, at, before = block.now, block.then, block.g[k], block.at[k], block.before[k]
    log_w, mean, per_sd, w = mixture.log_w[k], mixture.mean[k], mixture.per_sd[k], exp_negative(mixture.log_w[k])
    for i in range(n):
        e, f = (z[i] - mean) * per_sd, (z_before[i] - mean) * per_sd
        (p, q), (p_before, q_before) = tail_ratio(abs(e)), tail_ratio(abs(f))
        at[i] = exp_negative(log_w + c[i] - 0.5 * e * e)
        before[i] = exp_negative(log_w + c[i] - 0.5 * f * f)
        tail, tail_before, per = at[i] * p * q_before, before[i] * p_before * q, 1.0 / (q * q_before)
        g[i] = abs(tail - tail_before) * per if e * f > 0.0 else w - (tail + tail_before) * per
    if narrowest * per_sd < NARROW:
        for i in range(n):
            # phi and three derivatives at the ends, exact for polynomials of degree 7.
            e, f, x = (z[i] - mean) * per_sd, (z_before[i] - mean) * per_sd, width[i] * per_sd
            end = 0.5 + x * (3.0 / 28.0 * e + x * ((e * e - 1.0) / 84.0 + x * e * (e * e - 3.0) / 1680.0))
            start = 0.5 - x * (3.0 / 28.0 * f - x * ((f * f - 1.0) / 84.0 - x * f * (f * f - 3.0) / 1680.0))
            near = PER_SQRT_2PI * x * (at[i] * end + before[i] * start)
            g[i] = near if x * max(abs(e), _OUTSIDE) < NARROW * _OUTSIDE else g[i]
    for i in range(n):
        total[i] += g[i]
        now[i] += at[i] * per_sd
        then[i] += before[i] * per_sd


@inner(fastmath=FAST, forceinline=True)
def _far_out(block: _Block, n: int, mixture: _Mixture) -> bool:
    """Whether trials of a block are far out; gives them the c with which their largest exponential is 1."""
    found = False
    for i in range(n):
        if block.total[i] < _FAR_OUT and block.c[i] == 0.0:
            found, nearest = True, math.inf
            for k in range(len(mixture.mean)):
                e = (block.z[i] - mixture.mean[k]) * mixture.per_sd[k]
                f = (block.z_before[i] - mixture.mean[k]) * mixture.per_sd[k]
                nearest = min(nearest, 0.5 * min(e * e, f * f) - mixture.log_w[k])
            block.c[i] = nearest
    return found


@inner(fastmath=FAST, forceinline=True)
def _density(block: _Block, n: int, mixture: _Mixture, log_delay: float) -> None:
    """log density of a block, averaged over the delay."""
    total, now, then, c, narrowest = block.total, block.now, block.then, block.c, math.inf
    for i in range(n):
        c[i] = 0.0
        narrowest = min(narrowest, block.width[i])
    again = True
    while again:
        for i in range(n):
            total[i] = now[i] = then[i] = 0.0
        for k in range(len(mixture.mean)):
            _intervals(block, n, mixture, k, narrowest)
        again = _far_out(block, n, mixture)
    for i in range(n):
        block.logp[i] = log_positive(total[i]) - c[i] + (mixture.log_most - log_delay)


@inner(fastmath=FAST, forceinline=True)
def _accumulate(block: _Block, n: int, delay: float, mixture: _Mixture, to: Gradients) -> tuple[float, float, float]:
    """Add the block's gradients by the components; returns those by s, t0 and the delay."""
    d, z, z_before, weight, total = block.d, block.z, block.z_before, block.weight, block.total
    now, then = block.now, block.then
    by_s, by_d, by_past = 0.0, 0.0, 0.0
    for i in range(n):
        total[i] = weight[i] / total[i]
        rate, rate_before = now[i] * total[i] * PER_SQRT_2PI, then[i] * total[i] * PER_SQRT_2PI
        by_s += rate_before - rate
        by_d += rate / d[i]
        by_past += rate_before / (d[i] - delay) if d[i] > delay else 0.0
    for k in range(len(mixture.mean)):
        mean, g, at, before = mixture.mean[k], block.g[k], block.at[k], block.before[k]
        by_w, by_e, by_sd = 0.0, 0.0, 0.0
        for i in range(n):
            q, q_before = total[i] * at[i], total[i] * before[i]
            by_w += total[i] * g[i]
            by_e += q - q_before
            by_sd += q * (z[i] - mean) - q_before * (z_before[i] - mean)
        to.log_w[k] += by_w
        to.mean[k] -= by_e * mixture.per_sd[k] * PER_SQRT_2PI
        to.log_sd[k] -= by_sd * mixture.per_sd[k] * PER_SQRT_2PI
    return by_s, by_past - by_d, by_past - total_of(weight, n) / delay


@inner()
def _room(n_components: int) -> _Block:
    """Room for a block, its weights 1."""
    x, y = np.empty((10, _BLOCK)), np.empty((3, n_components, _BLOCK))
    x[5] = 1.0
    return _Block(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[8], x[9], y[0], y[1], y[2])


@nb.njit(cache=True, nogil=True, error_model="numpy")
def delayed_cells(
    rows: Rows, mixtures: Array, g: Array, cells: Cells, law: Law, lapse: Lapse, trials: Trials, to: Totals
) -> None:
    """The way over trials whose decision a uniform delay follows; no tail is heavy."""
    n_choices, n_components = (len(trials.starts) - 1) // len(cells.s), mixtures.shape[2]
    block, log_w, per_sd = _room(n_components), np.empty(n_components), np.empty(n_components)
    (cell, choice), (s, t0, _, delay), (total, (g_s, g_t0, _, g_delay), g_lapse) = rows, cells, to
    for row in range(len(cell)):
        c = cell[row]
        width = max(delay[c], SHORTEST)
        above, last = with_density(c * n_choices + choice[row], c, cells, lapse, trials, to)
        own, to_own = of_row(mixtures, g, row)
        log_most = own.log_w[0]
        for k in range(n_components):
            log_most = max(log_most, own.log_w[k])
        for k in range(n_components):
            log_w[k], per_sd[k] = max(own.log_w[k] - log_most, _NOTHING), exp_minus(own.log_sd[k])
        mixture, log_delay = _Mixture(log_w, own.mean, per_sd, log_most), math.log(width)
        for first in range(above, last, _BLOCK):
            n = min(_BLOCK, last - first)
            for i in range(n):
                block.d[i] = trials.rt[first + i] - t0[c]
            _times(block, n, width, s[c])
            _density(block, n, mixture, log_delay)
            value, by_lapse = mix_lapse(lapse, block.logp, block.weight, n)
            total[c] += value
            g_lapse[c] += by_lapse
            by_s, by_t0, by_delay = _accumulate(block, n, width, mixture, to_own)
            g_s[c] += by_s
            g_t0[c] += by_t0
            g_delay[c] += by_delay
