"""Reference first-passage densities: the Fokker-Planck equation between moving bounds as an integral equation.

Independent of the simulators: no path, no random number, no time step of theirs. The equation is that of Buonocore,
Giorno, Nobile & Ricciardi (1990), whose kernel is free of the singularity at the latest time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Curve = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Diffusion:
    """dx = (drift(t) - leak x) dt + dW from x(0) = start, until |x| = bound(t); slope is the derivative of bound."""

    start: float
    drift: Curve
    bound: Curve
    slope: Curve
    leak: float = 0.0


@dataclass(frozen=True)
class Passage:
    """density: (2, n), of the lower and the upper bound at the decision times t (n,); ascending, the first one 0."""

    t: np.ndarray
    density: np.ndarray

    def mass(self) -> np.ndarray:
        """P(choice, decision time <= t), (2, n). The grid is t = t_max (i / (n - 1))², smooth in i."""
        index = np.arange(len(self.t))
        per_index = self.density * 2.0 * self.t[-1] * index / index[-1] ** 2
        return np.concatenate([np.zeros((2, 1)), np.cumsum((per_index[:, 1:] + per_index[:, :-1]) / 2, axis=1)], axis=1)

    def log_density(self, t: np.ndarray) -> np.ndarray:
        """log density (2, n) at any times t (n,) in (0, t_max], by cubic interpolation."""
        from scipy.interpolate import CubicSpline

        inner = slice(np.searchsorted((self.density > 1e-280).all(0), True), None)
        return CubicSpline(np.sqrt(self.t[inner]), np.log(self.density[:, inner]), axis=1)(np.sqrt(t))


def _mean(diffusion: Diffusion, t: np.ndarray) -> np.ndarray:
    """Mean at t of the process started in 0 without bounds, by eight-point Gauss quadrature between the points."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    h = np.diff(t)
    u = t[:-1, None] + h[:, None] * (nodes + 1) / 2
    gained = h / 2 * np.sum(weights * diffusion.drift(u) * np.exp(-diffusion.leak * (t[1:, None] - u)), axis=1)
    mean = np.zeros(len(t))
    for i, kept in enumerate(np.exp(-diffusion.leak * h)):
        mean[i + 1] = mean[i] * kept + gained[i]
    return mean


def _kernel(s: float, slope: float, y: np.ndarray, elapsed: np.ndarray, leak: float) -> np.ndarray:
    """Psi of a bound at height s with this slope, seen from y an elapsed time ago, everything relative to the mean.

    Half the transition density, times slope - s g coth(g elapsed) + y g / sinh(g elapsed).
    """
    if leak == 0.0:
        pull, variance, kept = (y - s) / elapsed, elapsed, 1.0
    else:
        x = leak * elapsed
        pull = leak * (y / np.sinh(x) - s / np.tanh(x))
        variance, kept = -np.expm1(-2 * x) / (2 * leak), np.exp(-x)
    density = np.exp(-((s - y * kept) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    return 0.5 * density * (slope + pull)


def first_passage(diffusion: Diffusion, t_max: float, n: int = 2_000) -> Passage:
    """Density of the first passage at n + 1 times up to t_max.

    g_1(t) = 2 Psi_1(t | start, 0) - 2 int [g_1(u) Psi_1(t | S_1(u), u) + g_2(u) Psi_1(t | S_2(u), u)] du, and with the
    opposite sign for g_2: trapezoids on a grid graded towards 0. Seen from its own bound a kernel vanishes like the
    root of the elapsed time, which trapezoids overestimate by zeta(-1/2) = -0.2079 panels of the last point but one.
    """
    t = t_max * (np.arange(n + 1) / n) ** 2
    panel = 2.0 * t_max * np.arange(n + 1) / n**2
    mean = _mean(diffusion, t)
    mean_slope = diffusion.drift(t[1:]) - diffusion.leak * mean[1:]
    bound, slope = diffusion.bound(t), diffusion.slope(t[1:])
    heights = np.stack([-bound - mean, bound - mean])
    slopes = np.stack([-slope - mean_slope, slope - mean_slope])
    g = np.zeros((2, n + 1))
    for i in range(1, n + 1):
        elapsed = t[i] - t[1:i]
        for j, sign in enumerate((1.0, -1.0)):
            s, ds = heights[j, i], slopes[j, i - 1]
            from_start = _kernel(s, ds, np.array([diffusion.start]), t[i : i + 1], diffusion.leak)[0]
            total = 0.0
            for k in range(2):
                values = g[k, 1:i] * _kernel(s, ds, heights[k, 1:i], elapsed, diffusion.leak)
                total += values @ panel[1:i]
                if k == j and i > 1:
                    total += 0.2079 * values[-1] * panel[i]
            g[j, i] = sign * 2.0 * (from_start - total)
    return Passage(t, g)
