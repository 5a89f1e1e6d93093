"""The Lévy-flight model against exit laws of stable processes, and against paths made of small stable steps."""

import math

import mpmath
import numpy as np
import pytest
from hddm_sbi.simulators.levy import _kappa
from scipy import special, stats
from scipy.integrate import quad
from stable_paths import exits_of_paths

import hddm_sbi as hs
from hddm_sbi.simulation.first_passage import Diffusion, constant, first_passage


@pytest.mark.parametrize(("v", "alpha"), [(1.5, 1.9), (-2.0, 1.6), (0.7, 1.4)])
def test_agrees_with_small_steps(v, alpha):
    """40 000 trials of ours and of paths with 1 000 steps per unit: share within 5 se, and two-sample KS at 1e-6."""
    n, z = 40_000, 0.4
    time, side = exits_of_paths(v, z, alpha, 1_000, n, 1)
    rt, choice = hs.load_simulator("levy").simulate(np.tile([v, 1.0, z, 0.0, alpha], (n, 1)), seed=1)
    assert abs(choice.mean() - side.mean()) < 5 * math.sqrt(2 * choice.var() / n)
    for c in (0, 1):
        assert stats.ks_2samp(rt[choice == c], time[side == c]).pvalue > 1e-6


@pytest.mark.parametrize("alpha", [1.0, 1.25, 1.5, 1.75, 1.99])
def test_small_jumps_climb_less_high_than_a_brownian_motion(alpha):
    """The polynomial against the integral it stands for (mpmath), 1e-6.

    psi(u) = u² / (2 (2 - alpha)) 2F3(1 - alpha/2, 1; 2 - alpha/2, 3/2, 2; -u²/4), and for large u
    c u^alpha - 1 / alpha but for waves of order u^-2, with c = int_0^inf (1 - cos x) x^(-1 - alpha) dx.
    """
    a = mpmath.mpf(alpha)

    def near(u):
        return -mpmath.log(mpmath.hyper([1 - a / 2, 1], [2 - a / 2, mpmath.mpf(3) / 2, 2], -u * u / 4)) / u**2

    c = mpmath.pi / 2 if alpha == 1.0 else -mpmath.gamma(-a) * mpmath.cos(mpmath.pi * a / 2)

    def far(u):
        return mpmath.log(u**2 / (2 * (2 - a)) / (c * u**a - 1 / a)) / u**2

    with mpmath.workdps(30):
        whole = mpmath.quad(near, [mpmath.mpf("1e-8"), 1, 3, 6, 10, 15, 20, 30, 40]) + mpmath.quad(
            far, [40, mpmath.inf]
        )
    assert _kappa(alpha) == pytest.approx(float(whole / mpmath.pi), abs=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 1.3, 1.7, 1.95, 2.0])
@pytest.mark.parametrize("n", [100_000, pytest.param(4_000_000, marks=pytest.mark.slow)])
def test_exits_like_a_stable_process(alpha, n):
    """From z = 0.2 without drift, mean and share within 5 se (false alarms 5.7e-7 each), 0.25 % at 4e6 trials.

    Mean exit time of the stable process with E exp(i k S) = exp(-|k|^alpha) from (-1, 1): (1 - x²)^(alpha / 2) /
    Gamma(1 + alpha) (Getoor 1961); ours is slower by 2^(alpha / 2). Side: Blumenthal, Getoor & Ray (1961).
    """
    x = -0.6
    rt, choice = hs.load_simulator("levy").simulate(np.tile([0.0, 1.0, 0.2, 0.0, alpha], (n, 1)), seed=1)
    mean = (2 * (1 - x * x)) ** (alpha / 2) / special.gamma(1 + alpha)
    scale = 2 ** (1 - alpha) * special.gamma(alpha) / special.gamma(alpha / 2) ** 2
    share = scale * quad(lambda u: (1 - u * u) ** (alpha / 2 - 1), -1, x)[0]
    assert abs(rt.mean() - mean) < 5 * rt.std() / math.sqrt(n)
    assert abs(choice.mean() - share) < 5 * math.sqrt(share * (1 - share) / n)


def test_stability_two_is_the_wiener_process():
    """100 000 trials, Kolmogorov-Smirnov per choice at 1e-6 each, share within 5 se."""
    n = 100_000
    rt, choice = hs.load_simulator("levy").simulate(np.tile([1.5, 0.8, 0.4, 0.0, 2.0], (n, 1)), seed=1)
    passage = first_passage(Diffusion(-0.16, constant(1.5), constant(0.8), constant(0.0)), 1.05 * rt.max())
    grid = np.linspace(0.0, 1.05 * rt.max(), 5_000)
    mass = passage.mass(grid)
    share = mass[1, -1]
    assert abs(choice.mean() - share) < 5 * math.sqrt(share * (1 - share) / n)
    for c in (0, 1):
        t = np.sort(rt[choice == c])
        cdf = np.interp(t, grid, mass[c] / mass[c, -1])
        distance = np.abs(cdf - np.arange(1, len(t) + 1) / len(t)).max()
        assert distance < stats.kstwobign.isf(1e-6) / math.sqrt(len(t))


def test_scales():
    """40 000 trials each of a theta and of the same in units of a: share within 5 se, and two-sample KS at 1e-6."""
    n, a, alpha = 40_000, 2.0, 1.4
    levy = hs.load_simulator("levy")
    rt, choice = levy.simulate(np.tile([0.8, a, 0.3, 0.0, alpha], (n, 1)), seed=1)
    reduced, other = levy.simulate(np.tile([0.8 * a ** (alpha - 1), 1.0, 0.3, 0.0, alpha], (n, 1)), seed=2)
    assert abs(choice.mean() - other.mean()) < 5 * math.sqrt(2 * choice.var() / n)
    assert stats.ks_2samp(rt, reduced * a**alpha).pvalue > 1e-6


def test_mirrors_its_choices():
    """40 000 trials each of a theta and its mirror image: share within 5 se, and two-sample KS at 1e-6."""
    n = 40_000
    rt, choice = hs.load_simulator("levy").simulate(np.tile([0.8, 0.9, 0.3, 0.0, 1.4], (n, 1)), seed=1)
    mirror, other = hs.load_simulator("levy").simulate(np.tile([-0.8, 0.9, 0.7, 0.0, 1.4], (n, 1)), seed=2)
    assert abs(choice.mean() + other.mean() - 1) < 5 * math.sqrt(2 * choice.var() / n)
    assert stats.ks_2samp(rt, mirror).pvalue > 1e-6
