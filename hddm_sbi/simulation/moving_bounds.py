"""First passage of Brownian motion out of the strip between two moving curves, without discretisation bias."""

import math
from collections.abc import Callable
from typing import Any

import numba as nb

#: `Simulator.discretisation` of models that are simulated by `crossing_of`.
UNSEEN = (
    "none seen: mean, choices and distribution of 1e6 trials at 10 thetas lie within five standard errors of the "
    "equation (tests/simulation/test_diffusions.py -m slow)"
)

Curves = Callable[..., tuple[float, float]]
FirstCrossing = Callable[[tuple[float, ...], float, float, float, Any], tuple[float, int, float]]

# A diffusion with drift m'(t) between bounds -b(t) and b(t) is a Brownian motion between the curves -b(t) - m(t) and
# b(t) - m(t); a leak is removed by a change of clock (simulators/ornstein.py). So the only thing that a step must
# follow is the shape of two curves. Within a step every curve is replaced by a line, against which the crossing of the
# Brownian bridge between the two ends is known exactly: its probability exp(-2 d0 d1 / h), and its time.

#: longest step, in squared widths of the strip: a bridge that meets both bounds in one step has odds of exp(-12).
_WIDTHS = 1.0 / 12.0
#: time before which next to nothing happens, in squared distances of the start to the nearer curve.
_EARLY = 1.0 / 16.0
#: largest shift of a line, in the shortest of three lengths: the width of the strip, the length that the motion has
#: explored, and one over the mean speed of the curve so far, over which the law ahead of a sweeping curve decays.
_SHIFT = 0.01


@nb.njit(nogil=True, cache=True)
def crossing_time(d0: float, d1: float, h: float, rng: Any) -> float:
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


def crossing_of(curves: Curves) -> FirstCrossing:
    """First passage of a Brownian motion out of the strip between two curves, as a Numba function.

    curves: Numba function `curves(t, *shape) -> (lower, upper)`, continuous in t >= 0, which the result is named by. It
    is to be called from Numba as `first_crossing(shape, x, bend, horizon, rng) -> (time, side, place)`, with x between
    the curves at t = 0. shape: tuple of floats. bend: time in which the curves first bend, so that no step passes over
    it unseen. horizon: latest time. side: 1 upper, 0 lower, or -1 where the motion is still inside at the horizon, at
    that place.

    The line that stands for a curve lies two thirds of the way from its chord to its middle, so that its error has mean
    zero over every step, and the lengths of the steps are drawn at random, so that no time is always at the same place
    of its step: together, the error of a curve vanishes to first order at every time. Steps follow the shape of the
    curves and at most double the time passed. They do not depend on the path: no step is chosen or rejected because of
    where the path went.
    """

    def first_crossing(shape, x, bend, horizon, rng):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        lower_0, upper_0 = lower, upper = curves(0.0, *shape)
        early = _EARLY * min(upper - x, x - lower) ** 2
        t, longest = 0.0, min(early, bend)
        while True:
            width, elapsed = upper - lower, early + t
            h = min(longest, width * width * _WIDTHS, elapsed) * (0.5 + 0.5 * rng.random())
            h = min(h, horizon - t)
            while True:
                lower_middle, upper_middle = curves(t + 0.5 * h, *shape)
                lower_end, upper_end = curves(t + h, *shape)
                lower_shift = 2.0 / 3.0 * (lower_middle - 0.5 * (lower + lower_end))
                upper_shift = 2.0 / 3.0 * (upper_middle - 0.5 * (upper + upper_end))
                speed = max(abs(lower_end - lower_0), abs(upper_end - upper_0)) / elapsed
                shift = max(abs(lower_shift), abs(upper_shift))
                excess = shift * max(1.0 / width, 1.0 / math.sqrt(elapsed), speed) / _SHIFT
                if excess <= 1.0:
                    break
                h *= max(0.1, 0.9 / math.sqrt(excess))
            longest = h * min(4.0, 1.0 / math.sqrt(max(excess, 1e-9)))
            up0, down0 = upper + upper_shift - x, x - lower - lower_shift
            if up0 <= 0.0 or down0 <= 0.0:
                return t, 1 if up0 < down0 else 0, x
            end = x + math.sqrt(h) * rng.standard_normal()
            up1, down1 = upper_end + upper_shift - end, end - lower_end - lower_shift
            # A bridge that meets both lines meets last the one that its end is nearer to.
            for side in (0, 1) if up1 < down1 else (1, 0):
                d0, d1 = (up0, up1) if side == 1 else (down0, down1)
                if d1 <= 0.0 or rng.random() < math.exp(-2.0 * d0 * d1 / h):
                    return t + crossing_time(d0, d1, h, rng), side, end
            t, x, lower, upper = t + h, end, lower_end, upper_end
            if t >= horizon:
                return t, -1, x

    first_crossing.__qualname__ += f"_{curves.__module__}_{curves.__name__}"
    crossing: FirstCrossing = nb.njit(nogil=True)(first_crossing)
    return crossing
