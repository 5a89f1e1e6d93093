"""SBC and recovery, with a posterior on a grid in place of the sampler, so that it can be right or wrong on purpose."""

import json
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from factory import Poisson, bake

import hddm_sbi as hs
from hddm_sbi.analysis.calibration import ReplicaWarning
from hddm_sbi.analysis.experiment import FORMULAS, simulate_experiment
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.terms.link import onto_box
from hddm_sbi.inference import inference_data
from hddm_sbi.inference.density import flatten
from hddm_sbi.presentation import plots, report
from hddm_sbi.seeds import derive_seed
from hddm_sbi.training.ranks import FALSE_ALARMS

COOKIES = pd.DataFrame({"chips": np.full(30, 9)})


@pytest.fixture(scope="module")
def model():
    return hs.HierarchicalModel("rate ~ 1", COOKIES, likelihood=Poisson())


def on_a_grid(power=1.0, shift=0.0, stopped="", refused=()):
    """A `fit` of `rate ~ 1`: the posterior with the likelihood to some power, moved by some of its sds."""

    def fit(model, draws, tune, chains, seed, method, *, progress):
        if seed in refused:
            raise InputError("the oven is on fire.")
        rng = np.random.default_rng(seed)
        eta = np.linspace(-3.0, 4.0, 20_001)
        predictor = model.hierarchy.predictors[0]
        rate = onto_box(torch.as_tensor(eta), predictor.link, predictor.low, predictor.high).numpy()
        chips = model.trials.values[:, 0]
        log_p = power * (chips.sum() * np.log(rate) - len(chips) * rate)
        log_p += predictor.common[0].prior.log_prob(torch.as_tensor(eta)).numpy()
        x = rng.choice(eta, (chains, draws), p=np.exp(log_p - log_p.max()) / np.exp(log_p - log_p.max()).sum())
        x += shift * x.std() + 1e-4 * rng.normal(size=x.shape)
        return inference_data.build({"posterior": {"rate_Intercept": x}}, {}, {}, {"stopped": stopped})

    return fit


@pytest.fixture
def fits_are(monkeypatch):
    return lambda **wrong: monkeypatch.setattr(hs.HierarchicalModel, "fit", on_a_grid(**wrong))


def test_sbc_of_a_right_posterior_is_good(model, fits_are):
    fits_are()
    tables = hs.run_sbc(model, 60, progress=False)
    assert report.sbc_verdict(tables).startswith("Good: the true values of 60 simulated tables")
    assert report.sbc_summary(tables).index.tolist() == ["rate_Intercept", "log_likelihood"]
    # Truths are draws of the prior: their mean within 5 standard errors (6e-7 false alarms).
    prior = model.hierarchy.predictors[0].common[0].prior
    truth = tables["truth"].sel(coefficient="rate_Intercept").to_numpy()
    assert abs(truth.mean() - float(prior.mean)) < 5 * float(prior.stddev) / np.sqrt(60)
    assert len(np.unique(truth)) == 60


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"power": 9.0}, "rate_Intercept .* times too narrow"),
        ({"power": 1 / 9}, "rate_Intercept .* times too wide"),
        ({"shift": 1.5}, r"rate_Intercept is off by 1\.[1-7].* and (0|1)\.\d+ times too"),
        ({"shift": -1.5}, r"rate_Intercept is off by -1\.[1-7].* and (0|1)\.\d+ times too"),
        ({"power": 0.0}, "draws fit the data worse than the true values do, as if there were less data"),
    ],
)
def test_sbc_of_a_wrong_posterior_is_not(model, fits_are, wrong, said):
    """Of one that is the prior, no notice taken of the data, the ranks of the coefficient are uniform."""
    fits_are(**wrong)
    tables = hs.run_sbc(model, 40, progress=False)
    verdict = report.sbc_verdict(tables)
    assert verdict.startswith("Miscalibrated")
    assert re.search(said, verdict), verdict
    if wrong.get("power") == 0.0:
        assert report.sbc_summary(tables)["p_value"]["rate_Intercept"] > FALSE_ALARMS


def test_a_run_goes_on_from_its_folder(model, fits_are, tmp_path):
    """Where a table is missing, and with more tables; not with another seed."""
    fits_are()
    first = hs.run_sbc(model, 3, folder=tmp_path, progress=False)
    second = sorted(tmp_path.glob("table-*.json"))[1]
    assert second.name.startswith("table-00001-")
    second.unlink()
    fits_are(shift=50.0)
    again = hs.run_sbc(model, 4, folder=tmp_path, progress=False)
    np.testing.assert_array_equal(again["truth"][:3], first["truth"])
    np.testing.assert_array_equal(again["mean"][[0, 2]], first["mean"][[0, 2]])
    assert (again["mean"][1] != first["mean"][1]).any()
    with pytest.raises(InputError, match="another recipe"):
        hs.run_sbc(model, 3, seed=2, folder=tmp_path, progress=False)


def test_the_same_seed_gives_the_same_tables(model, fits_are):
    fits_are()
    one, two, other = (hs.run_sbc(model, 3, seed, progress=False) for seed in (1, 1, 2))
    assert one.identical(two)
    assert (one["truth"] != other["truth"]).all()


def test_tables_without_a_fit_are_counted_and_named(model, fits_are):
    fits_are(refused={derive_seed(1, 2, 1)})
    with pytest.warns(ReplicaWarning, match="1 of 4 simulated tables could not be fitted.*the oven is on fire"):
        tables = hs.run_sbc(model, 4, progress=False)
    assert tables["table"].values.tolist() == [0, 1, 3]
    assert json.loads(tables.attrs["failed"]) == {"2": "the oven is on fire."}
    fits_are(stopped="a chain failed (nan)")
    with pytest.raises(InputError, match=r"4 of 4 simulated tables could not be fitted.*a chain failed"):
        hs.run_sbc(model, 4, progress=False)


def test_an_interrupted_fit_is_not_a_fit(model, fits_are, tmp_path):
    fits_are(stopped="interrupted")
    with pytest.raises(KeyboardInterrupt) as stop:
        hs.run_sbc(model, 2, folder=tmp_path, progress=False)
    assert "0 of 2 tables are done" in stop.value.__notes__[-1]


def test_recovery_at_known_coefficients(model, fits_are):
    """Of 50 intervals of 94 %, 37 or fewer have the truth inside once in 1e6 runs."""
    fits_are()
    tables = hs.recover_parameters(model, {"rate_Intercept": np.log(9.0)}, 50, progress=False)
    summary = report.recovery_summary(tables).loc["rate_Intercept"]
    assert summary["coverage"] >= 38 / 50
    assert abs(summary["bias"]) < 5 * summary["sd"] / np.sqrt(50) + 0.05 * summary["sd"]
    assert np.isnan(summary["correlation"])
    assert (tables["truth"].sel(coefficient="rate_Intercept") == np.log(9.0)).all()


def test_recovery_over_the_prior_and_at_draws_of_a_posterior(model, fits_are):
    fits_are()
    from_prior = hs.recover_parameters(model, n_tables=30, progress=False)
    assert report.recovery_summary(from_prior)["correlation"]["rate_Intercept"] > 0.9
    posterior = model.fit(500, 500, 2, 1, "nuts", progress=False)
    tables = hs.recover_parameters(model, posterior, 5, progress=False)
    drawn = posterior["posterior"]["rate_Intercept"].values.reshape(-1)
    assert np.isin(tables["truth"].sel(coefficient="rate_Intercept"), drawn).all()


def test_a_wrong_truth_is_refused(model):
    with pytest.raises(InputError, match=r"lacks \['rate_Intercept'\], and names \['v'\]"):
        hs.recover_parameters(model, {"v": 1.0})
    with pytest.raises(InputError, match=r"must have the shape \(\); got \(2,\)"):
        hs.recover_parameters(model, {"rate_Intercept": [1.0, 2.0]})
    with pytest.raises(InputError, match="n_tables must be a whole number of at least 1; got 0"):
        hs.run_sbc(model, 0)
    with pytest.raises(InputError, match="ranked among 99 draws; got draws=20 of chains=2"):
        hs.run_sbc(model, 5, draws=20)
    with pytest.raises(InputError, match="method must be one of"):
        hs.run_sbc(model, 5, method="mcmc")


def test_the_same_model_of_other_outcomes():
    """Density and start are those of a model built from a table with those outcomes; the first model is as it was."""
    experiment, other = (simulate_experiment(3, 8, seed=seed) for seed in (1, 2))
    model = hs.HierarchicalModel(FORMULAS, experiment.trials, likelihood="exact", lapse_seconds=10.0)
    before, _ = model.trials.values.copy(), model.whitening
    built = hs.HierarchicalModel(FORMULAS, other.trials, likelihood="exact", lapse_seconds=10.0)
    swapped = model.with_outcomes(built.trials.values)
    pd.testing.assert_frame_equal(swapped.trials.frame, built.trials.frame)
    one, two = (flatten(m.hierarchy, m.start, "eager") for m in (swapped, built))
    np.testing.assert_array_equal(one.start, two.start)
    np.testing.assert_array_equal(swapped.whitening.entries, built.whitening.entries)
    x = one.start + 0.1 * np.random.default_rng(1).normal(size=one.size)
    assert one(x)[0] == two(x)[0]
    np.testing.assert_array_equal(model.trials.values, before)


def test_few_tables_say_nothing(model, fits_are):
    fits_are(shift=50.0)
    assert report.sbc_verdict(hs.run_sbc(model, 5, progress=False)).startswith("5 simulated tables say nothing")


def test_a_model_travels_without_its_compiled_density():
    data = simulate_experiment(2, 8, seed=1).trials
    model = hs.HierarchicalModel({"v": "1", "a": 1.0, "z": 0.5, "t0": 0.2}, data, likelihood="exact")
    before = model.density
    again = pickle.loads(pickle.dumps(model))
    assert "density" not in again.__dict__
    x = before.start + 0.5
    assert again.density(x)[0] == before(x)[0]


def test_every_coefficient_of_a_design_is_there():
    """A correlation once, deviations by group, and the sampler itself."""
    experiment = simulate_experiment(3, 8, seed=1)
    formulas = {"v": "condition + (condition|subject)", "a": "1", "z": 0.5, "t0": 0.3}
    model = hs.HierarchicalModel(formulas, experiment.trials, likelihood="exact", lapse=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReplicaWarning)
        tables = hs.run_sbc(model, 1, draws=60, tune=60, progress=False)
    assert tables["coefficient"].values.tolist() == [
        "v_Intercept", "v_condition[hard]", "a_Intercept", "v_1|subject_sigma", "v_condition|subject_sigma[hard]",
        "v_1|subject[s00]", "v_1|subject[s01]", "v_1|subject[s02]",
        "v_condition|subject[s00, hard]", "v_condition|subject[s01, hard]", "v_condition|subject[s02, hard]",
        "v_1+condition|subject_corr[condition[hard], 1]", "log_likelihood",
    ]  # fmt: skip
    assert tables["population"].values.tolist() == 5 * [True] + 6 * [False] + 2 * [True]
    assert ((tables["low"] < tables["mean"]) & (tables["mean"] < tables["high"])).all()
    assert tables["rank"].dtype == np.int64


def test_pictures(model, fits_are):
    fits_are()
    tables = hs.run_sbc(model, 20, progress=False)
    axes = plots.plot_sbc(tables)
    assert [ax.get_title() for ax in axes] == ["rate_Intercept", "log_likelihood"]
    assert sum(bar.get_height() for bar in axes[0].patches if bar.get_width() < 50) >= 20
    (ax,) = plots.plot_tables(tables, ["rate_Intercept"])
    assert len(ax.containers) == 1
    with pytest.raises(InputError, match="coefficients must be some of"):
        plots.plot_sbc(tables, ["v"])


class Tempered(Poisson):
    """A likelihood that counts every trial `power` times."""

    def __init__(self, power):
        super().__init__()
        self.power = power

    def log_prob_by_cell(self, trials, theta, lapse):
        return self.power * super().log_prob_by_cell(trials, theta, lapse)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hddm_sbi.analysis.calibration.ReplicaWarning")
@pytest.mark.parametrize(
    ("formula", "power", "said"),
    [
        ("rate ~ 1", 1, "^Good"),
        ("rate ~ 1", 9, "rate_Intercept .* too narrow"),
        ("rate ~ 1", 1 / 9, "rate_Intercept .* too wide"),
        ("rate ~ 1 + (1|location)", 1, "^Good"),
        # What is not known of the population of few groups hardly changes with the trials; the groups' data tell.
        ("rate ~ 1 + (1|location)", 6, "as if there were more data"),
    ],
)
def test_sbc_with_the_sampler(formula, power, said):
    """60 tables; a right likelihood fails once in 1 000 runs."""
    model = hs.HierarchicalModel(formula, bake(), likelihood=Tempered(power))
    assert re.search(said, report.sbc_verdict(hs.run_sbc(model, 60, progress=False)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hddm_sbi.analysis.calibration.ReplicaWarning")
@pytest.mark.parametrize("likelihood", ["exact", "neural"])
def test_sbc_of_the_ddm(likelihood):
    """Simulator, likelihood, default priors, and sampler of a small experiment agree: 100 tables, as above."""
    data = simulate_experiment(4, 20, seed=1).trials
    formulas = {"v": "condition + (1|subject)", "a": "1", "z": 0.5, "t0": "1"}
    model = hs.HierarchicalModel(formulas, data, likelihood=likelihood, lapse=0)
    assert report.sbc_verdict(hs.run_sbc(model, 100, progress=False)).startswith("Good")
