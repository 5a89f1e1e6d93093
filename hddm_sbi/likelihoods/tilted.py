"""A likelihood of rt and response times the ratio by which the simulator differs from it, near one place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from hddm_sbi.likelihoods.decision import DecisionLikelihood
from hddm_sbi.types import Array

#: polynomials of the place of a time among those of its response, from the first degree.
N_DEGREES = 6
#: a factor is at least this, so that noise makes no density negative.
_LEAST = 0.05
#: beyond so many sds from the mean of the parameters, a square goes on as at that distance.
_REACH = 4.0


@dataclass(frozen=True)
class Ratio:
    """p / q, where p is the law of the simulator and q that of a likelihood, at parameters near one place.

    With u = Q(T <= t | c, theta), the place of a time among those of its response, and orthonormal polynomials P_k on
    [0, 1], the ratio is

        p(t, c | theta) / q(t, c | theta) = [1 + d_c / q(c | theta)] [1 + sum_k m_ck P_k(u)],
        d_c = p(c | theta) - q(c | theta),   m_ck = E_p[P_k(u) | c, theta],

    up to the degrees that are left out. Both are quadratic in theta here. centre, spread: of theta (p,); spread 0 where
    it does not vary. choices (m, n_choices), times (n_choices, m, N_DEGREES): coefficients of d and m.
    """

    centre: Array
    spread: Array
    choices: Array
    times: Array

    def log_factor(self, choice: Tensor, share: Tensor, u: Tensor, theta: Tensor, row: Tensor) -> Tensor:
        """Log ratio of trials (n,) at `theta[row]`: of a choice that q gives this share, at places u."""
        x = features(theta, self.centre, self.spread)
        d = (x @ torch.from_numpy(self.choices))[row, choice]
        m = torch.einsum("rm,cmk->rck", x, torch.from_numpy(self.times))[row, choice]
        of_time = 1.0 + (m * polynomials(u)).sum(-1)
        return torch.log((1.0 + d / share).clamp(min=_LEAST)) + torch.log(of_time.clamp(min=_LEAST))


def features(theta: Tensor, centre: Array, spread: Array) -> Tensor:
    """1, the standardised parameters that vary, and their products: (n, p) -> (n, m)."""
    varying = np.flatnonzero(spread)
    z = (theta[:, varying] - torch.from_numpy(centre[varying])) / torch.from_numpy(spread[varying])
    z = z.clamp(-_REACH, _REACH)
    first, second = np.triu_indices(len(varying))
    return torch.cat([torch.ones_like(theta[:, :1]), z, z[:, first] * z[:, second]], -1)


def polynomials(u: Tensor) -> Tensor:
    """Orthonormal on [0, 1], from the first degree: (n,) -> (n, N_DEGREES). Legendre's, of 2 u - 1."""
    x = 2.0 * u - 1.0
    values = [torch.ones_like(x), x]
    for k in range(1, N_DEGREES):
        values.append(((2 * k + 1) * x * values[k] - k * values[k - 1]) / (k + 1))
    return torch.stack([(2 * k + 1) ** 0.5 * values[k] for k in range(1, N_DEGREES + 1)], -1)


def shares_of(likelihood: DecisionLikelihood, theta: Tensor) -> Tensor:
    """Probability of every choice, (n, p) -> (n, n_choices), above 0."""
    shares = likelihood.choice_probabilities(dict(zip(likelihood.simulator.names, theta.T, strict=True)))
    return shares.clamp(min=torch.finfo(theta.dtype).tiny)


class Tilted(DecisionLikelihood):
    """Another likelihood times a ratio."""

    kind = "tilted"

    def __init__(self, inner: DecisionLikelihood, ratio: Ratio) -> None:
        super().__init__(inner.simulator, inner.box)
        self.inner, self.ratio = inner, ratio

    @override
    def log_prob_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        return self.log_prob_at(values, theta, torch.arange(len(theta)))

    @override
    def log_prob_at(self, values: Tensor, theta: Tensor, row: Tensor) -> Tensor:
        choice = values[:, 1].long()
        share = shares_of(self.inner, theta)[row, choice]
        u = (self.inner.cdf_rows(values, theta[row]) / share).clamp(0.0, 1.0)
        return self.inner.log_prob_at(values, theta, row) + self.ratio.log_factor(choice, share, u, theta, row)
