"""Scores are instruments: 0 for the exact likelihood, known values for known errors, and a biased likelihood fails."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from hddm_sbi.likelihoods import checkpoint
from hddm_sbi.likelihoods.catalogue import load_likelihood, load_simulator, names, weights_of
from hddm_sbi.likelihoods.decision import SortedTrials, outcome_rows
from hddm_sbi.likelihoods.exact import ExactLikelihood
from hddm_sbi.likelihoods.mixture import MixtureLikelihood
from hddm_sbi.training import accuracy
from hddm_sbi.training.accuracy import _mode
from hddm_sbi.training.shipped import score, targets, verdicts

DDM = load_simulator("ddm")
EXACT = ExactLikelihood(DDM)
TARGETS = targets(DDM)
SCORES = {"KL", "mean_abs_error", "posterior_bias"}
REGION = {**DDM.box, "v": (-3.0, 3.0)}


class Altered(ExactLikelihood):
    """power * log p(. | theta + shift) + constant with p in closed form: an error of known size, on the model's box."""

    def __init__(self, *, shift=(0.0, 0.0, 0.0, 0.0), power=1.0, constant=0.0):
        super().__init__(DDM)
        self.box, self.power, self.constant = DDM.box, power, constant
        self.shift = torch.tensor(shift, dtype=torch.float64)

    def log_prob_rows(self, values, theta):
        return self.power * super().log_prob_rows(values, theta + self.shift) + self.constant

    def log_prob_by_cell(self, trials, theta, lapse):
        runs = np.diff(trials.starts).reshape(trials.n_cells, -1)
        constants = torch.as_tensor(self.constant * runs.sum(1))
        return self.power * super().log_prob_by_cell(trials, theta + self.shift, lapse) + constants


def failed_scores(scores):
    return {name for name, (_, _, passed) in verdicts(scores, TARGETS).items() if not passed}


def drifted(by):
    return Altered(shift=(by, 0.0, 0.0, 0.0))


def mean_decision_time(theta):
    """E[T] = (E[x at exit] - x0) / v, by optional stopping, with P(upper) = (1 - e^(-2v(a + x0))) / (1 - e^(-4va))."""
    v, a, x0 = theta[:, 0], theta[:, 1], (2 * theta[:, 2] - 1) * theta[:, 1]
    upper = np.expm1(-2 * v * (a + x0)) / np.expm1(-4 * v * a)
    return (a * (2 * upper - 1) - x0) / v


def test_exact_likelihood_has_no_error():
    result = accuracy.scores(Altered(), EXACT, n=5_000, n_sets=2, seed=3)
    for name in ("KL", "KL_se", "mean_abs_error", "abs_error_quantile_999", "KL_whole_box"):
        assert getattr(result, name) == 0.0, name
    assert set(result.score_error.values()) == {0.0}
    assert set(result.tails.values()) == {0.0}
    # Both modes are found by an optimiser that starts from different points.
    assert result.posterior_bias < 1e-4
    assert failed_scores(result) == set()


@pytest.mark.parametrize("constant", [0.02, -0.02])
def test_missing_and_surplus_mass_both_count(constant):
    # log p - log q = -c everywhere: e^c - 1 - c of the control variate, of either sign.
    result = accuracy.accuracy(Altered(constant=constant), EXACT, REGION, 1_000, 4)
    assert result.kl == pytest.approx(math.expm1(constant) - constant, rel=1e-9)
    assert result.mean_abs_error == pytest.approx(0.02, rel=1e-9)
    assert result.score_error == dict.fromkeys(DDM.names, 0.0)


def test_kl_of_a_wrong_drift_is_that_of_girsanov():
    # KL(v, v + d) = d² E[T] / 2: that of the paths, for (T, choice) is sufficient for the drift. kl_se is the noise of
    # 20 000 thetas with a trial each; false-alarm rate 6e-7 (5 se).
    by, n, seed = 0.05, 20_000, 5
    result = accuracy.accuracy(drifted(by), EXACT, REGION, n, seed)
    low, high = np.array(list(REGION.values())).T
    theta = np.random.default_rng(99).uniform(low, high, (200_000, 4))
    expected = by**2 / 2 * mean_decision_time(theta).mean()
    assert abs(result.kl - expected) < 5 * result.kl_se
    assert result.kl_se < 0.02 * expected


def test_score_error_is_relative_to_the_score():
    # The score of p^1.05 is 5 % too large everywhere. Scores of t0 are cut at 1 000 per second, their errors seldom.
    result = accuracy.accuracy(Altered(power=1.05), EXACT, REGION, 5_000, 6)
    for name in ("v", "a", "z"):
        assert result.score_error[name] == pytest.approx(0.05, rel=1e-6), name
    assert 0.05 <= result.score_error["t0"] < 0.5


def test_posterior_bias_is_the_shift_in_posterior_sds():
    # The mode under p(. | v + d) lies at v - d exactly; d / sd from the scores of other trials of the same theta: the
    # outer-product information of 25 000 trials is known to about 2 %, so 10 % is five standard errors.
    n, seed, by = 25_000, 7, 0.01
    mean, largest = accuracy.posterior_bias(drifted(by), EXACT, n, 1, seed)
    twice, _ = accuracy.posterior_bias(drifted(-2 * by), EXACT, n, 1, seed)
    assert mean == largest
    assert twice["v"] == pytest.approx(2 * mean["v"], rel=1e-3)
    assert max(mean["a"], mean["z"], mean["t0"]) < 1e-3
    theta = np.tile(accuracy.uniform_thetas(DDM, accuracy.inner_region(Altered()), 1, seed), (n, 1))
    rt, choice = DDM.simulate(theta, 123)
    at = torch.tensor(theta, requires_grad=True)
    log_p = EXACT.log_prob_rows(outcome_rows(rt, choice), at)
    scores = torch.autograd.grad(log_p.sum(), at)[0].numpy()
    sd = np.sqrt(np.diag(np.linalg.inv(scores.T @ scores)))
    assert mean["v"] == pytest.approx(by / sd[0], rel=0.1)


@pytest.mark.parametrize(
    ("likelihood", "failed"),
    [
        (drifted(0.05), SCORES),
        (Altered(shift=(0.0, 0.01, 0.0, 0.0)), SCORES),
        (Altered(shift=(0.0, 0.0, 0.01, 0.0)), SCORES),
        (Altered(shift=(0.0, 0.0, 0.0, -0.002)), SCORES),
        (Altered(constant=0.003), {"mean_abs_error"}),
        (drifted(0.002), {"posterior_bias"}),
    ],
    ids=["drift", "bound", "bias", "non-decision time", "mass", "a small drift that no trial shows"],
)
def test_biased_likelihood_fails(likelihood, failed):
    result = accuracy.scores(likelihood, EXACT, n=10_000, n_sets=2, seed=8)
    assert failed_scores(result) == failed


def test_bias_is_scored_where_parameters_say():
    """Where one says nothing, 15 % of its width inside its box, whatever it is called."""
    ddm = accuracy.inner_region(Altered())
    assert {name: ddm[name] for name in ("v", "t0")} == {"v": (-2.5, 2.5), "t0": (0.15, 1.0)}
    dmc = accuracy.inner_region(load_likelihood("dmc"))
    assert dmc["v"] == pytest.approx((1.2, 6.8))
    lca = accuracy.inner_region(load_likelihood("lca"))
    assert lca["v0"] == pytest.approx((0.9, 5.1))
    for name in names():
        likelihood = load_likelihood(name)
        for parameter, (low, high) in accuracy.inner_region(likelihood).items():
            assert likelihood.box[parameter][0] <= low < high <= likelihood.box[parameter][1], (name, parameter)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_score_that_is_no_number_fails(value):
    card = checkpoint.read_card(weights_of("ddm"))
    assert failed_scores(card.scores) == set()
    assert failed_scores(dataclasses.replace(card.scores, **dict.fromkeys(SCORES, value))) == SCORES


def test_density_that_is_zero_on_a_trial_fails():
    # t0 too late by 50 ms: some trials have no density at all.
    with np.errstate(invalid="ignore", over="ignore"):
        result = accuracy.accuracy(Altered(shift=(0.0, 0.0, 0.0, 0.05)), EXACT, REGION, 5_000, 9)
    assert not result.kl <= TARGETS.KL
    assert not result.mean_abs_error <= TARGETS.mean_abs_error


def test_tails_are_where_they_are_said_to_be():
    tails = accuracy.tails(Altered(constant=0.5), EXACT, DDM.box, 20_000, 10)
    lapse = tails.pop("choice_below_1e-5_with_lapse")
    assert tails == {name: pytest.approx(0.5, rel=1e-9) for name in tails}
    assert set(tails) == {"fastest_of_1000", "below_5_ms", "choice_below_1e-5", "choice_below_1e-10"}
    # A density below 1e-5 against a lapse density of .05 / 20: log(1 + .95e-5 (e^.5 - 1) / 2.5e-3) at most.
    assert 0 < lapse < math.log1p(0.95e-5 * math.expm1(0.5) / 2.5e-3)


def test_same_seed_same_scores():
    one, other = (accuracy.accuracy(load_likelihood("ddm"), EXACT, REGION, 2_000, 11) for _ in range(2))
    assert one == other


@pytest.mark.slow
def test_card_of_the_pretrained_likelihood_is_what_check_prints():
    weights = weights_of("ddm")
    found, card = score(weights), checkpoint.read_card(weights).scores
    assert failed_scores(found) == set()
    for name in (*SCORES, "KL_se", "KL_whole_box"):
        assert getattr(found, name) == pytest.approx(getattr(card, name), rel=1e-3), name


@pytest.mark.parametrize("bound", [10.0, 0.25])
def test_modes_are_found_on_ridges_and_at_bounds(bound):
    """Of a quadratic loss with correlation .99, sought with an information that is twice too large or too small: inside
    its minimum, (1, 1); where the first parameter may not pass `bound`, the second's best value given that."""
    curvature = np.linalg.inv([[1.0, 0.99], [0.99, 1.0]])

    def loss(x):
        gap = x - 1.0
        return 0.5 * gap @ curvature @ gap, curvature @ gap

    expected = [1.0, 1.0] if bound > 1.0 else [bound, 1.0 + 0.99 * (bound - 1.0)]
    for factor in (0.5, 2.0):
        mode = _mode(loss, np.array([0.0, 0.5]), factor * curvature, [(-10.0, bound), (-10.0, 10.0)], 10_000)
        assert mode == pytest.approx(expected, abs=1e-4)


class Wide(MixtureLikelihood):
    """A learned likelihood at a threshold that is off by a known amount."""

    by = 0.02

    def log_prob_by_cell(self, trials, theta, lapse):
        return super().log_prob_by_cell(trials, theta + self.by * torch.eye(theta.shape[1]).double()[1], lapse)


class Late(MixtureLikelihood):
    """A learned likelihood whose density vanishes within a microsecond of its onset."""

    def log_prob_by_cell(self, trials, theta, lapse):
        factor = -torch.expm1((theta[:, 3] - trials.rt.min()) / 1e-6)
        return super().log_prob_by_cell(trials, theta, lapse) + torch.log(factor)


@pytest.mark.parametrize(("kind", "least", "most"), [(Wide, 0.5, 1.0), (Late, 0.0, 0.001)])
def test_bias_of_a_shift_at_which_the_density_does_not_vanish(kind, least, most):
    """Against both posteriors of the same trials by another quadrature, to .001 sds."""
    levy = load_likelihood("levy")
    learned = kind(levy.simulator, levy.network, levy.box)
    theta, n = np.array([-0.58, 1.11, 0.27, 0.19, 1.85]), 2_000
    rt, choice = levy.simulator.simulate(np.tile(theta, (n, 1)), 2)
    grid = rt.min() - 1e-9 - 0.03 * np.linspace(0.0, 1.0, 1_000) ** 3
    at, cell = np.tile(theta, (len(grid), 1)), np.repeat(np.arange(len(grid)), n)
    at[:, 3] = grid
    trials = SortedTrials.sort(np.tile(rt, len(grid)), np.tile(choice, len(grid)), cell, len(grid), 2)
    moments = []
    for likelihood in (learned, levy):
        log_p = likelihood.log_prob_by_cell(trials, torch.as_tensor(at), torch.zeros((), dtype=torch.float64)).numpy()
        p = np.exp(log_p - log_p.max())
        p /= np.trapezoid(p, grid)
        mean = np.trapezoid(p * grid, grid)
        moments.append((mean, np.sqrt(np.trapezoid(p * (grid - mean) ** 2, grid))))
    (mean, _), (true_mean, true_sd) = moments
    expected = (mean - true_mean) / true_sd
    assert least <= abs(expected) <= most
    assert accuracy.shift_bias_at(learned, levy, theta, n, seed=2) == pytest.approx(expected, abs=1e-3)
    assert accuracy.shift_bias_at(levy, levy, theta, n, seed=2) == 0.0
