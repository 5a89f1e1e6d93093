"""What a model assumes: its equations, and what its prior implies, against draws of the prior by hand."""

import numpy as np
import pyro.distributions as dist
import pytest
from factory import Poisson, bake
from scipy.stats import halfnorm, norm

import hddm_sbi as hs


@pytest.fixture(scope="module")
def trials():
    table = hs.simulate_experiment(n_subjects=4, n_trials=20).trials
    n = np.arange(len(table))
    return table.assign(x=np.cos(n), k=n % 4, half=np.where(n % 2, 0.5, -0.5))


def equations_of(formulas, trials, **options):
    table = hs.HierarchicalModel(formulas, trials, likelihood="exact", **options).describe().equations
    return {(row.parameter, row.cell): row.equation for row in table.itertuples()}


def test_every_design_cell_has_its_equation(trials):
    found = equations_of(["v ~ condition + (condition|subject)", "a ~ condition", "z = 0.5"], trials)
    assert found == {
        ("v", "condition = easy"): "v = v_Intercept + v_1|subject",
        ("v", "condition = hard"): "v = v_Intercept + v_condition[hard] + v_1|subject + v_condition|subject[hard]",
        ("a", "condition = easy"): "a = exp(a_Intercept)",
        ("a", "condition = hard"): "a = exp(a_Intercept + a_condition[hard])",
        ("z", ""): "z = 0.5",
        ("t0", ""): "t0 = exp(t0_Intercept)",
    }


EQUATIONS = {
    "0 + condition": {"condition = easy": "v_condition[easy]", "condition = hard": "v_condition[hard]"},
    "S(condition)": {
        "condition = easy": "v_Intercept + v_S(condition)[easy]",
        "condition = hard": "v_Intercept - v_S(condition)[easy]",
    },
    "condition * x": {
        "condition = easy": "v_Intercept + v_x * x",
        "condition = hard": "v_Intercept + v_condition[hard] + v_x * x + v_condition:x[hard] * x",
    },
    "offset(x) + mo(k)": {"": "v_Intercept + v_mo(k) * mo(k) + offset"},
    "s(x) + (0 + x|subject)": {"": "v_Intercept + v_s(x) * s(x) + wiggles of s(x) + v_x|subject * x"},
}


@pytest.mark.parametrize("rhs", EQUATIONS)
def test_equations_of_other_codings(trials, rhs):
    found = equations_of({"v": rhs}, trials)
    assert {cell: text for (name, cell), text in found.items() if name == "v"} == {
        cell: f"v = {text}" for cell, text in EQUATIONS[rhs].items()
    }


def test_a_race_has_the_equations_of_its_accumulators_by_stimulus(trials):
    table = trials.assign(S=np.where(np.arange(len(trials)) % 3, 1, 0), response=(trials["response"] > 0).astype(int))
    model = hs.HierarchicalModel("v ~ match", table, "lba", stimulus="S")
    found = {(r.parameter, r.cell): r.equation for r in model.describe().equations.itertuples()}
    assert found["v0", "S = 0"] == "v0 = v_Intercept + v_match"
    assert found["v0", "S = 1"] == "v0 = v_Intercept"
    assert found["v1", "S = 1"] == "v1 = v_Intercept + v_match"


def test_implied_parameters_are_quantiles_of_the_prior(trials):
    """Of 2 000 draws: within 5 standard errors of the quantiles of the law by hand (6e-7 each)."""
    n = 2_000
    priors = {"v_Intercept": dist.Normal(1.0, 0.5), "v_condition": dist.Normal(-0.5, 0.2)}
    priors |= {"a_Intercept": dist.Normal(0.1, 0.3), "v_1|subject_sigma": dist.HalfNormal(0.8)}
    formulas = ["v ~ condition + (1|subject)", "z = 0.5", "t0 = 0.3"]
    model = hs.HierarchicalModel(formulas, trials, likelihood="exact", priors=priors)
    table = model.describe(draws=n).parameters.set_index(["quantity", "level", "condition"])
    rng = np.random.default_rng(1)
    big = rng.normal(1.0, 0.5, 400_000) + halfnorm(scale=0.8).rvs(400_000, random_state=rng) * rng.normal(size=400_000)
    laws = {
        ("v", "typical", "easy"): norm(1.0, 0.5),
        ("v", "typical", "hard"): norm(0.5, np.hypot(0.5, 0.2)),
        ("a", "typical", "easy"): np.exp(norm(0.1, 0.3).rvs(400_000, random_state=rng)),
        ("v", "new", "easy"): big,
    }
    for where, law in laws.items():
        sample = law if isinstance(law, np.ndarray) else law.rvs(400_000, random_state=rng)
        for q in (0.05, 0.5, 0.95):
            low, high = np.quantile(
                sample, [max(q - 5 * (q * (1 - q) / n) ** 0.5, 0.001), q + 5 * (q * (1 - q) / n) ** 0.5]
            )
            assert low < table.loc[where, f"q{100 * q:.0f}"] < high, (where, q)


def test_implied_outcomes_are_those_of_draws_of_the_prior(trials):
    """P(upper) = 1 / (1 + exp(-2 v a)) and E[rt] = t0 + a tanh(v a) / v at draws by hand, 1 000 of ours."""
    n = 1_000
    priors = {"v_Intercept": dist.Normal(1.0, 0.5), "a_Intercept": dist.Normal(0.1, 0.3)}
    model = hs.HierarchicalModel(["v ~ 1", "z = 0.5", "t0 = 0.3"], trials, likelihood="exact", priors=priors)
    table = model.describe(draws=n).outcomes.set_index("quantity")
    rng = np.random.default_rng(2)
    v, a = rng.normal(1.0, 0.5, 400_000), np.exp(rng.normal(0.1, 0.3, 400_000))
    laws = {"probability[1]": 1 / (1 + np.exp(-2 * v * a)), "rt_mean": 0.3 + a * np.tanh(v * a) / v}
    for name, sample in laws.items():
        for q in (0.25, 0.5, 0.75):
            low, high = np.quantile(sample, [q - 5 * (q * (1 - q) / n) ** 0.5, q + 5 * (q * (1 - q) / n) ** 0.5])
            assert low < table.loc[name, f"q{100 * q:.0f}"] < high, (name, q)


def test_accuracy_is_named_where_it_is_known(trials):
    named = trials.assign(response=np.where(trials["response"] > 0, "correct", "error"))
    model = hs.HierarchicalModel("v ~ condition", named, likelihood="exact", upper="correct")
    table = model.describe(draws=20).outcomes
    accuracy, correct = (table[table["quantity"] == q] for q in ("accuracy", "probability[correct]"))
    np.testing.assert_array_equal(accuracy["q50"], correct["q50"])
    assert accuracy["condition"].tolist() == ["easy", "hard"]


def test_it_prints_in_a_terminal_and_in_a_notebook(trials):
    model = hs.HierarchicalModel(["v ~ condition + (1|subject)"], trials, likelihood="exact")
    description = model.describe(draws=20)
    text, html = str(description), description._repr_html_()
    for part in ("v = v_Intercept + v_1|subject    where condition = easy", "HalfNormal(scale=1)", "rt_q50"):
        assert part in text
    assert "pilot" not in vars(model)
    assert html.count("<table") == 4
    assert repr(description) == text


def test_other_outcomes_are_described_by_their_means():
    model = hs.HierarchicalModel("rate ~ 1 + (1|location)", bake(), likelihood=Poisson())
    table = model.describe(draws=20).outcomes
    assert table["quantity"].tolist() == ["chips_mean"]
    assert "chips_mean" in str(model.describe(draws=20))


@pytest.mark.parametrize(("argument", "value"), [("draws", 0), ("draws", 1.5), ("draws", True), ("seed", -1)])
def test_numbers_that_are_none(trials, argument, value):
    model = hs.HierarchicalModel("v ~ 1", trials, likelihood="exact")
    with pytest.raises(hs.InputError, match=f"{argument} must be a whole number of at least"):
        model.describe(**{argument: value})


def test_a_cell_is_named_by_what_makes_a_difference(trials):
    table = trials.assign(side=np.where(np.arange(len(trials)) % 3, "left", "right"))
    found = equations_of(["v ~ condition * side", "a ~ side + (1|gr(subject, by=group))", "z = 0.5"], with_group(table))
    assert {cell for name, cell in found if name == "a"} == {"side = left", "side = right"}
    assert ("v", "condition = hard, side = right") in found
    assert found["v", "condition = hard, side = right"].endswith(
        "v_condition[hard] + v_side[right] + v_condition:side[hard, right]"
    )


def with_group(table):
    return table.assign(group=np.where(table["subject"] < "s02", "old", "young"))


def test_accumulators_are_told_apart_by_stimulus_and_condition(trials):
    table = trials.assign(S=np.where(np.arange(len(trials)) % 3, 1, 0), response=(trials["response"] > 0).astype(int))
    model = hs.HierarchicalModel(["v ~ match + condition", "B ~ choice"], table, "lba", stimulus="S")
    found = {(r.parameter, r.cell): r.equation for r in model.describe().equations.itertuples()}
    assert found["v0", "condition = hard, S = 0"] == "v0 = v_Intercept + v_match + v_condition[hard]"
    assert found["B1", ""] == "B1 = exp(B_Intercept + B_choice[1])"
