"""A new table is coded by the one that was fitted: the rows of a part of it are those that they were."""

import numpy as np
import pandas as pd
import pytest

import hddm_sbi as hs
from hddm_sbi.data import Coding, build_designs, find_cells, parse_formulas

RHS = [
    "c*x", "0 + c", "c + scale(x)", "poly(x, 2)", "bs(x, df=5)", "cr(x, df=4)", "tp(x, df=4)", "s(x)", "s(x, k=5) + c",
    "mo(k)", "mo(o) + c", "offset(x) + 1", "C(k)", "T(c, 'b')", "S(c)", "I(x - np.mean(x))", "I(x / np.std(x))",
    "c*g*x",
    "b", "np.exp(x)", "x + (x|s)", "c + (0 + c||s)", "1 + (1|gr(s, by=grp))", "scale(np.log(abs(x) + 1))", "C(k):x",
]  # fmt: skip


@pytest.fixture(scope="module")
def table():
    rng, n = np.random.default_rng(1), 200
    columns = {"c": rng.choice(list("abc"), n), "g": rng.choice(["u", "w"], n), "x": rng.normal(size=n)}
    columns |= {"k": rng.integers(0, 4, n), "s": rng.integers(0, 10, n), "b": rng.random(n) > 0.5}
    ordered = pd.Categorical(rng.choice(["lo", "mid", "hi"], n), ["lo", "mid", "hi"], ordered=True)
    return pd.DataFrame(columns).assign(o=ordered, grp=np.where(columns["s"] < 5, "p", "q"))


def design_of(formulas, table, coding=None):
    cells = find_cells(table, list(table))
    return build_designs(formulas, table, cells, None, coding)["v"], cells.of_trial


@pytest.mark.parametrize("rhs", RHS)
def test_rows_of_a_new_table_are_coded_as_they_were(table, rhs):
    """Five of the rows, in which not every level occurs."""
    formulas, some = parse_formulas({"v": rhs}, ["v"]), [3, 50, 51, 120, 199]
    fitted, cell = design_of(formulas, table)
    new, new_cell = design_of(formulas, table.iloc[some].reset_index(drop=True), Coding(table))
    parts = list(zip((fitted, new), (cell[some], new_cell), strict=True))
    matrices = [
        [x.matrix[rows] for x in (*d.common, *(t for g in d.groups for t in g.terms))]
        + [x.wiggles[rows] for x in d.common if hasattr(x, "wiggles")]
        + ([] if d.offset is None else [d.offset[rows]])
        for d, rows in parts
    ]
    assert len(matrices[0]) > 0
    for ours, theirs in zip(*matrices, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-12)
    assert [t.levels for t in fitted.common] == [t.levels for t in new.common]
    levels = [[[g.levels[i] for i in g.index[rows]] for g in d.groups] for d, rows in parts]
    assert levels[0] == levels[1]


@pytest.fixture(scope="module")
def model():
    trials = hs.simulate_experiment(n_subjects=3, n_trials=20).trials
    trials["load"] = np.arange(len(trials)) % 4
    formulas = ["v ~ condition + load + (1|subject)", "a ~ mo(load)", "z = 0.5"]
    return hs.HierarchicalModel(formulas, trials, likelihood="exact", deadline=3.0)


REFUSED = {
    "a level": (
        {"condition": "medium"},
        r"column 'condition' holds 'medium' in row 0 .*; its levels there are 'easy', ",
    ),
    "text for numbers": ({"load": "two"}, r"column 'load' must be numbers, as in the table that was fitted; got 'two'"),
    "no step": ({"load": 7}, r"'load' has 7, and mo\(\) knows the steps of the table that was fitted, from 0 to 3"),
    "missing": ({"condition": None}, "column 'condition' has missing values in row 0"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_fitted_table_gives_no_meaning_is_refused(model, what):
    change, message = REFUSED[what]
    with pytest.raises(hs.InputError, match=message):
        model.on_table(pd.DataFrame([{"condition": "easy", "load": 1, "subject": "new", **change}]))


def test_a_column_that_is_not_there(model):
    with pytest.raises(hs.InputError, match="the data have no column 'load'"):
        model.on_table(pd.DataFrame({"condition": ["easy"], "subject": ["new"]}))


@pytest.mark.parametrize(
    "coding", [{"withheld": -1}, {"withheld": "no", "upper": "go"}, {"withheld": -1, "upper": "go"}]
)
def test_the_withheld_response_is_the_same_in_a_new_table(coding):
    """By its name, or by its code."""
    names = {1: "go", -1: "no"} if "upper" in coding else {1: 1, -1: -1}
    table = pd.DataFrame({"rt": [0.5, np.nan, 0.7], "response": [names[1], names[-1], names[1]], "limit": 2.0})
    model = hs.HierarchicalModel("v ~ 1", table, likelihood="exact", deadline="limit", **coding)
    assert model.trials.observation.withheld == 0
    new = model.on_table(pd.DataFrame({"limit": [1.0, 3.0]}))
    assert new.trials.observation.withheld == 0
    np.testing.assert_array_equal(new.trials.observation.seen(np.array([[0.6, 0], [0.6, 1]])), [[np.nan] * 2, [0.6, 1]])
    with pytest.raises(hs.InputError, match=r"deadline='limit' must be in seconds.*is 1500 in row 1"):
        model.on_table(pd.DataFrame({"limit": [1.0, 1500.0]}))


def test_a_new_table_has_no_outcomes_and_its_own_groups(model):
    new = model.on_table(pd.DataFrame({"condition": "easy", "subject": ["Ada", "s01"], "load": [0, 1.0]}))
    assert np.isnan(new.trials.values).all()
    assert new.trials.observation.deadline.tolist() == [3.0, 3.0]
    assert {g.levels for g in new.uncentred.groups} == {("Ada", "s01")}
    assert model.grouping_columns == ("subject",)
    assert model.design_columns == ("condition", "load")
