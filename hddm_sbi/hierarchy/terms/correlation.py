"""Correlations of group effects: those of one term, or of all terms that share a tag, one term after another."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Beta, biject_to, constraints
from typing_extensions import override

# A group's effects are u = diag(sigma) L z with L L' = R ~ LKJ and z ~ N(0, 1). With b the effects of the terms that
# come before a term t,
#   u_t = diag(sigma_t) (L_tb z_b + L_tt z_t),
# that is, given z_b, a normal of mean diag(sigma_t) L_tb z_b and Cholesky factor diag(sigma_t) L_tt. So every term has
# sites of its own, centred or not as its own trials say, and the effects of all terms are one multivariate normal.
#
# Centred terms come first: after a term that is not, where L_tt is near 0, their levels would tie its z to a line.

#: LKJ shape of the correlations between the effects of a group; above 1 favours no correlation.
LKJ_SHAPE = 2.0
#: by the name of a correlation: z of the terms so far, (..., n_levels, columns so far).
Scores = dict[str, Tensor]


class LKJCholesky(dist.LKJCholesky):
    """torch's density, and draws of it: those of torch 2.13 are too correlated from the third effect on.

    Below the diagonal are products of partial correlations given the effects of the columns before, which are
    independent, with Beta laws on (-1, 1) (the C-vine of Lewandowski, Kurowicka & Joe 2009).
    """

    @override
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        _, column = torch.tril_indices(self.dim, self.dim, -1)
        alpha = self.concentration.unsqueeze(-1) + 0.5 * (self.dim - 2 - column)
        partial = 2.0 * Beta(alpha, alpha).sample(torch.Size(sample_shape)) - 1.0
        return biject_to(constraints.corr_cholesky)(partial.atanh())


@dataclass(frozen=True)
class Correlation:
    """The correlation matrix R of K effects of every group, or of every part of the groups.

    name: `v_1+condition|subject` of one term, `p|subject` of the terms with the tag p. labels: of the effects. places:
    the row of L that every effect has. n_parts: how many parts of the groups have a matrix of their own, None where all
    have the same.
    """

    name: str
    labels: tuple[str, ...]
    prior: dist.LKJ
    places: tuple[int, ...]
    n_parts: int | None

    @classmethod
    def of(cls, name: str, labels: tuple[str, ...], n_parts: int | None) -> Correlation:
        """With the default prior."""
        return cls(name, labels, lkj(len(labels), LKJ_SHAPE), tuple(range(len(labels))), n_parts)

    @property
    def reported(self) -> str:
        """Posterior name of the matrix."""
        return f"{self.name}_corr"

    @property
    def site(self) -> str:
        """Name of the sampled site, the Cholesky factor."""
        return f"{self.name}_cholesky"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the site."""
        k = len(self.labels)
        return (k, k) if self.n_parts is None else (self.n_parts, k, k)

    def sample(self) -> Tensor:
        """Draw the Cholesky factor in Pyro."""
        law: TorchDistribution = LKJCholesky(len(self.labels), self.prior.concentration)
        return pyro.sample(self.site, law if self.n_parts is None else law.expand([self.n_parts]).to_event(1))

    def matrix(self, values: Mapping[str, Tensor]) -> Tensor:
        """R, (..., K, K), from the sampled site."""
        factor = values[self.site]
        if self.places != tuple(range(len(self.labels))):
            factor = factor[..., self.places, :]
        return factor @ factor.transpose(-1, -2)

    def recovered(self, posterior: Mapping[str, Tensor]) -> Tensor:
        """The sampled site from R."""
        effects = [self.places.index(row) for row in range(len(self.labels))]
        return torch.linalg.cholesky(posterior[self.reported][..., effects, :][..., effects])

    def with_priors(self, chosen: Mapping[str, TorchDistribution]) -> Correlation:
        """The same with the prior that is chosen for it."""
        return replace(self, prior=chosen.get(self.reported, self.prior))

    def with_first(self, columns: Container[int]) -> Correlation:
        """The same with these effects in the first rows of L."""
        rows = sorted(range(len(self.labels)), key=lambda column: column not in columns)
        return replace(self, places=tuple(rows.index(column) for column in range(len(self.labels))))

    @cached_property
    def start(self) -> Tensor:
        """No correlation, as a value of the site."""
        return torch.eye(len(self.labels), dtype=torch.float64).expand(self.shape)


def lkj(k: int, shape: float | Tensor) -> dist.LKJ:
    """The LKJ law of a k x k correlation matrix, in double precision."""
    return dist.LKJ(k, torch.as_tensor(shape, dtype=torch.float64))
