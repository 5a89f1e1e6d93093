"""Kernel of mixtures over log decision time that are averaged over a uniform delay, in one pass with the gradient."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np

from hddm_sbi.likelihoods.mixture.events_kernel import FIELDS, add_event, run_of_late, weigh
from hddm_sbi.likelihoods.mixture.kernel import exp_minus, of_row, with_density
from hddm_sbi.likelihoods.mixture.records import Cells, Components, Gradients, Law, Rows, Totals, Trials
from hddm_sbi.numerics import (
    FAST,
    NEVER,
    PER_SQRT_2PI,
    Lapses,
    dot,
    exp,
    exp_negative,
    inner,
    lapse_law,
    lapse_of,
    log_positive,
    mix_lapse,
    scaled_tail,
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


@inner(forceinline=True)
def _relative(own: Components, log_w: Array, per_sd: Array) -> _Mixture:
    """Components as the density takes them; log_w, per_sd: room (k,)."""
    log_most = own.log_w[0]
    for k in range(len(log_w)):
        log_most = max(log_most, own.log_w[k])
    for k in range(len(log_w)):
        log_w[k], per_sd[k] = max(own.log_w[k] - log_most, _NOTHING), exp_minus(own.log_sd[k])
    return _Mixture(log_w, own.mean, per_sd, log_most)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def delayed_cells(
    rows: Rows, mixtures: Array, g: Array, cells: Cells, law: Law, lapses: Lapses, trials: Trials, to: Totals
) -> None:
    """The way over trials whose decision a uniform delay follows; no tail is heavy."""
    n_choices, n_components = (len(trials.starts) - 1) // len(cells.s), mixtures.shape[2]
    block, log_w, per_sd = _room(n_components), np.empty(n_components), np.empty(n_components)
    (cell, choice), (s, t0, _, delay), (total, (g_s, g_t0, _, g_delay), g_lapse) = rows, cells, to
    per_second, lapse = lapses.rate, lapse_law(0.0, 1.0)
    for row in range(len(cell)):
        c = cell[row]
        width, lapse = max(delay[c], SHORTEST), lapse_of(lapses, c, choice[row], lapse)
        above, last = with_density(c * n_choices + choice[row], c, cells, lapse, trials, to)
        own, to_own = of_row(mixtures, g, row)
        mixture, log_delay = _relative(own, log_w, per_sd), math.log(width)
        for first in range(above, last, _BLOCK):
            n = min(_BLOCK, last - first)
            for i in range(n):
                block.d[i] = trials.rt[first + i] - t0[c]
            _times(block, n, width, s[c])
            _density(block, n, mixture, log_delay)
            for i in range(n):
                block.logp[i] += per_second * trials.rt[first + i]
            value, by_lapse = mix_lapse(lapse, block.logp, block.weight, n)
            total[c] += value
            g_lapse[c] += by_lapse
            by_s, by_t0, by_delay = _accumulate(block, n, width, mixture, to_own)
            g_s[c] += by_s
            g_t0[c] += by_t0
            g_delay[c] += by_delay


# ---- events
#
# With x = d exp(-s), D in the same unit and X lognormal, the finishing time of a component without its delay,
#   P(RT > t) = [H(x - D) - H(x)] / D,   H(x) = E[(X - x)+] = M Phi(sd - e) - x Phi(-e)
#   P(RT <= t) = [G(x) - G(x - D)] / D,  G(x) = E[(x - X)+] = x Phi(e) - M Phi(e - sd),  M = exp(m + sd² / 2)
# where M phi(e - sd) = x phi(e), so that either is a difference of two tails of one scale. It rounds like x / D, so
# shorter delays are averaged by Gauss-Legendre. Where M is above x, P(RT > t) is 1 - P(RT <= t).

#: share of a decision time up to which a delay is averaged; P(event) below which it is taken for 0.
_BRIEF, _LEAST = 1e-4, 1e-290
#: standard deviations beyond which all is 0.
_OUT = 1e12
_ON_DELAY = ((0.1127016653792583, 5.0 / 18.0), (0.5, 8.0 / 18.0), (0.8872983346207417, 5.0 / 18.0))


class _Lognormals(NamedTuple):
    """Components (k,) as finishing times: their weights, m, sd and M. And of one event (k,): the weight, less than 0 of
    P(RT <= t), whether it is P(RT > t) instead, and its probability and derivatives by m, log sd, either end and D."""

    w: Array
    mean: Array
    sd: Array
    M: Array
    sign: Array
    late: Array
    p: Array
    by_mean: Array
    by_sd: Array
    by_x: Array
    by_delay: Array


@inner()
def _lognormals(x: Array) -> _Lognormals:
    """Components as finishing times; x: (11, k), of which the first four rows are known of every event."""
    return _Lognormals(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[8], x[9], x[10])


@inner(fastmath={"contract"}, forceinline=True)
def _excess(x: float, log_x: float, mean: float, sd: float, M: float, late: bool) -> tuple[float, float, float, float]:
    """H or G, its derivatives by m and log sd, and P(X > x) or P(X <= x)."""
    e = (log_x - mean) / sd
    phi = exp(-0.5 * e * e)
    tail, moved, step = phi * scaled_tail(e), x * phi * scaled_tail(e - sd), sd * x * phi * PER_SQRT_2PI
    # Of what lies above x, its share and its mean, then of what lies below.
    left, gone = tail if e >= 0.0 else 1.0 - tail, 1.0 - tail if e >= 0.0 else tail
    above, below = moved if e >= sd else M - moved, M - moved if e >= sd else moved
    part, p = above if late else -below, left if late else gone
    return part - x * left if late else part + x * gone, part, sd * sd * part + step, p


@inner(fastmath={"contract"}, forceinline=True)
def _add_averaged(x: float, delay: float, side: float, of: _Lognormals) -> None:
    """`_add_end` of a brief delay."""
    for node, share in _ON_DELAY:
        log_u, per_u = math.log(x - delay * node), 1.0 / (x - delay * node)
        for k in range(len(of.mean)):
            e, late = (log_u - of.mean[k]) / of.sd[k], of.late[k] > 0.0
            phi = exp(-0.5 * e * e)
            tail, step = phi * scaled_tail(e), share * side * of.w[k] * PER_SQRT_2PI * phi
            p = tail if late == (e >= 0.0) else 1.0 - tail
            of.p[k] += share * side * of.sign[k] * p
            of.by_mean[k] += step / of.sd[k]
            of.by_sd[k] += step * e
            of.by_x[k] -= step / of.sd[k] * per_u
            of.by_delay[k] += node * step / of.sd[k] * per_u


@inner(fastmath={"contract"}, forceinline=True)
def _add_end(x: float, delay: float, side: float, of: _Lognormals) -> None:
    """Add P(RT > t) or P(RT <= t) of every component, and derivatives; side: 1 of the lower end, -1 of the upper."""
    if not 0.0 < x < math.inf:
        for k in range(len(of.mean)):
            of.p[k] += side * of.sign[k] if (of.late[k] > 0.0) == (x <= 0.0) else 0.0
        return
    if delay < _BRIEF * x:
        _add_averaged(x, delay, side, of)
        return
    log_x, past, per = math.log(x), x - delay, 1.0 / delay
    log_past = math.log(past) if past > 0.0 else _NEVER
    for k in range(len(of.mean)):
        mean, sd, M, late = of.mean[k], of.sd[k], of.M[k], of.late[k] > 0.0
        beyond = late and log_x - mean >= 0.5 * sd * sd
        now, now_mean, now_sd, now_p = _excess(x, log_x, mean, sd, M, beyond)
        then, then_mean, then_sd, then_p = _excess(past, log_past, mean, sd, M, beyond)
        sign = 1.0 if beyond else -1.0
        p, scale = sign * per * (then - now), side * of.sign[k]
        turned = late and not beyond
        of.p[k] += scale * (1.0 - p if turned else p)
        scale = -scale if turned else scale
        of.by_mean[k] += scale * sign * per * (then_mean - now_mean)
        of.by_sd[k] += scale * sign * per * (then_sd - now_sd)
        of.by_x[k] += scale * per * (now_p - then_p)
        of.by_delay[k] += scale * per * (then_p - p)


@inner()
def _mass(low: float, high: float, delay: float, of: _Lognormals, ends: Array) -> float:
    """P(low < decision and delay <= high) in the time scale's unit; ends: derivatives by low, high and delay (3,)."""
    log_low = math.log(low) if low > 0.0 else -math.inf
    for k in range(len(of.mean)):
        late = high == math.inf or log_low >= of.mean[k]
        of.late[k], of.sign[k] = 1.0 if late else 0.0, of.w[k] if late else -of.w[k]
        of.p[k] = of.by_mean[k] = of.by_sd[k] = of.by_x[k] = of.by_delay[k] = 0.0
    _add_end(low, delay, 1.0, of)
    ends[0] = total_of(of.by_x, len(of.by_x))
    of.by_x[:] = 0.0
    _add_end(high, delay, -1.0, of)
    ends[1], ends[2] = total_of(of.by_x, len(of.by_x)), total_of(of.by_delay, len(of.by_x))
    return total_of(of.p, len(of.p))


@inner()
def _begin(own: Components, x: Array) -> None:
    """Fill in the rows of `_lognormals` that are known of every event."""
    for k in range(len(own.mean)):
        mean, sd = own.mean[k], exp(own.log_sd[k])
        x[0, k], x[1, k], x[2, k], x[3, k] = exp(own.log_w[k]), mean, sd, exp(mean + 0.5 * sd * sd)


@inner()
def _log_density(block: _Block, d: float, width: float, s: float, mixture: _Mixture) -> float:
    """Log density of one time after t0, which is put into the block."""
    block.d[0] = d
    _times(block, 1, width, s)
    _density(block, 1, mixture, math.log(width))
    return block.logp[0]


@inner()
def _accumulate_mass(of: _Lognormals, scale: float, to: Gradients) -> float:
    """Add the gradients of a mass by its components, times a scale; returns the sum of those by means."""
    for k in range(len(of.mean)):
        to.log_w[k] += scale * of.p[k]
        to.mean[k] += scale * of.by_mean[k]
        to.log_sd[k] += scale * of.by_sd[k]
    return total_of(of.by_mean, len(of.mean))


# Events that there is no response up to a time go side by side: in all of them 1 - P(RT <= t) has the derivatives of
# P(RT > t), those by m as above, by x [Phi(-e(x)) - Phi(-e(x - D))] / D, and by D [Phi(-e(x - D)) - P] / D.


@inner(fastmath=FAST, forceinline=True)
def _left_at(
    x: float, log_x: float, mean: float, sd: float, M: float, beyond: bool
) -> tuple[float, float, float, float]:
    """H or G, its derivatives by m and log sd, and P(X > x): `_excess` without a branch."""
    e = (log_x - mean) / sd
    phi = exp_negative(-0.5 * e * e)
    (p, q), (p_moved, q_moved) = tail_ratio(min(abs(e), _OUT)), tail_ratio(min(abs(e - sd), _OUT))
    per = phi / (q * q_moved)
    tail, moved = p * q_moved * per, x * (p_moved * q * per)
    left = tail if e >= 0.0 else 1.0 - tail
    gone = 1.0 - tail if e >= 0.0 else tail
    part = (moved if e >= sd else M - moved) if beyond else -(M - moved if e >= sd else moved)
    value = part - x * left if beyond else part + x * gone
    return value, part, sd * sd * part + sd * x * phi * PER_SQRT_2PI, left


@inner(fastmath=FAST, forceinline=True)
def _survive(block: _Block, n: int, delay: float, parts: Array, of_event: Array) -> None:
    """Add P(RT > t) of a block to `total`, and derivatives by x and D to `now` and `then`; t in the time scale's unit.

    parts: of `_lognormals`. of_event: w P and its derivatives by m and log sd, (3, k, trials).
    """
    x, log_x, log_past, total, now, then = block.d, block.z, block.z_before, block.total, block.now, block.then
    per = 1.0 / delay
    for k in range(parts.shape[1]):
        w, mean, sd, M = parts[0, k], parts[1, k], parts[2, k], parts[3, k]
        own, by_mean, by_sd = of_event[0, k], of_event[1, k], of_event[2, k]
        for i in range(n):
            beyond = log_x[i] - mean >= 0.5 * sd * sd
            at, at_mean, at_sd, at_p = _left_at(x[i], log_x[i], mean, sd, M, beyond)
            past, past_mean, past_sd, past_p = _left_at(x[i] - delay, log_past[i], mean, sd, M, beyond)
            p = per * (past - at) if beyond else 1.0 - per * (at - past)
            own[i], by_mean[i], by_sd[i] = w * p, w * per * (past_mean - at_mean), w * per * (past_sd - at_sd)
            total[i] += w * p
            now[i] += w * per * (at_p - past_p)
            then[i] += w * per * (past_p - p)


# Over 50 lines: one walk over the events of a cell, of which every step needs most of the arrays.
@inner()
def _late(
    c: int,
    row: int,
    first: int,
    last: int,
    apart: int,
    g: Array,
    cells: Cells,
    lapses: Lapses,
    numbers: Array,
    block: _Block,
    parts: Array,
    of_event: Array,
    to: Totals,
) -> int:
    """How many events of a cell in a row, from one on, are that there is no response up to a time, of which some
    survive and which the delay is not brief to; adds them."""
    unit, width, n_choices = math.exp(-cells.s[c]), max(cells.delay[c], SHORTEST), len(parts)
    last = min(last, first + FIELDS * _BLOCK)
    n = run_of_late(numbers, first, last, apart, n_choices, cells.t0[c], 0.0)
    for i in range(n):
        d = numbers[first + FIELDS * i] - cells.t0[c]
        if width < _BRIEF * d:
            n = i
            break
        x = d * unit
        block.d[i], block.z[i] = x, math.log(x)
        block.z_before[i] = math.log(x - width * unit) if d > width else _NEVER
        block.total[i] = block.now[i] = block.then[i] = 0.0
    for j in range(n_choices):
        _survive(block, n, width * unit, parts[j], of_event[j])
    for i in range(n):
        if block.total[i] <= _LEAST:
            n = i
            break
        block.logp[i] = log_positive(block.total[i])
    if n == 0:
        return 0
    value, by_lapse = weigh(lapses.share[c], numbers, first, block.logp, block.weight, n)
    to.total[c] += value
    to.lapse[c] += by_lapse
    for i in range(n):
        block.weight[i] /= block.total[i]
    for j in range(n_choices):
        _, to_own = of_row(g, g, row + j)
        for k in range(of_event.shape[2]):
            by_mean = dot(block.weight, of_event[j, 1, k], n)
            to_own.log_w[k] += dot(block.weight, of_event[j, 0, k], n)
            to_own.mean[k] += by_mean
            to_own.log_sd[k] += dot(block.weight, of_event[j, 2, k], n)
            to.cells.s[c] += by_mean
    to.cells.t0[c] -= unit * dot(block.weight, block.now, n)
    to.cells.delay[c] += unit * dot(block.weight, block.then, n)
    return n


# Over 50 lines: one walk over the events of a cell, of which every step needs most of the arrays.
@nb.njit(cache=True, nogil=True, error_model="numpy")
def delayed_events(
    rows: Rows, mixtures: Array, g: Array, cells: Cells, law: Law, lapses: Lapses, trials: Trials, to: Totals
) -> None:
    """The way over events of cells whose decisions a uniform delay follows, one after the other."""
    n_choices, n_components = (len(trials.starts) - 1) // len(cells.t0), mixtures.shape[2]
    block, log_w, per_sd = _room(n_components), np.empty(n_components), np.empty(n_components)
    parts, by_end, log_p = np.empty((n_choices, 11, n_components)), np.empty((n_choices, 3)), np.empty(n_choices)
    (starts, numbers), (s, t0, _, delays), weight = trials, cells, np.empty(1)
    of_event = np.empty((n_choices, 3, n_components, _BLOCK))
    for row in range(0, len(rows.cell), n_choices):
        c = rows.cell[row]
        unit, width, run = math.exp(-s[c]), max(delays[c], SHORTEST), starts[c * n_choices + 1] - starts[c * n_choices]
        for j in range(n_choices):
            own, _ = of_row(mixtures, g, row + j)
            _begin(own, parts[j])
        first, stop = starts[c * n_choices] - FIELDS, starts[c * n_choices + 1]
        while first + FIELDS < stop:
            first += FIELDS
            late = _late(c, row, first, stop, run, g, cells, lapses, numbers, block, parts, of_event, to)
            if late > 0:
                first += FIELDS * (late - 1)
                continue
            most, total = NEVER, 0.0
            for j in range(n_choices):
                low, high = numbers[first + run * j] - t0[c], numbers[first + run * j + 1] - t0[c]
                own, _ = of_row(mixtures, g, row + j)
                log_p[j] = NEVER
                if low == high > 0.0:
                    log_p[j] = _log_density(block, low, width, s[c], _relative(own, log_w, per_sd))
                elif low < high and high > 0.0:
                    p = _mass(low * unit, high * unit, width * unit, _lognormals(parts[j]), by_end[j])
                    log_p[j] = math.log(p) if p > _LEAST else NEVER
                most = max(most, log_p[j])
            for j in range(n_choices):
                total += math.exp(log_p[j] - most)
            whole = most + math.log(total)
            add_event(lapses, numbers, first, c, whole, weight, to)
            for j in range(n_choices):
                low, high = numbers[first + run * j] - t0[c], numbers[first + run * j + 1] - t0[c]
                own, to_own = of_row(mixtures, g, row + j)
                if log_p[j] == NEVER or weight[0] == 0.0:
                    continue
                if low == high:
                    mixture = _relative(own, log_w, per_sd)
                    _log_density(block, low, width, s[c], mixture)
                    block.weight[0] = weight[0] * math.exp(log_p[j] - whole)
                    by_s, by_t0, by_delay = _accumulate(block, 1, width, mixture, to_own)
                    to.cells.s[c] += by_s
                    to.cells.t0[c] += by_t0
                    to.cells.delay[c] += by_delay
                    continue
                scale = weight[0] * math.exp(-whole)
                to.cells.s[c] += scale * _accumulate_mass(_lognormals(parts[j]), scale, to_own)
                to.cells.t0[c] -= scale * unit * (by_end[j, 0] + by_end[j, 1])
                to.cells.delay[c] += scale * unit * by_end[j, 2]
