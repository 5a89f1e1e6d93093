"""Elementary functions written by hand, against mpmath."""

import mpmath
import numpy as np

from hddm_sbi.numerics.vecmath import upper_tail


def test_upper_tail_and_hazard_from_the_middle_to_far_out():
    """A relative error of 2e-15, out to 1e6 sds; below 0 of the tail, not of its logarithm, and besides what rounding
    x² does to phi(x)."""
    with mpmath.workdps(60):
        for x in [*np.linspace(-9.0, 37.0, 231), *np.geomspace(40.0, 1e6, 20)]:
            at = mpmath.mpf(float(x))
            # erfc far out, by U of Tricomi: exp(-z²) U(1/2, 1/2, z²) / sqrt(pi).
            scaled = mpmath.hyperu(0.5, 0.5, at * at / 2) / mpmath.sqrt(mpmath.pi) / 2
            density = mpmath.exp(-at * at / 2)
            tail = density * scaled if x >= 0.0 else 1 - density * scaled
            log_tail, hazard = upper_tail(float(x))
            assert abs(log_tail - mpmath.log(tail)) <= 2e-15 * max(1, abs(log_tail)), x
            expected = (1 / scaled if x >= 0.0 else density / tail) / mpmath.sqrt(2 * mpmath.pi)
            assert abs(hazard / expected - 1) < 2e-15 + (2e-16 * x * x if x < 0.0 else 0.0), x
