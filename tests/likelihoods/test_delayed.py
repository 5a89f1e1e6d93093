"""The kernel of delayed decisions against mpmath: early, late and far out, under delays from none to long ones."""

import mpmath
import numpy as np
import pytest

from hddm_sbi.likelihoods.mixture.delayed_kernel import SHORTEST, delayed_cells
from hddm_sbi.likelihoods.mixture.records import Cells, Law, Rows, Totals, Trials
from hddm_sbi.numerics.vecmath import Lapses

#: log weights, means and log sds of log decision time, (3, components); under the narrow one trials are far out.
MIXTURES = {
    "broad": np.array([[-3.0, -1.0, -2.0, -30.0], [-1.5, -0.8, -0.5, 1.5], [-2.5, -0.9, -0.7, 0.9]]),
    "narrow": np.array([[-2.0, -0.3, -200.0, -450.0], [-1.0, -0.9, -1.1, 0.0], [-3.5, -3.0, -4.0, -2.0]]),
}
LOG_SCALE, ONSET = 0.4, 0.25
#: decision times in seconds, on both sides of a delay, and where a delay is narrow but its interval is not.
TIMES = (1e-12, 1e-3, 0.0999, 0.1001, 0.17, 0.4, 0.7, 3.0, 50.0, 1e4)
DELAYS = (0.0, 1e-6, 1e-3, 0.01, 0.1, 0.5)


def by_kernel(rts, mixture, delay):
    """Sum of the log densities, and its gradients by the mixture (3, k), and by s, t0 and the delay, (3,)."""
    mixtures, g = mixture[None, :, :, None].copy(), np.zeros((1, *mixture.shape, 1))
    cells = Cells(np.array([LOG_SCALE]), np.array([ONSET]), np.zeros((1, 3)), np.array([delay]))
    to = Totals(np.zeros(1), Cells(np.zeros(1), np.zeros(1), np.zeros((1, 3)), np.zeros(1)), np.zeros(1))
    rows, trials = Rows(np.array([0]), np.array([1])), Trials(np.array([0, 0, len(rts)]), np.array(rts))
    delayed_cells(rows, mixtures, g, cells, Law(False, 0), Lapses(np.zeros(1), np.ones(2), 0.0), trials, to)
    return to.total[0], g[0, :, :, 0], np.array([to.cells.s[0], to.cells.t0[0], to.cells.delay[0]])


def by_definition(rt, mixture, s, t0, delay):
    """log of the mean over the delay of the density of a mixture of lognormals, in mpmath's precision."""
    d, total = rt - t0, mpmath.mpf(0)
    for log_w, mean, log_sd in mixture:
        e, f = ((mpmath.log(u) - s - mean) / mpmath.exp(log_sd) if u > 0 else -mpmath.inf for u in (d, d - delay))
        # On the side where nothing cancels.
        e, f = (-f, -e) if f > 0 else (e, f)
        total += mpmath.exp(log_w) * (mpmath.ncdf(e) - mpmath.ncdf(f))
    return mpmath.log(total / delay)


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("name", MIXTURES)
def test_density_and_gradient_are_those_of_the_definition(name, delay):
    """log p to 1e-13, relative where larger than 1, and its derivative in a random direction.

    Derivatives are differences of what happens at the two ends of a delay: they round by their distance in log time.
    """
    mixture, width, rng = MIXTURES[name], max(delay, SHORTEST), np.random.default_rng(1)
    for d in TIMES:
        rt, direction, along = ONSET + d, rng.normal(size=mixture.shape), rng.normal(size=3) * [1.0, d, width]

        def moved(h, rt=rt, direction=direction, along=along):
            rows = (mixture + h * direction).T
            return by_definition(mpmath.mpf(rt), rows, *(np.array([LOG_SCALE, ONSET, width]) + h * along))

        value, by_mixture, by_cell = by_kernel([rt], mixture, delay)
        parts = [*(by_mixture * direction).ravel(), *by_cell * along]
        with mpmath.workdps(60):
            expected, slope = moved(mpmath.mpf(0)), mpmath.diff(moved, 0)
        assert abs(value - expected) < 1e-13 * max(1, abs(expected)), d
        rounding = 2.2e-16 * (1 + d / width) * (10 + abs(expected))
        assert abs(sum(parts) - slope) < rounding * max(1.0, np.abs(parts).sum()), d


@pytest.mark.parametrize("name", MIXTURES)
def test_trials_of_a_block_do_not_touch_each_other(name):
    """549 trials, near and far out in the same blocks, against the same one by one: 1e-12, as derivatives round."""
    mixture, rts = MIXTURES[name], [ONSET + d for d in TIMES if d < 100.0]
    together = by_kernel(np.repeat(rts, 61), mixture, 0.5)
    alone = [by_kernel([rt], mixture, 0.5) for rt in rts]
    for sum_of_all, *parts in zip(together, *alone, strict=True):
        size = 61 * np.sum(np.abs(parts), 0)
        assert (np.abs(sum_of_all - 61 * np.sum(parts, 0)) <= 1e-12 * size).all()
