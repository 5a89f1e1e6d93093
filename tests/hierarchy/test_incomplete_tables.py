"""Models of tables in which something is missing: parameters come back, by hand and in fits, and so do the gaps."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.analysis.predictive import predictive_draws, simulate_table

THETA = {"v": 0.8, "a": 1.2, "z": 0.5, "t0": 0.3}
N = 1_500
FIT = {"draws": 700, "tune": 600, "chains": 2, "seed": 1, "progress": False}


def simulated(n=N, seed=1, **theta):
    """Trials, and the deadline that cuts off 15 % of them."""
    trials = hs.simulate("ddm", THETA | theta, n, seed=seed)
    return trials, float(trials["rt"].quantile(0.85))


def emptied(trials, rows):
    return trials.assign(rt=trials["rt"].mask(rows), response=trials["response"].mask(rows))


def omitted(**options):
    trials, deadline = simulated(**options)
    return emptied(trials, trials["rt"] > deadline), {"deadline": deadline}


def go_no_go():
    trials, deadline = simulated()
    return emptied(trials, (trials["rt"] > deadline) | (trials["response"] == -1)), {
        "deadline": deadline,
        "withheld": -1,
    }


def truncated():
    trials, deadline = simulated()
    return trials[trials["rt"].between(0.4, deadline)], {"truncated": (0.4, deadline)}


def censored():
    trials, deadline = simulated()
    return trials, {"censored": (0.5, deadline)}


def by_chance():
    trials, _ = simulated()
    i = np.arange(N)
    return trials.assign(rt=trials["rt"].mask(i % 3 == 0), response=trials["response"].mask(i % 3 == 1)), {}


CASES = {f.__name__: f for f in (omitted, go_no_go, truncated, censored, by_chance)}


def standardised(model, posterior):
    """By how many posterior sds the means of the four parameters are off."""
    estimated = [name for name in model.simulator.names if f"{name}_Intercept" in posterior["posterior"]]
    draws = model.theta(posterior)[:, 0, [model.simulator.names.index(name) for name in estimated]]
    return (draws.mean(0) - [THETA[name] for name in estimated]) / draws.std(0)


@pytest.fixture(scope="module", params=[*CASES], ids=[*CASES])
def fitted(request):
    trials, said = CASES[request.param]()
    # Responses of one kind hardly tell a bias from a threshold.
    bias = "z = 0.5" if request.param == "go_no_go" else "z ~ 1"
    model = hs.HierarchicalModel(["v ~ 1", bias], trials, likelihood="exact", lapse=0.0, **said)
    return model, model.fit(**FIT)


def test_parameters_come_back(fitted):
    """1 500 trials; each of four parameters within 4 posterior sds (false alarms of five cases 1e-3)."""
    model, posterior = fitted
    assert model.density.path == "compiled"
    assert np.abs(standardised(model, posterior)).max() < 4.0


@pytest.mark.filterwarnings("ignore::hddm_sbi.ConvergenceWarning")
@pytest.mark.parametrize("fitted", ["omitted", "go_no_go", "truncated"], indirect=True)
def test_trials_that_are_left_out_bias(fitted):
    """The whole trials of the same table, of which nothing is said: some parameter is off by more than 4 sds."""
    model, _ = fitted
    left = model.trials.frame[np.isfinite(model.trials.values).all(1)][["rt", "response"]]
    formulas = {name: f if isinstance(f, float) else f.rhs for name, f in model.formulas.items()}
    naive = hs.HierarchicalModel(formulas, left, likelihood="exact", lapse=0.0)
    assert np.abs(standardised(naive, naive.fit(**FIT))).max() > 4.0


def test_predictions_have_the_same_gaps(fitted):
    """Shares of trials with a time, and with a response, within 5 standard errors; none after the limit."""
    model, posterior = fitted
    predicted, observed = predictive_draws(model, posterior, n_draws=40), model.trials
    shares = np.isfinite(predicted.rt).mean(1), np.isfinite(observed.rt).mean()
    assert abs(shares[0].mean() - shares[1]) <= 5 * np.sqrt(2 * shares[1] * (1 - shares[1]) / len(observed)) + 1e-9
    answered = (predicted.choice >= 0).mean(), (observed.choice >= 0).mean()
    assert abs(answered[0] - answered[1]) <= 5 * np.sqrt(2 * answered[1] * (1 - answered[1]) / len(observed)) + 1e-9
    rt, finite = predicted.rt, np.isfinite(predicted.rt)
    if model.facts["missing"]:
        assert rt[finite].max() <= simulated()[1]


def test_a_fit_that_is_read_again_is_the_same(fitted, tmp_path):
    model, posterior = fitted
    posterior.to_netcdf(str(tmp_path / "fit.nc"))
    again = hs.load_model(tmp_path / "fit.nc")
    assert again.facts == model.facts
    np.testing.assert_array_equal(again.trials.values, model.trials.values)
    few = posterior.isel(draw=slice(20))
    ours, theirs = (m.with_log_likelihood(few)["log_likelihood"]["rt_response"].values for m in (model, again))
    np.testing.assert_array_equal(ours, theirs)


def test_the_pointwise_log_likelihood_is_that_of_the_density(fitted):
    model, posterior = fitted
    few = posterior.isel(draw=slice(5))
    pointwise = model.with_log_likelihood(few)["log_likelihood"]["rt_response"].values
    theta = torch.as_tensor(model.theta(few))
    total = [
        float(model.likelihood.log_prob_by_cell(model.hierarchy.trials, at, torch.tensor(0.0).double()).sum())
        for at in theta[:5]
    ]
    np.testing.assert_allclose(pointwise[0, :5].sum(-1), total, rtol=1e-9)


@pytest.mark.parametrize("kind", ["exact", "neural"])
def test_a_mixed_table_by_hand(kind):
    """All that can be missing in one hierarchical table, its limits columns, lapses included: log likelihood of every
    trial from `log_prob`, `cdf` and `survival` alone, to 1e-8 of itself."""
    trials, _ = simulated(n=400)
    rng = np.random.default_rng(3)
    trials = trials.assign(
        subject=np.arange(400) % 4, by=rng.choice([1.0, 1.5, np.nan], 400), least=rng.choice([0.45, 0.5], 400)
    )
    trials = trials[trials["rt"] > 0.52].reset_index(drop=True)
    rows, n = np.arange(len(trials)), len(trials)
    trials = emptied(trials, trials["rt"] > trials["by"])
    slow = trials["rt"] > 1.7
    untimed = (rows % 11 == 0) & trials["rt"].notna() & ~slow
    unanswered = (rows % 7 == 0) & trials["rt"].notna() & ~untimed & ~slow
    trials = trials.assign(rt=trials["rt"].mask(untimed), response=trials["response"].mask(unanswered))
    model = hs.HierarchicalModel(
        ["v ~ 1 + (1|subject)", "a = 1.2", "z = 0.5", "t0 = 0.3"],
        trials,
        likelihood=kind,
        deadline="by",
        truncated=("least", None),
        censored=(None, 1.7),
        lapse=0.05,
        lapse_seconds=10.0,
    )
    drift = np.array([0.5, 0.7, 0.9, 1.1])
    cells = torch.tensor(np.column_stack([drift, np.full(4, 1.2), np.full(4, 0.5), np.full(4, 0.3)]))
    found = model.likelihood.log_prob_by_trial(
        model.hierarchy.trials,
        cells[trials["subject"].to_numpy(copy=True)[model.trials.cells.first]],
        torch.tensor(0.05).double(),
    )
    likelihood, theta = model.likelihood, dict(THETA, v=drift[trials["subject"]])

    def of(law, *outcomes):
        return np.asarray(law(*outcomes, theta))

    by, least = trials["by"].fillna(np.inf).to_numpy(), trials["least"].to_numpy()
    rt, response = trials["rt"].fillna(1.0).to_numpy(), trials["response"].fillna(1).to_numpy()
    density = of(likelihood.log_prob, rt, response)
    either = np.logaddexp(of(likelihood.log_prob, rt, np.ones(n)), of(likelihood.log_prob, rt, -np.ones(n)))
    before = of(likelihood.cdf, by, response) - of(likelihood.cdf, least, response)
    beyond = of(likelihood.cdf, by, response) - of(likelihood.cdf, np.full(n, 1.7), response)
    survival = {end: of(likelihood.survival, time) for end, time in (("by", by), ("least", least))}
    latest = np.minimum(by, 10.0)
    p = np.select(
        [slow, untimed, unanswered, trials["rt"].isna()],
        [beyond, before, np.exp(either), survival["by"]],
        np.exp(density),
    )
    uniform = np.select(
        [slow, untimed, unanswered, trials["rt"].isna()],
        [(latest - 1.7).clip(0) / 20, (latest - least) / 20, np.full(n, 0.1), 1 - latest / 10],
        0.05,
    )
    kept = 0.95 * survival["least"] + 0.05 * (1 - least / 10)
    np.testing.assert_allclose(found, np.log(0.95 * p + 0.05 * uniform) - np.log(kept), rtol=1e-7, atol=1e-9)


def test_a_compiled_mixture_of_gaps_has_the_gradient_of_its_density():
    trials, said = omitted(n=300)
    trials = trials.assign(subject=np.arange(300) % 3, x=np.linspace(-1, 1, 300))
    for kind in ("exact", "neural"):
        model = hs.HierarchicalModel("v ~ x + (1|subject)", trials, likelihood=kind, **said)
        density = model.density
        assert density.path == "compiled"
        rng = np.random.default_rng(1)
        x = density.start + 0.1 * rng.normal(size=density.size)
        _, gradient = density(x)
        for i in range(density.size):
            step = 1e-5 * np.eye(density.size)[i]
            difference = (density(x + step)[0] - density(x - step)[0]) / 2e-5
            assert gradient[i] == pytest.approx(difference, rel=1e-5, abs=1e-4)


def test_named_responses_stay_named():
    trials, said = omitted(n=200)
    named = trials.assign(response=trials["response"].map({1.0: "right", -1.0: "left"}))
    model = hs.HierarchicalModel(
        {"v": "1", **{p: THETA[p] for p in ("a", "z", "t0")}}, named, likelihood="exact", upper="right", **said
    )
    posterior = model.fit(draws=1_000, chains=2, seed=1, progress=False)
    again = hs.load_model(posterior)
    assert again.trials.responses == ("left", "right")
    np.testing.assert_array_equal(again.trials.values, model.trials.values)
    replica = model.with_outcomes(*simulate_table(model, model.theta(posterior)[0], 0.0, [1]))
    missing = replica.trials.frame["response"].isna()
    assert (missing == replica.trials.frame["rt"].isna()).all()
    assert set(replica.trials.frame["response"].dropna()) == {"left", "right"}
    assert 0.05 < missing.mean() < 0.3


def test_the_record_of_gaps_is_plain_data():
    trials, said = omitted(n=200)
    model = hs.HierarchicalModel(
        "v ~ 1",
        trials.assign(late=np.float32(20.0)),
        likelihood="exact",
        deadline=np.float64(said["deadline"]),
        censored=(None, "late"),
    )
    assert json.loads(json.dumps(model.facts["missing"])) == {"deadline": said["deadline"], "censored": [None, "late"]}
    whole = hs.HierarchicalModel("v ~ 1", simulated(n=50)[0], likelihood="exact")
    assert whole.facts["missing"] == {}


def test_trials_that_cannot_be_kept_are_refused_when_simulated():
    trials = simulated(n=50)[0]
    trials = trials[trials["rt"] > 0.6]
    model = hs.HierarchicalModel("v ~ 1", trials, likelihood="exact", truncated=(0.6, None), lapse=0.0)
    with pytest.raises(hs.InputError, match=r"would have been removed 1000 times.*truncated="):
        simulate_table(model, np.array([[9.0, 0.1, 0.5, 0.1]]), 0.0, [1])


def test_a_table_of_omissions_alone_cannot_be_fitted():
    with pytest.raises(hs.InputError, match="no trial has both"):
        hs.HierarchicalModel("v ~ 1", pd.DataFrame({"rt": [np.nan] * 3, "response": [np.nan] * 3}), deadline=1.0)
