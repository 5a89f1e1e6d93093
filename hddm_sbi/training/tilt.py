"""The ratio of a simulator to a likelihood of rt and response, from simulations near one place, by least squares."""

import numpy as np
import torch

from hddm_sbi.likelihoods.decision import DecisionLikelihood
from hddm_sbi.likelihoods.tilted import N_DEGREES, Ratio, Tilted, features, polynomials, shares_of
from hddm_sbi.types import Array

#: simulations that are in memory at a time.
_BLOCK = 50_000


def tilted(likelihood: DecisionLikelihood, values: Array, theta: Array, n_parts: int = 1) -> list[Tilted]:
    """The likelihood times the ratio that simulations (n, 2) at theta (n, p) tell: all of them, then each of so many
    parts of them.

    Of every choice, P_k(u) of its trials is regressed on quadratic functions of theta; and whether a trial has the
    choice, less its share by the likelihood, is, of all trials. Its mass stays 1, as P_k have a mean of 0.
    """
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
            shares = shares_of(likelihood, at)
            u = likelihood.cdf_rows(x, at) / shares[torch.arange(len(at)), torch.as_tensor(choice)]
            g, p = features(at, centre, spread).numpy(), polynomials(u.clamp(0.0, 1.0)).numpy()
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
