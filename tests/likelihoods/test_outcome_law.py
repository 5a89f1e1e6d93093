"""Choice probabilities, means and quantiles of rt, by one integral over each row of theta."""

import numpy as np
import pytest
from factory import Poisson

import hddm_sbi as hs
from hddm_sbi.likelihoods.outcome_law import PROBABILITIES, decision_law

#: v, a, z, t0: slow and fast, cautious and not, biased and not.
DDM = np.array([[1.0, 1.0, 0.5, 0.3], [-2.5, 0.6, 0.3, 0.2], [0.05, 2.0, 0.7, 0.5], [4.0, 0.8, 0.5, 0.1]])
MODELS = {
    "ddm": {"v": 1.2, "a": 0.9, "z": 0.4, "t0": 0.3},
    "angle": {"v": 1.2, "a": 1.1, "z": 0.5, "t0": 0.3, "theta": 0.4},
    "full_ddm": {"v": 1.2, "a": 0.9, "z": 0.5, "t0": 0.3, "sv": 0.5, "sz": 0.1, "st0": 0.15},
}


def test_ddm_agrees_with_its_closed_forms():
    """P(upper) and E[rt] of Palmer, Huk & Shadlen (2005), with a start x0 = (2 z - 1) a between bounds at a and -a."""
    law = decision_law(hs.load_likelihood("ddm", kind="exact"), DDM, PROBABILITIES)
    v, a, z, t0 = DDM.T
    upper = (1 - np.exp(-4 * v * a * z)) / (1 - np.exp(-4 * v * a))
    np.testing.assert_allclose(law.probability[:, 1], upper, rtol=1e-10)
    np.testing.assert_allclose(law.mean[:, 2], t0 + (a * (2 * upper - 1) - (2 * z - 1) * a) / v, rtol=1e-9)
    # Without a bias, times of both responses have the same law.
    np.testing.assert_allclose(law.mean[[0, 3], 0], law.mean[[0, 3], 1], rtol=1e-9)
    np.testing.assert_allclose(law.quantile[[0, 3], 0], law.quantile[[0, 3], 1], rtol=1e-9)


def test_ddm_agrees_with_its_closed_forms_far_out():
    """Thresholds of 7 ms of decision, starts at a bound, drifts of 8: 4 000 thetas."""
    theta = np.random.default_rng(1).uniform([-8, 0.007, 0.02, 0.01], [8, 6, 0.98, 2], size=(4_000, 4))
    law = decision_law(hs.load_likelihood("ddm", kind="exact"), theta, (0.5,))
    v, a, z, t0 = theta.T
    upper = np.expm1(-4 * v * a * z) / np.expm1(-4 * v * a)
    np.testing.assert_allclose(law.probability[:, 1], upper, atol=1e-9)
    np.testing.assert_allclose(law.mean[:, 2], t0 + (a * (2 * upper - 1) - (2 * z - 1) * a) / v, rtol=1e-9)
    assert (law.quantile[:, 2, 0] > t0).all()


@pytest.mark.parametrize("name", MODELS)
def test_quantiles_and_probabilities_agree_with_the_distribution_function(name):
    """Which another quadrature computes, or a closed form of the network."""
    likelihood = hs.load_likelihood(name)
    at = MODELS[name]
    theta = np.array([[at[p] for p in likelihood.simulator.names]])
    law = decision_law(likelihood, theta, PROBABILITIES)
    np.testing.assert_allclose(law.probability, likelihood.choice_probabilities(at).detach(), rtol=1e-6)
    for c, code in enumerate(likelihood.simulator.choices):
        below = likelihood.cdf(law.quantile[0, c], [code] * len(PROBABILITIES), at).detach().numpy()
        np.testing.assert_allclose(below / law.probability[0, c], PROBABILITIES, atol=5e-4)
    both = sum(likelihood.cdf(law.quantile[0, 2], [code] * len(PROBABILITIES), at) for code in (-1, 1))
    np.testing.assert_allclose(both.detach(), PROBABILITIES, atol=5e-4)


def test_many_rows_are_those_of_each():
    likelihood = hs.load_likelihood("ddm", kind="exact")
    many = decision_law(likelihood, np.tile(DDM, (100, 1)), (0.5,))
    one = decision_law(likelihood, DDM, (0.5,))
    np.testing.assert_array_equal(many.quantile[-4:], one.quantile)
    np.testing.assert_array_equal(many.mean[:4], many.mean[-4:])


class Lossy(hs.DecisionLikelihood):
    """The ddm without a tenth of its probability."""

    kind = "exact"

    def log_prob_rows(self, values, theta):
        return hs.load_likelihood("ddm", kind="exact").log_prob_rows(values, theta) + np.log(0.9)


def test_what_is_no_density_is_not_a_law():
    simulator = hs.load_simulator("ddm")
    law = decision_law(Lossy(simulator, simulator.box), DDM, (0.5,))
    assert np.isnan(law.mean).all()
    assert np.isnan(law.probability).all()


def test_names_of_quantities():
    found = hs.load_likelihood("ddm", kind="exact").quantities(DDM, ("no", "yes"), np.array([1, 0, 1, 1]))
    np.testing.assert_array_equal(
        found["accuracy"][[0, 1]], [found["probability[yes]"][0], found["probability[no]"][1]]
    )
    assert {"rt_mean", "rt_q10", "rt_q90[no]", "rt_mean[yes]"} <= set(found)


def test_means_of_other_outcomes_are_simulated():
    """200 outcomes a row: within 5 standard errors, 6e-7."""
    found = Poisson().quantities(np.array([[4.0], [9.0]]))
    assert list(found) == ["chips_mean"]
    assert (abs(found["chips_mean"] - [4.0, 9.0]) < 5 * np.sqrt([4.0, 9.0]) / 200**0.5).all()
