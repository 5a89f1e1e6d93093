"""Kernel of events of mixtures over log decision time: ranges of time by response, with the analytic gradient."""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from hddm_sbi.likelihoods.mixture.kernel import (
    Block,
    by_time,
    coordinate,
    exp_minus,
    normalise,
    of_row,
    room_for,
)
from hddm_sbi.likelihoods.mixture.records import Cells, Components, Gradients, Law, Rows, Totals, Trials
from hddm_sbi.numerics import (
    FAST,
    LOG_2PI_HALF,
    NEVER,
    PER_SQRT_2PI,
    Lapses,
    dot,
    exp_negative,
    inner,
    log_positive,
    mix_events,
    scaled_tail,
    total_of,
    upper_tail,
)
from hddm_sbi.types import Array

# A cell's events take the place of its trials: run cell * n_choices + choice has FIELDS numbers of each of them, the
# same events in every choice's run. With a = (z(low) - m) / sd, b = (z(high) - m) / sd,
#   P(event) = sum over choices and components of w [Phi(b) - Phi(a)]
# as the difference of two tails of the side on which both are small; where low = high, the density there. Most events
# are that there was no response up to a time; their probability is summed without logarithms.

#: of an event, for one response: after low and up to high, how many trials it is known of, its probability as a lapse.
FIELDS = 4
#: events that are worked on at a time.
_BLOCK = 32
#: z before and after all decision times.
_FAR = 1e9
#: of the largest weight, the least that may survive of all components for their sum to be exact.
_LEAST = 1e-250


@inner(forceinline=True)
def _place(block: Block, i: int, time: float, t0: float, s: float, clock: Array) -> bool:
    """Put a time of an event into a block; whether it is one at which decisions are made."""
    d = time - t0
    inside = 0.0 < d < math.inf and clock[0] * d < 1.0
    # Any decision time will do elsewhere: its weight is 0.
    block.d[i] = d if inside else 0.5 / clock[0] if clock[0] > 0.0 else 1.0
    block.s[i], block.clock[0, i], block.clock[1, i], block.clock[2, i] = s, clock[0], clock[1], clock[2]
    return inside


@inner()
def _ends(events: Array, first: int, n: int, c: int, cells: Cells, tail: int, low: Block, high: Block) -> bool:
    """Fill in both ends of n events with one response, from a place in their numbers on; says whether any has an end.

    weight of low: 1 where an event is a time; weight of high: 0 where it is impossible, else 1.
    """
    (s, t0, clock, _), limited = cells, False
    for i in range(n):
        at = first + FIELDS * i
        begin, end = events[at], events[at + 1]
        point, possible = begin == end, begin <= end and end > t0[c]
        inside = _place(low, i, begin, t0[c], s[c], clock[c])
        low.by_d[i] = 1.0 if inside else 0.0
        if begin > t0[c] and not inside:
            possible = False
        low.weight[i], high.weight[i] = (1.0 if point and possible else 0.0), (1.0 if possible else 0.0)
        inside = _place(high, i, end, t0[c], s[c], clock[c]) and not point
        high.by_d[i] = 1.0 if inside else 0.0
        limited = limited or inside
    coordinate(low, n, tail)
    for i in range(n):
        low.stretch[i] *= low.by_d[i]
        low.z[i] = low.z[i] if low.by_d[i] > 0.0 else -_FAR
    if limited:
        coordinate(high, n, tail)
        for i in range(n):
            high.stretch[i] *= high.by_d[i]
            high.z[i] = high.z[i] if high.by_d[i] > 0.0 else _FAR
    return limited


@inner(fastmath=FAST, forceinline=True)
def _between(a: float, b: float) -> tuple[float, float, float]:
    """log[Phi(b) - Phi(a)], a < b, and phi(a) and phi(b) over that difference."""
    flipped = a + b < 0.0
    x, y = -b if flipped else a, -a if flipped else b
    (near, hazard), (far, hazard_far) = upper_tail(x), upper_tail(y)
    left = exp_negative(min(far - near, 0.0))
    per = 1.0 / max(1.0 - left, 1e-300)
    at_x, at_y = hazard * per, hazard_far * left * per
    return near - log_positive(per), at_y if flipped else at_x, at_x if flipped else at_y


@inner(fastmath=FAST, forceinline=True)
def _masses(
    low: Block, high: Block, n: int, limited: bool, mixture: Components, q: Array, at_low: Array, at_high: Array
) -> None:
    """Log mass of every component of one response in q (k, events), and densities at both ends over it."""
    log_w, mean, log_sd = mixture
    for k in range(len(log_w)):
        w, m, sd, scale = log_w[k], mean[k], log_sd[k], exp_minus(log_sd[k])
        if limited:
            for i in range(n):
                mass, at_low[k, i], at_high[k, i] = _between((low.z[i] - m) * scale, (high.z[i] - m) * scale)
                q[k, i] = w + mass
        else:
            for i in range(n):
                mass, at_low[k, i] = upper_tail((low.z[i] - m) * scale)
                q[k, i], at_high[k, i] = w + mass, 0.0
        for i in range(n):
            if low.weight[i] > 0.0:
                e = (low.z[i] - m) * scale
                q[k, i] = w - sd - LOG_2PI_HALF - 0.5 * e * e + low.log_slope[i]
                at_low[k, i], at_high[k, i] = e, 0.0
            q[k, i] = q[k, i] if high.weight[i] > 0.0 else NEVER


@inner(fastmath=FAST, forceinline=True)
def _accumulate(
    low: Block,
    high: Block,
    n: int,
    limited: bool,
    weight: Array,
    mixture: Components,
    q: Array,
    at_low: Array,
    at_high: Array,
    to: Gradients,
) -> None:
    """Add the gradients of n events by one response's components; leaves those by y at both ends in the slopes."""
    (_, mean, log_sd), (g_w, g_mean, g_sd) = mixture, to
    for i in range(n):
        low.slope[i] = high.slope[i] = low.total[i] = 0.0
    for k in range(len(mean)):
        m, scale, by_w, by_mean, by_sd = mean[k], exp_minus(log_sd[k]), 0.0, 0.0, 0.0
        for i in range(n):
            r = q[k, i] * weight[i]
            point = r * low.weight[i]
            by_low = r * at_low[k, i]
            by_w += r
            by_mean += by_low
            by_sd += by_low * (low.z[i] - m) * scale - point
            low.slope[i] -= by_low * scale
            low.total[i] += point
        if limited:
            for i in range(n):
                by_high = q[k, i] * weight[i] * at_high[k, i]
                by_mean -= by_high
                by_sd -= by_high * (high.z[i] - m) * scale
                high.slope[i] += by_high * scale
        g_w[k] += by_w
        g_mean[k] += by_mean * scale
        g_sd[k] += by_sd
    for i in range(n):
        low.weight[i], high.weight[i] = low.total[i], 0.0
        low.slope[i] = low.slope[i] * low.stretch[i] + low.weight[i] * low.bend[i]
    if limited:
        for i in range(n):
            high.slope[i] *= high.stretch[i]


@inner(forceinline=True)
def weigh(share: float, events: Array, first: int, logp: Array, weight: Array, n: int) -> tuple[float, float]:
    """`mix_events` of n events, from their numbers, from a place in them on."""
    count, mass = events[first + 2 :: FIELDS], events[first + 3 :: FIELDS]
    return mix_events(share, mass, count, logp, weight, n)


@inner(forceinline=True)
def add_event(lapses: Lapses, events: Array, first: int, c: int, log_p: float, weight: Array, to: Totals) -> None:
    """`weigh` of one event of that log probability, added to the totals of its cell; weight: (1,)."""
    logp = np.full(1, log_p)
    value, by_lapse = weigh(lapses.share[c], events, first, logp, weight, 1)
    to.total[c] += value
    to.lapse[c] += by_lapse


@inner()
def run_of_late(events: Array, first: int, last: int, apart: int, n_choices: int, t0: float, closing: float) -> int:
    """How many events of a cell in a row, from a place in their numbers on, say that there is no response up to a time.

    apart: numbers between those of an event for one response and for the next. At the time, decisions are made.
    """
    n = 0
    for at in range(first, last, FIELDS):
        d = events[at] - t0
        late = d > 0.0 and closing * d < 1.0
        for j in range(n_choices):
            late = late and events[at + apart * j] == events[at] and events[at + apart * j + 1] == math.inf
        if not late:
            break
        n += 1
    return n


@inner(fastmath=FAST, forceinline=True)
def _survive(block: Block, n: int, mixture: Components, log_most: float, e: Array, left: Array, at: Array) -> None:
    """Add the mass of one response's components after the times of a block to `total`; with w over exp(log_most),
    leaves e_k, w_k Phi(-e_k) and w_k exp(-e_k² / 2)."""
    z, total = block.z, block.total
    for k in range(len(mixture.mean)):
        log_w, m, scale = mixture.log_w[k] - log_most, mixture.mean[k], exp_minus(mixture.log_sd[k])
        w = exp_negative(log_w)
        for i in range(n):
            x = (z[i] - m) * scale
            density = exp_negative(log_w - 0.5 * x * x)
            tail = density * scaled_tail(x)
            e[k, i], at[k, i], left[k, i] = x, density, tail if x >= 0.0 else w - tail
            total[i] += left[k, i]


@inner(fastmath=FAST, forceinline=True)
def _accumulate_late(
    block: Block, n: int, weight: Array, mixture: Components, e: Array, left: Array, at: Array, to: Gradients
) -> None:
    """Add the gradients of what survives by one response's components, and to `slope` that by z."""
    slope = block.slope
    for k in range(len(mixture.mean)):
        scale, by_mean, by_sd = exp_minus(mixture.log_sd[k]), 0.0, 0.0
        for i in range(n):
            by_e = weight[i] * at[k, i] * PER_SQRT_2PI
            by_mean += by_e
            by_sd += by_e * e[k, i]
            slope[i] -= by_e * scale
        to.log_w[k] += dot(weight, left[k], n)
        to.mean[k] += by_mean * scale
        to.log_sd[k] += by_sd


@inner()
def _late(
    row: int,
    c: int,
    n: int,
    above: int,
    mixtures: Array,
    g: Array,
    cells: Cells,
    tail: int,
    lapses: Lapses,
    events: Array,
    block: Block,
    room: tuple[Array, Array, Array],
    to: Totals,
) -> bool:
    """The way over n events of a cell in a row that there is no response up to a time; False, and nothing done, where
    hardly anything survives."""
    (e, left, at), logp, weight, total, log_most = room, block.logp, block.weight, block.total, NEVER
    n_components, n_choices = mixtures.shape[2], len(e) // mixtures.shape[2]
    for i in range(n):
        _place(block, i, events[above + FIELDS * i], cells.t0[c], cells.s[c], cells.clock[c])
        total[i] = block.slope[i] = 0.0
    coordinate(block, n, tail)
    for j in range(n_choices):
        own, _ = of_row(mixtures, g, row + j)
        for k in range(n_components):
            log_most = max(log_most, own.log_w[k])
    for j in range(n_choices):
        own, _ = of_row(mixtures, g, row + j)
        part = slice(j * n_components, (j + 1) * n_components)
        _survive(block, n, own, log_most, e[part], left[part], at[part])
    for i in range(n):
        if total[i] < _LEAST:
            return False
        logp[i] = log_positive(total[i]) + log_most
    value, by_lapse = weigh(lapses.share[c], events, above, logp, weight, n)
    to.total[c] += value
    to.lapse[c] += by_lapse
    for i in range(n):
        weight[i] /= total[i]
    for j in range(n_choices):
        own, to_own = of_row(mixtures, g, row + j)
        part = slice(j * n_components, (j + 1) * n_components)
        _accumulate_late(block, n, weight, own, e[part], left[part], at[part], to_own)
    for i in range(n):
        block.slope[i] *= block.stretch[i]
        weight[i] = 0.0
    _to_cell(block, n, c, to.cells)
    return True


@inner()
def _to_cell(end: Block, n: int, c: int, to: Cells) -> None:
    """Add what n ends contribute to the gradients of their cell, from that by y."""
    by_time(end, n)
    to.s[c] -= total_of(end.slope, n)
    to.t0[c] -= total_of(end.by_d, n)
    for part in range(3):
        to.clock[c, part] += total_of(end.by_clock[part], n)


# Over 50 lines: one walk over the events of a cell, of which every step needs most of the arrays.
@nb.njit(cache=True, nogil=True, error_model="numpy")
def mixture_events(
    rows: Rows, mixtures: Array, g: Array, cells: Cells, law: Law, lapses: Lapses, trials: Trials, to: Totals
) -> None:
    """The way over events of cells whose choices do not race; every choice of a cell has a row."""
    n_choices, n_components = (len(trials.starts) - 1) // len(cells.t0), mixtures.shape[2]
    shape = (n_choices * n_components, _BLOCK)
    q, at_low, at_high = np.empty(shape), np.empty(shape), np.empty(shape)
    low, high, weight, logp = room_for(_BLOCK), room_for(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    (starts, events), (total, _, g_lapse) = trials, to
    for row in range(0, len(rows.cell), n_choices):
        c = rows.cell[row]
        above, end = starts[c * n_choices], starts[c * n_choices + 1]
        while above < end:
            n = min(_BLOCK, (end - above) // FIELDS)
            late = run_of_late(
                events,
                above,
                above + FIELDS * n,
                end - starts[c * n_choices],
                n_choices,
                cells.t0[c],
                cells.clock[c, 0],
            )
            n = late if late > 0 else n
            room = q, at_low, at_high
            if late > 0 and _late(row, c, n, above, mixtures, g, cells, law.tail, lapses, events, low, room, to):
                above += FIELDS * n
                continue
            for j in range(n_choices):
                first = above - starts[c * n_choices] + starts[c * n_choices + j]
                limited = _ends(events, first, n, c, cells, law.tail, low, high)
                own, _ = of_row(mixtures, g, row + j)
                k = slice(j * n_components, (j + 1) * n_components)
                _masses(low, high, n, limited, own, q[k], at_low[k], at_high[k])
            largest, logp[:n] = low.largest, 0.0
            largest[:n] = NEVER
            for part in range(len(q)):
                for i in range(n):
                    largest[i] = max(largest[i], q[part, i])
            normalise(q, n, largest, low.total, logp)
            value, by_lapse = weigh(lapses.share[c], events, above, logp, weight, n)
            total[c] += value
            g_lapse[c] += by_lapse
            for j in range(n_choices):
                first = above - starts[c * n_choices] + starts[c * n_choices + j]
                limited = _ends(events, first, n, c, cells, law.tail, low, high)
                own, to_own = of_row(mixtures, g, row + j)
                k = slice(j * n_components, (j + 1) * n_components)
                _accumulate(low, high, n, limited, weight, own, q[k], at_low[k], at_high[k], to_own)
                _to_cell(low, n, c, to.cells)
                if limited:
                    _to_cell(high, n, c, to.cells)
            above += FIELDS * n
