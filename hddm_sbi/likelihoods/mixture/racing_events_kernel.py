"""Kernel of events of choices that race: ranges of time by response, with the analytic gradient."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba as nb
import numpy as np

from hddm_sbi.likelihoods.mixture.events_kernel import FIELDS, add_event, run_of_late, weigh
from hddm_sbi.likelihoods.mixture.kernel import (
    Block,
    Shares,
    accumulate,
    add_choice,
    by_time,
    coordinate,
    exp_minus,
    of_row,
    room_for,
    to_log_time,
)
from hddm_sbi.likelihoods.mixture.records import Cells, Components, Law, Rows, Totals, Trials
from hddm_sbi.numerics import NEVER, Lapses, inner, total_of
from hddm_sbi.types import Array

# Where choices race, what survives is the product over accumulators, and one range of time for all choices is the
# difference of two such products. Other events are sums over nodes of a choice's density, by Gauss-Legendre over
# y = log t - log(1 - r t), t the decision time and r one over the time at which decisions end, in intervals to both
# sides of its largest value, each twice as long as the one before; a time is a single node. Their relative error is
# 1e-10, and that of their derivatives 1e-8.

#: nodes of an event for one choice; intervals on either side, the first of them one of so many parts.
_NODES, _PANELS, _PARTS = 192, 4, 15
#: nodes of a look for where they belong, and the most looks.
_LOOK, _LOOKS = 32, 15
#: arguments: Numba compiles a function again for every whole number that is written where it is called.
_NO_ONE: Any = np.int64(-1)
_BOTH: Any = np.int64(2)
_LOOKED_AT: Any = np.int64(_LOOK)
#: nats below the largest density of log time under which nothing counts.
_LITTLE = 30.0
#: y before and after which nothing is looked for.
_SOONEST, _LATEST = -46.0, 30.0
#: of what survived the beginning of a range, the most that may survive its end, for the difference to be exact.
_MOST_LEFT = 0.5
_ON_ONE, _WEIGHTS = np.polynomial.legendre.leggauss(_NODES // (2 * _PANELS))


class _Race(NamedTuple):
    """The accumulators of a cell, and memory of its nodes: components, one over their sds (choices, k), log time scales
    (choices,), clock (3,); shares of components and rates as in `mixture_cells`."""

    log_w: Array
    mean: Array
    log_sd: Array
    per_sd: Array
    s: Array
    clock: Array
    e: Array
    q: Array
    h: Array
    rate: Array
    block: Block


@inner()
def _race_of(n_choices: int, n_components: int) -> _Race:
    """Room for the accumulators of a cell."""
    x, y = np.empty((4, n_choices, n_components)), np.empty((3, n_choices, n_components, _NODES))
    rate, block = np.empty((n_choices, 2, _NODES)), room_for(_NODES)
    return _Race(x[0], x[1], x[2], x[3], np.empty(n_choices), np.empty(3), y[0], y[1], y[2], rate, block)


@inner()
def _run(race: _Race, winner: int, n: int, tail: int) -> None:
    """log p of the first n decision times of the block if one choice wins, or log S if winner is -1."""
    block = race.block
    block.logp[:n] = 0.0
    for part in range(3):
        block.clock[part, :n] = race.clock[part]
    for j in range(len(race.s)):
        own = Components(race.log_w[j], race.mean[j], race.log_sd[j])
        block.s[:n] = race.s[j]
        coordinate(block, n, tail)
        shares = Shares(race.e[j], race.q[j], race.h[j])
        add_choice(block, n, j == winner, own, race.per_sd[j], shares, race.rate[j])


@inner()
def _back(race: _Race, winner: int, n: int, c: int, row: int, g: Array, by_y: Array, to: Cells) -> None:
    """Add the gradients of the nodes that have just run, from their weights, to those of a cell and its first row."""
    block, n_choices = race.block, len(race.s)
    by_y[:n] = 0.0
    for j in range(n_choices):
        _, to_own = of_row(g, g, row + j)
        accumulate(block, n, j == winner, race.per_sd[j], Shares(race.e[j], race.q[j], race.h[j]), to_own)
        to.s[c * n_choices + j] -= to_log_time(block, n, race.rate[j], by_y)
    for i in range(n):
        block.slope[i] = by_y[i]
        block.weight[i] = block.weight[i] if winner >= 0 else 0.0
    by_time(block, n)
    to.t0[c] -= total_of(block.by_d, n)
    for part in range(3):
        to.clock[c, part] += total_of(block.by_clock[part], n)


@inner(forceinline=True)
def _log_time(t: float, closing: float) -> float:
    """y of a decision time, inside the limits."""
    if not t > 0.0:
        return _SOONEST
    if t == math.inf or closing * t >= 1.0:
        return _LATEST
    return min(max(math.log(t) - math.log1p(-closing * t), _SOONEST), _LATEST)


@inner(forceinline=True)
def _time_at(y: float, closing: float) -> tuple[float, float]:
    """The decision time of y, and the log of its derivative by y."""
    t = math.exp(y)
    return t / (1.0 + closing * t), y - 2.0 * math.log1p(closing * t)


@inner()
def _bulk(
    race: _Race, winner: int, low: float, high: float, tail: int, y: Array, rise: Array
) -> tuple[float, float, float]:
    """Where the density of a winner over y lies between two of them: its first place, that of its largest value, its
    last. y, rise: room (nodes,)."""
    log_g, first, last, best = race.block.logp, low, high, 0
    for _ in range(_LOOKS):
        for i in range(_LOOK):
            y[i] = low + (high - low) * i / (_LOOK - 1)
            race.block.d[i], rise[i] = _time_at(y[i], race.clock[0])
        _run(race, winner, _LOOKED_AT, tail)
        best, early, late = 0, 0, _LOOK - 1
        for i in range(_LOOK):
            log_g[i] += rise[i]
            best = i if log_g[i] > log_g[best] else best
        while log_g[early] < log_g[best] - _LITTLE:
            early += 1
        while log_g[late] < log_g[best] - _LITTLE:
            late -= 1
        # One node further, for it may begin anywhere before the first node that sees it.
        first = y[early - 1] if early > 0 else first
        last = y[late + 1] if late < _LOOK - 1 else last
        if (best == 0 or early < best) and (best == _LOOK - 1 or late > best):
            break
        low, high = y[max(best - 1, 0)], y[min(best + 1, _LOOK - 1)]
    return first, y[best], last


@inner()
def _nodes(race: _Race, winner: int, begin: float, end: float, tail: int, t: Array, log_weight: Array) -> int:
    """Decision times and log weights of an event's nodes, (nodes,) each, and how many: none if it is impossible."""
    closing = race.clock[0]
    if begin == end:
        t[0], log_weight[0] = begin, 0.0
        return 1 if begin > 0.0 and begin * closing < 1.0 else 0
    low, high = _log_time(begin, closing), _log_time(end, closing)
    if not low < high:
        return 0
    first, at, last = _bulk(race, winner, low, high, tail, t, log_weight)
    n = 0
    for stop in (first, last):
        for panel in range(_PANELS if stop != at else 0):
            start, width = at + (stop - at) * (2.0**panel - 1.0) / _PARTS, (stop - at) * 2.0**panel / _PARTS
            for i in range(len(_ON_ONE)):
                y = start + 0.5 * width * (1.0 + _ON_ONE[i])
                t[n], rise = _time_at(y, closing)
                log_weight[n] = rise + math.log(0.5 * abs(width) * _WEIGHTS[i])
                n += 1
    return n


@inner()
def _shared_range(numbers: Array, first: int, run: int, n_choices: int) -> bool:
    """Whether an event is one range of time with any response; run: how far its numbers of two responses are apart."""
    same = numbers[first] < numbers[first + 1]
    for j in range(1, n_choices):
        at = first + run * j
        same = same and numbers[at] == numbers[first] and numbers[at + 1] == numbers[first + 1]
    return same


@inner()
def _left(race: _Race, begin: float, end: float, tail: int, weight: Array) -> tuple[float, bool]:
    """log P(begin < decision time <= end), and whether it is exact; weight: of what either log survival counts for."""
    block, closing = race.block, race.clock[0]
    for i in range(2):
        t = begin if i == 0 else end
        weight[i] = 1.0 if 0.0 < t < math.inf and closing * t < 1.0 else 0.0
        block.d[i] = t if weight[i] > 0.0 else 0.5 / closing if closing > 0.0 else 1.0
    _run(race, _NO_ONE, _BOTH, tail)
    if not end > 0.0 or (begin > 0.0 and weight[0] == 0.0):
        weight[:2] = 0.0
        return NEVER, True
    before = block.logp[0] if weight[0] > 0.0 else 0.0
    left = math.exp(min(block.logp[1] - before, 0.0)) if weight[1] > 0.0 else 0.0
    if left > _MOST_LEFT:
        return 0.0, False
    weight[0] /= 1.0 - left
    weight[1] *= -left / (1.0 - left)
    return before + math.log1p(-left), True


# Over 50 lines: one walk over the events of a cell, of which every step needs most of the arrays.
@nb.njit(cache=True, nogil=True, error_model="numpy")
def racing_events(
    rows: Rows, mixtures: Array, g: Array, cells: Cells, law: Law, lapses: Lapses, trials: Trials, to: Totals
) -> None:
    """The way over events of cells whose choices race, one after the other."""
    n_choices, n_components = (len(trials.starts) - 1) // len(cells.t0), mixtures.shape[2]
    race, shape = _race_of(n_choices, n_components), (n_choices, _NODES)
    t, log_p, by_y, weight, whole = np.empty(shape), np.empty(shape), np.empty(_NODES), np.empty(1), 0.0
    (starts, numbers), block, n_nodes = trials, race.block, np.zeros(n_choices, np.int64)
    for row in range(0, len(rows.cell), n_choices):
        c = rows.cell[row]
        t0, run = cells.t0[c], starts[c * n_choices + 1] - starts[c * n_choices]
        for j in range(n_choices):
            own, _ = of_row(mixtures, g, row + j)
            for k in range(n_components):
                race.log_w[j, k], race.mean[j, k], race.log_sd[j, k] = own.log_w[k], own.mean[k], own.log_sd[k]
                race.per_sd[j, k] = exp_minus(own.log_sd[k])
            race.s[j] = cells.s[c * n_choices + j]
        race.clock[:] = cells.clock[c]
        first, stop, closing = starts[c * n_choices] - FIELDS, starts[c * n_choices + 1], cells.clock[c, 0]
        while first + FIELDS < stop:
            first += FIELDS
            late = run_of_late(numbers, first, min(stop, first + FIELDS * _NODES), run, n_choices, t0, closing)
            if late > 0:
                for i in range(late):
                    block.d[i] = numbers[first + FIELDS * i] - t0
                _run(race, _NO_ONE, late, law.tail)
                value, by_lapse = weigh(lapses.share[c], numbers, first, block.logp, block.weight, late)
                to.total[c] += value
                to.lapse[c] += by_lapse
                _back(race, _NO_ONE, late, c, row, g, by_y, to.cells)
                first += FIELDS * (late - 1)
                continue
            exact = _shared_range(numbers, first, run, n_choices)
            if exact:
                whole, exact = _left(race, numbers[first] - t0, numbers[first + 1] - t0, law.tail, block.weight)
            if exact:
                before, after = block.weight[0], block.weight[1]
                add_event(lapses, numbers, first, c, whole, weight, to)
                block.weight[0], block.weight[1] = before * weight[0], after * weight[0]
                _back(race, _NO_ONE, _BOTH, c, row, g, by_y, to.cells)
                continue
            most, total = NEVER, 0.0
            for j in range(n_choices):
                begin, end = numbers[first + run * j] - t0, numbers[first + run * j + 1] - t0
                n_nodes[j] = _nodes(race, j, begin, end, law.tail, t[j], log_p[j]) if begin <= end else 0
                block.d[: n_nodes[j]] = t[j, : n_nodes[j]]
                _run(race, j, n_nodes[j], law.tail)
                for i in range(n_nodes[j]):
                    log_p[j, i] += block.logp[i]
                    most = max(most, log_p[j, i])
            for j in range(n_choices):
                for i in range(n_nodes[j]):
                    total += math.exp(log_p[j, i] - most)
            whole = most + math.log(total) if total > 0.0 else NEVER
            add_event(lapses, numbers, first, c, whole, weight, to)
            for j in range(n_choices):
                block.d[: n_nodes[j]] = t[j, : n_nodes[j]]
                _run(race, j, n_nodes[j], law.tail)
                for i in range(n_nodes[j]):
                    block.weight[i] = weight[0] * math.exp(log_p[j, i] - whole)
                _back(race, j, n_nodes[j], c, row, g, by_y, to.cells)
