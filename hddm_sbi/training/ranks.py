"""Are ranks uniform? What the truth's rank among posterior draws says of a posterior: too low, too narrow, too wide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, kstwo, norm

Ranks = NDArray[np.int64]

#: draws among which a truth has its rank, 0 ... DRAWS.
DRAWS = 99
#: an honest posterior or likelihood fails in this share of checks.
FALSE_ALARMS = 1e-3
#: bins of ranks, the largest number that leaves five ranks in each; of fewer ranks nothing is said.
_BINS, _PER_BIN = (20, 10, 5), 5
#: fewer tables than these say nothing of a posterior.
FEWEST = 10


def uniform(rank: Ranks) -> tuple[float, float]:
    """p-value of ranks against equal shares, by chi-squared and by the largest distance of distribution functions; and
    that distance."""
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
    """What the ranks of a coefficient say.

    shift: mean of truth - posterior mean, in posterior sds. spread: sd of the same, which should be 1; above, the
    posterior is too narrow, below, too wide. p_value: of three tests, of shift, spread and shape, corrected for
    their number.
    """

    shift: float
    spread: float
    p_value: float


def rank_test(rank: Ranks) -> RankTest:
    """By the normal scores of the ranks, z = Phi^-1((rank + 1/2) / (DRAWS + 1)), normal where the posterior is right.

    Their mean and their spread (after Cook, Gelman & Rubin 2006) look for what uniformity of ranks alone finds late: a
    wrong place or width. The variance under uniformity is exact; the law of the sum of squares is the chi-squared of
    the same mean and variance.
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
    p_shape, _ = uniform(rank)
    return RankTest(float(z.mean()), spread, min(1.0, 3 * min(p_shift, p_spread, p_shape)))
