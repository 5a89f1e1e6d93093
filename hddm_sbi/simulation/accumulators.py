"""What models of several accumulators share: the normal law, reflection at 0, and the joint density of a race."""

import math
from collections.abc import Callable

import numba as nb
import numpy as np

from hddm_sbi.numerics import FAST, PER_SQRT_2PI, exp_negative, inner, log, scaled_tail
from hddm_sbi.types import Array

#: the choice of a trial in which no accumulator has finished.
NOBODY = -1
#: seconds; decisions sooner than this are taken for it.
_SOONEST = 1e-30
#: sds of a step that fit between an accumulator and 0, or else between its drifting path and the threshold.
_TO_FLOOR, _TO_THRESHOLD = 3.5, 5.5


@nb.njit(cache=True, nogil=True)
def normal(x: float) -> tuple[float, float]:
    """phi(x) and Phi(x), the latter to full relative accuracy."""
    return PER_SQRT_2PI * math.exp(-0.5 * x * x), 0.5 * math.erfc(-x / math.sqrt(2.0))


@inner(fastmath=FAST, forceinline=True)
def scaled_normal(x: float, top: float) -> tuple[float, float]:
    """exp(top²/2) phi(x) and exp(top²/2) P(Z > |x|), for |top| <= |x|: no underflow where x is near top."""
    fallen = exp_negative(0.5 * (top - x) * (top + x))
    return PER_SQRT_2PI * fallen, fallen * scaled_tail(x)


@inner(fastmath=FAST, forceinline=True)
def between(x: float, y: float, tail_x: float, tail_y: float) -> float:
    """exp(top²/2) P(x < Z < y) from both tails by `scaled_normal`, without cancellation; top is 0 where x < 0 < y."""
    return (1.0 if x < 0.0 < y else 0.0) + (tail_x if x >= 0.0 else -tail_x) - (tail_y if y >= 0.0 else -tail_y)


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


@inner(fastmath=FAST, forceinline=True)
def log_covered(u: float, w: float, B: float, b: float) -> tuple[float, float, float, float]:
    """Log of the integral of k u² phi(k u - w) over k from B to b, and its derivatives by w, B and b.

    With x = B u - w and y = b u - w it is phi(x) - phi(y) + w [Phi(y) - Phi(x)], here in units of exp(-top²/2).
    """
    x, y = B * u - w, b * u - w
    top = min(max(x, 0.0), y)
    (phi_x, tail_x), (phi_y, tail_y) = scaled_normal(x, top), scaled_normal(y, top)
    mass = between(x, y, tail_x, tail_y)
    area = phi_x - phi_y + w * mass
    at_B, at_b = B * u * phi_x / area, b * u * phi_y / area
    return log(area) - 0.5 * top * top, mass / area + at_B - at_b, -u * at_B, u * at_b


def race_density(won: Callable[..., None], lost: Callable[..., None], n_own: int) -> Callable[..., None]:
    """Log density and gradient of a race of independent accumulators, as a Numba function.

    log p(rt, c) = log f_c(t) + sum over j != c of log S_j(t), t = rt - t0.

    Where choice is NOBODY it is what survives: the sum of all log S_j(t), of rt above t0.

    won: Numba function (t, own, logp, by) over decision times t (n,), ascending, of an accumulator with the parameters
    own (n_own,): adds log f to logp (n,), and fills by (n_own + 1, n) with its derivatives by own and t. lost: likewise
    log S. To be called from a cached Numba function in the model's file.
    """

    def log_density(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
        n, t0, first, last = theta.shape[0] // n_own, theta[-1], 0, rt.shape[0]
        while first < last and not rt[first] > t0:
            first += 1
        room, after = np.empty((n_own + 2, last - first)), logp[first:last]
        t, by = room[0], room[1:]
        for i in range(last):
            logp[i] = -math.inf if i < first else 0.0
            for k in range(grad.shape[0]):
                grad[k, i] = 0.0
        for i in range(last - first):
            # Sooner, squares would overflow.
            t[i] = max(rt[first + i] - t0, _SOONEST)
        for j in range(n):
            own = theta[j:-1:n]
            if j == choice:
                won(t, own, after, by)
            else:
                lost(t, own, after, by)
            for k in range(n_own):
                for i in range(last - first):
                    grad[k * n + j, first + i] = by[k, i]
            for i in range(last - first):
                grad[-1, first + i] -= by[n_own, i]
        for i in range(first, last):
            if not logp[i] > -math.inf:
                logp[i] = -math.inf
                for k in range(grad.shape[0]):
                    grad[k, i] = 0.0

    log_density.__qualname__ += f"_{won.__module__}_{won.__name__}"
    density: Callable[..., None] = nb.njit(nogil=True, error_model="numpy")(log_density)
    return density
