"""Decisions that end at a time, and decisions that are delayed: laws that hold for any weights."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.catalogue import load_simulator
from hddm_sbi.likelihoods.decision import SortedTrials, outcome_rows
from hddm_sbi.likelihoods.mixture import Architecture, Mixture, MixtureLikelihood, MixtureNetwork, Reduction

NAMES = ("angle", "full_ddm", "weibull", "levy")


def untrained(name):
    simulator = load_simulator(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = MixtureNetwork(Reduction(simulator), Architecture())
        for layers in (network.density, network.score):
            torch.nn.init.normal_(layers[-1].weight, std=0.05)
    return MixtureLikelihood(simulator, network, simulator.box)


LIKELIHOODS = {name: untrained(name) for name in NAMES}


def thetas(name, n, seed):
    low, high = np.array(list(load_simulator(name).box.values())).T
    return torch.tensor(low + (high - low) * np.random.default_rng(seed).uniform(0.05, 0.95, (n, len(low))))


def some_trials(name, n, seed):
    """Trials drawn from the likelihood itself, each with a theta of its own."""
    theta = thetas(name, n, seed)
    rt, choice = torch.tensor(LIKELIHOODS[name].sample_rows(theta, seed)).unbind(-1)
    return rt, choice.long(), theta


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_sums_of_trials_with_the_same_gradient(name):
    """The kernel against the torch definition: 1e-9, relative where larger than 1; some trials outside the support."""
    likelihood = LIKELIHOODS[name]
    rt, _, theta = some_trials(name, 6, seed=1)
    cell = np.repeat(np.arange(6), 60)
    times = np.repeat(rt.numpy(), 60) * np.random.default_rng(2).uniform(0.7, 1.6, 360)
    choice = np.arange(360) % 2
    trials = SortedTrials.sort(times, choice, cell, 6, 2)
    lapse = torch.tensor(0.05, dtype=torch.float64)
    results = []
    for way in ("kernel", "definition"):
        at, share = theta.clone().requires_grad_(), lapse.clone().requires_grad_()
        if way == "kernel":
            total = likelihood.log_prob_by_cell(trials, at, share)
        else:
            total = super(MixtureLikelihood, likelihood).complete_by_cell(trials, at, share.expand(6))
        results.append([total.detach(), *torch.autograd.grad(total.sum(), (at, share))])
    for one, other in zip(*results, strict=True):
        gap = (one - other).abs() / other.abs().clamp(min=1.0)
        assert float(gap.max()) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_gradient_agrees_with_differences(name):
    """Central differences of the kernel, 1e-5 of the largest entry."""
    likelihood = LIKELIHOODS[name]
    rt, choice, theta = some_trials(name, 5, seed=3)
    trials = SortedTrials.sort(rt.numpy(), choice.numpy(), np.arange(5), 5, 2)
    lapse = torch.tensor(0.0, dtype=torch.float64)
    at = theta.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(likelihood.log_prob_by_cell(trials, at, lapse).sum(), at)
    step = 1e-6
    for column in range(theta.shape[1]):
        by = torch.zeros_like(theta)
        by[:, column] = step
        above, below = (likelihood.log_prob_by_cell(trials, theta + sign * by, lapse) for sign in (1, -1))
        difference = (above - below) / (2 * step)
        torch.testing.assert_close(gradient[:, column], difference, rtol=1e-5, atol=1e-5 * float(gradient.abs().max()))


# Distribution functions under a delay take ten times as long; tests/likelihoods/test_distribution_functions.py
# integrates that density as well.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "full_ddm" else name for name in NAMES]
)
def test_mass_is_one_and_the_cdf_its_integral(name):
    """Trapezoids over t for 5 thetas: 1e-5; survival and distribution function add up to one: 1e-9."""
    likelihood = LIKELIHOODS[name]
    for row in thetas(name, 5, seed=4):
        # In log decision time, dense where a delay ends; up to the end of all decisions.
        end = 1.0 / float(likelihood.network.reduction.clock(row[None])[0, 0]) if name == "angle" else 400.0
        d = torch.cat([torch.logspace(-6, 0, 20_001), 1 - torch.logspace(-6, -1, 5_001)]).double().unique() * end
        if name == "full_ddm":
            d = torch.cat([d, row[6] + torch.logspace(-6, 2, 20_001).double()]).unique()
        rows = row.expand(len(d), -1)
        mass = 0.0
        for choice in (0, 1):
            choices = torch.full((len(d),), choice)
            density = torch.exp(likelihood.log_prob_rows(outcome_rows(d + row[3], choices), rows))
            steps = torch.diff(d) * 0.5 * (density[1:] + density[:-1])
            cdf = likelihood.cdf_rows(outcome_rows(d + row[3], choices), rows)
            torch.testing.assert_close(cdf[1:] - cdf[0], steps.cumsum(0), rtol=0, atol=1e-5)
            mass = mass + cdf
        assert abs(float(mass[-1]) - 1.0) < 1e-5
        survival = likelihood.log_survival_rows(d + row[3], rows).exp()
        torch.testing.assert_close(mass + survival, torch.ones_like(d), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_samples_follow_the_distribution(name):
    """20 000 draws of one theta: Kolmogorov-Smirnov at a false-alarm rate of 1e-6, choices included."""
    likelihood, n = LIKELIHOODS[name], 20_000
    rows = thetas(name, 1, seed=5).expand(n, -1)
    rt, choice = likelihood.sample_rows(rows, seed=6).T
    u = 1 - likelihood.log_survival_rows(torch.tensor(np.sort(rt)), rows).exp().numpy()
    assert np.abs(u - (np.arange(n) + 0.5) / n).max() < 2.71 / np.sqrt(n)
    share = float(likelihood.cdf_rows(outcome_rows(torch.tensor([np.inf]), torch.tensor([1])), rows[:1])[0])
    assert abs(choice.mean() - share) < 5 * np.sqrt(share * (1 - share) / n)


def test_a_delay_averages_the_density_without_it():
    """Against Gauss quadrature over the delay, 64 nodes: 1e-6 of the density."""
    likelihood = LIKELIHOODS["full_ddm"]
    row = torch.tensor([[1.0, 1.2, 0.5, 0.3, 0.5, 0.2, 0.2]], dtype=torch.float64)
    nodes, weights = np.polynomial.legendre.leggauss(64)
    rt = torch.linspace(0.6, 3.0, 40, dtype=torch.float64)
    choice = torch.ones(40, dtype=torch.int64)
    average = torch.zeros(40, dtype=torch.float64)
    for node, weight in zip(nodes, weights, strict=True):
        at = row.clone()
        at[0, 3] += 0.1 * (1 + node)
        at[0, 6] = 0.0
        average += 0.5 * weight * torch.exp(likelihood.log_prob_rows(outcome_rows(rt, choice), at.expand(40, -1)))
    got = torch.exp(likelihood.log_prob_rows(outcome_rows(rt, choice), row.expand(40, -1)))
    torch.testing.assert_close(got, average, rtol=1e-6, atol=0)


def test_a_vanishing_delay_is_none():
    """Delays of 0, 1e-6 and 1e-4 s: the density changes in proportion, and the gradient stays finite."""
    likelihood = LIKELIHOODS["full_ddm"]
    row = torch.tensor([1.0, 1.2, 0.5, 0.3, 0.5, 0.2, 0.0], dtype=torch.float64)
    theta = torch.stack([row, row, row])
    theta[:, 6] = torch.tensor([0.0, 1e-6, 1e-4])
    theta.requires_grad_()
    value = likelihood.log_prob_rows(
        outcome_rows(torch.full((3,), 0.8).double(), torch.ones(3, dtype=torch.int64)), theta
    )
    (gradient,) = torch.autograd.grad(value.sum(), theta)
    value = value.detach()
    assert torch.isfinite(gradient).all()
    assert abs(float(value[1] - value[0])) < 1e-5
    assert abs(float(value[2] - value[0])) < 1e-3
    assert abs(float(value[2] - value[0]) / 1e-4 - float(gradient[2, 6])) < 0.05 * abs(float(gradient[2, 6]))


def test_interval_of_a_normal_without_cancellation():
    """log[Phi(b) - Phi(a)] against scipy's, on either side, narrow and wide, to 1e-9."""
    rng = np.random.default_rng(7)
    low = rng.uniform(-8, 8, 400)
    high = low + np.exp(rng.uniform(-16, 2, 400))
    one = Mixture(*(torch.zeros(400, 1, dtype=torch.float64) for _ in range(3)))
    middle, width = 0.5 * (low + high), high - low
    got = one.log_between(*map(torch.tensor, (low, high, width))).numpy()
    wide = np.where(low > 0, norm.sf(low) - norm.sf(high), norm.cdf(high) - norm.cdf(low))
    series = norm.pdf(middle) * width * (1 + width**2 * (middle**2 - 1) / 24)
    np.testing.assert_allclose(got, np.log(np.where(width < 1e-3, series, wide)), atol=1e-9, rtol=1e-9)


def test_no_density_once_the_bounds_have_met():
    likelihood = LIKELIHOODS["angle"]
    theta = torch.tensor([[1.0, 1.0, 0.5, 0.3, float(np.arctan(0.5))]], dtype=torch.float64).repeat(4, 1)
    theta.requires_grad_()
    rt = torch.tensor([0.3, 2.29, 2.31, 5.0], dtype=torch.float64)
    value = likelihood.log_prob_rows(outcome_rows(rt, torch.ones(4, dtype=torch.int64)), theta)
    assert torch.isfinite(value).tolist() == [False, True, False, False]
    (gradient,) = torch.autograd.grad(value[1], theta)
    assert torch.isfinite(gradient).all()
    assert likelihood.log_survival_rows(rt, theta.detach()).exp().tolist()[2:] == [0.0, 0.0]


def test_a_delay_with_a_clock_is_refused():
    import dataclasses

    angle = load_simulator("angle")
    both = dataclasses.replace(angle, symmetries=dataclasses.replace(angle.symmetries, delay="theta", tangents=()))
    with pytest.raises(InputError, match="it may not race, have a heavy tail or a clock"):
        Reduction(both)
