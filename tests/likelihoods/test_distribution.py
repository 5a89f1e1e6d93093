"""A likelihood as a Pyro distribution: agrees with it, fits into plates, and compiles to sums by cell."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from laws import random_thetas
from pyro.infer import MCMC, NUTS

import hddm_sbi as hs
from hddm_sbi.errors import InputError

KINDS = [("ddm", "exact"), ("ddm", "neural"), ("lba3", "neural")]
N, CELLS = 60, 3
INDEX = np.arange(N) % CELLS


@pytest.fixture(scope="module", params=KINDS, ids=[" ".join(each) for each in KINDS])
def likelihood(request):
    return hs.load_likelihood(request.param[0], kind=request.param[1])


def table(likelihood, seed=1):
    """theta of every cell, and trials as a table has them, (n, 2)."""
    theta = random_thetas(likelihood.simulator, CELLS, seed, margin=0.3)
    at = dict(zip(likelihood.simulator.names, theta[INDEX].T, strict=True))
    frame = likelihood.sample(at, seed=seed)
    return torch.tensor(theta), torch.tensor(frame.to_numpy(dtype=np.float64))


def test_log_prob_is_that_of_the_likelihood(likelihood):
    theta, trials = table(likelihood)
    at = dict(zip(likelihood.simulator.names, theta[INDEX].T, strict=True))
    expected = likelihood.log_prob(trials[:, 0], trials[:, 1].long(), at)
    with_index, each = likelihood.distribution(theta, INDEX), likelihood.distribution(theta[INDEX])
    assert (with_index.batch_shape, with_index.event_shape, with_index.event_dim) == ((N,), (2,), 1)
    for distribution in (with_index, each, likelihood.distribution(theta[INDEX].requires_grad_())):
        torch.testing.assert_close(distribution.log_prob(trials).detach(), expected, rtol=1e-10, atol=1e-10)
        assert float(distribution.log_prob_sum(trials).detach()) == pytest.approx(float(expected.sum()), rel=1e-10)
    lapses = likelihood.distribution(theta, INDEX, lapse=0.05)
    span = 10.0 * len(likelihood.simulator.choices)
    torch.testing.assert_close(lapses.log_prob(trials).exp(), 0.95 * expected.exp() + 0.05 / span, rtol=1e-10, atol=0)
    assert float(lapses.log_prob_sum(trials)) == pytest.approx(float(lapses.log_prob(trials).sum()), rel=1e-10)


def test_gradients_by_theta_and_lapse(likelihood):
    theta, trials = table(likelihood)
    found = []
    for way in ("log_prob", "log_prob_sum"):
        at, lapse = theta.clone().requires_grad_(), torch.tensor(0.1).double().requires_grad_()
        value = getattr(likelihood.distribution(at, INDEX, lapse=lapse), way)(trials).sum()
        found.append(torch.autograd.grad(value, (at, lapse)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_expand_and_shapes(likelihood):
    theta, trials = table(likelihood)
    one = likelihood.distribution(theta[0])
    assert one.batch_shape == ()
    wide = one.expand((4, N))
    assert wide.batch_shape == (4, N)
    assert wide.sample((2,)).shape == (2, 4, N, 2)
    torch.testing.assert_close(wide.log_prob(trials)[3], one.log_prob(trials), rtol=0, atol=0)
    several = likelihood.distribution(theta.expand(2, CELLS, -1), INDEX)
    assert several.batch_shape == (2, N)
    assert several.log_prob(trials).shape == (2, N)


def test_samples_follow_the_likelihood(likelihood):
    """20 000 draws: shares of responses and the median within five standard errors; lapses as often as they should."""
    theta, n = table(likelihood)[0][:1], 20_000
    at = dict(zip(likelihood.simulator.names, theta[0].tolist(), strict=True))
    with torch.random.fork_rng():
        pyro.set_rng_seed(1)
        draws = likelihood.distribution(theta[0]).expand((n,)).sample()
        lapses = likelihood.distribution(theta[0], lapse=0.5).expand((n,)).sample()
    p = likelihood.choice_probabilities(at)[0].numpy()
    for k, code in enumerate(likelihood.simulator.choices):
        share = float((draws[:, 1] == code).double().mean())
        assert abs(share - p[k]) < 5 * np.sqrt(p[k] * (1 - p[k]) / n) + 1e-9
    survivors = float(likelihood.survival([1.0], at)[0])
    late = float((draws[:, 0] > 1.0).double().mean())
    assert abs(late - survivors) < 5 * np.sqrt(survivors * (1 - survivors) / n) + 1e-9
    q = 0.5 * survivors + 0.5 * 0.9
    assert abs(float((lapses[:, 0] > 1.0).double().mean()) - q) < 5 * np.sqrt(q * (1 - q) / n)
    assert bool(likelihood.distribution(theta[0]).support.check(draws).all())


def one_drift(data):
    """A model of one drift per cell, and where sampling starts."""
    lik = hs.load_likelihood("ddm", kind="exact")
    trials = torch.tensor(data[["rt", "response"]].to_numpy(dtype=np.float64))
    index = data["cell"].to_numpy()

    def model():
        with pyro.plate("cell", CELLS):
            v = pyro.sample("v", dist.Normal(torch.zeros(CELLS).double(), 2.0))
        theta = torch.stack([v, *(v.new_tensor(x).expand(CELLS) for x in (1.0, 0.5, 0.3))], -1)
        with pyro.plate("trials", len(trials)):
            pyro.sample("obs", lik.distribution(theta, index, lapse=0.05), obs=trials)

    return model, {"v": torch.ones(CELLS).double()}


@pytest.fixture(scope="module")
def data():
    cell = np.arange(300) % CELLS
    frame = hs.simulate("ddm", {"v": np.array([0.5, 1.0, 1.5])[cell], "a": 1.0, "z": 0.5, "t0": 0.3}, seed=2)
    return pd.DataFrame({**frame, "cell": cell})


def test_compiled_it_is_the_sum_by_cell(data):
    """The density of the model written with pyro.factor, to rounding; one kernel call, however many trials."""
    model, start = one_drift(data)
    lik, values = hs.load_likelihood("ddm", kind="exact"), data[["rt", "response"]].to_numpy(dtype=np.float64)
    values[:, 1] = values[:, 1] == 1
    trials = lik.group_by_cell(values, data["cell"].to_numpy(), CELLS)

    def by_factor():
        v = pyro.sample("v", dist.Normal(torch.zeros(CELLS).double(), 2.0).to_event(1))
        theta = torch.stack([v, *(v.new_tensor(x).expand(CELLS) for x in (1.0, 0.5, 0.3))], -1)
        pyro.factor("obs", lik.log_prob_by_cell(trials, theta, torch.tensor(0.05, dtype=torch.float64)).sum())

    one, other = hs.flatten(model, start), hs.flatten(by_factor, start)
    assert one.path == "compiled"
    x = np.array([0.3, 0.9, 1.7])
    for found, expected in zip(one(x), other(x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    run = hs.sample(one, draws=200, tune=200, chains=2, seed=1, method="nuts", progress=False)
    assert np.abs(run.x.mean((0, 1)) - [0.5, 1.0, 1.5]).max() < 0.5


def test_scaled_and_masked_sites_stay_as_they_are(data):
    model, start = one_drift(data)
    plain = hs.flatten(model, start)
    half = hs.flatten(pyro.poutine.scale(model, 0.5), start)
    none = hs.flatten(pyro.poutine.mask(model, mask=torch.tensor(False)), start)
    x = np.array([0.3, 0.9, 1.7])
    assert half(x)[0] == pytest.approx(0.5 * plain(x)[0], rel=1e-12)
    assert none(x)[0] == 0.0


def test_pyro_samples_it(data):
    model, start = one_drift(data.iloc[:60])
    with torch.random.fork_rng():
        pyro.set_rng_seed(1)
        chain = MCMC(NUTS(model), num_samples=5, warmup_steps=5, initial_params=start, disable_progbar=True)
        chain.run()
    assert torch.isfinite(chain.get_samples()["v"]).all()


def test_wrong_shapes_and_codes_are_refused():
    lik, theta = hs.load_likelihood("ddm", kind="exact"), torch.tensor([[1.0, 1.0, 0.5, 0.3]]).double()
    good = lik.distribution(theta, [0, 0])
    with pytest.raises(InputError, match=r"theta must have 4 numbers .*, v a z t0; got shape \(3,\)"):
        lik.distribution(torch.ones(3))
    with pytest.raises(InputError, match="index must hold integers from 0 to 0"):
        lik.distribution(theta, [0, 1])
    with pytest.raises(InputError, match=r"an outcome must have shape \(2,\); got \(2, 3\)"):
        good.log_prob(torch.ones(2, 3))
    with pytest.raises(InputError, match=r"'response' must be one of -1, 1; got 0 in row 1"):
        good.log_prob(torch.tensor([[0.5, 1.0], [0.5, 0.0]]))
    with pytest.raises(InputError, match=r"'rt' must be a positive, finite number; got -0.5 in row 0"):
        good.log_prob(torch.tensor([[-0.5, 1.0], [0.5, 1.0]]))


def test_outcomes_of_any_kind():
    from factory import Poisson

    rate, chips = torch.tensor([[3.0], [9.0]]).double(), torch.tensor([[2.0], [8.0], [9.0]]).double()
    found = Poisson().distribution(rate, [0, 1, 1])
    expected = dist.Poisson(rate[[0, 1, 1], 0]).log_prob(chips[:, 0])
    torch.testing.assert_close(found.log_prob(chips), expected, rtol=1e-12, atol=1e-12)
    assert float(found.log_prob_sum(chips)) == pytest.approx(float(expected.sum()), rel=1e-12)
    assert found.sample().shape == (3, 1)
    with pytest.raises(InputError, match=r"'chips' know no lapses; expected lapse=0, got 0.1"):
        Poisson().distribution(rate, [0, 1], lapse=0.1)
    with pytest.raises(InputError, match="'chips' must be a whole number"):
        found.log_prob(chips + 0.5)
