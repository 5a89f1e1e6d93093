"""Paths of a stable process with drift, made of small steps: what its simulator and its equation are held against."""

import math

import numba as nb
import numpy as np


@nb.njit
def exits_of_paths(v, z, alpha, steps, n, seed):
    """Exit of n paths from (-1, 1), watched `steps` times per unit of time: times and sides.

    Increments by Chambers, Mallows & Stuck (1976). A bound is noticed late by -zeta(1 - 1/alpha) E[S; S > 0] in units
    of a step (Spitzer 1956), with E[S; S > 0] = Gamma(1 - 1/alpha) / pi, so the bounds are moved inwards by that.
    """
    np.random.seed(seed)
    h = 1.0 / steps
    noise = math.sqrt(0.5) * h ** (1.0 / alpha)
    late = 0.0
    for k in range(1, 200_000):
        late += 1.0 / k ** (1.0 - 1.0 / alpha)
    late = 200_000 ** (1.0 / alpha) * alpha - 0.5 * 200_000 ** (1.0 / alpha - 1.0) - late
    bound = 1.0 - noise * late * math.gamma(1.0 - 1.0 / alpha) / math.pi
    time, side = np.empty(n), np.empty(n, dtype=np.int64)
    for i in range(n):
        x, seen = 2.0 * z - 1.0, 0
        while abs(x) < bound or seen == 0:
            angle = math.pi * (np.random.random() - 0.5)
            rest = math.cos((1.0 - alpha) * angle) / np.random.exponential()
            step = math.sin(alpha * angle) / math.cos(angle) * (rest / math.cos(angle)) ** ((1.0 - alpha) / alpha)
            x += v * h + noise * step
            seen += 1
        time[i], side[i] = h * (seen - 0.5), x > 0.0
    return time, side
