"""Importance weights whose tail is smoothed by a generalised Pareto law (Vehtari et al. 2024), and means under them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from hddm_sbi.types import Array, Index

#: the largest share of draws that is the tail of the weights; and the most, in square roots of their number.
_TAIL, _ROOTS = 0.2, 3.0
#: fewer exceedances tell nothing of a shape.
_FEWEST = 5
#: the spread of weights that move no mean by more than a tenth of a posterior sd.
_HARDLY = 0.1
#: weight, in exceedances, of the prior of the shape, which is around .5.
_PRIOR = 10.0


@dataclass(frozen=True)
class Weights:
    """Importance weights of draws.

    w: (n,), of sum 1. pareto_k: the shape of their tail; inf where too few differ to tell, -inf where none does.
    """

    w: Array
    pareto_k: float

    @property
    def effective_draws(self) -> float:
        """How many equally weighted draws have weights of this variance (Kish)."""
        return float(1.0 / (self.w**2).sum())

    @property
    def spread(self) -> float:
        """Standard deviation of the weights, where their mean is 1: no mean moves by more than this, in posterior sds.

        |E[w x] - E[x]| = |Cov(w, x)| <= sd(w) sd(x)
        """
        return float(max(len(self.w) / self.effective_draws - 1.0, 0.0) ** 0.5)

    @property
    def reliable(self) -> bool:
        """Whether means under them can be trusted: by a shape below .7, and below 1 - 1 / log10(n) for few draws, or by
        a spread that hardly moves a mean, whatever the shape."""
        return self.pareto_k < min(0.7, 1.0 - 1.0 / np.log10(len(self.w))) or self.spread <= _HARDLY

    @classmethod
    def smoothed(cls, log_ratio: Array) -> Weights:
        """From log ratios (n,), up to a constant; -inf for a draw that cannot be.

        The largest become the expected order statistics of the law that is fitted to what they exceed the others by.
        """
        log_w = log_ratio - log_ratio.max()
        order, n_tail = np.argsort(log_w), int(np.ceil(min(_TAIL * len(log_w), _ROOTS * len(log_w) ** 0.5)))
        cut, tail = log_w[order[-n_tail - 1]], order[-n_tail:]
        tail = tail[log_w[tail] > cut]
        if len(tail) < _FEWEST:
            return cls(np.exp(log_w - logsumexp(log_w)), np.inf if log_w.min() < 0.0 else -np.inf)
        k, sigma = pareto_fit(np.exp(log_w[tail]) - np.exp(cut))
        q = (np.arange(len(tail)) + 0.5) / len(tail)
        exceeds = -sigma * np.log1p(-q) if k == 0.0 else sigma * np.expm1(-k * np.log1p(-q)) / k
        # None is above the largest that was seen.
        log_w[tail] = np.minimum(np.log(np.exp(cut) + exceeds), 0.0)
        return cls(np.exp(log_w - logsumexp(log_w)), float(k))

    def mean(self, x: Array) -> Array:
        """Of x (n, q) under the weights, (q,)."""
        return np.asarray(self.w @ x)

    def sd(self, x: Array) -> Array:
        """The same of its standard deviation."""
        return np.sqrt(self.w @ (x - self.mean(x)) ** 2)

    def resampled(self, seed: int) -> Index:
        """Positions of n draws that stand for the weighted ones, in no order: each as often as n times its weight,
        rounded up or down."""
        rng, n = np.random.default_rng(seed), len(self.w)
        steps = (np.arange(n) + rng.random()) / n
        positions = np.minimum(np.searchsorted(np.cumsum(self.w), steps), n - 1)
        return np.asarray(rng.permutation(positions), dtype=np.int64)


def pareto_fit(exceeds: Array) -> tuple[float, float]:
    """Shape k and scale sigma of a generalised Pareto law from ascending positive exceedances (n,).

    The estimate of Zhang & Stephens (2009), a mean over a grid of theta = -k / sigma weighted by the profile
    likelihood, and a weak prior around k = .5:

        k(theta) = mean log(1 - theta x),   log L(theta) = n [log(-theta / k) - k - 1]
    """
    n = len(exceeds)
    m = 30 + int(n**0.5)
    quartile = exceeds[int(n / 4 + 0.5) - 1]
    theta = 1.0 / exceeds[-1] + (1.0 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3.0 * quartile)
    k = np.log1p(-theta[:, None] * exceeds).mean(1)
    log_likelihood = n * (np.log(-theta / k) - k - 1.0)
    weight = np.exp(log_likelihood - logsumexp(log_likelihood))
    best = float(weight @ theta)
    shape = float(np.log1p(-best * exceeds).mean())
    return (n * shape + 0.5 * _PRIOR) / (n + _PRIOR), -shape / best
