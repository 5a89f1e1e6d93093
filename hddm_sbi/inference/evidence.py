"""Log evidence by bridge sampling (Meng & Wong 1996): from draws of a density, and a normal law of their shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm, skew

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
# q is a normal law after bends: z ~ N(0, 1), w = m + F z, and each number x of its w, where its draws are skewed, by
#   x = centre + scale (cosh(a) w + sinh(a) sqrt(1 + w^2)),
# whose two sides are lines of slopes exp(a) and exp(-a).
#
# Shape: for a normal density, the gradient g = -S^-1 (w - m) at any n + 1 points gives S without error, and cov(w) has
# the error of a sample. The geometric mean of cov(w) and cov(g)^-1 has the first property, and of all matrices S is the
# nearest to g = -S^-1 (w - m) in the mean, in units of S (as for nutpie's mass matrix).
#
# Warp-III (Meng & Schilling 2002): where the draws are skewed in z still, the density of z is replaced by the mean of
# itself and its mirror image, [p(z) + p(-z)] / 2, which has the same integral, and no skewness.

#: draws that are used: so many, or so many per number of the density where that is more.
_DRAWS, _PER_NUMBER = 4_000, 8
#: the fewest, in all and per number.
_FEWEST, _FEWEST_PER_NUMBER = 200, 4
#: a number is bent where its skewness is beyond so many standard errors of that of normal draws; and the density is
#: mirrored where the skewness of one is beyond this still.
_CERTAIN, _SKEWED = 5.0, 0.3
#: of the median and of both sides, by which a bend is found: standard normal, and the largest |tanh(a)|.
_SIDE, _STEEPEST = 1.5, 0.98


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
class _Bends:
    """x of w, one number by itself: centre, scale and a of each, (n,)."""

    centre: Array
    scale: Array
    a: Array

    @classmethod
    def of(cls, x: Array) -> _Bends:
        """By the median and both sides of draws (N, n); where they are not surely skewed, w is x in units of its sd."""
        low, middle, high = np.quantile(x, norm.cdf([-_SIDE, 0.0, _SIDE]), axis=0)
        # (high - middle) / (middle - low) is that of the equation above; s of sinh(s) = _SIDE.
        ratio, cosh = (high - middle) / (middle - low), np.hypot(1.0, _SIDE)
        steep = np.clip((ratio - 1.0) / (ratio + 1.0) * _SIDE / (cosh - 1.0), -_STEEPEST, _STEEPEST)
        surely = np.abs(skew(x)) > _CERTAIN * np.sqrt(6.0 / len(x))
        a = np.where(surely, np.arctanh(steep), 0.0)
        scale = np.where(surely, (high - low) / (2.0 * _SIDE * np.cosh(a)), x.std(0))
        return cls(np.where(surely, middle - scale * np.sinh(a), x.mean(0)), scale, a)

    def straightened(self, x: Array) -> Array:
        """w of x, (..., n)."""
        return np.sinh(np.arcsinh((x - self.centre) / self.scale) - self.a)

    def bent(self, w: Array) -> Array:
        """x of w, (..., n)."""
        return self.centre + self.scale * (np.cosh(self.a) * w + np.sinh(self.a) * np.hypot(1.0, w))

    def slope(self, w: Array) -> Array:
        """dx / dw, (..., n)."""
        return self.scale * (np.cosh(self.a) + np.sinh(self.a) * w / np.hypot(1.0, w))

    def gradient(self, w: Array, by_x: Array) -> Array:
        """Of the log density of w, from that of x, (..., n)."""
        slope = self.slope(w)
        return by_x * slope + self.scale * np.sinh(self.a) / np.hypot(1.0, w) ** 3 / slope


@dataclass(frozen=True)
class _Shape:
    """x of z ~ N(0, 1): x is bent, w = m + F z; F lower triangular."""

    bends: _Bends
    mean: Array
    factor: Array

    @classmethod
    def of(cls, x: Array, gradient: Array) -> _Shape:
        """That of a density with these gradients at draws, both (N, n)."""
        bends = _Bends.of(x)
        w = bends.straightened(x)
        g, n = bends.gradient(w, gradient), x.shape[1]
        values, vectors = eigh(np.cov(g.T).reshape(n, n))
        root = np.sqrt(values)
        middle = vectors.T @ np.cov(w.T).reshape(n, n) @ vectors * root[:, None] * root
        found, within = eigh(middle)
        half = vectors / root @ within * found**0.25
        covariance = half @ half.T
        return cls(bends, w.mean(0) + covariance @ g.mean(0), cholesky(covariance, lower=True))

    def standardised(self, x: Array) -> Array:
        """z of x, (..., n)."""
        w = self.bends.straightened(x) - self.mean
        z: Array = solve_triangular(self.factor, w.reshape(-1, len(self.mean)).T, lower=True).T
        return z.reshape(x.shape)

    def log_p(self, density: Evaluate, z: Array) -> Array:
        """Log density of z, (..., n) -> (...), from that of x; -inf where that is not a number."""
        w = self.mean + z @ self.factor.T
        values = np.array([density(x)[0] for x in self.bends.bent(w).reshape(-1, z.shape[-1])]).reshape(z.shape[:-1])
        return np.where(np.isnan(values), -np.inf, values) + self.log_volume(z)

    def log_volume(self, z: Array) -> Array:
        """log |dx / dz|, (..., n) -> (...)."""
        slope = self.bends.slope(self.mean + z @ self.factor.T)
        volume: Array = np.log(slope).sum(-1) + np.log(np.diag(self.factor)).sum()
        return volume


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
        shape = _Shape.of(parts[own].reshape(-1, n), known[own][1].reshape(-1, n))
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


def _estimate(density: Evaluate, shape: _Shape, x: Array, log_p: Array, rng: np.random.Generator) -> Evidence:
    """Log integral and its standard error, from draws x (chains, draws, n) and as many of a law of this shape."""
    z = shape.standardised(x)
    proposed = rng.standard_normal((z[..., 0].size, z.shape[-1]))
    at_draws, at_proposed = log_p + shape.log_volume(z), shape.log_p(density, proposed)
    if np.abs(skew(z.reshape(-1, z.shape[-1]))).max() > _SKEWED:
        at_draws, at_proposed = (
            np.logaddexp(log, shape.log_p(density, -at)) - np.log(2.0)
            for log, at in ((at_draws, z), (at_proposed, proposed))
        )
    return bridged(at_draws - _log_normal(z), at_proposed - _log_normal(proposed))


def _log_normal(z: Array) -> Array:
    """Log density of N(0, 1), (..., n) -> (...)."""
    log_q: Array = -0.5 * (z**2 + np.log(2.0 * np.pi)).sum(-1)
    return log_q


def bridged(of_p: Array, of_q: Array) -> Evidence:
    """Log Z and its standard error from log p - log q, at draws of p (chains, draws), and of a normalised q: (m,) where
    these are independent, else (chains, draws)."""
    n1, n2 = _effective(of_p), _effective(of_q)
    c = float(np.log(n1 / n2))

    def difference(r: float) -> float:
        return float(expit(of_q - r + c).mean() * n2 - expit(r - c - of_p).mean() * n1)

    finite = np.concatenate([of_p.reshape(-1), of_q[np.isfinite(of_q)]])
    margin = abs(c) + 50.0
    r = float(brentq(difference, finite.min() - margin, finite.max() + margin, xtol=1e-10))
    # Relative mean squared error (Frühwirth-Schnatter 2004), of draws that may depend on each other.
    squared = 0.0
    for part in (expit(of_q - r + c), expit(r - c - of_p)):
        squared += part.var() / (_effective(part) * part.mean() ** 2)
    return Evidence(r, float(np.sqrt(squared)))


def _effective(x: Array) -> float:
    """Number of draws that are independent, (m,), or of chains as many as those say as much as, (chains, draws)."""
    if x.ndim == 1:
        return float(len(x))
    known = np.maximum(x, x[np.isfinite(x)].min())
    return min(inference_data.effective_draws(known), float(x.size))
