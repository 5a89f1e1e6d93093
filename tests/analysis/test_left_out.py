"""Trials, and all trials of a subject, that are left out: against posteriors without them, by quadrature."""

import json
import warnings

import arviz as az
import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from scipy.stats import norm

import hddm_sbi as hs
from hddm_sbi.analysis.left_out import LeftOut
from hddm_sbi.hierarchy.fits.diagnostics import ConvergenceWarning

FIXED = {"a": 1.0, "z": 0.5, "t0": 0.3}
LAPSES = {"lapse": 0.05, "lapse_seconds": 10.0}
PRIORS = {"v_Intercept": dist.Normal(0.0, 2.0)}
GRID = np.linspace(-1.0, 4.0, 501)


@pytest.fixture(scope="module")
def fits():
    """One drift for all, or one for each of 12 subjects, of 10 trials each; the table is not sorted by subject."""
    trials = hs.simulate_experiment(n_subjects=12, n_trials=5, seed=3).trials.sample(frac=1.0, random_state=1)
    trials = trials.reset_index(drop=True)
    models = {
        name: hs.HierarchicalModel({"v": v, **FIXED}, trials, likelihood="exact", priors=PRIORS, **LAPSES)
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


@pytest.fixture(scope="module")
def outlier():
    """Fits of a table in which one trial, that no lapse explains, decides where the posterior lies."""
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
        return trials, models, hs.fit_models(models, draws=500, chains=2, progress=False)


def test_an_outlier_is_named(outlier):
    _, _, fits = outlier
    with pytest.warns(ConvergenceWarning) as caught:
        found = hs.compare_models(fits)
    said = [str(w.message) for w in caught if w.category is ConvergenceWarning]
    assert all("without trial 7 (0 = first) the posterior" in text and "are they decisions" in text for text in said)
    assert said
    assert all("fit again without each by refit=True (1 fit, about " in text for text in said)
    assert found.loc["two", "pareto_k"] > 0.7


def log_p_of(trials, v, a=1.0, lapse=0.05):
    """Log density of every trial, with lapses over 10 s and two responses: from `log_prob` alone."""
    exact = hs.load_likelihood("ddm", kind="exact")
    theta = {**FIXED, "v": v, "a": a}
    p = np.exp(exact.log_prob(trials["rt"].to_numpy(), trials["response"].to_numpy(), theta).numpy())
    with np.errstate(divide="ignore"):
        return np.log((1.0 - lapse) * p + lapse / 20.0)


def of_two_numbers(trials, row):
    """log p(trial | all others) of the model `one` of the outlier, on a grid of v and a."""
    v, a = np.linspace(-2.0, 6.0, 81), np.linspace(-1.2, 1.8, 76)
    one = hs.HierarchicalModel({"v": "1", "a": "1", "z": 0.5, "t0": 0.3}, trials, likelihood="exact", lapse=0.0)
    priors = one.uncentred.coefficient_priors()
    of_v, of_a = (priors[f"{name}_Intercept"].log_prob(torch.tensor(x)).numpy() for name, x in (("v", v), ("a", a)))
    table = np.array([[log_p_of(trials, x, np.exp(y), 0.0) for y in a] for x in v])
    others = of_v[:, None] + of_a + np.delete(table, row, axis=-1).sum(-1)
    assert max(others[[0, -1]].max(), others[:, [0, -1]].max()) < others.max() - 10
    return logsumexp(others + table[..., row]) - logsumexp(others)


def test_a_refit_is_exact(outlier, tmp_path, monkeypatch):
    """Without the trial that decides, by a grid: 5 stated errors of 1 000 draws, below 1 nat. What was refitted is
    kept, and counts no more among what is unsure."""
    trials, models, fits = outlier
    exact = of_two_numbers(trials, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        before = hs.compare_models(fits)
        found = hs.compare_models(fits, models=models, refit=True, folder=tmp_path, progress=False)
    parts = LeftOut.of(fits, "trial")
    task = parts.tasks(models, 1)["one", 7]
    error = json.loads((tmp_path / f"{task.name}.json").read_text())["error"]
    weighed = float(parts.found["one"].loo_i[7])
    refitted = found.loc["one", "elpd_loo"] - before.loc["one", "elpd_loo"] + weighed
    assert 0.0 < error < 0.2
    assert abs(refitted - exact) < 5 * error
    assert found["refits"].to_dict() == {"one": 1, "two": 1}
    assert found["pareto_k"].max() < 0.7
    assert found.loc["one", "p_loo"] - before.loc["one", "p_loo"] == pytest.approx(weighed - refitted)
    monkeypatch.setattr(hs.HierarchicalModel, "fit", None)
    again = hs.compare_models(fits, models=models, refit=True, folder=tmp_path, progress=False)
    pd.testing.assert_frame_equal(again, found)


def of_a_subject(trials, subject):
    """log p(trials of a subject | those of all others) of the model `unlike`: drifts, their mean and sd on grids."""
    v, mean, sigma = np.linspace(-3.0, 8.0, 441), np.linspace(-2.0, 5.0, 141), np.linspace(0.02, 4.0, 100)
    unlike = hs.HierarchicalModel(
        {"v": "1 + (1|subject)", **FIXED}, trials, likelihood="exact", priors=PRIORS, **LAPSES
    )
    priors = unlike.uncentred.coefficient_priors()
    log_prior = [
        priors[name].log_prob(torch.tensor(x)).numpy()
        for name, x in (("v_Intercept", mean), ("v_1|subject_sigma", sigma))
    ]
    log_p = np.array([log_p_of(trials, x) for x in v])
    subjects = trials["subject"].to_numpy()
    law = norm.logpdf(v, mean[:, None, None], sigma[:, None]) + np.log(v[1] - v[0])
    each = {s: logsumexp(law + log_p[:, subjects == s].sum(1), axis=-1) for s in np.unique(subjects)}
    others = log_prior[0][:, None] + log_prior[1] + sum(x for s, x in each.items() if s != subject)
    return logsumexp(others + each[subject]) - logsumexp(others)


def test_subjects_are_refitted(fits, tmp_path):
    """The two subjects of the largest k, each without its trials: by integrals over its drift, and over the mean and
    sd of the others'; 5 stated errors, 1e-6 false alarms. What is refitted sees nothing of the subject."""
    trials, posteriors = fits
    models = {name: hs.load_model(posterior) for name, posterior in posteriors.items()}
    parts = LeftOut.of(posteriors, "subject")
    tasks = parts.tasks(models, 2)
    assert [name for name, _ in tasks] == ["unlike", "unlike"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = hs.compare_models(posteriors, "loo", "subject", refit=2, folder=tmp_path, progress=False)
    assert found["refits"].to_dict() == {"unlike": 2, "alike": 0}
    for (_, part), task in tasks.items():
        said = json.loads((tmp_path / f"{task.name}.json").read_text())
        assert said["error"] < 0.15
        assert abs(said["log_p"] - of_a_subject(trials, parts.labels[part])) < 5 * said["error"] + 2e-3


def test_a_refit_that_is_stopped_keeps_the_others(outlier, tmp_path, monkeypatch):
    _, models, fits = outlier
    calls, fit = [], hs.HierarchicalModel.fit

    def stopped(model, *arguments, **options):
        calls.append(model)
        posterior = fit(model, *arguments, **options)
        posterior["posterior"].attrs["stopped"] = "interrupted" if len(calls) == 2 else ""
        return posterior

    monkeypatch.setattr(hs.HierarchicalModel, "fit", stopped)
    with pytest.raises(KeyboardInterrupt) as stop:
        hs.compare_models(fits, models=models, refit=True, folder=tmp_path, progress=False)
    assert "1 of 2 refits are done" in stop.value.__notes__[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        hs.compare_models(fits, models=models, refit=True, folder=tmp_path, progress=False)
    assert len(calls) == 3


def test_draws_of_an_approximation_are_named(fits):
    _, posteriors = fits
    approximate = {name: posterior.copy() for name, posterior in posteriors.items()}
    approximate["alike"]["posterior"].attrs["method"] = "laplace"
    with pytest.warns(
        ConvergenceWarning, match="^alike: its draws come from method='laplace', an approximation, and el"
    ):
        hs.compare_models(approximate)


def test_what_is_refused(fits):
    _, posteriors = fits
    with pytest.raises(
        hs.InputError, match=r"leave_out='subjct': expected 'trial', or a column .*did you mean 'subject'"
    ):
        hs.compare_models(posteriors, leave_out="subjct")
    for leave_out in (3, None):
        with pytest.raises(hs.InputError, match=f"leave_out={leave_out}: expected 'trial', or a column of the table"):
            hs.compare_models(posteriors, leave_out=leave_out)
    with pytest.raises(hs.InputError, match="folder= keeps what refits say: add refit=, or drop folder="):
        hs.compare_models(posteriors, folder="refits")
    with pytest.raises(hs.InputError, match="by must be 'loo' or 'evidence'; got 'waic'"):
        hs.compare_models(posteriors, by="waic")
    with pytest.raises(hs.InputError, match="leaves nothing out: drop leave_out="):
        hs.compare_models(posteriors, by="evidence", leave_out="subject")
    with pytest.raises(hs.InputError, match="models lacks 'alike', 'unlike'"):
        hs.compare_models(posteriors, by="evidence", models={})
    with pytest.raises(hs.InputError, match="the evidence needs no refits: drop refit="):
        hs.compare_models(posteriors, by="evidence", refit=True)
    for refit in (-1, "all", 2.5):
        with pytest.raises(hs.InputError, match="refit must be a whole number of at least 0"):
            hs.compare_models(posteriors, refit=refit)
    turned = {name: hs.load_model(posteriors[name]) for name in ("alike", "unlike")}
    with pytest.raises(hs.InputError, match="the posterior is of another model: its formula of 'v'"):
        hs.compare_models(posteriors, leave_out="subject", refit=True, models={**turned, "unlike": turned["alike"]})
    alone = {name: posterior["posterior"] for name, posterior in posteriors.items()}
    with pytest.raises(hs.InputError, match="'alike', 'unlike' does not have the trials"):
        hs.compare_models(alone)
