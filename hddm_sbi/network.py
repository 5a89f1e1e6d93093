"""The learned part: reduced parameters -> choice probabilities and, per choice, a mixture over log decision time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hddm_sbi.errors import InputError
from hddm_sbi.simulator import Simulator

_LOG_2PI_HALF = 0.9189385332046727


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

    def as_dict(self) -> dict[str, float]:
        """Plain numbers, for the card."""
        return asdict(self)


class Mixture(NamedTuple):
    """Mixture of normals over y = log reduced decision time, joint with the choice.

    log_weight: (..., k), log of choice probability times component weight. mean, log_sd: (..., k).
    """

    log_weight: Tensor
    mean: Tensor
    log_sd: Tensor

    def log_prob(self, y: Tensor) -> Tensor:
        """log p(choice, y), y (...,) -> (...,)."""
        e = (y.unsqueeze(-1) - self.mean) * torch.exp(-self.log_sd)
        return torch.logsumexp(self.log_weight - self.log_sd - 0.5 * e * e, -1) - _LOG_2PI_HALF


class Reduction:
    """A model's symmetries at work: theta -> what the network still has to learn.

    With b the scale parameter: p(t, c; theta) = b^-q p(t / b^q, c; theta', 1), the shift is taken off t, and the second
    choice is the first one of the reflected model. Reduced parameters are all but shift and scale, times b^power.
    """

    def __init__(self, simulator: Simulator) -> None:
        symmetries = simulator.symmetries
        if len(simulator.choices) != 2 or not symmetries.negated + symmetries.complemented:
            raise InputError(
                f"{simulator.name!r} cannot be reduced: expected two choices that mirror each other (`negated`, "
                "`complemented` in its Symmetries)."
            )
        self.symmetries = symmetries
        self.names = [name for name in simulator.names if name not in (symmetries.shift, symmetries.scale)]
        self._columns = {name: column for column, name in enumerate(simulator.names)}
        self._half_range = {
            p.name: max(abs(p.low), abs(p.high)) * self._largest_scale(simulator, p.name) for p in simulator.parameters
        }

    def _largest_scale(self, simulator: Simulator, name: str) -> float:
        power = self.symmetries.scale_powers.get(name, 0.0)
        if self.symmetries.scale is None or power == 0.0:
            return 1.0
        low, high = simulator.box[self.symmetries.scale]
        return max(low**power, high**power)

    def shift(self, theta: Tensor) -> Tensor:
        """Non-decision time of every row of theta, (n,)."""
        return self._column(theta, self.symmetries.shift, 0.0)

    def log_time_scale(self, theta: Tensor) -> Tensor:
        """Log of the factor by which reduced time is stretched, (n,): q log b."""
        return self.symmetries.time_power * torch.log(self._column(theta, self.symmetries.scale, 1.0))

    def reduce(self, theta: Tensor) -> Tensor:
        """Reduced parameters (n, r), in the order of `names`."""
        scale = self._column(theta, self.symmetries.scale, 1.0)
        return torch.stack(
            [theta[:, self._columns[n]] * scale ** self.symmetries.scale_powers.get(n, 0.0) for n in self.names], -1
        )

    def by_choice(self, reduced: Tensor) -> Tensor:
        """(n, r) -> (n, 2, r): the reduced model itself for the first choice, its mirror image for the second."""
        mirrored = []
        for column, name in enumerate(self.names):
            x = reduced[:, column]
            mirrored.append(
                -x if name in self.symmetries.negated else 1 - x if name in self.symmetries.complemented else x
            )
        return torch.stack([reduced, torch.stack(mirrored, -1)], 1)

    def choice_features(self, reduced: Tensor) -> Tensor:
        """Smooth inputs that level off: far out, the score goes on linearly in the parameter itself."""
        return self._features(reduced, lambda name, x: [torch.tanh(x), torch.tanh(0.25 * x)])

    def density_features(self, reduced: Tensor) -> Tensor:
        """Smooth inputs of order one, even in the parameters whose sign does not matter once the choice is known."""
        return self._features(reduced, self._spread)

    def _spread(self, name: str, x: Tensor) -> list[Tensor]:
        if name in self.symmetries.even_given_choice:
            # Decision times shrink like 1 / |x| where the drift dominates.
            return [torch.log1p(x * x) - 1.5, 2.0 * torch.sqrt(1.0 + x * x) / self._half_range[name] - 1.0]
        return [2.0 * x / self._half_range[name], torch.asinh(x)]

    def _features(self, reduced: Tensor, unbounded: Callable[[str, Tensor], list[Tensor]]) -> Tensor:
        features = []
        for column, name in enumerate(self.names):
            x = reduced[..., column]
            complemented = name in self.symmetries.complemented
            features += [4.0 * (x - 0.5), torch.log(x) + 0.8] if complemented else unbounded(name, x)
        return torch.stack(features, -1)

    def _column(self, theta: Tensor, name: str | None, default: float) -> Tensor:
        return torch.full_like(theta[:, 0], default) if name is None else theta[:, self._columns[name]]


class MixtureNetwork(nn.Module):
    """Two smooth perceptrons on the reduced parameters.

    log P(choice) = log softmax of score(x_c), score = h0 + sum_j x_j h_j, x_c the model as that choice sees it: linear
    in the drift where the drift is large. p(y | choice) is a mixture of k normals with parameters a function of x_c.
    """

    def __init__(self, reduction: Reduction, architecture: Architecture) -> None:
        super().__init__()
        self.reduction: Reduction = reduction
        self.architecture = architecture
        n = 2 * len(reduction.names)
        k = architecture.components
        start = torch.cat([torch.zeros(k), torch.linspace(-1.5, 1.5, k), torch.full((k,), -0.4)])
        self.density = _perceptron(n, start, architecture.hidden, architecture.depth)
        flat = torch.zeros(1 + len(reduction.names))
        self.score = _perceptron(n, flat, architecture.choice_hidden, architecture.choice_depth)

    def forward(self, reduced: Tensor) -> Mixture:
        """Reduced parameters (n, r) -> mixture for every choice, (n, 2, k)."""
        by_choice = self.reduction.by_choice(reduced)
        log_choice = self.log_choice(by_choice)
        weight, mean, log_sd = self.density(self.reduction.density_features(by_choice)).chunk(3, -1)
        log_weight = torch.log_softmax(weight, -1) + log_choice.unsqueeze(-1)
        spread = self.architecture.spread
        return Mixture(
            log_weight,
            self.architecture.location + spread * mean,
            log_sd.clamp(-6.0, 3.0) + float(torch.tensor(spread).log()),
        )

    def log_choice(self, by_choice: Tensor) -> Tensor:
        """Log choice probabilities, (n, 2, r) -> (n, 2)."""
        h = self.score(self.reduction.choice_features(by_choice))
        return torch.log_softmax(h[..., 0] + (h[..., 1:] * by_choice).sum(-1), -1)


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
