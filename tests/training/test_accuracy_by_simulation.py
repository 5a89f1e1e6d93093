"""Scores by simulation are instruments: nothing for the exact likelihood, known values for known errors."""

import numpy as np
import pytest
import torch

from hddm_sbi.likelihoods.catalogue import load_likelihood, load_simulator, weights_of
from hddm_sbi.likelihoods.checkpoint import read_card
from hddm_sbi.likelihoods.decision import outcome_rows
from hddm_sbi.likelihoods.exact import ExactLikelihood
from hddm_sbi.training.accuracy_by_simulation import bias_at, divergence, scores_by_simulation

DDM = load_simulator("ddm")
THETA = np.array([1.0, 1.0, 0.45, 0.3])


class Drifted(ExactLikelihood):
    """The closed form at a drift that is off by a known amount, on the model's box."""

    def __init__(self, by):
        super().__init__(DDM)
        self.box, self.by = DDM.box, torch.tensor([by, 0.0, 0.0, 0.0], dtype=torch.float64)

    def log_prob_rows(self, values, theta):
        return super().log_prob_rows(values, theta + self.by)

    def log_prob_at(self, values, theta, row):
        return super().log_prob_at(values, theta + self.by, row)

    def log_prob_by_cell(self, trials, theta, lapse):
        return super().log_prob_by_cell(trials, theta + self.by, lapse)


@pytest.mark.parametrize("by", [0.0, 0.05, -0.1])
def test_divergence_of_a_wrong_drift_is_that_of_girsanov(by):
    """KL = d² E[T] / 2 within 5 standard errors of 1e6 trials; 182 bins lose less than 1 % of it, its third order 5 %.

    E[T] = (E[x at exit] - x0) / v, by optional stopping. The standard error is that of a chi-square of 182 bins, plus
    that of a mean, sqrt(2 KL / n).
    """
    n = 1_000_000
    v, a, x0 = THETA[0], THETA[1], (2 * THETA[2] - 1) * THETA[1]
    upper = np.expm1(-2 * v * (a + x0)) / np.expm1(-4 * v * a)
    kl = by**2 / 2 * (a * (2 * upper - 1) - x0) / v
    se = np.sqrt(182 / 2) / n + np.sqrt(2 * kl / n)
    assert abs(divergence(Drifted(by), THETA, n, seed=1) - kl) < 5 * se + 0.06 * kl


def test_bias_is_the_shift_in_posterior_sds():
    """The mode under p(. | v + d) lies at v - d: d / sd of v, sd from the scores of other trials (2 %); the others 0.

    250 000 trials leave a standard error of sqrt(10 000 / 250 000) = 0.2 sds; 5 of them.
    """
    by, n = 0.1, 10_000
    bias = bias_at(Drifted(by), THETA, n, 250_000, seed=2)
    at = torch.tensor(np.tile(THETA, (50_000, 1)), requires_grad=True)
    rt, choice = DDM.simulate(at.detach().numpy(), 3)
    log_p = ExactLikelihood(DDM).log_prob_rows(outcome_rows(rt, choice), at)
    scores = torch.autograd.grad(log_p.sum(), at)[0].numpy()
    sd = np.sqrt(np.diag(np.linalg.inv(scores.T @ scores / len(scores) * n)))
    assert by / sd[0] > 5.0
    assert abs(bias[0] - by / sd[0]) < 1.0 + 0.1 * by / sd[0]
    assert bias[1:].max() < 1.0 + 0.1 * by / sd[0]


@pytest.mark.slow
def test_both_instruments_give_the_pretrained_likelihood_the_same_scores():
    """KL of `ornstein` by 5e7 simulated trials, against that on its card by the equation: within 5 se of both."""
    ornstein = load_likelihood("ornstein")
    card, found = read_card(weights_of("ornstein")).scores, scores_by_simulation(ornstein)
    assert abs(found.KL - card.KL) < 5 * (found.KL_se + card.KL_se)
    assert found.posterior_bias < card.posterior_bias + 2 * found.posterior_bias_se
