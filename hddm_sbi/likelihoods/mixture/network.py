"""The learned part: reduced parameters -> choice probabilities and, per choice, a mixture over log decision time."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.card import check_sizes
from hddm_sbi.likelihoods.mixture.delayed_kernel import NARROW, SHORTEST
from hddm_sbi.likelihoods.mixture.kernel import log_densities
from hddm_sbi.likelihoods.mixture.operator import LOG_SDS
from hddm_sbi.likelihoods.mixture.reduction import Reduction

#: seconds; a finite stand-in for an infinite deadline.
_FOREVER = 1e30
#: log reduced time before which nothing happens, finite as gradients must be.
_NEVER = -1e3
#: reduced time before which nothing happens.
_SOON = 1e-12
#: a delay is short up to this share of a time or of the time scale; nodes and weights of the mean over it, on [0, 1].
_SHORT, _MOMENT = 0.05, 1e-6
_DELAY_NODES, _DELAY_WEIGHTS = (torch.from_numpy(x) / 2 for x in np.polynomial.legendre.leggauss(12))
_DELAY_NODES = _DELAY_NODES + 0.5
_GAUSS_3 = 0.5 * 0.7745966692414834
_LOG_2PI_HALF = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Architecture:
    """Sizes of the two perceptrons and of the mixture; location and spread standardise log reduced decision time."""

    components: int = 8
    hidden: int = 64
    depth: int = 2
    choice_hidden: int = 48
    choice_depth: int = 2
    location: float = -0.5
    spread: float = 1.1

    @property
    def scale(self) -> tuple[float, float, float]:
        """location, spread, and log spread, in single precision as the weights were trained."""
        return self.location, self.spread, float(torch.tensor(self.spread).log())

    def __post_init__(self) -> None:
        check_sizes({name: size for name, size in asdict(self).items() if name not in ("location", "spread")})
        if not (math.isfinite(self.location) and 0 < self.spread < math.inf):
            raise InputError(f"location must be finite and spread positive; got {self.location}, {self.spread}.")

    def weights_at_least(self, racing: bool) -> int:
        """How many weights a network has at least."""
        density = self.hidden * max(self.components, self.hidden * (self.depth - 1))
        return density if racing else density + self.choice_hidden**2 * (self.choice_depth - 1)

    def as_dict(self) -> dict[str, float]:
        """Plain numbers, for the card."""
        return asdict(self)


class Mixture(NamedTuple):
    """Mixture of normals over z, the coordinate of log reduced decision time, joint with the choice.

    log_weight: (..., k), log of choice probability times component weight. mean, log_sd: (..., k).
    """

    log_weight: Tensor
    mean: Tensor
    log_sd: Tensor

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(choice, z), z (...,) -> (...,)."""
        e = (z.unsqueeze(-1) - self.mean) * torch.exp(-self.log_sd)
        return torch.logsumexp(self.log_weight - self.log_sd - 0.5 * e * e, -1) - _LOG_2PI_HALF

    def log_prob_at(self, z: Tensor, row: Tensor, choice: Tensor) -> Tensor:
        """log p(choice, z), z (n,), by the mixture of this row and choice, (n,) each.

        In double precision and without gradients by a kernel, which copies no mixture.
        """
        if z.dtype != torch.float64 or z.requires_grad or self.mean.requires_grad:
            return self.take(row, choice).log_prob(z)
        log_p = torch.empty_like(z)
        parts = (part.flatten(0, 1) for part in self)
        arrays = (*parts, row * self.mean.shape[1] + choice, z, log_p)
        log_densities(*(x.contiguous().numpy() for x in arrays))
        return log_p

    def log_survival(self, z: Tensor) -> Tensor:
        """log P(choice, Z > z), z (...,) -> (...,)."""
        e = (z.unsqueeze(-1) - self.mean) * torch.exp(-self.log_sd)
        return torch.logsumexp(self.log_weight + torch.special.log_ndtr(-e), -1)

    def cdf(self, z: Tensor) -> Tensor:
        """P(choice, Z <= z), z (...,) -> (...,)."""
        e = (z.unsqueeze(-1) - self.mean) * torch.exp(-self.log_sd)
        return (torch.exp(self.log_weight) * torch.special.ndtr(e)).sum(-1)

    def log_between(self, low: Tensor, high: Tensor, width: Tensor) -> Tensor:
        """log P(choice, low < Z <= high), low < high, and how far apart these are, (...,) -> (...,)."""
        per_sd = torch.exp(-self.log_sd)
        a, b = ((z.unsqueeze(-1) - self.mean) * per_sd for z in (low, high))
        return torch.logsumexp(self.log_weight + _log_between(a, b, width.unsqueeze(-1) * per_sd), -1)

    def excess(self, t: Tensor) -> Tensor:
        """E[(exp Z - t)+; choice], for z = log reduced time: t (...,) of either sign -> (...,)."""
        sd = self.log_sd.exp()
        after = t.clamp(min=_SOON).unsqueeze(-1)
        e = (torch.log(after) - self.mean) / sd
        whole = torch.exp(self.mean + 0.5 * sd * sd) * torch.special.ndtr(sd - e) - after * torch.special.ndtr(-e)
        weight = torch.exp(self.log_weight)
        return (weight * whole).sum(-1) + (_SOON - t).clamp(min=0.0) * weight.sum(-1)

    def take(self, *index: Tensor) -> Mixture:
        """The mixtures at an index of the leading dimensions."""
        return Mixture(*(part[index] for part in self))


class MixtureNetwork(nn.Module):
    """Smooth perceptrons on the views of the reduced parameters.

    log P(choice) = log softmax of score(x_c), score = h0 + sum_j x_j h_j, x_c the model as that choice sees it: linear
    in the drift where the drift is large. p(z | choice) is a mixture of k normals with parameters a function of x_c.
    Of a race of independent accumulators there is no score: every choice has the mixture of its own finishing time, and
    p(t, c) = f_c(t) prod_{j != c} S_j(t).
    """

    def __init__(self, reduction: Reduction, architecture: Architecture) -> None:
        super().__init__()
        self.reduction: Reduction = reduction
        self.architecture = architecture
        n = 2 * len(reduction.names)
        k = architecture.components
        start = torch.cat([torch.zeros(k), torch.linspace(-1.5, 1.5, k), torch.full((k,), -0.4)])
        self.density = _perceptron(n, start, architecture.hidden, architecture.depth)
        if not reduction.racing:
            flat = torch.zeros(1 + len(reduction.names))
            self.score = _perceptron(n, flat, architecture.choice_hidden, architecture.choice_depth)

    def forward(self, views: Tensor) -> Mixture:
        """Views (n, c, r) -> a mixture for each of them, (n, c, k)."""
        weight, mean, log_sd = self.density(self.reduction.density_features(views)).chunk(3, -1)
        log_weight = torch.log_softmax(weight, -1)
        if not self.reduction.racing:
            log_weight = log_weight + self.log_choice(views).unsqueeze(-1)
        location, spread, log_spread = self.architecture.scale
        return Mixture(log_weight, location + spread * mean, log_sd.clamp(*LOG_SDS) + log_spread)

    def log_choice(self, views: Tensor) -> Tensor:
        """Log choice probabilities, (n, n_choices, r) -> (n, n_choices)."""
        h = self.score(self.reduction.choice_features(views))
        return torch.log_softmax(h[..., 0] + (h[..., 1:] * views).sum(-1), -1)

    def mixture(self, theta: Tensor) -> Mixture:
        """Mixture over log reduced decision time for every row of theta and every choice, (n, n_choices, k)."""
        mixture: Mixture = self(self.reduction.views(theta))
        return mixture

    def log_prob(self, rt: Tensor, choice: Tensor, theta: Tensor, mixture: Mixture, row: Tensor) -> Tensor:
        """log p(rt, choice) per outcome: rt, choice (n,), theta (n, p), mixture (m, n_choices, k), row (n,) -> (n,).

        row: which of the mixtures is that of theta.
        """
        y, log_slope, inside = self._log_time(rt, theta)
        rows = torch.arange(len(rt))
        if self.reduction.delayed:
            chosen = mixture.take(row, choice)
            delay = self.reduction.delay(theta).clamp(min=SHORTEST)
            before, _, began = self._log_time(rt - delay, theta)
            before = torch.where(began, before[rows, choice], _NEVER)
            # The difference of two logarithms would be rounding where the delay is short.
            part = torch.where(began, delay / torch.where(began, rt - self.reduction.shift(theta), 1.0), 0.5)
            width = torch.where(began, -torch.log1p(-part), y[rows, choice] - _NEVER)
            log_p = chosen.log_between(before, y[rows, choice], width) - torch.log(delay)
            return torch.where(inside, log_p, -torch.inf)
        z, log_stretch = self.reduction.times.coordinate(y)
        log_p = mixture.log_prob_at(z[rows, choice], row, choice) + log_stretch[rows, choice] + log_slope
        if self.reduction.racing:
            survival = mixture.take(row).log_survival(z)
            log_p = log_p + survival.sum(-1) - survival[rows, choice]
        return torch.where(inside, log_p, -torch.inf)

    def log_survival(self, t: Tensor, theta: Tensor, mixture: Mixture) -> Tensor:
        """log P(rt > t): t (n,), theta (n, p), mixture of those rows -> (n,); 0 up to the shift.

        Under a delay it is a difference of two: rounding, where the probability is small.
        """
        if self.reduction.delayed:
            return torch.log(self._delayed_survival(t, theta, mixture).sum(-1)).clamp(max=0.0)
        y, _, inside = self._log_time(t, theta)
        survival = mixture.log_survival(self.reduction.times.coordinate(y)[0])
        total = (survival.sum(-1) if self.reduction.racing else torch.logsumexp(survival, -1)).clamp(max=0.0)
        return torch.where(inside, total, torch.where(t > self.reduction.shift(theta), -torch.inf, 0.0))

    def cdf(self, t: Tensor, choice: Tensor, theta: Tensor, mixture: Mixture) -> Tensor:
        """P(choice, rt <= t) per row, where the choices do not race: t, choice (n,), theta (n, p) -> (n,)."""
        rows = torch.arange(len(t))
        probability = torch.exp(torch.logsumexp(mixture.log_weight, -1))[rows, choice]
        if self.reduction.delayed:
            return (probability - self._delayed_survival(t, theta, mixture)[rows, choice]).clamp(0.0, 1.0)
        y, _, inside = self._log_time(t, theta)
        z, _ = self.reduction.times.coordinate(y)
        outside = torch.where(t > self.reduction.shift(theta), probability, 0.0)
        return torch.where(inside, mixture.take(rows, choice).cdf(z[rows, choice]), outside).clamp(0.0, 1.0)

    def _delayed_survival(self, t: Tensor, theta: Tensor, mixture: Mixture) -> Tensor:
        """P(choice, rt > t) under a uniform delay, (n, n_choices): the mean of P(choice, T > d) over d in [d - D, d].

        With T the decision time, int_d^inf P(T > u) du = E[(T - d)+], of a lognormal in closed form. Under a delay that
        is short against d, the difference of two would be rounding, and the mean is summed by Gauss-Legendre.
        """
        log_scale = self.reduction.log_time_scale(theta).unsqueeze(-1)
        scale, delay = torch.exp(log_scale), self.reduction.delay(theta).clamp(min=SHORTEST).unsqueeze(-1)
        d = (t - self.reduction.shift(theta)).clamp(max=_FOREVER).unsqueeze(-1)
        later, sooner = (mixture.excess(u / scale) * scale for u in (d, d - delay))
        short = (delay < _SHORT * d) | (delay < _MOMENT * scale)
        # The untaken branch must stay finite, or its gradient would be nan.
        at = torch.where(short, d, delay / _SHORT).unsqueeze(-1) - delay.unsqueeze(-1) * _DELAY_NODES
        y = (torch.log(at.clamp(min=_SOON)) - log_scale.unsqueeze(-1)).expand(-1, self.reduction.n_choices, -1)
        each = Mixture(*(part.unsqueeze(-2) for part in mixture)).log_survival(y)
        return torch.where(short, (torch.exp(each) * _DELAY_WEIGHTS).sum(-1), (sooner - later) / delay).clamp(min=0.0)

    def sample(
        self, theta: Tensor, mixture: Mixture, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """One trial per row of theta (n, p), with the mixture of those rows: rt (n,) and choice (n,)."""
        n, choices, k = mixture.mean.shape
        weight = mixture.log_weight.exp()
        if self.reduction.racing:
            component = torch.multinomial(weight.reshape(-1, k), 1, generator=generator).reshape(n, choices)
            picked = mixture.take(torch.arange(n)[:, None], torch.arange(choices), component)
            normal = torch.randn(n, choices, generator=generator, dtype=theta.dtype)
            z = picked.mean + picked.log_sd.exp() * normal
            decision, choice = self.reduction.time(self.reduction.times.log_time_at(z), theta).min(-1)
        else:
            flat = torch.multinomial(weight.reshape(n, -1), 1, generator=generator)[:, 0]
            choice = flat // k
            picked = mixture.take(torch.arange(n), choice, flat % k)
            z = picked.mean + picked.log_sd.exp() * torch.randn(n, generator=generator, dtype=theta.dtype)
            y = self.reduction.times.log_time_at(z).unsqueeze(-1).expand(-1, choices)
            decision = self.reduction.time(y, theta)[:, 0]
        delay = self.reduction.delay(theta)
        if self.reduction.delayed:
            delay = delay * torch.rand(n, generator=generator, dtype=theta.dtype)
        return decision + delay + self.reduction.shift(theta), choice

    def _log_time(self, t: Tensor, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log reduced time y of t as each choice sees it (n, n_choices), log dy/dt, and where t lies between the shift
        and the end of all decisions (n,)."""
        d = t - self.reduction.shift(theta)
        closing = self.reduction.clock(theta)[:, 0]
        inside = (d > 0) & (d * closing < 1.0)
        # The untaken branch must stay finite, or its gradient would be nan.
        d = torch.where(inside, d, torch.where(closing > 0, 1e-3, 1.0)).clamp(max=_FOREVER)
        y, log_slope = self.reduction.log_time(d.unsqueeze(-1), theta, self.reduction.log_time_scales(theta))
        return y, log_slope[:, 0], inside


def _log_between(low: Tensor, high: Tensor, width: Tensor) -> Tensor:
    """log[Phi(high) - Phi(low)], low < high and their distance, without cancellation: see `delayed_kernel.py`."""
    narrow = width < NARROW
    # So late that a delay is less than rounding, the density is 0, with gradient 0.
    middle, width = 0.5 * (low + high), torch.where(narrow, width.clamp(min=_SOON * _SOON), 1.0)
    reach = _GAUSS_3 * width
    near = torch.where(narrow, middle, 0.0)
    average = (8.0 + 10.0 * torch.exp(-0.5 * reach * reach) * torch.cosh(reach * near)) / 18.0
    by_quadrature = torch.log(width * average) - 0.5 * near * near - _LOG_2PI_HALF
    flipped = low + high < 0.0
    a, b = torch.where(flipped, -high, low), torch.where(flipped, -low, high)
    tail, beyond = torch.special.log_ndtr(-a), torch.special.log_ndtr(torch.where(narrow, -a - 1.0, -b))
    return torch.where(narrow, by_quadrature, tail + torch.log1p(-torch.exp(beyond - tail)))


def _perceptron(n_in: int, start: Tensor, hidden: int, depth: int) -> nn.Sequential:
    """A smooth perceptron whose outputs start near `start`."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(n_in if i == 0 else hidden, hidden), nn.SiLU()]
    last = nn.Linear(hidden, len(start))
    with torch.no_grad():
        last.weight.mul_(0.1)
        last.bias.copy_(start)
    return nn.Sequential(*layers, last)
