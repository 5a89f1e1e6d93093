"""Our mixture network as an sbi density estimator, so that sbi trains it, evaluates it and builds posteriors on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from hddm_sbi.network import Architecture, MixtureNetwork
from hddm_sbi.reduction import Reduction
from hddm_sbi.simulator import Simulator

if TYPE_CHECKING:
    from sbi.neural_nets.estimators.base import ConditionalDensityEstimator


@contextmanager
def validation_kept() -> Iterator[None]:
    """Keep the default of argument validation. zuko, which sbi imports, switches it off for torch and so for Pyro."""
    before = Distribution._validate_args
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def estimator_builder(
    simulator: Simulator, architecture: Architecture | None = None
) -> Callable[[Tensor, Tensor], ConditionalDensityEstimator]:
    """What `sbi.inference.NLE(density_estimator=...)` expects: (theta, x) -> an untrained estimator.

    theta: (n, p). x: (n, 2), columns rt in seconds and response code. The estimator's density is that of
    `NeuralLikelihood`: normalised over both choices and all times, zero at and below the non-decision time.
    """
    with validation_kept():
        from sbi.neural_nets.estimators.base import ConditionalDensityEstimator

    class MixtureEstimator(ConditionalDensityEstimator):
        """log p(rt, response | theta), by the reduced mixture network."""

        def __init__(self, network: MixtureNetwork, input_shape: torch.Size, condition_shape: torch.Size) -> None:
            super().__init__(network, input_shape, condition_shape)
            self.register_buffer("codes", torch.tensor(simulator.choices))

        def log_prob(self, input: Tensor, condition: Tensor, **_: Any) -> Tensor:
            """input (sample, batch, 2) or (batch, 2), condition (batch, p) -> (sample, batch)."""
            x = input if input.dim() == 3 else input.unsqueeze(0)
            theta = condition.expand(x.shape[0], x.shape[1], -1).reshape(-1, condition.shape[-1])
            rt, code = x.reshape(-1, 2).unbind(-1)
            choice = (code.unsqueeze(-1) == self.codes).int().argmax(1)
            return self.net.log_prob(rt, choice, theta, self.net.mixture(theta)).reshape(x.shape[:-1])

        def loss(self, input: Tensor, condition: Tensor, **_: Any) -> Tensor:
            """Minus the log density of every pair, (batch,)."""
            return -self.log_prob(input, condition)[0]

        def sample(self, sample_shape: torch.Size, condition: Tensor, **_: Any) -> Tensor:
            """Draws (*sample_shape, batch, 2)."""
            shape = torch.Size(sample_shape)
            with torch.no_grad():
                theta = condition.expand(*shape, *condition.shape).reshape(-1, condition.shape[-1])
                rt, choice = self.net.sample(theta, self.net.mixture(theta))
                return torch.stack([rt, self.codes[choice].to(rt)], -1).reshape(*shape, condition.shape[0], 2)

    def build(theta: Tensor, x: Tensor) -> ConditionalDensityEstimator:
        network = MixtureNetwork(Reduction(simulator), architecture or Architecture())
        return MixtureEstimator(network, x[0].shape, theta[0].shape)

    return build
