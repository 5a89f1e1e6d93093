"""Parameters and outcomes as a network sees them: smooth inputs of order one; logs; positions of categories."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hddm_sbi.errors import InputError, TableWarning, name_rows
from hddm_sbi.likelihoods.features import linear, logarithmic
from hddm_sbi.likelihoods.likelihood import shift_of
from hddm_sbi.simulation import Parameter, Simulator
from hddm_sbi.types import Array

#: from the lower to the upper quartile of a normal distribution, in sds.
_QUARTILES = 1.349


class EncodedOutcomes(NamedTuple):
    """Outcomes as a network sees them.

    continuous (n, c), discrete (n, d); log_stretch (n,): log of how much the continuous ones are stretched, -inf where
    an outcome cannot be, as at or before the shift.
    """

    continuous: Tensor
    discrete: Tensor
    log_stretch: Tensor


@dataclass(frozen=True)
class Encoding:
    """The coordinates in which a simulator's likelihood is learned.

    Parameters enter at the scale of their box and, where they are positive, as logarithms too: log probabilities are
    nearly straight lines in one or the other. A shift is taken off the first outcome and not shown to the network.
    Continuous outcomes come first, positive ones as logarithms, standardised by location and spread (c,); then
    discrete ones as positions 0 ... sizes - 1. Counts reach up to sizes - 1. reach (c, 2): the smallest and the largest
    simulated value of each continuous outcome, in its own unit.
    """

    simulator: Simulator
    location: tuple[float, ...]
    spread: tuple[float, ...]
    sizes: tuple[int, ...]
    reach: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, simulator: Simulator, values: Array, theta: Array) -> Encoding:
        """The encoding that suits simulated outcomes (n, k) at theta (n, p). Counts may exceed the largest of them by a
        tenth."""
        n = sum(not o.discrete for o in simulator.outcomes)
        raw = cls(simulator, (0.0,) * n, (1.0,) * n, (), ())
        y = raw.encode(torch.as_tensor(values), torch.as_tensor(theta)).continuous.numpy()
        sizes = tuple(
            len(o.categories) or math.ceil(1.1 * values[:, k].max()) + 2
            for k, o in enumerate(simulator.outcomes)
            if o.discrete
        )
        # Heavy tails decide means and sds, not quartiles; these are equal where most outcomes are.
        low, middle, high = np.quantile(y, [0.25, 0.5, 0.75], axis=0) if n else np.zeros((3, 0))
        spread = tuple(float(s) or float(sd) or 1.0 for s, sd in zip((high - low) / _QUARTILES, y.std(0), strict=True))
        continuous = values[:, [not o.discrete for o in simulator.outcomes]]
        reach = tuple((float(a), float(b)) for a, b in zip(continuous.min(0), continuous.max(0), strict=True))
        return cls(simulator, tuple(float(m) for m in middle), spread, sizes, reach)

    @classmethod
    def from_dict(cls, simulator: Simulator, numbers: dict[str, Any]) -> Encoding:
        """The encoding on a card; its entries are taken out of `numbers`."""
        location, spread = (tuple(float(x) for x in numbers.pop(name)) for name in ("location", "spread"))
        sizes = tuple(int(x) for x in numbers.pop("sizes"))
        return cls(simulator, location, spread, sizes, tuple((float(a), float(b)) for a, b in numbers.pop("reach")))

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for the card."""
        return {name: getattr(self, name) for name in ("location", "spread", "sizes", "reach")}

    @property
    def n_continuous(self) -> int:
        """Number of continuous outcomes."""
        return sum(not o.discrete for o in self.simulator.outcomes)

    @property
    def inputs(self) -> list[Parameter]:
        """Parameters that a network sees."""
        return [p for p in self.simulator.parameters if p.name != self.simulator.symmetries.shift]

    @property
    def width(self) -> int:
        """Number of a network's inputs."""
        return sum(len(_features(p, torch.zeros(1))) for p in self.inputs)

    def condition(self, theta: Tensor) -> Tensor:
        """theta (n, p) -> inputs of the network (n, width), between about -2 and 2 inside the box."""
        columns = dict(zip(self.simulator.names, theta.unbind(-1), strict=True))
        return torch.stack([x for p in self.inputs for x in _features(p, columns[p.name])], -1)

    def encode(self, values: Tensor, theta: Tensor) -> EncodedOutcomes:
        """Outcomes (n, k) at theta (n, p)."""
        continuous, discrete, log_stretch = [], [], torch.zeros_like(theta[:, 0])
        for k, outcome in enumerate(self.simulator.outcomes):
            x = values[:, k] - shift_of(self.simulator, theta) if k == 0 else values[:, k]
            if outcome.discrete:
                discrete.append(x)
            elif outcome.kind == "positive":
                inside = x > 0
                # The untaken branch must stay finite, or its gradient would be nan.
                y = torch.log(torch.where(inside, x, 1.0))
                log_stretch = log_stretch + torch.where(inside, -y, -torch.inf)
                continuous.append(y)
            else:
                continuous.append(x)
        standard = [(y - m) / s for y, m, s in zip(continuous, self.location, self.spread, strict=True)]
        none = values[:, :0]
        return EncodedOutcomes(
            torch.stack(standard, -1) if standard else none,
            torch.stack(discrete, -1) if discrete else none,
            log_stretch - sum(map(math.log, self.spread)),
        )

    def encode_time(self, rt: Tensor, theta: Tensor) -> Tensor:
        """Response times (n,) of a decision model, which may be inf, at theta (n, p): (n,), -inf up to the shift."""
        x = rt - shift_of(self.simulator, theta)
        known = (x > 0.0) & (x < torch.inf)
        # The untaken branch must stay finite, or its gradient would be nan.
        y = (torch.log(torch.where(known, x, 1.0)) - self.location[0]) / self.spread[0]
        return torch.where(known, y, torch.where(x > 0.0, torch.inf, -torch.inf))

    def decode(self, x: Tensor, theta: Tensor) -> Tensor:
        """What the network draws (n, k) -> outcomes (n, k)."""
        y = iter([x[:, i] * s + m for i, (m, s) in enumerate(zip(self.location, self.spread, strict=True))])
        positions = iter(x[:, self.n_continuous :].unbind(-1))
        values = []
        for k, outcome in enumerate(self.simulator.outcomes):
            value = next(positions if outcome.discrete else y)
            value = torch.exp(value) if outcome.kind == "positive" else value
            values.append(value + shift_of(self.simulator, theta) if k == 0 else value)
        return torch.stack(values, -1)

    def check(self, values: Array) -> None:
        """Raise InputError where a count is larger than any that was simulated, and warn where another outcome is."""
        discrete = [(k, o) for k, o in enumerate(self.simulator.outcomes) if o.discrete]
        for (k, outcome), size in zip(discrete, self.sizes, strict=True):
            beyond = np.flatnonzero(values[:, k] >= size)
            if beyond.size:
                raise InputError(
                    f"{outcome.name!r} is {values[beyond[0], k]:g} in row {beyond[0]} (0 = first), but the likelihood "
                    f"was trained on counts up to {size - 1}; train it on a box or prior that makes such counts."
                )
        continuous = [(k, o) for k, o in enumerate(self.simulator.outcomes) if not o.discrete]
        for (k, outcome), (low, high) in zip(continuous, self.reach, strict=True):
            known = np.isfinite(values[:, k])
            beyond = np.flatnonzero(known & ((values[:, k] < low) | (values[:, k] > high)))
            if beyond.size:
                warnings.warn(
                    f"{outcome.name!r} is {values[beyond[0], k]:.4g} in {name_rows(beyond.tolist())} (0 = first), "
                    f"beyond all that was simulated for this likelihood, {low:.4g} to {high:.4g}; what it says of such "
                    "outcomes is guessed. See whether they are right, or train on more simulations or a wider box.",
                    TableWarning,
                    stacklevel=2,
                )


def _features(parameter: Parameter, x: Tensor) -> list[Tensor]:
    """A parameter; its logarithm as well where the box keeps clear of 0."""
    box = parameter.low, parameter.high
    return [linear(x, *box)] if parameter.low <= 0.0 else [linear(x, *box), logarithmic(x, *box)]
