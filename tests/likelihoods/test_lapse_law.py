"""The law of lapses by itself and in likelihoods: mass one, sums by hand, gradients, shares of every cell."""

import numpy as np
import pytest
import torch
from laws import random_thetas
from scipy import integrate

import hddm_sbi as hs
from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.cells import Ranges
from hddm_sbi.likelihoods.decision import DecisionLikelihood
from hddm_sbi.simulation import Observation

#: closed forms, and every way of the kernel of learned likelihoods.
NAMES = [("ddm", "exact"), ("lba", "exact"), ("ddm", "neural"), ("race3", "neural"), ("full_ddm", "neural")]
#: of every cell: nothing, next to nothing, usual ones, next to all.
SHARES = torch.tensor([0.0, 1e-9, 0.01, 0.3, 0.95, 1.0 - 1e-9], dtype=torch.float64)
N_CELLS = len(SHARES)


def laws(n_choices):
    """All alike, unlike over a range, one response only, exponential."""
    split = tuple(np.arange(1.0, n_choices + 1.0) / sum(range(n_choices + 1)))
    one = (1.0,) + (0.0,) * (n_choices - 1)
    alike = (1.0,) * n_choices
    return hs.LapseLaw(alike, 6.0), hs.LapseLaw(split, 6.0), hs.LapseLaw(one, 6.0), hs.LapseLaw(split, mean=1.7)


@pytest.fixture(scope="module", params=NAMES, ids=[" ".join(each) for each in NAMES])
def likelihood(request):
    return hs.load_likelihood(request.param[0], kind=request.param[1])


def table(likelihood, per_cell, incomplete=False, seed=3):
    """theta, outcomes, cells and how they were seen: trials from before the onset to the far tail, some incomplete."""
    rng, n = np.random.default_rng(seed), N_CELLS * per_cell
    theta = random_thetas(likelihood.simulator, N_CELLS, seed, margin=0.3)
    cell = rng.permutation(np.repeat(np.arange(N_CELLS), per_cell))
    values = np.stack(likelihood.simulator.simulate(theta[cell], seed), -1)
    # Without lapses a trial before the onset is impossible.
    values[cell > 0, 0] *= rng.choice([0.2, 1.0, 1.0, 4.0], (cell > 0).sum())
    values[:, 0] = values[:, 0].clip(1e-3, 5.9)
    whole, everywhere = np.ones(n, bool), (np.zeros(n), np.full(n, np.inf))
    timed = np.arange(n) % 5 != 2 if incomplete else whole
    seen = Observation(len(likelihood.simulator.choices), np.full(n, np.inf), None, *[everywhere] * 2, timed, whole)
    return torch.tensor(theta), seen.seen(values), cell, seen


def grouped(likelihood, law, values, cell, seen):
    return likelihood.group_by_cell(values, cell, N_CELLS, 6.0, seen).with_lapses(law)


@pytest.mark.parametrize("n_choices", [2, 3])
def test_mass_is_one_and_that_of_ranges_is_an_integral(n_choices):
    """By scipy's quad, 1e-9."""
    rng = np.random.default_rng(1)
    for law in laws(n_choices):

        def integral(low, high, c, law=law):
            end = min(high, law.seconds if law.mean is None else 60.0)
            given = integrate.quad(
                lambda t: float(law.density(np.array([t]), np.array([c]))[0]), low, end, epsabs=1e-12
            )
            return given[0] if low < end else 0.0

        assert sum(integral(0.0, np.inf, c) for c in range(n_choices)) == pytest.approx(1.0, abs=1e-9)
        low = rng.uniform(0.0, 5.0, (8, n_choices))
        high = low + rng.uniform(-1.0, 3.0, low.shape)
        high[:2] = np.inf
        low[2], high[2] = 0.7, 0.7
        found, point = law.mass(Ranges(low, high)), law.density(np.full(n_choices, 0.7), np.arange(n_choices)).sum()
        for i, mass in enumerate(found):
            pairs = enumerate(zip(low[i], high[i], strict=True))
            expected = point if i == 2 else sum(integral(a, b, c) for c, (a, b) in pairs if a < b)
            assert mass == pytest.approx(expected, abs=1e-9)


def test_samples_are_of_the_density():
    """20 000 lapses: shares of responses before 2 s within five standard errors."""
    n = 20_000
    for law in laws(3):
        rt, choice = law.sample(n, np.random.default_rng(2))
        early = Ranges(*(np.where(np.eye(3, dtype=bool), end, (1.0, 0.0)[i]) for i, end in enumerate((0.0, 2.0))))
        for c, share in enumerate(law.mass(early)):
            found = ((rt <= 2.0) & (choice == c)).mean()
            assert abs(found - share) <= 5 * np.sqrt(share * (1 - share) / n) + 1e-12


@pytest.mark.parametrize("per_cell", [3, 60])
@pytest.mark.parametrize("incomplete", [False, True], ids=["whole", "incomplete"])
def test_cells_are_sums_by_hand(likelihood, per_cell, incomplete):
    """In numpy, from densities of rows; incomplete trials from the masses of ranges. Every cell has its own share."""
    theta, values, cell, seen = table(likelihood, per_cell, incomplete)
    finite, share = np.isfinite(values).all(1), SHARES.numpy()[cell]
    with torch.no_grad():
        p = np.zeros(len(values))
        p[finite] = likelihood.log_prob_rows(torch.tensor(values[finite]), theta[cell[finite]]).exp().numpy()
        low, high = (torch.from_numpy(end[~finite]) for end in seen.ranges(values))
        if incomplete:
            p[~finite] = likelihood.log_mass_at(low, high, theta, torch.from_numpy(cell[~finite])).exp().numpy()
    for law in laws(len(likelihood.simulator.choices)):
        u = np.zeros(len(values))
        u[finite] = law.density(values[finite, 0], values[finite, 1].astype(int))
        u[~finite] = law.mass(Ranges(low.numpy(), high.numpy()))
        with np.errstate(divide="ignore"):
            expected = np.log((1 - share) * p + share * u)
        trials = grouped(likelihood, law, values, cell, seen)
        each = likelihood.log_prob_by_trial(trials, theta, SHARES).detach().numpy()
        # A response that is never a lapse has a density of 1e-300, which counts only where nothing else is there.
        sure = expected > -600.0
        np.testing.assert_allclose(each[sure], expected[sure], rtol=1e-7, atol=1e-7)
        total = likelihood.log_prob_by_cell(trials, theta, SHARES).detach().numpy()
        np.testing.assert_allclose(total, np.bincount(cell, each, N_CELLS), rtol=1e-9, atol=1e-9)
        # The definition in torch, which every kernel replaces.
        plain = DecisionLikelihood.complete_by_cell(likelihood, trials, theta, SHARES).detach().numpy()
        by_kernel = likelihood.complete_by_cell(trials, theta, SHARES).detach().numpy()
        np.testing.assert_allclose(by_kernel, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("per_cell", [3, 60])
@pytest.mark.parametrize("incomplete", [False, True], ids=["whole", "incomplete"])
def test_gradients_are_differences(likelihood, per_cell, incomplete):
    """By theta and by the log odds of every cell's share, from next to nothing to next to all; central differences."""
    theta, values, cell, seen = table(likelihood, per_cell, incomplete, seed=5)
    # A trial near the onset, of steep density, would decide the error of a difference.
    odds, step = torch.tensor([-18.0, -12.0, -4.6, -0.8, 3.0, 18.0], dtype=torch.float64), 1e-5
    shifts = 1e-6 if likelihood.kind == "neural" else 1e-5
    for law in laws(len(likelihood.simulator.choices))[1::2]:
        trials = grouped(likelihood, law, values, cell, seen)

        def total(at, eta, trials=trials):
            return likelihood.log_prob_by_cell(trials, at, torch.sigmoid(eta))

        at, eta = theta.clone().requires_grad_(), odds.clone().requires_grad_()
        by_theta, by_odds = torch.autograd.grad(total(at, eta).sum(), (at, eta))
        assert torch.isfinite(by_theta).all()
        difference = (total(theta, odds + step) - total(theta, odds - step)).detach() / (2 * step)
        torch.testing.assert_close(by_odds, difference, rtol=1e-5, atol=1e-5)
        for column in range(theta.shape[1]):
            move = torch.zeros_like(theta)
            move[:, column] = shifts
            slope = (total(theta + move, odds) - total(theta - move, odds)).detach() / (2 * shifts)
            torch.testing.assert_close(by_theta[:, column], slope, rtol=2e-4, atol=2e-3)


def test_all_outcomes_add_to_one(likelihood):
    """Responses before a deadline, by quadrature of the pointwise density in 400 nodes (1e-4), and omissions."""
    simulator = likelihood.simulator
    n_choices, deadline = len(simulator.choices), 1.2
    row = torch.tensor(random_thetas(simulator, 1, 3, margin=0.4))
    t0 = float(row[0, simulator.names.index("t0")])
    nodes, weights = np.polynomial.legendre.leggauss(400)
    rt = np.concatenate([0.5 * t0 * (1 + nodes), t0 + 0.5 * (deadline - t0) * (1 + nodes)])
    weight = np.concatenate([0.5 * t0 * weights, 0.5 * (deadline - t0) * weights])
    n, everywhere = len(rt) * n_choices + 1, lambda n: (np.zeros(n), np.full(n, np.inf))
    values = np.stack([np.tile(rt, n_choices), np.repeat(np.arange(n_choices), len(rt))], 1)
    values = np.concatenate([values, np.full((1, 2), np.nan)])
    whole = np.ones(n, bool)
    seen = Observation(n_choices, np.full(n, deadline), None, everywhere(n), everywhere(n), whole, whole)
    for law in laws(n_choices):
        trials = likelihood.group_by_cell(values, np.zeros(n, np.int64), 1, 6.0, seen).with_lapses(law)
        p = likelihood.log_prob_by_trial(trials, row, torch.tensor([0.4], dtype=torch.float64)).exp().numpy()
        assert float(np.tile(weight, n_choices) @ p[:-1]) + p[-1] == pytest.approx(1.0, abs=1e-4)


def test_distribution_with_a_share_of_every_row(likelihood):
    """A row of theta has a share, and the law is the one that is given; 6 000 draws, five standard errors."""
    simulator = likelihood.simulator
    theta = torch.tensor(random_thetas(simulator, 2, 3, margin=0.4))
    law, share = laws(len(simulator.choices))[3], torch.tensor([0.02, 0.9], dtype=torch.float64)
    index = np.repeat([0, 1], 3_000)
    distribution = likelihood.distribution(theta, index, lapse=share, lapses=law)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        drawn = distribution.sample()
    positions = simulator.outcomes[1].numbers(drawn[:, 1].numpy()).astype(int)
    p = likelihood.log_prob_rows(torch.stack([drawn[:, 0], torch.tensor(positions).double()], 1), theta[index]).exp()
    u = torch.from_numpy(law.density(drawn[:, 0].numpy(), positions))
    expected = torch.log((1 - share[index]) * p + share[index] * u)
    torch.testing.assert_close(distribution.log_prob(drawn), expected, rtol=1e-8, atol=1e-8)
    assert float(distribution.log_prob_sum(drawn)) == pytest.approx(float(expected.sum()), rel=1e-9)
    early = drawn[:, 0].numpy() < float(theta[:, simulator.names.index("t0")].min())
    mass = 1.0 - np.exp(-float(theta[:, simulator.names.index("t0")].min()) / 1.7)
    for row in (0, 1):
        q = float(share[row]) * mass
        assert abs(early[index == row].mean() - q) < 5 * np.sqrt(q * (1 - q) / 3_000)


def test_gradient_of_a_distribution_by_the_share_of_a_row(likelihood):
    theta = torch.tensor(random_thetas(likelihood.simulator, 2, 3, margin=0.4))
    trials = torch.tensor([[0.4, likelihood.simulator.choices[0]], [1.1, likelihood.simulator.choices[1]]]).double()
    found = []
    for way in ("log_prob", "log_prob_sum"):
        share = torch.tensor([0.05, 0.3], dtype=torch.float64, requires_grad=True)
        value = getattr(likelihood.distribution(theta, [0, 1], lapse=share), way)(trials).sum()
        found.append(torch.autograd.grad(value, share)[0])
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"split": (), "seconds": 1.0}, "the split of lapses must say how often each response is given"),
        ({"split": (0.0, 0.0), "seconds": 1.0}, r"got \(0.0, 0.0\)"),
        ({"split": (-1.0, 2.0), "seconds": 1.0}, r"got \(-1.0, 2.0\)"),
        ({"split": (1.0, 1.0)}, "lapses must have seconds over which they are uniform, or the mean"),
        ({"split": (1.0, 1.0), "mean": -2.0}, "mean=-2.0"),
    ],
)
def test_what_is_no_law_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        hs.LapseLaw(**given)


def test_a_share_or_a_law_that_does_not_fit_is_refused():
    exact, theta = hs.load_likelihood("ddm", kind="exact"), torch.tensor([[1.0, 1.0, 0.5, 0.3]]).double()
    with pytest.raises(InputError, match=r"one for each row of theta, \(1,\); got shape \(3,\)"):
        exact.distribution(theta, lapse=torch.full((3,), 0.1))
    with pytest.raises(InputError, match="a split among 2 responses"):
        exact.distribution(theta, lapse=0.1, lapses=hs.LapseLaw((1.0, 1.0, 1.0), 5.0))
