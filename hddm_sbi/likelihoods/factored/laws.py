"""Laws of one or several outcomes, whose numbers a perceptron gives: categories, counts, continuous outcomes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from hddm_sbi.numerics import student_intervals, student_tails

#: no component is narrower than exp(-_NARROW), in the units of encoded outcomes.
_NARROW = 8.0
#: the heaviest tails have so many degrees of freedom, and at first there are e^1.5 more.
_FEWEST_DEGREES, _LOG_DEGREES = 0.5, 1.5
#: the largest skewness, at which one tail is e^4 times as long as the other; sds over which a law bends into its tails.
_SKEWEST, _REACH = 2.0, 2.0


@dataclass(frozen=True)
class Law(ABC):
    """log p(x | numbers): numbers that depend on what is given, then a few that are the same everywhere."""

    @property
    @abstractmethod
    def start(self) -> Tensor:
        """The numbers with which training begins."""

    @property
    def n_constant(self) -> int:
        """How many of the last numbers are the same everywhere."""
        return 0

    @abstractmethod
    def log_prob(self, numbers: Tensor, x: Tensor) -> Tensor:
        """numbers (..., width), x (..., d) -> (...)."""

    @abstractmethod
    def sample(self, numbers: Tensor) -> Tensor:
        """numbers (n, width) -> x (n, d), by torch's global generator."""


@dataclass(frozen=True)
class DiscreteLaw(Law):
    """A law of the positions 0 ... size - 1."""

    size: int

    @abstractmethod
    def log_table(self, numbers: Tensor) -> Tensor:
        """Log probability of every position, (..., width) -> (..., size)."""

    def sample(self, numbers: Tensor) -> Tensor:
        """numbers (n, width) -> positions (n, 1)."""
        return torch.multinomial(self.log_table(numbers).exp(), 1).to(numbers.dtype)


@dataclass(frozen=True)
class Categories(DiscreteLaw):
    """Any probabilities."""

    @property
    def start(self) -> Tensor:
        """All of them alike."""
        return torch.zeros(self.size)

    def log_table(self, numbers: Tensor) -> Tensor:
        """Numbers are log odds."""
        return numbers.log_softmax(-1)

    def log_prob(self, numbers: Tensor, x: Tensor) -> Tensor:
        """numbers (..., size), positions (..., 1) -> (...)."""
        return self.log_table(numbers).gather(-1, x.long()).squeeze(-1)


@dataclass(frozen=True)
class Counts(DiscreteLaw):
    """A share of zeros, and a mixture of normals of a power of the count.

    Count x lies between the powers of x - 1/3 and x + 2/3, in units of `size`; the first and the last count have what
    lies beyond them. To the power 2/3, at which the power starts, Poisson counts of any rate are next to symmetric
    (Anscombe 1953); overdispersed counts are to a smaller power, and counts with a limit to a larger one.
    """

    components: int

    @property
    def start(self) -> Tensor:
        """Components side by side."""
        k, most = self.components, math.sqrt(self.size)
        means = most * (torch.arange(k) + 1.0) / (k + 1)
        return torch.cat([torch.zeros(k), means, torch.zeros(k), torch.tensor([-3.0, math.log(2.0 / 3.0)])])

    @property
    def n_constant(self) -> int:
        """The logarithm of the power."""
        return 1

    def log_prob(self, numbers: Tensor, x: Tensor) -> Tensor:
        """numbers (..., 3 k + 2), counts (..., 1) -> (...)."""
        weight, mean, width, zeros, log_power = numbers.split([self.components] * 3 + [1, 1], -1)
        per_sd, first, last = torch.exp(_bounded(-width)), x == 0, x == self.size - 1
        # The untaken branches must stay finite, or their gradients would be nan.
        below = (self._power(torch.where(first, 1.0, x), log_power) - mean) * per_sd
        above = (self._power(x + 1.0, log_power) - mean) * per_sd
        below, above = torch.where(first, -torch.inf, below), torch.where(last, torch.inf, above)
        # Differences are taken in the smaller tail, where nothing cancels.
        right = below > 0
        low, high = torch.where(right, -above, below), torch.where(right, -below, above)
        mass = (weight.softmax(-1) * (_normal_cdf(high) - _normal_cdf(low))).sum(-1, keepdim=True)
        share = torch.sigmoid(zeros)
        mass = (1.0 - share) * mass + torch.where(first, share, 0.0)
        return torch.log(mass.clamp(min=torch.finfo(mass.dtype).tiny)).squeeze(-1)

    def _power(self, x: Tensor, log_power: Tensor) -> Tensor:
        """Between counts x - 1 and x: at a power of 1/2 the root, whose sd is about 1/2 of Poisson counts."""
        return math.sqrt(self.size) * torch.exp(torch.exp(log_power) * torch.log((x - 1.0 / 3.0) / self.size))

    def log_table(self, numbers: Tensor) -> Tensor:
        """(..., 3 k + 2) -> (..., size)."""
        counts = torch.arange(self.size, dtype=numbers.dtype, device=numbers.device).unsqueeze(-1)
        return self.log_prob(numbers.unsqueeze(-2), counts)


@dataclass(frozen=True)
class Mixture(Law):
    """A mixture of skewed Student t distributions of several continuous outcomes, each regressed on those before.

    With e = x - mean, u_i = (e_i + sum_{j < i} o_ij e_j) / s_i and q = |z|², a component is t_nu(q) prod (dz_i / du_i)
    / s_i. Here z_i = r sinh(asinh(u_i / r) + skew_i) - r sinh skew_i (Jones & Pewsey 2009, whose r is 1): about
    u_i + skew_i u_i² / 2r within r sds, and straight far from it, so that heavy tails stay so. With many degrees of
    freedom nu and without skewness a component is normal.
    """

    outcomes: int
    components: int

    @property
    def start(self) -> Tensor:
        """Components side by side along every outcome, of width 1."""
        start = torch.zeros(self.components, self._each)
        if self.components > 1:
            start[:, 1 : 1 + self.outcomes] = torch.linspace(-1.5, 1.5, self.components).unsqueeze(-1)
        symmetric = torch.zeros(self.components * self.outcomes)
        return torch.cat([start.reshape(-1), torch.full((self.components,), _LOG_DEGREES), symmetric])

    @property
    def n_constant(self) -> int:
        """The degrees of freedom and the skewness of each component: what tails are like is hardly told by a few
        simulations."""
        return self.components * (1 + self.outcomes)

    @property
    def _each(self) -> int:
        """How many numbers a component has: weight, means, widths, regressions."""
        return 1 + 2 * self.outcomes + self.outcomes * (self.outcomes - 1) // 2

    def _parts(self, numbers: Tensor) -> tuple[Tensor, ...]:
        d, k = self.outcomes, self.components
        flat, log_degrees, skew = numbers.split([k * self._each, k, k * d], -1)
        each, skew = flat.unflatten(-1, (k, self._each)), skew.unflatten(-1, (k, d)).clamp(-_SKEWEST, _SKEWEST)
        degrees = _FEWEST_DEGREES + torch.exp(log_degrees.clamp(max=12.0))
        mean, width = each[..., 1 : 1 + d], each[..., 1 + d : 1 + 2 * d]
        return each[..., 0].log_softmax(-1), degrees, skew, mean, _bounded(-width), each[..., 1 + 2 * d :]

    def log_prob(self, numbers: Tensor, x: Tensor) -> Tensor:
        """numbers (..., width), x (..., d) -> (...)."""
        log_weight, degrees, skew, mean, log_per_sd, slopes = self._parts(numbers)
        e = x.unsqueeze(-2) - mean
        square, log_slope = torch.zeros_like(log_weight), log_per_sd.sum(-1)
        for i in range(self.outcomes):
            u = e[..., i]
            for j, slope in enumerate(range(i * (i - 1) // 2, i * (i + 1) // 2)):
                u = u + slopes[..., slope] * e[..., j]
            z, slope_of_z = _skewed(u * torch.exp(log_per_sd[..., i]), skew[..., i])
            square, log_slope = square + torch.square(z), log_slope + torch.log(slope_of_z)
        half = 0.5 * (degrees + self.outcomes)
        scale = torch.lgamma(half) - torch.lgamma(0.5 * degrees) - 0.5 * self.outcomes * torch.log(math.pi * degrees)
        log_t = scale - half * torch.log1p(square / degrees)
        return torch.logsumexp(log_weight + log_t + log_slope, -1)

    def log_mass(self, numbers: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Log probability that a single outcome lies in (low, high], which may be infinite: numbers (n, width), low and
        high (n, 1) -> (n,). Without a gradient by the degrees of freedom, which no numbers here depend on."""
        if not len(numbers):
            return numbers.sum(-1)
        log_weight, degrees, *parts = self._parts(numbers)
        ends = [_standardised(x, *(part.squeeze(-1) for part in parts[:3])) for x in (low, high)]
        parts = log_weight + student_intervals(*ends, student_tails(degrees[0]))[0]
        some = (parts > -torch.inf).any(-1, keepdim=True)
        # The untaken branch must stay finite, or its gradient would be nan.
        return torch.where(some, torch.logsumexp(torch.where(some, parts, 0.0), -1, keepdim=True), -torch.inf)[:, 0]

    def sample(self, numbers: Tensor) -> Tensor:
        """numbers (n, width) -> x (n, d)."""
        log_weight, *parts = self._parts(numbers)
        chosen = torch.multinomial(log_weight.exp(), 1).squeeze(-1)
        degrees, skew, mean, log_per_sd, slopes = (part[torch.arange(len(numbers)), chosen] for part in parts)
        # A t variate is a normal one over the root of a mean square.
        stretch = torch.sqrt(degrees / torch.distributions.Chi2(degrees).sample())
        u = _unskewed(torch.randn_like(mean) * stretch.unsqueeze(-1), skew) * torch.exp(-log_per_sd)
        e: list[Tensor] = []
        for i in range(self.outcomes):
            first = i * (i - 1) // 2
            e.append(u[:, i] - sum(slopes[:, first + j] * e[j] for j in range(i)))
        return mean + torch.stack(e, -1)


def _bounded(log_per_sd: Tensor) -> Tensor:
    """Itself near 0, and never above the largest."""
    return _NARROW * torch.tanh(log_per_sd / _NARROW)


def _skewed(u: Tensor, skew: Tensor) -> tuple[Tensor, Tensor]:
    """r sinh(asinh(u / r) + skew) - r sinh skew, r = _REACH; and its derivative by u."""
    grown, shrunk, root = 0.5 * torch.exp(skew), 0.5 * torch.exp(-skew), torch.sqrt(_REACH**2 + torch.square(u))
    even, odd = grown + shrunk, grown - shrunk
    return even * u + odd * (root - _REACH), even + odd * u / root


def _unskewed(z: Tensor, skew: Tensor) -> Tensor:
    """u of `_skewed`."""
    return _REACH * torch.sinh(torch.asinh(z / _REACH + torch.sinh(skew)) - skew)


def _standardised(x: Tensor, skew: Tensor, mean: Tensor, log_per_sd: Tensor) -> Tensor:
    """x in the coordinate of the distribution of every component; an infinite x is infinite there."""
    known = torch.isfinite(x)
    u = (torch.where(known, x, 0.0) - mean) * torch.exp(log_per_sd)
    return torch.where(known, _skewed(u, skew)[0], x)


def _normal_cdf(z: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-math.sqrt(0.5) * z)
