"""What a posterior says of its making: the same after attributes and file, and enough to build the model again."""

import warnings

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from factory import Poisson, bake, cookies

import hddm_sbi as hs
from hddm_sbi.analysis.predictive import predicted_table, predictive_draws
from hddm_sbi.hierarchy.fits.record import FitRecord
from hddm_sbi.hierarchy.priors.choice import PriorRecord
from hddm_sbi.inference import inference_data
from hddm_sbi.simulation import from_json


def fit(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        return model.fit(draws=4, tune=10, chains=2, seed=3, progress=False)


def experiment(**columns):
    return hs.simulate_experiment(n_subjects=4, n_trials=10, seed=2).trials.assign(**columns)


def reversed_levels(table):
    order = pd.CategoricalDtype(["hard", "easy"])
    return table.assign(condition=table["condition"].astype(order))


def keys(table):
    """The same table with other names and codes, and a column called as one of ours."""
    told = table.rename(columns={"rt": "seconds"}).assign(key=np.where(table["response"] > 0, "yes", "no"))
    return told.drop(columns="response").assign(rt=np.arange(len(table)) % 3)


def stimuli(data):
    """The same by stimulus: half of the stimuli and responses are left, half right."""
    side, right = np.array(["left", "right"]), np.arange(len(data)) % 2
    return data.assign(S=side[right], response=side[np.where(data["response"] > 0, right, 1 - right)])


LBA = {p.name: sum(p.typical) / 2 for p in hs.load_simulator("lba3").parameters}


def ways(table):
    return table.assign(response=table["response"].map({0: "left", 1: "mid", 2: "right"}))


GROUPED = ["v ~ condition + (1|subject)", "z = 0.5"]
CASES = {
    "learned": lambda: hs.HierarchicalModel(GROUPED, experiment()),
    "levels": lambda: hs.HierarchicalModel(GROUPED, reversed_levels(experiment()), likelihood="exact", centered=True),
    "priors": lambda: hs.HierarchicalModel(
        ["v ~ condition + (condition|subject)"],
        experiment(),
        likelihood="exact",
        priors={"v_Intercept": dist.StudentT(3.0, 1.0, 2.0), "v_condition": dist.Normal(torch.tensor([0.1]), 2.0)},
        lapse=dist.Beta(1.0, 19.0),
        lapse_seconds=5.0,
    ),
    "literature": lambda: hs.HierarchicalModel(GROUPED, experiment(), likelihood="exact", priors="hddm", lapse=0.02),
    "columns": lambda: hs.HierarchicalModel(
        ["v ~ rt + (1|subject)"], keys(experiment()), likelihood="exact", rt="seconds", response="key", upper="yes"
    ),
    "accuracy": lambda: hs.HierarchicalModel(GROUPED, stimuli(experiment()), likelihood="exact", correct="S"),
    "numbers": lambda: hs.HierarchicalModel(
        ["v ~ C(load) + (1|subject)"], experiment(load=np.tile([1, 2], 40), subject=np.repeat([2, 10, 1, 7], 20)),
        likelihood="exact",
    ),
    "race": lambda: hs.HierarchicalModel("v0 ~ 1", hs.simulate("lba3", LBA, 60, seed=1), "lba3"),
    "named responses": lambda: hs.HierarchicalModel(
        "v0 ~ 1", ways(hs.simulate("lba3", LBA, 60, seed=1)), "lba3", choices=["left", "mid", "right"]
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def fitted(request):
    model = CASES[request.param]()
    return model, fit(model)


def test_the_record_comes_back_from_attributes_and_from_a_file(fitted, tmp_path):
    _, posterior = fitted
    record = FitRecord.read(posterior["posterior"].attrs)
    assert FitRecord.read(record.attributes()) == record
    inference_data.write(posterior, tmp_path / "fit.nc")
    assert FitRecord.read(inference_data.read(tmp_path / "fit.nc")["posterior"].attrs) == record
    assert (record.draws, record.tune, record.chains, record.seed, record.method) == (4, 10, 2, 3, "nuts")
    assert (record.quick, record.interrupted, record.stopped, record.density) == (False, False, "", "compiled")


def test_a_loaded_model_is_the_model(fitted, tmp_path):
    """The same table, formulas, priors, centring, density at the same point, theta, log likelihood and predictions."""
    model, posterior = fitted
    posterior.to_netcdf(str(tmp_path / "fit.nc"))
    again = hs.load_model(tmp_path / "fit.nc")
    assert repr(again) == repr(model)
    assert again.fingerprint == model.fingerprint
    assert again.prior_table.equals(model.prior_table)
    pd.testing.assert_frame_equal(again.trials.frame, model.trials.frame)
    assert {term.name: term.centred for term in again.hierarchy.groups} == {
        term.name: term.centred for term in model.hierarchy.groups
    }
    assert again.density.names == model.density.names
    assert again.density(model.density.start)[0] == model.density(model.density.start)[0]
    known = inference_data.read(tmp_path / "fit.nc")
    assert np.array_equal(again.theta(known), model.theta(posterior))
    logs = [m.with_log_likelihood(known)["log_likelihood"]["rt_response"].values for m in (again, model)]
    assert np.array_equal(*logs)
    assert np.array_equal(*(predictive_draws(m, known, 3).values for m in (again, model)))


@pytest.mark.parametrize("said", [{"upper": 1}, {"upper": True}, {"choices": [0, 1]}])
def test_whole_numbers_name_responses_as_integers(said):
    """The column holds 0.0 and 1.0, as it does where a response is missing, and a model of it can be made again."""
    table = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 30, seed=1)
    table["response"] = (table["response"] > 0).astype(float)
    fixed = {"a": 1.0, "z": 0.5, "t0": 0.3}
    model = hs.HierarchicalModel({"v": "1", **fixed}, table, likelihood="exact", **said)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        posterior = model.fit(draws=4, chains=1, seed=1, method="laplace", progress=False)
    assert hs.load_model(posterior).fingerprint == model.fingerprint
    assert [repr(name) for name in model.trials.responses] == ["0", "1"]


def test_numbers_that_do_not_occur_are_named_like_the_others():
    table = hs.simulate("lba3", LBA, 60, seed=1)
    seen = table[table["response"] < 2].assign(response=lambda t: t["response"].astype(float))
    model = hs.HierarchicalModel("v0 ~ 1", seen, "lba3", choices=[0, 1, 2])
    assert [repr(name) for name in model.trials.responses] == ["0", "1", "2"]


@pytest.mark.usefixtures("few_steps")
def test_a_simulator_of_ones_own_is_declared_and_a_file_named(tmp_path):
    """What a learned likelihood of one's own needs is its file; what a simulator does is no part of a record."""
    likelihood = hs.train_likelihood(cookies, n_simulations=2_000, seed=1, shape=hs.EstimatorShape(), progress=False)
    likelihood.save(tmp_path / "cookies.safetensors")
    path = str(tmp_path / "cookies.safetensors")
    model = hs.HierarchicalModel("rate ~ 1", bake(), likelihood=path)
    record = FitRecord.read(fit(model)["posterior"].attrs)
    assert (record.likelihood_path, record.weights_sha256) == (path, likelihood.sha256)
    declared = from_json(record.declaration)
    assert (declared.name, declared.names, declared.parameters) == ("cookies", ("rate",), cookies.parameters)
    again = hs.HierarchicalModel(record.formulas, bake(), declared, record.likelihood_path)
    assert again.density(model.density.start)[0] == model.density(model.density.start)[0]


def test_a_prior_that_its_arguments_do_not_make_is_told_and_not_built():
    class Normal(dist.Normal):
        """Another law under the same name."""

    shifted = dist.TransformedDistribution(dist.Normal(0.0, 1.0), [dist.transforms.AffineTransform(1.0, 2.0)])
    for prior, name in ((shifted, "TransformedDistribution"), (Normal(0.0, 1.0), "Normal")):
        record = PriorRecord.of(prior)
        assert name in str(record)
        with pytest.raises(hs.InputError, match=r"give it again in priors="):
            record.build()


def test_a_posterior_that_does_not_say_what_made_it_is_refused():
    attrs = fit(hs.HierarchicalModel("rate ~ 1", bake(), likelihood=Poisson()))["posterior"].attrs
    with pytest.raises(hs.InputError, match="its attributes lack seed"):
        FitRecord.read({name: value for name, value in attrs.items() if name != "seed"})


def test_accuracy_coding_is_that_of_correct_and_error():
    """The same posterior, a record that says it, and predictions in these words."""
    coded = hs.HierarchicalModel(GROUPED, experiment(), likelihood="exact")
    model = CASES["accuracy"]()
    assert np.array_equal(model.trials.values, coded.trials.values)
    posterior = fit(model)
    record = FitRecord.read(posterior["posterior"].attrs)
    assert (record.responses, record.columns) == (("error", "correct"), ("subject", "condition", "rt", "response"))
    again = hs.load_model(posterior)
    assert set(again.trials.frame["response"]) == {"correct", "error"}
    assert again.trials.choice.tolist() == coded.trials.choice.tolist()
    assert set(predicted_table(again, posterior, 3)["response"]) == {"correct", "error"}


def test_what_a_table_was_warned_of_is_not_said_again():
    data = experiment().assign(rt=lambda table: table["rt"].where(table.index != 3, 55.0))
    with pytest.warns(hs.TableWarning, match="in row 3"):
        model = hs.HierarchicalModel(GROUPED, data, likelihood="exact")
    assert hs.load_model(fit(model)).trials.rt.max() == 55.0
