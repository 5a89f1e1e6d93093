"""How networks are fitted: SOAP or Adam on a cosine schedule, and the mean of late weights."""

import copy
import math
from typing import Generic, Literal, TypeVar

import torch
from torch import nn

Net = TypeVar("Net", bound=nn.Module)
OptimizerName = Literal["soap", "adam"]

#: the norm that gradients are cut to.
_LARGEST_GRADIENT = 5.0


class Descent(Generic[Net]):
    """Steps down a loss; `average` is the exponential mean of the weights over the second half of them.

    network: that is fitted. steps: that will be made. learning_rate: the largest on the schedule. optimizer: Adam, or
    SOAP (Vyas et al. 2024), which is Adam in the eigenbasis of Shampoo's preconditioner (docs/decisions/011).
    """

    def __init__(self, network: Net, steps: int, learning_rate: float, optimizer: OptimizerName = "soap") -> None:
        self.network, self.average = network, copy.deepcopy(network)
        self.steps, self.learning_rate = steps, learning_rate
        self.optimizer = _optimizer(network, learning_rate, optimizer)

    def step(self, number: int, loss: torch.Tensor) -> None:
        """Make step `number` of the schedule, from 0."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * _schedule(number, self.steps)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
        self.optimizer.step()
        weight = 1.0 if number < self.steps // 2 else 0.005
        with torch.no_grad():
            for mean, latest in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(latest, weight)


def _schedule(step: int, steps: int) -> float:
    return min(1.0, step / 100) * (0.5 * (1 + math.cos(math.pi * step / steps)) + 5e-4)


def _optimizer(network: nn.Module, learning_rate: float, name: OptimizerName) -> torch.optim.Optimizer:
    if name == "adam":
        return torch.optim.Adam(network.parameters(), lr=learning_rate, betas=(0.9, 0.99))
    from pytorch_optimizer import SOAP

    return SOAP(network.parameters(), lr=learning_rate, betas=(0.95, 0.95), weight_decay=0.0)
