"""Predictions and comparisons, each number against a computation by hand from the draws."""

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
from asked import FORMULAS, as_posterior, experiment, model_of
from scipy.stats import norm

import hddm_sbi as hs

INTERVAL = (0.03, 0.97)


@pytest.fixture(scope="module")
def asked():
    model = model_of()
    posterior, draws = as_posterior(model)
    return model, posterior, draws


def told(table, **where):
    """The one row of a table."""
    rows = table[np.logical_and.reduce([table[name] == value for name, value in where.items()])]
    assert len(rows) == 1, where
    return rows.iloc[0]


def assert_summary(row, draws, rtol=1e-6):
    expected = [draws.mean(), np.median(draws), draws.std(), *np.quantile(draws, INTERVAL)]
    np.testing.assert_allclose([row[n] for n in ("mean", "median", "sd", "low", "high")], expected, rtol=rtol)


def test_parameters_of_the_typical_subject(asked):
    model, posterior, draws = asked
    table = hs.predictions(model, posterior, by="condition", draws=0)
    v = {"easy": draws["v_Intercept"], "hard": draws["v_Intercept"] + draws["v_condition"][:, 0]}
    for condition in v:
        assert_summary(told(table, condition=condition, level="typical", quantity="v"), v[condition])
        for name in ("a", "t0"):
            row = told(table, condition=condition, level="typical", quantity=name)
            assert_summary(row, np.exp(draws[f"{name}_Intercept"]), rtol=1e-5)
    assert set(table["quantity"]) == {"v", "a", "t0"}


def test_parameters_averaged_over_the_population(asked):
    """E exp(mu + s z) = exp(mu + s² / 2), by 200 quasi-random subjects within 0.5 %."""
    model, posterior, draws = asked
    table = hs.predictions(model, posterior, draws=0, groups=200)
    expected = np.exp(draws["a_Intercept"] + draws["a_1|subject_sigma"] ** 2 / 2)
    assert told(table, level="average", quantity="a")["mean"] == pytest.approx(expected.mean(), rel=5e-3)
    typical = told(table, level="typical", quantity="a")["mean"]
    assert typical == pytest.approx(np.exp(draws["a_Intercept"]).mean(), rel=1e-5)
    assert typical < expected.mean() * 0.99


def upper(v, a):
    return 1 / (1 + np.exp(-2 * v * a))


def mean_rt(v, a, t0):
    return t0 + a * np.tanh(v * a) / v


def test_outcomes_of_the_typical_subject(asked):
    """Closed forms of the ddm without a bias, Palmer, Huk & Shadlen (2005)."""
    model, posterior, draws = asked
    table = hs.predictions(model, posterior, by="condition", draws=120)
    v = draws["v_Intercept"] + draws["v_condition"][:, 0]
    a, t0 = np.exp(draws["a_Intercept"]), np.exp(draws["t0_Intercept"])
    at = {"condition": "hard", "level": "typical"}
    assert_summary(told(table, quantity="probability[1]", **at), upper(v, a), rtol=1e-5)
    assert_summary(told(table, quantity="rt_mean", **at), mean_rt(v, a, t0), rtol=1e-5)
    exact = hs.load_likelihood("ddm", kind="exact")
    medians = exact.quantile([0.5] * 120, [1] * 120, {"v": v, "a": a, "z": 0.5, "t0": t0}).numpy()
    assert_summary(told(table, quantity="rt_q50[1]", **at), medians, rtol=2e-4)


def test_outcomes_averaged_over_the_population(asked):
    """Against 4 000 subjects at random in each draw: five standard errors of the mean over draws, and 0.5 % of it for
    30 quasi-random ones."""
    model, posterior, draws = asked
    table = hs.predictions(model, posterior, by="condition", draws=120, groups=100)
    rng = np.random.default_rng(1)
    z = rng.standard_normal((2, 120, 4_000))
    v = (draws["v_Intercept"] + draws["v_condition"][:, 0])[:, None] + draws["v_1|subject_sigma"][:, None] * z[0]
    a = np.exp(draws["a_Intercept"][:, None] + draws["a_1|subject_sigma"][:, None] * z[1])
    for name, x in (
        ("probability[1]", upper(v, a)),
        ("rt_mean", mean_rt(v, a, np.exp(draws["t0_Intercept"])[:, None])),
    ):
        row = told(table, condition="hard", level="average", quantity=name)
        error = 5 * np.sqrt(x.var(1).sum() / 4_000) / 120
        assert row["mean"] == pytest.approx(x.mean(), abs=error + 5e-3 * x.mean())
        assert row["sd"] == pytest.approx(x.mean(1).std(), rel=0.1)


def test_groups_have_their_own_effects(asked):
    model, posterior, draws = asked
    table = hs.predictions(model, posterior, by="condition", level="subject", draws=120)
    assert "level" not in table
    for i, subject in enumerate(["s00", "s01", "s02", "s03"]):
        at = {"condition": "hard", "subject": subject}
        v = draws["v_Intercept"] + draws["v_condition"][:, 0] + draws["v_1|subject"][:, i]
        a = np.exp(draws["a_Intercept"] + draws["a_1|subject"][:, i])
        assert_summary(told(table, quantity="v", **at), v)
        assert_summary(told(table, quantity="probability[1]", **at), upper(v, a), rtol=1e-5)


def test_a_cell_is_the_mean_over_its_trials(asked):
    """s00 has 10 hard trials of 30, and all have 70 of 150."""
    model, posterior, draws = asked
    share = (experiment()["condition"] == "hard").mean()
    assert share == 70 / 150
    v = draws["v_Intercept"] + share * draws["v_condition"][:, 0]
    assert_summary(told(hs.predictions(model, posterior, draws=0), level="typical", quantity="v"), v)
    own = draws["v_Intercept"] + draws["v_1|subject"][:, 0] + draws["v_condition"][:, 0] / 3
    assert_summary(told(hs.predictions(model, posterior, level="subject", draws=0), subject="s00", quantity="v"), own)


def test_a_covariate_in_every_trial():
    """Parameters are means over all trials; response times those of 30 rows, within 1 % of all."""
    model = model_of(["v ~ x", "a = 1.0", "z = 0.5", "t0 = 0.3"], None)
    posterior, draws = as_posterior(model, draws=40)
    x = experiment()["x"].to_numpy()
    table = hs.predictions(model, posterior, draws=40)
    v = draws["v_Intercept"][:, None] + draws["v_x"][:, None] * x
    assert_summary(told(table, level="typical", quantity="v"), v.mean(1), rtol=1e-5)
    expected = mean_rt(v, 1.0, 0.3).mean(1)
    assert told(table, level="typical", quantity="rt_mean")["mean"] == pytest.approx(expected.mean(), rel=0.01)


def test_parts_of_groups_spread_as_they_do():
    """Averages of exp(a) by group, each with its own sd: the mean over 2 000 subjects within 0.5 %."""
    model = model_of(["v ~ 1", "a ~ 1 + (1|gr(subject, by=group))", "z = 0.5", "t0 = 0.3"], None)
    posterior, draws = as_posterior(model, draws=40)
    table = hs.predictions(model, posterior, by="group", draws=0, groups=2_000)
    for part, group in enumerate(("old", "young")):
        expected = np.exp(draws["a_Intercept"] + draws["a_1|subject_sigma"][:, part] ** 2 / 2).mean()
        assert told(table, group=group, level="average", quantity="a")["mean"] == pytest.approx(expected, rel=5e-3)


def test_accuracy_is_that_of_correct_responses():
    trials = experiment()
    named = trials.assign(response=np.where(trials["response"] > 0, "correct", "error"))
    model = model_of(trials=named, upper="correct")
    posterior, draws = as_posterior(model, draws=40)
    table = hs.predictions(model, posterior, by="condition", draws=40)
    row = told(table, quantity="accuracy", condition="easy", level="typical")
    assert_summary(row, upper(draws["v_Intercept"], np.exp(draws["a_Intercept"])), rtol=1e-5)


def test_accuracy_of_a_race_is_that_of_the_stimulus():
    """Each accumulator in turn is the right one: accuracy averages the two."""
    table = experiment().assign(S=np.arange(150) % 2, response=lambda t: (t["response"] > 0).astype(int))
    model = hs.HierarchicalModel("v ~ match", table, "lba", stimulus="S")
    posterior, _ = as_posterior(model, draws=10)
    found = hs.predictions(model, posterior, by="S", draws=10)
    for stimulus in (0, 1):
        at = {"S": stimulus, "level": "typical"}
        accuracy = told(found, quantity="accuracy", **at)["mean"]
        assert accuracy == told(found, quantity=f"probability[{stimulus}]", **at)["mean"]


def race(m, s=0.6, t0=0.2):
    """Share of choice 0, mean rt, and mean rt of choice 0, of a lognormal race at means m of both logarithms."""
    # E[X_i; X_i < X_j] = exp(m_i + s² / 2) Phi((m_j - m_i - s²) / (s sqrt 2)).
    first = norm.cdf((m[1] - m[0]) / (s * 2**0.5))
    parts = [np.exp(m[i] + s**2 / 2) * norm.cdf((m[1 - i] - m[i] - s**2) / (s * 2**0.5)) for i in (0, 1)]
    return first, t0 + parts[0] + parts[1], t0 + parts[0] / first


def test_a_race_by_hand():
    """Typical subjects by closed forms; averages over subjects by quadrature, within 1 % for 100 quasi-random ones."""
    trials = experiment()
    trials = trials.assign(response=(trials["response"] > 0).astype(int))
    priors = {
        "m0_Intercept": dist.Normal(-1.0, 0.1),
        "m0_condition": dist.Normal(0.4, 0.1),
        "m1_Intercept": dist.Normal(-0.7, 0.1),
        "m0_1|subject_sigma": dist.Gamma(40.0, 80.0),
    }
    formulas = {"m0": "condition + (1|subject)", "m1": "1", "s": 0.6, "t0": 0.2}
    model = hs.HierarchicalModel(formulas, trials, "lnr", likelihood="exact", priors=priors)
    posterior, draws = as_posterior(model, draws=40)
    names = ("probability[0]", "rt_mean", "rt_mean[0]")
    z, weight = np.polynomial.hermite_e.hermegauss(40)
    weight = weight / weight.sum()
    m0 = {"easy": draws["m0_Intercept"], "hard": draws["m0_Intercept"] + draws["m0_condition"][:, 0]}
    of = {"typical": {}, "average": {}}
    for condition, m in m0.items():
        spread = m[:, None] + draws["m0_1|subject_sigma"][:, None] * z
        of["typical"][condition] = dict(zip(names, race((m, draws["m1_Intercept"])), strict=True))
        new = race((spread, draws["m1_Intercept"][:, None]))
        of["average"][condition] = {name: x @ weight for name, x in zip(names, new, strict=True)}
    table = hs.predictions(model, posterior, by="condition", draws=40, groups=100)
    pairs = hs.comparisons(model, posterior, {"condition": ("hard", "easy")}, draws=40, groups=100)
    for level, rtol in (("typical", 1e-5), ("average", 1e-2)):
        for name in names:
            hard, easy = of[level]["hard"][name], of[level]["easy"][name]
            assert_summary(told(table, level=level, quantity=name, condition="hard"), hard, rtol)
            of_pairs = {"level": level, "quantity": name}
            assert_summary(told(pairs, contrast="hard / easy", **of_pairs), hard / easy, rtol)
            row = told(pairs, contrast="hard - easy", **of_pairs)
            np.testing.assert_allclose(row["mean"], (hard - easy).mean(), atol=rtol)
            assert row["direction"] == max((hard > easy).mean(), (hard < easy).mean())
    # The two answers differ by more than what is allowed for.
    gap = of["typical"]["easy"]["rt_mean[0]"].mean() / of["average"]["easy"]["rt_mean[0]"].mean() - 1
    assert abs(gap) > 0.02


def test_comparisons_are_computed_draw_by_draw(asked):
    model, posterior, draws = asked
    table = hs.comparisons(model, posterior, HARD, rope={"v": 0.4}, draws=120)
    difference = draws["v_condition"][:, 0]
    row = told(table, contrast="hard - easy", level="typical", quantity="v")
    assert_summary(row, difference)
    assert row["direction"] == max((difference > 0).mean(), (difference < 0).mean())
    assert row["in_rope"] == (abs(difference) <= 0.4).mean()
    a, t0 = np.exp(draws["a_Intercept"]), np.exp(draws["t0_Intercept"])
    easy, hard = (mean_rt(v, a, t0) for v in (draws["v_Intercept"], draws["v_Intercept"] + difference))
    assert_summary(told(table, contrast="hard - easy", level="typical", quantity="rt_mean"), hard - easy, rtol=1e-4)
    ratio = told(table, contrast="hard / easy", level="typical", quantity="rt_mean")
    assert_summary(ratio, hard / easy, rtol=1e-5)
    assert ratio["direction"] == max((hard > easy).mean(), (hard < easy).mean())
    assert np.isnan(told(table, contrast="hard - easy", level="typical", quantity="rt_mean")["in_rope"])


def test_what_cannot_differ_is_no_row(asked):
    """a and t0, whose formulas lack the condition; with parts of groups, (x|g) or a race's own match, there may be a
    difference."""
    model, posterior, _ = asked
    assert set(hs.comparisons(model, posterior, HARD, draws=0)["quantity"]) == {"v"}
    formulas = ["v ~ condition", "a ~ 1 + (condition|subject)", "t0 ~ 1 + (1|gr(subject, by=group))", "z = 0.5"]
    model = model_of(formulas, None)
    posterior, _ = as_posterior(model, draws=10)
    assert set(hs.comparisons(model, posterior, HARD, draws=0)["quantity"]) == {"v", "a"}
    groups = {"group": ("old", "young")}
    assert set(hs.comparisons(model, posterior, groups, draws=0)["quantity"]) == {"t0"}
    table = experiment().assign(S=np.arange(150) % 2, response=lambda t: (t["response"] > 0).astype(int))
    race = hs.HierarchicalModel("v ~ match", table, "lba", stimulus="S")
    posterior, _ = as_posterior(race, draws=10)
    assert set(hs.comparisons(race, posterior, {"S": (0, 1)}, draws=0)["quantity"]) == {"v0", "v1"}


def test_a_column_of_lapses_alone_is_not_compared():
    model = model_of([*FORMULAS, "lapse ~ group"])
    posterior, _ = as_posterior(model, draws=10)
    with pytest.raises(hs.InputError, match="nothing that is compared differs with 'group': no formula of 'ddm'"):
        hs.comparisons(model, posterior, {"group": ("old", "young")})


def test_comparisons_in_groups_and_by_other_columns():
    model = model_of(["v ~ condition * group + (condition|subject)", "a = 1.0", "z = 0.5", "t0 = 0.3"], None)
    posterior, draws = as_posterior(model, draws=40)
    options = {"variables": {"condition": ("easy", "hard")}, "draws": 0}
    by = hs.comparisons(model, posterior, by="group", **options)
    effect = {"old": -draws["v_condition"][:, 0]}
    effect["young"] = effect["old"] - draws["v_condition:group"][:, 0]
    for group, expected in effect.items():
        row = told(by, contrast="easy - hard", group=group, level="typical", quantity="v")
        assert_summary(row, expected, rtol=1e-5)
    each = hs.comparisons(model, posterior, level="subject", **options)
    expected = effect["young"] - draws["v_condition|subject"][:, 3, 0]
    assert_summary(told(each, contrast="easy - hard", subject="s03", quantity="v"), expected, rtol=1e-5)


def test_comparisons_of_a_covariate_and_of_several_columns():
    model = model_of(["v ~ scale(x) + condition", "a = 1.0", "z = 0.5", "t0 = 0.3"], None)
    posterior, draws = as_posterior(model, draws=40)
    table = hs.comparisons(model, posterior, {"x": (1.0, -1), "condition": ("hard", "easy")}, draws=0)
    expected = draws["v_scale(x)"] * 2.0 / experiment()["x"].std(ddof=0) + draws["v_condition"][:, 0]
    assert_summary(told(table, contrast="1.0, hard - -1, easy", level="typical", quantity="v"), expected, rtol=1e-5)


def test_one_row_per_subject(asked):
    model, posterior, draws = asked
    table = hs.subject_table(model, posterior, by="condition")
    assert table["subject"].tolist() == ["s00", "s01", "s02", "s03"]
    v = draws["v_Intercept"][:, None] + draws["v_condition"] + draws["v_1|subject"]
    np.testing.assert_allclose(table["v_hard"], v.mean(0), rtol=1e-6)
    np.testing.assert_allclose(table["v_hard_sd"], v.std(0), rtol=1e-6)
    a = np.exp(draws["a_Intercept"][:, None] + draws["a_1|subject"])
    np.testing.assert_allclose(table["a"], a.mean(0), rtol=1e-5)
    assert table.columns.tolist()[:5] == ["subject", "v_easy", "v_easy_sd", "v_hard", "v_hard_sd"]


def test_one_row_per_subject_has_what_is_the_same_in_all_its_trials():
    model = model_of(["v ~ group + (1|subject)", "a = 1.0", "z = 0.5", "t0 = 0.3"], None)
    posterior, _ = as_posterior(model, draws=10)
    table = hs.subject_table(model, posterior)
    assert table[["subject", "group"]].values.tolist() == [
        ["s00", "old"],
        ["s01", "old"],
        ["s02", "young"],
        ["s03", "young"],
    ]
    assert table.columns.tolist() == ["subject", "group", "v", "v_sd"]


@pytest.mark.filterwarnings("error")
def test_one_row_per_subject_has_every_column_and_warns_of_nothing():
    """A predictor that is called as a parameter, and a covariate that differs in every trial."""
    trials = experiment().assign(a=lambda t: (t["subject"] < "s02").astype(float))
    model = model_of(["v ~ a + x + (1|subject)", "z = 0.5", "t0 = 0.3"], None, trials)
    posterior, draws = as_posterior(model, draws=10)
    table = hs.subject_table(model, posterior)
    assert table.columns.tolist() == ["subject", "a", "v", "v_sd", "a_", "a_sd"]
    assert table["a"].tolist() == [1.0, 1.0, 0.0, 0.0]
    np.testing.assert_allclose(table["a_"], np.exp(draws["a_Intercept"]).mean(), rtol=1e-6)
    assert hs.subject_table(model, posterior, by="x").shape == (4, 2 + 2 * 150 + 2)


def test_labels_of_groups_keep_their_type():
    trials = experiment()
    numbered = trials.assign(subject=trials["subject"].map({"s00": 205, "s01": 3, "s02": 7, "s03": 11}))
    model = model_of(trials=numbered)
    posterior, draws = as_posterior(model, draws=10)
    table = hs.predictions(model, posterior, level="subject", draws=0)
    v = draws["v_Intercept"] + draws["v_1|subject"][:, 3] + draws["v_condition"][:, 0] / 3
    assert_summary(told(table, subject=205, quantity="v"), v)


HARD = {"condition": ("hard", "easy")}
REFUSED = {
    "an unknown column": (
        lambda m, p: hs.predictions(m, p, by=["conditon"]),
        "no predictor of this model; did you mean",
    ),
    "groups as cells": (lambda m, p: hs.predictions(m, p, by="subject"), "names groups: .* write level='subject'"),
    "an unknown level": (lambda m, p: hs.predictions(m, p, level="item"), "must be one of 'population', 'subject'"),
    "draws": (lambda m, p: hs.predictions(m, p, draws=-1), "draws must be a whole number of at least 0; got -1"),
    "one group": (lambda m, p: hs.predictions(m, p, groups=1), "groups must be a whole number of at least 2"),
    "no predictor": (lambda m, p: hs.comparisons(m, p, {"cond": ("a", "b")}), "'cond' is no predictor of this model"),
    "a level that is not there": (
        lambda m, p: hs.comparisons(m, p, {"condition": ("hart", "easy")}),
        "column 'condition' has no level 'hart'; did you mean 'hard'",
    ),
    "no pair": (lambda m, p: hs.comparisons(m, p, {"condition": "hard"}), "must be a pair"),
    "no dict": (lambda m, p: hs.comparisons(m, p, ["condition"]), "variables must be a dict of column"),
    "compared and by": (lambda m, p: hs.comparisons(m, p, HARD, by="condition"), "by='condition' is no predictor"),
    "a rope of what is the same": (
        lambda m, p: hs.comparisons(m, p, HARD, rope={"a": 0.1}, draws=0),
        "rope names 'a', which is the same in both",
    ),
    "a rope of nothing": (lambda m, p: hs.comparisons(m, p, HARD, rope={"w": 1.0}, draws=0), "rope names 'w'"),
    "one value": (lambda m, p: hs.comparisons(m, p, {"condition": ("hard", "hard")}), "must be two different values"),
    "a rope in words": (lambda m, p: hs.comparisons(m, p, HARD, rope={"v": "small"}, draws=0), "must be the largest"),
    "a rope of all": (lambda m, p: hs.comparisons(m, p, HARD, rope=0.1, draws=0), "rope must be a dict of quantity"),
    "an empty rope": (lambda m, p: hs.comparisons(m, p, HARD, rope={"v": (1.0, 0.0)}, draws=0), "must be the largest"),
    "no posterior": (lambda m, p: hs.predictions(m, pd.DataFrame()), "posterior must be what model.fit returned"),
    "lists as values": (lambda m, p: hs.comparisons(m, p, {"condition": (["hard"], ["easy"])}), "each one for all"),
    "a rope of a number": (lambda m, p: hs.comparisons(m, p, HARD, rope={3: 0.1}, draws=0), "rope names 3, which is"),
    "a rope of true": (lambda m, p: hs.comparisons(m, p, HARD, rope={"v": True}, draws=0), "must be the largest"),
    "a rope without ends": (
        lambda m, p: hs.comparisons(m, p, HARD, rope={"v": np.inf}, draws=0),
        "must be the largest",
    ),
    "by a number": (lambda m, p: hs.predictions(m, p, by=3), "by must be a column, or a list of columns"),
    "by a set": (lambda m, p: hs.predictions(m, p, by={"condition"}), "by must be a column, or a list of columns"),
    "subjects of a population": (
        lambda m, p: hs.subject_table(m, p, level="population"),
        "level='population' is no group; expected one of .'subject'.",
    ),
    "one draw": (lambda m, p: hs.predictions(m, p["posterior"].isel(chain=0, draw=0)), "along the dimensions 'chain'"),
    "a mean": (
        lambda m, p: hs.predictions(m, p["posterior"].mean(("chain", "draw"))),
        "must have draws, along the dim",
    ),
    "no draws": (
        lambda m, p: hs.predictions(m, p["posterior"].isel(draw=slice(0, 0))),
        "must have draws, along the dim",
    ),
    "chains as one": (
        lambda m, p: hs.predictions(m, p["posterior"].stack(sample=("chain", "draw"))),
        "must have draws, along the dim",
    ),
    "no numbers": (
        lambda m, p: hs.predictions(m, p["posterior"] * np.nan),
        "draws that are no numbers, of v_Intercept",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(asked, what):
    model, posterior, _ = asked
    ask, message = REFUSED[what]
    with pytest.raises(hs.InputError, match=message):
        ask(model, posterior)


def test_a_posterior_of_another_model(asked):
    _, posterior, _ = asked
    other = model_of([*FORMULAS[:1], "a ~ condition", "z = 0.5"], None)
    asking = (hs.predictions, hs.subject_table, lambda m, p: hs.comparisons(m, p, {"condition": ("hard", "easy")}))
    for ask in asking:
        with pytest.raises(hs.InputError, match="the posterior is not of this model: it lacks a_condition"):
            ask(other, posterior)


def test_an_average_over_a_covariate_in_every_trial():
    """E exp(mu + b x + s z + t x w) = exp(mu + b x + (s² + x² t²) / 2) in every row: 1 % for 30 rows and 500 groups."""
    model = model_of(["v ~ 1", "a ~ x + (x||subject)", "z = 0.5", "t0 = 0.3"], {"sigma": dist.HalfNormal(0.3)})
    posterior, draws = as_posterior(model, draws=40)
    x = experiment()["x"].to_numpy()
    table = hs.predictions(model, posterior, draws=0, groups=500)
    mu = draws["a_Intercept"][:, None] + draws["a_x"][:, None] * x
    spread = draws["a_1|subject_sigma"][:, None] ** 2 + (x * draws["a_x|subject_sigma"][:, None]) ** 2
    typical, average = np.exp(mu).mean(1), np.exp(mu + spread / 2).mean(1)
    assert_summary(told(table, level="typical", quantity="a"), typical, rtol=1e-4)
    found = told(table, level="average", quantity="a")["mean"]
    assert found == pytest.approx(average.mean(), rel=0.01)
    assert average.mean() > 1.02 * typical.mean()
