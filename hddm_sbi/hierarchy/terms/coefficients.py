"""Common coefficients of one term of a linear predictor: what is sampled of them, and what they add on the rows."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import biject_to

from hddm_sbi.types import Index, Label

Values = Mapping[str, Tensor]


def summand(coefficient: str, term: str, values: Tensor, factors: Set[str]) -> list[str]:
    """What a coefficient adds where its column has these values: nothing, itself, a multiple, or times a covariate.

    >>> for column in ([0.0, 0.0], [1.0, 1.0], [0.5, 0.5], [0.3, 0.7]):
    ...     print(summand("v_x", "x", torch.tensor(column), set()))
    []
    ['v_x']
    ['0.5 * v_x']
    ['v_x * x']
    """
    value = float(values[0])
    if not bool((values == value).all()):
        covariate = ":".join(part for part in term.split(":") if part not in factors)
        return [f"{coefficient} * {covariate}"]
    if value == 0.0:
        return []
    if value in (1.0, -1.0):
        return [coefficient if value > 0 else f"-{coefficient}"]
    return [f"{value:.4g} * {coefficient}"]


@dataclass(frozen=True)
class Coefficients:
    """Common coefficients of one term: eta = X b.

    levels: labels of the coefficients, None for a single scalar one. matrix: (n_rows, k) columns, or (1, k) where all
    rows share them. prior: of the coefficients, batch shape () or (k,). level: whether they are values of the
    parameter, an intercept or means of conditions, and no differences.

    What is not columns times coefficients is a subclass, whose matrix and prior are what the pilot fit takes for it.
    """

    name: str
    levels: tuple[Label, ...] | None
    matrix: Tensor
    prior: TorchDistribution
    level: bool = False

    @property
    def site(self) -> str:
        """Name of the sampled site behind the coefficients."""
        return self.name

    @property
    def priors(self) -> dict[str, TorchDistribution]:
        """Of every sampled number that a user may put a prior on, by its posterior name."""
        return {self.name: self.prior}

    @property
    def classes(self) -> dict[str, str]:
        """Class of each of `priors`, of which one prior may be given."""
        return {self.name: "Intercept" if self.level else "b"}

    @property
    def labels(self) -> dict[str, tuple[Label, ...]]:
        """Labels of every variable that the posterior reports and that is not a scalar."""
        return {} if self.levels is None else {self.name: self.levels}

    def with_priors(self, chosen: Mapping[str, TorchDistribution]) -> Coefficients:
        """The same with some priors replaced."""
        return replace(self, prior=chosen.get(self.name, self.prior))

    def sample(self, values: dict[str, Tensor]) -> None:
        """Draw the coefficients in Pyro, () or (k,) float64, whatever the precision of a user's prior."""
        prior = self.prior if self.levels is None else self.prior.expand([len(self.levels)]).to_event(1)
        values[self.name] = pyro.sample(self.name, prior).double()

    def columns(self, values: Values) -> Tensor:
        """Coefficients as (..., k)."""
        return values[self.name].unsqueeze(-1) if self.levels is None else values[self.name]

    def on_rows(self, values: Values) -> Tensor:
        """What they add to the linear predictor, (..., n_rows), or (..., 1)."""
        return self.columns(values) @ self.matrix.T

    def named(self, values: Values) -> dict[str, Tensor]:
        """What the posterior reports beside `priors`, by name."""
        return {}

    def recovered(self, posterior: Values) -> dict[str, Tensor]:
        """Sampled sites beside `priors`, from what the posterior reports: the inverse of `named`."""
        return {}

    def summands(self, rows: Index, parameter: str, factors: Set[str]) -> list[str]:
        """What they add on some rows, as text; see `Description`. factors: columns that are no numbers."""
        matrix = self.matrix if len(self.matrix) == 1 else self.matrix[rows]
        term, labels = self.name.removeprefix(f"{parameter}_"), self.levels
        names = [self.name] if labels is None else [f"{self.name}[{label}]" for label in labels]
        return [text for name, x in zip(names, matrix.T, strict=True) for text in summand(name, term, x, factors)]

    def start(self, found: Tensor) -> dict[str, Tensor]:
        """The sampled sites where the coefficients are what the pilot fit found."""
        return {self.name: found}

    def slope(self, start: Values) -> Tensor:
        """Of every coefficient in its unconstrained site, where sampling starts, () or (k,)."""
        onto_support = biject_to(self.prior.support)
        site = onto_support.inv(start[self.name]).detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(onto_support(site).sum(), site)
        return slope
