"""Log evidence by bridge sampling (Meng & Wong 1996): from draws of a density, and a normal law of their shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import skew

from hddm_sbi.errors import InputError
from hddm_sbi.inference import inference_data
from hddm_sbi.inference.density import Evaluate
from hddm_sbi.types import Array

# With p the density, Z its integral, q a normalised density, n1 draws of p and n2 of q, l = log p - log q, and
# s(u) = 1 / (1 + e^-u), the estimate of r = log Z with the least error solves
#   mean over q of s(l - r + c) / n1 = mean over p of s(r - c - l) / n2,    c = log(n1 / n2).
# The left side falls with r and the right side rises, so there is one solution.
#
# Half of the draws give the shape of q, and the others the estimate; then they change places, and the mean of both
# estimates is taken. Draws that give both would make Z too small.
#
# Shape: for a normal density, the gradient g = -S^-1 (x - m) at any n + 1 points gives S without error, and cov(x) has
# the error of a sample. The geometric mean of cov(x) and cov(g)^-1 has the first property, and of all matrices S is the
# nearest to g = -S^-1 (x - m) in the mean, in units of S (as for nutpie's mass matrix).
#
# Warp-III (Meng & Schilling 2002): where the draws are skewed, p is replaced by the mean of itself and its mirror
# image, [p(m + h) + p(m - h)] / 2, which has the same integral, and no skewness.

#: draws that are used: so many, or so many per number of the density where that is more.
_DRAWS, _PER_NUMBER = 4_000, 8
#: the fewest, in all and per number.
_FEWEST, _FEWEST_PER_NUMBER = 200, 4
#: largest skewness of a coordinate from which on the density is mirrored.
_SKEWED = 0.3


class Evidence(NamedTuple):
    """Log evidence of a model, the log of the density of its data, and the standard error of that number.

    Parameters
    ----------
    log_evidence : float
        In nats.
    error : float
        Standard error of `log_evidence`, in nats.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> log_evidence, error = hs.Evidence(-123.4, 0.02)
    """

    log_evidence: float
    error: float


@dataclass(frozen=True)
class _Normal:
    """The normal law of mean m and covariance F F'; F lower triangular."""

    mean: Array
    factor: Array

    @classmethod
    def of(cls, x: Array, gradient: Array) -> _Normal:
        """The law whose shape is that of a density with these gradients at draws, both (N, n)."""
        scale = x.std(0)
        z, g = (x - x.mean(0)) / scale, gradient * scale
        values, vectors = eigh(np.cov(g.T).reshape(len(scale), -1))
        root = np.sqrt(values)
        middle = vectors.T @ np.cov(z.T).reshape(len(scale), -1) @ vectors * root[:, None] * root
        found, within = eigh(middle)
        half = vectors / root @ within * found**0.25
        covariance = half @ half.T
        return cls(x.mean(0) + scale * (covariance @ g.mean(0)), scale[:, None] * cholesky(covariance, lower=True))

    def standardised(self, x: Array) -> Array:
        """z where x = m + F z, (..., n)."""
        z: Array = solve_triangular(self.factor, (x - self.mean).reshape(-1, len(self.mean)).T, lower=True).T
        return z.reshape(x.shape)

    def log_prob(self, z: Array) -> Array:
        """At x = m + F z, (..., n) -> (...)."""
        log_volume = np.log(np.diag(self.factor)).sum() + 0.5 * len(self.mean) * np.log(2.0 * np.pi)
        return -0.5 * (z**2).sum(-1) - log_volume


def bridge(density: Evaluate, x: Array, seed: int) -> Evidence:
    """Log of the integral of a density, from draws of it.

    density: unnormalised log density and gradient of (n,). x: draws (chains, draws, n). Raises InputError where they
    are too few.
    """
    x = _spaced(x)
    half, n = x.shape[1] // 2, x.shape[-1]
    parts = x[:, :half], x[:, half : 2 * half]
    known = [_evaluated(density, part) for part in parts]
    outside = sum(int(np.count_nonzero(~np.isfinite(log_p))) for log_p, _ in known)
    if outside:
        raise InputError(
            f"the evidence needs draws of this density, which is not finite at {outside} of {half * 2 * len(x)} draws: "
            "give the posterior that was fitted, or fit again."
        )
    rng = np.random.default_rng(seed)
    found = []
    for own, other in ((0, 1), (1, 0)):
        shape = _Normal.of(parts[own].reshape(-1, n), known[own][1].reshape(-1, n))
        found.append(_estimate(density, shape, parts[other], known[other][0], rng))
    values, errors = np.array(found).T
    return Evidence(float(values.mean()), float(0.5 * np.sqrt((errors**2).sum())))


def _spaced(x: Array) -> Array:
    """As many draws as are needed, evenly spaced in every chain."""
    chains, draws, n = x.shape
    fewest, most = max(_FEWEST, _FEWEST_PER_NUMBER * n), max(_DRAWS, _PER_NUMBER * n)
    if chains * draws < fewest:
        raise InputError(
            f"the evidence of {n} number{'s' if n != 1 else ''} needs at least {fewest} draws, and there are "
            f"{chains * draws}: fit with draws={-(-fewest // chains)} or more."
        )
    if not np.ptp(x, axis=(0, 1)).all():
        raise InputError("the evidence needs draws, and a number is the same in all of these: fit again.")
    return x[:, inference_data.evenly_spaced(draws, min(draws, -(-most // chains)))]


def _evaluated(density: Evaluate, x: Array) -> tuple[Array, Array]:
    """Log density (...) and gradient (..., n) at (..., n)."""
    flat = x.reshape(-1, x.shape[-1])
    values, gradients = np.empty(len(flat)), np.empty_like(flat)
    for i, at in enumerate(flat):
        values[i], gradients[i] = density(at)
    return values.reshape(x.shape[:-1]), gradients.reshape(x.shape)


def _log_density(density: Evaluate, x: Array) -> Array:
    """Log density (...) at (..., n), -inf where it is not a number."""
    values = np.array([density(at)[0] for at in x.reshape(-1, x.shape[-1])]).reshape(x.shape[:-1])
    return np.where(np.isnan(values), -np.inf, values)


def _estimate(
    density: Evaluate, shape: _Normal, x: Array, log_p: Array, rng: np.random.Generator
) -> tuple[float, float]:
    """Log integral and its standard error, from draws x (chains, draws, n) and as many of a normal law."""
    z = shape.standardised(x)
    proposed = rng.standard_normal((z[..., 0].size, z.shape[-1]))
    at_draws, at_proposed = log_p, _log_density(density, shape.mean + proposed @ shape.factor.T)
    if np.abs(skew(z.reshape(-1, z.shape[-1]))).max() > _SKEWED:
        mirrored = (
            _log_density(density, 2.0 * shape.mean - x),
            _log_density(density, shape.mean - proposed @ shape.factor.T),
        )
        at_draws, at_proposed = (
            np.logaddexp(a, b) - np.log(2.0) for a, b in zip((at_draws, at_proposed), mirrored, strict=True)
        )
    return _bridged(at_draws - shape.log_prob(z), at_proposed - shape.log_prob(proposed))


def _bridged(of_p: Array, of_q: Array) -> tuple[float, float]:
    """Log Z and its standard error from log p - log q, at draws of p (chains, draws), and of q (m,)."""
    n1, n2 = min(inference_data.effective_draws(of_p), of_p.size), len(of_q)
    c = float(np.log(n1 / n2))

    def difference(r: float) -> float:
        return float(expit(of_q - r + c).mean() * n2 - expit(r - c - of_p).mean() * n1)

    finite = np.concatenate([of_p.reshape(-1), of_q[np.isfinite(of_q)]])
    margin = abs(c) + 50.0
    r = float(brentq(difference, finite.min() - margin, finite.max() + margin, xtol=1e-10))
    # Relative mean squared error (Frühwirth-Schnatter 2004), of independent draws of q and dependent ones of p.
    one, other = expit(of_q - r + c), expit(r - c - of_p)
    effective = min(inference_data.effective_draws(other), other.size)
    squared = one.var() / (n2 * one.mean() ** 2) + other.var() / (effective * other.mean() ** 2)
    return r, float(np.sqrt(squared))
