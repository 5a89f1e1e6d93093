"""What models of several accumulators share: the normal law, reflection at 0, and the joint density of a race."""

import math
from collections.abc import Callable
from typing import Any

import numba as nb

from hddm_sbi.numerics.vecmath import PER_SQRT_2PI
from hddm_sbi.types import Array

#: sds of a step that fit between an accumulator and 0, or else between its drifting path and the threshold.
_TO_FLOOR, _TO_THRESHOLD = 3.5, 5.5


@nb.njit(cache=True, nogil=True)
def normal(x: float) -> tuple[float, float]:
    """phi(x) and Phi(x), the latter to full relative accuracy."""
    return PER_SQRT_2PI * math.exp(-0.5 * x * x), 0.5 * math.erfc(-x / math.sqrt(2.0))


@nb.njit(cache=True, nogil=True)
def longest_step(x: float, gap: float, approach: float) -> float:
    """The longest step in which a path from x, `gap` below its threshold, may meet 0 or the threshold but not both.

    approach: speed at which path and threshold come together. The odds of meeting both are 3e-7.
    """
    root = 2.0 * gap / (_TO_THRESHOLD + math.sqrt(_TO_THRESHOLD**2 + 4.0 * approach * gap))
    return max(x / _TO_FLOOR, root) ** 2


@nb.njit(cache=True, nogil=True)
def reflected(x: float, end: float, h: float, log_uniform: float) -> float:
    """Where a path reflected at 0 ends that would go from x to `end` in a step h.

    A Brownian bridge has its minimum m at a quantile that log_uniform, the log of a uniform number, decides; reflection
    lifts the end by max(0, -m) (Skorokhod).
    """
    lowest = 0.5 * (x + end - math.sqrt((x - end) ** 2 - 2.0 * h * log_uniform))
    return end + max(0.0, -lowest)


def race_density(winner: Callable[..., Any], loser: Callable[..., Any]) -> Callable[..., None]:
    """Log density and gradient of a race of accumulators with parameters (v0, ..., A, B, t0), as a Numba function.

    log p(rt, c) = log f(t; v_c, A, B) + sum over j != c of log S(t; v_j, A, B), t = rt - t0.

    winner: Numba function of (t, v, A, B), log f and its derivatives by v, A, B and t. loser: likewise log S and its
    derivatives by v, A and B (by t it is -f / S). To be called from a cached Numba function in the model's file.
    """

    @nb.njit(nogil=True, error_model="numpy")
    def log_density(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
        n = theta.shape[0] - 3
        A, B, t0 = theta[n], theta[n + 1], theta[n + 2]
        for i in range(rt.shape[0]):
            grad[:, i] = 0.0
            t = rt[i] - t0
            logp[i] = 0.0 if t > 0.0 else -math.inf
            for j in range(n):
                if not logp[i] > -math.inf:
                    break
                value, by_v, by_A, by_B, by_t = winner(t, theta[j], A, B)
                if j != choice:
                    log_f = value
                    value, by_v, by_A, by_B = loser(t, theta[j], A, B)
                    by_t = -math.exp(log_f - value)
                logp[i] += value
                grad[j, i] = by_v
                grad[n, i] += by_A
                grad[n + 1, i] += by_B
                grad[n + 2, i] -= by_t
            if not logp[i] > -math.inf:
                grad[:, i] = 0.0

    return log_density
