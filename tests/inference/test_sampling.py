"""Samplers on plain Pyro models: the table of them, their draws against known posteriors, seeds, coordinates."""

import ctypes
import time
from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.errors import InputError
from hddm_sbi.inference.coordinates import Bends, Steps, Whitening, whitened

MEANS, SDS = (1.0, -2.0), (0.5, 3.0)


def two_normals():
    pyro.sample("x", dist.Normal(torch.tensor(MEANS).double(), torch.tensor(SDS).double()).to_event(1))


def eight_schools():
    """Non-centred: effects and standard errors of Rubin (1981)."""
    mu = pyro.sample("mu", dist.Normal(torch.tensor(0.0).double(), 5.0))
    tau = pyro.sample("tau", dist.HalfNormal(torch.tensor(5.0).double()))
    with pyro.plate("school", 8):
        z = pyro.sample("z", dist.Normal(torch.tensor(0.0).double(), 1.0))
        effects = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]).double()
        errors = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]).double()
        pyro.sample("y", dist.Normal(mu + tau * z, errors), obs=effects)


def schools():
    start = {"mu": torch.tensor(0.0), "tau": torch.tensor(1.0), "z": torch.zeros(8)}
    return hs.flatten(eight_schools, {name: value.double() for name, value in start.items()})


@pytest.mark.parametrize("method", ["nuts", "pyro-nuts", "svi", "laplace"])
def test_every_sampler_draws_from_independent_normals(method):
    """Means and sds: 5 standard errors (6e-7 each); SVI's optimum is noisy, to a tenth of an sd."""
    density = hs.flatten(two_normals, {"x": torch.zeros(2).double()})
    n = 600 if method == "pyro-nuts" else 5_000
    run = hs.sample(density, draws=n, tune=300, chains=1, seed=1, method=method)
    assert run.x.shape == (1, n, 2)
    # NUTS on independent normals: effective sizes of at least a third of the draws.
    effective = n if method in ("svi", "laplace") else n / 3
    slack = 0.1 if method == "svi" else 0.0
    for draws, mean, sd in zip(run.x[0].T, MEANS, SDS, strict=True):
        assert abs(draws.mean() - mean) < sd * (5 / np.sqrt(effective) + slack)
        assert abs(draws.std() / sd - 1) < 5 / np.sqrt(2 * effective) + slack


def test_nuts_finds_the_posterior_of_the_eight_schools():
    """Given tau, mu is normal and the rest integrates out: its mean by quadrature over tau; 5 standard errors."""
    run = hs.sample(schools(), draws=2_000, tune=1_000, chains=2, seed=1)
    y, s = np.array([28.0, 8, -3, 7, -1, 1, 18, 12]), np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
    tau = np.linspace(1e-3, 40, 4_000)[:, np.newaxis]
    variance = s**2 + tau**2
    precision = 1 / 25 + (1 / variance).sum(1)
    mean = (y / variance).sum(1) / precision
    log_p = -0.5 * np.log(precision) - 0.5 * np.log(variance).sum(1) - 0.5 * (y**2 / variance).sum(1)
    log_p += 0.5 * mean**2 * precision - tau[:, 0] ** 2 / 50
    weight = np.exp(log_p - log_p.max())
    expected = (weight * mean).sum() / weight.sum()
    draws = schools().constrain(run.x)["mu"].numpy()
    # At least 1 000 of 4 000 draws are worth one each.
    assert abs(draws.mean() - expected) < 5 * draws.std() / 1_000**0.5


def test_the_same_seed_gives_the_same_draws():
    one, two, other = (hs.sample(schools(), draws=50, tune=100, chains=3, seed=seed).x for seed in (5, 5, 6))
    assert one.tobytes() == two.tobytes()
    assert one.tobytes() != other.tobytes()
    assert len({chain.tobytes() for chain in one}) == 3


def triangular(n):
    """A lower triangular map of coordinates, sparse: every coordinate also moves the one after it."""
    row_starts = np.r_[0, np.arange(1, 2 * n, 2)]
    columns = np.r_[0, np.stack([np.arange(n - 1), np.arange(1, n)], 1).reshape(-1)]
    entries = np.where(np.diff(columns, prepend=-1) == 1, 1.5, 0.25)
    return Whitening(row_starts, columns, entries, Bends(np.array([0, n - 1]), np.array([0.3, -1.0])))


def stepping(coordinates):
    """The same with steps of two numbers, up and down, which other numbers take too, but not those two each other's."""
    at, ways = np.array([2, 7]), np.random.default_rng(5).normal(size=(2, coordinates.size))
    ways[:, at] = np.diag([1.5, -0.8])
    whitened_ways = np.linalg.solve(coordinates.matrix.toarray(), ways.T).T
    width = 0.3 * ways[[0, 1], at]
    return replace(
        coordinates, steps=Steps(at, coordinates.matrix[at].toarray(), np.array([0.2, -0.4]), width, whitened_ways)
    )


@pytest.mark.parametrize("change", [lambda coordinates: coordinates, stepping], ids=["bends", "bends and steps"])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_a_density_of_other_coordinates_is_that_of_the_sites_times_the_volume(scale, change):
    """By differences of x(y), and of the density; at 30 one number is far on either side of its bend, or step."""
    density, coordinates = schools(), change(triangular(10))
    y = scale * np.random.default_rng(2).normal(size=10)
    evaluate, step = whitened(density.evaluate, coordinates), 1e-5 * np.eye(10)
    value, gradient = (np.copy(part) for part in evaluate(y))
    x = coordinates.unwhiten(y)
    slopes = np.array([coordinates.unwhiten(y + s) - coordinates.unwhiten(y - s) for s in step]) / 2e-5
    linear = replace(coordinates, bends=Bends(), steps=Steps())
    matrix = np.array([linear.unwhiten(axis) for axis in np.eye(10)])
    volume = np.linalg.slogdet(slopes)[1] - np.linalg.slogdet(matrix)[1]
    assert value == pytest.approx(density(x)[0] + volume, rel=1e-6)
    assert coordinates.log_slope(x) == pytest.approx(volume, rel=1e-6, abs=1e-6)
    differences = np.array([evaluate(y + s)[0] - evaluate(y - s)[0] for s in step]) / 2e-5
    np.testing.assert_allclose(gradient, differences, rtol=1e-4, atol=1e-6 * np.abs(gradient).max())
    np.testing.assert_allclose(coordinates.whiten(x), y, rtol=1e-8)


def test_the_reported_density_is_that_of_the_sites():
    density = schools()
    run = hs.sample(density, draws=20, tune=50, chains=2, seed=1, whitening=triangular(10))
    expected = [[density(x)[0] for x in chain] for chain in run.x]
    np.testing.assert_allclose(run.stats["lp"], expected, rtol=1e-9)


def test_a_compiled_density_and_a_python_function_give_the_same_draws():
    """The same machine code, once called by one compiled function with its map of coordinates, once from Python."""
    density, coordinates = schools(), triangular(10)
    python = replace(density, evaluate=lambda x: density(x))
    for x in np.random.default_rng(1).normal(size=(5, 10)):
        (one, by_one), (two, by_two) = (whitened(d.evaluate, coordinates)(x) for d in (density, python))
        assert one == two
        assert by_one.tobytes() == by_two.tobytes()
    runs = [hs.sample(d, draws=50, tune=100, chains=2, seed=1, whitening=coordinates) for d in (density, python)]
    assert runs[0].x.tobytes() == runs[1].x.tobytes()
    assert all(np.array_equal(runs[0].stats[name], runs[1].stats[name]) for name in runs[0].stats)


def test_a_compiled_density_is_no_number_where_its_gradient_is_none():
    def model():
        x = pyro.sample("x", dist.Normal(torch.tensor(0.0).double(), 1.0))
        pyro.factor("f", torch.where(x > 0, torch.sqrt(x.abs()), x))

    density = hs.flatten(model, {"x": torch.tensor(1.0).double()})
    evaluate = whitened(density.evaluate, Whitening(np.arange(2), np.arange(1), np.ones(1)))
    assert np.isfinite(density(np.zeros(1))[0])
    assert not np.isfinite(density(np.zeros(1))[1]).all()
    assert np.isnan(evaluate(np.zeros(1))[0])
    assert np.isfinite(evaluate(np.ones(1))[0])


def n_thread_states():
    """Threads that Python knows in this process."""
    api, count = ctypes.pythonapi, 0
    for function in (api.PyInterpreterState_Get, api.PyInterpreterState_ThreadHead, api.PyThreadState_Next):
        function.restype = ctypes.c_void_p
    state = api.PyInterpreterState_ThreadHead(ctypes.c_void_p(api.PyInterpreterState_Get()))
    while state:
        state, count = api.PyThreadState_Next(ctypes.c_void_p(state)), count + 1
    return count


def test_the_threads_of_chains_leave_nothing_behind():
    density, before = schools(), n_thread_states()
    hs.sample(density, draws=20, tune=50, chains=3, seed=1)
    # A thread that is just ending may still be there.
    deadline = time.monotonic() + 10
    while n_thread_states() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert n_thread_states() == before


def test_a_posterior_without_a_mode_is_refused_by_laplace():
    def flat():
        pyro.sample("x", dist.Normal(torch.zeros(()).double(), 1.0))
        pyro.factor("f", pyro.sample("y", dist.Normal(torch.zeros(()).double(), 1.0)) ** 4)

    density = hs.flatten(flat, {"x": torch.tensor(0.0).double(), "y": torch.tensor(2.0).double()})
    with pytest.raises(InputError, match="no mode"):
        hs.sample(density, draws=10, chains=1, method="laplace")


def test_an_unknown_sampler_is_refused_with_the_known_names(monkeypatch):
    monkeypatch.setitem(hs.SAMPLERS, "mine", hs.Sampler(lambda density, settings: hs.Draws(np.empty(0))))
    with pytest.raises(InputError, match="'nuts', 'pyro-nuts', 'svi', 'laplace', 'mine'; got 'gibbs'"):
        hs.sample(schools(), method="gibbs")
