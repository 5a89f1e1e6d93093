"""Priors on the natural scale, and of all coefficients of a class."""

import warnings

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import hddm_sbi as hs

FORMULAS = ["v ~ side + (side||subject)", "a ~ side + (1|subject)", "t0 ~ 0 + side"]


@pytest.fixture(scope="module")
def data():
    table = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 240, seed=1)
    return table.assign(subject=np.repeat(range(4), 60), side=np.tile(["a", "b", "c"], 80))


def table_of(data, priors, formulas=FORMULAS):
    return hs.HierarchicalModel(formulas, data, likelihood="exact", priors=priors).prior_table["prior"].to_dict()


def test_a_class_sets_all_of_its_coefficients_and_no_other(data):
    before = table_of(data, None)
    expected = {
        "sigma": ["v_1|subject_sigma", "v_side|subject_sigma", "a_1|subject_sigma"],
        "v_sigma": ["v_1|subject_sigma", "v_side|subject_sigma"],
        "b": ["v_side", "a_side"],
        "a_b": ["a_side"],
        "Intercept": ["v_Intercept", "a_Intercept", "z_Intercept", "t0_side"],
        "t0_Intercept": ["t0_side"],
    }
    for key, names in expected.items():
        law = dist.HalfNormal(0.25) if "sigma" in key else dist.Normal(0.0, 0.25)
        after = table_of(data, {key: law})
        assert {name for name in after if after[name] != before[name]} == set(names), key


def test_the_more_specific_prior_wins_in_any_order(data):
    given = {
        "v_1|subject_sigma": dist.HalfNormal(0.1),
        "v_sigma": dist.HalfNormal(0.2),
        "sigma": dist.HalfNormal(0.3),
    }
    for priors in (given, dict(reversed(given.items()))):
        found = table_of(data, priors)
        assert found["v_1|subject_sigma"] == "HalfNormal(scale=0.1)"
        assert found["v_side|subject_sigma"] == "HalfNormal(scale=0.2)"
        assert found["a_1|subject_sigma"] == "HalfNormal(scale=0.3)"


def test_a_coefficient_that_is_called_as_a_class_is_meant_itself(data):
    table = data.assign(b=np.linspace(-1.0, 1.0, len(data)))
    found = table_of(table, {"v_b": dist.Normal(0.0, 0.25)}, "v ~ b + side")
    assert found["v_b"] == "Normal(loc=0, scale=0.25)"
    assert found["v_side"] != "Normal(loc=0, scale=0.25)"


def test_natural_is_the_prior_by_the_name_of_the_parameter(data):
    law = dist.Uniform(0.1, 0.6)
    by_name = hs.HierarchicalModel("v ~ 1", data, likelihood="exact", priors={"t0": law})
    explicit = hs.HierarchicalModel("v ~ 1", data, likelihood="exact", priors={"t0_Intercept": hs.natural(law)})
    both = hs.HierarchicalModel("v ~ 1", data, likelihood="exact", priors={"t0": hs.natural(law)})
    assert explicit.fingerprint == by_name.fingerprint == both.fingerprint
    assert explicit.density(explicit.density.start)[0] == by_name.density(by_name.density.start)[0]


def test_natural_priors_of_means_of_conditions(data, tmp_path):
    """A uniform prior of each onset, in seconds, compiled, kept, and the same again."""
    priors = {"t0_side": hs.natural(dist.Uniform(0.1, 0.5)), "sigma": dist.HalfNormal(0.2)}
    model = hs.HierarchicalModel(FORMULAS, data, likelihood="exact", priors=priors)
    assert model.density.path == "compiled"
    assert model.prior_table.loc["t0_side", "prior"] == "Uniform(low=0.1, high=0.5) on the natural scale"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)  # a few draws, for the range
        posterior = model.fit(draws=50, tune=100, chains=2, seed=1, progress=False)
    t0 = np.exp(posterior["posterior"]["t0_side"])
    assert 0.1 < t0.min() < t0.max() < 0.5
    posterior.to_netcdf(str(tmp_path / "fit.nc"))
    loaded = hs.load_model(tmp_path / "fit.nc")
    assert loaded.prior_records == model.prior_records
    assert loaded.fingerprint == model.fingerprint


def test_on_an_identity_link_natural_changes_nothing(data):
    given = table_of(data, {"v_b": hs.natural(dist.Normal(0.0, 0.25))})
    assert given == table_of(data, {"v_b": dist.Normal(0.0, 0.25)})


@pytest.mark.parametrize(
    ("priors", "expected"),
    [
        ({"a_side": hs.natural(dist.Uniform(0.1, 1.0))}, r"a_side is on the log scale of a, .* no value of a itself"),
        ({"a_sigma": hs.natural(dist.Uniform(0.1, 1.0))}, r"'a_sigma'\]: a_1\|subject_sigma is on the log scale of a"),
        ({"b": hs.natural(dist.Normal(0.0, 1.0))}, r"'b'\]: a_side is on the log scale of a"),
        ({"Intercept": hs.natural(dist.Normal(0.0, 1.0))}, r"'Intercept'\] is the prior of a itself, .*got Normal"),
        ({"Intercept": hs.natural(dist.Gamma(2.0, 2.0))}, r"of z itself, which lies between 0 and 1; .*Beta\(2., 2.\)"),
        ({"a_Intercept": hs.natural(0.5)}, "must be a Pyro distribution"),
        ({"a_Intercept": hs.natural(hs.natural(dist.Uniform(0.1, 1.0)))}, "must be a Pyro distribution"),
        ({"t0_side": dist.Uniform(0.1, 0.5)}, r"on the log scale of t0; .*write priors=\{'t0_side': hs.natural"),
        ({"sigma": dist.Normal(0.0, 1.0)}, r"priors\['sigma'\] must be the prior of a number in \[0, inf\]"),
        ({"sigma": dist.HalfNormal(torch.ones(2))}, "'sigma' must be that of one number"),
        ({"z_b": dist.Normal(0.0, 1.0)}, "the class 'z_b', and this model has no slope, .* of z; leave it out"),
        ({"corr": dist.LKJ(2, 1.0)}, "the class 'corr', and this model has no correlation"),
        ({"sigmas": dist.HalfNormal(1.0)}, "did you mean 'sigma'?"),
        ({"w_sigma": dist.HalfNormal(1.0)}, "names 'w_sigma', which is not a coefficient of this model"),
    ],
)  # fmt: skip
def test_priors_that_are_refused(data, priors, expected):
    with pytest.raises(hs.InputError, match=expected):
        hs.HierarchicalModel(FORMULAS, data, likelihood="exact", priors=priors)


def test_classes_in_a_race_are_by_stem():
    trials = hs.simulate("lnr", {"m0": -1.0, "m1": -0.5, "s": 0.5, "t0": 0.2}, 60, seed=1)
    names = hs.HierarchicalModel("m ~ choice", trials, "lnr", "exact").prior_table.index
    found = table_of_race(trials, {"m_b": dist.Normal(0.0, 0.25)})
    assert found["m_choice"] == "Normal(loc=0, scale=0.25)"
    assert set(found) == set(names)


def table_of_race(trials, priors):
    return hs.HierarchicalModel("m ~ choice", trials, "lnr", "exact", priors=priors).prior_table["prior"].to_dict()
