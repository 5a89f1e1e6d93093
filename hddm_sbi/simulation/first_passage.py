"""Reference first-passage densities: the Fokker-Planck equation between moving bounds as an integral equation.

Independent of the simulators: no path, no random number, no time step of theirs. The equation is that of Buonocore,
Giorno, Nobile & Ricciardi (1990), whose kernel is free of the singularity at the latest time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numba as nb
import numpy as np
from scipy.interpolate import CubicSpline

from hddm_sbi.types import Array

Curve = Callable[[Array], Array]

#: trapezoids overestimate the integral of a kernel that vanishes like a root at its end by zeta(-1/2) panels.
_ROOT_END = 0.2078862249773546
#: interpolation starts where both densities exceed this; lower values are raised to it.
_SMALLEST = 1e-280
#: what is lower at the first of these points, for both, is 0 before it.
_VANISHED = 1e-100


@dataclass(frozen=True)
class Diffusion:
    """dx = (drift(t) - leak x) dt + dW from x(0) = start, until |x| = bound(t); slope is the derivative of bound.

    A start that varies between trials: start (k,) and weight (k,), the nodes and weights of a quadrature.
    """

    start: float | Array
    drift: Curve
    bound: Curve
    slope: Curve
    leak: float = 0.0
    weight: float | Array = 1.0


def constant(value: float) -> Curve:
    """A curve with the same value at all times."""
    return lambda t: np.full_like(t, value)


@dataclass(frozen=True)
class Passage:
    """A first-passage density on a grid of times.

    t: (n,) times, ascending from 0. density: (n_choices, n), for the lower and upper bound or for every accumulator.
    """

    t: Array
    density: Array

    def mass(self) -> Array:
        """P(choice, decision time <= t), (n_choices, n), on the grid of `grid`, which is smooth in the index."""
        per_index = self.density * 2.0 * np.sqrt(self.t * self.t[-1]) / (len(self.t) - 1)
        return np.concatenate(
            [np.zeros((len(self.density), 1)), np.cumsum((per_index[:, 1:] + per_index[:, :-1]) / 2, axis=1)], axis=1
        )

    def log_density(self, t: Array) -> tuple[Array, Array]:
        """log density and its slope in t, each (n_choices, n), at any times t (n,) in (0, t_max], by cubic splines.

        Raises ValueError where the grid does not tell it: before its first point that is not 0, or where none is.
        """
        inner = slice(int(np.searchsorted((self.density > _SMALLEST).all(0), True)), None)
        spline = CubicSpline(np.sqrt(self.t[inner]), np.log(np.maximum(self.density[:, inner], _SMALLEST)), axis=1)
        before = t < self.t[inner][0]
        if before.any() and self.density[:, inner.start].max() > _VANISHED:
            raise ValueError("the first decisions fall between two points of the grid")
        root = np.sqrt(t)
        log_p, slope = spline(root), spline(root, 1) / (2.0 * root)
        return np.where(before, np.log(_SMALLEST), log_p), np.where(before, 0.0, slope)

    def delayed(self, width: float) -> Passage:
        """The density of the decision time plus a delay that is uniform on [0, width]."""
        if width == 0.0:
            return self
        root = np.sqrt(self.t)
        mass = CubicSpline(root, 2.0 * root * self.density, axis=1).antiderivative()
        before = np.sqrt(np.clip(self.t - width, 0.0, self.t[-1]))
        return Passage(self.t, np.asarray((mass(root) - mass(before)) / width))


def grid(t_max: float, n: int) -> Array:
    """n + 1 times from 0 to t_max, dense where the first decisions fall: t_max (i / n)²."""
    return np.asarray(t_max * (np.arange(n + 1) / n) ** 2)


def _mean(diffusion: Diffusion, t: Array) -> Array:
    """Mean at t of the process started in 0 without bounds, by eight-point Gauss quadrature between the points."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    h = np.diff(t)
    u = t[:-1, None] + h[:, None] * (nodes + 1) / 2
    gained = h / 2 * np.sum(weights * diffusion.drift(u) * np.exp(-diffusion.leak * (t[1:, None] - u)), axis=1)
    mean = np.zeros(len(t))
    for i, kept in enumerate(np.exp(-diffusion.leak * h)):
        mean[i + 1] = mean[i] * kept + gained[i]
    return mean


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _solve(start: Array, weight: Array, leak: float, t: Array, height: Array, slope: Array, panel: Array) -> Array:
    """The density on the grid, by forward substitution in the Volterra equation; height, slope: (2, n + 1).

    Psi of a bound at height s, seen from y an elapsed time ago, everything relative to the mean, is half the transition
    density times slope - s g coth(g elapsed) + y g / sinh(g elapsed).
    """
    n = len(t)
    g = np.zeros((2, n))
    source = np.zeros(2)
    for i in range(1, n):
        source[:] = 0.0
        total = np.zeros(2)
        last = np.zeros(2)
        for u in range(i):
            elapsed = t[i] - t[u]
            lost = -math.expm1(-2.0 * leak * elapsed)
            kept = math.sqrt(1.0 - lost)
            variance = lost / (2.0 * leak) if leak != 0.0 else elapsed
            back, forth = kept / variance, 1.0 - 0.5 * lost
            constant = 0.5 / math.sqrt(2.0 * math.pi * variance)
            for j in range(2):
                s = height[j, i]
                fixed = slope[j, i] - s * forth / variance
                if u == 0:
                    for k in range(len(start)):
                        x = start[k]
                        gap = s - x * kept
                        source[j] += weight[k] * constant * math.exp(-0.5 * gap * gap / variance) * (fixed + x * back)
                    continue
                for k in range(2):
                    y = height[k, u]
                    gap = s - y * kept
                    value = g[k, u] * constant * math.exp(-0.5 * gap * gap / variance) * (fixed + y * back)
                    total[j] += value * panel[u]
                    if k == j:
                        last[j] = value
        for j in range(2):
            sign = 1.0 if j == 0 else -1.0
            g[j, i] = sign * 2.0 * (source[j] - total[j] - _ROOT_END * last[j] * panel[i])
    return g


def first_passage(diffusion: Diffusion, t_max: float, n: int = 1_000) -> Passage:
    """Density of the first passage at n + 1 times up to t_max.

    g_1(t) = 2 Psi_1(t | start, 0) - 2 int [g_1(u) Psi_1(t | S_1(u), u) + g_2(u) Psi_1(t | S_2(u), u)] du, and with the
    opposite sign for g_2: trapezoids on a grid graded towards 0, with the panel at the root corrected.

    >>> wiener = Diffusion(0.0, constant(1.0), constant(1.0), constant(0.0))
    >>> print(first_passage(wiener, 9.0).mass()[:, -1].round(6))
    [0.119203 0.880797]
    """
    t = grid(t_max, n)
    mean = _mean(diffusion, t)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_slope = diffusion.drift(t) - diffusion.leak * mean
        slope = diffusion.slope(t)
    bound = diffusion.bound(t)
    heights = np.stack([-bound - mean, bound - mean])
    slopes = np.stack([-slope - mean_slope, slope - mean_slope])
    panel = 2.0 * t_max * np.arange(n + 1) / n**2
    start, weight = (
        np.atleast_1d(np.asarray(diffusion.start, float)),
        np.atleast_1d(np.asarray(diffusion.weight, float)),
    )
    return Passage(t, _solve(start, weight, diffusion.leak, t, heights, slopes, panel))
