"""Any simulator to a likelihood: right where the truth is known, checked in both directions, saved without code."""

import json
import math
import pickle
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path

import numba as nb
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from factory import Poisson, cookies
from scipy import stats

import hddm_sbi as hs
from hddm_sbi import EstimatorShape
from hddm_sbi.errors import InputError, TrainingWarning
from hddm_sbi.likelihoods import Encoding, checkpoint
from hddm_sbi.likelihoods.mixture import MixtureLikelihood
from hddm_sbi.simulation import as_json
from hddm_sbi.training import factored, mixture
from hddm_sbi.training.held_out import check
from hddm_sbi.training.proposal import design_parameters, propose

SMALL = EstimatorShape(hidden=16, depth=1, components=4)
QUIET = {"progress": False, "shape": SMALL, "seed": 1}


@hs.declare(parameters={"mu": (-2, 2), "sd": (0.5, 2)}, outcomes={"x": "real", "size": "positive", "side": ("l", "r")})
def parcel(mu, sd, rng):
    side = "r" if rng.random() < 0.7 else "l"
    return mu + sd * rng.standard_normal(), rng.lognormal(mu if side == "r" else -mu, 0.5), side


@hs.declare(
    parameters={"p": (0.2, 0.8), "m": (-1.5, 0.5), "t0": (0.1, 0.5)},
    outcomes={"rt": "positive", "response": (-1, 1)},
    symmetries=hs.Symmetries(shift="t0"),
)
@nb.njit
def coin(p, m, t0, rng):
    """A response that does not depend on the time it takes."""
    return t0 + math.exp(m + 0.5 * rng.standard_normal()), 1 if rng.random() < p else -1


def trained(simulator, n=6_000, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        return hs.train_likelihood(simulator, n_simulations=n, **{**QUIET, **options})


@pytest.fixture(scope="module")
def learned_cookies():
    return trained(cookies, 20_000)


@pytest.fixture(scope="module")
def learned_parcel():
    return trained(parcel, 4_000)


@pytest.fixture(scope="module")
def learned_coin():
    return trained(coin)


def mean_divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> float:
    """KL per outcome from outcomes drawn from p, by the control variate q/p - 1."""
    error = log_p - log_q
    return float((torch.expm1(-error) + error).mean())


def test_counts_are_learned(learned_cookies):
    """Divergence per cookie: 0.05 separates any two rates that differ by a tenth of their size at rate 10."""
    rate = torch.linspace(1.0, 19.0, 200, dtype=torch.float64)
    chips = torch.arange(float(learned_cookies.n_values(0)), dtype=torch.float64)
    log_q = torch.stack([learned_cookies.log_prob({"chips": chips}, {"rate": r}) for r in rate])
    log_p = dist.Poisson(rate.unsqueeze(-1)).log_prob(chips)
    assert float((log_p.exp() * (log_p - log_q)).sum(-1).mean()) < 0.01
    torch.testing.assert_close(log_q.exp().sum(-1), torch.ones(200, dtype=torch.float64), rtol=0, atol=1e-12)


def test_mixed_outcomes_are_learned(learned_parcel):
    """10 000 outcomes of all three kinds; divergence of an untrained network is above 1."""
    theta = propose(parcel, None, 10_000, seed=3)
    values = parcel.simulate_outcomes(theta, seed=4).values
    mu, sd = theta.T
    log_p = stats.norm.logpdf(values[:, 0], mu, sd) + np.log(np.where(values[:, 2] == 1, 0.7, 0.3))
    log_p += stats.lognorm.logpdf(values[:, 1], 0.5, scale=np.exp(np.where(values[:, 2] == 1, mu, -mu)))
    log_q = learned_parcel.log_prob_rows(torch.as_tensor(values), torch.as_tensor(theta))
    assert mean_divergence(torch.as_tensor(log_p), log_q) < 0.1
    drawn = learned_parcel.sample({"mu": 1.0, "sd": 1.0}, n_trials=400, seed=1)
    assert drawn.columns.tolist() == ["x", "size", "side"]
    assert set(drawn["side"]) == {"l", "r"}
    assert drawn.equals(learned_parcel.sample({"mu": 1.0, "sd": 1.0}, n_trials=400, seed=1))


@pytest.mark.parametrize(
    ("ahead", "spread", "chosen"),
    [([0.0, 0.01, 0.02], 0.1, 2), ([0.0, 0.01, 0.02], 9.0, 0), ([0.0, 0.3, 0.3], 3.0, 1), ([0.0, -0.3, -0.1], 0.1, 0)],
)
def test_the_simplest_network_within_two_standard_errors_is_taken(ahead, spread, chosen):
    """10 000 rows, of which a network is ahead on average by so much, and by so much more or less in every other."""
    more_or_less = torch.tensor([1.0, -1.0]).repeat(5_000)
    each = torch.tensor(ahead).unsqueeze(1) + spread * torch.arange(3).unsqueeze(1) * more_or_less
    fits = [factored.Fitted(EstimatorShape(), None, (), score) for score in each]
    assert factored._best(fits) is fits[chosen]


def test_counted_outcomes_are_as_many_as_were_simulated():
    theta = design_parameters(cookies, None, 5_000, seed=1)
    values = cookies.simulate_outcomes(theta, seed=2).values
    rows = factored.Rows.of(Encoding.of(cookies, values, theta), values, theta)
    assert (len(rows), rows.n_simulations) == (1_000, 5_000)
    np.testing.assert_allclose(rows.discrete.sum(-1), 1.0, rtol=1e-6)


@hs.declare(parameters={"mu": (-2, 2), "wave": (-3, 3)}, outcomes={"x": "real"}, vectorised=True)
def bell(mu, wave, rng):
    return mu + np.sin(wave) + rng.standard_normal(len(mu))


def test_numbers_bend_where_simulations_say_so():
    """Of a normal law whose mean has a sine and whose width is the same everywhere: the sine is there, and of the noise
    that would bend the width, .03 as a mean square without a prior, next to nothing."""
    learned = trained(bell, shape=EstimatorShape(components=1))
    theta = torch.as_tensor(propose(bell, None, 2_000, seed=3))
    (factor,) = learned.network.factors
    with torch.no_grad():
        inputs = learned.encoding.condition(theta)
        numbers = factor(inputs)
        bends = factor.bends(inputs, numbers)
        straight = factor.straight(inputs) + factor.bent.bias
    torch.testing.assert_close(bends, (numbers[:, :3] - straight).square().mean(0), rtol=1e-9, atol=1e-15)
    _weight, mean, width = bends.tolist()
    assert mean > 0.02
    assert width < 4e-5
    location = numbers[:, 1] * learned.encoding.spread[0] + learned.encoding.location[0]
    error = location - theta[:, 0] - torch.sin(theta[:, 1])
    assert float(error.square().mean()) < 0.01


def test_a_shift_is_exact(learned_coin):
    theta = {"p": 0.5, "m": -0.5, "t0": 0.3}
    later = learned_coin.log_prob([0.9, 1.1], [1, -1], {**theta, "t0": 0.4})
    torch.testing.assert_close(learned_coin.log_prob([0.8, 1.0], [1, -1], theta), later, rtol=0, atol=1e-12)
    assert learned_coin.log_prob([0.3, 0.2], [1, 1], theta).tolist() == [-math.inf, -math.inf]
    exact = stats.lognorm.logpdf(np.array([0.5, 0.7]), 0.5, scale=np.exp(-0.5)) + math.log(0.5)
    np.testing.assert_allclose(learned_coin.log_prob([0.8, 1.0], [1, -1], theta), exact, atol=0.15)
    np.testing.assert_allclose(learned_coin.choice_probabilities(theta)[0], [0.5, 0.5], atol=0.05)


def test_gradients_are_those_of_differences(learned_cookies, learned_coin, learned_parcel):
    for likelihood, values in (
        (learned_cookies, [[4.0]]),
        (learned_coin, [[0.9, 1.0]]),
        (learned_parcel, [[0.3, 1.2, 1.0]]),
    ):
        theta = torch.tensor([[(low + high) / 2 for low, high in likelihood.box.values()]], dtype=torch.float64)
        x = torch.tensor(values, dtype=torch.float64)
        at = theta.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(likelihood.log_prob_rows(x, at).sum(), at)
        step = 1e-6 * torch.eye(theta.shape[1], dtype=torch.float64)
        up, down = (likelihood.log_prob_rows(x.expand(len(step), -1), theta + s * step) for s in (1, -1))
        torch.testing.assert_close(gradient[0], (up - down) / 2e-6, rtol=1e-6, atol=1e-6)


def test_cells_are_sums_over_trials(learned_cookies, learned_coin, learned_parcel):
    rng = np.random.default_rng(1)
    cell = rng.integers(0, 3, 40)
    for likelihood in (learned_cookies, learned_coin, learned_parcel):
        theta = propose(likelihood.simulator, None, 3, seed=1)
        values = likelihood.simulator.simulate_outcomes(theta[cell], seed=2).values
        trials = likelihood.group_by_cell(values, cell, 3)
        at = torch.as_tensor(theta)
        each = likelihood.log_prob_rows(torch.as_tensor(values), at[torch.as_tensor(cell)])
        expected = torch.zeros(3, dtype=torch.float64).index_add(0, torch.as_tensor(cell), each)
        found = likelihood.log_prob_by_cell(trials, at, torch.zeros((), dtype=torch.float64))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(trials.values, values[trials.order])


@pytest.mark.parametrize("name", ["learned_cookies", "learned_coin", "learned_parcel"])
def test_what_is_saved_comes_back(name, request, tmp_path):
    likelihood, path = request.getfixturevalue(name), tmp_path / "mine.safetensors"
    likelihood.save(path)
    again = hs.load_likelihood(path)
    assert repr(again) == repr(likelihood)
    assert again.box == likelihood.box
    assert again.card.validation == likelihood.card.validation
    assert not again.simulator.can_simulate
    theta = torch.as_tensor(propose(likelihood.simulator, None, 50, seed=1))
    values = torch.as_tensor(likelihood.simulator.simulate_outcomes(theta.numpy(), seed=2).values)
    torch.testing.assert_close(
        again.log_prob_rows(values, theta), likelihood.log_prob_rows(values, theta), rtol=0, atol=0
    )
    np.testing.assert_array_equal(again.sample_rows(theta, 3), likelihood.sample_rows(theta, 3))
    here = hs.load_likelihood(path, simulator=likelihood.simulator)
    assert here.simulator.can_simulate


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize(("limit", "few"), [(-2.6, True), (-0.5, False)])
def test_few_outcomes_at_a_limit_are_left_out(limit, few):
    """One in 200 of a normal outcome, which a network has no density for; where one in three is there, they are the
    law."""

    @hs.declare({"mu": (-0.2, 0.2)}, {"x": "real"}, vectorised=True)
    def cut(mu, rng):
        return np.maximum(limit, mu + rng.standard_normal(len(mu)))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TrainingWarning)
        likelihood = hs.train_likelihood(cut, n_simulations=20_000, **QUIET)
    said = [str(warning.message) for warning in caught if "as if cut there" in str(warning.message)]
    assert len(said) == few
    assert (likelihood.encoding.reach[0][0] > limit) == few
    if few:
        number = int(said[0].split(" of 20000 simulations")[0].split()[-1])
        assert number == pytest.approx(20_000 * 0.005, rel=0.5)


@pytest.mark.usefixtures("few_steps")
def test_same_seed_same_likelihood():
    one, two, other = (trained(cookies, 1_000, seed=seed) for seed in (1, 1, 2))
    chips = {"chips": [3, 9]}
    assert torch.equal(one.log_prob(chips, {"rate": 5.0}), two.log_prob(chips, {"rate": 5.0}))
    assert not torch.equal(one.log_prob(chips, {"rate": 5.0}), other.log_prob(chips, {"rate": 5.0}))
    assert one.card.validation == two.card.validation


@pytest.mark.usefixtures("few_steps")
def test_training_leaves_no_trace(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    validate, state = torch.distributions.Distribution._validate_args, torch.get_rng_state()
    likelihood = trained(cookies, 1_000)
    assert not list(tmp_path.iterdir())
    assert torch.distributions.Distribution._validate_args == validate
    assert torch.equal(torch.get_rng_state(), state)
    assert capsys.readouterr().out == ""
    assert len(likelihood.card.validation) > 5
    assert likelihood.card.validation[-1] < likelihood.card.validation[0]


# ---- the check, in both directions


def checked(likelihood) -> object:
    theta = propose(cookies, None, 2_000, seed=11)
    return check(likelihood, cookies.simulate_outcomes(theta, seed=12).values, theta, seed=13)


def test_the_check_passes_what_is_right():
    """2 000 simulations; an honest likelihood fails in 1 of 1 000 checks."""
    found = checked(Poisson())
    assert found.passed
    assert found.verdict.startswith("Good: Held-out log score")
    # Mean log density of a Poisson distribution over rates 0.5 to 20, by summation; sd of one is 0.8.
    rate, chips = np.linspace(0.5, 20, 500)[:, None], np.arange(80)
    exact = (stats.poisson.pmf(chips, rate) * stats.poisson.logpmf(chips, rate)).sum(1).mean()
    assert abs(found.log_score - exact) < 5 * 0.8 / math.sqrt(2_000)
    assert abs(found.mass - 1) < 1e-9


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_the_check_fails_what_is_biased(factor):
    found = checked(Poisson(factor))
    assert not found.passed
    assert "Not good yet" in found.verdict
    assert "miscalibrated in chips" in found.verdict


def test_the_check_fails_what_is_no_density():
    found = checked(Poisson(mass=1.01))
    assert abs(found.mass - 1.01) < 1e-9
    assert not found.passed
    assert "Total mass is 1.010000, which is not 1" in found.verdict


@pytest.mark.usefixtures("few_steps")
def test_a_biased_likelihood_is_warned_about(monkeypatch):

    monkeypatch.setattr(factored, "check", lambda *_: checked(Poisson(1.1)))
    with pytest.warns(TrainingWarning, match="Not good yet"):
        hs.train_likelihood(cookies, n_simulations=3_000, **QUIET)


# ---- symmetries: the reduced mixture


@hs.declare(
    parameters={"v": (-2, 2), "z": (0.3, 0.7), "t0": (0.1, 0.5)},
    outcomes={"rt": "positive", "response": (-1, 1)},
    symmetries=hs.Symmetries(shift="t0", negated=("v",), complemented=("z",)),
    vectorised=True,
)
def mirrored(v, z, t0, rng):
    """A choice and a time that mirror each other; one in a hundred simulations fails."""
    response = np.where(rng.random(len(v)) < 1 / (1 + np.exp(-v) * (1 - z) / z), 1.0, -1.0)
    rt = t0 + rng.lognormal(-0.5 - 0.1 * v * response, 0.4)
    return np.where(rng.random(len(v)) < 0.01, np.nan, rt), response


def test_symmetries_lead_to_the_reduced_mixture(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TrainingWarning)
        likelihood = hs.train_likelihood(mirrored, n_simulations=20_000, seed=1, budget=3.0, progress=False)
    assert any("of 20000 simulations failed and were left out" in str(warning.message) for warning in caught)
    assert isinstance(likelihood, MixtureLikelihood)
    # 1 in 100 of 20 000: sd 14.
    assert abs(likelihood.card.recipe["failed"] - 200) < 5 * 14.1
    theta = {"v": 1.0, "z": 0.4, "t0": 0.2}
    mirror = {"v": -1.0, "z": 0.6, "t0": 0.2}
    torch.testing.assert_close(
        likelihood.log_prob([0.7], [1], theta), likelihood.log_prob([0.7], [-1], mirror), rtol=0, atol=1e-12
    )
    likelihood.save(tmp_path / "mirrored.safetensors")
    again = hs.load_likelihood(tmp_path / "mirrored.safetensors")
    assert torch.equal(again.log_prob([0.7], [1], theta), likelihood.log_prob([0.7], [1], theta))
    assert again.simulator.symmetries == mirrored.symmetries


# ---- bad input


@pytest.mark.usefixtures("few_steps")
def test_failures_are_warned_about():
    @hs.declare(parameters={"rate": (0.5, 20.0)}, outcomes={"chips": "count"}, vectorised=True)
    def burnt(rate, rng):
        return np.where(rate > 15, np.nan, rng.poisson(rate))

    with pytest.warns(TrainingWarning, match="of 3000 simulations failed and were left out: the likelihood is that of"):
        likelihood = hs.train_likelihood(burnt, n_simulations=3_000, **QUIET)
    assert likelihood.card.recipe["failed"] == pytest.approx(3_000 * 5 / 19.5, rel=0.02)


def nothing(rate, rng):
    return math.nan


def broken(rate, rng):
    raise RuntimeError("no dough")


def plain(rate, rng):
    return rng.poisson(rate)


BOX, KIND = {"rate": (0.5, 20.0)}, {"chips": "count"}


@pytest.mark.parametrize(
    ("simulator", "options", "mention"),
    [
        (nothing, {"prior": BOX, "outcomes": KIND}, "1000 of 1000 simulations returned nan; at least 500"),
        (broken, {"prior": BOX, "outcomes": KIND}, "raised an error, the first RuntimeError: no dough"),
        (plain, {}, r"a plain function needs prior=\{parameter: \(low, high\)\} and outcomes="),
        (plain, {"prior": {"speed": (1, 2)}, "outcomes": KIND}, r"must take the arguments \('speed', 'rng'\)"),
        (plain, {"prior": {"rate": 3}, "outcomes": KIND}, r"must be a box \(low, high\) or a Pyro distribution; got 3"),
        (plain, {"prior": {"rate": dist.Normal(torch.zeros(2), 1.0)}, "outcomes": KIND}, "of one number"),
        (cookies, {"prior": {"rat": (1, 2)}}, "'rat', which is no parameter of 'cookies'; did you mean 'rate'"),
        (cookies, {"prior": {"rate": (-1, 2)}}, r"leaves the domain of 'rate', \(0.0, inf\): its box has -1"),
        (cookies, {"prior": {"rate": dist.Normal(5.0, 3.0)}}, "leaves the domain .* of 20000 draws, such as -"),
        (cookies, {"outcomes": KIND}, "declares its own"),
        (cookies, {"n_simulations": 10}, "at least 500; got 10"),
        (cookies, {"n_simulations": 1e5}, "a whole number of at least 500; got 100000.0"),
        (cookies, {"budget": 0}, "seconds above 0"),
        ("ddm", {}, "must be a Simulator or a function; got str"),
    ],
)
def test_what_cannot_be_trained_is_refused(simulator, options, mention):
    with pytest.raises(InputError, match=mention):
        hs.train_likelihood(simulator, **{"n_simulations": 1_000, **QUIET, **options})


@pytest.mark.usefixtures("few_steps")
def test_few_simulations_are_warned_about_with_the_score():
    with pytest.warns(TrainingWarning, match=r"1000 simulations are few for 1 parameters \(held-out log score -\d\.\d"):
        hs.train_likelihood(plain, BOX, 1_000, outcomes=KIND, **QUIET)


def test_a_spent_budget_is_warned_about():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TrainingWarning)
        likelihood = hs.train_likelihood(cookies, n_simulations=5_000, budget=0.1, **QUIET)
    assert any("budget of 0.1 seconds ended the fit" in str(warning.message) for warning in caught)
    assert likelihood.card.recipe["cut_short"]


@pytest.mark.usefixtures("few_steps")
def test_a_prior_may_be_a_distribution():
    likelihood = trained(plain, 3_000, prior={"rate": dist.Gamma(20.0, 2.0)}, outcomes=KIND)
    low, high = stats.gamma.ppf([1e-3, 1 - 1e-3], 20, scale=0.5)
    # Quantiles of 20 000 draws: standard error 0.13 and 0.25.
    assert likelihood.box["rate"] == (pytest.approx(low, abs=0.5), pytest.approx(high, abs=1.25))


def test_outcomes_and_parameters_outside_are_refused(learned_cookies):
    most = learned_cookies.n_values(0) - 1
    for outcomes, theta, mention in (
        ({"chips": [3, 1.5]}, {"rate": 5.0}, "'chips' must be a whole number, 0 or more; it is not in row 1"),
        ({"chips": [3, 99]}, {"rate": 5.0}, f"'chips' is 99 in row 1 .* trained on counts up to {most}"),
        ({"chip": [3]}, {"rate": 5.0}, r"must name exactly \('chips',\)"),
        ({"chips": [3]}, {"rate": 50.0}, r"theta\['rate'\] must lie in \[0.5, 20\]"),
        ({"chips": [3]}, {"rate": 5.0, "sd": 1.0}, "has no parameter 'sd'"),
    ):
        with pytest.raises(InputError, match=mention):
            learned_cookies.log_prob(outcomes, theta)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("writer", [lambda thing, file: pickle.dump(thing, file), torch.save], ids=["pickle", "torch"])
@pytest.mark.parametrize("vouched", [False, True], ids=["old card", "card made to match"])
def test_a_renamed_pickle_is_refused_and_never_run(learned_cookies, tmp_path, writer, vouched):
    path = tmp_path / "mine.safetensors"
    learned_cookies.save(path)
    with path.open("wb") as file:
        writer(Malicious(tmp_path / "owned"), file)
    if vouched:
        checkpoint.write_card(path, checkpoint.read_card(path))
    with pytest.raises(InputError, match=r"truncated|changed after training|does not hold the network"):
        hs.load_likelihood(path)
    assert not (tmp_path / "owned").exists()


def edit(path: Path, **changes) -> None:
    card = checkpoint.card_path(path)
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


RT, SYSTEM = hs.Outcome("rt", "positive"), hs.Outcome("response", "categorical", ("os.system", "os.remove"))


@pytest.mark.parametrize(
    "changes",
    [
        {"declaration": {"name": "cookies"}},
        {"declaration": {"parameters": 3}},
        {"declaration": []},
        {"declaration": {**as_json(cookies), "outcomes": [{"name": "chips"}]}},
        {"declaration": {**as_json(cookies), "outcomes": []}},
        {"declaration": {**as_json(cookies), "outcomes": [asdict(o) for o in (RT, SYSTEM)]}},
        {"declaration": {**as_json(cookies), "parameters": [{"name": "rate"}]}},
        {"architecture": {"hidden": 16, "depth": 1, "location": [], "spread": [], "sizes": [3]}},
        {"architecture": {"hidden": 16, "depth": "__import__('os')", "location": [], "spread": [], "sizes": [3]}},
        {"architecture": {"flavour": 1, "location": [], "spread": [], "sizes": [3]}},
        {"architecture": {"location": 1, "spread": [], "sizes": [3]}},
        {"validation": ["many"]},
        {"model": "cakes"},
    ],
)
def test_a_card_whose_entries_make_no_sense_is_refused(learned_cookies, tmp_path, changes):
    path = tmp_path / "mine.safetensors"
    learned_cookies.save(path)
    edit(path, **changes)
    with pytest.raises(InputError):
        hs.load_likelihood(path)


def test_a_likelihood_of_another_model_is_refused(learned_cookies, learned_coin, tmp_path):
    path = tmp_path / "mine.safetensors"
    learned_cookies.save(path)
    with pytest.raises(InputError, match=r"is a likelihood of 'cookies' \(rate\); expected 'coin' \(p m t0\)"):
        hs.load_likelihood(path, simulator=coin)
    with pytest.raises(InputError, match="simulator= goes with the path"):
        hs.load_likelihood("ddm", simulator=coin)


@pytest.mark.usefixtures("few_steps")
def test_simulations_in_a_folder_are_made_once(tmp_path, monkeypatch):
    """Training that is interrupted in its fit goes on to the same likelihood without the simulator."""
    whole = trained(cookies, 2_000)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(factored, "fit_best", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(cookies, 2_000, folder=tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("rows-*.npz")}
    assert len(before) == 2
    again = trained(cookies, 2_000, folder=tmp_path)
    assert before == {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("rows-*.npz")}
    values, theta = torch.arange(20.0).double().unsqueeze(-1), torch.linspace(1, 19, 20).double().unsqueeze(-1)
    assert torch.equal(whole.log_prob_rows(values, theta), again.log_prob_rows(values, theta))
    with pytest.raises(InputError, match="another recipe"):
        trained(cookies, 2_000, folder=tmp_path, seed=2)


@pytest.mark.parametrize("kept", [True, False])
def test_symmetric_models_are_trained_in_the_folder(kept, tmp_path, monkeypatch):
    """Or in a temporary one, which is left where it is when training is interrupted."""
    folders = []

    def interrupted(simulator, recipe, folder, *_, **__):
        folders.append(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(mixture, "train_network", interrupted)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        trained(hs.load_simulator("ddm"), 1_000, folder=tmp_path / "kept" if kept else None, shape=None)
    (folder,) = folders
    assert folder.is_dir()
    assert (folder == tmp_path / "kept") is kept
