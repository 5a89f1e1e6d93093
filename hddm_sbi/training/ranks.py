"""Tests of ranks among posterior draws: they show a posterior that is shifted, too narrow or too wide."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, kstwo, norm

Ranks = NDArray[np.int64]

#: draws among which a true value has its rank, 0 ... DRAWS.
DRAWS = 99
#: an honest posterior or likelihood fails in this share of checks.
FALSE_ALARMS = 1e-3
#: numbers of bins, of which the largest that leaves so many ranks in each is taken; with fewer ranks there is no test.
_BINS, _PER_BIN = (20, 10, 5), 5
#: fewer tables than these say nothing about a posterior.
FEWEST = 10


def uniformity_test(rank: Ranks) -> tuple[float, float]:
    """p-value of the ranks (n,) under uniformity, and the largest distance between the distribution functions.

    The smaller p-value of two tests, times two: chi-squared over bins, and Kolmogorov-Smirnov.
    """
    n = len(rank)
    bins = next((bins for bins in _BINS if n >= _PER_BIN * bins), 0)
    if not bins:
        return 1.0, 0.0
    counts = np.bincount(rank * bins // (DRAWS + 1), minlength=bins)
    chi_squared = float(chi2.sf(((counts - n / bins) ** 2).sum() / (n / bins), bins - 1))
    cumulated = np.bincount(rank, minlength=DRAWS + 1).cumsum() / n
    distance = float(np.abs(cumulated - np.arange(1, DRAWS + 2) / (DRAWS + 1)).max())
    return min(1.0, 2 * min(chi_squared, float(kstwo.sf(distance, n)))), distance


@dataclass(frozen=True)
class RankTest:
    """Test of the ranks of one coefficient.

    shift: mean of (true value - posterior mean), in posterior sds. spread: sd of the same; above 1 the posterior is too
    narrow, below 1 too wide; nan for fewer than 10 tables, which say nothing. p_value: the smallest of the tests of
    shift, spread and shape, corrected for their number.
    """

    shift: float
    spread: float
    p_value: float


def rank_test(rank: Ranks) -> RankTest:
    """Test ranks (n,) by their normal scores, z = Phi^-1((rank + 1/2) / (DRAWS + 1)), and by their uniformity.

    Mean and spread of z (after Cook, Gelman & Rubin 2006) find a wrong place or width earlier than a test of uniformity
    does. The variance of z under uniformity is exact; the law of the sum of squares is approximated by the chi-squared
    with the same mean and variance.
    """
    n, scores = len(rank), norm.ppf((np.arange(DRAWS + 1) + 0.5) / (DRAWS + 1))
    variance = float(np.mean(scores**2))
    z = scores[rank] / np.sqrt(variance)
    if n < FEWEST:
        return RankTest(float(z.mean()), float("nan"), 1.0)
    # The variance of z², which is 2 for a normal z.
    excess = float(np.mean(scores**4)) / variance**2 - 1
    degrees = 2 * (n - 1) / excess
    spread = float(z.std(ddof=1))
    p_shift = 2 * float(norm.sf(abs(z.mean()) * np.sqrt(n)))
    p_spread = 2 * min(float(chi2.cdf(degrees * spread**2, degrees)), float(chi2.sf(degrees * spread**2, degrees)))
    p_shape, _ = uniformity_test(rank)
    return RankTest(float(z.mean()), spread, min(1.0, 3 * min(p_shift, p_spread, p_shape)))
