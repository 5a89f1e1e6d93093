"""From a table and formulas to a posterior: names, coordinates, reproducibility, refusals."""

import _thread
import itertools
import json
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.analysis.experiment import FORMULAS, simulate_experiment
from hddm_sbi.data import syntax
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.fits.diagnostics import ConvergenceWarning
from hddm_sbi.likelihoods.catalogue import PRETRAINED
from hddm_sbi.likelihoods.exact import ExactLikelihood
from hddm_sbi.likelihoods.mixture import Architecture, MixtureLikelihood, MixtureNetwork, Reduction

QUICK = {"draws": 60, "tune": 120, "chains": 2, "progress": False}
quick_fits = pytest.mark.filterwarnings("ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning")


@pytest.fixture(scope="module")
def experiment():
    return simulate_experiment(n_subjects=5, n_trials=20, seed=3)


@pytest.fixture(scope="module")
def fitted(experiment):
    model = hs.HierarchicalModel(FORMULAS, experiment.trials, likelihood="exact")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model, model.fit(seed=1, log_likelihood=True, **QUICK)


def test_posterior_names_dims_and_coords(fitted, experiment):
    _, posterior = fitted
    variables = posterior.posterior
    assert set(variables.data_vars) == {
        "v_Intercept", "v_condition", "a_Intercept", "z_Intercept", "t0_Intercept",
        "v_1|subject", "a_1|subject", "t0_1|subject",
        "v_1|subject_sigma", "a_1|subject_sigma", "t0_1|subject_sigma", "lapse",
    }  # fmt: skip
    assert variables["v_condition"].dims == ("chain", "draw", "v_condition_dim")
    assert variables["v_condition_dim"].values.tolist() == ["hard"]
    assert variables["v_1|subject"].dims == ("chain", "draw", "subject")
    assert variables["subject"].values.tolist() == sorted(experiment.trials["subject"].unique())
    assert {"diverging", "tree_depth", "lp", "energy"} <= set(posterior.sample_stats.data_vars)
    assert posterior.observed_data["rt"].values.tolist() == experiment.trials["rt"].tolist()
    assert posterior.constant_data["condition"].values.tolist() == experiment.trials["condition"].tolist()


def test_attributes_say_what_made_it(fitted):
    attrs = fitted[1].posterior.attrs
    assert attrs["model"] == "ddm"
    assert json.loads(attrs["formulas"])["v"] == "condition + (1|subject)"
    assert {"torch", "nutpie", "hddm_sbi"} <= set(json.loads(attrs["versions"]))
    assert (attrs["likelihood"], attrs["seed"], attrs["interrupted"]) == ("exact", 1, 0)
    assert json.loads(attrs["lapse"])["arguments"] == {"concentration1": 1.0, "concentration0": 49.0}


def test_neural_fit_names_its_weights(experiment):
    model = hs.HierarchicalModel("v ~ 1", experiment.trials)
    card = json.loads((PRETRAINED / "ddm.json").read_text())
    assert model.likelihood.sha256 == card["sha256"]


def test_theta_and_pointwise_log_likelihood(fitted, experiment):
    """theta of a draw by hand, and log[(1 - lapse) p + lapse / 2 T] of its trials, T the longest rt."""
    model, posterior = fitted
    draw = posterior.posterior.isel(chain=1, draw=7)
    theta = model.theta(posterior, np.array([QUICK["draws"] + 7]))[0][model.cell]
    hard = (experiment.trials["condition"] == "hard").to_numpy()
    subject = draw["subject"].values.searchsorted(experiment.trials["subject"])
    v = float(draw["v_Intercept"]) + hard * float(draw["v_condition"][0]) + draw["v_1|subject"].values[subject]
    a = np.exp(float(draw["a_Intercept"]) + draw["a_1|subject"].values[subject])
    np.testing.assert_allclose(theta[:, 0], v, rtol=1e-12)
    np.testing.assert_allclose(theta[:, 1], a, rtol=1e-12)
    p = model.likelihood.log_prob(
        experiment.trials["rt"], experiment.trials["response"], dict(zip(model.simulator.names, theta.T, strict=True))
    ).exp()
    lapse, longest = float(draw["lapse"]), experiment.trials["rt"].max()
    expected = np.log((1 - lapse) * p.numpy() + lapse / (2 * longest))
    got = posterior.log_likelihood["rt_response"].values[1, 7]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)


@quick_fits
def test_same_seed_same_draws(experiment):
    model = hs.HierarchicalModel("v ~ condition", experiment.trials, likelihood="exact")
    one, two, other = (model.fit(seed=seed, **QUICK).posterior["v_Intercept"].values for seed in (5, 5, 6))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


@quick_fits
def test_pyro_nuts_agrees_with_nuts(experiment):
    """Difference of two Monte-Carlo means below 5 standard errors (6e-7 per parameter), 200 draws of each."""
    model = hs.HierarchicalModel({"v": "1", "a": "1", "z": 0.5, "t0": 0.3}, experiment.trials, likelihood="exact")
    runs = [model.fit(draws=200, tune=150, chains=1, seed=2, method=m, progress=False) for m in ("nuts", "pyro-nuts")]
    for name in ("v_Intercept", "a_Intercept"):
        x, y = (run.posterior[name].values.reshape(-1) for run in runs)
        # Effective sizes of at least a fifth of the draws: NUTS on two nearly normal parameters.
        assert abs(x.mean() - y.mean()) < 5 * np.hypot(x.std(), y.std()) / np.sqrt(200 / 5)
    assert runs[0].posterior.attrs["method"] == "nuts"
    assert "diverging" in runs[1].sample_stats


def plain(experiment):
    formulas = {"v": "1", "a": "1", "z": 0.5, "t0": 0.3}
    model = hs.HierarchicalModel(formulas, experiment.trials, likelihood="exact", lapse=0.05)
    model.density  # noqa: B018 - compiled before evaluations are counted
    return model


def after(evaluations, happens, model, monkeypatch):
    """Something happens at that evaluation of the density from Python: at the same draw on any machine."""
    count = itertools.count(1)

    def counted(function):
        def call(*arguments):
            if next(count) == evaluations:
                happens()
            return function(*arguments)

        return call

    monkeypatch.setitem(vars(model), "density", replace(model.density, evaluate=counted(model.density)))
    monkeypatch.setattr(ExactLikelihood, "log_prob_by_cell", counted(ExactLikelihood.log_prob_by_cell))


@quick_fits
@pytest.mark.parametrize(("method", "evaluations"), [("nuts", 3_000), ("pyro-nuts", 1_200)])
def test_interrupt_keeps_the_draws_so_far(experiment, monkeypatch, method, evaluations):
    """Ctrl-C in the middle of sampling: what was drawn after tuning comes back, and says so."""
    model = plain(experiment)
    after(evaluations, _thread.interrupt_main, model, monkeypatch)
    posterior = model.fit(draws=100_000, tune=30, chains=1, seed=1, method=method, progress=False)
    assert posterior.posterior.attrs["interrupted"] == 1
    assert 1 < posterior.posterior.sizes["draw"] < 100_000


def test_a_chain_that_fails_leaves_its_draws(experiment, monkeypatch):
    def fail():
        raise ArithmeticError("no such place")

    model = plain(experiment)
    after(5_000, fail, model, monkeypatch)
    with pytest.warns(ConvergenceWarning, match="a chain failed"):
        posterior = model.fit(draws=100_000, tune=50, chains=1, seed=1, progress=False)
    assert posterior.posterior.attrs["interrupted"] == 1
    assert 1 < posterior.posterior.sizes["draw"] < 100_000


def test_a_sampler_of_ones_own_is_known_by_its_name(experiment, monkeypatch):
    """Random-walk Metropolis agrees with NUTS: 5 standard errors (6e-7 per parameter)."""

    def metropolis(density, settings):
        x = np.empty((settings.chains, settings.draws, density.size))
        for chain in range(settings.chains):
            rng = np.random.default_rng([settings.seed, chain])
            at, value = density.start, density(density.start)[0]
            for step in range(-settings.tune, settings.draws):
                to = at + 0.1 * rng.normal(size=density.size)
                proposed, _ = density(to)
                if np.log(rng.uniform()) < proposed - value:
                    at, value = to, proposed
                x[chain, max(step, 0)] = at
        return hs.Draws(x)

    monkeypatch.setitem(hs.SAMPLERS, "metropolis", hs.Sampler(metropolis))
    model = plain(experiment)
    walk = model.fit(draws=40_000, tune=2_000, chains=2, seed=1, method="metropolis", progress=False)
    nuts = model.fit(draws=1_000, tune=500, chains=2, seed=1, progress=False)
    assert walk.posterior.attrs["method"] == "metropolis"
    for name in ("v_Intercept", "a_Intercept"):
        x, y = (run.posterior[name].values.reshape(-1) for run in (walk, nuts))
        # At least 1 000 of 80 000 draws of the walk are worth one each, and 400 of 2 000 of NUTS.
        assert abs(x.mean() - y.mean()) < 5 * np.hypot(x.std() / 1_000**0.5, y.std() / 400**0.5)
        assert abs(np.log(x.std() / y.std())) < 5 * np.hypot(2_000**-0.5, 800**-0.5)


def test_a_density_that_is_not_a_number_is_refused_by_its_site(experiment, monkeypatch):
    def broken(self, trials, theta, lapse):
        return log_prob_by_cell(self, trials, theta, lapse) * float("nan")

    model = hs.HierarchicalModel({"v": "1", "a": "1", "z": 0.5, "t0": 0.3}, experiment.trials, likelihood="exact")
    log_prob_by_cell = ExactLikelihood.log_prob_by_cell
    monkeypatch.setattr(ExactLikelihood, "log_prob_by_cell", broken)
    with pytest.raises(InputError, match=r"not finite where sampling starts.*trials: nan"):
        model.fit(seed=1, **QUICK)


def test_a_quick_look_states_its_error(experiment):
    model = plain(experiment)
    with pytest.warns(ConvergenceWarning, match="a quick look: the Monte Carlo error .* up to 0.[01]") as caught:
        posterior = model.fit(seed=1, quick=True, progress=False)
    assert len(caught) == 1
    assert (posterior.posterior.sizes["chain"], posterior.posterior.sizes["draw"]) == (2, 300)
    assert posterior.posterior.attrs["quick"] == 1


@quick_fits
@pytest.mark.parametrize("method", [pytest.param("svi", marks=pytest.mark.slow), "laplace"])
def test_approximations_come_with_a_warning(experiment, method):
    with pytest.warns(ConvergenceWarning, match="an approximation whose error no diagnostic shows"):
        posterior = plain(experiment).fit(draws=50, chains=2, seed=1, method=method, progress=False)
    assert posterior.posterior["v_Intercept"].shape == (2, 50)


@quick_fits
def test_correlated_effects_and_user_priors(experiment):
    prior = {"v_Intercept": dist.Normal(2.0, 0.5), "v_1|subject_sigma": dist.HalfNormal(0.2)}
    model = hs.HierarchicalModel(
        "v ~ condition + (condition|subject)",
        experiment.trials,
        likelihood="exact",
        priors=prior,
        lapse=dist.Beta(1.0, 19.0),
    )
    assert model.prior_table["prior"]["v_Intercept"] == "Normal(loc=2, scale=0.5)"
    variables = model.fit(seed=1, **QUICK).posterior
    correlation = variables["v_1+condition|subject_corr"]
    assert correlation.sizes["v_1+condition|subject_corr_dim"] == 2
    np.testing.assert_allclose(correlation.values[..., [0, 1], [0, 1]], 1.0, atol=1e-12)
    assert variables["v_condition|subject"].dims == ("chain", "draw", "subject", "v_condition|subject_dim")
    assert ((variables["lapse"] > 0) & (variables["lapse"] < 1)).all()


def test_centring_can_be_forced(experiment):
    for choice in (True, False):
        model = hs.HierarchicalModel(FORMULAS, experiment.trials, likelihood="exact", centered=choice)
        assert {g.centred for p in model.hierarchy.predictors for g in p.groups} == {choice}
    one = hs.HierarchicalModel(FORMULAS, experiment.trials, likelihood="exact", centered={"v_1|subject": False})
    assert not next(g for p in one.hierarchy.predictors for g in p.groups).centred


def test_a_subject_with_a_single_trial_is_allowed(experiment):
    alone = experiment.trials.iloc[[0]].assign(subject="alone")
    model = hs.HierarchicalModel(FORMULAS, pd.concat([experiment.trials, alone]), likelihood="exact")
    assert np.isfinite(model.density(model.density.start)[0])


def test_start_is_below_the_fastest_trial_of_every_cell(experiment):
    model = hs.HierarchicalModel(FORMULAS, experiment.trials, likelihood="exact", lapse=0.0)
    value, gradient = model.density(model.density.start)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.fixture
def nothing_runs(monkeypatch):
    """Fails where anything is fitted, compiled, sampled or trained."""

    def run(*_, **__):
        raise AssertionError("a model was fitted, compiled or trained before its arguments were checked")

    for name in ("model.pooled_fit", "model.pilot_fit", "model.start_values", "model.flatten", "fits.fitting.sample"):
        monkeypatch.setattr(f"hddm_sbi.hierarchy.{name}", run)
    monkeypatch.setattr("hddm_sbi.training.train.train_likelihood", run)


SUBJECTS = {"formulas": "v ~ 1 + (1|subject)", "likelihood": "exact"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formulas": "w ~ 1"}, "'w'"),
        ({"formulas": "v ~ conditoin"}, "did you mean 'condition'"),
        ({"formulas": "v ~ condition +"}, "v"),
        ({"formulas": "v ~ rt"}, "'rt' is what the model explains"),
        ({"formulas": ["v ~ 1", "z = 1.5"]}, "outside the likelihood's box"),
        ({"data": [1.0, 2.0]}, "must be a pandas DataFrame"),
        ({"simulator": "ddmm"}, "did you mean 'ddm'"),
        ({"likelihood": "network"}, "no likelihood file"),
        ({"likelihood": "neurol"}, "did you mean 'neural'"),
        ({"priors": "stan"}, "not a prior set"),
        ({"priors": "hdm"}, "did you mean 'hddm'"),
        ({"priors": 3}, "priors must be None, the name of a prior set, or a dict"),
        ({"priors": {"v_intercept": dist.Normal(0.0, 1.0)}}, "did you mean 'v_Intercept'"),
        ({"priors": {"v_Intercept": 1.0}}, "must be a Pyro distribution"),
        ({"lapse": 1.5}, "probability"),
        ({"lapse": "5 %"}, "probability"),
        ({"lapse": dist.Normal(0.0, 1.0)}, "between 0 and 1"),
        ({"lapse_seconds": 0}, "positive"),
        ({"lapse_seconds": "ten"}, "positive"),
        ({"upper": "left"}, "upper='left' does not occur"),
        ({"choices": ["left", "right"]}, "must be one of 'left', 'right', as the model was told"),
        ({"centered": "always"}, "centered must be 'auto', True, False, or a dict"),
        ({"centered": {"v_1|subj": True}}, r"did you mean 'v_1\|subject'\? The group terms are"),
        ({"centered": {"v_1|subject": "yes"}}, "must be True or False; got 'yes'"),
        (
            {"centered": {"a_1|subject": False}, "formulas": "a ~ 1 + (1|subject)", "priors": "hddm"},
            "only be sampled centred",
        ),
        ({"rt": "RT"}, "did you mean 'rt'"),
        ({"response": "resp"}, "did you mean 'response'"),
    ],
)
def test_a_typo_in_any_argument_is_found_before_anything_runs(experiment, nothing_runs, arguments, message):
    given = {**SUBJECTS, "data": experiment.trials, **arguments}
    with pytest.raises(hs.InputError, match=message):
        hs.HierarchicalModel(**given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"draws": 0}, "draws must be a whole number of at least 1; got 0"),
        ({"tune": "many"}, "tune must be a whole number of at least 1; got 'many'"),
        ({"chains": 1.5}, "chains must be a whole number of at least 1; got 1.5"),
        ({"seed": 1.5}, "seed must be a whole number of at least 0; got 1.5"),
        ({"seed": -1}, "seed must be a whole number of at least 0; got -1"),
        ({"seed": 2**70}, r"seed must be below 2\*\*63, which a file can hold; got 1180591620717411303424"),
        ({"method": "nutts"}, "did you mean 'nuts'"),
        ({"quick": "yes"}, "quick must be True or False; got 'yes'"),
        ({"progress": 1}, "progress must be True or False; got 1"),
        ({"log_likelihood": None}, "log_likelihood must be True or False; got None"),
    ],
)
def test_a_typo_in_an_argument_of_fit_is_found_before_anything_runs(experiment, nothing_runs, arguments, message):
    model = hs.HierarchicalModel(data=experiment.trials, **SUBJECTS)
    with pytest.raises(hs.InputError, match=message):
        model.fit(**arguments)


def test_constructing_a_model_fits_nothing(experiment, nothing_runs):
    """What a model is, its priors and its copies with other outcomes are there at once; fitting begins with `fit`."""
    model = hs.HierarchicalModel(data=experiment.trials, **SUBJECTS)
    assert "v ~ 1 + (1|subject)" in repr(model)
    assert model.prior_table.loc["v_1|subject_sigma", "prior"].startswith("HalfNormal")
    assert len(model.with_outcomes(model.trials.values).trials) == len(experiment.trials)
    with pytest.raises(AssertionError, match="before its arguments"):
        model.fit(seed=1)


def test_the_prior_of_lapses_can_be_replaced_by_name(experiment):
    prior = dist.Beta(2.0, 8.0)
    model = hs.HierarchicalModel(
        data=experiment.trials, lapse=dist.Beta(1.0, 19.0), priors={"lapse": prior}, **SUBJECTS
    )
    assert model.prior_table.loc["lapse", "prior"] == "Beta(concentration1=2, concentration0=8)"


def test_forcing_leaves_a_population_centred_that_can_only_be_centred(experiment):
    options = {"formulas": ["v ~ 1 + (1|subject)", "a ~ 1 + (1|subject)"], "likelihood": "exact", "priors": "hddm"}
    model = hs.HierarchicalModel(data=experiment.trials, centered=False, **options)
    assert {term.name: term.centred for term in model.hierarchy.groups} == {"v_1|subject": False, "a_1|subject": True}


@pytest.mark.parametrize(("name", "kind"), [("ddm", "neural"), ("lba3", "exact"), ("lba3", "neural")])
def test_a_response_never_seen_is_fitted_and_one_of_another_coding_refused(name, kind):
    simulator = hs.load_simulator(name)
    middle = {p.name: sum(p.typical) / 2 for p in simulator.parameters}
    data = hs.simulate(name, middle, 400, seed=1)
    never, other = simulator.choices[0], max(simulator.choices) + 1
    formula = f"{simulator.names[0]} ~ 1"
    model = hs.HierarchicalModel(formula, data[data["response"] != never], simulator, kind)
    value, gradient = model.density(model.density.start)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    with pytest.raises(hs.InputError, match=f"got {other} in row 7 "):
        hs.HierarchicalModel(formula, data.assign(response=data["response"].where(data.index != 7, other)), name, kind)


@quick_fits
def test_every_formula_is_parsed_once(experiment, monkeypatch):
    """From the table to the posterior; of z, which is not mentioned, `z ~ 1`."""
    parsed = []

    class Counting(syntax.Parser):
        def parse(self):
            parsed.append(" ".join(token.lexeme for token in self.tokens))
            return super().parse()

    monkeypatch.setattr(syntax, "Parser", Counting)
    model = hs.HierarchicalModel(FORMULAS, experiment.trials, likelihood="exact")
    posterior = model.fit(seed=1, **QUICK)
    assert "condition + (1|subject)" in repr(model)
    assert json.loads(posterior.posterior.attrs["formulas"])["z"] == "1"
    assert len(parsed) == len(model.formulas) == 4


def test_random_state_is_left_alone(experiment):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    model = hs.HierarchicalModel("v ~ 1", experiment.trials, likelihood="exact")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(draws=5, tune=5, chains=1, seed=1, progress=False)
    assert torch.rand(1) == expected


def test_conditions_that_the_simulator_receives_come_from_the_table():
    """An untrained network of the shrinking spotlight: what matters is where congruency comes from."""
    ssp = hs.load_simulator("ssp")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = MixtureNetwork(Reduction(ssp), Architecture())
    likelihood = MixtureLikelihood(ssp, network, ssp.box)
    code = np.tile([1, -1, -1], 40)
    theta = {"p": 3.5, "a": 0.7, "t0": 0.3, "ti": 0.1, "sz": 0.1, "st0": 0.1, "congruency": code}
    data = hs.simulate("ssp", theta, seed=1).assign(congruency=code, group=np.repeat(["x", "y"], 60))
    model = hs.HierarchicalModel("p ~ group", data, ssp, likelihood)
    assert model.hierarchy.trials.n_cells == 4
    assert "congruency" not in model.formulas
    assert model.formulas["sda"] == 1.8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        posterior = model.fit(draws=10, tune=20, chains=1, seed=1, progress=False)
    cells = model.theta(posterior, np.array([0]))[0]
    assert np.array_equal(cells[model.cell, ssp.names.index("congruency")], code)
    assert not [name for name in posterior.posterior if name.startswith("congruency")]
    assert np.array_equal(posterior.constant_data["congruency"], code)
    with pytest.raises(
        hs.InputError,
        match=r"'congruency' is a condition of the model and must be \+1 .*, \+0 .* or -1 .*; got 'no'",
    ):
        hs.HierarchicalModel("p ~ group", data.assign(congruency=np.where(code > 0, "no", "1")), ssp, likelihood)
    with pytest.raises(hs.InputError, match="no column 'congruency'"):
        hs.HierarchicalModel("p ~ group", data.drop(columns="congruency"), ssp, likelihood)
    with pytest.raises(hs.InputError, match="unknown parameter 'congruency'"):
        hs.HierarchicalModel("congruency ~ group", data, ssp, likelihood)
