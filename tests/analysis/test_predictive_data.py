"""Predicted tables from the prior and the posterior, of the same and of new tables."""

import arviz as az
import numpy as np
import pandas as pd
import pytest
from asked import FORMULAS, as_posterior, experiment, model_of
from factory import Poisson, bake

import hddm_sbi as hs
from hddm_sbi.analysis.fit import Fit


def theta_on(model, posterior, table, n, seed):
    """Parameters on a new table at the first n draws."""
    fit = Fit.of(model, posterior)
    return fit.on_table(table, fit.values(np.arange(n)), seed)[0]


@pytest.fixture(scope="module")
def asked():
    model = model_of()
    posterior, draws = as_posterior(model)
    return model, posterior, draws


@pytest.mark.filterwarnings("ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning")
def test_prior_predictive_has_the_names_and_dims_of_a_posterior(asked):
    model = asked[0]
    prior = hs.prior_predictive(model, draws=12, seed=4)
    fit = model.fit(draws=3, chains=1, seed=1, progress=False, method="laplace")
    assert set(prior["prior"].data_vars) == set(fit["posterior"].data_vars)
    for name, array in prior["prior"].data_vars.items():
        assert array.dims == fit["posterior"][name].dims, name
    assert prior["prior"]["subject"].values.tolist() == ["s00", "s01", "s02", "s03"]
    assert prior["prior_predictive"]["rt"].dims == ("chain", "draw", "trial")
    assert prior["prior_predictive"]["rt"].shape == (1, 12, 150)
    assert prior["observed_data"]["rt"].equals(fit["observed_data"]["rt"])
    again = hs.prior_predictive(model, draws=12, seed=4)
    for group in ("prior", "prior_predictive"):
        assert prior[group].equals(again[group])


def test_prior_draws_follow_the_prior(asked):
    """Mean and sd of 600 draws: 5 standard errors, 6e-7 each."""
    draws = hs.prior_predictive(asked[0], draws=600)["prior"]
    v = draws["v_Intercept"].to_numpy()
    assert abs(v.mean() - 1.5) < 5 * 0.3 / 600**0.5
    assert abs(v.std() / 0.3 - 1) < 5 / 1200**0.5
    u = (draws["v_1|subject"] / draws["v_1|subject_sigma"]).to_numpy()
    assert abs(u.std() - 1) < 5 / (2 * u.size) ** 0.5


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # ArviZ 0.23 on matplotlib 3.11
def test_arviz_plots_what_is_predicted(asked):
    model, posterior, _ = asked
    writer = hs.prior_predictive(model, draws=5)
    posterior = az.InferenceData(posterior=posterior["posterior"], observed_data=writer["observed_data"])
    axes = az.plot_ppc(hs.posterior_predictive(model, posterior, draws=10), var_names=["rt"])
    assert axes is not None
    assert az.plot_ppc(writer, group="prior", var_names=["rt"]) is not None


def test_as_many_draws_of_every_chain(asked):
    model, posterior, _ = asked
    predicted = hs.posterior_predictive(model, posterior, draws=15)
    assert predicted["posterior_predictive"]["rt"].shape == (2, 8, 150)
    assert predicted["posterior_predictive"]["draw"].values.tolist() == [0, 8, 16, 25, 33, 42, 50, 59]
    assert set(np.unique(predicted["posterior_predictive"]["response"])) == {-1, 1}
    assert "posterior_predictive" not in posterior.groups()
    assert predicted["posterior"].equals(posterior["posterior"])


def test_a_part_of_the_table_as_a_new_one_has_the_same_parameters(asked):
    """Other order, some subjects, one condition: theta is that of the fitted rows, to the bit."""
    model, posterior, _ = asked
    fit, rows = Fit.of(model, posterior), [149, 3, 60]
    new = model.on_table(experiment()[["condition", "subject"]].iloc[rows])
    positions = np.arange(20)
    theirs = theta_on(model, posterior, new, 20, seed=1)[:, new.cell]
    np.testing.assert_array_equal(theirs, fit.on_cells(positions)[:, model.cell[rows]])


def test_new_subjects_are_drawn_from_the_population(asked):
    """Standardised drifts of 300 new subjects in 120 draws: mean 0, sd 1, correlation with the next subject 0."""
    model, posterior, draws = asked
    new = model.on_table(pd.DataFrame({"condition": "hard", "subject": [f"new{i}" for i in range(300)]}))
    theta = theta_on(model, posterior, new, 120, seed=1)
    mean = (draws["v_Intercept"] + draws["v_condition"][:, 0])[:, None]
    z = (theta[..., 0] - mean) / draws["v_1|subject_sigma"][:, None]
    assert abs(z.mean()) < 5 / z.size**0.5
    assert abs(z.std() - 1) < 5 / (2 * z.size) ** 0.5
    assert abs(np.corrcoef(z[:, ::2].ravel(), z[:, 1::2].ravel())[0, 1]) < 5 / (z.size / 2) ** 0.5
    log_a = (np.log(theta[..., 1]) - draws["a_Intercept"][:, None]) / draws["a_1|subject_sigma"][:, None]
    assert abs(np.corrcoef(log_a.ravel(), z.ravel())[0, 1]) < 5 / z.size**0.5


def test_a_new_subject_is_the_same_in_all_its_trials_and_correlated_as_the_draw_says():
    model = model_of(["v ~ condition + (condition|p|subject)", "a ~ 1 + (1|p|subject)", "z = 0.5"], None)
    posterior, draws = as_posterior(model, draws=200)
    table = pd.DataFrame({"condition": ["easy", "hard"] * 50, "subject": np.repeat(np.arange(50), 2)})
    theta = theta_on(model, posterior, model.on_table(table), 200, seed=2).reshape(200, 50, 2, 4)
    np.testing.assert_array_equal(theta[:, :, 0, 1], theta[:, :, 1, 1])
    u = (theta[:, :, 0, 0] - draws["v_Intercept"][:, None]) / draws["v_1|subject_sigma"][:, None]
    w = (np.log(theta[:, :, 0, 1]) - draws["a_Intercept"][:, None]) / draws["a_1|subject_sigma"][:, None]
    # E[u w] = rho in every draw; its error is at most sqrt(2 / n).
    rho = draws["p|subject_corr"][:, 0, 2]
    assert abs((u * w).mean() - rho.mean()) < 5 * (2 / u.size) ** 0.5
    assert abs(((u * w).mean(1) * rho).mean() - (rho**2).mean()) < 5 * (2 / u.size) ** 0.5


def test_a_new_table_has_its_own_groups(asked):
    model, posterior, _ = asked
    table = pd.DataFrame({"condition": ["hard", "easy"], "subject": ["x", "s01"]}, index=[7, 7])
    predicted = hs.posterior_predictive(model, posterior, table, draws=10)
    assert set(predicted.groups()) == {"posterior", "posterior_predictive", "constant_data"}
    assert predicted["constant_data"]["condition"].values.tolist() == ["hard", "easy"]
    assert predicted["posterior_predictive"]["rt"].shape == (2, 5, 2)


def named(trials):
    """Responses by name, and omissions after a limit of 1.5 s."""
    late = trials["rt"] > 1.5
    trials = trials.assign(response=np.where(trials["response"] > 0, "yes", "no"), limit=np.where(late, 1.5, np.nan))
    return trials.assign(rt=trials["rt"].mask(late), response=trials["response"].mask(late))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # ArviZ 0.23 on matplotlib 3.11
def test_outcomes_of_a_new_table_stand_beside_the_predicted_ones():
    """Also where the new table lacks a response that the fitted one has."""
    fitted, new = (named(hs.simulate_experiment(n_subjects=4, n_trials=20, seed=seed).trials) for seed in (1, 2))
    new = new[(new["response"] != "no") | (new["subject"] == "s00")].iloc[::-1]
    missing = new["rt"].isna().to_numpy()
    assert 0 < missing.sum() < len(new)
    model = model_of(trials=fitted, upper="yes", deadline="limit")
    posterior, _ = as_posterior(model, draws=10)
    for table in (new, new[new["response"] == "yes"]):
        predicted = hs.posterior_predictive(model, posterior, table, draws=10)
        seen = predicted["observed_data"]
        np.testing.assert_array_equal(seen["rt"], table["rt"])
        np.testing.assert_array_equal(seen["response"], table["response"].map({"yes": 1.0, "no": -1.0}))
        assert seen["rt"].dims == ("trial",)
        assert seen["trial"].equals(predicted["posterior_predictive"]["trial"])
        assert set(predicted["constant_data"]) == {"condition", "subject", "response", "limit"}
    axes = np.ravel(az.plot_ppc(predicted, kind="cumulative", var_names=["rt"]))
    lines = {line.get_label(): line.get_xdata() for line in axes[0].get_lines()}
    assert lines["Observed"].max() == table["rt"].max()


def test_what_is_missing_by_chance_is_missing_from_predictions(asked):
    model, posterior, _ = asked
    rows = experiment().iloc[:30].copy()
    rows.loc[rows.index[:10], "response"] = np.nan
    predicted = hs.posterior_predictive(model, posterior, rows, draws=4)
    for group in ("posterior_predictive", "observed_data"):
        missing = np.isnan(predicted[group]["response"].to_numpy().astype(float))
        assert missing[..., :10].all(), group
        assert not missing[..., 10:].any(), group
    no_outcomes = rows.assign(rt=np.nan, response=None)
    assert "observed_data" not in hs.posterior_predictive(model, posterior, no_outcomes, draws=4).groups()


def test_outcomes_of_a_new_table_are_checked():
    trials = experiment()
    trials["stimulus"] = np.where(np.arange(len(trials)) % 2, 1, -1)
    model = model_of(trials=trials, correct="stimulus")
    posterior, _ = as_posterior(model, draws=4)
    with pytest.raises(hs.InputError, match="'response' must be one of 'error', 'correct', as the model was told; got"):
        hs.posterior_predictive(model, posterior, trials)
    coded = trials.assign(response=np.where(trials["response"] == trials["stimulus"], "correct", "error"))
    seen = hs.posterior_predictive(model, posterior, coded, draws=2)["observed_data"]
    assert seen["response"].values.tolist() == (trials["response"] * trials["stimulus"]).tolist()
    with pytest.raises(hs.InputError, match="column 'rt' must be in seconds, and its median is"):
        hs.posterior_predictive(model, posterior, coded.assign(rt=1000 * coded["rt"]))
    coded.loc[3, "rt"] = np.nan
    coded.loc[3, "response"] = None
    with pytest.raises(hs.InputError, match=r"both missing in row 3 .* deadline="):
        hs.posterior_predictive(model, posterior, coded)


def test_rows_of_comparisons_have_no_outcomes():
    """Times of the fitted table would lie beyond another limit."""
    trials = with_deadline().assign(limit=20.0 + np.arange(150) % 7)
    model = model_of(["v ~ limit", "z = 0.5"], None, trials=trials, deadline="limit")
    posterior, _ = as_posterior(model, draws=10)
    assert len(hs.comparisons(model, posterior, {"limit": (0.1, 0.2)})) > 0


def test_a_deadline_holds_in_a_new_table():
    """Share of omissions against P(rt > .9 s) by the closed form, at v = 1, a = 1, t0 = .3: 5 standard errors."""
    model = model_of(
        ["v ~ 1", "a = 1.0", "z = 0.5", "t0 = 0.3"], None, deadline="limit", trials=with_deadline(), lapse=0
    )
    posterior, _ = as_posterior(model, draws=10)
    posterior["posterior"]["v_Intercept"].values[:] = 1.0
    new = pd.DataFrame({"limit": np.repeat([0.9, 50.0], 500)})
    rt = hs.posterior_predictive(model, posterior, new, draws=10)["posterior_predictive"]["rt"].to_numpy()
    share, n = np.isnan(rt[..., :500]).mean(), 10 * 500
    at = {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}
    expected = float(hs.load_likelihood("ddm", kind="exact").survival([0.9], at)[0])
    assert abs(share - expected) < 5 * (expected * (1 - expected) / n) ** 0.5
    assert not np.isnan(rt[..., 500:]).any()


def with_deadline():
    trials = experiment().assign(limit=20.0)
    trials.loc[trials["rt"] > 20.0, ["rt", "response"]] = np.nan
    return trials


def test_other_outcomes_are_predicted_too():
    model = hs.HierarchicalModel("rate ~ 1 + (1|location)", bake(), likelihood=Poisson())
    prior = hs.prior_predictive(model, draws=6)
    assert prior["prior_predictive"]["chips"].shape == (1, 6, 125)
    posterior, _ = as_posterior(model, draws=10)
    new = hs.posterior_predictive(model, posterior, pd.DataFrame({"location": ["A", "Mars"]}), draws=4)
    assert new["posterior_predictive"]["chips"].shape == (2, 2, 2)
    table = pd.DataFrame({"location": ["A", "Mars"], "chips": [7, 12]})
    seen = hs.posterior_predictive(model, posterior, table, draws=4)["observed_data"]["chips"]
    assert seen.values.tolist() == [7, 12]
    with pytest.raises(hs.InputError, match=r"column 'chips' must be a whole number, 0 or more; got 1\.5 in row 1"):
        hs.posterior_predictive(model, posterior, table.assign(chips=[7, 1.5]))


def test_conditions_of_a_conflict_model_in_a_new_table():
    at = {p.name: np.mean(p.typical) for p in hs.load_simulator("dmc").parameters if not p.codes}
    trials = hs.simulate("dmc", {**at, "congruency": np.tile([1.0, -1.0], 60)}, seed=1)
    trials["congruency"] = np.tile([1, -1], 60)
    model = hs.HierarchicalModel({name: value for name, value in at.items() if name != "v"}, trials, "dmc")
    posterior, _ = as_posterior(model, draws=10)
    new = hs.posterior_predictive(model, posterior, pd.DataFrame({"congruency": [1, 1, -1]}), draws=4)
    assert new["posterior_predictive"]["rt"].shape == (2, 2, 3)
    with pytest.raises(hs.InputError, match="column 'congruency' is a condition of the model and must be"):
        hs.posterior_predictive(model, posterior, pd.DataFrame({"congruency": [2]}))
    table = hs.comparisons(model, posterior, {"congruency": (-1, 1)}, draws=5)
    assert set(table["contrast"]) >= {"-1 - 1"}


def test_refusals(asked):
    model, posterior, _ = asked
    other = model_of([*FORMULAS[:1], "a ~ condition", "z = 0.5"], None)
    with pytest.raises(hs.InputError, match="the posterior is not of this model: it lacks a_condition"):
        hs.posterior_predictive(other, posterior)
    with pytest.raises(hs.InputError, match="column 'condition' holds 'odd' in row 1"):
        hs.posterior_predictive(model, posterior, pd.DataFrame({"condition": ["easy", "odd"], "subject": "s01"}))
    with pytest.raises(hs.InputError, match="data must be a pandas DataFrame"):
        hs.posterior_predictive(model, posterior, [1, 2])
    with pytest.raises(hs.InputError, match="draws must be a whole number of at least 1; got 0"):
        hs.prior_predictive(model, draws=0)
    for no_model in (posterior, hs.HierarchicalModel, "fit.nc"):
        for ask in (hs.prior_predictive, hs.run_sbc, lambda m: hs.recover_parameters(m, posterior)):
            with pytest.raises(hs.InputError, match="model must be a HierarchicalModel; got"):
                ask(no_model)


@pytest.mark.parametrize("x", [True, pd.Timestamp("2026-11-30"), pd.Timedelta("1s"), "a"])
def test_numbers_stay_numbers(x):
    """A date would count nanoseconds since 1970."""
    model = model_of(["v ~ x", "a = 1.0", "z = 0.5", "t0 = 0.3"], None)
    posterior, _ = as_posterior(model, draws=10)
    with pytest.raises(hs.InputError, match="column 'x' must be numbers, as in the table that was fitted; got"):
        hs.posterior_predictive(model, posterior, pd.DataFrame({"x": [x, x]}))
