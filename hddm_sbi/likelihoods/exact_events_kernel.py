"""Kernel of events of closed forms: integrals of a model's own log density over ranges of time, with their gradient."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np
import torch
from numba import types
from torch import Tensor

from hddm_sbi.likelihoods.exact_kernel import BLOCK, DENSITIES, DENSITY, Law, apart, shapes
from hddm_sbi.numerics import Kernel, dot, inner, mix_events, operator
from hddm_sbi.types import Array, Index

_f8, _i8 = types.float64, types.int64

# P(choice, low < RT <= high) is the integral of g(y) = t f(t), t = exp(y) a decision time. Looks at g narrow down where
# it lies, by its largest value; there a Gauss-Kronrod rule is applied, and again to both halves of an interval where it
# differs from the Gauss rule within it. One pass gives the derivatives, too: those of P are integrals of g times those
# of log f. The limits are times of responses and have none: a shift moves decision times between them, and its
# derivative is f at the first less f at the last, if decision times can be there.

#: log decision times (seconds) before and after which nothing is looked for.
_SOONEST, _LATEST = -46.0, 30.0
#: nodes of a look, and the most looks: each narrows an interval to 2 of 15 parts, from 76 to 1e-14.
_LOOK, _LOOKS = 16, 18
#: nats below the largest g under which nothing counts.
_LITTLE = 30.0
#: by how much of all the two rules may differ on an interval: the better one is off by much less, 1e-12.
_TOLERANCE = 1e-9
#: of what survived the beginning of a range, the most that may survive its end, for the difference to be exact.
_MOST_LEFT = 0.5
#: intervals at the most.
_PARTS = 60
# The rules of 10 and 21 nodes on [-1, 1] (Piessens et al. 1983), the nodes ascending.
_OUTER = (
    (0.995657163025808080735527280689003, 0.011694638867371874278064396062192, 0.0),
    (0.973906528517171720077964012084452, 0.032558162307964727478818972459390, 0.066671344308688137593568809893332),
    (0.930157491355708226001207180059508, 0.054755896574351996031381300244580, 0.0),
    (0.865063366688984510732096688423493, 0.075039674810919952767043140916190, 0.149451349150580593145863396657697),
    (0.780817726586416897063717578345042, 0.093125454583697605535065465083366, 0.0),
    (0.679409568299024406234327365114874, 0.109387158802297641899210590325805, 0.219086362515982043995534934228163),
    (0.562757134668604683339000099272694, 0.123491976262065851077958109585166, 0.0),
    (0.433395394129247190799265943165784, 0.134709217311473325928054001771707, 0.269266719309996355091226921569469),
    (0.294392862701460198131126603103866, 0.142775938577060080797094273138717, 0.0),
    (0.148874338981631210884826001129720, 0.147739104901338491374841515972068, 0.295524224714752870173815619188769),
)
_MIDDLE = (0.0, 0.149445554002916905664936468389821, 0.0)
_RULE = np.array([*((-x, k, g) for x, k, g in _OUTER), _MIDDLE, *_OUTER[::-1]])
_NODES, _KRONROD, _GAUSS = (np.ascontiguousarray(column) for column in _RULE.T)


class _Room(NamedTuple):
    """Memory of an integral, used again for the next.

    theta: (p,) without a shift. shift: its position, or -1. y, t, log_g: (nodes,), and derivatives by (p, nodes). ends,
    value, apart: of every interval, (parts, 2) and (parts,) twice, and its gradient (parts, p).
    """

    theta: Array
    shift: int
    y: Array
    t: Array
    log_g: Array
    by: Array
    ends: Array
    value: Array
    apart: Array
    gradient: Array


@inner()
def _room(p: int, shift: int) -> _Room:
    n = max(_LOOK, len(_NODES))
    x, parts = apart(3 + p, n), np.empty((2, _PARTS))
    ends, gradient = np.empty((_PARTS, 2)), np.empty((_PARTS, p))
    return _Room(np.empty(p), shift, x[0], x[1], x[2], x[3:], ends, parts[0], parts[1], gradient)


@inner()
def _evaluate(density: Law, choice: int, n: int, room: _Room) -> None:
    """log g and its derivatives at the first n log times."""
    y, t, log_g = room.y, room.t, room.log_g
    for i in range(n):
        t[i] = math.exp(y[i])
    density(room.theta, choice, t[:n], log_g, room.by)
    for i in range(n):
        log_g[i] += y[i]


@inner()
def _look(density: Law, choice: int, low: float, high: float, room: _Room) -> tuple[float, float, float, float]:
    """Where g lies between two log times: its first place, that of its largest value, its last, and log of that value,
    which is -inf where there is none."""
    y, log_g, first, last = room.y, room.log_g, low, high
    for _ in range(_LOOKS):
        step = (high - low) / (_LOOK - 1)
        for i in range(_LOOK):
            y[i] = low + step * i
        y[_LOOK - 1] = high
        _evaluate(density, choice, _LOOK, room)
        best = 0
        for i in range(_LOOK):
            best = i if log_g[i] > log_g[best] else best
        least = log_g[best] - _LITTLE
        if log_g[best] == -math.inf:
            break
        early, late = 0, _LOOK - 1
        while log_g[early] < least:
            early += 1
        while log_g[late] < least:
            late -= 1
        # One node further, for g may begin anywhere before the first node that sees it.
        first = y[early - 1] if early > 0 else first
        last = y[late + 1] if late < _LOOK - 1 else last
        if (best == 0 or early < best) and (best == _LOOK - 1 or late > best):
            break
        low, high = y[max(best - 1, 0)], y[min(best + 1, _LOOK - 1)]
    return first, y[best], last, log_g[best]


@inner()
def _integrate(density: Law, choice: int, part: int, unit: float, room: _Room) -> None:
    """Both rules on an interval, for g over exp(unit)."""
    low, high = room.ends[part, 0], room.ends[part, 1]
    half, y, log_g, by, gradient = 0.5 * (high - low), room.y, room.log_g, room.by, room.gradient
    n, coarse, fine = len(_NODES), 0.0, 0.0
    for i in range(n):
        y[i] = low + half * (1.0 + _NODES[i])
    _evaluate(density, choice, n, room)
    for i in range(n):
        g = half * math.exp(log_g[i] - unit)
        coarse += _GAUSS[i] * g
        log_g[i] = _KRONROD[i] * g
        fine += log_g[i]
    room.value[part], room.apart[part] = fine, abs(fine - coarse)
    for j in range(gradient.shape[1]):
        gradient[part, j] = dot(by[j], log_g, n)


@inner()
def _log_mass(density: Law, choice: int, first: float, last: float, room: _Room, gradient: Array) -> float:
    """log P(choice, first < decision time <= last); fills in its gradient (p,), 0 where the event is impossible."""
    gradient[:] = 0.0
    low = max(math.log(first), _SOONEST) if first > 0.0 else _SOONEST
    high = min(math.log(last), _LATEST) if last > 0.0 else _SOONEST
    if not low < high:
        return -math.inf
    begin, at, end, unit = _look(density, choice, low, high, room)
    if unit == -math.inf:
        return -math.inf
    ends, apart, n = room.ends, room.apart, 1
    ends[0, 0], ends[0, 1] = begin, end
    if begin < at < end:
        ends[0, 1] = ends[1, 0] = at
        ends[1, 1] = end
        n = 2
    total = 0.0
    for part in range(n):
        _integrate(density, choice, part, unit, room)
        total += room.value[part]
    worst = 0
    while n < _PARTS:
        for part in range(n):
            worst = part if apart[part] > apart[worst] else worst
        if apart[worst] <= _TOLERANCE * total:
            break
        middle = 0.5 * (ends[worst, 0] + ends[worst, 1])
        ends[n, 0], ends[n, 1], ends[worst, 1] = middle, ends[worst, 1], middle
        total -= room.value[worst]
        _integrate(density, choice, worst, unit, room)
        _integrate(density, choice, n, unit, room)
        total += room.value[worst] + room.value[n]
        n += 1
    for part in range(n):
        for j in range(len(gradient)):
            gradient[j] += room.gradient[part, j] / total
    log_p = min(unit + math.log(total), 0.0)
    if room.shift >= 0:
        before, after = _log_density(density, choice, first, room), _log_density(density, choice, last, room)
        gradient[room.shift] = math.exp(before - log_p) - math.exp(after - log_p)
    return log_p


@inner()
def _log_density(density: Law, choice: int, t: float, room: _Room) -> float:
    """log f at a decision time; -inf where it is not in (0, inf)."""
    if not 0.0 < t < math.inf:
        return -math.inf
    room.t[0] = t
    density(room.theta, choice, room.t[:1], room.log_g, room.by)
    return room.log_g[0]


@inner()
def _log_survival(survival: Law, t: float, room: _Room, gradient: Array) -> float:
    """log P(decision time > t), and its gradient."""
    gradient[:] = 0.0
    if not t > 0.0:
        return 0.0
    if t == math.inf:
        return -math.inf
    room.t[0] = t
    survival(room.theta, 0, room.t[:1], room.log_g, room.by)
    for j in range(len(gradient)):
        gradient[j] = room.by[j, 0]
    return room.log_g[0]


@inner()
def _log_share(density: Law, choice: int, first: float, last: float, room: _Room, gradient: Array) -> float:
    """log P(choice, first < decision time <= last), or its log density where both are one time; and its gradient."""
    if first != last:
        return _log_mass(density, choice, first, last, room, gradient)
    log_p = _log_density(density, choice, first, room)
    for j in range(len(gradient)):
        gradient[j] = room.by[j, 0] if log_p > -math.inf else 0.0
    return log_p


@inner()
def _shared(low: Array, high: Array) -> bool:
    """Whether an event is one range of time with any response."""
    same = low[0] < high[0]
    for c in range(1, len(low)):
        same = same and low[c] == low[0] and high[c] == high[0]
    return same


@inner()
def _log_event(
    density: Law,
    survival: Law,
    survives: bool,
    low: Array,
    high: Array,
    t0: float,
    room: _Room,
    own: Array,
    gradient: Array,
) -> float:
    """log P of an event, times by choice after low and up to high; fills in its gradient (p,). own: room (p,)."""
    if survives and _shared(low, high):
        before, after = low[0] - t0, high[0] - t0
        value, end = (
            _log_survival(survival, before, room, gradient),
            _log_survival(survival, after, room, own),
        )
        left = math.exp(end - value) if end > -math.inf else 0.0
        if left <= _MOST_LEFT:
            for j in range(len(gradient)):
                gradient[j] = (gradient[j] - left * own[j]) / (1.0 - left)
            return value + math.log1p(-left)
    total = -math.inf
    gradient[:] = 0.0
    for c in range(len(low)):
        if low[c] > high[c]:
            continue
        value = _log_share(density, c, low[c] - t0, high[c] - t0, room, own)
        if value > -math.inf:
            both = max(total, value) + math.log1p(math.exp(-abs(total - value)))
            old, new = math.exp(total - both), math.exp(value - both)
            for j in range(len(gradient)):
                gradient[j] = old * gradient[j] + new * own[j]
            total = both
    return total


@inner()
def _run_of_late(low: Array, high: Array, cell: Index, first: int) -> int:
    """The end of the run of events of a cell, from one on, that there is no response up to ascending times."""
    n = first
    while n < len(cell) and n - first < BLOCK and cell[n] == cell[first] and high[n, 0] == math.inf:
        if not _shared(low[n], high[n]) or (n > first and low[n, 0] < low[n - 1, 0]):
            break
        n += 1
    return n


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _events(
    theta: Array,
    lapse: Array,
    cell: Index,
    low: Array,
    high: Array,
    count: Array,
    lapse_mass: Array,
    shift: int,
    survives: bool,
    density: Law,
    survival: Law,
    total: Array,
    grad: Array,
    grad_lapse: Array,
) -> None:
    """Per cell: sum over events of count * log[(1 - lapse) P + lapse * lapse_mass], gradients by theta and lapse."""
    p, first = theta.shape[1], 0
    room, own, gradient = _room(p, shift), np.empty(p), np.empty(p)
    of_late = apart(p + 3, BLOCK)
    rt, logp, weight, by = of_late[0], of_late[1], of_late[2], of_late[3:]
    while first < len(cell):
        c, last = cell[first], first + 1
        t0 = theta[c, shift] if shift >= 0 else 0.0
        late = _run_of_late(low, high, cell, first) if survives and low[first, 0] > t0 else first
        if late > first:
            last = late
            for i in range(first, last):
                rt[i - first] = low[i, 0]
            survival(theta[c], 0, rt[: last - first], logp, by)
        else:
            room.theta[:] = theta[c]
            if shift >= 0:
                room.theta[shift] = 0.0
            logp[0] = _log_event(density, survival, survives, low[first], high[first], t0, room, own, gradient)
            by[:, 0] = gradient
        n, counts, masses = last - first, count[first:last], lapse_mass[first:last]
        value, by_lapse = mix_events(lapse[c], masses, counts, logp, weight, n)
        total[c] += value
        grad_lapse[c] += by_lapse
        for j in range(p):
            grad[c, j] += dot(weight, by[j], n)
        first = last


_EVENTS_SIGNATURE = types.void(
    *(_f8[:, ::1], _f8[::1], _i8[::1], _f8[:, ::1], _f8[:, ::1], _f8[::1], _f8[::1], _i8, types.boolean),
    *(DENSITY, DENSITY, _f8[::1], _f8[:, ::1], _f8[::1]),
)
_EVENTS_KERNEL = Kernel(_events, _EVENTS_SIGNATURE, DENSITIES)


def _events_forward(
    theta: Tensor,
    lapse: Tensor,
    cell: Tensor,
    low: Tensor,
    high: Tensor,
    count: Tensor,
    lapse_mass: Tensor,
    shift: int,
    survives: bool,
    density: str,
    survival: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum over the events of every cell, its gradient by theta, and by the probability of a lapse, (n_cells,).

    cell, count, lapse_mass: (m,), low, high (m, n_choices), as `Events` has them. shift: the column of theta that is a
    shift of time, or -1. survives: whether `survival` says what survives; if not, it is not called.
    """
    results = [torch.zeros(shape, dtype=torch.float64) for shape in (len(theta), theta.shape, len(theta))]
    events = [x.contiguous().numpy() for x in (cell, low, high, count, lapse_mass)]
    laws = shift, survives, DENSITIES[density], DENSITIES[survival]
    at = theta.detach().contiguous().numpy()
    _EVENTS_KERNEL.compiled(at, lapse.detach().contiguous().numpy(), *events, *laws, *(x.numpy() for x in results))
    total, grad, grad_lapse = results
    return total, grad, grad_lapse


def _events_backward(ctx, upstream, *_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
    grad, grad_lapse = ctx.saved_tensors
    return upstream.unsqueeze(-1) * grad, upstream * grad_lapse, *[None] * 9


exact_events = operator("hddm_sbi::exact_events", _EVENTS_KERNEL, _events_forward, shapes, _events_backward)
