"""Reference first-passage densities: the Fokker-Planck equation between moving bounds as an integral equation.

Independent of the simulators: no path, no random number, no time step of theirs. The equation is that of Buonocore,
Giorno, Nobile & Ricciardi (1990), whose kernel is free of the singularity at the latest time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PPoly, make_interp_spline
from scipy.special import zeta

from hddm_sbi.numerics import FAST, exp
from hddm_sbi.types import Array

Curve = Callable[[Array], Array]

#: corrections of the last values of a trapezoid rule whose integrand ends like e^1/2 times a power series in e, by the
#: conditions sum_j w_j j^(1/2 + k) = zeta(-1/2 - k), k = 0 ... 7; from the one before the last backwards.
_ROOT_END = np.array(
    [
        -1.2486975408694862,
        2.7660340662416653,
        -4.3267565684843173,
        4.5814232751359084,
        -3.2347082784051076,
        1.4633307892260733,
        -0.38462384269022577,
        0.044758784165365519,
    ]
)
#: first values of a trapezoid rule that are corrected where its integrand begins like a power.
_FIRST = 6
#: nats by which the early density grows in a panel from where on its growth is a part of the correction.
_STEEP = 1.5
#: log densities farther than this from the law of early times are unknown.
_FARTHEST = 600.0
#: of the quadrature over a delay, and of the mean between two points of a grid.
_DELAY_NODES, _MEAN_NODES = 64, 16
#: share of the decisions of a choice: fewer during a delay are known too roughly by the differences of probabilities.
_FEW = 1e-3
#: nats below the density at its end at which an integral over a delay begins, at the earliest 20 in log time before it.
_NOTHING = 40.0
#: degree of the splines between the points of a grid.
_DEGREE = 5
#: numbers of grid points.
_GRIDS = (250, 500, 1_000, 2_000, 4_000, 8_000, 16_000)
#: grids of up to so many points are refined in any case; others as long as they come twice as near, or are near.
_SURE = 2_000
#: a probability of less than this is known absolutely only.
_RARE = 1e-6


@dataclass(frozen=True)
class Diffusion:
    """dx = (drift(t) - leak x) dt + dW from x(0) = start, until |x| = bound(t); slope is the derivative of bound.

    A start that varies between trials: start (k,) and weight (k,), the nodes and weights of a quadrature. edge: the
    power of the distance to a bound with which the density of starts begins there; None where it is 0 around it.
    """

    start: float | Array
    drift: Curve
    bound: Curve
    slope: Curve
    leak: float = 0.0
    weight: float | Array = 1.0
    edge: float | None = None


def constant(value: float) -> Curve:
    """A curve with the same value at all times."""
    return lambda t: np.full_like(t, value)


def grid(t_max: float, n: int) -> Array:
    """n + 1 times from 0 to t_max, dense where the first decisions fall: t_max ((1 + 15 (i / n)²)^1/2 - 1) / 3."""
    return np.asarray(t_max * ((np.sqrt(1.0 + 15.0 * (np.arange(n + 1) / n) ** 2) - 1.0) / 3.0))


def panels(t_max: float, n: int) -> Array:
    """Derivative of `grid` by its index."""
    share = np.arange(n + 1) / n
    return np.asarray(5.0 * t_max * share / np.sqrt(1.0 + 15.0 * share**2) / n)


@cache
def crowded(step: float = 0.2, last: float = 37.0) -> tuple[Array, Array]:
    """Nodes and weights of a quadrature on (0, 1), dense at both ends at every scale: (k,) each.

    The trapezoid rule in the log odds. Early decisions come from the starts that are next to a bound: like exp(-d²/2t)
    in the distance d of those that reach it, where this step has an error of 1e-11, and twice it 1e-6; like an
    exponential in that of others, where twice it has 1e-11.

    >>> nodes, weights = crowded()
    >>> print(f"{weights @ nodes**-0.25:.8f}")
    1.33333333
    """
    odds = np.arange(-last, last + step / 2, step)
    nodes = 1.0 / (1.0 + np.exp(-odds))
    return nodes, step * nodes / (1.0 + np.exp(odds))


@cache
def _power_beginning(power: float) -> Array:
    """Corrections of the first values of a trapezoid rule whose integrand begins like s^power times a power series.

    By the conditions sum_j w_j j^(power + k) = -zeta(-power - k).
    """
    power_of, points = power + np.arange(_FIRST), np.arange(1.0, _FIRST + 1.0)
    return np.asarray(np.linalg.solve(points ** power_of[:, None], -zeta(-power_of)))


@cache
def _legendre(n: int) -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(n)


def _spline(x: Array, y: Array) -> PPoly:
    return PPoly.from_spline(make_interp_spline(x, y, _DEGREE))


@dataclass(frozen=True)
class Solution:
    """First-passage densities on one grid.

    t: (n,) times, `grid`. early: what the log densities (n_choices, m), for the lower and upper bound or for every
    accumulator, tend to at early times, at any times t (m,). beyond: (n_choices, n) log density - early, 0 at first.
    power: probabilities begin like a whole power, from the second on, of t^(power / 2), or like none.
    """

    t: Array
    beyond: Array
    early: Curve
    power: float = 1.0

    @cached_property
    def _splines(self) -> list[PPoly]:
        """What is beyond early in every choice, over the root of time."""
        return [_spline(np.sqrt(self.t), beyond) for beyond in np.where(self._unknown, 0.0, self.beyond)]

    @cached_property
    def _unknown(self) -> NDArray[np.bool_]:
        return ~(np.abs(self.beyond) < _FARTHEST)

    def _instant(self, t: Array) -> Array:
        """log densities (n_choices, m) at any times t (m,), without delay: nan where the grid does not tell them."""
        after = np.searchsorted(self.t, t).clip(1, len(self.t) - 1)
        told = (t <= self.t[-1]) & ~self._unknown[:, after - 1] & ~self._unknown[:, after]
        beyond = np.stack([spline(np.sqrt(t)) for spline in self._splines])
        return np.asarray(np.where(told, self.early(t) + beyond, np.nan))

    def _late(self, t: Array, delay: float) -> Array:
        """log densities (n_choices, m) at any times t (m,), with a delay: of the decisions made in the time before."""
        before, now, all_made = (self._made(at) for at in (np.maximum(t - delay, 0.0), t, self.t[-1:]))
        log_p = np.log((now - before) / delay)
        for choice, few in enumerate(~(now - before > _FEW * all_made)):
            if few.any():
                log_p[choice, few] = self._few(t[few], choice, delay)
        return log_p

    def _few(self, t: Array, choice: int, delay: float) -> Array:
        """The same of a choice, where few decisions were made: by Gauss quadrature over log decision time."""
        nodes, weights = _legendre(_DELAY_NODES)
        log_t, step = np.log(t), 1e-3
        rise = (self._instant(t)[choice] - self._instant(t * math.exp(-step))[choice]) / step
        first = np.maximum(log_t - _NOTHING / np.maximum(rise, 2.0), np.log(np.maximum(t - delay, 1e-320)))
        half = 0.5 * (log_t - first)[:, None]
        u = np.exp(first[:, None] + half * (1.0 + nodes))
        parts = self._instant(u.reshape(-1))[choice].reshape(u.shape)
        highest = parts.max(-1, keepdims=True)
        return np.asarray(np.log((np.exp(parts - highest) * u * half * weights).sum(-1) / delay) + highest[:, 0])

    def _made(self, t: Array) -> Array:
        """P(choice, decision time <= t), (n_choices, m), without delay."""
        return np.stack([mass(self._stretched(t)) for mass in self._masses])

    def log_density(self, t: Array, delay: float = 0.0) -> Array:
        """log density at any times t (m,) in (0, t_max], of the decision time plus a delay uniform on [0, delay]."""
        return self._late(t, delay) if delay else self._instant(t)

    @cached_property
    def log_p(self) -> Array:
        """log densities on the grid, without delay (n_choices, n): nan where they are not told, -inf at 0."""
        with np.errstate(all="ignore"):
            log_p = np.where(self._unknown, np.nan, self.early(self.t) + self.beyond)
        return np.where(self.t == 0.0, -np.inf, log_p)

    @cached_property
    def _masses(self) -> list[PPoly]:
        """Integrals from 0 of the density of every choice, over `_stretched` time."""
        return self._integrals(np.ones_like(self.t))

    @cached_property
    def _moments(self) -> list[PPoly]:
        """Integrals from 0 of time times the density of every choice, over `_stretched` time."""
        return self._integrals(self.t)

    def _integrals(self, factor: Array) -> list[PPoly]:
        # Where nothing is known next to nothing is left: else the probabilities of all choices do not add up to 1.
        density = np.exp(np.nan_to_num(self.log_p, nan=-np.inf, neginf=-np.inf))
        at = self._stretched(self.t)
        by_at = 2.0 / self.power * self.t / np.where(self.t == 0.0, 1.0, at)
        return [_spline(at, y).antiderivative() for y in by_at * factor * density]

    def _stretched(self, t: Array) -> Array:
        return np.asarray(t ** (0.5 * self.power))

    def mass(self, t: Array, delay: float = 0.0) -> Array:
        """P(choice, decision time plus delay <= t) at any times t (m,): (n_choices, m). It ends at t_max."""
        last = self.t[-1]
        t = np.minimum(t, last + delay)
        now, before = np.minimum(t, last), np.maximum(t - delay, 0.0)
        share = self._made(now)
        if delay:
            ends = self._stretched(now), self._stretched(before)
            passed = np.stack([moment(ends[0]) - moment(ends[1]) for moment in self._moments])
            share = (t * share - before * self._made(before) - passed) / delay
        return np.clip(share, 0.0, 1.0)

    def log_survival(self, t: Array, delay: float = 0.0) -> Array:
        """log P(decision time plus delay > t) at any times t (m,) up to t_max: (1, m)."""
        return np.log(np.where(t <= self.t[-1], 1.0 - self.mass(t, delay).sum(0, keepdims=True), np.nan))


#: a law of times t (m,), of a solution and a delay.
Law = Callable[[Solution, Array, float], Array]


@dataclass(frozen=True)
class Passage:
    """First-passage densities that are solved on finer and finer grids until two of them agree.

    solve: number of points -> solution. delay: full width of a uniform delay that is added to the decision time.
    grids: numbers of points; of a single one, what it tells goes unchecked. tolerance: by which two in turn may differ,
    in log densities, and relative in probabilities.
    """

    solve: Callable[[int], Solution]
    delay: float = 0.0
    grids: tuple[int, ...] = _GRIDS
    tolerance: float = 1e-6

    def delayed(self, width: float) -> Passage:
        """The same with a delay that is uniform on [0, width]."""
        return replace(self, delay=width)

    def log_density(self, t: Array) -> Array:
        """log density (n_choices, m) at any times t (m,) in (0, t_max], or ArithmeticError."""
        return self.agreed(Solution.log_density, t)[0]

    def mass(self, t: Array) -> Array:
        """P(choice, time <= t) up to t_max, (n_choices, m), or ArithmeticError."""
        return self.agreed(Solution.mass, t)[0]

    def _on(self, n: int, law: Law, t: Array) -> Array:
        with np.errstate(all="ignore"):
            return law(self.solve(n), t, self.delay)

    def agreed(self, law: Law, t: Array) -> tuple[Array, int]:
        """A law on the first grid on which it agrees with that before, and the number of its points."""
        before, gap = self._on(self.grids[0], law, t), math.inf
        for n in self.grids[1:]:
            now, last = self._on(n, law, t), gap
            scale = np.maximum(now, _RARE) if law is Solution.mass else 1.0
            with np.errstate(invalid="ignore"):
                gap = float(np.nan_to_num(np.abs(now - before) / scale, nan=np.inf).max(initial=0.0))
            if gap <= self.tolerance:
                return now, n
            if n > _SURE and not gap < max(0.5 * last, 10.0 * self.tolerance):
                break
            before = now
        if len(self.grids) > 1:
            raise ArithmeticError(f"solutions on {n} and on fewer points differ by {gap:.2g}")
        return before, self.grids[0]


def _gained(diffusion: Diffusion, first: Array, last: Array) -> Array:
    """What the drift adds to the mean between two times, by Gauss quadrature; from 0 on, of a drift like any power."""
    nodes, weights = _legendre(_MEAN_NODES)
    q, w = 0.5 * (nodes + 1.0), 0.5 * weights
    graded = (first == 0.0)[:, None]
    share, weight = np.where(graded, q**8, q), np.where(graded, 8.0 * q**7 * w, w)
    way = (last - first)[:, None]
    u = first[:, None] + way * share
    return np.asarray((weight * way * diffusion.drift(u) * np.exp(-diffusion.leak * (last[:, None] - u))).sum(1))


def _mean(diffusion: Diffusion, knots: Array) -> Curve:
    """Mean of the process started in 0 without bounds, at any times up to the last of the knots, which begin with 0."""
    at_knots, gained = np.zeros(len(knots)), _gained(diffusion, knots[:-1], knots[1:])
    for i, kept in enumerate(np.exp(-diffusion.leak * np.diff(knots))):
        at_knots[i + 1] = at_knots[i] * kept + gained[i]

    def mean(t: Array) -> Array:
        before = np.clip(np.searchsorted(knots, t) - 1, 0, None)
        first = knots[before]
        return np.asarray(at_knots[before] * np.exp(-diffusion.leak * (t - first)) + _gained(diffusion, first, t))

    return mean


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _towards(height: Array, kept: Array, variance: Array, start: Array, amount: Array) -> Array:
    """log sum over starts of amount / variance times the density of a free path at a height: (2, n)."""
    log_p = np.empty(height.shape)
    for j in range(2):
        for i in range(height.shape[1]):
            nearest = math.inf
            for k in range(len(start)):
                gap = height[j, i] - start[k] * kept[i]
                nearest = min(nearest, gap * gap)
            total = 0.0
            for k in range(len(start)):
                gap = height[j, i] - start[k] * kept[i]
                total += amount[j, k] * exp(0.5 * (nearest - gap * gap) / variance[i])
            log_p[j, i] = math.log(total) - 0.5 * nearest / variance[i] - 1.5 * math.log(variance[i])
    return log_p - 0.5 * math.log(2.0 * math.pi)


def _heights(diffusion: Diffusion, mean: Curve, t: Array) -> Array:
    """Lower and upper bound relative to the mean, (2, n)."""
    bound, middle = diffusion.bound(t), mean(t)
    return np.stack([-bound - middle, bound - middle])


def _starts(diffusion: Diffusion) -> tuple[Array, Array]:
    start = np.atleast_1d(np.asarray(diffusion.start, dtype=np.float64))
    return start, np.broadcast_to(np.asarray(diffusion.weight, dtype=np.float64), start.shape).copy()


def _early(diffusion: Diffusion, mean: Curve, t: Array) -> Array:
    """log density (2, n) of early decisions: of the way to a bound, divided by time, times the free density there."""
    (start, weight), leak = _starts(diffusion), diffusion.leak
    first = float(diffusion.bound(np.zeros(1))[0])
    amount = weight * np.abs(np.array([[-first], [first]]) - start)
    variance = -np.expm1(-2.0 * leak * t) / (2.0 * leak) if leak else t
    return np.asarray(_towards(_heights(diffusion, mean, t), np.exp(-leak * t), variance, start, amount))


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _arrived(
    s: float, slope: float, unit: float, y: Array, kept: Array, inverse: Array, amount: Array, log_unit: Array
) -> float:
    """Sum over starts y of amount exp(log_unit) times Psi of a bound at height s, relative to the mean, over exp(unit).

    kept, 1 / inverse: what is left of a start after the time since, and the variance. Psi is half the transition
    density times slope - s g coth(g elapsed) + y g / sinh(g elapsed), with a leak g.
    """
    total = 0.0
    for u in range(len(amount)):
        gap = s - y[u] * kept[u]
        turned = slope - inverse[u] * (0.5 * s * (1.0 + kept[u] * kept[u]) - y[u] * kept[u])
        share = exp(log_unit[u] - unit - 0.5 * gap * gap * inverse[u])
        total += amount[u] * math.sqrt(inverse[u]) * share * turned
    return 0.5 / math.sqrt(2.0 * math.pi) * total


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _left_out(x: float) -> float:
    """int_0^inf e^1/2 exp(-x e) de without the trapezoids of unit width: what they leave out of a steep root."""
    total = 0.5 * math.sqrt(math.pi) * x**-1.5
    for j in range(1, int(40.0 / x) + 1):
        total -= math.sqrt(j) * math.exp(-x * j)
    return total


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _solve(
    start: Array,
    weight: Array,
    leak: float,
    t: Array,
    height: Array,
    slope: Array,
    panel: Array,
    early: Array,
    beginning: Array,
    ends: Array,
) -> Array:
    """The density over exp(early) on the grid, by forward substitution in the Volterra equation.

    height, slope of the lower and upper bound, and early: (2, n + 1).
    """
    n = len(t)
    g, part, made = np.ones((2, n)), np.zeros((2, n)), np.zeros((2, n))
    kept, inverse = np.ones(n), np.empty(n)
    kept_start, inverse_start, one = np.ones(len(start)), np.empty(len(start)), np.zeros(len(start))
    for i in range(1, n):
        for u in range(i):
            elapsed = t[i] - t[u]
            inverse[u] = 1.0 / elapsed
            if leak != 0.0:
                lost = -math.expm1(-2.0 * leak * elapsed)
                kept[u], inverse[u] = math.sqrt(1.0 - lost), 2.0 * leak / lost
        kept_start[:], inverse_start[:] = kept[0], inverse[0]
        last = slice(max(i - len(ends), 1), i)
        for j in range(2):
            s, by, unit = height[j, i], slope[j, i], early[j, i]
            total = _arrived(s, by, unit, start, kept_start, inverse_start, weight, one)
            for k in range(2):
                total -= _arrived(s, by, unit, height[k, 1:i], kept[1:i], inverse[1:i], made[k, 1:i], early[k, 1:i])
            steepness = unit - early[j, i - 1]
            if i > 1 and steepness > _STEEP:
                one_before = slice(i - 1, i)
                y, root = height[j, one_before], -_left_out(steepness) * part[j, one_before]
                total += _arrived(s, by, 0.0, y, kept[one_before], inverse[one_before], root, one[:1])
            else:
                root = part[j, last] * ends[len(ends) - (i - last.start) :]
                total += _arrived(s, by, unit, height[j, last], kept[last], inverse[last], root, early[j, last])
            g[j, i] = (2.0 if j == 0 else -2.0) * total
        part[:, i] = g[:, i] * panel[i]
        made[:, i] = part[:, i] * (1.0 + beginning[i - 1] if i <= len(beginning) else 1.0)
    return g


def _solution(diffusion: Diffusion, t_max: float, n: int) -> Solution:
    """g_1(t) = 2 Psi_1(t | start, 0) - 2 int [g_1(u) Psi_1(t | S_1(u), u) + g_2(u) Psi_1(t | S_2(u), u)] du, and with
    the opposite sign for g_2: trapezoids on a grid graded towards 0, with the panels at the root corrected."""
    t = grid(t_max, n)
    mean = _mean(diffusion, t)
    early = partial(_early, diffusion, mean)
    with np.errstate(all="ignore"):
        mean_slope = diffusion.drift(t) - diffusion.leak * mean(t)
        slope = diffusion.slope(t)
        slopes = np.stack([-slope - mean_slope, slope - mean_slope])
        bounds = _heights(diffusion, mean, t), slopes, panels(t_max, n), early(t)
        edge, power, beginning = diffusion.edge, 1.0, np.zeros(0)
        if edge is not None:
            power, beginning = (edge + 1.0) / max(2, round(edge + 1.0)), _power_beginning(edge)
        beyond = np.log(_solve(*_starts(diffusion), diffusion.leak, t, *bounds, beginning, _ROOT_END[::-1].copy()))
    return Solution(t, beyond, early, power)


def first_passage(diffusion: Diffusion, t_max: float) -> Passage:
    """Density of the first passage at times up to t_max.

    >>> wiener = Diffusion(0.0, constant(1.0), constant(1.0), constant(0.0))
    >>> print(first_passage(wiener, 9.0).mass(np.array([9.0]))[:, 0].round(6))
    [0.119203 0.880797]
    """
    return Passage(cache(partial(_solution, diffusion, t_max)))
