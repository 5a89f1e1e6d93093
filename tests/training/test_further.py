"""After the first training: safe numbers of outcomes, failed simulations, refinement, certificates of black boxes."""

import numpy as np
import pandas as pd
import pytest
import torch
from factory import Poisson, cookies

import hddm_sbi as hs
from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.factored.likelihood import FactoredLikelihood
from hddm_sbi.training.further import around
from hddm_sbi.training.safety import safe_outcomes

FIT = {"draws": 500, "tune": 500, "chains": 4, "seed": 1, "progress": False}
ONE = hs.EstimatorShape(hidden=16, components=1)


@pytest.fixture(scope="module")
def learned():
    return hs.train_likelihood(cookies, n_simulations=50_000, seed=1, shape=ONE, progress=False)


@pytest.fixture(scope="module")
def table():
    return pd.DataFrame({"chips": np.random.default_rng(1).poisson(8.0, 125)})


def fitted(likelihood, table):
    model = hs.HierarchicalModel("rate ~ 1", table, likelihood=likelihood)
    return model, model.fit(**FIT)


def moments(posterior):
    draws = posterior.posterior["rate_Intercept"].values
    return draws.mean(), draws.std()


class Planted(FactoredLikelihood):
    """A learned likelihood whose rates are multiplied."""

    factor = 1.05

    def log_prob_rows(self, values, theta):
        return super().log_prob_rows(values, theta * self.factor)

    def log_prob_at(self, values, theta, row):
        return super().log_prob_at(values, theta * self.factor, row)


def test_safe_outcomes_by_hand():
    """Rates of the halves are off by +d and -d: the mean of n cookies of rate r moves by d sqrt(n r) sds, as a flat
    prior on the box hardly matters. Nine of ten rates from .5 to 20 are below 18.05; 1.25 d sqrt(18.05 n) is .3 at
    n = 49.9."""
    d = 0.008
    found = safe_outcomes(Poisson(), [Poisson(1 + d), Poisson(1 - d)], seed=1)
    assert found == 32  # the next number that is looked at is 56
    assert safe_outcomes(Poisson(), [Poisson(1.2), Poisson(0.8)], seed=1) == 0


def test_the_verdict_names_the_number(learned):
    scores = learned.card.scores
    assert scores.passed
    said = (
        f"Posterior means from up to about {scores.safe_outcomes} outcomes are within 0.3 sds at 90% of parameter sets"
    )
    assert said in scores.verdict


def test_a_planted_error_is_found_and_corrected(learned, table):
    """5 % in the rate of 125 cookies: 1.5 posterior sds. The exact posterior is within three stated errors."""
    planted = Planted(learned.network, learned.encoding, learned.box, learned.card)
    model, posterior = fitted(planted, table)
    certificate = hs.certify(model, posterior, seed=1)
    assert certificate.reference == "simulated"
    assert not certificate.passed
    assert "has moved this posterior" in certificate.verdict or "too far from" in certificate.verdict
    (mean, sd), (exact, _) = moments(posterior), moments(fitted(Poisson(), table)[1])
    row = certificate.shifts.loc["rate_Intercept"]
    assert row["shift"] > 1.0
    assert abs(row["shift"] - (exact - mean) / sd) < 3 * row["error"] + 0.15  # of second order at 1.5 sds


# tests/analysis/test_certificate.py has a shorter one.
@pytest.mark.slow
def test_an_honest_network_passes(learned, table):
    model, posterior = fitted(learned, table)
    certificate = hs.certify(model, posterior, n_simulations=400_000, seed=1)
    assert certificate.passed, certificate.verdict


@pytest.mark.slow
def test_refinement_ends_near_the_exact_posterior(learned, table):
    planted = Planted(learned.network, learned.encoding, learned.box, learned.card)
    model, posterior = fitted(planted, table)
    found = hs.refine_likelihood(planted, model, posterior, 200_000, rounds=3, fit=FIT, progress=False)
    (mean, sd), (exact, _) = moments(found.posterior), moments(fitted(Poisson(), table)[1])
    assert found.moved["shift"].iloc[0] > 1.0
    assert abs(mean - exact) / sd < 0.3
    assert found.moved["simulations"].tolist() == [200_000 * (k + 1) for k in range(len(found.moved))]
    assert found.likelihood.card.simulations > learned.card.simulations


def test_simulations_lie_around_the_posterior(learned):
    draws = 8.0 + 0.2 * np.random.default_rng(1).standard_normal((500, 1, 1))
    theta = around(learned, draws, 10_000, seed=1)
    low, high = learned.box["rate"]
    assert theta.min() >= low
    assert theta.max() <= high
    near = theta[np.abs(theta - 8.0) < 2.0]
    assert 0.9 <= len(near) / 10_000 < 1.0
    assert np.median(np.abs(near - 8.0)) == pytest.approx(0.6745 * 0.4, rel=0.3)


def test_a_posterior_where_simulations_fail_is_warned_of(table):
    def burnt(rate, rng):
        return np.where(rate > 7.0, np.nan, rng.poisson(rate))

    with pytest.warns(hs.TrainingWarning, match="simulations failed"):
        likelihood = hs.train_likelihood(
            burnt,
            {"rate": (0.5, 20.0)},
            20_000,
            outcomes={"chips": "count"},
            vectorised=True,
            shape=ONE,
            progress=False,
        )
    at = torch.tensor([[3.0], [12.0]]).double()
    succeeds = likelihood.network.success(likelihood.encoding.condition(at)).softmax(-1)[:, 1]
    assert succeeds[0] > 0.95
    assert succeeds[1] < 0.05
    few = table[table["chips"] < 11]
    model = hs.HierarchicalModel("rate ~ 1", few, likelihood=likelihood)
    with pytest.warns(hs.ConvergenceWarning, match="of the posterior lies where simulations fail"):
        model.fit(**FIT)


def test_what_cannot_go_on_is_refused(learned, table, tmp_path):
    learned.save(tmp_path / "cookies.safetensors")
    without = hs.load_likelihood(tmp_path / "cookies.safetensors")
    model, posterior = fitted(without, table)
    for ask in (lambda: hs.certify(model, posterior), lambda: hs.refine_likelihood(without, model, posterior)):
        with pytest.raises(InputError, match=r"is not here, as files hold no code: load it together"):
            ask()
    _, found = fitted(learned, table)
    other = Planted(learned.network, learned.encoding, learned.box, learned.card)
    with pytest.raises(InputError, match="the model has another likelihood"):
        hs.refine_likelihood(other, hs.HierarchicalModel("rate ~ 1", table, likelihood=Poisson()), found)
    with pytest.raises(InputError, match="column 'chips' of the table that was fitted differs"):
        hs.refine_likelihood(learned, hs.HierarchicalModel("rate ~ 1", table + 1, likelihood=learned), found)
    ddm = hs.load_likelihood("ddm")
    with pytest.raises(InputError, match="only such a likelihood goes on training"):
        hs.refine_likelihood(ddm, model, posterior)
