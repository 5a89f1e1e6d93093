"""Leaky competing accumulators against the backward equation on a grid; that of no leak is a race."""

import math

import numpy as np
import pytest
from scipy import sparse
from scipy.interpolate import make_interp_spline
from scipy.sparse.linalg import spsolve

from hddm_sbi.likelihoods.catalogue import load_simulator

#: a, v0, v1, z, g, b; z is on both grids.
CASES = {
    "no leak": (1.0, 2.0, 1.0, 0.25, 0.0, 0.0),
    "leak": (1.2, 2.0, 1.5, 0.0, 2.0, 0.0),
    "inhibition": (1.0, 3.0, 2.0, 0.25, 0.0, 4.0),
    "both": (1.6, 4.0, 3.0, 0.5, 2.0, 4.0),
    "slow": (1.5, 0.5, 1.0, 0.0, 1.5, 1.0),
    "fast": (0.5, 6.0, 5.0, 0.75, 1.0, 2.0),
}


def by_the_equation(a, v0, v1, z, g, b, m, decay=1.0):
    """Mean decision time, P(choice 0) and E exp(-decay T) from the backward equation on m x m points, second order.

    L u = u_xx / 2 + u_yy / 2 + (v0 - g x - b y) u_x + (v1 - g y - b x) u_y, du/dn = 0 at 0, u given at a: of the mean
    L u = -1 with u = 0; of the choice L u = 0 with u = 1 where x = a; of the transform L u = decay u with u = 1.
    """
    h = a / m
    at = np.indices((m, m)).reshape(2, -1)
    x, y = h * at
    index = np.arange(m * m).reshape(m, m)
    rows, columns, values = [index.ravel()], [index.ravel()], [np.full(m * m, -2.0 / h**2)]
    hits = np.zeros((2, m * m))
    for axis, drift in enumerate((v0 - g * x - b * y, v1 - g * y - b * x)):
        for side in (-1, 1):
            rate = 0.5 / h**2 + side * drift / (2 * h)
            neighbour = at.copy()
            neighbour[axis] = np.abs(at[axis] + side)
            inside = neighbour[axis] < m
            rows.append(index.ravel()[inside])
            columns.append(index[tuple(neighbour[:, inside])])
            values.append(rate[inside])
            hits[axis, ~inside] = rate[~inside]
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    operator = sparse.csc_matrix(entries, shape=(m * m, m * m))
    start = index[round(z * m), round(z * m)]
    mean, share = spsolve(operator, np.stack([-np.ones(m * m), -hits[0]], 1))[start]
    transform = spsolve(operator - decay * sparse.identity(m * m, format="csc"), -hits.sum(0))[start]
    return np.array([mean, share, transform])


def extrapolated(case, m=64):
    """Richardson's extrapolation from m and 2 m points, and how far the finer grid was from it."""
    coarse, fine = by_the_equation(*case, m), by_the_equation(*case, 2 * m)
    return (4 * fine - coarse) / 3, np.abs(fine - coarse) / 3


@pytest.mark.parametrize("name", CASES)
def test_modes_agree_with_the_backward_equation(name):
    """The same three numbers of the densities by modes, within the error of the grid."""
    expected, gap = extrapolated(CASES[name], m=32)
    a, v0, v1, z, g, b = CASES[name]
    solution = load_simulator("lca").passage(v0, v1, a, z, 0.0, g, b, t_max=60.0 * a * a).solve(2_000)
    root = np.sqrt(solution.t)
    density = np.exp(np.nan_to_num(solution.log_p, nan=-700.0, neginf=-700.0))
    parts = solution.t * density.sum(0), density[0], np.exp(-solution.t) * density.sum(0)
    got = [make_interp_spline(root, 2.0 * root * part, 5).antiderivative()(root[-1]) for part in parts]
    np.testing.assert_allclose(got, expected, rtol=0, atol=gap.max())


def simulated(case, n, seed):
    """The same three numbers from n trials, and their standard errors."""
    a, v0, v1, z, g, b = case
    simulator = load_simulator("lca")
    theta = simulator.theta_matrix({"v0": v0, "v1": v1, "a": a, "z": z, "t0": 0.0, "g": g, "b": b}, n)
    rt, choice = simulator.simulate(theta, seed)
    columns = np.stack([rt, choice == 0, np.exp(-rt)])
    return columns.mean(1), columns.std(1) / math.sqrt(n)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [200_000, pytest.param(4_000_000, marks=pytest.mark.slow)])
def test_simulator_agrees_with_the_backward_equation(name, n):
    """Mean, share and Laplace transform within 5 se (false alarms 5.7e-7 each); the grid is good to 1e-4."""
    expected, gap = extrapolated(CASES[name])
    got, se = simulated(CASES[name], n, seed=1)
    assert (np.abs(got - expected) < 5 * se + 0.1 * gap).all(), ((got - expected) / se, gap)
