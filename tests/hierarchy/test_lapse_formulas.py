"""Lapses by formula, exponential in time, and split between responses: in densities, fits, predictions and files."""

import warnings

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.analysis.predictive import predicted_table, predictive_draws
from hddm_sbi.analysis.shrinkage import group_levels
from hddm_sbi.hierarchy.priors.choice import PriorRecord

THETA = {"v": 1.2, "a": 0.9, "z": 0.5, "t0": 0.3}
#: 24 people, 250 trials each; lapses are uniform over 8 s, and three quarters of them to the left.
PEOPLE, EACH, SECONDS, SPLIT = 24, 250, 8.0, {"left": 0.75, "right": 0.25}
BY_PERSON = ["v ~ 1 + (1|subject)", "a ~ 1 + (1|subject)", "z = 0.5"]


def fit(model, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        return model.fit(**{"seed": 1, "progress": False, "draws": 20, "tune": 40, "chains": 2} | options)


def with_lapses(trials, share, seed, draw):
    """The trials with lapses, of that share (n,) of them, in the place of some."""
    rng = np.random.default_rng(seed)
    some = np.flatnonzero(rng.random(len(trials)) < share)
    trials.loc[some, "rt"], trials.loc[some, "response"] = draw(rng, len(some))
    return trials


@pytest.fixture(scope="module")
def people():
    """Log odds of lapses of every person, from normal ones of mean -3 and sd 1, and the trials."""
    rng = np.random.default_rng(7)
    odds, v, a = rng.normal(-3.0, 1.0, PEOPLE), rng.normal(1.2, 0.4, PEOPLE), np.exp(rng.normal(-0.1, 0.2, PEOPLE))
    person = np.repeat(np.arange(PEOPLE), EACH)
    trials = hs.simulate("ddm", {"v": v[person], "a": a[person], "z": 0.5, "t0": 0.3}, seed=8)
    trials["response"] = np.where(trials["response"] == 1, "right", "left")
    share = 1 / (1 + np.exp(-odds[person]))

    def lapses(rng, n):
        return rng.uniform(0, SECONDS, n), rng.choice([*SPLIT], n, p=[*SPLIT.values()])

    return odds, with_lapses(trials, share, 9, lapses).assign(subject=person)


def model_of_people(trials, formulas=("lapse ~ 1 + (1|subject)",), **options):
    said = {"likelihood": "exact", "upper": "right", "lapse_seconds": SECONDS, "lapse_choices": SPLIT}
    return hs.HierarchicalModel([*BY_PERSON, *formulas], trials, **said | options)


def test_people_get_their_lapses_back(people):
    """24 people x 250 trials. The sum of ((mean - truth) / sd)² of their log odds is below the chi-square quantile of
    24 that is exceeded by 2e-5, and mean and sd of the population within 4.3 sds. With one share for all, trials are
    e^30 times less probable."""
    odds, trials = people
    model = model_of_people(trials)
    assert model.density.path == "compiled"
    posterior = fit(model, draws=400, tune=400)
    known = posterior["posterior"]
    own = (known["lapse_Intercept"] + known["lapse_1|subject"]).to_numpy().reshape(-1, PEOPLE)
    assert (((own.mean(0) - odds) / own.std(0)) ** 2).sum() < 65.0
    for name, truth in (("lapse_Intercept", -3.0), ("lapse_1|subject_sigma", 1.0)):
        draws = known[name].to_numpy()
        assert abs(draws.mean() - truth) < 4.3 * draws.std()
    assert float(np.corrcoef(own.mean(0), odds)[0, 1]) > 0.8
    share = model.lapse_share(posterior)
    assert share.shape == (800, PEOPLE)
    np.testing.assert_allclose(share, 1 / (1 + np.exp(-own)), rtol=1e-6)
    # What the trials of one person say alone: of 250 trials, the posterior pulls it towards the others.
    levels = group_levels(model, posterior, "lapse", "subject")
    many = odds > -3.2
    assert many.sum() >= 5
    assert np.abs((levels.own - own.mean(0)) / own.std(0))[many].max() < 2.0
    for_all = model_of_people(trials, (), lapse="estimated")
    total = [
        float(m.with_log_likelihood(p)["log_likelihood"]["rt_response"].sum("trial").mean())
        for m, p in ((model, posterior.isel(draw=slice(50))), (for_all, fit(for_all, draws=50, tune=200)))
    ]
    assert total[0] > total[1] + 30.0


@pytest.mark.parametrize("likelihood", ["exact", "neural"])
def test_one_share_for_all_is_the_estimated_share(likelihood):
    """With the same prior, on the natural scale: density and gradient (1e-9)."""
    trials = hs.simulate("ddm", THETA, 300, seed=1)
    law = {"likelihood": likelihood, "lapse_seconds": 7.0}
    beta = dist.Beta(torch.tensor(1.0).double(), 49.0)
    by_formula = hs.HierarchicalModel(["z = 0.5", "lapse ~ 1"], trials, priors={"lapse": beta}, **law)
    by_prior = hs.HierarchicalModel("z = 0.5", trials, lapse=beta, **law)
    one, other = by_formula.density, by_prior.density
    assert one.path == other.path == "compiled"
    renamed = {"lapse_Intercept": "lapse"}
    order = np.concatenate([other.positions[renamed.get(name, name)].reshape(-1) for name in one.positions])
    rng = np.random.default_rng(1)
    for _ in range(4):
        x = other.start + 0.1 * rng.normal(size=other.size)
        (value, gradient), (expected, slope) = one(x[order]), other(x)
        assert value == pytest.approx(expected, abs=1e-8)
        np.testing.assert_allclose(gradient, slope[order], rtol=1e-8, atol=1e-7)
    # Both start where their share is most probable.
    assert float(torch.sigmoid(by_formula.start["lapse_Intercept"])) == pytest.approx(
        float(by_prior.start["lapse"]), abs=0.01
    )


class Plain(hs.DecisionLikelihood):
    """A likelihood of one's own, which has the definition in torch: a lognormal decision time, and any response."""

    kind = "own"

    def log_prob_rows(self, values, theta):
        t = values[:, 0] - theta[:, 3]
        there, law = t > 0.0, torch.distributions.LogNormal(torch.log(theta[:, 1]) - theta[:, 0], 0.5)
        return torch.where(there, law.log_prob(torch.where(there, t, 1.0)) - np.log(2.0), -torch.inf)


@pytest.mark.parametrize("name", ["ddm exact", "ddm neural", "full_ddm neural", "race3 neural", "ddm own"])
def test_gradient_of_the_density_is_a_difference(name):
    """Compiled: closed form, the ways of learned likelihoods, and a likelihood of one's own."""
    model_name, kind = name.split()
    if kind == "own":
        likelihood = Plain(hs.load_simulator(model_name), hs.load_likelihood(model_name).box)
    else:
        likelihood = hs.load_likelihood(model_name, kind=kind)
    n = 60
    typical = {p.name: sum(p.typical) / 2 for p in likelihood.simulator.parameters}
    trials = hs.simulate(model_name, typical, n, seed=2).assign(subject=np.arange(n) % 3, late=np.arange(n) % 2)
    share = "lapse ~ late + (1|p|subject)"
    shift = likelihood.simulator.symmetries.shift
    tagged = f"{shift} ~ 1 + (1|p|subject)"
    split = np.arange(1.0, 1.0 + len(likelihood.simulator.choices))
    model = hs.HierarchicalModel(
        [share, tagged], trials, likelihood=likelihood, lapse_mean=1.3, lapse_choices=list(split / split.sum())
    )
    density, x = model.density, model.density.start + 0.01
    assert density.path == "compiled"
    gradient = density(x)[1]
    for name in ("lapse_Intercept", "lapse_late", "lapse_1|subject_sigma", f"{shift}_Intercept"):
        step = np.zeros_like(x)
        step[density.positions[name]] = 1e-5
        difference = (density(x + step)[0] - density(x - step)[0]) / 2e-5
        assert gradient[density.positions[name]] == pytest.approx(difference, rel=1e-4, abs=1e-3)


def table(n=160):
    """Two people, two conditions, some omissions; names for the responses."""
    trials = hs.simulate("ddm", THETA, n, seed=3)
    trials["response"] = np.where(trials["response"] == 1, "right", "left")
    trials["subject"], trials["hard"] = np.arange(n) % 2, np.where(np.arange(n) % 4 < 2, "yes", "no")
    late = trials["rt"] > 1.4
    return trials.assign(rt=trials["rt"].mask(late), response=trials["response"].mask(late))


LAWS = {
    "unlike": ({"lapse_seconds": 6.0, "lapse_choices": {"right": 0.9, "left": 0.1}}, hs.LapseLaw((0.1, 0.9), 6.0)),
    "exponential": ({"lapse_mean": 0.8}, hs.LapseLaw((1.0, 1.0), 0.0, 0.8)),
    "both": ({"lapse_mean": 0.8, "lapse_choices": [0.3, 0.7]}, hs.LapseLaw((0.3, 0.7), 0.0, 0.8)),
}


@pytest.fixture(scope="module", params=[*LAWS])
def fitted(request):
    said, law = LAWS[request.param]
    formulas = ["v ~ 1 + (1|p|subject)", "z = 0.5", "lapse ~ hard + (1|p|subject)"]
    options = {"likelihood": "exact", "upper": "right", "deadline": 1.4, "priors": {"lapse": dist.Beta(2.0, 20.0)}}
    model = hs.HierarchicalModel(formulas, table(), **options | said)
    return model, fit(model), law


def test_names_priors_and_law(fitted):
    model, posterior, law = fitted
    assert (model.lapses, model.lapse, model.lapse_seconds) == (law, None, law.seconds)
    names = {"lapse_Intercept", "lapse_hard", "lapse_1|subject", "lapse_1|subject_sigma", "p|subject_corr"}
    known = posterior["posterior"]
    assert names <= set(known.data_vars)
    assert known["p|subject_corr"].coords["p|subject_corr_dim"].values.tolist() == ["v_1", "lapse_1"]
    assert model.prior_table.loc["lapse_Intercept"].tolist() == [
        "logit",
        "Beta(concentration1=2, concentration0=20) on the natural scale",
    ]
    assert model.prior_table.loc["lapse_1|subject_sigma"].tolist() == ["logit", "HalfNormal(scale=1)"]
    assert "lapse ~ hard + (1|p|subject)" in repr(model)
    assert model.theta(posterior).shape == (40, 4, 4)
    assert "lapse_Intercept" in hs.report.summary(model, posterior).index


def test_pointwise_by_hand(fitted):
    """In numpy, from the likelihood's own densities and survival: each trial's share is that of its person and
    condition (1e-8)."""
    model, posterior, law = fitted
    draw = 17
    known = posterior["posterior"].stack(sample=("chain", "draw")).isel(sample=draw)
    trials = model.trials.frame
    deviation = known["lapse_1|subject"].to_numpy()[trials["subject"]]
    hard = float(known["lapse_hard"].to_numpy().squeeze()) * (trials["hard"] == "yes")
    share = 1 / (1 + np.exp(-(float(known["lapse_Intercept"]) + hard + deviation)))
    theta = dict(zip(model.simulator.names, model.theta(posterior)[draw][model.cell].T, strict=True))
    rt, answered = model.trials.rt, model.trials.choice >= 0
    p, u = np.empty(len(trials)), np.empty(len(trials))
    own = {name: value[answered] for name, value in theta.items()}
    code = np.array(model.simulator.choices)[model.trials.choice]
    p[answered] = model.likelihood.log_prob(rt[answered], code[answered], own).exp().numpy()
    late = {name: value[~answered] for name, value in theta.items()}
    p[~answered] = model.likelihood.survival(np.full((~answered).sum(), 1.4), late).numpy()
    part = np.array(law.split)[model.trials.choice] / sum(law.split)
    if law.mean is None:
        u[answered], u[~answered] = part[answered] / law.seconds, 1 - 1.4 / law.seconds
    else:
        u[answered] = part[answered] * np.exp(-rt[answered] / law.mean) / law.mean
        u[~answered] = np.exp(-1.4 / law.mean)
    found = model.with_log_likelihood(posterior)["log_likelihood"]["rt_response"].to_numpy().reshape(40, -1)[draw]
    np.testing.assert_allclose(found, np.log((1 - share) * p + share * u), rtol=1e-8, atol=1e-8)


def test_a_saved_fit_is_the_same_model(fitted, tmp_path):
    model, posterior, _ = fitted
    posterior.to_netcdf(str(tmp_path / "fit.nc"))
    again = hs.load_model(tmp_path / "fit.nc")
    assert again.facts == model.facts
    assert again.fingerprint == model.fingerprint
    np.testing.assert_array_equal(again.lapse_share(posterior), model.lapse_share(posterior))
    ours, theirs = (m.with_log_likelihood(posterior)["log_likelihood"]["rt_response"].values for m in (model, again))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_other_outcomes_keep_the_law(fitted):
    model, posterior, law = fitted
    other = model.with_outcomes(model.trials.values)
    assert other.lapses == law
    assert model.with_lapses_of(posterior) is model
    assert other.density(model.density.start)[0] == pytest.approx(model.density(model.density.start)[0], rel=1e-12)


def test_predicted_lapses_are_those_of_people_and_of_the_law():
    """No decision takes 1.5 s at these drifts. 40 tables of 100 trials by person and law, five standard errors."""
    trials = hs.simulate("ddm", THETA, 200, seed=4).assign(subject=np.repeat(["few", "many"], 100))
    for said, late in (
        ({"lapse_seconds": 6.0, "lapse_choices": {1: 0.9, -1: 0.1}}, 1 - 1.5 / 6.0),
        ({"lapse_mean": 2.0, "lapse_choices": {1: 0.9, -1: 0.1}}, np.exp(-1.5 / 2.0)),
    ):
        formulas = ["v ~ 1", "z = 0.5", "lapse ~ 0 + subject"]
        model = hs.HierarchicalModel(formulas, trials, likelihood="exact", **said)
        posterior = fit(model).copy()
        posterior["posterior"]["lapse_subject"][:] = [-2.0, 1.0]
        posterior["posterior"]["v_Intercept"][:] = 6.0
        predicted = predicted_table(model, posterior, n_draws=40)
        for person, odds in (("few", -2.0), ("many", 1.0)):
            own = predicted[predicted["subject"] == person]
            q, n = late / (1 + np.exp(-odds)), len(own)
            assert n == 4_000
            assert abs((own["rt"] > 1.5).mean() - q) < 5 * np.sqrt(q * (1 - q) / n)
            lapses = own[own["rt"] > 1.5]
            assert abs((lapses["response"] == 1).mean() - 0.9) < 5 * np.sqrt(0.09 / len(lapses))


def test_a_number_in_a_formula_is_the_argument():
    trials = hs.simulate("ddm", THETA, 50, seed=1)
    written = hs.HierarchicalModel(["v ~ 1", "lapse = 0.02"], trials, likelihood="exact")
    by_name = hs.HierarchicalModel({"v": "1", "lapse": 0.02}, trials, likelihood="exact")
    given = hs.HierarchicalModel("v ~ 1", trials, likelihood="exact", lapse=0.02)
    assert written.lapse == by_name.lapse == 0.02
    assert written.facts == by_name.facts == given.facts
    assert written.fingerprint == given.fingerprint


def test_default_priors_agree_with_the_estimated_share():
    """Mean and sd of the intercept's prior are those of the log odds of Beta(1, 49), by 200 000 draws, to .1."""
    trials = hs.simulate("ddm", THETA, 50, seed=1)
    model = hs.HierarchicalModel("lapse ~ 1", trials, likelihood="exact")
    record = model.prior_records["lapse_Intercept"]
    assert record.distribution == "Normal"
    share = np.random.default_rng(1).beta(1.0, 49.0, 200_000)
    odds = np.log(share / (1 - share))
    assert [record.arguments["loc"], record.arguments["scale"]] == pytest.approx([odds.mean(), odds.std()], abs=0.1)


def test_smooth_and_monotonic_effects_on_lapses():
    """Any term of a formula; more lapses late in the session, when 400 of 800 trials have 20 % of them."""
    n = 800
    trials = hs.simulate("ddm", THETA, n, seed=5).assign(minute=np.arange(n) / n, block=np.arange(n) // 200)
    uniform = lambda rng, size: (rng.uniform(0, 8.0, size), rng.choice([-1, 1], size))  # noqa: E731 - one line
    trials = with_lapses(trials, np.where(trials["block"] >= 2, 0.2, 0.0), 6, uniform)
    for term in ("s(minute)", "mo(block)"):
        model = hs.HierarchicalModel(["z = 0.5", f"lapse ~ {term}"], trials, likelihood="exact", lapse_seconds=8.0)
        share = model.lapse_share(fit(model, draws=100, tune=200)).mean(0)[model.cell]
        assert share[:200].mean() < 0.03 < 0.15 < share[-200:].mean()


def test_standard_deviations_of_lapses_by_group():
    trials = hs.simulate("ddm", THETA, 120, seed=1).assign(subject=np.arange(120) % 6)
    trials["group"] = np.where(trials["subject"] < 3, "patient", "control")
    model = hs.HierarchicalModel(["z = 0.5", "lapse ~ 1 + (1|gr(subject, by=group))"], trials, likelihood="exact")
    known = fit(model)["posterior"]["lapse_1|subject_sigma"]
    assert known.dims == ("chain", "draw", "group")


@pytest.mark.parametrize(
    ("formulas", "options", "said"),
    [
        ("lapse ~ 1", {"lapse": 0.05}, "lapse=0.05 and the formula 'lapse ~ 1' both say the probability of a lapse"),
        ("lapse = 0.02", {"lapse": "estimated"}, "the formula 'lapse = 0.02' both say the probability"),
        ("lapse = 1.5", {}, r"lapse must be a probability in \[0, 1\) or its prior"),
        ("lapse = a", {}, "lapse = a is not a finite number"),
        ("lapse ~ 1 + (1|nobody)", {}, "nobody"),
        ("laps ~ 1", {}, "unknown parameter 'laps' in a formula; did you mean 'lapse'.* z, t0, lapse"),
        ("v ~ 1", {"lapse_mean": 2.0, "lapse_seconds": 5.0}, "lapse_mean=2.0 makes lapses exponential in time"),
        ("v ~ 1", {"lapse_mean": 2.0, "lapse_seconds": "range"}, "lapse_seconds='range' uniform; leave out one"),
        ("v ~ 1", {"lapse_mean": 2.0, "lapse": 0}, "lapse_mean=2.0 says how trials lapse, and none does with lapse=0"),
        ("lapse = 0", {"lapse_choices": [0.2, 0.8]}, "lapse_choices=.* says how trials lapse, and none does"),
        ("v ~ 1", {"lapse_mean": 0}, "lapse_mean must be a positive number of seconds"),
        ("v ~ 1", {"lapse_mean": "long"}, "lapse_mean must be a positive number of seconds.* got 'long'"),
        ("v ~ 1", {"lapse_mean": float("inf")}, "lapse_mean must be a positive number of seconds"),
        (
            "v ~ 1",
            {"lapse_choices": {"left": 0.5, "rigth": 0.5}},
            "'rigth', which is no response.* did you mean 'right'",
        ),
        ("v ~ 1", {"lapse_choices": {"left": 1.0}}, "lapse_choices must say .* it lacks 'right'"),
        ("v ~ 1", {"lapse_choices": {"left": 0.7, "right": 0.2}}, "sum to 1; they sum to 0.9. Say"),
        ("v ~ 1", {"lapse_choices": {"left": 1.2, "right": -0.2}}, "sum to 1; got 1.2"),
        ("v ~ 1", {"lapse_choices": {"left": "most", "right": 0.2}}, "sum to 1; got 'most'"),
        ("v ~ 1", {"lapse_choices": [0.2, 0.3, 0.5]}, "lapse_choices must say the probability of each response"),
        ("v ~ 1", {"lapse_choices": "left"}, "lapse_choices must say .* got 'left'"),
        ("v ~ 1", {"lapse_choices": 0.7}, r"for instance \{'left': 0.5, 'right': 0.5\}; got 0.7"),
        ("lapse ~ 1", {"priors": {"lapse": dist.Normal(0.0, 1.0)}}, "the prior of lapse itself"),
    ],
)
def test_what_cannot_be_used_is_refused(formulas, options, said):
    trials = hs.simulate("ddm", THETA, 20, seed=1)
    trials["response"] = np.where(trials["response"] == 1, "right", "left")
    with pytest.raises(hs.InputError, match=said):
        hs.HierarchicalModel(formulas, trials, likelihood="exact", upper="right", **options)


@hs.declare(parameters={"rate": (0.5, 20.0)}, outcomes={"chips": "count"})
def cookies(rate, rng):
    return rng.poisson(rate)


class Poisson(hs.Likelihood):
    kind = "exact"

    def log_prob_rows(self, values, theta):
        return torch.distributions.Poisson(theta[:, 0]).log_prob(values[:, 0])


@pytest.mark.parametrize(
    ("formulas", "options", "said"),
    [
        (
            "lapse ~ 1",
            {},
            "a formula for lapse: a lapse is a random response at a random time; outcomes such as 'chips'",
        ),
        ("rate ~ 1", {"lapse_mean": 1.0}, "lapse_mean=: .* know none"),
        ("rate ~ 1", {"lapse_choices": {}}, "lapse_choices=: .* know none"),
    ],
)
def test_outcomes_that_know_no_lapses_refuse_them(formulas, options, said):
    data = pd.DataFrame({"chips": [3, 4, 5]})
    with pytest.raises(hs.InputError, match=said):
        hs.HierarchicalModel(formulas, data, cookies, Poisson(cookies, cookies.box), **options)


@hs.declare(parameters={"rate": (0.5, 20.0), "lapse": (0.0, 1.0)}, outcomes={"chips": "count"})
def cookies_that_lapse(rate, lapse, rng):
    return 0 if rng.random() < lapse else rng.poisson(rate)


def test_a_simulator_may_have_a_parameter_of_that_name():
    likelihood = Poisson(cookies_that_lapse, cookies_that_lapse.box)
    model = hs.HierarchicalModel("lapse ~ 1", pd.DataFrame({"chips": [3, 4, 5]}), cookies_that_lapse, likelihood)
    assert model.prior_table.index.tolist() == ["rate_Intercept", "lapse_Intercept"]
    assert model.lapse == 0.0


def test_a_fit_from_before_says_nothing_of_means_and_splits():
    """Its record lacks both entries, as that of a fit without them does today."""
    trials = hs.simulate("ddm", THETA, 50, seed=1)
    posterior = fit(hs.HierarchicalModel("z = 0.5", trials, likelihood="exact", lapse_seconds=10.0))
    attrs = posterior["posterior"].attrs
    assert not {"lapse_mean", "lapse_choices"} & set(attrs)
    again = hs.load_model(posterior)
    assert again.lapses == hs.LapseLaw((1.0, 1.0), 10.0)
    assert PriorRecord.of(again.lapse).distribution == "Beta"
    assert predictive_draws(again, posterior, n_draws=2).rt.shape == (2, 50)
