"""Kernels of mixtures over log decision time, alone or racing each other, in one pass with the analytic gradient."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np
from numba import types
from numba.extending import overload

from hddm_sbi.likelihoods.mixture.collapse import add_collapse, add_collapse_gradient
from hddm_sbi.likelihoods.mixture.records import Cells, Components, Gradients, Law, Rows, Totals, Trials
from hddm_sbi.numerics import (
    FAST,
    LOG_2PI_HALF,
    Lapse,
    Lapses,
    add_lapse,
    exp_negative,
    inner,
    lapse_law,
    lapse_of,
    log_positive,
    mix_lapse,
    relative_to_lapse,
    total_of,
    upper_tail,
)
from hddm_sbi.types import Array, Index

_BLOCK = 128

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


class Block(NamedTuple):
    """What is known of a block of trials, each part (trials,), clocks (3, trials)."""

    #: decision time, log time scale, clock
    d: Array
    s: Array
    clock: Array
    #: z, dz/dy, d log(dz/dy)/dy, and log(dz/dy) + log(dy/drt)
    z: Array
    stretch: Array
    bend: Array
    log_slope: Array
    #: log p, and the weight of its gradient
    logp: Array
    weight: Array
    #: gradients by z or y, d and clock
    slope: Array
    by_d: Array
    by_clock: Array
    #: room for `normalise`
    largest: Array
    total: Array


class Shares(NamedTuple):
    """What is known of one choice's components, (k, trials): e_k, the share of component k, and w_k phi(e_k) / S."""

    e: Array
    q: Array
    h: Array


@inner()
def room_for(n: int) -> Block:
    """Room for a block of n trials, their weights 1."""
    # One piece of memory: to compile an allocation takes 30 ms.
    x = np.empty((18, n))
    x[10] = 1.0
    return Block(x[0], x[1], x[2:5], x[5], x[6], x[7], x[8], x[9], x[10], x[11], x[12], x[13:16], x[16], x[17])


@inner(forceinline=True)
def of_row(mixtures: Array, gradients: Array, row: int) -> tuple[Components, Gradients]:
    """The mixture of a row and its gradients, from those of all rows, (parts, 3, k, rows of a part)."""
    part, i = divmod(row, mixtures.shape[3])
    w, g = mixtures[part], gradients[part]
    return Components(w[0, :, i], w[1, :, i], w[2, :, i]), Gradients(g[0, :, i], g[1, :, i], g[2, :, i])


@inner(fastmath=FAST, forceinline=True)
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


@inner(fastmath=FAST, forceinline=True)
def _density(block: Block, n: int, mixture: Components, per_sd: Array, e: Array, q: Array) -> None:
    """Add the log density of z of a block to logp; leaves e_k and the responsibility of component k in e and q.

    Components (k,), or of every trial its own (k, trials).
    """
    z, largest, (log_w, mean, log_sd) = block.z, block.largest, mixture
    largest[:n] = -1e300
    for k in range(len(per_sd)):
        w, m, sd, scale = log_w[k], mean[k], log_sd[k], per_sd[k]
        for i in range(n):
            e[k, i] = (z[i] - _at(m, i)) * _at(scale, i)
            q[k, i] = (_at(w, i) - _at(sd, i) - LOG_2PI_HALF) - 0.5 * e[k, i] * e[k, i]
            largest[i] = max(largest[i], q[k, i])
    normalise(q, n, largest, block.total, block.logp)


@inner(fastmath=FAST, forceinline=True)
def _survival(block: Block, n: int, mixture: Components, per_sd: Array, shares: Shares) -> None:
    """Add log S of a block to logp; leaves e_k, the share of component k in S, and w_k phi(e_k) / S."""
    z, largest, (e, q, h), log_w, mean = block.z, block.largest, shares, mixture.log_w, mixture.mean
    largest[:n] = -1e300
    for k in range(len(per_sd)):
        m, scale = mean[k], per_sd[k]
        for i in range(n):
            e[k, i] = (z[i] - m) * scale
            log_tail, h[k, i] = upper_tail(e[k, i])
            q[k, i] = log_w[k] + log_tail
            largest[i] = max(largest[i], q[k, i])
    normalise(q, n, largest, block.total, block.logp)
    for k in range(len(per_sd)):
        for i in range(n):
            h[k, i] *= q[k, i]


@inner(fastmath=FAST, forceinline=True)
def accumulate(block: Block, n: int, won: bool, per_sd: Array, shares: Shares, to: Gradients) -> None:
    """Add the block's gradients by one choice's components, and to `slope` that by z."""
    (e, q, h), weight, slope, (g_w, g_mean, g_sd) = shares, block.weight, block.slope, to
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


@inner(fastmath=FAST, forceinline=True)
def _accumulate_each(block: Block, n: int, per_sd: Array, e: Array, q: Array, to: Gradients) -> None:
    """The same of a density whose trials have components of their own: gradients (k, trials)."""
    weight, slope, (g_w, g_mean, g_sd) = block.weight, block.slope, to
    for k in range(len(per_sd)):
        for i in range(n):
            r = q[k, i] * weight[i]
            by_e = r * e[k, i]
            g_w[k, i] += r
            g_mean[k, i] += by_e * per_sd[k, i]
            g_sd[k, i] += by_e * e[k, i] - r
            slope[i] -= by_e * per_sd[k, i]


@inner(fastmath=FAST, forceinline=True)
def exp_minus(log_sd: float) -> float:
    """exp(-log_sd)."""
    shrunk = exp_negative(-abs(log_sd))
    return shrunk if log_sd >= 0.0 else 1.0 / shrunk


@inner(fastmath=FAST, forceinline=True)
def by_time(block: Block, n: int) -> None:
    """Gradients by d and clock, from that by y in `slope`."""
    d, clock, slope, weight = block.d, block.clock, block.slope, block.weight
    by_d, by_clock = block.by_d, block.by_clock
    for i in range(n):
        r, by_y = clock[0, i], slope[i]
        left = 1.0 - r * d[i]
        by_d[i] = (by_y - weight[i]) / (d[i] * left) + 2.0 * weight[i] * r / left
        by_clock[0, i] = (by_y + weight[i]) * d[i] / left
        by_clock[1, i] = by_clock[2, i] = 0.0
    if _any_positive(clock[1], n):
        add_collapse_gradient(d, clock[1], clock[2], n, slope, weight, by_d, by_clock[1], by_clock[2])


@inner(fastmath=FAST, forceinline=True)
def _any_positive(x: Array, n: int) -> bool:
    largest = 0.0
    for i in range(n):
        largest = max(largest, x[i])
    return largest > 0.0


@inner(fastmath=FAST, forceinline=True)
def coordinate(block: Block, n: int, tail: int) -> None:
    """z of a block, dz/dy, d log(dz/dy)/dy, and log(dz/dy) + log(dy/drt)."""
    d, s, clock, z, stretch, bend, log_slope = block[:7]
    for i in range(n):
        log_d = log_positive(d[i])
        z[i], stretch[i], bend[i], log_slope[i] = log_d - s[i], 1.0, 0.0, -log_d
    if _any_positive(clock[0], n):
        for i in range(n):
            log_left = log_positive(1.0 - clock[0, i] * d[i])
            z[i] -= log_left
            log_slope[i] -= log_left
    if _any_positive(clock[1], n):
        add_collapse(d, clock[1], clock[2], n, z, log_slope)
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
            log_slope[i] += log_positive(stretch[i])


@inner(forceinline=True)
def with_density(run: int, c: int, cells: Cells, lapse: Lapse, trials: Trials, to: Totals) -> tuple[int, int]:
    """First and last trial of a run with a density; adds the others to the totals of their cell.

    At or below t0, and once the bounds have met, there is only a lapse.
    """
    (starts, rt), t0, closing = trials, cells.t0[c], cells.clock[c, 0]
    # One by one: there are few, and to compile a search takes a second.
    first, last = starts[run], starts[run + 1]
    while first < last and not rt[first] > t0:
        first += 1
    while first < last and closing > 0.0 and not rt[last - 1] < t0 + 1.0 / closing:
        last -= 1
    outside = first - starts[run] + starts[run + 1] - last
    if outside > 0:
        value, by_lapse = add_lapse(lapse, outside, 0.0, 0.0)
        to.total[c] += value
        to.lapse[c] += by_lapse
    return first, last


@inner(fastmath=FAST, forceinline=True)
def add_choice(
    block: Block, n: int, won: bool, mixture: Components, per_sd: Array, shares: Shares, rate: Array
) -> None:
    """Add log f or log S of one choice to logp; keeps dz/dy, and d log(dz/dy)/dy of the one that won, in `rate`."""
    stretch, bend, log_slope, logp, now, change = *block[4:7], block.logp, rate[0], rate[1]
    for i in range(n):
        now[i], change[i] = stretch[i], bend[i] if won else 0.0
        logp[i] += log_slope[i] if won else 0.0
    if won:
        _density(block, n, mixture, per_sd, shares.e, shares.q)
    else:
        _survival(block, n, mixture, per_sd, shares)
    block.slope[:n] = 0.0


@inner(fastmath=FAST, forceinline=True)
def to_log_time(block: Block, n: int, rate: Array, by_y: Array) -> float:
    """Add the gradient by y to by_y, and return its sum, from that by z in `slope`, which is left as 0."""
    slope, weight, now, change, total = block.slope, block.weight, rate[0], rate[1], 0.0
    for i in range(n):
        by_own = slope[i] * now[i] + weight[i] * change[i]
        by_y[i] += by_own
        total += by_own
        slope[i] = 0.0
    return total


@nb.njit(cache=True, nogil=True, error_model="numpy")
def mixture_cells(
    rows: Rows, mixtures: Array, g: Array, cells: Cells, law: Law, lapses: Lapses, trials: Trials, to: Totals
) -> None:
    """The way over cells, one after the other, each with a mixture for all its trials of a choice."""
    n_choices, n_components = (len(trials.starts) - 1) // len(cells.t0), mixtures.shape[2]
    shape = (n_choices, n_components, _BLOCK)
    e, q, h, rate = np.empty(shape), np.empty(shape), np.empty(shape), np.empty((n_choices, 2, _BLOCK))
    per_sd, block = np.empty((n_choices, n_components)), room_for(e.shape[2])
    # Fields of records are read once: in a loop, Numba would count a reference at every turn.
    (cell, choice), (s, t0, clock, _), rt = rows, cells, trials.rt
    (racing, tail), (total, (g_s, g_t0, g_clock, _), g_lapse) = law, to
    d, scale, clocks, logp, by_y = block.d, block.s, block.clock, block.logp, np.empty(_BLOCK)
    per_second, lapse = lapses.rate, lapse_law(0.0, 1.0)
    for row in range(len(cell)):
        c, winner = cell[row], choice[row]
        lapse = lapse_of(lapses, c, winner, lapse)
        above, last = with_density(c * n_choices + winner, c, cells, lapse, trials, to)
        if above == last:
            continue
        choices = range(n_choices) if racing else range(winner, winner + 1)
        for j in choices:
            own, _ = of_row(mixtures, g, row - winner + j)
            for k in range(n_components):
                per_sd[j, k] = exp_minus(own.log_sd[k])
        for i in range(min(last - above, _BLOCK)):
            clocks[0, i], clocks[1, i], clocks[2, i] = clock[c, 0], clock[c, 1], clock[c, 2]
        for first in range(above, last, _BLOCK):
            n = min(_BLOCK, last - first)
            for i in range(n):
                d[i], logp[i], by_y[i] = rt[first + i] - t0[c], per_second * rt[first + i], 0.0
            for j in choices:
                own, _ = of_row(mixtures, g, row - winner + j)
                scale[:n] = s[c * n_choices + j if racing else c]
                coordinate(block, n, tail)
                add_choice(block, n, j == winner, own, per_sd[j], Shares(e[j], q[j], h[j]), rate[j])
            value, by_lapse = mix_lapse(lapse, logp, block.weight, n)
            total[c] += value
            g_lapse[c] += by_lapse
            for j in choices:
                _, to_own = of_row(mixtures, g, row - winner + j)
                accumulate(block, n, j == winner, per_sd[j], Shares(e[j], q[j], h[j]), to_own)
                g_s[c * n_choices + j if racing else c] -= to_log_time(block, n, rate[j], by_y)
            block.slope[:n] = by_y[:n]
            by_time(block, n)
            g_t0[c] -= total_of(block.by_d, n)
            for part in range(3):
                g_clock[c, part] += total_of(block.by_clock[part], n)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def mixture_points(mixtures: Array, z: Array, share: Array, g: Array) -> float:
    """Sum of share log density of z over all rows and their points, (rows, n) each, and its gradients g.

    By mixtures (rows, 3, k), of which g has the shape: log weights, means, log sds.
    """
    (n_rows, n), n_components, total = z.shape, mixtures.shape[2], 0.0
    e, q, per_sd = np.empty((n_components, _BLOCK)), np.empty((n_components, _BLOCK)), np.empty(n_components)
    block = room_for(_BLOCK)
    at, logp, weight = block.z, block.logp, block.weight
    for row in range(n_rows):
        own, to = mixtures[row], g[row]
        components, gradients = Components(own[0], own[1], own[2]), Gradients(to[0], to[1], to[2])
        for k in range(n_components):
            per_sd[k] = exp_minus(own[2, k])
        for first in range(0, n, _BLOCK):
            some = min(_BLOCK, n - first)
            for i in range(some):
                at[i], weight[i], logp[i] = z[row, first + i], share[row, first + i], 0.0
            block.slope[:] = 0.0
            _density(block, some, components, per_sd, e, q)
            accumulate(block, some, True, per_sd, Shares(e, q, q), gradients)
            for i in range(some):
                total += weight[i] * logp[i]
    return total


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_densities(log_weight: Array, mean: Array, log_sd: Array, of: Index, z: Array, log_p: Array) -> None:
    """Write to log_p (n,) the log density of z (n,) by the mixtures (m, k) at the places `of` (n,)."""
    per_sd, height, q = np.exp(-log_sd), log_weight - log_sd - LOG_2PI_HALF, np.empty(mean.shape[1])
    for i in range(len(z)):
        own, largest = of[i], -np.inf
        for k in range(len(q)):
            e = (z[i] - mean[own, k]) * per_sd[own, k]
            q[k] = height[own, k] - 0.5 * e * e
            largest = max(largest, q[k])
        # All are -inf, or some are nan, which the sum shows.
        largest = largest if largest > -np.inf else 0.0
        total = 0.0
        for k in range(len(q)):
            total += np.exp(q[k] - largest)
        log_p[i] = largest + np.log(total)


# Over 50 lines: each step needs most of the arrays, and a function of its own would have to be handed, and Numba to
# compile, all of them.
@inner(forceinline=True)
def _side_by_side(
    rows: Rows, mixture: Components, g: Gradients, cells: Cells, law: Law, lapses: Lapses, trials: Trials, to: Totals
) -> None:
    """The first trial of every row, then the second, and so on: mixtures (k, at least rows)."""
    (cell, choice), (n_components, width), (starts, rt) = rows, mixture.log_w.shape, trials
    (s, t0, clock, _), (total, (g_s, g_t0, g_clock, _), g_lapse) = cells, to
    n, n_choices, most = len(cell), (len(starts) - 1) // len(t0), 0
    e, q, per_sd = np.empty((n_components, width)), np.empty((n_components, width)), np.empty((n_components, width))
    first, last, inside = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.bool_)
    block = room_for(width)
    d, scale, clocks, logp, weight, log_sd = block.d, block.s, block.clock, block.logp, block.weight, mixture.log_sd
    (_, _, _, _, stretch, bend, log_slope), slope = block[:7], block.slope
    by_d, by_clock, alone, per_second = block.by_d, block.by_clock, block.largest, lapses.rate
    share, log_lapse, log_odds, some, lapse = np.empty(n), np.empty(n), np.empty(n), False, lapse_law(0.0, 1.0)
    for k in range(n_components):
        for i in range(n):
            per_sd[k, i] = exp_minus(log_sd[k, i])
    for i in range(n):
        c, run = cell[i], cell[i] * n_choices + choice[i]
        first[i], last[i] = starts[run], starts[run + 1]
        most = max(most, last[i] - first[i])
        scale[i], clocks[0, i], clocks[1, i], clocks[2, i] = s[c], clock[c, 0], clock[c, 1], clock[c, 2]
        lapse = lapse_of(lapses, c, choice[i], lapse)
        share[i], log_lapse[i], log_odds[i] = lapse.probability, lapse.log, lapse.log_odds
        some = some or share[i] > 0.0
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
                    value, by_lapse = add_lapse(Lapse(share[i], 1.0, log_lapse[i], log_odds[i]), 1, 0.0, 0.0)
                    total[c] += value
                    g_lapse[c] += by_lapse
        coordinate(block, n, law.tail)
        for i in range(n):
            logp[i] = log_slope[i] + per_second * (rt[first[i] + trial] if inside[i] else 0.0)
        _density(block, n, mixture, per_sd, e, q)
        if some:
            for i in range(n):
                alone[i] = logp[i]
                logp[i] += log_odds[i]
            relative_to_lapse(0.0, logp, weight, n)
        for i in range(n):
            c = cell[i]
            if not inside[i]:
                weight[i] = 0.0
            elif share[i] > 0.0:
                value, by_lapse = add_lapse(Lapse(share[i], 1.0, log_lapse[i], log_odds[i]), 1, logp[i], weight[i])
                total[c] += value
                g_lapse[c] += by_lapse
            else:
                total[c] += alone[i] if some else logp[i]
                weight[i] = 1.0
            slope[i] = 0.0
        _accumulate_each(block, n, per_sd, e, q, g)
        for i in range(n):
            slope[i] = slope[i] * stretch[i] + weight[i] * bend[i]
        by_time(block, n)
        for i in range(n):
            c = cell[i]
            g_s[c] -= slope[i]
            g_t0[c] -= by_d[i]
            for part in range(3):
                g_clock[c, part] += by_clock[part, i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def mixture_rows(
    rows: Rows, mixtures: Array, g: Array, cells: Cells, law: Law, lapses: Lapses, trials: Trials, to: Totals
) -> None:
    """The way over cells of few trials, the rows of a part side by side, where choices do not race."""
    (cell, choice), width = rows, mixtures.shape[3]
    for first in range(0, len(cell), width):
        some = Rows(cell[first : first + width], choice[first : first + width])
        w, by = mixtures[first // width], g[first // width]
        own, to_own = Components(w[0], w[1], w[2]), Gradients(by[0], by[1], by[2])
        _side_by_side(some, own, to_own, cells, law, lapses, trials, to)
