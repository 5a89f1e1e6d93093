"""Models with covariates that are computed along trials: the density, its gradient, the pilot fit, files, real data."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.hierarchy.along_trials import tangent

DATA = Path(__file__).parents[3] / "shared" / "data"
SUBJECTS, LONG = 4, 50
#: so few draws are for a look at names and shapes only.
few_draws = pytest.mark.filterwarnings("ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning")
FORMULAS = ["v ~ 1 + dq + (dq|subject)", "a ~ 1 + (1|subject)", "z = 0.5", "alpha ~ 1 + (1|subject)"]


def table(seed=1, choices=2):
    """Four subjects of 50 trials, rows in no order."""
    rng, n = np.random.default_rng(seed), SUBJECTS * LONG
    rows = pd.DataFrame(
        {
            "rt": rng.gamma(4.0, 0.15, n) + 0.35,
            "response": rng.integers(0, choices, n),
            "subject": np.arange(n) % SUBJECTS,
            "trial": np.arange(n) // SUBJECTS,
            "feedback": (rng.random(n) < 0.6).astype(float),
        }
    )
    rows["response"] = rows["response"] * 2 - 1 if choices == 2 else rows["response"]
    return rows.sample(frac=1.0, random_state=seed, ignore_index=True)


def delta(**said):
    return {"dq": hs.delta_rule("feedback", "response", "subject", **said)}


def values_by_hand(rows, alpha, n_choices=2):
    """Q of every choice before every trial, (n, choices), in numpy; alpha by subject."""
    found = np.empty((len(rows), n_choices))
    choice = np.where(rows["response"] < 0, 0, rows["response"]).astype(int)
    for subject, part in rows.assign(choice=choice).sort_values("trial").groupby("subject"):
        q = np.full(n_choices, 0.5)
        for row, trial in part.iterrows():
            found[row] = q
            k = int(trial["choice"])
            q[k] += alpha[subject] * (trial["feedback"] - q[k])
    return found


def test_the_density_is_that_of_the_covariate_by_hand():
    """The same model with the covariate as a column of the table, at the same parameters."""
    rows, rng = table(), np.random.default_rng(2)
    model = hs.HierarchicalModel(FORMULAS, rows, likelihood="exact", sequences=delta(), centered=False)
    eta = -0.5 + 0.7 * rng.normal(size=SUBJECTS)
    rows["dq"] = values_by_hand(rows, 1 / (1 + np.exp(-eta))) @ [-1.0, 1.0]
    plain = hs.HierarchicalModel(FORMULAS[:3], rows, likelihood="exact", centered=False)
    sites = {name: torch.tensor(np.asarray(rng.normal(size=x.shape) * 0.1 + 0.3)) for name, x in plain.start.items()}
    sites |= {g.own_correlation.site: g.own_correlation.start for g in plain.hierarchy.groups if g.own_correlation}
    own = {"alpha_Intercept": -0.5, "alpha_1|subject_sigma": 0.7, "alpha_1|subject_offset": (eta[:, None] + 0.5) / 0.7}
    values = {**sites, **{name: torch.as_tensor(x, dtype=torch.float64) for name, x in own.items()}}
    one, other = (m.hierarchy.theta(_reported(m, v)) for m, v in ((model, values), (plain, sites)))
    expected = other[plain.cell]
    np.testing.assert_allclose(one[model.cell], expected, rtol=1e-12)
    assert one.shape == (len(rows), 4)
    likelihoods = [
        float(m.likelihood.log_prob_by_cell(m.hierarchy.trials, theta, torch.tensor(0.05).double()).sum())
        for m, theta in ((model, one), (plain, other))
    ]
    assert likelihoods[0] == pytest.approx(likelihoods[1], rel=1e-12)


def _reported(model, sites):
    return {
        **{k: v for k, v in sites.items() if k in model.hierarchy.coefficient_names},
        **model.hierarchy.named(sites),
    }


CASES = {
    "delta rule": (FORMULAS, delta(), {}),
    "missing responses": (FORMULAS, delta(), {"deadline": 3.0}),
    "learned likelihood": (FORMULAS, delta(), {"likelihood": "neural"}),
    "condition by slope": (["v ~ half*dq", "alpha ~ 0 + half"], delta(), {}),
    "two rules, two parameters": (
        ["v ~ 0 + dq", "a ~ 1 + tired + dq"],
        {**delta(), "tired": hs.fatigue("subject")},
        {},
    ),
    "two rates": (["v ~ 0 + dq"], {"dq": hs.dual_rate_rule("feedback", "response", "subject")}, {}),
    "forgetting": (["v ~ 0 + dq"], {"dq": hs.forgetting_rule("feedback", "response", "subject")}, {}),
    "uncertainty": (
        ["a ~ 1 + u", "volatility ~ 1"],
        {"u": hs.kalman_rule("feedback", "response", "subject", gives="uncertainty")},
        {},
    ),
    "practice": (["v ~ 1 + p", "t0 ~ 1 + p"], {"p": hs.practice("subject", law="power")}, {}),
    "after errors": (["a ~ 1 + e", "decay ~ 1"], {"e": hs.post_error_slowing("response", "subject")}, {}),
    "habits": (["z ~ 1 + h + (h|subject)"], {"h": hs.sticky_choice("response", "subject")}, {}),
    "tag": (["v ~ 0 + dq + (0 + dq|p|subject)", "alpha ~ 1 + (1|p|subject)"], delta(), {}),
    "race": (["v ~ 1 + dq + (0 + dq|subject)", "alpha ~ 1 + (1|subject)"], delta(), {"simulator": "rdm"}),
    "race of three": (["v ~ 1 + dq", "B ~ 1"], delta(), {"simulator": "race3", "likelihood": "neural"}),
    "one accumulator": (["v0 ~ 1 + dq", "v1 ~ 1"], delta(), {"simulator": "lba"}),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_by_differences(case):
    """Compiled; in a random direction, at the start and away from it."""
    formulas, sequences, said = CASES[case]
    three = said.get("simulator") == "race3"
    rows = table(choices=3 if three else 2).assign(half=lambda t: np.where(t["trial"] < 25, "first", "second"))
    if said.get("simulator") in ("rdm", "lba"):
        rows["response"] = (rows["response"] == 1).astype(int)
    if "deadline" in said:
        rows = rows.astype({"response": float})
        rows.loc[::9, ["rt", "response"]] = np.nan
    formulas = [f for f in formulas if not (three and f.startswith("B"))]
    model = hs.HierarchicalModel(formulas, rows, **{"likelihood": "exact", **said}, sequences=sequences)
    assert model.density.path == "compiled"
    rng = np.random.default_rng(3)
    along = rng.normal(size=model.density.size)
    for x in (model.density.start, model.density.start + 0.1 * rng.normal(size=model.density.size)):
        step = 1e-6
        up, down = (model.density(x + shift * along)[0] for shift in (step, -step))
        value, gradient = model.density(x)
        assert np.isfinite(value)
        assert gradient @ along == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-4)


@hs.declare(parameters={"b": (-9.0, 9.0)}, outcomes={"pick": ("left", "right")}, vectorised=True)
def softmax(b, rng):
    return np.where(rng.random(len(b)) < 1 / (1 + np.exp(-b)), "right", "left")


class Softmax(hs.Likelihood):
    kind = "exact"

    def log_prob_rows(self, values, theta):
        return torch.nn.functional.logsigmoid((2 * values[:, 0] - 1) * theta[:, 0])


def picked():
    """The same choices, without their times."""
    rows = table()
    return rows.assign(pick=np.where(rows["response"] == 1, "right", "left")).drop(columns=["rt", "response"])


def test_choices_without_times_are_learned_from():
    """A softmax of two options: the density as by hand (1e-9), and predictions that run forward."""
    rows = picked()
    model = hs.HierarchicalModel(
        ["b ~ 0 + dq", "alpha = 0.3"],
        rows,
        likelihood=Softmax(softmax, {"b": (-9.0, 9.0)}),
        sequences={"dq": hs.delta_rule("feedback", "pick", "subject")},
    )
    q = values_by_hand(table(), np.full(SUBJECTS, 0.3))
    sign = np.where(rows["pick"] == "right", 1.0, -1.0)
    prior, density = model.uncentred.coefficient_priors()["b_dq"], model.density
    assert density.path == "compiled"
    for slope in (0.5, 2.0):
        by_hand = -np.log1p(np.exp(-sign * slope * (q[:, 1] - q[:, 0]))).sum()
        expected = by_hand + float(prior.log_prob(torch.tensor(slope).double()))
        assert density(density.unconstrain({"b_dq": torch.tensor([slope]).double()})[0])[0] == pytest.approx(expected)
    predicted = hs.prior_predictive(model, 3)["prior_predictive"]["pick"].to_numpy()
    assert predicted.shape == (1, 3, len(rows))
    assert set(predicted.ravel()) == {"left", "right"}


def test_a_rule_that_reads_choices_needs_some():
    @hs.declare(parameters={"rate": (0.5, 20.0)}, outcomes={"chips": "count"}, vectorised=True)
    def cookies(rate, rng):
        return rng.poisson(rate)

    class Poisson(hs.Likelihood):
        def log_prob_rows(self, values, theta):
            return torch.distributions.Poisson(theta[:, 0]).log_prob(values[:, 0])

    rows = picked().assign(chips=3)
    with pytest.raises(
        hs.InputError, match="its rule reads choices, 'pick', and the outcomes of the model, chips, are"
    ):
        hs.HierarchicalModel(
            "rate ~ dq",
            rows,
            likelihood=Poisson(cookies, {"rate": (0.5, 20.0)}),
            sequences={"dq": hs.delta_rule("feedback", "pick", "subject")},
        )


def test_races_take_the_value_of_each_choice():
    rows = table(choices=3)
    model = hs.HierarchicalModel(
        {"v": "1 + dq", "alpha": 0.3}, rows, simulator="race3", likelihood="neural", sequences=delta()
    )
    q = values_by_hand(rows, dict.fromkeys(range(SUBJECTS), 0.3), 3)
    values = {name: torch.full(x.shape, 0.8, dtype=torch.float64) for name, x in model.start.items()}
    theta = model.hierarchy.theta(values)
    columns = [model.simulator.names.index(f"v{k}") for k in range(3)]
    np.testing.assert_allclose(theta[:, columns], 0.8 + 0.8 * q, rtol=1e-6)


def test_start_may_be_a_parameter():
    @hs.sequence(
        start={"q": "q0"},
        parameters={"rate": (0.0, 1.0), "q0": (-2.0, 2.0)},
        columns=["feedback"],
        choices=["response"],
        by="subject",
    )
    def rule(state, row, p):
        return {"q": state["q"] + p["rate"] * row["response"] * (row["feedback"] - state["q"])}, state["q"].sum()

    model = hs.HierarchicalModel(
        {"v": "0 + x", "q0": "1", "rate": 0.5}, table(), likelihood="exact", sequences={"x": rule}
    )
    values = {name: torch.full(x.shape, 0.25, dtype=torch.float64) for name, x in model.start.items()}
    first = np.flatnonzero(table()["trial"] == 0)
    np.testing.assert_allclose(model.hierarchy.theta(values)[first, 0], 0.25 * 2 * 0.25, rtol=1e-9)


def test_the_tangent_is_the_derivative_of_theta():
    """Columns of the linear model by which the pilot fit knows a rule's parameters: differences of theta itself."""
    model = hs.HierarchicalModel(["v ~ 0 + dq", "alpha ~ 1", "z = 0.5"], table(), likelihood="exact", sequences=delta())
    at = {
        name: torch.tensor(x, dtype=torch.float64)
        for name, x in {"v_dq": 2.0, "a_Intercept": 0.1, "t0_Intercept": -1.2, "alpha_Intercept": -1.0}.items()
    }
    linear = {p.name: p for p in tangent(model.uncentred, at).predictors}
    step = 1e-4
    for name, shifted in (("v", "v_dq"), ("alpha", "alpha_Intercept")):
        up, down = (model.uncentred.theta({**at, shifted: at[shifted] + d})[:, 0] for d in (step, -step))
        np.testing.assert_allclose(linear[name].common[0].matrix[:, 0], (up - down) / (2 * step), rtol=1e-5, atol=1e-7)


def test_models_travel_between_processes():
    model = hs.HierarchicalModel(["v ~ 0 + dq", "alpha ~ 1"], table(), likelihood="exact", sequences=delta())
    before = model.density(model.density.start)[0]
    there = pickle.loads(pickle.dumps(model))
    assert there.density(there.density.start)[0] == before


@few_draws
def test_a_fit_is_kept_loaded_and_the_same(tmp_path):
    model = hs.HierarchicalModel(FORMULAS, table(), likelihood="exact", sequences=delta(start=0.4))
    posterior = model.fit(draws=30, tune=60, chains=2, seed=1, progress=False)
    posterior.to_netcdf(tmp_path / "fit.nc")
    again = hs.load_model(tmp_path / "fit.nc")
    assert again.fingerprint == model.fingerprint
    np.testing.assert_array_equal(again.theta(posterior), model.theta(posterior))
    assert "trial" in posterior["constant_data"]
    other = hs.HierarchicalModel(FORMULAS, table(), likelihood="exact", sequences=delta(start=0.5))
    assert other.fingerprint != model.fingerprint


@few_draws
def test_a_fit_with_a_rule_of_ones_own(tmp_path):
    def make(power):
        @hs.sequence(parameters={"rate": (0.0, 1.0)}, start={"n": 0.0}, by="subject")
        def growing(state, row, p):
            return {"n": state["n"] + 1.0}, (p["rate"] * state["n"]) ** power

        return {"x": growing}

    model = hs.HierarchicalModel({"v": "0 + x", "a": "1"}, table(), likelihood="exact", sequences=make(2))
    posterior = model.fit(draws=30, tune=60, chains=2, seed=1, progress=False)
    posterior.to_netcdf(tmp_path / "fit.nc")
    with pytest.raises(hs.InputError, match="a rule of your own, 'growing'"):
        hs.load_model(tmp_path / "fit.nc")
    with pytest.raises(hs.InputError, match=r"its sequences\['x'\] would be"):
        hs.load_model(tmp_path / "fit.nc", sequences=make(3))
    again = hs.load_model(tmp_path / "fit.nc", sequences=make(2))
    np.testing.assert_array_equal(again.theta(posterior), model.theta(posterior))


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "rlddm.csv").exists(), reason="needs ../shared/data")
def test_hddms_learning_example():
    """Our means lie within the 95 % intervals that HDDM's tutorial prints, in its units."""
    from benchmarks.learning import beside_hddm

    assert beside_hddm()["inside"].all()
