"""First passage of Brownian motion out of the strip between two moving curves, without discretisation bias."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba as nb

# A diffusion with drift m'(t) between bounds -b(t) and b(t) is a Brownian motion between the curves -b(t) - m(t) and
# b(t) - m(t); a leak is removed by a change of clock (simulators/ornstein.py). So the only thing that a step must
# follow is the shape of two curves. Within a step every curve is replaced by a line, against which the crossing of the
# Brownian bridge between the two ends is known exactly: its probability exp(-2 d0 d1 / h), and its time.

#: longest step, in squared widths of the strip: a bridge that meets both bounds in one step has odds of exp(-12).
_WIDTHS = 1.0 / 12.0
#: largest distance between a curve and its chord, in lengths that the process has explored so far.
_SAGITTA = 0.01


@nb.njit(nogil=True, cache=True)
def _crossing_time(d0: float, d1: float, h: float, rng: Any) -> float:
    """When a Brownian bridge from distance d0 > 0 to a line, to distance d1 (of either sign) after h, first meets it.

    Given that it does, t / (h - t) is inverse Gaussian with mean d0 / |d1| and shape d0² / h, drawn as in Michael,
    Schucany & Haas (1976).
    """
    mean, shape = d0 / max(abs(d1), 1e-100), d0 * d0 / h
    y = mean * rng.standard_normal() ** 2 / shape
    # The smaller root of x² - mean (2 + y) x + mean², free of cancellation.
    x = 2.0 * mean / (2.0 + y + math.sqrt(y * (4.0 + y)))
    if rng.random() * (mean + x) > mean:
        x = mean * mean / x
    return h * x / (1.0 + x)


@nb.njit(nogil=True)
def first_crossing(
    curves: Callable[..., tuple[float, float]], shape: tuple[float, ...], x: float, horizon: float, rng: Any
) -> tuple[float, int, float]:
    """Time, side and place where a Brownian motion from x first leaves the strip between two curves.

    curves: Numba function `curves(t, *shape) -> (lower, upper)`, continuous in t >= 0, with x between them at t = 0.
    Returns side 1 (upper), 0 (lower), or -1 where it is still inside at the horizon.

    The lines lie two thirds of the way from chord to curve, so that their error has mean zero over every step. Steps
    follow the shape of the curves and never exceed (distance to the nearer curve at 0)² + t, the time in which the
    law of x changes. They do not depend on the path: no step is chosen or rejected because of where the path went.
    """
    lower, upper = curves(0.0, *shape)
    nearest = min(upper - x, x - lower)
    t, following = 0.0, nearest * nearest
    while True:
        width = upper - lower
        h = min(following, width * width * _WIDTHS, nearest * nearest + t, horizon - t)
        tolerance = _SAGITTA * min(width, math.sqrt(nearest * nearest + t))
        while True:
            lower_middle, upper_middle = curves(t + 0.5 * h, *shape)
            lower_end, upper_end = curves(t + h, *shape)
            lower_shift = lower_middle - 0.5 * (lower + lower_end)
            upper_shift = upper_middle - 0.5 * (upper + upper_end)
            sagitta = max(abs(lower_shift), abs(upper_shift))
            if sagitta <= tolerance:
                break
            h *= max(0.1, 0.9 * math.sqrt(tolerance / sagitta))
        following = h * min(4.0, 0.9 * math.sqrt(tolerance / max(sagitta, 1e-300)))
        lower_shift *= 2.0 / 3.0
        upper_shift *= 2.0 / 3.0
        up0, down0 = upper + upper_shift - x, x - lower - lower_shift
        if up0 <= 0.0 or down0 <= 0.0:
            return t, 1 if up0 < down0 else 0, x
        end = x + math.sqrt(h) * rng.standard_normal()
        up1, down1 = upper_end + upper_shift - end, end - lower_end - lower_shift
        # The nearer line first: a bridge that meets both meets that one first, up to odds of exp(-12).
        for side in (1, 0) if up0 < down0 else (0, 1):
            d0, d1 = (up0, up1) if side == 1 else (down0, down1)
            if d1 <= 0.0 or rng.random() < math.exp(-2.0 * d0 * d1 / h):
                time = t + _crossing_time(d0, d1, h, rng)
                return time, side, upper if side == 1 else lower
        t, x, lower, upper = t + h, end, lower_end, upper_end
        if t >= horizon:
            return t, -1, x
