"""Probabilities of intervals under Student's t distribution: against many digits, in the middle and in both tails."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch

from hddm_sbi.numerics import student_intervals, student_tails

DEGREES = [0.5, 1.3, 5.0, 30.0, 1e3, 1.6e5]
ENDS = [-math.inf, -1e9, -38.0, -4.1, -4.0, -1.0, -0.02, 0.0, 0.3, 2.0, 7.0, 200.0, 1e6, math.inf]


def upper(z, nu):
    """P(Z > z), of mpmath."""
    if z in (-math.inf, math.inf):
        return mpmath.mpf(z < 0)
    z, nu = mpmath.mpf(z), mpmath.mpf(nu)
    if z < 0:
        return 1 - upper(-z, nu)
    return mpmath.betainc(nu / 2, mpmath.mpf("0.5"), 0, nu / (nu + z * z), regularized=True) / 2


def density(z, nu):
    """Of Z at z, of mpmath."""
    if abs(z) == math.inf:
        return mpmath.mpf(0)
    z, nu = mpmath.mpf(z), mpmath.mpf(nu)
    return (1 + z * z / nu) ** (-(nu + 1) / 2) / (mpmath.sqrt(nu) * mpmath.beta(nu / 2, mpmath.mpf("0.5")))


@pytest.mark.parametrize("nu", DEGREES)
def test_intervals_agree_with_many_digits(nu):
    """Where more than 1e-290 lies in them: log P to 1e-11, and to 4e-10 at 160 000 degrees of freedom; likewise its
    derivatives, relative, or absolute where they are small."""
    tolerance = 4e-10 if nu > 1e5 else 1e-11
    low, high = (torch.tensor(ends, dtype=torch.float64) for ends in zip(*itertools.combinations(ENDS, 2), strict=True))
    low, high = (end.unsqueeze(1).requires_grad_() for end in (low, high))
    found = student_intervals(low, high, student_tails(torch.tensor([nu], dtype=torch.float64)))[0]
    by_low, by_high = (g[:, 0].tolist() for g in torch.autograd.grad(found.sum(), (low, high)))
    found = found.detach()
    with mpmath.workdps(60):
        for i, (a, b) in enumerate(itertools.combinations(ENDS, 2)):
            mass = upper(a, nu) - upper(b, nu) if a + b > 0 else upper(-b, nu) - upper(-a, nu)
            if mass < 1e-290:
                continue
            assert found[i].item() == pytest.approx(float(mpmath.log(mass)), abs=tolerance), (a, b)
            slopes = float(-density(a, nu) / mass), float(density(b, nu) / mass)
            assert (by_low[i], by_high[i]) == pytest.approx(slopes, rel=tolerance, abs=1e-12), (a, b)


def test_every_column_has_its_own_degrees_of_freedom():
    """150 rows, more than are worked on at a time, are those one by one."""
    rng, tails = np.random.default_rng(1), student_tails(torch.tensor(DEGREES, dtype=torch.float64))
    low = torch.from_numpy(3.0 * rng.normal(size=(150, len(DEGREES))))
    high = low + torch.from_numpy(rng.exponential(size=low.shape))
    together = student_intervals(low, high, tails)
    for j in range(len(DEGREES)):
        alone = student_intervals(low[:, [j]], high[:, [j]], tails[[j]])
        for found, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(found[:, [j]], expected, rtol=0, atol=0)


def test_what_is_empty_has_no_probability():
    """Nor a slope, nor nan."""
    ends = torch.tensor([[0.5, 0.5], [1.0, 0.0], [math.inf, math.inf], [-math.inf, -math.inf], [math.inf, 0.0]])
    low, high = (end.double().unsqueeze(1) for end in ends.T)
    value, *slopes = student_intervals(low, high, student_tails(torch.tensor([5.0], dtype=torch.float64)))
    assert (value == -math.inf).all()
    assert all((slope == 0.0).all() for slope in slopes)
