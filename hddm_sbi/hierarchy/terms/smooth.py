"""The wiggles of a smooth term: coefficients that share one standard deviation, the less of them the fewer it needs."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from typing_extensions import override

from hddm_sbi.hierarchy.priors.choice import median
from hddm_sbi.hierarchy.terms.coefficients import Coefficients, Values
from hddm_sbi.types import Array, Index, Label

#: the least sd at which sampling starts, of the plausible one, where no pilot fit says better.
_LEAST = 0.5
#: rounds of sds given u and u given sds; an sd stays within these multiples of the plausible one.
_ROUNDS, _SMALLEST, _LARGEST = 30, 0.05, 20.0
#: chi² of all u, above its mean where all are 0, from which on sigma is not 0.
_EVIDENCE = 20.0


@dataclass(frozen=True, kw_only=True)
class Wiggles(Coefficients):
    """eta = Z u, u ~ N(0, sigma²), each of them sampled as itself, or as u / sigma ~ N(0, 1).

    of: posterior name of the smooth term. sigma_prior: of sigma. prior: that of u which the pilot fit takes. centred:
    which of u are sampled as themselves, best where trials determine them; none where it is empty. likely: the sigma at
    which sampling starts; 0 for none.
    """

    of: str
    sigma_prior: TorchDistribution
    centred: tuple[bool, ...] = ()
    likely: float = 0.0

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
        return f"{self.of}_unscaled"

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
        itself, sigma = self._itself, values[self.sigma].unsqueeze(-1)
        law = dist.Normal(torch.zeros_like(itself), 1.0 - itself + itself * sigma)
        values[self.site] = pyro.sample(self.site, law.to_event(1))

    @override
    def columns(self, values: Values) -> Tensor:
        if self.name in values:
            return values[self.name]
        return self._scale(values) * values[self.site]

    @override
    def named(self, values: Values) -> dict[str, Tensor]:
        return {self.name: self.columns(values)}

    @override
    def recovered(self, posterior: Values) -> dict[str, Tensor]:
        return {self.site: posterior[self.name] / self._scale(posterior)}

    @override
    def summands(self, rows: Index, parameter: str, factors: Set[str]) -> list[str]:
        return [f"wiggles of {self.of.removeprefix(f'{parameter}_')}"]

    @override
    def start(self, found: Tensor) -> dict[str, Tensor]:
        sigma = torch.maximum(found.square().mean().sqrt(), _LEAST * self.prior.stddev)
        sigma = torch.full_like(sigma, self.likely) if self.likely else sigma
        return {self.sigma: sigma, self.site: found / self._scale({self.sigma: sigma})}

    def settled(self, found: Array, variance: Array) -> Wiggles:
        """The same, those of u sampled as themselves that trials determine better than sigma does.

        found, variance: of u in the pilot fit, (k,). With I = 1 / variance - 1 / sd² the information of the trials,
        sigma is at MacKay's (1992) fixed point, as of the groups in the pilot fit.
        """
        sd = float(self.prior.stddev)
        information = np.maximum(1.0 / variance - sd**-2.0, 1e-12)
        alone, sigma = found / variance / information, sd
        for _ in range(_ROUNDS):
            variance = 1.0 / (information + sigma**-2.0)
            squares = ((variance * information * alone) ** 2).sum()
            determined = max(float((1.0 - variance / sigma**2).sum()), 1e-12)
            sigma = float(np.clip(np.sqrt(squares / determined), _SMALLEST * sd, _LARGEST * sd))
        determined_better = 1.0 / (information + sigma**-2.0) < 0.5 * sigma**2
        # Where sigma may be 0, what is sampled as itself ends in a funnel, however well trials determine it.
        evidence = (alone**2 * information).sum() - len(alone)
        centred = determined_better & (evidence > _EVIDENCE)
        return replace(self, centred=tuple(centred.tolist()), likely=sigma)

    @override
    def slope(self, start: Values) -> Tensor:
        return self._scale(start)

    @property
    def _itself(self) -> Tensor:
        """1 where u is sampled as itself, else 0."""
        k = self.matrix.shape[1]
        return torch.tensor(self.centred or (False,) * k, dtype=torch.float64)

    def _scale(self, values: Values) -> Tensor:
        """u by its site, (..., k)."""
        return self._itself + (1.0 - self._itself) * values[self.sigma].unsqueeze(-1)


def _plausible(sigma_prior: TorchDistribution) -> TorchDistribution:
    """A normal prior of the coefficients: of half the median of their sd."""
    sd = 0.5 * median(sigma_prior).double()
    return dist.Normal(torch.zeros_like(sd), sd)
