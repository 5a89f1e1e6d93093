"""The ratio of a simulator to a likelihood of rt and response, from simulations near one place, by least squares."""

import numpy as np
import torch

from hddm_sbi.likelihoods.decision import DecisionLikelihood
from hddm_sbi.likelihoods.tilted import N_DEGREES, Ratio, Tilted, features, places, polynomials
from hddm_sbi.types import Array

#: simulations that are in memory at a time.
_BLOCK = 50_000


def tilted(likelihood: DecisionLikelihood, values: Array, theta: Array) -> Tilted:
    """The likelihood times the ratio that simulations (n, 2) at theta (n, p) tell.

    Of every choice, P_k(u) of its trials is regressed on quadratic functions of theta; and whether a trial has the
    choice, less its share by the likelihood, is, of all trials. Its mass stays 1, as P_k have a mean of 0.
    """
    n_choices = len(likelihood.simulator.choices)
    centre, spread = theta.mean(0), theta.std(0)
    spread = np.where(spread > 1e-9 * np.abs(centre), spread, 0.0)
    m = 1 + np.count_nonzero(spread) * (np.count_nonzero(spread) + 3) // 2
    squares, products = np.zeros((n_choices, m, m)), np.zeros((n_choices, m, N_DEGREES))
    of_choices = np.zeros((m, n_choices))
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(theta)), -(-len(theta) // _BLOCK)):
            x, at = torch.as_tensor(values[rows]), torch.as_tensor(theta[rows])
            choice, (_, u) = values[rows, 1].astype(int), places(likelihood, x, at)
            shares = likelihood.choice_probabilities(dict(zip(likelihood.simulator.names, at.T, strict=True))).numpy()
            g, p = features(at, centre, spread).numpy(), polynomials(u).numpy()
            of_choices += g.T @ ((choice[:, None] == np.arange(n_choices)) - shares)
            for c in range(n_choices):
                own = g[choice == c]
                squares[c] += own.T @ own
                products[c] += own.T @ p[choice == c]
    inverse = [np.linalg.pinv(each, hermitian=True) for each in (*squares, squares.sum(0))]
    times = np.stack([inverse[c] @ products[c] for c in range(n_choices)])
    return Tilted(likelihood, Ratio(centre, spread, inverse[-1] @ of_choices, times))
