"""Certificates in both directions: planted errors are found and corrected, honest networks pass; and refusals."""

import warnings

import arviz as az
import numpy as np
import pandas as pd
import pytest
import torch
from factory import Poisson, bake

import hddm_sbi as hs
from benchmarks.certificate import Planted
from hddm_sbi.analysis import certificate as module
from hddm_sbi.analysis.certificate import seconds
from hddm_sbi.analysis.importance import Weights
from hddm_sbi.likelihoods import quadrature, tilted_by
from hddm_sbi.training import further

THETA = {"v": 1.2, "a": 1.0, "z": 0.5, "t0": 0.3}
FLAT = ["v ~ 1", "z = 0.5"]
FIT = {"chains": 2, "seed": 1, "progress": False}


def flat(n=400):
    return hs.simulate("ddm", THETA, n, seed=1)


def nested(n_subjects=4, n_trials=40):
    return hs.simulate_experiment(n_subjects=n_subjects, n_trials=n_trials, seed=1)


def fitted(formulas, trials, likelihood, draws=1_000, **options):
    model = hs.HierarchicalModel(formulas, trials, likelihood=likelihood, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        return model, model.fit(draws=draws, tune=500, **FIT)


def apart(certificate, posterior, exact):
    """How far corrected means are from those of the exact fit, in standard errors of the difference, by quantity."""
    errors = {}
    for name, row in certificate.shifts.iterrows():
        stem, _, label = name.partition("[")
        columns = [fit["posterior"][stem] for fit in (posterior, exact)]
        columns = [x.sel({f"{stem}_dim": label[:-1]}) if label else x for x in columns]
        # Two means of draws, and that by which weights change one of them.
        variance = row["error"] ** 2 + sum(1 / float(az.ess(x.to_numpy(), method="mean")) for x in columns)
        errors[name] = (row["corrected_mean"] - float(columns[1].mean())) / row["sd"] / variance**0.5
    return pd.Series(errors)


@pytest.fixture(scope="module")
def exact_flat():
    return fitted(FLAT, flat(), "exact")[1]


@pytest.mark.parametrize(("parameter", "factor"), [("v", 1.02), ("v", 1.05), ("a", 1.02), ("t0", 0.98)])
def test_planted_errors_are_found_and_corrected(exact_flat, parameter, factor):
    """Every corrected mean is that of the exact fit within 5 standard errors: 2e-6 false alarms of the four."""
    model, posterior = fitted(FLAT, flat(), Planted(parameter, factor))
    certificate = hs.certify(model, posterior)
    shift = certificate.shifts.loc[f"{parameter}_Intercept", "shift"]
    # All else equal, the parameter comes out divided by the factor; shifts are corrected minus fitted.
    assert np.sign(shift) == np.sign(factor - 1.0)
    assert abs(shift) > 0.1 + 3 * certificate.shifts.loc[f"{parameter}_Intercept", "error"]
    assert not certificate.passed
    assert f"{parameter}_Intercept lies {abs(shift):.2f} posterior sds too" in certificate.verdict
    assert apart(certificate, posterior, exact_flat).abs().max() < 5
    corrected = certificate.corrected["posterior"]
    means = [float(corrected[name].mean()) for name in certificate.shifts.index]
    # Every draw stands there as often as it weighs, rounded: a mean of 1 000 is off by less than an sd / 20.
    np.testing.assert_allclose(means, certificate.shifts["corrected_mean"], atol=certificate.shifts["sd"].max() / 20)


def test_planted_errors_in_a_hierarchy():
    """Drifts off by 3 %, Pareto k .2 to .3. Off by 5 % it was .38 on one machine and .73 on another: at the limit."""
    experiment = nested()
    _, exact = fitted(experiment.formulas, experiment.trials, "exact")
    model, posterior = fitted(experiment.formulas, experiment.trials, Planted("v", 1.03))
    certificate = hs.certify(model, posterior, draws=2_000)
    assert certificate.corrected is not None
    assert certificate.shifts.loc["v_Intercept", "shift"] > 0.1
    assert not certificate.passed
    assert apart(certificate, posterior, exact).abs().max() < 5


def assert_beyond_weights(certificate):
    assert certificate.pareto_k > 0.7
    assert certificate.corrected is None
    assert not certificate.passed
    assert "too far from the closed form" in certificate.verdict
    assert "fit with likelihood='exact'" in certificate.verdict
    assert certificate.shifts["corrected_sd"].isna().all()


@pytest.mark.slow
def test_an_error_that_is_too_large_to_correct_is_found_to_first_order():
    """Drifts of ten subjects off by a tenth: the exact fit is 2 sds away, and weights cannot reach it."""
    experiment = nested(10, 80)
    _, exact = fitted(experiment.formulas, experiment.trials, "exact")
    model, posterior = fitted(experiment.formulas, experiment.trials, Planted("v", 1.1))
    certificate = hs.certify(model, posterior, draws=2_000)
    assert_beyond_weights(certificate)
    row = certificate.shifts.loc["v_Intercept"]
    true = (float(exact["posterior"]["v_Intercept"].mean()) - row["mean"]) / row["sd"]
    assert true > 0.5
    assert row["shift"] == pytest.approx(true, rel=0.5)


def test_a_likelihood_without_error_passes():
    model, posterior = fitted(FLAT, flat(), Planted())
    certificate = hs.certify(model, posterior)
    assert certificate.passed
    assert certificate.effective_draws == pytest.approx(certificate.n_draws)
    assert (certificate.shifts["shift"].abs() < 1e-9).all()


@pytest.mark.parametrize("name", ["ddm", "lba"])
def test_shipped_networks_pass(name):
    theta = THETA if name == "ddm" else {"v0": 2.0, "v1": 1.0, "sv": 1.0, "A": 0.5, "B": 0.7, "t0": 0.2}
    formulas = FLAT if name == "ddm" else ["v0 ~ 1"]
    model, posterior = fitted(formulas, hs.simulate(name, theta, 300, seed=1), "neural", 500, simulator=name)
    certificate = hs.certify(model, posterior)
    assert certificate.reference == "exact"
    assert certificate.passed, certificate.verdict
    assert certificate.verdict.startswith("Good: the learned likelihood has moved no quantity")


def test_an_equation_is_the_reference_where_there_is_no_closed_form():
    """The learned likelihood passes; with drifts off by 5 % it does not, and is corrected to what it was before."""
    theta = {"v": 1.5, "a": 1.3, "z": 0.5, "t0": 0.3, "alpha": 2.0, "beta": 1.5}
    trials = hs.simulate("weibull", theta, 400, seed=1)
    formulas = ["v ~ 1", "z = 0.5", "alpha = 2", "beta = 1.5"]
    model, posterior = fitted(formulas, trials, "neural", 500, simulator="weibull")
    certificate = hs.certify(model, posterior)
    assert (certificate.reference, certificate.n_draws) == ("numerical", 100)
    assert certificate.passed, certificate.verdict
    planted = Planted("v", 1.05, hs.load_likelihood("weibull"))
    model, biased = fitted(formulas, trials, planted, 500, simulator="weibull")
    found = hs.certify(model, biased)
    assert not found.passed
    assert found.shifts.loc["v_Intercept", "shift"] > 0.5
    assert apart(found, biased, posterior).abs().max() < 5


def test_the_time_that_is_foretold(monkeypatch):
    """By a clock that ticks once for every evaluation of the learned likelihood."""
    ticks = []

    class Ticking(Planted):
        def complete_by_cell(self, trials, theta, lapse):
            ticks.append(None)
            return super().complete_by_cell(trials, theta, lapse)

    model, posterior = fitted(FLAT, flat(50), Ticking(), 100)
    monkeypatch.setattr("hddm_sbi.analysis.certificate.time.perf_counter", lambda: float(len(ticks)))
    assert seconds(model, posterior, 150) == 150.0
    before = len(ticks)
    hs.certify(model, posterior, 150)
    assert len(ticks) - before == 150


CASES = {
    "lapses by formula": (["v ~ 1", "lapse ~ 1 + (1|subject)"], {}),
    "deadline": (["v ~ 1 + (1|subject)"], {"deadline": 1.0}),
    "learning": (["v ~ 1 + p"], {"sequences": {"p": hs.practice("subject")}}),
}


@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_by_hand(case):
    """Of the pointwise log likelihoods of both models at all draws: another route through both likelihoods."""
    formulas, options = CASES[case]
    trials = nested(3, 30).trials.assign(trial=np.arange(180) % 60)
    if "deadline" in options:
        late = trials["rt"] > 1.0
        trials = trials.assign(rt=trials["rt"].mask(late), response=trials["response"].mask(late))
    model, posterior = fitted(formulas, trials, Planted("v", 1.02), 60, **options)
    other = hs.HierarchicalModel(formulas, trials, likelihood="exact", **options)
    exact, planted = (
        m.with_log_likelihood(posterior)["log_likelihood"]["rt_response"].to_numpy().reshape(120, -1).sum(1)
        for m in (other, model)
    )
    weights = Weights.smoothed(exact - planted)
    assert weights.effective_draws < 119
    certificate = hs.certify(model, posterior)
    assert certificate.n_draws == 120
    assert certificate.effective_draws == pytest.approx(weights.effective_draws, rel=1e-6)
    assert certificate.pareto_k == pytest.approx(weights.pareto_k, abs=1e-6)
    x = posterior["posterior"]["v_Intercept"].to_numpy().reshape(-1)
    row = certificate.shifts.loc["v_Intercept"]
    np.testing.assert_allclose(
        row[["mean", "sd", "corrected_mean", "corrected_sd"]],
        [x.mean(), x.std(), weights.w @ x, (weights.w @ (x - weights.w @ x) ** 2) ** 0.5],
        rtol=1e-6,
    )


@pytest.fixture(scope="module")
def some():
    experiment = nested(3, 30)
    formulas = ["v ~ condition + (condition|subject)", "z = 0.5"]
    return formulas, experiment.trials, *fitted(formulas, experiment.trials, Planted("v", 1.02), 100)


def given(monkeypatch, log_ratio):
    """Certificates from these log ratios."""
    left = list(log_ratio)
    monkeypatch.setattr(module, "_log_ratios", lambda fit, others, at: np.array([left.pop(0) for _ in at]))


def test_draws_at_which_an_equation_cannot_be_solved_are_left_out(some, monkeypatch):
    model, posterior = some[2:]
    ratios = np.where(np.arange(200) % 3 == 0, np.nan, 0.0)
    given(monkeypatch, ratios)
    certificate = hs.certify(model, posterior)
    assert certificate.n_draws == 133
    assert "; 67 more could not be solved" in certificate.verdict
    x = posterior["posterior"]["v_Intercept"].to_numpy().reshape(-1)[~np.isnan(ratios)]
    assert certificate.shifts.loc["v_Intercept", "mean"] == pytest.approx(x.mean())
    given(monkeypatch, np.where(np.arange(200) < 151, np.nan, 0.0))
    with pytest.raises(hs.InputError, match="could be solved at 49 of 200 draws, and 50 are needed: give more"):
        hs.certify(model, posterior)


def test_weights_that_cannot_be_trusted_tell_shifts_to_first_order(some, monkeypatch):
    """Log ratios 4 z, whose lognormal weights 200 draws cannot reach: shifts are Cov(x, 4 z)."""
    model, posterior = some[2:]
    x = posterior["posterior"]["v_Intercept"].to_numpy().reshape(-1)
    ratios = 4.0 * (x - x.mean()) / x.std()
    given(monkeypatch, ratios)
    certificate = hs.certify(model, posterior)
    assert_beyond_weights(certificate)
    assert certificate.shifts.loc["v_Intercept", "shift"] == pytest.approx(4.0)
    a = posterior["posterior"]["a_Intercept"].to_numpy().reshape(-1)
    assert certificate.shifts.loc["a_Intercept", "shift"] == pytest.approx(4.0 * np.corrcoef(a, x)[0, 1])


def test_what_errors_leave_open_has_not_passed(monkeypatch):
    """One coefficient, moved by .08 sds by weights that are noise besides: 200 draws leave an error of .04."""
    model, posterior = fitted({"v": "1", "a": 1.0, "z": 0.5, "t0": 0.3}, flat(50), Planted(), 100)
    x = posterior["posterior"]["v_Intercept"].to_numpy().reshape(-1)
    z, noise = (x - x.mean()) / x.std(), np.random.default_rng(3).standard_normal(200)
    given(monkeypatch, 0.08 * z + 0.5 * (noise - z * (noise @ z) / (z @ z)))
    certificate = hs.certify(model, posterior)
    shift, error = certificate.shifts.loc["v_Intercept", ["shift", "error"]]
    assert 0.05 < shift < 0.1 < shift + 2 * error
    assert not certificate.passed
    assert certificate.verdict.startswith(
        f"Not known yet: it seems that v_Intercept lies {shift:.2f} posterior sds too"
    )
    assert certificate.verdict.endswith("Compare more draws, draws=800.")


def test_quantities_are_those_of_the_population(some):
    model, posterior = some[2:]
    shifts = hs.certify(model, posterior).shifts
    assert shifts.index.tolist() == [
        "v_Intercept", "v_condition[hard]", "a_Intercept", "t0_Intercept", "v_1|subject_sigma",
        "v_condition|subject_sigma[hard]", "lapse", "v_1+condition|subject_corr[condition[hard], 1]",
    ]  # fmt: skip


def test_the_corrected_posterior_goes_on(some):
    model, posterior = some[2:]
    corrected = hs.certify(model, posterior, draws=151).corrected
    assert dict(corrected["posterior"].sizes)["draw"] == 75
    assert {"observed_data", "constant_data"} <= set(corrected.groups())
    draws = {tuple(row) for row in posterior["posterior"]["v_1|subject"].to_numpy().reshape(-1, 3).tolist()}
    taken = {tuple(row) for row in corrected["posterior"]["v_1|subject"].to_numpy().reshape(-1, 3).tolist()}
    assert taken <= draws
    assert len(hs.predictions(model, corrected, by="condition", draws=10)) > 0
    again = [hs.certify(model, posterior, draws=151, seed=seed).corrected["posterior"] for seed in (1, 2)]
    assert [each.equals(corrected["posterior"]) for each in again] == [True, False]


def test_draws_of_an_approximation_are_named(some):
    model, posterior = some[2:]
    approximate = posterior["posterior"].assign_attrs(method="laplace")
    assert "(200 draws of method='laplace', an approximation not" in hs.certify(model, approximate).verdict


def test_what_cannot_be_certified(some):
    formulas, trials, model, posterior = some
    exact, own = fitted(formulas, trials, "exact", 100)
    with pytest.raises(hs.InputError, match="nothing to certify: the likelihood of this model is exact, in closed"):
        hs.certify(exact, own)
    with pytest.raises(hs.InputError, match="its likelihood is exact, and that of this model planted"):
        hs.certify(model, own)
    others = trials.assign(rt=trials["rt"] + 0.01)
    with pytest.raises(hs.InputError, match="not that of the trials of this model: column 'rt'"):
        hs.certify(hs.HierarchicalModel(formulas, others, likelihood=Planted()), posterior)
    with pytest.raises(hs.InputError, match=r"its lapse is Beta\(.*\), and that of this model 0\.0\."):
        hs.certify(hs.HierarchicalModel(formulas, trials, likelihood=Planted(), lapse=0), posterior)
    with pytest.raises(hs.InputError, match=r"its lapse seconds is 4\.97\d*, and that of this model 0\.0\."):
        hs.certify(hs.HierarchicalModel(formulas, trials, likelihood=Planted(), lapse_mean=1.5), posterior)
    with pytest.raises(hs.InputError, match="its formula of 'v'"):
        hs.certify(hs.HierarchicalModel(FLAT, trials, likelihood=Planted()), posterior)
    with pytest.raises(hs.InputError, match="posterior must be what model"):
        hs.certify(model, 3)
    for draws in (99, True, "many"):
        with pytest.raises(hs.InputError, match="draws must be a whole number of at least 100"):
            hs.certify(model, posterior, draws)
    for seed in (-1, "a", None):
        with pytest.raises(hs.InputError, match="seed must be a whole number of at least 0"):
            hs.certify(model, posterior, seed=seed)
    with pytest.raises(hs.InputError, match=r"n_simulations=5000 is for .*; this one is compared with the closed form"):
        hs.certify(model, posterior, n_simulations=5_000)
    few = posterior["posterior"].isel(draw=slice(40))
    with pytest.raises(hs.InputError, match="needs at least 100 draws; the posterior has 80"):
        hs.certify(model, few)
    with pytest.raises(hs.InputError, match="does not say what made it"):
        hs.certify(model, posterior["posterior"].assign_attrs({}).drop_attrs())


def test_a_box_has_no_reference():
    class Learned(Poisson):
        kind = "neural"

    model, posterior = fitted("rate ~ 1", bake(), Learned(), 100)
    neither = r"'cookies' has neither a closed form .* nor was it learned by hs.train_likelihood.* hs.run_sbc\(model\)"
    with pytest.raises(hs.InputError, match=neither):
        hs.certify(model, posterior)


@pytest.fixture
def only_simulated(monkeypatch):
    """As for models without a closed form and an equation."""
    monkeypatch.setattr(hs.HierarchicalModel, "reference", None)


@pytest.mark.parametrize(("parameter", "factor"), [("v", 1.05), pytest.param("t0", 0.98, marks=pytest.mark.slow)])
def test_planted_errors_are_found_by_simulation(exact_flat, only_simulated, parameter, factor):
    """As with the closed form; within 5 errors, of which those of the simulations are the largest (of 400 000, .15 to
    .19 by hand)."""
    model, posterior = fitted(FLAT, flat(), Planted(parameter, factor, hs.load_likelihood("ddm")), 500)
    certificate = hs.certify(model, posterior, 100, n_simulations=1_000_000)
    assert certificate.reference == "simulated"
    row = certificate.shifts.loc[f"{parameter}_Intercept"]
    assert np.sign(row["shift"]) == np.sign(factor - 1.0)
    assert 0.01 < row["error"] < 0.15
    assert abs(row["shift"]) > 3 * row["error"]
    assert not certificate.passed
    assert apart(certificate, posterior, exact_flat).abs().max() < 5


@pytest.mark.slow
def test_a_likelihood_without_error_passes_by_simulation(only_simulated):
    model, posterior = fitted(FLAT, flat(100), Planted(inner=hs.load_likelihood("ddm")), 500)
    certificate = hs.certify(model, posterior, 250, n_simulations=400_000)
    assert certificate.passed, certificate.verdict
    assert (certificate.shifts["shift"].abs() < 5 * certificate.shifts["error"]).all()
    assert "by what simulations around its draws say" in certificate.verdict


def leaky(n_trials):
    """A fit of lca, whose equation is no judge."""
    theta = {"v0": 3.0, "v1": 2.0, "a": 1.0, "z": 0.3, "t0": 0.2, "g": 0.5, "b": 0.5}
    held = [f"{name} = {theta[name]}" for name in ("z", "t0", "g", "b")]
    trials = hs.simulate("lca", theta, n_trials, seed=1)
    return fitted(["v0 ~ 1", *held], trials, "neural", 300, simulator="lca")


@pytest.mark.slow
def test_a_shipped_network_that_only_its_simulator_judges_passes():
    model, posterior = leaky(200)
    assert model.reference is None
    certificate = hs.certify(model, posterior, n_simulations=200_000)
    assert certificate.reference == "simulated"
    assert certificate.passed, certificate.verdict


def test_lca_passes_by_simulation():
    """A small table of it; the full test is slow."""
    model, posterior = leaky(20)
    certificate = hs.certify(model, posterior, 100, n_simulations=50_000)
    assert certificate.reference == "simulated"
    assert (certificate.shifts["shift"].abs() < 5 * certificate.shifts["error"]).all()
    assert certificate.passed, certificate.verdict
    assert "by what simulations around its draws say" in certificate.verdict


def test_simulations_of_a_seed_are_the_same():
    draws = np.array([[THETA[name] for name in ("v", "a", "z", "t0")]]) + 0.02 * np.random.default_rng(1).random(
        (100, 1, 4)
    )
    told = [further.retold(hs.load_likelihood("ddm"), draws, 5_000, seed, None)[0][0].ratio.times for seed in (1, 1, 2)]
    np.testing.assert_array_equal(told[0], told[1])
    assert not np.array_equal(told[0], told[2])


def test_the_ratio_is_that_of_two_densities():
    """Drifts off by 5 %: log p / q at 2 000 new trials. Noise of the m N_DEGREES coefficients of two choices, from
    400 000 simulations: sqrt(2 m N_DEGREES / 400 000) = .017, where the error is .05. The mass stays 1."""
    planted, exact = Planted("v", 1.05, hs.load_likelihood("ddm")), hs.load_likelihood("ddm", kind="exact")
    low, high = np.array([[0.9, 0.9, 0.5, 0.28], [1.5, 1.1, 0.5, 0.32]])
    theta = low + (high - low) * np.random.default_rng(1).random((400_000, 4))
    learned, _ = tilted_by(planted, exact.simulator.simulate_outcomes(theta, 1).values, theta)
    at = low + (high - low) * (0.2 + 0.6 * np.random.default_rng(2).random((2_000, 4)))
    values, at = torch.as_tensor(exact.simulator.simulate_outcomes(at, 2).values), torch.as_tensor(at)
    before, after = (each.log_prob_rows(values, at) - exact.log_prob_rows(values, at) for each in (planted, learned))
    assert float(before.std()) > 0.05
    assert float(after.std()) < 0.017
    middle = torch.tensor([[1.2, 1.0, 0.5, 0.3]]).double()
    start, choices = torch.zeros(1).double(), [torch.zeros(1).double(), torch.ones(1).double()]
    mass = quadrature.log_mass(learned, choices, start, torch.full_like(start, torch.inf), middle)
    assert float(mass[0].exp()) == pytest.approx(1.0, abs=1e-6)
