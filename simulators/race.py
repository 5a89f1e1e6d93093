"""Race of diffusions whose evidence cannot fall below zero, to thresholds that collapse linearly."""

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._elsewhere import each
from hddm_sbi.simulators._parameters import COLLAPSE_ANGLE, DRIFT, NON_DECISION, START, THRESHOLD, for_every_choice
from scipy.interpolate import CubicSpline

from hddm_sbi.simulation import Clock, Counterpart, DecisionModel, Symmetries, rt_and_response
from hddm_sbi.simulation.accumulators import longest_step, reflected
from hddm_sbi.simulation.first_passage import Passage, grid
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
def _reflected(s: float, slope: float, y: float, e: float, v: float) -> float:
    """psi, as far as reflection adds to it."""
    root = math.sqrt(e)
    b = (-s - y - v * e) / root
    phi = math.exp(2.0 * v * s - 0.5 * b * b) / math.sqrt(2.0 * math.pi)
    tail = math.exp(2.0 * v * s) * 0.5 * math.erfc(-b / math.sqrt(2.0))
    change = 2.0 * v * slope * tail + phi * ((-slope - v) / root - 0.5 * b / e)
    return change + 0.5 * (slope - v) * (phi / root - 2.0 * v * tail)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _substitute(v: float, a: float, x0: float, fall: float, t: Array, panel: Array) -> Array:
    """The density on the grid t, by forward substitution (trapezoids)."""
    f = np.zeros(len(t))
    for i in range(1, len(t)):
        s = a - fall * t[i]
        gap = s - x0 - v * t[i]
        free = (a - x0) / t[i] * math.exp(-0.5 * gap * gap / t[i]) / math.sqrt(2.0 * math.pi * t[i])
        total = 0.0
        for u in range(1, i):
            total += f[u] * panel[u] * _reflected(s, -fall, a - fall * t[u], t[i] - t[u], v)
        f[i] = max(free + 2.0 * _reflected(s, -fall, x0, t[i], v) - 2.0 * total, 0.0)
    return f


@lru_cache(maxsize=16)
def _finishing_density(v: float, a: float, x0: float, fall: float, end: float, n: int) -> Array:
    """Density of one accumulator's finishing time. Cached: when one drift changes, the others are reused."""
    return _substitute(v, a, x0, fall, grid(end, n), 2.0 * end * np.arange(n + 1) / n**2)


def _survival(t: Array, f: Array) -> Array:
    """P(T > t) on the grid: from the end backwards, where the hazard has settled, to keep small ones accurate."""
    root = np.sqrt(t)
    mass = CubicSpline(root, 2.0 * root * f).antiderivative()(root)
    left = 1.0 - mass[-1]
    if left < 1e-6:
        fallen = (f[-2] - f[-1]) / (t[-1] - t[-2])
        left = f[-1] ** 2 / fallen if fallen > 0.0 else 0.0
    return np.asarray(left + mass[-1] - mass)


def _passage(*theta: float, t_max: float) -> Passage:
    """Density of the first of the finishing times, by the equation above."""
    *drifts, a, z, _, angle = theta
    fall = math.tan(angle)
    end, n = min(t_max, a / fall * (1.0 - 1e-6)) if fall > 0.0 else t_max, 1_000
    t = grid(end, n)
    densities = np.stack([_finishing_density(v, a, z * a, fall, end, n) for v in drifts])
    survivals = [_survival(t, f) for f in densities]
    for i, f in enumerate(densities):
        f *= np.prod(survivals[:i] + survivals[i + 1 :], axis=0)
    return Passage(t, densities)


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
