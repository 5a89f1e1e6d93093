"""Leaky competing accumulators: each leaks, holds the others down, and cannot fall below zero."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numba as nb
import numpy as np
from hddm_sbi.simulators._elsewhere import each
from hddm_sbi.simulators._parameters import DRIFT, NON_DECISION, START, THRESHOLD, for_every_choice, log_normal
from scipy.linalg import eigh
from scipy.special import log_ndtr

from hddm_sbi.simulation import Counterpart, DecisionModel, Symmetries, parameter, rt_and_response
from hddm_sbi.simulation.accumulators import longest_step, reflected
from hddm_sbi.simulation.first_passage import Passage, Solution, grid
from hddm_sbi.simulation.moving_bounds import crossing_time
from hddm_sbi.types import Array

# dx_i = (v_i - g x_i - b sum_{j != i} x_j) dt + dW_i, reflected at 0, x_i(0) = z a, response i where x_i first reaches
# a, rt = t + t0.
#
# Within a step an accumulator has the mean of its drifts at both ends (Heun). For that drift, whether and when the path
# meets the threshold is exact, and so is its minimum m, by which reflection lifts its end, max(0, -m) (Skorokhod), as
# long as it cannot touch 0 and then the threshold in one step: steps are so short that the odds of that are 3e-7. The
# drift at the end is that at the lifted end, without which the error would be of first order in the step.

#: longest step, in the times that leak and inhibition take. tests/simulation/test_lca.py states the error that is left.
_STEP = 0.05
#: product of both ends' distances, per unit of the step, beyond which nothing is met in between: odds of exp(-40).
_FAR = 20.0


@nb.njit(cache=True, nogil=True)
def trial(v: tuple[float, ...], a: float, z: float, t0: float, g: float, b: float, rng: Any) -> tuple[float, int]:
    """One trial of as many choices as there are drifts."""
    n = len(v)
    x, drift, end, low = np.full(n, z * a), np.empty(n), np.empty(n), np.empty(n)
    longest = _STEP / max(abs(g) + abs(b) * (n - 1), 1e-9)
    t, total = 0.0, n * z * a
    while True:
        h = longest
        for i in range(n):
            drift[i] = v[i] - g * x[i] - b * (total - x[i])
            h = min(h, longest_step(x[i], a - x[i], max(drift[i], 0.0)))
        sd, foreseen = math.sqrt(h), 0.0
        for i in range(n):
            end[i] = x[i] + h * drift[i] + sd * rng.standard_normal()
            low[i] = 0.0 if x[i] * end[i] > _FAR * h else math.log(1.0 - rng.random())
            foreseen += reflected(x[i], end[i], h, low[i])
        first, choice, total = math.inf, -1, 0.0
        for i in range(n):
            at_end = reflected(x[i], end[i], h, low[i])
            end[i] += 0.5 * h * (v[i] - g * at_end - b * (foreseen - at_end) - drift[i])
            gap, gap_end = a - x[i], a - end[i]
            if gap_end <= 0.0 or (gap * gap_end < _FAR * h and rng.random() < math.exp(-2.0 * gap * gap_end / h)):
                crossing = crossing_time(gap, gap_end, h, rng)
                if crossing < first:
                    first, choice = crossing, i
            x[i] = reflected(x[i], end[i], h, low[i])
            total += x[i]
        if choice >= 0:
            return t0 + t + first, choice
        t += h


# ---- the reference: the backward equation in modes
#
# In units of a, the drift is minus the gradient of Phi(x) = g |x|²/2 - v x + b sum_{i<j} x_i x_j. So the backward
# operator has real eigenvalues -k and eigenfunctions exp(Phi) psi, where psi makes
#   1/2 int |grad psi + psi grad Phi|² / int psi²
# stationary among functions that are 0 where an accumulator is at its threshold; reflection at 0 follows by itself. In
# products of polynomials, whose degrees squared sum to at most m², that is a symmetric matrix. From a start x,
#   f_c(t) = sum exp(-k t) exp(Phi(x)) psi(x) F_c,   F_c = -1/2 int exp(-Phi) d psi / d x_c over the side x_c = 1
# Early, when many modes count, paths are straight: f_c is that of a drift, times what survives of the others.

#: m on a grid of 150 points, and how much more on one of twice as many.
_MODES, _MORE = 18, 4
#: modes tell a density after this over their number squared, and where it is less than this many nats below its peak.
_RESOLVED, _DEEP = 6.0, 9.0
#: multiples of that time through which a cubic goes that ends in 0 at time 0.
_KNOTS = np.array([1.0, 1.5, 2.0])


class _Polynomials(NamedTuple):
    """Orthonormal polynomials p on [0, 1] that are 0 at 1: matrices of one accumulator, (m, m) each.

    K: int p' p'. X, X2: int x p p, int x² p p. S, SX: int (p p' + p' p), int x (p p' + p' p). x, weight: nodes of a
    quadrature (q,); p: there (q, m). slope: p' at 1, (m,). triangle: from plain polynomials to these.
    """

    K: Array
    X: Array
    X2: Array
    S: Array
    SX: Array
    x: Array
    weight: Array
    p: Array
    slope: Array
    triangle: Array


def _plain(x: Array, m: int) -> tuple[Array, Array]:
    """(1 - x) times Legendre polynomials at x (q,), and slopes, (q, m) each."""
    legendre = np.polynomial.legendre
    p = legendre.legvander(2.0 * x - 1.0, m - 1)
    slope = 2.0 * np.stack([legendre.legval(2.0 * x - 1.0, legendre.legder(one)) for one in np.eye(m)], 1)
    return (1.0 - x)[:, None] * p, (1.0 - x)[:, None] * slope - p


@cache
def _polynomials(m: int) -> _Polynomials:
    nodes, weight = np.polynomial.legendre.leggauss(m + 4)
    x, w = 0.5 * (nodes + 1.0), 0.5 * weight
    p, slope = _plain(x, m)
    triangle = np.linalg.inv(np.linalg.qr(np.sqrt(w)[:, None] * p)[1])
    p, slope = p @ triangle, slope @ triangle
    S, SX = (p.T @ (of[:, None] * slope) for of in (w, w * x))
    X, X2 = (p.T @ (of[:, None] * p) for of in (w * x, w * x * x))
    at_1 = (_plain(np.ones(1), m)[1] @ triangle)[0]
    return _Polynomials(slope.T @ (w[:, None] * slope), X, X2, S + S.T, SX + SX.T, x, w, p, at_1, triangle)


def _product(n: int, m: int, factors: Mapping[int, Array]) -> Array:
    """Product of matrices of some accumulators, and of the identity for the others: (m^n, m^n)."""
    whole = np.eye(1)
    for i in range(n):
        whole = np.asarray(np.kron(whole, factors.get(i, np.eye(m))), dtype=np.float64)
    return whole


@lru_cache(maxsize=64)
def _modes(v: tuple[float, ...], g: float, b: float, m: int) -> tuple[Array, Array]:
    """Rates (k,) and eigenfunctions, as coefficients of products of m polynomials each: (m, ..., m, k)."""
    n, one, own = len(v), np.eye(m), _polynomials(m)
    form = np.zeros((m**n, m**n))
    for i, vi in enumerate(v):
        alone = own.K - vi * own.S + g * own.SX + vi * vi * one + g * g * own.X2 - 2.0 * vi * g * own.X
        form += _product(n, m, {i: alone})
        others = [j for j in range(n) if j != i]
        for j in others:
            form += b * _product(n, m, {i: own.S - 2.0 * vi * one + 2.0 * g * own.X, j: own.X})
            form += b * b * _product(n, m, {j: own.X2})
            for k in others:
                if k != j:
                    form += b * b * _product(n, m, {j: own.X, k: own.X})
    kept = np.flatnonzero((np.indices([m] * n).reshape(n, -1) ** 2).sum(0) <= m * m)
    rates, inside = eigh(0.5 * form[np.ix_(kept, kept)], driver="evd")
    modes = np.zeros((m**n, len(kept)))
    modes[kept] = inside
    return rates, modes.reshape(*[m] * n, -1)


def _in_modes(v: tuple[float, ...], z: float, g: float, b: float, t: Array, m: int) -> Array:
    """Densities (n, len(t)) of the decision times of every choice."""
    n, own = len(v), _polynomials(m)
    rates, modes = _modes(v, g, b, m)
    at_start, start = modes, (_plain(np.array([z]), m)[0] @ own.triangle)[0]
    potential = 0.5 * n * g * z * z - z * sum(v) + 0.5 * n * (n - 1) * b * z * z
    for _ in v:
        at_start = np.tensordot(start, at_start, 1)
    densities = []
    for c, vc in enumerate(v):
        rest = [vi for i, vi in enumerate(v) if i != c]
        through = np.tensordot(own.slope, np.moveaxis(modes, c, 0), 1)
        x = np.stack(np.meshgrid(*[own.x] * (n - 1), indexing="ij")).reshape(n - 1, *[len(own.x)] * (n - 1))
        pairs = 0.5 * (x.sum(0) ** 2 - (x * x).sum(0))
        phi = 0.5 * g * (1.0 + (x * x).sum(0)) - vc - np.tensordot(rest, x, 1) + b * (x.sum(0) + pairs)
        side = np.exp(potential - phi)
        for _ in rest:
            # The first axis of what is left becomes polynomials, the last of all.
            side = np.tensordot(side, own.weight[:, None] * own.p, ([0], [0]))
        flux = np.tensordot(side, through, n - 1)
        densities.append(-0.5 * (at_start * flux) @ np.exp(-np.outer(rates, t)))
    return np.stack(densities)


def _early(v: tuple[float, ...], z: float, g: float, b: float, t: Array) -> Array:
    """log density (n, len(t)) of the passage of one straight path, and of what survives of the others.

    Leak and inhibition take time to forget the start; their drifts act no longer than that.
    """
    n, d, rate = len(v), 1.0 - z, 2.0 * (g + (len(v) - 1) * b)
    acting = -np.expm1(-rate * t) / rate if rate > 0.0 else t
    log_p, log_left = [], []
    for vi in v:
        on_the_way, at_first = vi - 0.5 * g * (1.0 + z) - (n - 1) * b * z, vi - (g + (n - 1) * b) * z
        log_f = math.log(d / math.sqrt(2.0 * math.pi)) - 1.5 * np.log(t) - 0.5 * d * d / t
        log_p.append(log_f + on_the_way * d - 0.5 * on_the_way**2 * acting)
        root = np.sqrt(acting)
        below, turned = log_ndtr(d / root - at_first * root), log_ndtr(-d / root - at_first * root)
        log_left.append(below + np.log1p(-np.exp(2.0 * at_first * d + turned - below)))
    return np.stack(log_p) + np.sum(log_left, 0) - np.stack(log_left)


def _passage(*theta: float, t_max: float) -> Passage:
    """Density of the decision time, by the equation above."""
    *inputs, a, z, _, g, b = theta
    v, g, b = tuple(float(x * a) for x in inputs), float(g * a * a), float(b * a * a)

    def early(t: Array) -> Array:
        return _early(v, z, g, b, t / (a * a)) - 2.0 * math.log(a)

    @cache
    def solution(n: int) -> Solution:
        m = max(4, int(_MODES + _MORE * math.log2(n / 150.0)))
        first = a * a * max(_RESOLVED / m**2, (1.0 - z) ** 2 / (2.0 * _DEEP))
        t = grid(t_max, n)
        late = np.flatnonzero(t >= first)
        times = np.concatenate([first * _KNOTS, t[late]])
        with np.errstate(all="ignore"):
            told = np.log(_in_modes(v, z, g, b, times / (a * a), m) / (a * a)) - early(times)
        powers = np.arange(1, len(_KNOTS) + 1)
        cubic = np.linalg.solve((first * _KNOTS)[:, None] ** powers, told[:, : len(_KNOTS)].T).T
        beyond = cubic @ t ** powers[:, None]
        beyond[:, late] = told[:, len(_KNOTS) :]
        return Solution(t, beyond, early)

    return Passage(solution)


_INPUT = replace(DRIFT, low=0.0, high=6.0, description="input of choice {choice}", accuracy_range=None, bias_range=None)
_A = replace(THRESHOLD, low=0.4, high=1.8)
_RATE = log_normal(1.0, 0.7)
_G = parameter("g", 0.0, 2.0, "leak: draws every accumulator to 0", "1/s", typical=(0.2, 2.0), prior=_RATE)
_B = parameter("b", 0.0, 4.0, "inhibition by every other accumulator", "1/s", typical=(0.2, 3.0), prior=_RATE)


def _elsewhere(n: int) -> dict[str, Counterpart]:
    """Counterparts of the model of n choices."""
    same = {**each("v{}", "v{}", n, first=0), "a": "a", "z": "z", "t": "t0", "g": "g", "b": "b"}
    return {"ssm-simulators": Counterpart(f"lca_no_bias_{n}", same)} if n > 2 else {}


def of_choices(n: int) -> DecisionModel:
    """The model of n choices."""
    inputs = for_every_choice(n, _INPUT)
    return DecisionModel(
        name="lca" if n == 2 else f"lca{n}",
        title=f"leaky competing accumulators, {n} choices",
        parameters=(*inputs, _A, replace(START, high=0.8), NON_DECISION, _G, _B),
        outcomes=rt_and_response(*range(n)),
        trial=trial,
        passage=_passage if n == 2 else None,
        # Early densities carry errors of 1e-4 that change from mode to mode: along the ridge of a and z, half an sd.
        passage_judges=False,
        solved_for_all=("z",),
        discretisation="mean decision time off by at most 0.1 % in 1e7 trials (tests/simulation/test_lca.py -m slow)",
        symmetries=Symmetries(
            shift="t0", scale="a", scale_powers={**{p.name: 1.0 for p in inputs}, "g": 2.0, "b": 2.0}, per_choice=("v",)
        ),
        citation="Usher & McClelland (2001), Psychol. Rev. 108:550",
        counterparts=_elsewhere(n),
    )


SIMULATORS = tuple(of_choices(n) for n in (2, 3, 4))
