"""Exits of a stable motion against the Wiener process, exit laws of stable processes, and paths of small steps."""

import math

import numpy as np
import pytest
from scipy import special, stats
from scipy.integrate import quad
from stable_paths import exits_of_paths

from hddm_sbi.simulation.first_passage import Diffusion, constant, first_passage
from hddm_sbi.simulation.stable_motion import exits, jumps_out

#: our noise: E exp(i k L(t)) = exp(-t |k / 2^1/2|^alpha).
TIMES = np.array([0.02, 0.05, 0.1, 0.3, 1.0, 3.0])


def noise(alpha: float) -> float:
    return 2.0 ** (-0.5 * alpha)


@pytest.mark.parametrize(("w", "start"), [(0.0, 0.0), (1.0, -0.4), (-4.0, 0.6), (10.0, -0.8)])
def test_stability_two_is_the_wiener_process(w, start):
    """Densities at six times, 1e-7 of the largest."""
    got = exits(w, 0.5, 2.0, 12).density(start, TIMES)
    expected = np.exp(
        first_passage(Diffusion(start, constant(w), constant(1.0), constant(0.0)), 3.0).log_density(TIMES)
    )
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7 * expected.max())


@pytest.mark.parametrize("alpha", [1.0, 1.1, 1.3, 1.7, 1.95, 2.0])
@pytest.mark.parametrize("start", [-0.6, 0.1])
def test_exits_without_drift(alpha, start):
    """Share and mean time by the sums of exponentials, 2e-6 relative: Getoor 1961; Blumenthal, Getoor & Ray 1961."""
    found = exits(0.0, noise(alpha), alpha, 10)
    parts = (found.elements.at(start)[found.elements.moving] @ found.modes)[:, None] * found.weight
    share = (parts / -found.rates[:, None]).sum(0).real
    mean = (parts / found.rates[:, None] ** 2).sum().real
    scale = 2 ** (1 - alpha) * special.gamma(alpha) / special.gamma(alpha / 2) ** 2
    above = scale * quad(lambda u: (1 - u * u) ** (alpha / 2 - 1), -1, start)[0]
    np.testing.assert_allclose(share, [1.0 - above, above], rtol=2e-6)
    assert mean == pytest.approx((2 * (1 - start**2)) ** (alpha / 2) / special.gamma(1 + alpha), rel=2e-6)


@pytest.mark.parametrize(
    ("w", "alpha"), [(2.0, 1.2), (-6.0, 1.05), (5.0, 1.0), (12.0, 1.7), (-10.0, 1.999), (8.0, 1.4)]
)
def test_finer_elements_change_little(w, alpha):
    """KL of both densities from those of six degrees more, 1e-5, and 1e-8 where jumps hold against the drift."""
    t = np.geomspace(1e-4, 30.0, 2_000)
    for start in (-0.8, 0.3):
        rough, fine = (exits(w, noise(alpha), alpha, degree).density(start, t) for degree in (10, 16))
        told = fine > 1e-9
        ratio = np.maximum(rough, 1e-12) / np.where(told, fine, 1.0)
        each = np.where(told, fine * (ratio - 1.0 - np.log(ratio)), 0.0)
        assert np.trapezoid(each * t, np.log(t)).sum() < (1e-8 if alpha > 1.1 else 1e-5)


@pytest.mark.parametrize("alpha", [1.0, 1.5, 1.9])
@pytest.mark.parametrize("start", [-0.5, 0.2])
def test_at_first_only_jumps_leave(alpha, start):
    """The density at time 1e-7 is that of jumps out, 3e-3 relative: what elements tell there is at its roughest."""
    got = exits(1.0, noise(alpha), alpha, 12).density(start, np.array([1e-7]))[:, 0]
    np.testing.assert_allclose(got, jumps_out(start, noise(alpha), alpha), rtol=3e-3)


@pytest.mark.parametrize(("w", "alpha"), [(1.5, 1.9), (-2.0, 1.6), (3.0, 1.3)])
def test_agrees_with_paths_of_small_steps(w, alpha):
    """40 000 paths of 1 000 steps per unit: share within 5 se, Kolmogorov-Smirnov per side at 1e-6."""
    n, z = 40_000, 0.4
    time, side = exits_of_paths(w, z, alpha, 1_000, n, 1)
    found = exits(w, noise(alpha), alpha, 10)
    t = np.linspace(0.0, time.max(), 20_001)
    density = found.density(2 * z - 1, t)
    mass = np.concatenate(
        [np.zeros((2, 1)), np.cumsum(0.5 * (density[:, 1:] + density[:, :-1]), axis=1) * t[1]], axis=1
    )
    share = mass[:, -1]
    assert share.sum() == pytest.approx(1.0, abs=1e-4)
    assert abs(side.mean() - share[1]) < 5 * math.sqrt(share.prod() / n)
    for c in (0, 1):
        one = np.sort(time[side == c])
        gap = np.abs(np.interp(one, t, mass[c] / share[c]) - np.arange(1, len(one) + 1) / len(one)).max()
        assert gap < stats.kstwobign.isf(1e-6) / math.sqrt(len(one))
