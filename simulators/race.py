"""Race of diffusions whose evidence cannot fall below zero, to thresholds that collapse linearly."""

import math
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._elsewhere import each
from hddm_sbi.simulators._parameters import COLLAPSE_ANGLE, DRIFT, NON_DECISION, START, THRESHOLD, for_every_choice
from scipy.interpolate import make_interp_spline

from hddm_sbi.numerics import PER_SQRT_2PI, upper_tail
from hddm_sbi.simulation import Clock, Counterpart, DecisionModel, Symmetries, rt_and_response
from hddm_sbi.simulation.accumulators import longest_step, reflected
from hddm_sbi.simulation.first_passage import Passage, Solution, grid, panels
from hddm_sbi.simulation.moving_bounds import crossing_time
from hddm_sbi.types import Array

# dx_i = v_i dt + dW_i, reflected at 0, x_i(0) = z a, response i where x_i first reaches a - t tan(theta), rt = t + t0.
#
# Within a step, either the threshold or 0 is far. The free path is Brownian: whether and when it meets the line of the
# threshold is known exactly, and so is its minimum m; at the end of the step, reflection has lifted it by max(0, -m)
# (Skorokhod). Steps are so short that a path that touches 0 and then the threshold in one of them has odds of 3e-7.


@nb.njit(cache=True, nogil=True)
def accumulator(v: float, a: float, z: float, t0: float, theta: float, rng: Any) -> float:
    """Finishing time of one choice."""
    fall = math.tan(theta)
    t, x = 0.0, z * a
    while True:
        gap = a - fall * t - x
        h = longest_step(x, gap, max(v + fall, 0.0))
        if fall > 0.0:
            h = min(h, 0.5 * (gap + x) / fall)
        end = x + v * h + math.sqrt(h) * rng.standard_normal()
        gap_end = gap + x - fall * h - end
        if gap_end <= 0.0 or rng.random() < math.exp(-2.0 * gap * gap_end / h):
            return t0 + t + crossing_time(gap, gap_end, h, rng)
        t, x = t + h, reflected(x, end, h, math.log(1.0 - rng.random()))


# ---- the reference: an integral equation
#
# With S(t) the threshold and F(t | y, u) the probability that the reflected process, without a threshold, is above S(t)
# when it was at y at time u: f(t) = 2 psi(t | x0, 0) - 2 int_0^t f(u) psi(t | S(u), u) du, with psi the derivative of
# F along S plus (S' - v) / 2 times the density there (Buonocore, Nobile & Ricciardi 1987). With e = t - u, reflection
# adds e^2vS Phi((-S - y - v e) / e^1/2) to F (Cox & Miller 1965, 5.7). The rest of the kernel vanishes where S is a
# line, and that of the first term is the law of a first passage without reflection (Bachelier-Levy).


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _reflected(s: float, slope: float, y: float, e: float, v: float, unit: float) -> float:
    """psi over exp(unit), as far as reflection adds to it."""
    root = math.sqrt(e)
    b = (-s - y - v * e) / root
    phi = PER_SQRT_2PI * math.exp(2.0 * v * s - 0.5 * b * b - unit)
    tail = phi / upper_tail(-b)[1]
    change = 2.0 * v * slope * tail + phi * ((-slope - v) / root - 0.5 * b / e)
    return change + 0.5 * (slope - v) * (phi / root - 2.0 * v * tail)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _substitute(v: float, a: float, x0: float, fall: float, t: Array, panel: Array, early: Array) -> Array:
    """The density over exp(early) on the grid t, by forward substitution (trapezoids)."""
    f = np.ones(len(t))
    for i in range(1, len(t)):
        s = a - fall * t[i]
        gap = s - x0 - v * t[i]
        free = PER_SQRT_2PI * (a - x0) / t[i] ** 1.5 * math.exp(-0.5 * gap * gap / t[i] - early[i])
        total = 0.0
        for u in range(1, i):
            unit = early[i] - early[u]
            total += f[u] * panel[u] * _reflected(s, -fall, a - fall * t[u], t[i] - t[u], v, unit)
        f[i] = free + 2.0 * _reflected(s, -fall, x0, t[i], v, early[i]) - 2.0 * total
    return f


def _early(v: float, a: float, x0: float, fall: float, t: Array) -> Array:
    """log density of the first passage of a path without a floor, and of its mirror image."""
    s = a - fall * t
    amount = (a - x0) + (a + x0) * np.exp(-2.0 * s * x0 / t)
    return np.asarray(np.log(PER_SQRT_2PI * amount) - 1.5 * np.log(t) - 0.5 * (s - x0 - v * t) ** 2 / t)


@lru_cache(maxsize=64)
def _finishing(v: float, a: float, x0: float, fall: float, end: float, n: int) -> tuple[Array, Array]:
    """Of one accumulator, on the grid: log density over that of early times, and log of what survives.

    Cached: when one drift changes, the others are reused.
    """
    t = grid(end, n)
    with np.errstate(all="ignore"):
        early = _early(v, a, x0, fall, t)
        beyond = np.log(_substitute(v, a, x0, fall, t, panels(end, n), early))
        root, f = np.sqrt(t), np.nan_to_num(np.exp(early + beyond))
        return beyond, np.log(1.0 - make_interp_spline(root, 2.0 * root * f, 5).antiderivative()(root))


def _passage(*theta: float, t_max: float) -> Passage:
    """Density of the first of the finishing times, by the equation above."""
    *drifts, a, z, _, angle = theta
    fall, x0 = math.tan(angle), z * a
    end = min(t_max, a / fall * (1.0 - 1e-6)) if fall > 0.0 else t_max

    @cache
    def solution(n: int) -> Solution:
        each = [_finishing(v, a, x0, fall, end, n) for v in drifts]
        beyond, log_survival = (np.stack(part) for part in zip(*each, strict=True))
        others = log_survival.sum(0) - log_survival
        return Solution(grid(end, n), beyond + others, lambda t: np.stack([_early(v, a, x0, fall, t) for v in drifts]))

    return Passage(solution)


_DRIFT = replace(DRIFT, low=-1.0, description="drift rate of choice {choice}", accuracy_range=None, bias_range=None)
_A = replace(THRESHOLD, low=0.5, high=3.0, description="threshold at first")


def _elsewhere(n: int) -> dict[str, Counterpart]:
    """Counterparts of the model of n choices."""
    same = {**each("v{}", "v{}", n, first=0), "a": "a", "z": "z", "t": "t0", "theta": "theta"}
    there = Counterpart(f"race_no_bias_angle_{n}", same)
    return dict.fromkeys(("HSSM", "ssm-simulators") if n == 4 else ("ssm-simulators",), there)


def of_choices(n: int) -> DecisionModel:
    """The model of n choices."""
    return DecisionModel(
        name="race" if n == 2 else f"race{n}",
        title=f"race with linearly collapsing thresholds, {n} choices",
        parameters=(*for_every_choice(n, _DRIFT), _A, START, NON_DECISION, COLLAPSE_ANGLE),
        outcomes=rt_and_response(*range(n)),
        accumulator=accumulator,
        passage=_passage,
        discretisation="none but for paths that touch 0 and the threshold in one step, whose odds are 3e-7",
        symmetries=Symmetries(
            shift="t0", scale="a", scale_powers={"v": 1.0, "theta": 1.0}, tangents=("theta",), per_choice=("v",)
        ),
        clock=Clock(closing=lambda at: at["theta"].tan() / at["a"]),
        citation="Usher & McClelland (2001), Psychol. Rev. 108:550, without inhibition; Fengler et al. (2021)",
        counterparts=_elsewhere(n),
    )


SIMULATORS = tuple(of_choices(n) for n in (2, 3, 4))
