"""A fit is kept: names and labels that files hold, matched by label, loaded again, never lost after sampling."""

import json
import warnings

import arviz as az
import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
from factory import Poisson, bake, cookies, few_steps
from test_record import fit

import hddm_sbi as hs
from hddm_sbi.analysis.predictive import predictive_draws
from hddm_sbi.analysis.shrinkage import group_levels
from hddm_sbi.hierarchy.fits.posterior import PosteriorWriter
from hddm_sbi.inference import inference_data

FIXED = {"a": 1.0, "z": 0.5, "t0": 0.3}


@pytest.fixture(scope="module")
def trials():
    """Four subjects of 60 trials, with columns that are called as dimensions, sites and coefficients of ours."""
    table = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 240, seed=1)
    number = np.tile(np.arange(60), 4)
    own = dict.fromkeys(("trial", "chain", "draw", "sample", "cell", "trials", "v_x", "posterior"), number % 5)
    table = table.assign(**own, subject=np.repeat([205, 3, 7, 11], 60), age=20.0 + number, x=np.cos(number))
    return table.assign(Intercept=np.sin(number), lapse=np.cos(3 * number), **{"rt/s": np.sqrt(number)})


def small(rhs, table, **options):
    return hs.HierarchicalModel({"v": rhs, **FIXED}, table, likelihood="exact", **options)


def through_a_file(posterior, path):
    posterior.to_netcdf(str(path))
    return az.from_netcdf(str(path))


COLLIDING = {
    "I(age/10) + Intercept + `rt/s` + lapse + trial": ["v_I(age \u2215 10)", "v_Intercept_", "v_rt\u2215s", "v_lapse"],
    "x + (1|chain) + (1|v_x)": ["v_x", "v_1|chain", "v_1|v_x"],
    "1 + (1|trial) + (1|draw)": ["v_1|trial", "v_1|draw_sigma"],
    "1 + (1|sample) + (1|cell) + (1|trials) + (1|posterior)": ["v_1|sample", "v_1|cell", "v_1|trials"],
}


@pytest.mark.parametrize("rhs", COLLIDING)
def test_any_column_name_works_and_is_saved_under_the_same_names(trials, tmp_path, rhs):
    model = small(rhs, trials)
    posterior = model.with_log_likelihood(fit(model))
    again = through_a_file(posterior, tmp_path / "fit.nc")
    assert set(COLLIDING[rhs]) <= set(posterior["posterior"].data_vars)
    assert set(again.groups()) == {"posterior", "sample_stats", "observed_data", "constant_data", "log_likelihood"}
    for group in posterior.groups():
        assert again[group].equals(posterior[group]), group
    assert np.array_equal(model.theta(again), model.theta(posterior))
    assert posterior["constant_data"].sizes == {posterior["observed_data"]["rt"].dims[0]: 240}
    loaded = hs.load_model(tmp_path / "fit.nc")
    assert loaded.fingerprint == model.fingerprint
    pd.testing.assert_frame_equal(loaded.trials.frame, model.trials.frame)


def test_priors_are_given_under_the_name_that_was_written(trials):
    model = small("I(age/10)", trials, priors={"v_I(age/10)": dist.Normal(0.0, 7.0)})
    assert model.prior_table.loc["v_I(age \u2215 10)", "prior"] == "Normal(loc=0, scale=7)"


def test_names_that_meet_are_refused(trials):
    table = trials.assign(subject_sigma=trials["chain"])
    with pytest.raises(hs.InputError, match=r"would be called 'v_1\|subject_sigma'; rename a column"):
        small("(1|subject) + (1|subject_sigma)", table)


@pytest.fixture(scope="module")
def fitted(trials):
    model = small("x + (1|subject)", trials)
    return model, fit(model)


def test_labels_keep_their_type(fitted, tmp_path):
    _, posterior = fitted
    for known in (posterior, through_a_file(posterior, tmp_path / "fit.nc")):
        assert known["posterior"]["v_1|subject"].sel(subject=205).shape == (2, 4)
        assert known["posterior"]["subject"].dtype.kind == "i"


@pytest.mark.parametrize(
    "levels",
    [
        [0, 1, 2, 3],
        [3, 9, 1, 2],
        [0.5, 1.5, 2.5, 3.5],
        ["b", "a", "d", "c"],
        list(pd.date_range("2026-01-01", periods=4)),
    ],
    ids=["integers", "in an order of their own", "fractions", "texts", "days"],
)
@pytest.mark.parametrize("formula", ["(1|group)", "group"])
def test_a_categorical_column_comes_back_whatever_its_levels_are(trials, tmp_path, levels, formula):
    """One level has no trials: it is forgotten, and the order of the others is not. A day comes back as a text."""
    group = pd.Categorical.from_codes(np.arange(240) % 3, categories=levels)
    model = small(formula, trials.assign(group=group))
    posterior = through_a_file(fit(model), tmp_path / "fit.nc")
    loaded = hs.load_model(tmp_path / "fit.nc")
    assert list(map(str, loaded.trials.levels["group"])) == list(map(str, levels[:3]))
    assert np.array_equal(loaded.theta(posterior), model.theta(posterior))


def test_a_table_of_some_subjects_gets_their_draws(fitted, trials):
    """Not those of the subjects that have the same positions."""
    model, posterior = fitted
    rows = trials["subject"].isin([7, 205])
    some = small("x + (1|subject)", trials[rows])
    assert np.array_equal(some.theta(posterior)[:, some.cell], model.theta(posterior)[:, model.cell][:, rows])
    assert some.matched(posterior)["subject"].values.tolist() == [7, 205]
    assert group_levels(some, posterior, "v", "subject").groups == (7, 205)
    assert predictive_draws(some, posterior, 2).values.shape == (2, 120, 2)


def with_reference(table, levels):
    return table.assign(side=pd.Categorical(np.where(table["trial"] > 2, "left", "right"), categories=levels))


MISFITS = {
    "another subject": (
        lambda t: (small("x + (1|subject)", t), small("x + (1|subject)", t.assign(subject=t["subject"] + 1))),
        "it has 3, 7, 11, 205, and this model needs 4",
    ),
    "another formula": (lambda t: (small("x", t), small("1", t)), "its formula of 'v' is 'x', that of this model '1'"),
    "a fixed parameter": (
        lambda t: (small("x", t), hs.HierarchicalModel({**FIXED, "v": "x", "a": 1.1}, t, likelihood="exact")),
        "its formula of 'a' is 1.0, that of this model 1.1",
    ),
    "another model": (
        lambda t: (small("x", t), hs.HierarchicalModel("v ~ x", t, "angle")), "of the model 'ddm', not of 'angle'",
    ),
    "another reference level": (
        lambda t: (small("side", with_reference(t, ["left", "right"])),
                   small("side", with_reference(t, ["right", "left"]))),
        "column 'side' is coded otherwise .*its levels are 'left', 'right' there and 'right', 'left' here",
    ),
    "another level in C()": (
        lambda t: (small("C(trial)", t), small("C(trial)", t[t["trial"] > 0])), "column 'trial' is coded otherwise",
    ),
    "another scale": (
        lambda t: (small("scale(x)", t), small("scale(x)", t[:200])), "a formula has a function of all its values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_belong_together_is_refused_in_one_sentence(trials, name):
    """The posterior is built from sites at zero: only its names and labels matter."""
    make, message = MISFITS[name]
    model, other = make(trials)
    posterior = drawn_at_start(model)
    for ask in (other.theta, other.with_log_likelihood, lambda p: hs.report.summary(other, p)):
        with pytest.raises(hs.InputError, match=message) as refusal:
            ask(posterior)
        assert "\n" not in str(refusal.value)


def drawn_at_start(model):
    """A posterior of two chains of four draws, all at one point, without sampling."""
    posterior = fit(hs.HierarchicalModel({"v": "1", **FIXED}, model.trials.frame.assign(rt=0.5), likelihood="exact"))
    attrs = posterior["posterior"].attrs | {
        "formulas": json.dumps(model.facts["formulas"]), "levels": json.dumps(model.facts["levels"]),
        "columns": json.dumps(model.facts["columns"]),
    }  # fmt: skip
    import pyro

    with pyro.validation_enabled(False):
        trace = pyro.poutine.trace(model._uncentred).get_trace()
    sites = {n: s["value"].expand(2, 4, *s["value"].shape) for n, s in trace.nodes.items() if s["type"] == "sample"}
    return PosteriorWriter(model._uncentred, model.trials).write(sites, {}, attrs)


def test_what_is_no_posterior_is_refused(fitted):
    for wrong in (None, 3, {"v": 1}, "fit.nc"):
        with pytest.raises(hs.InputError, match=r"posterior must be what model\.fit returned"):
            fitted[0].theta(wrong)


def test_models_are_compared_by_their_log_likelihoods(fitted):
    model, posterior = fitted
    twice = model.with_log_likelihood(model.with_log_likelihood(posterior))
    assert twice.groups().count("log_likelihood") == 1
    with pytest.raises(hs.InputError, match="the posterior of 'one' has no pointwise log likelihood; add it"):
        hs.compare_models({"one": posterior, "two": twice})
    with pytest.raises(hs.InputError, match="two posteriors or more"):
        hs.compare_models({"two": twice})


@pytest.fixture(scope="module")
def learned():
    """A likelihood of one's own, trained for a moment."""
    with few_steps():
        return hs.train_likelihood(cookies, n_simulations=2_000, seed=1, shape=hs.EstimatorShape(), progress=False)


def test_a_likelihood_of_ones_own_comes_from_its_path_or_beside_the_file_or_from_inside(learned, tmp_path):
    (tmp_path / "one").mkdir()
    learned.save(tmp_path / "one" / "cookies.safetensors")
    model = hs.HierarchicalModel("rate ~ 1", bake(), likelihood=tmp_path / "one" / "cookies.safetensors")
    posterior = fit(model)
    theta = model.theta(posterior)
    posterior.to_netcdf(str(tmp_path / "one" / "fit.nc"))
    assert np.array_equal(hs.load_model(tmp_path / "one" / "fit.nc").theta(posterior), theta)
    (tmp_path / "one").rename(tmp_path / "two")
    assert hs.load_model(tmp_path / "two" / "fit.nc").likelihood.sha256 == learned.sha256
    (tmp_path / "two" / "cookies.json").rename(tmp_path / "cookies.json")
    (tmp_path / "two" / "cookies.safetensors").rename(tmp_path / "cookies.safetensors")
    with pytest.raises(hs.InputError, match=r"which is not there; give its path, load_model\(fit, likelihood="):
        hs.load_model(tmp_path / "two" / "fit.nc")
    given = hs.load_model(tmp_path / "two" / "fit.nc", likelihood=tmp_path / "cookies.safetensors")
    assert np.array_equal(given.theta(posterior), theta)
    inside = hs.keep_likelihood(model, posterior)
    inside.to_netcdf(str(tmp_path / "inside.nc"))
    again = hs.load_model(tmp_path / "inside.nc")
    assert np.array_equal(again.theta(posterior), theta)
    assert again.likelihood.sha256 == learned.sha256


def test_a_likelihood_that_no_file_holds_is_given_again_and_must_be_the_same(learned):
    model = hs.HierarchicalModel("rate ~ 1", bake(), likelihood=learned)
    posterior = fit(model)
    with pytest.raises(hs.InputError, match=r"an object of your own .* give it, load_model\(fit, likelihood="):
        hs.load_model(posterior)
    assert hs.load_model(posterior, likelihood=learned).fingerprint == model.fingerprint
    with pytest.raises(hs.InputError, match="the model of this fit cannot be made again: its likelihood"):
        hs.load_model(posterior, likelihood=Poisson())
    with pytest.raises(hs.InputError, match="has no weights to keep"):
        hs.keep_likelihood(hs.HierarchicalModel("rate ~ 1", bake(), likelihood=Poisson()), posterior)


def edited(posterior, **attrs):
    other = posterior.copy()
    other["posterior"].attrs.update(attrs)
    return other


def test_an_edited_fit_is_refused_or_says_so(fitted, tmp_path):
    model, posterior = fitted
    for name, value in (
        ("lapse", 0.2),
        ("responses", "[1, -1]"),
        ("formulas", '{"v": "1"}'),
        ("seed", 8),
        ("model", "angle"),
    ):
        with pytest.raises(hs.InputError, match=r"was edited after it was written"):
            hs.load_model(edited(posterior, **{name: value}))
    for name in ("priors", "box"):
        attr = posterior["posterior"].attrs[name]
        with pytest.raises(hs.InputError, match=r"was edited after it was written"):
            hs.load_model(edited(posterior, **{name: attr.replace("0.0", "0.1", 1).replace("-", "", 1)}))
    table = posterior.copy()
    table["observed_data"]["rt"][3] += 0.01
    with pytest.raises(hs.InputError, match="was edited after it was written"):
        hs.load_model(table)
    draws = posterior.copy()
    draws["posterior"]["v_x"][0, 0] += 0.01
    for changed in (draws, posterior.sel(draw=slice(1, None))):
        with pytest.warns(hs.FitFileWarning, match="the draws in this fit are not those that the sampler wrote"):
            assert hs.load_model(changed).fingerprint == model.fingerprint


def test_a_file_of_another_version_is_refused_with_a_reason(fitted, tmp_path):
    _, posterior = fitted
    with pytest.raises(
        hs.InputError, match=r"written by a newer version of hddm_sbi \(.*; format 99, this version reads"
    ):
        hs.load_model(edited(posterior, format=99))
    older = edited(posterior)
    del older["posterior"].attrs["box"], older["posterior"].attrs["format"]
    with pytest.raises(hs.InputError, match=r"its attributes lack box, format\. It was written by an older version"):
        hs.load_model(older)
    with pytest.raises(hs.InputError, match="the attributes of the posterior cannot be read"):
        hs.load_model(edited(posterior, levels="[" * 100_000))
    for content in (b"", b"not a fit", (b"\x89HDF\r\n\x1a\n" + b"\0" * 200)):
        (tmp_path / "bad.nc").write_bytes(content)
        with pytest.raises(hs.InputError, match="cannot be read as a fit"):
            hs.load_model(tmp_path / "bad.nc")
    with pytest.raises(hs.InputError, match="there is no file"):
        hs.load_model(tmp_path / "none.nc")
    with pytest.raises(hs.InputError, match="got dict"):
        hs.load_model({"v": 1})


def test_a_file_that_cannot_be_written_leaves_the_old_one(fitted, tmp_path, monkeypatch):
    path = tmp_path / "fit.nc"
    path.write_text("older")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        inference_data.write(fitted[1], path)
    assert [file.name for file in tmp_path.iterdir()] == ["fit.nc"]
    assert path.read_text() == "older"


def broken(*_, **__):
    raise ArithmeticError("no such thing")


def test_an_interrupt_while_draws_are_named_loses_none(monkeypatch):
    from hddm_sbi.hierarchy.fits import posterior

    named, interrupts = posterior.variables, iter([KeyboardInterrupt()])

    def variables(*given):
        for interrupt in interrupts:
            raise interrupt
        return named(*given)

    data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=40, seed=1)
    model = hs.HierarchicalModel("v ~ 1", data, likelihood="exact")
    with pytest.warns(hs.ConvergenceWarning):
        expected = model.fit(draws=20, tune=50, chains=2, seed=1, progress=False)
    monkeypatch.setattr(posterior, "variables", variables)
    with pytest.warns(hs.ConvergenceWarning):
        kept = model.fit(draws=20, tune=50, chains=2, seed=1, progress=False)
    assert next(interrupts, None) is None
    np.testing.assert_array_equal(kept.posterior["v_Intercept"], expected.posterior["v_Intercept"])


FITS = "hddm_sbi.hierarchy.fits.posterior"
AFTER = {
    "naming": (f"{FITS}.variables", hs.FitFileWarning, "could not be named .*no such thing"),
    "checking": (
        f"{FITS}.edge_problems",
        hs.ConvergenceWarning,
        "could not be checked: no such",
    ),
    "log likelihood": (f"{FITS}.log_likelihood", hs.FitFileWarning, "without it"),
}


@pytest.mark.parametrize("part", AFTER)
def test_whatever_fails_after_sampling_the_draws_are_returned(fitted, monkeypatch, part):
    place, category, message = AFTER[part]
    monkeypatch.setattr(place, broken)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        posterior = fitted[0].fit(draws=4, tune=10, chains=2, seed=3, progress=False, log_likelihood=True)
    assert any(issubclass(w.category, category) for w in caught)
    assert any(pd.Series([str(w.message)]).str.contains(message)[0] for w in caught)
    known = posterior["posterior"]
    assert known.sizes["chain"] == 2
    assert known.sizes["draw"] == 4
    if part != "naming":
        assert known["v_x"].equals(fitted[1]["posterior"]["v_x"])


def test_where_a_warning_is_an_error_the_error_names_the_file_of_the_draws(fitted):
    with pytest.raises(hs.ConvergenceWarning) as raised:
        fitted[0].fit(draws=4, tune=10, chains=2, seed=3, progress=False)
    (note,) = raised.value.__notes__
    path = note.removeprefix("The draws are in ").removesuffix(".")
    assert az.from_netcdf(path).posterior.equals(fitted[1]["posterior"])
