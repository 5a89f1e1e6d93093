"""Formulas for outcomes other than rt and response: checks, cells, priors, fit, predictions, pictures, command line."""

import os
import subprocess
import sys
from pathlib import Path

import arviz as az
import matplotlib
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from click.testing import CliRunner
from factory import RATES, Poisson, bake, cookies, few_steps
from matplotlib import pyplot as plt

import hddm_sbi as hs
from hddm_sbi import EstimatorShape
from hddm_sbi.analysis.predictive import predictive_draws
from hddm_sbi.cli import main
from hddm_sbi.errors import InputError
from hddm_sbi.inference import inference_data
from hddm_sbi.inference.density import flatten
from hddm_sbi.presentation import plots, report

matplotlib.use("Agg")
# Short chains are asked for, and say so.
pytestmark = pytest.mark.filterwarnings("ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning")

SMALL = EstimatorShape(hidden=16, depth=1, components=4)
DATA = bake()
FORMULA = "rate ~ 1 + (1|location)"
#: mu ~ Gamma(2, 0.2), sigma ~ Exponential(1), rate ~ Gamma((mu / sigma)^2, mu / sigma^2): the model of the talk.
TALK = {"rate_Intercept": dist.Gamma(2.0, 0.2), "rate_1|location_sigma": dist.Exponential(1.0)}


def talk() -> Poisson:
    """The Poisson likelihood with the talk's population: rates of locations are Gamma distributed, without a link."""
    wide = hs.Prior("gamma", 10.0, 7.0)
    between = hs.Prior("halfnormal", 0.0, 1.0)
    prior = hs.ParameterPrior("identity", wide, hs.Prior("normal", 0.0, 2.0), between, "gamma")
    chosen = Poisson()
    chosen.simulator = hs.declare({"rate": hs.parameter("rate", 0.5, 20, prior=prior)}, {"chips": "count"})(
        lambda rate, rng: rng.poisson(rate)
    )
    return chosen


def test_no_rt_in_sight():
    model = hs.HierarchicalModel(FORMULA, DATA, likelihood=Poisson())
    assert repr(model) == "HierarchicalModel(cookies, exact likelihood, 125 trials in 5 cells: rate ~ 1 + (1|location))"
    assert model.lapse == 0.0
    assert model.prior_table["prior"].to_dict() == {
        "rate_Intercept": "Normal(loc=1.15, scale=0.922)",
        "rate_1|location_sigma": "HalfNormal(scale=0.461)",
    }
    assert model.prior_table["link"].tolist() == ["log", "log"]
    posterior = model.fit(draws=150, tune=150, chains=2, seed=1, progress=False, log_likelihood=True)
    assert posterior.posterior["rate_1|location"].dims == ("chain", "draw", "location")
    np.testing.assert_array_equal(posterior.observed_data["chips"], DATA["chips"])
    assert posterior.log_likelihood["chips"].shape == (2, 150, 125)
    theta = model.theta(posterior)
    rate = torch.as_tensor(theta[:, model.cell, 0])
    expected = dist.Poisson(rate).log_prob(torch.tensor(DATA["chips"].tolist()).double())
    np.testing.assert_allclose(posterior.log_likelihood["chips"].values.reshape(300, -1), expected, atol=1e-9)
    assert report.summary(model, posterior)["scale"]["rate_Intercept"] == "log"


def test_predictions_are_those_of_the_likelihood():
    """100 copies of the table: mean chips within 5 standard errors of the posterior's mean rate."""
    model = hs.HierarchicalModel("rate ~ 1", DATA, likelihood=Poisson())
    posterior = model.fit(draws=200, tune=200, chains=2, seed=1, progress=False)
    predicted = predictive_draws(model, posterior, n_draws=100, seed=2)
    assert predicted.values.shape == (100, 125, 1)
    draws = model.theta(posterior, np.linspace(0, 399, 100).astype(int))[:, 0, 0]
    assert abs(predicted.values.mean() - draws.mean()) < 5 * np.sqrt(draws.mean() / 12_500)
    np.testing.assert_array_equal(predicted.values, predictive_draws(model, posterior, 100, 2).values)


def test_pictures():
    model = hs.HierarchicalModel(FORMULA, DATA, likelihood=Poisson())
    posterior = model.fit(draws=30, tune=60, chains=2, seed=1, progress=False)
    axes = plots.plot_predictive(model, posterior, by="location", n_draws=20)
    assert len(axes) == 5
    assert axes[0].get_xlabel() == "chips"
    plots.plot_shrinkage(model, posterior, parameter="rate", group="location")
    plots.plot_recovery(model, posterior, {"rate_Intercept": 2.1})
    with pytest.raises(
        InputError, match=r"by='chips' is not a predictor of this model; expected one of \['location'\]"
    ):
        plots.plot_predictive(model, posterior, by="chips")
    plt.close("all")


@hs.declare(
    parameters={"drift_rate": (-1, 1), "w": (0.1, 0.9)},
    outcomes={"x": "real", "grams": "positive", "side": ("left", "right")},
    vectorised=True,
)
def parcels(drift_rate, w, rng):
    """One outcome of every kind but counts, and a parameter with an underscore."""
    right = rng.random(len(w)) < w
    return rng.normal(drift_rate), rng.lognormal(drift_rate), np.where(right, "right", "left")


@pytest.fixture(scope="module")
def learned_parcels():
    with few_steps():
        return hs.train_likelihood(parcels, n_simulations=4_000, seed=1, progress=False, shape=SMALL)


def parcel_table(n: int = 40) -> pd.DataFrame:
    made = parcels.simulate_outcomes(np.tile([0.3, 0.7], (n, 1)), seed=5).values
    table = pd.DataFrame({o.name: o.labels(made[:, k]) for k, o in enumerate(parcels.outcomes)})
    return table.assign(day=np.tile(["mon", "tue"], n // 2))


def test_several_kinds_at_once(learned_parcels):
    model = hs.HierarchicalModel("drift_rate ~ day", parcel_table(), likelihood=learned_parcels)
    assert model.prior_table.loc["w_Intercept", "link"] == "logit"
    assert model.prior_table.loc["drift_rate_day", "link"] == "identity"
    assert model.density.path == "compiled"
    posterior = model.fit(draws=30, tune=60, chains=2, seed=1, progress=False)
    assert set(posterior.observed_data["side"].values) == {"left", "right"}
    axes = plots.plot_predictive(model, posterior, by="day", n_draws=10)
    assert len(axes) == 6
    plots.plot_recovery(model, posterior, {"drift_rate_Intercept": 0.3, "w_Intercept": 0.8})
    plt.close("all")


def spoilt(table: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    table = table.astype({column: object})
    table.loc[4, column] = value
    return table


@pytest.mark.parametrize(
    ("column", "value", "mention"),
    [
        ("x", "high", r"column 'x' must be a finite number; got 'high' in row 4"),
        ("x", np.nan, r"column 'x' has missing values in row 4"),
        ("x", np.inf, r"column 'x' is infinite in row 4 \(0 = first\); expected finite numbers"),
        ("grams", 0.0, r"column 'grams' must be a positive, finite number; got 0.0 in row 4"),
        ("side", "up", r"column 'side' must be one of 'left', 'right'; got 'up' in row 4"),
    ],
)
def test_bad_outcomes_are_refused_by_row(learned_parcels, column, value, mention):
    with pytest.raises(InputError, match=mention):
        hs.HierarchicalModel("w ~ 1", spoilt(parcel_table(), column, value), likelihood=learned_parcels)


@pytest.mark.parametrize(
    ("formula", "data", "options", "mention"),
    [
        (FORMULA, spoilt(DATA, "chips", 2.5), {}, "column 'chips' must be a whole number, 0 or more; got 2.5 in row 4"),
        (FORMULA, spoilt(DATA, "chips", -1), {}, "got -1 in row 4"),
        (FORMULA, DATA.drop(columns="chips"), {}, "no column 'chips'"),
        (FORMULA, DATA.iloc[:0], {}, "the table is empty"),
        ("rate ~ chips", DATA, {}, "'chips' is what the model explains"),
        ("v ~ 1", DATA, {}, "v"),
        (FORMULA, DATA, {"lapse": 0.05}, "outcomes such as 'chips' know none"),
        (FORMULA, DATA, {"lapse": dist.Beta(1.0, 19.0)}, "outcomes such as 'chips' know none"),
        (FORMULA, DATA, {"simulator": "ddm"}, "of the model 'cookies', but simulator='ddm'"),
        (FORMULA, DATA, {"upper": 3}, "upper=3 is for models of rt and response; 'cookies' has the outcomes chips"),
        (FORMULA, DATA, {"rt": "chips"}, "rt='chips' is for models of rt and response"),
        ("rate = 90", DATA, {}, r"rate = 90 lies outside the likelihood's box \[0.5, 20\]"),
    ],
)
def test_bad_input_is_refused(formula, data, options, mention):
    with pytest.raises(InputError, match=mention):
        hs.HierarchicalModel(formula, data, likelihood=Poisson(), **options)


def test_counts_beyond_the_simulations_are_refused(learned_cookies):
    with pytest.raises(InputError, match=r"'chips' is 300 in row 4 .* but the likelihood was trained on counts up to"):
        hs.HierarchicalModel(FORMULA, spoilt(DATA, "chips", 300), likelihood=learned_cookies)


@pytest.fixture(scope="module")
def learned_cookies():
    return hs.train_likelihood(cookies, n_simulations=40_000, seed=1, progress=False, shape=SMALL)


def test_a_simulator_alone_is_refused_with_the_remedy():
    with pytest.raises(InputError, match=r"'cookies' is a simulator of your own.*hs\.train_likelihood\(simulator\)"):
        hs.HierarchicalModel(FORMULA, DATA, simulator=cookies)


def test_the_compiled_density_is_pyros(learned_cookies):
    model = hs.HierarchicalModel(FORMULA, DATA, likelihood=learned_cookies)
    assert model.density.path == "compiled"
    eager = flatten(model.pyro_model, model.density.constrain(model.density.start), path="eager")
    point = model.density.start + np.random.default_rng(1).normal(0, 0.1, model.density.size)
    for one, other in zip(model.density(point), eager(point), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


# ---- the talk's model, by formula and by hand


def by_hand() -> None:
    mu, sigma = pyro.sample("mu", dist.Gamma(2.0, 0.2)), pyro.sample("sigma", dist.Exponential(1.0))
    with pyro.plate("location", 5):
        rate = pyro.sample("rate", dist.Gamma((mu / sigma) ** 2, mu / sigma**2))
    index = torch.as_tensor(pd.Categorical(DATA["location"]).codes.astype(int))
    with pyro.plate("cookie", len(DATA)):
        pyro.sample("chips", dist.Poisson(rate[index]), obs=torch.tensor(DATA["chips"].tolist()).double())


def test_formula_and_hand_write_the_same_model():
    """The densities differ by a constant: at any point, the gradients of rates, mean and sd agree to rounding."""
    model = hs.HierarchicalModel(FORMULA, DATA, likelihood=talk(), priors=TALK)
    start = {"mu": torch.tensor(8.0), "sigma": torch.tensor(1.0), "rate": torch.full((5,), 8.0)}
    hand = flatten(by_hand, start)
    names = {"rate_Intercept": "mu", "rate_1|location_sigma": "sigma", "rate_1|location_level": "rate"}
    assert {names[name] for name in model.density.names} == set(hand.names)
    gap = []
    for seed in range(3):
        point = hand.start + 0.1 * np.random.default_rng(seed).normal(size=hand.size)
        sites = hand.unflatten(torch.as_tensor(point))
        same = np.concatenate([sites[names[name]].numpy().reshape(-1) for name in model.density.names])
        gap.append(model.density(same)[0] - hand(point)[0])
    # The box's soft edge moves a rate by less than 1e-6 here.
    np.testing.assert_allclose(gap, gap[0], atol=1e-4)


def posterior_moments(likelihood, pooling: str = "partial") -> np.ndarray:
    """Means and sds of every rate, and of mu and sigma, by quadrature; no draws.

    Given mu and sigma the locations are independent, so each rate is integrated on its own, on 400 rates. pooling:
    "partial", or rates with the prior Gamma(2, 0.2), one ("complete") or one per location ("none").
    """
    rate = torch.linspace(0.6, 19.5, 400, dtype=torch.float64)
    chips = torch.tensor(DATA["chips"].tolist()).double().unsqueeze(-1)
    table = torch.stack([likelihood.log_prob_rows(chips, r.expand(len(chips), 1)) for r in rate])
    rows = [torch.tensor((DATA["location"] == name).tolist()) for name in RATES]
    log_l = torch.stack([table[:, here].sum(1) for here in (rows if pooling != "complete" else [sum(rows) > 0])])
    if pooling != "partial":
        return np.concatenate(
            [moments(rate, (each + dist.Gamma(2.0, 0.2).log_prob(rate)).softmax(0)) for each in log_l]
        )
    mu, sigma = torch.meshgrid(
        torch.linspace(3, 16, 131).double(), torch.linspace(0.05, 8, 160).double(), indexing="ij"
    )
    population = dist.Gamma((mu / sigma) ** 2, mu / sigma**2).log_prob(rate.reshape(-1, 1, 1))
    each = population + log_l[:, :, None, None]
    prior = dist.Gamma(2.0, 0.2).log_prob(mu) + dist.Exponential(1.0).log_prob(sigma)
    joint = (prior + each.logsumexp(1).sum(0)).reshape(-1).softmax(0).reshape(mu.shape)
    rates = [moments(rate, (each[k].softmax(0) * joint).sum((1, 2))) for k in range(5)]
    return np.concatenate([*rates, moments(mu, joint), moments(sigma, joint)])


def moments(x: torch.Tensor, weight: torch.Tensor) -> np.ndarray:
    mean = (x * weight).sum()
    return np.array([[float(mean), float(((x - mean) ** 2 * weight).sum().sqrt())]])


def test_shrinkage_by_quadrature():
    """Locations are pulled to the common mean, that of five cookies most."""
    found = posterior_moments(Poisson())
    own = DATA.groupby("location")["chips"].mean().to_numpy()
    pulled = (own - found[:5, 0]) / (own - found[5, 0])
    assert ((pulled > 0) & (pulled < 1)).all()
    assert pulled[4] == pulled.max()


def test_nuts_agrees_with_quadrature():
    """2 x 1 000 draws: within 5 standard errors at an effective sample size of 300 (4e-6 false alarms)."""
    model = hs.HierarchicalModel(FORMULA, DATA, likelihood=talk(), priors=TALK)
    flat = inference_data.dataset(model.fit(draws=1_000, tune=400, chains=2, seed=1, progress=False)).stack(
        s=("chain", "draw")
    )
    rate = (flat["rate_Intercept"] + flat["rate_1|location"]).transpose("location", "s").to_numpy()
    draws = np.stack([*rate, flat["rate_Intercept"].to_numpy(), flat["rate_1|location_sigma"].to_numpy()])
    mean, sd = posterior_moments(Poisson()).T
    assert (np.abs(draws.mean(1) - mean) < 5 * sd / 300**0.5).all()


@pytest.mark.slow
def test_the_learned_factory_agrees_with_poisson():
    """Pooled, unpooled and hierarchical: means within 0.1 posterior sds, sds within 10 %; no Monte Carlo error."""
    agrees(hs.train_likelihood(cookies, n_simulations=2_000_000, seed=1, progress=False), within=0.1)


def test_a_factory_learned_from_few_simulations_agrees_less(learned_cookies):
    """A fiftieth of the simulations: 0.3 (0.03 to 0.18 at three seeds)."""
    agrees(learned_cookies, within=0.3)


def agrees(likelihood, within):
    for pooling in ("complete", "none", "partial"):
        exact, learned = (posterior_moments(one, pooling) for one in (Poisson(), likelihood))
        assert np.abs((learned[:, 0] - exact[:, 0]) / exact[:, 1]).max() < within
        assert np.abs(learned[:, 1] / exact[:, 1] - 1).max() < 0.1


# ---- the command line


MINE = '''
import hddm_sbi as hs

@hs.declare(parameters={"rate": (0.5, 20)}, outcomes={"chips": "count"}, vectorised=True)
def simulator(rate, rng):
    """Chips in a cookie."""
    return rng.poisson(rate)

not_one = 3
'''


def run(*arguments: object):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.usefixtures("few_steps")
def test_train_and_fit_on_the_command_line(tmp_path: Path):
    """As typed, in a folder of its own; the file that is fitted needs no code."""
    (tmp_path / "my_model.py").write_text(MINE)
    DATA.to_csv(tmp_path / "cookies.csv", index=False)
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        result = run("train", "my_model.py:simulator", "-n", "2500", "-o", "my_model.safetensors", "--threads", "2")
        assert result.exit_code == 0, result.output
        assert "Held-out log score" in result.output
        (tmp_path / "my_model.py").unlink()
        fit = ["fit", "cookies.csv", FORMULA, "--likelihood", "my_model.safetensors", "--draws", 40, "--tune", 80]
        result = run(*fit, "--chains", 2, "--quiet", "--seed", 1)
        assert result.exit_code == 0, result.output
        assert "rate_1|location_sigma" in result.output
        assert az.from_netcdf("fit.nc").posterior.attrs["model"] == "simulator"
        assert run("check", "my_model.safetensors").output.startswith(("Good", "Not good"))
    finally:
        os.chdir(here)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".sha256") == [
        "cookies.csv",
        "fit.nc",
        "my_model.json",
        "my_model.safetensors",
    ]


@pytest.mark.parametrize(
    ("text", "place", "mention"),
    [
        (None, "absent.py:simulator", "there is no file"),
        (MINE, "mine.py:simulatr", "did you mean 'simulator'"),
        (MINE, "mine.py:not_one", "has no simulator 'not_one'"),
        ("import nothing_like_this", "mine.py:simulator", "cannot be run (ModuleNotFoundError"),
        (MINE.replace("return rng.poisson(rate)", "return 'x'"), "mine.py:simulator", "one value of 'chips' for"),
    ],
)
def test_bad_files_are_refused_with_exit_code_2(tmp_path: Path, text, place, mention):
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    result = run("train", tmp_path / place, "-n", "1000", "-o", tmp_path / "out.safetensors")
    assert result.exit_code == 2, result.output
    assert mention in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out.safetensors").exists()


def test_naming_the_verbs_does_not_import_sbi():
    code = "import sys, hddm_sbi as hs; hs.train_likelihood; hs.declare; assert 'sbi' not in sys.modules"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
