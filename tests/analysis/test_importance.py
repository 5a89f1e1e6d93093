"""Importance weights against laws of which all is known, and against ArviZ's own."""

import arviz as az
import numpy as np
import pytest
from scipy.stats import genpareto

from hddm_sbi.analysis.importance import Weights, pareto_fit

N = 4_000


@pytest.mark.parametrize("k", [-0.4, 0.0, 0.3, 0.9])
def test_shape_and_scale_of_a_pareto_law_are_found(k):
    """4 000 draws: the standard error of a shape is (1 + k) / n**.5; the prior around .5 moves it by .0025 at most."""
    x = np.sort(genpareto(k, scale=3.0).rvs(N, random_state=1))
    shape, scale = pareto_fit(x)
    assert abs(shape - k) < 5 * (1 + k) / N**0.5 + 0.0025
    assert abs(scale / 3.0 - 1.0) < 5 * (2 * (1 + k)) ** 0.5 / N**0.5 + 0.0025


@pytest.mark.skipif(not hasattr(az, "psislw"), reason="ArviZ 1 has it elsewhere")
@pytest.mark.parametrize("sd", [0.01, 0.5, 1.5, 4.0])
def test_weights_are_those_of_arviz(sd):
    log_ratio = sd * np.random.default_rng(2).standard_normal(N)
    weights, (log_w, k) = Weights.smoothed(log_ratio), az.psislw(log_ratio.copy())
    np.testing.assert_allclose(weights.w, np.exp(log_w), rtol=1e-9)
    assert weights.pareto_k == pytest.approx(float(k), abs=1e-9)


@pytest.mark.parametrize("tilt", [0.1, 0.5, 1.0])
def test_a_tilted_normal_is_known(tilt):
    """N(0, 1) tilted by exp(b x) is N(b, 1). 20 seeds by hand: at b = 1 means are off by .05, sds by .05."""
    x = np.random.default_rng(3).standard_normal((N, 1))
    weights = Weights.smoothed(tilt * x[:, 0])
    assert weights.reliable
    assert abs(weights.mean(x)[0] - tilt) < 0.25
    assert abs(weights.sd(x)[0] - 1.0) < 0.25
    # The variance of exp(b x - b^2 / 2) is exp(b^2) - 1.
    assert weights.effective_draws == pytest.approx(N * np.exp(-(tilt**2)), rel=0.35)


def test_no_mean_moves_by_more_than_the_spread():
    rng = np.random.default_rng(4)
    weights = Weights.smoothed(0.3 * rng.standard_normal(N))
    x = np.column_stack([weights.w, rng.standard_cauchy((N, 20))])
    shift = np.abs(weights.mean(x) - x.mean(0)) / x.std(0)
    assert (shift <= weights.spread * (1 + 1e-9)).all()
    assert shift[0] == pytest.approx(weights.spread)


def test_when_weights_are_not_to_be_trusted():
    rng = np.random.default_rng(5)
    assert not Weights.smoothed(4.0 * rng.standard_normal(N)).reliable
    assert Weights.smoothed(np.full(N, -7.0)).reliable
    alone = np.zeros(N)
    alone[17] = 20.0
    assert not Weights.smoothed(alone).reliable
    # A heavy tail of next to nothing: exp(d) - 1 is Pareto of shape 1.5, times 1e-12.
    hardly = Weights.smoothed(np.log1p(1e-12 * genpareto(1.5).rvs(N, random_state=1)))
    assert hardly.pareto_k > 0.7
    assert hardly.reliable


def test_draws_that_cannot_be_weigh_nothing():
    x = np.random.default_rng(6).standard_normal(N)
    weights = Weights.smoothed(np.where(x > 0.0, -np.inf, 0.0))
    assert not weights.w[x > 0.0].any()
    assert weights.w.sum() == pytest.approx(1.0)


def test_draws_are_taken_as_often_as_they_weigh():
    log_ratio = np.random.default_rng(7).standard_normal(N)
    weights = Weights.smoothed(log_ratio)
    positions = weights.resampled(seed=1)
    often = np.bincount(positions, minlength=N)
    assert len(positions) == N
    assert (np.abs(often - N * weights.w) < 1.0).all()
    assert (np.diff(positions) < 0).any()
    assert (weights.resampled(seed=1) == positions).all()
    assert (weights.resampled(seed=2) != positions).any()
