"""The coefficient of mo(x): the mean step between neighbouring levels, and how it is shared among the steps."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from typing_extensions import override

from hddm_sbi.hierarchy.terms.coefficients import Coefficients, Values
from hddm_sbi.types import Array, Index, Label


@dataclass(frozen=True, kw_only=True)
class MonotonicCoefficient(Coefficients):
    """eta = b D sum_{i <= x} zeta_i, with zeta a simplex of D steps (Bürkner & Charpentier 2020).

    matrix: (n_rows, 1) steps x from the lowest level; the pilot fit takes them for a covariate, that is for equal
    steps. steps: label of the level that each leads to. simplex_prior: of zeta.
    """

    steps: tuple[Label, ...]
    simplex_prior: TorchDistribution

    @classmethod
    def build(cls, name: str, matrix: Array, prior: TorchDistribution, steps: tuple[Label, ...]) -> Coefficients:
        """Of one step, which is a plain coefficient, or of several, every simplex of which is as likely."""
        columns = torch.as_tensor(matrix)
        if len(steps) == 1:
            return Coefficients(name, None, columns, prior)
        simplex = dist.Dirichlet(torch.ones(len(steps), dtype=torch.float64))
        return cls(name=name, levels=None, matrix=columns, prior=prior, steps=steps, simplex_prior=simplex)

    @property
    def simplex(self) -> str:
        """Posterior name of zeta."""
        return f"{self.name}_simplex"

    @property
    @override
    def priors(self) -> dict[str, TorchDistribution]:
        return {**super().priors, self.simplex: self.simplex_prior}

    @property
    @override
    def classes(self) -> dict[str, str]:
        return {**super().classes, self.simplex: "simplex"}

    @property
    @override
    def labels(self) -> dict[str, tuple[Label, ...]]:
        return {self.simplex: self.steps}

    @override
    def with_priors(self, chosen: Mapping[str, TorchDistribution]) -> MonotonicCoefficient:
        b, zeta = (chosen.get(name, prior) for name, prior in self.priors.items())
        return replace(self, prior=b, simplex_prior=zeta)

    @override
    def sample(self, values: dict[str, Tensor]) -> None:
        super().sample(values)
        values[self.simplex] = pyro.sample(self.simplex, self.simplex_prior).double()

    @override
    def on_rows(self, values: Values) -> Tensor:
        if self.simplex not in values:
            return super().on_rows(values)
        n = len(self.steps)
        taken = (self.matrix > torch.arange(n, dtype=torch.float64)).double()
        return self.columns(values) * (n * values[self.simplex]) @ taken.T

    @override
    def summands(self, rows: Index, parameter: str, factors: Set[str]) -> list[str]:
        return [f"{self.name} * {self.name.removeprefix(f'{parameter}_')}"]

    @override
    def start(self, found: Tensor) -> dict[str, Tensor]:
        n = len(self.steps)
        return {self.name: found, self.simplex: torch.full((n,), 1.0 / n, dtype=torch.float64)}
