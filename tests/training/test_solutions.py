"""Shares of infinitely many trials, from a model's closed form or equation, in place of simulated ones."""

import numpy as np
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.likelihoods.decision import outcome_rows
from hddm_sbi.likelihoods.exact import ExactLikelihood
from hddm_sbi.likelihoods.mixture import Reduction
from hddm_sbi.training.histograms import simulate_histograms
from hddm_sbi.training.mixture import train_network
from hddm_sbi.training.recipe import Machine, Recipe
from hddm_sbi.training.solutions import solved_shard

QUIET = Machine(progress=False)
#: v, a, z of the Wiener process: in the middle, biased, and of rare errors.
WIENER = np.array([[1.0, 1.0, 0.5], [-2.0, 0.5, 0.7], [3.0, 1.5, 0.3], [0.0, 2.0, 0.85]])


def shares_of(name, theta, bins=96):
    simulator = hs.load_simulator(name)
    return solved_shard(simulator, Reduction(simulator), np.asarray(theta), Recipe(n_trials=0, bins=bins), 0, 1)


@pytest.mark.parametrize("name", ["ddm", "ornstein"])
def test_expectations_over_points_are_those_of_the_closed_form(name):
    """`ornstein`, whose equation is solved, is `ddm` without leak. Of 200 sets of points, the mean probability of a
    choice, moments of log decision time, and a wave that is finer than the points lie: 32 numbers within 5 standard
    errors (false alarms 2e-5), or 1e-5.

    A network that could learn where the points lie would do better on the wave.
    """
    exact, y = ExactLikelihood(hs.load_simulator("ddm")), np.linspace(-12.0, 5.0, 20_001)
    waves = (np.ones_like, np.asarray, np.square, lambda at: np.cos(60.0 * at))
    for v, a, z in WIENER:
        leak = [0.0] if name == "ornstein" else []
        got = shares_of(name, np.repeat([[v, a, z, 0.0, *leak]], 200, axis=0))
        theta = torch.tensor([[v, a, z, 0.0]], dtype=torch.float64).expand(len(y), -1)
        log_t = y + 2 * np.log(a)
        for choice in (0, 1):
            log_p = exact.log_prob_rows(outcome_rows(np.exp(log_t), np.full(len(y), choice)), theta).numpy() + log_t
            weight = np.exp(log_p) * (y[1] - y[0])
            share, at = (got[part][:, choice].numpy().astype(float) for part in ("share", "mean"))
            for wave in waves:
                found = (share * wave(at)).sum(1)
                error = found.std() / np.sqrt(len(found))
                assert abs(found.mean() - (weight * wave(y)).sum()) < 5 * error + 1e-5 * weight.sum() + 1e-9


@pytest.mark.parametrize(
    ("name", "theta"),
    [
        ("ddm", [1.0, 1.0, 0.5, 0.0]),
        ("ornstein", [1.0, 1.0, 0.5, 0.0, 0.0]),
        ("weibull", [1.0, 1.5, 0.5, 0.0, 4.0, 0.6]),  # bounds that fall before most decisions
        ("race", [0.37, 2.71, 0.12, 0.0, 1.28]),  # most decisions just before the threshold is 0
    ],
)
def test_the_noise_of_points_falls_faster_than_the_square_of_their_number(name, theta):
    """Mean log reduced time of 400 sets of 64 and of 256 points, whose variances are known to 7 %. Without
    strata, 4 times as many points have a fourth of it. 256 points tell it as well as a million trials."""
    variance = []
    for bins in (64, 256):
        got = shares_of(name, [theta] * 400, bins)
        share, y = (got[part].double() for part in ("share", "mean"))
        mean, square = ((share * y**power).sum((1, 2)) for power in (1, 2))
        variance.append(float(mean.var()))
    assert variance[0] / variance[1] > 15.0
    assert float(square.mean() - mean.mean() ** 2) / variance[1] > 1e6


@pytest.mark.parametrize("name", ["dmc", "ssp"])
def test_shares_are_those_of_simulated_trials(name):
    """Choices of 1e5 trials, and mean log decision times of those made 100 times, at 4 thetas: at most 16 numbers
    within 4.5 standard errors (false alarms 1e-4)."""
    simulator = hs.load_simulator(name)
    rng, n = np.random.default_rng(3), 100_000
    for code in (-1.0, 0.0, 1.0, -1.0):
        theta = np.array([rng.uniform(*p.typical) if not p.codes else code for p in simulator.parameters])
        for added in ("t0", "st0"):
            theta[simulator.names.index(added)] = 0.0
        got = shares_of(name, [theta])
        rt, choice = simulator.simulate(np.tile(theta, (n, 1)), seed=5)
        scale = float(Reduction(simulator).log_time_scale(torch.tensor(theta)[None]))
        for c in (0, 1):
            share, mean = (got[part][0, c].numpy().astype(float) for part in ("share", "mean"))
            p, y = share.sum(), np.log(rt[choice == c]) - scale
            assert abs((choice == c).mean() - p) < 4.5 * np.sqrt(p * (1 - p) / n)
            assert len(y) < 100 or abs(y.mean() - np.average(mean, weights=share)) < 4.5 * y.std() / np.sqrt(len(y))


def test_where_the_equation_has_no_solution_all_shares_are_zero(monkeypatch):
    monkeypatch.setattr("hddm_sbi.training.solutions._FAR_OFF", 0.0)
    assert shares_of("weibull", [[1.0, 1.0, 0.5, 0.0, 2.0, 1.5]])["share"].sum() == 0.0


@pytest.mark.parametrize("name", ["lba", "rdm", "lnr", "race"])
def test_shares_of_an_accumulator_are_those_of_its_finishing_times(name):
    """Mean log finishing time and its square of 1e5 of them, at 4 thetas: 8 numbers within 4.5 standard errors (false
    alarms 5e-5 each)."""
    simulator, rng, n = hs.load_simulator(name), np.random.default_rng(4), 100_000
    for _ in range(4):
        theta = np.array([rng.uniform(p.low, p.high) if p.name != "t0" else 0.0 for p in simulator.learned])
        got = {part: values[0, 0].numpy().astype(float) for part, values in shares_of(name, [theta]).items()}
        reduction, at = Reduction(simulator), torch.tensor(theta)[None]
        times = torch.as_tensor(simulator.simulate_accumulator(np.tile(theta, (n, 1)), seed=5))
        y = reduction.log_time(times[None], at)[0][0].numpy()
        assert abs(got["share"].sum() - 1.0) < 1e-6
        for power in (1, 2):
            assert abs((y**power).mean() - got["share"] @ got["mean"] ** power) < 4.5 * (y**power).std() / np.sqrt(n)


def test_decisions_that_end_are_learned_on_their_clock():
    """`angle` with bounds that soon meet: choices and mean log reduced time within 4.5 se of 1e5 trials."""
    simulator, theta, n = hs.load_simulator("angle"), np.array([1.0, 1.5, 0.6, 0.0, 1.2]), 100_000
    got = shares_of("angle", [theta])
    rt, choice = simulator.simulate(np.tile(theta, (n, 1)), seed=6)
    y = Reduction(simulator).log_time(torch.as_tensor(rt)[None], torch.tensor(theta)[None])[0][0].numpy()
    for c in (0, 1):
        share, mean = (got[part][0, c].numpy().astype(float) for part in ("share", "mean"))
        p, own = share.sum(), y[choice == c]
        assert abs(len(own) / n - p) < 4.5 * np.sqrt(p * (1 - p) / n)
        assert abs(own.mean() - np.average(mean, weights=share)) < 4.5 * own.std() / np.sqrt(len(own))


@pytest.mark.parametrize("name", ["lca3", "lca4"])
def test_models_without_closed_form_or_equation(name, tmp_path):
    with pytest.raises(hs.InputError, match="declares neither a closed form nor an equation; learn its simulations"):
        simulate_histograms(hs.load_simulator(name), Recipe(n_thetas=4, n_trials=0), tmp_path, QUIET)


def test_a_network_learns_from_solutions(tmp_path):
    """And goes on from what the folder keeps: the same weights."""
    recipe = Recipe(n_thetas=40, n_trials=0, steps=30, batch=20, shard=20)
    simulator = hs.load_simulator("ornstein")
    first, again = (train_network(simulator, recipe, tmp_path, machine=QUIET).state_dict() for _ in range(2))
    assert sorted(path.name for path in tmp_path.glob("histograms-*.safetensors")) == [
        f"histograms-000{i}.safetensors" for i in (0, 1)
    ]
    assert all(torch.equal(first[name], again[name]) for name in first)
