"""The test of ranks, tested in both directions: honest posteriors pass, narrow, wide and shifted ones do not."""

import numpy as np
import pytest

from hddm_sbi.training.ranks import DRAWS, FALSE_ALARMS, rank_test, uniformity_test


def ranks(n, shift=0.0, width=1.0, seed=1):
    """Of standard normal truths among the draws of a posterior that is off by `shift` and `width` times as wide."""
    rng = np.random.default_rng(seed)
    truth, draws = rng.normal(size=(n, 1)), shift + width * rng.normal(size=(n, DRAWS))
    return (draws < truth).sum(1)


@pytest.mark.parametrize("n", [25, 100])
def test_an_honest_posterior_fails_as_often_as_is_said(n):
    """Of 1 000 checks at 1 %, at most 1 % plus 5 binomial standard errors (3e-7 false alarms) fail, and some do."""
    p_values = np.array([rank_test(ranks(n, seed=seed)).p_value for seed in range(1_000)])
    assert 0 < (p_values < 0.01).mean() < 0.01 + 5 * np.sqrt(0.01 * 0.99 / 1_000)


@pytest.mark.parametrize(
    ("n", "shift", "width"),
    [(100, 0, 1 / 2), (100, 0, 2), (100, 0.7, 1), (1_000, 0, 1 / 1.25), (1_000, 0, 1.25), (1_000, -0.25, 1)],
)
def test_wrong_posteriors_are_found(n, shift, width):
    found = rank_test(ranks(n, shift, width))
    assert found.p_value < FALSE_ALARMS / 20
    # Shift and spread are those of (truth - mean) / sd, to 5 standard errors (6e-7 false alarms); ranks among 99 draws
    # know no z beyond 2.6, which narrow posteriors need.
    assert abs(found.shift + shift / width) < 5 / (width * np.sqrt(n)) + 0.05
    assert abs(found.spread * width - 1) < 5 / np.sqrt(2 * n) + (0.15 if width < 1 else 0.02)


def test_shapes_that_have_the_right_mean_and_width_are_found():
    """Two thirds of the ranks in the two middle thirds of the halves: the same mean, nearly the same spread."""
    rank = np.random.default_rng(1).choice([10, 85], 1_000)
    assert uniformity_test(rank)[0] < 1e-10


def test_too_few_ranks_say_nothing_of_their_shape():
    assert uniformity_test(np.zeros(24, dtype=np.int64)) == (1.0, 0.0)
    assert uniformity_test(np.zeros(25, dtype=np.int64))[0] < 1e-10
