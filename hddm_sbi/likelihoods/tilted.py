"""A likelihood of rt and response times the ratio that simulations near one place tell, by least squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from hddm_sbi.likelihoods.decision import DecisionLikelihood
from hddm_sbi.likelihoods.likelihood import Likelihood
from hddm_sbi.types import Array

#: polynomials of the place of a time among those of its response, from the first degree.
N_DEGREES = 6
#: a factor is at least this, so that noise makes no density negative.
_LEAST = 0.05
#: beyond so many sds from the mean of the parameters, a square goes on as at that distance.
_REACH = 4.0
#: simulations that are in memory at a time.
_BLOCK = 50_000


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
        x = _features(theta, self.centre, self.spread)
        d = (x @ torch.from_numpy(self.choices))[row, choice]
        m = torch.einsum("rm,cmk->rck", x, torch.from_numpy(self.times))[row, choice]
        of_time = 1.0 + (m * _polynomials(u)).sum(-1)
        return torch.log((1.0 + d / share).clamp(min=_LEAST)) + torch.log(of_time.clamp(min=_LEAST))


def _features(theta: Tensor, centre: Array, spread: Array) -> Tensor:
    """1, the standardised parameters that vary, and their products: (n, p) -> (n, m)."""
    varying = np.flatnonzero(spread)
    z = (theta[:, varying] - torch.from_numpy(centre[varying])) / torch.from_numpy(spread[varying])
    z = z.clamp(-_REACH, _REACH)
    first, second = np.triu_indices(len(varying))
    return torch.cat([torch.ones_like(theta[:, :1]), z, z[:, first] * z[:, second]], -1)


def _polynomials(u: Tensor) -> Tensor:
    """Orthonormal on [0, 1], from the first degree: (n,) -> (n, N_DEGREES). Legendre's, of 2 u - 1."""
    x = 2.0 * u - 1.0
    values = [torch.ones_like(x), x]
    for k in range(1, N_DEGREES):
        values.append(((2 * k + 1) * x * values[k] - k * values[k - 1]) / (k + 1))
    return torch.stack([(2 * k + 1) ** 0.5 * values[k] for k in range(1, N_DEGREES + 1)], -1)


def _shares_of(likelihood: DecisionLikelihood, theta: Tensor) -> Tensor:
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
        share = _shares_of(self.inner, theta)[row, choice]
        u = (self.inner.cdf_rows(values, theta[row]) / share).clamp(0.0, 1.0)
        return self.inner.log_prob_at(values, theta, row) + self.ratio.log_factor(choice, share, u, theta, row)


def tilted_by(likelihood: Likelihood, values: Array, theta: Array, n_parts: int = 1) -> list[Tilted]:
    """The likelihood times the ratio that simulations (n, 2) at theta (n, p) tell: all of them, then each of so many
    parts of them.

    Of every choice, P_k(u) of its trials is regressed on quadratic functions of theta; and whether a trial has the
    choice, less its share by the likelihood, is, of all trials. Its mass stays 1, as P_k have a mean of 0.
    """
    assert isinstance(likelihood, DecisionLikelihood)
    centre, spread = theta.mean(0), theta.std(0)
    spread = np.where(spread > 1e-9 * np.abs(centre), spread, 0.0)
    parts = [_moments(likelihood, values[k::n_parts], theta[k::n_parts], centre, spread) for k in range(n_parts)]
    every = [tuple(np.sum(each, axis=0) for each in zip(*parts, strict=True)), *parts]
    return [Tilted(likelihood, Ratio(centre, spread, *_solved(*moments))) for moments in every]


def _moments(
    likelihood: DecisionLikelihood, values: Array, theta: Array, centre: Array, spread: Array
) -> tuple[Array, Array, Array]:
    """Sums over simulations of products of features: with each other, by choice, (n_choices, m, m); with polynomials,
    (n_choices, m, N_DEGREES); and with what choices differ from their shares by, (m, n_choices)."""
    n_choices, n_varying = len(likelihood.simulator.choices), np.count_nonzero(spread)
    m = 1 + n_varying * (n_varying + 3) // 2
    squares, products = np.zeros((n_choices, m, m)), np.zeros((n_choices, m, N_DEGREES))
    of_choices = np.zeros((m, n_choices))
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(theta)), -(-len(theta) // _BLOCK)):
            x, at, choice = torch.as_tensor(values[rows]), torch.as_tensor(theta[rows]), values[rows, 1].astype(int)
            shares = _shares_of(likelihood, at)
            u = likelihood.cdf_rows(x, at) / shares[torch.arange(len(at)), torch.as_tensor(choice)]
            g, p = _features(at, centre, spread).numpy(), _polynomials(u.clamp(0.0, 1.0)).numpy()
            of_choices += g.T @ ((choice[:, None] == np.arange(n_choices)) - shares.numpy())
            for c in range(n_choices):
                own = g[choice == c]
                squares[c] += own.T @ own
                products[c] += own.T @ p[choice == c]
    return squares, products, of_choices


def _solved(squares: Array, products: Array, of_choices: Array) -> tuple[Array, Array]:
    """Least squares: coefficients of choices and of times."""
    inverse = [np.linalg.pinv(each, hermitian=True) for each in (*squares, squares.sum(0))]
    times = np.stack([inverse[c] @ each for c, each in enumerate(products)])
    return inverse[-1] @ of_choices, times
