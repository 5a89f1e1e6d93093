"""Races with reflection and collapsing thresholds: their equation, and what a network would learn of them.

That simulated trials follow the equation is tested beside that of the diffusions, in test_diffusions.py.
"""

import math

import laws
import numpy as np
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.likelihoods.decision import SortedTrials, outcome_rows
from hddm_sbi.likelihoods.exact import ExactLikelihood
from hddm_sbi.likelihoods.mixture import Architecture, MixtureLikelihood, MixtureNetwork, Reduction

NAMES = ("race", "race3", "race4")
RACE3 = hs.load_simulator("race3")


def random_thetas(name, n, seed):
    """Uniform in the box, without non-decision time."""
    simulator = hs.load_simulator(name)
    theta = laws.random_thetas(simulator, n, seed)
    theta[:, simulator.names.index("t0")] = 0.0
    return theta


# ---- the equation


@pytest.mark.parametrize(("a", "z", "theta"), [(1.0, 0.3, 0.2), (2.0, 0.0, 0.9), (0.5, 0.9, 0.0)])
def test_without_drift_it_is_the_folded_wiener_process(a, z, theta):
    """|B| reaches a - t tan(theta) when B leaves the strip: `angle` in closed form, over both choices, times its
    survival function for the other accumulator. 1e-6, relative."""
    race, angle = hs.load_simulator("race"), ExactLikelihood(hs.load_simulator("angle"))
    end = min(2.0 * a * a, 0.6 * a / math.tan(theta) if theta else math.inf)
    t = torch.linspace(0.0, 1.0, 51, dtype=torch.float64)[1:] ** 2 * end
    found = race.passage(0.0, 0.0, a, z, 0.0, theta, t_max=end).log_density(t.numpy())
    rows = torch.tensor([0.0, a, (1.0 + z) / 2.0, 0.0, theta], dtype=torch.float64).expand(len(t), -1)
    each = torch.stack([angle.log_prob_rows(outcome_rows(t, torch.full((len(t),), c)), rows) for c in (0, 1)])
    expected = (torch.logsumexp(each, 0) + angle.log_survival_rows(t, rows)).numpy()
    np.testing.assert_allclose(found[0], expected, rtol=1e-9, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() == 0.0


@pytest.mark.parametrize(("v", "a", "z"), [(2.0, 1.0, 0.2), (1.0, 0.5, 0.9), (5.0, 3.0, 0.0)])
def test_mean_finishing_time(v, a, z):
    """(a - x) / v - (e^-2vx - e^-2va) / 2v² (by Dynkin's formula) of 200 000 trials, without collapse: 5 se."""
    x, n = z * a, 200_000
    race = hs.load_simulator("race")
    rt = race.simulate_accumulator(np.tile([v, a, z, 0.0, 0.0], (n, 1)), seed=1)
    mean = (a - x) / v - (math.exp(-2 * v * x) - math.exp(-2 * v * a)) / (2 * v * v)
    assert abs(rt.mean() - mean) < 5 * rt.std() / math.sqrt(n)


@pytest.mark.parametrize("name", NAMES)
def test_permuting_and_scaling(name):
    """The density of a theta, of its permutation, and in units of a: 1e-6, relative."""
    simulator = hs.load_simulator(name)
    n = len(simulator.choices)
    theta = random_thetas(name, 1, seed=3)[0]
    a, angle = theta[n], theta[-1]
    end = min(0.5 * a / math.tan(angle), 2.0 * a * a)
    t = np.linspace(0.02, 1.0, 50) * end
    original = simulator.passage(*theta, t_max=end).log_density(t)
    turned = np.concatenate([np.roll(theta[:n], 1), theta[n:]])
    scaled = np.concatenate([theta[:n] * a, [1.0], theta[n + 1 : -1], [math.atan(math.tan(angle) * a)]])
    permuted = simulator.passage(*turned, t_max=end).log_density(t)
    assert np.abs(np.roll(original, 1, axis=0) - permuted).max() < 1e-6
    reduced = simulator.passage(*scaled, t_max=end / a**2).log_density(t / a**2) - 2.0 * math.log(a)
    assert np.abs(reduced - original).max() < 1e-6


# ---- what a network would learn


def test_racing_on_a_clock():
    """Untrained: nothing survives the end, and the kernel agrees with the torch definition, with gradient: 1e-9,
    relative where larger than 1; some trials lie outside the support."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        likelihood = MixtureLikelihood(RACE3, MixtureNetwork(Reduction(RACE3), Architecture()), RACE3.box)
    theta = torch.tensor(random_thetas("race3", 6, seed=1))
    rt = likelihood.sample_rows(theta, 1)[:, 0]
    times = np.repeat(rt, 60) * np.random.default_rng(2).uniform(0.7, 1.6, 360)
    trials = SortedTrials.sort(times, np.arange(360) % 3, np.repeat(np.arange(6), 60), 6, 3)
    lapse = torch.tensor(0.05, dtype=torch.float64)
    results = []
    for way in (likelihood.log_prob_by_cell, super(MixtureLikelihood, likelihood).complete_by_cell):
        at, share = theta.clone().requires_grad_(), lapse.clone().requires_grad_()
        total = way(trials, at, share.expand(6))
        results.append([total.detach(), *torch.autograd.grad(total.sum(), (at, share))])
    for one, other in zip(*results, strict=True):
        assert float(((one - other).abs() / other.abs().clamp(min=1.0)).max()) < 1e-9
    end = 1.0 / likelihood.network.reduction.clock(theta)[:, 0]
    assert likelihood.log_survival_rows(end * 1.0001, theta).exp().tolist() == [0.0] * 6
