"""Trials, and all trials of a subject, that are left out: against posteriors without them, by quadrature."""

import warnings

import arviz as az
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import logsumexp

import hddm_sbi as hs
from hddm_sbi.hierarchy.diagnostics import ConvergenceWarning

FIXED = {"a": 1.0, "z": 0.5, "t0": 0.3}
PRIORS = {"v_Intercept": dist.Normal(0.0, 2.0)}
GRID = np.linspace(-1.0, 4.0, 501)


@pytest.fixture(scope="module")
def fits():
    """One drift for all, or one for each of 12 subjects, of 10 trials each; the table is not sorted by subject."""
    trials = hs.simulate_experiment(n_subjects=12, n_trials=5, seed=3).trials.sample(frac=1.0, random_state=1)
    trials = trials.reset_index(drop=True)
    models = {
        name: hs.HierarchicalModel({"v": v, **FIXED}, trials, likelihood="exact", priors=PRIORS)
        for name, v in {"alike": "1", "unlike": "1 + (1|subject)"}.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return trials, hs.fit_models(models, draws=1000, chains=4, progress=False)


def table(fits, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return hs.compare_models(fits, *arguments)


def by_quadrature(trials, parts):
    """Sum over parts of log p(part | all others) of the model of one drift, on a grid of drifts."""
    exact = hs.load_likelihood("ddm", kind="exact")
    columns = [
        exact.log_prob(trials["rt"].to_numpy(), trials["response"].to_numpy(), {"v": v, **FIXED}).numpy() for v in GRID
    ]
    log_p = np.log(0.95 * np.exp(np.array(columns)) + 0.05 / 20)
    log_prior = PRIORS["v_Intercept"].log_prob(torch.tensor(GRID)).numpy()
    total = 0.0
    for part in np.unique(parts):
        others = log_prior + log_p[:, parts != part].sum(1)
        total += logsumexp(others + log_p[:, parts == part].sum(1)) - logsumexp(others)
    return total


@pytest.mark.parametrize("leave_out", ["trial", "subject"])
def test_expected_density_is_that_of_posteriors_without_a_part(fits, leave_out):
    """4 000 draws of one number, whose weights are near 1: off by less than .05 nats; seeded."""
    trials, posteriors = fits
    parts = np.arange(len(trials)) if leave_out == "trial" else trials["subject"].to_numpy()
    found = table(posteriors, "loo", leave_out).loc["alike"]
    assert found["pareto_k"] < 0.7
    assert_allclose(found["elpd_loo"], by_quadrature(trials, parts), atol=0.05)


def test_subjects_are_summed_by_hand(fits):
    trials, posteriors = fits
    found = table(posteriors, "loo", "subject")
    for name, posterior in posteriors.items():
        x = posterior["log_likelihood"]["rt_response"].to_numpy()
        summed = np.stack([x[..., trials["subject"] == s].sum(-1) for s in sorted(trials["subject"].unique())], -1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            by_hand = az.loo(
                az.InferenceData(posterior=posterior["posterior"], log_likelihood=az.dict_to_dataset({"y": summed})),
                pointwise=True,
            )
        assert_allclose(found.loc[name, "elpd_loo"], by_hand.elpd_loo)
        assert_allclose(found.loc[name, "pareto_k"], by_hand.pareto_k.max())
    # What was given has the log likelihood of every trial still.
    assert posteriors["alike"]["log_likelihood"]["rt_response"].shape[-1] == len(trials)


def test_what_cannot_be_left_out_is_said_in_words(fits):
    """Effects of a subject that are known from its own trials alone: the weights fail, and the model and subjects are
    named, with what to do."""
    _, posteriors = fits
    with pytest.warns(ConvergenceWarning) as caught:
        hs.compare_models(posteriors, "loo", "subject")
    (said,) = {str(w.message) for w in caught}
    assert said.startswith("unlike: without subject s")
    assert "Pareto k up to" in said
    assert "compare by='evidence'" in said


def test_an_outlier_is_named():
    """One trial that no lapse explains decides where the posterior lies."""
    trials = hs.simulate("ddm", {"v": 2.0, **FIXED}, n_trials=60, seed=1)
    trials.loc[7, ["rt", "response"]] = [9.0, -1]
    models = {
        name: hs.HierarchicalModel(
            {"v": v, "a": "1", "z": 0.5, "t0": 0.3}, trials.assign(x=np.arange(60) == 7), likelihood="exact", lapse=0.0
        )
        for name, v in {"one": "1", "two": "x"}.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits = hs.fit_models(models, draws=500, chains=2, progress=False)
    with pytest.warns(ConvergenceWarning) as caught:
        found = hs.compare_models(fits)
    said = [str(w.message) for w in caught if w.category is ConvergenceWarning]
    assert all("without trial 7 (0 = first) the posterior" in text and "are they decisions" in text for text in said)
    assert said
    assert found.loc["two", "pareto_k"] > 0.7


def test_what_is_refused(fits):
    _, posteriors = fits
    with pytest.raises(
        hs.InputError, match=r"leave_out='subjct': expected 'trial', or a column .*did you mean 'subject'"
    ):
        hs.compare_models(posteriors, leave_out="subjct")
    with pytest.raises(hs.InputError, match="by must be 'loo' or 'evidence'; got 'waic'"):
        hs.compare_models(posteriors, by="waic")
    with pytest.raises(hs.InputError, match="leaves nothing out: drop leave_out="):
        hs.compare_models(posteriors, by="evidence", leave_out="subject")
    with pytest.raises(hs.InputError, match="models lacks 'alike', 'unlike'"):
        hs.compare_models(posteriors, by="evidence", models={})
    alone = {name: posterior["posterior"] for name, posterior in posteriors.items()}
    with pytest.raises(hs.InputError, match="'alike', 'unlike' does not have the trials"):
        hs.compare_models(alone)
