"""The wiggles of a smooth term: coefficients that share one standard deviation, the less of them the fewer it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from typing_extensions import override

from hddm_sbi.hierarchy.coefficients import Coefficients, Values
from hddm_sbi.hierarchy.priors import median
from hddm_sbi.types import Array, Label

#: the least sd at which sampling starts, of the plausible one.
_LEAST = 0.5


@dataclass(frozen=True, kw_only=True)
class Wiggles(Coefficients):
    """eta = Z u, u ~ N(0, sigma²), sampled as u = sigma * offset with offset ~ N(0, 1).

    of: posterior name of the smooth term. sigma_prior: of sigma. prior: that of u which the pilot fit takes.
    """

    of: str
    sigma_prior: TorchDistribution

    @classmethod
    def build(cls, of: str, matrix: Array, sigma_prior: TorchDistribution) -> Wiggles:
        """The wiggles of a smooth of this name, on the rows (n_rows, k)."""
        levels: tuple[Label, ...] = tuple(range(1, matrix.shape[1] + 1))
        columns = torch.as_tensor(matrix)
        pilot = _plausible(sigma_prior)
        name = f"{of}_wiggles"
        return cls(name=name, levels=levels, matrix=columns, prior=pilot, of=of, sigma_prior=sigma_prior)

    @property
    def sigma(self) -> str:
        """Posterior name of the standard deviation."""
        return f"{self.of}_sigma"

    @property
    @override
    def site(self) -> str:
        return f"{self.of}_offset"

    @property
    @override
    def priors(self) -> dict[str, TorchDistribution]:
        return {self.sigma: self.sigma_prior}

    @property
    @override
    def classes(self) -> dict[str, str]:
        return {self.sigma: "sigma"}

    @override
    def with_priors(self, chosen: Mapping[str, TorchDistribution]) -> Wiggles:
        prior = chosen.get(self.sigma)
        return self if prior is None else replace(self, sigma_prior=prior, prior=_plausible(prior))

    @override
    def sample(self, values: dict[str, Tensor]) -> None:
        values[self.sigma] = pyro.sample(self.sigma, self.sigma_prior).double()
        zeros = torch.zeros(self.matrix.shape[1], dtype=torch.float64)
        values[self.site] = pyro.sample(self.site, dist.Normal(zeros, torch.ones_like(zeros)).to_event(1))

    @override
    def columns(self, values: Values) -> Tensor:
        if self.name in values:
            return values[self.name]
        return values[self.sigma].unsqueeze(-1) * values[self.site]

    @override
    def named(self, values: Values) -> dict[str, Tensor]:
        return {self.name: self.columns(values)}

    @override
    def start(self, found: Tensor) -> dict[str, Tensor]:
        sigma = torch.maximum(found.square().mean().sqrt(), _LEAST * self.prior.stddev)
        return {self.sigma: sigma, self.site: found / sigma}

    @override
    def slope(self, start: Values) -> Tensor:
        return start[self.sigma].expand(self.matrix.shape[1])


def _plausible(sigma_prior: TorchDistribution) -> TorchDistribution:
    """A normal prior of the coefficients: of half the median of their sd."""
    sd = 0.5 * median(sigma_prior).double()
    return dist.Normal(torch.zeros_like(sd), sd)
