"""Parameters and outcomes as an sbi estimator sees them: smooth inputs of order one; logs; positions of categories."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.features import linear, logarithmic
from hddm_sbi.likelihoods.likelihood import shift_of
from hddm_sbi.simulation import Parameter, Simulator
from hddm_sbi.types import Array


class EncodedOutcomes(NamedTuple):
    """Outcomes as an estimator sees them.

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
    nearly straight lines in one or the other. A shift is taken off the first outcome and not shown to the estimator.
    Continuous outcomes come first, positive ones as logarithms, standardised by location and spread (c,); then
    discrete ones as positions 0 ... sizes - 1. Counts reach up to sizes - 1.
    """

    simulator: Simulator
    location: tuple[float, ...]
    spread: tuple[float, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, simulator: Simulator, values: Array, theta: Array) -> Encoding:
        """The encoding that suits simulated outcomes (n, k) at theta (n, p). Counts may exceed the largest of them by a
        tenth."""
        n = sum(not o.discrete for o in simulator.outcomes)
        raw = cls(simulator, (0.0,) * n, (1.0,) * n, ())
        y = raw.encode(torch.as_tensor(values), torch.as_tensor(theta)).continuous.numpy()
        sizes = tuple(
            len(o.categories) or math.ceil(1.1 * values[:, k].max()) + 2
            for k, o in enumerate(simulator.outcomes)
            if o.discrete
        )
        spread = tuple(float(s) or 1.0 for s in y.std(0))
        return cls(simulator, tuple(float(m) for m in y.mean(0)), spread, sizes)

    @property
    def n_continuous(self) -> int:
        """Number of continuous outcomes."""
        return sum(not o.discrete for o in self.simulator.outcomes)

    @property
    def inputs(self) -> list[Parameter]:
        """Parameters that an estimator sees."""
        return [p for p in self.simulator.parameters if p.name != self.simulator.symmetries.shift]

    @property
    def width(self) -> int:
        """Number of an estimator's inputs."""
        return sum(len(_features(p, torch.zeros(1))) for p in self.inputs)

    def condition(self, theta: Tensor) -> Tensor:
        """theta (n, p) -> inputs of the estimator (n, width), between about -2 and 2 inside the box."""
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

    def decode(self, x: Tensor, theta: Tensor) -> Tensor:
        """What the estimator draws (n, k) -> outcomes (n, k)."""
        y = iter([x[:, i] * s + m for i, (m, s) in enumerate(zip(self.location, self.spread, strict=True))])
        positions = iter(x[:, self.n_continuous :].unbind(-1))
        values = []
        for k, outcome in enumerate(self.simulator.outcomes):
            value = next(positions if outcome.discrete else y)
            value = torch.exp(value) if outcome.kind == "positive" else value
            values.append(value + shift_of(self.simulator, theta) if k == 0 else value)
        return torch.stack(values, -1)

    def check(self, values: Array) -> None:
        """Raise InputError where a count is larger than any that was simulated."""
        discrete = [(k, o) for k, o in enumerate(self.simulator.outcomes) if o.discrete]
        for (k, outcome), size in zip(discrete, self.sizes, strict=True):
            beyond = np.flatnonzero(values[:, k] >= size)
            if beyond.size:
                raise InputError(
                    f"{outcome.name!r} is {values[beyond[0], k]:g} in row {beyond[0]} (0 = first), but the likelihood "
                    f"was trained on counts up to {size - 1}; train it on a box or prior that makes such counts."
                )


def _features(parameter: Parameter, x: Tensor) -> list[Tensor]:
    """A parameter; its logarithm as well where the box keeps clear of 0."""
    box = parameter.low, parameter.high
    return [linear(x, *box)] if parameter.low <= 0.0 else [linear(x, *box), logarithmic(x, *box)]
