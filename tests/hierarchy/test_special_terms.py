"""offset(), mo() and s() in models: their meaning, the compiled density, files, predictions, races, recovery."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.analysis.predictive import predictive_draws
from hddm_sbi.hierarchy.pilot.blocks import constant_coefficients
from hddm_sbi.hierarchy.terms.smooth import Wiggles

LEVELS = ["none", "some", "much", "all"]
STEPS = np.array([0.0, 0.9, 1.0, 1.1])
N = 1_200


def curve(x):
    return 0.8 * np.sin(2.0 * x)


@pytest.fixture(scope="module")
def data():
    """A drift with a curve, a monotonic factor and a known part."""
    rng = np.random.default_rng(1)
    x, level, known = rng.uniform(-2.0, 2.0, N), rng.integers(0, 4, N), rng.normal(0.0, 0.5, N)
    v = 1.0 + curve(x) + STEPS[level] + known
    table = hs.simulate("ddm", {"v": v, "a": 1.0, "z": 0.5, "t0": 0.3}, seed=2)
    grade = pd.Categorical(np.array(LEVELS)[level], LEVELS, ordered=True)
    return table.assign(x=x, grade=grade, known=known, load=level, subject=np.arange(N) % 6, v=v)


FORMULAS = ["v ~ s(x) + mo(grade) + offset(known)", "z = 0.5"]


def model_of(data, formulas=FORMULAS, **options):
    return hs.HierarchicalModel(formulas, data, **{"likelihood": "exact", "lapse": 0.0, **options})


@pytest.fixture(scope="module")
def fitted(data):
    model = model_of(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)  # of the sd of the wiggles 400 effective draws at least
        return model, model.fit(draws=1000, tune=500, chains=2, seed=1, progress=False)


def test_the_density_is_compiled_and_names_are_as_documented(fitted):
    model, posterior = fitted
    assert model.density.path == "compiled"
    names = {"v_Intercept", "v_s(x)", "v_s(x)_sigma", "v_s(x)_wiggles", "v_mo(grade)", "v_mo(grade)_simplex"}
    draws = posterior["posterior"]
    assert {str(name) for name in draws if str(name).startswith("v")} == names
    assert draws["v_mo(grade)_simplex_dim"].values.tolist() == LEVELS[1:]
    assert np.allclose(draws["v_mo(grade)_simplex"].sum("v_mo(grade)_simplex_dim"), 1.0)
    table = model.prior_table["prior"]
    assert table["v_mo(grade)_simplex"] == "Dirichlet(concentration=1)"
    assert table["v_s(x)_sigma"] == "HalfNormal(scale=1)"


def test_the_linear_predictor_is_its_definition(fitted, data):
    """The drift of every draw and trial, from the posterior's variables by hand."""
    model, posterior = fitted
    draws = posterior["posterior"].stack(sample=("chain", "draw"))
    term = next(c for c in model.hierarchy.predictors[0].common if c.name == "v_s(x)_wiggles")
    zeta = draws["v_mo(grade)_simplex"].transpose("sample", ...).to_numpy()
    total = np.concatenate([np.zeros((len(zeta), 1)), np.cumsum(zeta, 1)], 1)
    standard = (data["x"] - data["x"].mean()) / data["x"].std(ddof=0)
    v = draws["v_Intercept"].to_numpy()[:, None] + draws["v_s(x)"].to_numpy()[:, None] * standard.to_numpy()
    v = v + (draws["v_s(x)_wiggles"].transpose("sample", ...).to_numpy() @ term.matrix.numpy().T)[:, model.cell]
    v = v + 3 * draws["v_mo(grade)"].to_numpy()[:, None] * total[:, data["load"]] + data["known"].to_numpy()
    assert np.allclose(model.theta(posterior)[:, model.cell, 0], v, rtol=0, atol=1e-9)


def test_what_was_simulated_comes_back(fitted, data):
    """Each within 5 posterior sds; the drift's curve within 95 % intervals on 80 to 100 % of the trials."""
    model, posterior = fitted
    draws = posterior["posterior"]
    total = 3 * draws["v_mo(grade)"]
    steps = draws["v_mo(grade)_simplex"] * total
    for found, truth in [(total, 1.1), *((steps[..., i], d) for i, d in enumerate(np.diff(STEPS)))]:
        assert abs(float(found.mean()) - truth) < 5 * float(found.std())
    v = model.theta(posterior)[:, model.cell, 0]
    low, high = np.quantile(v, [0.025, 0.975], axis=0)
    assert ((low < data["v"]) & (data["v"] < high)).mean() > 0.8
    assert np.sqrt(((v.mean(0) - data["v"]) ** 2).mean()) < 0.25


def test_the_fit_is_kept_and_predicts(fitted, data, tmp_path):
    model, posterior = fitted
    posterior.to_netcdf(str(tmp_path / "fit.nc"))
    loaded = hs.load_model(tmp_path / "fit.nc")
    assert loaded.fingerprint == model.fingerprint
    assert loaded.prior_records == model.prior_records
    assert np.array_equal(loaded.theta(posterior), model.theta(posterior))
    assert predictive_draws(loaded, posterior, 3, seed=1).values.shape == (3, N, 2)
    pd.testing.assert_frame_equal(loaded.trials.frame, model.trials.frame)


def test_a_table_of_other_covariates_or_levels_is_refused(fitted, data):
    _, posterior = fitted
    with pytest.raises(hs.InputError, match=r"column 'x' is coded otherwise .* a function of all its values"):
        model_of(data.assign(x=data["x"] + 1.0)).matched(posterior)
    fewer = pd.Categorical(data["grade"].astype(str).replace("all", "much"), LEVELS, ordered=True)
    with pytest.raises(hs.InputError, match="column 'grade' is coded otherwise"):
        model_of(data.assign(grade=fewer)).matched(posterior)


def test_a_monotonic_effect_of_equal_steps_is_a_slope(data):
    """And one step is a plain coefficient."""
    predictor = model_of(data, "v ~ mo(load)").hierarchy.predictors[0]
    slope = {"v_Intercept": torch.tensor([0.2]).double(), "v_mo(load)": torch.tensor([0.4]).double()}
    even = {**slope, "v_mo(load)_simplex": torch.full((1, 3), 1 / 3, dtype=torch.float64)}
    assert torch.allclose(predictor.linear(slope, []), predictor.linear(even, []), rtol=0, atol=1e-12)
    two = model_of(data.assign(load=data["load"] // 2), "v ~ mo(load)").hierarchy.predictors[0]
    assert [type(c).__name__ for c in two.common] == ["Coefficients", "Coefficients"]


def test_an_offset_is_a_shift_of_the_linear_predictor(data):
    """Of a log link: the parameter is multiplied; the pilot's level takes it into account."""
    known = np.log(np.where(data["load"] > 1, 1.5, 0.75))
    table = data.assign(known=known)
    predictor = model_of(table, ["a ~ offset(known) + (1|subject)", "v ~ 1"]).hierarchy.predictors[1]
    zero = torch.zeros(6, dtype=torch.float64)
    a = predictor.reported_value({"a_Intercept": torch.tensor(0.1).double(), "a_1|subject": zero})
    assert np.allclose(np.unique(a.numpy().round(12)), np.exp(0.1) * np.array([0.75, 1.5]), rtol=1e-9)
    level = constant_coefficients(predictor, torch.tensor(0.5).double())["a_Intercept"]
    assert float(level) == pytest.approx(0.5 - float(predictor.offset.mean()), abs=1e-12)


def test_with_an_offset_of_zero_nothing_changes(data):
    zero = data.assign(zero=0.0)
    formulas = ["v ~ x + {} (1|subject)", "a ~ 1", "z = 0.5"]
    with_it, without = (model_of(zero, [formulas[0].format(o), *formulas[1:]]) for o in ("offset(zero) +", ""))
    assert np.array_equal(with_it.density.start, without.density.start)
    assert with_it.density(with_it.density.start)[0] == without.density(without.density.start)[0]


def test_gradients_agree_with_finite_differences(data):
    density = model_of(data.head(300), [*FORMULAS[:1], "a ~ s(x, k=4) + (1|subject)", *FORMULAS[1:]]).density
    rng = np.random.default_rng(3)
    at = density.start + 0.1 * rng.normal(size=density.size)
    gradient, step = density(at)[1], 1e-5
    for i in range(density.size):
        e = np.zeros(density.size)
        e[i] = step
        slope = (density(at + e)[0] - density(at - e)[0]) / (2 * step)
        assert gradient[i] == pytest.approx(slope, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("call", ["cr(x, df=3)", "cc(x, period=4.0, df=3)", "tp(x, df=3)", "bs(x, df=4)", "poly(x, 2)"])
def test_splines_of_formulae_fit_in_common_and_group_terms_and_are_kept(data, tmp_path, call):
    table = data.groupby("subject").head(40).reset_index(drop=True)
    model = model_of(table, [f"v ~ {call} + (0 + {call}||subject)", "a ~ 1", "z = 0.5"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)  # four draws, for the shape
        posterior = model.fit(draws=4, tune=10, chains=1, seed=1, progress=False)
    posterior.to_netcdf(str(tmp_path / "fit.nc"))
    loaded = hs.load_model(tmp_path / "fit.nc")
    assert np.array_equal(loaded.theta(posterior), model.theta(posterior))


def test_races_by_accumulator(tmp_path):
    """The same columns for all accumulators, and an offset of one of them."""
    rng = np.random.default_rng(4)
    choices = ["left", "right"]
    stimulus, x = rng.choice(choices, 200), rng.uniform(0.0, 1.0, 200)
    trials = hs.simulate("lba", {"v": 2.0, "A": 0.5, "B": 0.7, "t0": 0.2}, 200, seed=1, choices=choices)
    trials = trials.assign(S=stimulus, x=x, load=rng.integers(0, 3, 200))
    model = hs.HierarchicalModel(
        ["v ~ match + s(x, k=4) + mo(load) + offset(x * match)", "A = 0.5", "t0 = 0.2"],
        trials, "lba", "exact", choices=choices, stimulus="S",
    )  # fmt: skip
    v = model.hierarchy.predictors[0]
    assert v.together == (("v0",), ("v1",))
    by = v.by_parameter(v.offset)
    for i, name in enumerate(("v0", "v1")):
        assert np.allclose(by[name].numpy()[model.cell], x * (stimulus == choices[i]))
    assert model.density.path == "compiled"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)  # four draws, for the shape
        posterior = model.fit(draws=4, tune=10, chains=1, seed=1, progress=False)
    posterior.to_netcdf(str(tmp_path / "fit.nc"))
    assert np.array_equal(hs.load_model(tmp_path / "fit.nc").theta(posterior), model.theta(posterior))


def test_priors_of_smooths_and_simplexes(data):
    priors = {"sigma": dist.HalfNormal(0.25), "v_simplex": dist.Dirichlet(torch.tensor([2.0, 1.0, 1.0]))}
    table = model_of(data, priors=priors).prior_table["prior"]
    assert table["v_s(x)_sigma"] == "HalfNormal(scale=0.25)"
    assert table["v_mo(grade)_simplex"] == "Dirichlet(concentration=[2, 1, 1])"
    named = model_of(
        data, priors={"v_mo(grade)_simplex": dist.Dirichlet(torch.full((3,), 2.0)), "v_b": dist.Normal(0, 1)}
    )
    assert named.prior_table["prior"]["v_mo(grade)_simplex"] == "Dirichlet(concentration=2)"
    assert named.prior_table["prior"]["v_mo(grade)"] == "Normal(loc=0, scale=1)"
    for prior in (dist.Dirichlet(torch.ones(4)), dist.Normal(0.0, 1.0), 3):
        with pytest.raises(
            hs.InputError, match=r"shared among 3 steps, pyro.distributions.Dirichlet\(torch.ones\(3\)\)"
        ):
            model_of(data, priors={"simplex": prior})


def test_an_offset_alone_has_nothing_to_estimate(data):
    with pytest.raises(
        hs.InputError, match=r"nothing to estimate beside its offset; add a term, v ~ 1 \+ offset\(known"
    ):
        model_of(data, "v ~ 0 + offset(known)")


def test_wiggles_sampled_as_themselves_have_the_same_law(data):
    """The density of u and sigma, with the volume of the map from what is sampled."""
    model = model_of(data.head(200), {"v": "s(x, k=5)", "a": "1", "z": 0.5, "t0": 0.3})
    _, _, wiggles = model._uncentred.predictors[0].common
    sigma, u = torch.tensor(0.3).double(), torch.tensor([0.2, -0.1, 0.4]).double()
    reference = dist.Normal(0.0, sigma).log_prob(u).sum() + wiggles.sigma_prior.log_prob(sigma)
    for centred in ((), (False, True, True), (True, True, True)):
        chosen = replace(wiggles, centred=centred)
        scale = chosen._scale({wiggles.sigma: sigma})
        site = u / scale
        trace = pyro.poutine.trace(
            pyro.poutine.condition(lambda chosen=chosen: chosen.sample({}), {wiggles.sigma: sigma, wiggles.site: site})
        ).get_trace()
        assert torch.allclose(trace.log_prob_sum() - scale.log().sum(), reference)
        assert torch.allclose(chosen.columns({wiggles.sigma: sigma, wiggles.site: site}), u)


def test_a_smooth_of_a_line_has_fewer_wiggles_than_one_of_a_curve(data):
    """Partial pooling: the sd of the wiggles goes to 0 where there are none."""
    rng = np.random.default_rng(5)
    x = rng.uniform(-2.0, 2.0, 600)
    found = {}
    for name, v in {"line": 1.0 + 0.5 * x, "curve": 1.0 + curve(x)}.items():
        table = hs.simulate("ddm", {"v": v, "a": 1.0, "z": 0.5, "t0": 0.3}, seed=6).assign(x=x)
        model = model_of(table, {"v": "s(x)", "a": "1", "z": 0.5, "t0": 0.3})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", hs.ConvergenceWarning)  # an sd that may be 0 has fewer effective draws
            posterior = model.fit(draws=400, tune=400, chains=2, seed=1, progress=False)["posterior"]
        (wiggles,) = (c for c in model.hierarchy.predictors[0].common if isinstance(c, Wiggles))
        assert any(wiggles.centred) == (name == "curve")
        found[name] = float(posterior["v_s(x)_sigma"].median())
    assert found["line"] < 0.5 * found["curve"]


def test_another_table_has_its_own_offset(data):
    """The posterior of one table serves another whose known part differs; the drift differs by just that."""
    model, other = (model_of(table, "v ~ offset(known)") for table in (data, data.assign(known=data["known"] + 0.25)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)  # four draws, for the shape
        posterior = model.fit(draws=4, tune=10, chains=1, seed=1, progress=False)
    apart = other.theta(posterior)[:, other.cell, 0] - model.theta(posterior)[:, model.cell, 0]
    assert np.allclose(apart, 0.25, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", [pytest.param("svi", marks=pytest.mark.slow), "laplace", "pyro-nuts"])
def test_other_samplers_know_them(data, method):
    model = model_of(data.head(100), ["v ~ s(x, k=4) + mo(grade) + offset(known)", "a = 1", "z = 0.5", "t0 = 0.3"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few draws, and approximations that warn of themselves
        posterior = model.fit(draws=20, tune=20, chains=1, seed=1, method=method, progress=False)
    simplex = posterior["posterior"]["v_mo(grade)_simplex"]
    assert np.allclose(simplex.sum("v_mo(grade)_simplex_dim"), 1.0)
    assert np.isfinite(model.theta(posterior)).all()


@pytest.mark.slow
def test_posteriors_have_the_ranks_that_they_should_have(data):
    """SBC: 60 tables of 200 trials; the verdict's own false-alarm rate."""
    model = model_of(
        data.head(200),
        ["v ~ s(x, k=5) + mo(load) + offset(known)", "a ~ 1", "z = 0.5", "t0 = 0.3"],
        priors={"sigma": dist.HalfNormal(0.7), "v_Intercept": dist.Normal(0.0, 1.0)},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an sd that may be 0 has fewer effective draws
        tables = hs.run_sbc(model, 60, progress=False)
    assert hs.report.sbc_verdict(tables).startswith("Good")
