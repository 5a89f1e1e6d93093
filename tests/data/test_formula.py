"""Formulas become the matrices of textbooks: contrasts by hand, groups by pandas, transforms by their definition."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from hddm_sbi.data.columns import check_columns
from hddm_sbi.data.design import find_cells
from hddm_sbi.data.design_matrices import build_designs
from hddm_sbi.data.formula import columns_used, parse_formulas
from hddm_sbi.errors import InputError

DDM = ("v", "a", "z", "t0")
N = 600


def experiment():
    """One row per trial of a made-up experiment."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "condition": rng.choice(["easy", "hard", "medium"], N),
            "side": rng.choice(["left", "right"], N),
            "x": rng.normal(2.0, 3.0, N),
            "load": rng.integers(1, 5, N),
            "correct": rng.random(N) < 0.5,
            "subject": rng.integers(0, 12, N),
            "day": rng.choice(["mon", "tue"], N),
            "one": "same",
            "const": 2.0,
            "Intercept": rng.normal(size=N),
            "my column": rng.normal(size=N),
        }
    )
    table["x2"] = 2 * table["x"] + 1
    table["date"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(table["load"], "D")
    return table


@pytest.fixture(scope="module")
def data():
    return experiment()


def designs_of(formulas, data):
    """The design of every formula and the cell of every trial, as a model makes them."""
    parsed = parse_formulas(formulas, DDM)
    used = columns_used(parsed)
    frame = check_columns(data, used)
    cells = find_cells(frame, used)
    return build_designs(parsed, frame, cells), cells.of_trial


def design(rhs, data):
    """The design of one formula and the cell of every trial."""
    designs, cell = designs_of({"v": rhs, "a": 1.0, "z": 0.5, "t0": 0.3}, data)
    assert list(designs) == ["v"]
    return designs["v"], cell


def common(rhs, data):
    """Common terms on the trials: names, levels, matrix."""
    built, cell = design(rhs, data)
    matrix = np.concatenate([term.matrix for term in built.common], axis=1)[cell]
    return [term.name for term in built.common], [term.levels for term in built.common], matrix


def indicators(column, levels):
    return np.stack([(column == level).to_numpy(dtype=float) for level in levels], axis=1)


def products(left, right):
    """Column products, the right factor varying fastest."""
    return (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)


def by_hand(data):
    """Formula -> its columns, written out by hand (treatment coding: first level in sorted order is the reference)."""
    one = np.ones((N, 1))
    full = indicators(data["condition"], ["easy", "hard", "medium"])
    condition, side = full[:, 1:], indicators(data["side"], ["right"])
    both_sides = indicators(data["side"], ["left", "right"])
    x, load = data[["x"]].to_numpy(), data[["load"]].to_numpy(dtype=float)
    deviation = full[:, :2] - full[:, 2:]
    return {
        "1": [one],
        "condition": [one, condition],
        "1 + condition": [one, condition],
        "0 + condition": [full],
        "condition - 1": [full],
        "-1 + condition": [full],
        "condition * side": [one, condition, side, products(condition, side)],
        "condition:side + condition": [one, condition, products(full, side)],
        "condition/side": [one, condition, products(full, side)],
        "0 + condition:side": [products(full, both_sides)],
        "condition:side": [one, side, products(condition, both_sides)],
        "condition + side": [one, condition, side],
        "(condition + side)**2": [one, condition, side, products(condition, side)],
        "condition*side - condition:side": [one, condition, side],
        "x": [one, x],
        "0 + x": [x],
        "x * load": [one, x, load, x * load],
        "x * condition": [one, x, condition, products(x, condition)],
        "side + condition:x": [one, side, full * x],
        "0 + condition + condition:x": [full, full * x],
        "C(load)": [one, indicators(data["load"], [2, 3, 4])],
        "0 + C(load)": [indicators(data["load"], [1, 2, 3, 4])],
        "C(condition, Sum)": [one, deviation],
        "S(condition)": [one, deviation],
        "C(condition, Treatment('medium'))": [one, full[:, :2]],
        "T(condition, ref='hard')": [one, full[:, [0, 2]]],
        "correct": [one, data[["correct"]].to_numpy(dtype=float)],
        "I(x**2) + x": [one, x**2, x],
        "{x + load}": [one, x + load],
        "np.log(load)": [one, np.log(load)],
        "log(load) + sqrt(load)": [one, np.log(load), np.sqrt(load)],
        "exp(-x)": [one, np.exp(-x)],
        "I(condition == 'hard')": [one, full[:, [1]]],
        "center(x)": [one, x - x.mean()],
        "scale(x)": [one, (x - x.mean()) / x.std()],
        "scale(x)*side": [one, (x - x.mean()) / x.std(), side, products((x - x.mean()) / x.std(), side)],
        "`my column`": [one, data[["my column"]].to_numpy()],
    }


@pytest.mark.parametrize("formula", list(by_hand(experiment())))
def test_common_matrices_equal_contrasts_written_by_hand(data, formula):
    expected = np.concatenate(by_hand(data)[formula], axis=1)
    assert np.allclose(common(formula, data)[2], expected, rtol=1e-13, atol=1e-13)


def test_indicators_equal_pandas_dummies(data):
    dummies = pd.get_dummies(data[["condition", "side"]], drop_first=True, dtype=float)
    names, levels, matrix = common("condition + side", data)
    assert np.array_equal(matrix[:, 1:], dummies.to_numpy())
    assert names == ["Intercept", "condition", "side"]
    assert levels == [None, ("hard", "medium"), ("right",)]


@pytest.mark.parametrize(
    ("formula", "names", "levels"),
    [
        ("x", ["Intercept", "x"], [None, None]),
        ("x*load", ["Intercept", "x", "load", "x:load"], [None] * 4),
        ("side:x", ["Intercept", "side:x"], [None, ("left", "right")]),
        ("0 + condition:side", ["condition:side"],
         [("easy, left", "easy, right", "hard, left", "hard, right", "medium, left", "medium, right")]),
        ("scale( x )", ["Intercept", "scale(x)"], [None, None]),
        ("poly(x, 2)", ["Intercept", "poly(x, 2)"], [None, ("0", "1")]),
        ("C(load)", ["Intercept", "C(load)"], [None, (2, 3, 4)]),
        ("C(load, Sum)", ["Intercept", "C(load, Sum)"], [None, (1, 2, 3)]),
        ("correct", ["Intercept", "correct"], [None, (True,)]),
        # what files keep for themselves, and what the intercept is called
        ("I(x / 10)", ["Intercept", "I(x \u2215 10)"], [None, None]),
        ("Intercept", ["Intercept", "Intercept_"], [None, None]),
        ("0 + Intercept", ["Intercept_"], [None]),
        # a is coded differently in a and in a:b; each keeps its own labels.
        ("side/condition", ["Intercept", "side", "side:condition"],
         [None, ("right",), ("left, hard", "left, medium", "right, hard", "right, medium")]),
    ],
)  # fmt: skip
def test_names_and_levels(data, formula, names, levels):
    built = common(formula, data)
    assert built[0] == names
    assert built[1] == levels
    for term in design(formula, data)[0].common:
        assert term.matrix.shape[1] == len(term.columns)
        assert term.matrix.dtype == np.float64


def test_polynomials_are_orthonormal_over_trials_not_cells(data):
    matrix = common("poly(load, 3)", data)[2]
    assert np.allclose(matrix[:, 1:].T @ matrix[:, 1:], np.eye(3), atol=1e-12)
    powers = np.vander(data["load"], 4, increasing=True)
    assert np.linalg.matrix_rank(np.hstack([matrix, powers])) == 4


def test_scaling_weighs_trials_not_cells():
    table = pd.DataFrame({"x": [0.0, 0.0, 0.0, 4.0]})
    built, cell = design("scale(x) + I(x - np.mean(x) == 0)", table.assign(x=[0.0, 1.0, 1.0, 2.0]))
    assert np.allclose(built.common[1].matrix[:, 0], np.array([-1, 0, 1]) / np.sqrt(0.5))
    assert np.array_equal(built.common[2].matrix[:, 0], [0.0, 1.0, 0.0])
    assert cell.tolist() == [0, 1, 1, 2]
    assert np.allclose(design("center(x)", table)[0].common[1].matrix[:, 0], [-1.0, 3.0])


def test_splines_sum_to_one_with_their_left_out_column(data):
    matrix = common("bs(x, df=5)", data)[2]
    assert matrix.shape == (N, 6)
    assert np.linalg.matrix_rank(matrix) == 6


def test_categories_keep_their_order_and_lose_unused_levels(data):
    order = pd.CategoricalDtype(["medium", "absent", "hard", "easy"])
    for ordered in (False, True):
        column = data["condition"].astype(pd.CategoricalDtype(order.categories, ordered=ordered))
        for formula in ("condition", "C(condition)"):
            assert common(formula, data.assign(condition=column))[1] == [None, ("hard", "easy")]
        assert design("(1|condition)", data.assign(condition=column))[0].groups[0].levels == ("medium", "hard", "easy")


@pytest.mark.parametrize("dtype", ["Int64", "int8", "float32", "Float64", "int64[pyarrow]"])
def test_numeric_types_are_numeric(data, dtype):
    _, levels, matrix = common("load", data.assign(load=data["load"].astype(dtype)))
    assert levels == [None, None]
    assert np.array_equal(matrix[:, 1], data["load"])


@pytest.mark.parametrize("dtype", ["object", "string", "category", "string[pyarrow]"])
def test_text_types_are_categorical(data, dtype):
    assert np.array_equal(common("side", data.assign(side=data["side"].astype(dtype)))[2], common("side", data)[2])


def test_the_table_is_left_as_it_was(data):
    before = data.copy(deep=True)
    design("scale(x)*condition + (condition|subject)", data)
    pd.testing.assert_frame_equal(data, before)


def test_cells_are_trials_that_share_every_column_of_every_formula(data):
    designs, cell = designs_of({"v": "condition + (1|subject)", "a": "side", "z": 0.5, "t0": "1"}, data)
    used = data[["condition", "subject", "side"]]
    assert cell.dtype == np.int64
    assert cell.max() + 1 == len(used.drop_duplicates())
    assert data.groupby(cell)[list(used.columns)].nunique().to_numpy().max() == 1
    assert np.array_equal(pd.unique(cell), np.arange(cell.max() + 1))
    assert list(designs) == ["v", "a", "t0"]
    assert all(len(term.matrix) == cell.max() + 1 for d in designs.values() for term in d.common)


def test_without_predictors_there_is_one_cell(data):
    built, cell = design("1", data)
    assert not cell.any()
    assert built.common[0].matrix.tolist() == [[1.0]]


def test_a_trial_level_covariate_makes_every_trial_a_cell(data):
    assert design("x", data)[1].tolist() == list(range(N))


@pytest.mark.parametrize(
    ("formula", "groups"),
    [
        ("(1|subject)", [("subject", ["1"], False)]),
        ("(x|subject)", [("subject", ["1", "x"], True)]),
        ("(1 + x|subject)", [("subject", ["1", "x"], True)]),
        ("(0 + x|subject)", [("subject", ["x"], False)]),
        ("(x - 1|subject)", [("subject", ["x"], False)]),
        ("(x || subject)", [("subject", ["1", "x"], False)]),
        ("(condition|subject)", [("subject", ["1", "condition"], True)]),
        ("(0 + condition|subject)", [("subject", ["condition"], True)]),
        ("(0 + condition||subject)", [("subject", ["condition"], False)]),
        ("(1|subject) + (0 + x|subject)", [("subject", ["1"], False), ("subject", ["x"], False)]),
        ("(1|subject) + (1|day)", [("subject", ["1"], False), ("day", ["1"], False)]),
        ("(1|subject + day)", [("subject", ["1"], False), ("day", ["1"], False)]),
        ("(1|subject/day)", [("subject", ["1"], False), ("subject:day", ["1"], False)]),
        ("(1|subject:day)", [("subject:day", ["1"], False)]),
        ("(x|p|subject)", [("subject", ["1", "x"], True)]),
        ("(1|p|subject) + (0 + x|p|subject)", [("subject", ["1"], True), ("subject", ["x"], True)]),
        ("(x|p|subject/day)", [("subject", ["1", "x"], True), ("subject:day", ["1", "x"], True)]),
        ("(1|gr(subject:day, by=day))", [("subject:day", ["1"], False)]),
        ("x + (side*x|subject) - 1", [("subject", ["1", "side", "x", "side:x"], True)]),
        ("0 + (1|subject)", [("subject", ["1"], False)]),
    ],
)  # fmt: skip
def test_group_terms(data, formula, groups):
    built, cell = design(formula, data)
    assert [(g.factor, [t.name for t in g.terms], g.correlated) for g in built.groups] == groups
    for group in built.groups:
        columns = group.factor.split(":")
        labels = data[columns[0]] if len(columns) == 1 else data[columns].astype(str).agg(":".join, axis=1)
        assert np.array_equal(np.array(group.levels)[group.index][cell], labels)
        assert set(group.levels) == set(labels)
        assert all(len(term.matrix) == cell.max() + 1 for term in group.terms)


def test_a_tag_is_a_name_and_no_column(data):
    parsed = parse_formulas(["v ~ x + (x | p | subject)", "a ~ (1|side|subject)"], DDM)
    assert columns_used(parsed) == ("x", "subject")
    assert [bar.tag for name in ("v", "a") for bar in parsed[name].bars] == ["p", "side"]
    designs, _ = designs_of({"v": "(x|p|subject)", "a": "(1|p|subject)"}, data)
    assert [group.tag for name in ("v", "a") for group in designs[name].groups] == ["p", "p"]


def test_parts_of_a_factor_are_told_by_a_column_that_is_constant_in_its_levels(data):
    table = data.assign(team=np.where(data["subject"] % 3 == 0, "red", "blue"), **{"my team": data["subject"] % 2})
    (group,) = design("(1|gr(subject, by=team))", table)[0].groups
    assert (group.by.column, group.by.levels) == ("team", ("blue", "red"))
    assert group.by.index.tolist() == [int(subject % 3 == 0) for subject in group.levels]
    (group,) = design("(1|p|gr(subject, by=`my team`)) + (0 + x|p|gr(subject, by=`my team`))", table)[0].groups[:1]
    assert (group.tag, group.by.column, group.by.levels) == ("p", "my team", (0, 1))
    table.loc[[7, 9], "team"] = "green"
    table.loc[[7, 9], "subject"] = 5
    expected = r"subject 5 has 'team' 'blue', and another in rows 7, 9 \(0 = first\); by= needs a column with one value"
    with pytest.raises(InputError, match=expected):
        design("(1|gr(subject, by=team))", table)


def test_group_effects_are_coded_like_the_same_common_terms(data):
    for effects in ("condition", "0 + condition", "condition*side", "scale(x)", "poly(x, 2)", "0 + side:x"):
        built, _ = design(f"{effects} + ({effects}|subject)", data)
        [group] = built.groups
        for mine, shared in zip(group.terms, built.common, strict=True):
            assert mine.name == shared.name.replace("Intercept", "1")
            assert mine.levels == shared.levels
            assert np.array_equal(mine.matrix, shared.matrix)


def test_slopes_without_intercept_keep_every_level_beside_an_intercept(data):
    # As in lme4; formulae itself would drop the first level because (1|subject) stands in the same formula.
    built, _ = design("(1|subject) + (0 + condition|subject)", data)
    assert built.groups[1].terms[0].levels == ("easy", "hard", "medium")


def test_group_levels_are_sorted_as_numbers_and_only_those_that_occur(data):
    table = data[(data["subject"] != 3) & ((data["subject"] != 10) | (data["day"] == "mon"))]
    built, _ = design("(1|subject/day)", table)
    assert built.groups[0].levels == tuple(s for s in range(12) if s != 3)
    assert "10:tue" not in built.groups[1].levels
    assert built.groups[1].levels[:3] == ("0:mon", "0:tue", "1:mon")


def test_a_subject_with_a_single_trial_is_allowed(data):
    built, cell = design("condition + (condition|subject)", pd.concat([data, data.iloc[[0]].assign(subject=99)]))
    assert built.groups[0].levels[-1] == 99
    assert (built.groups[0].index[cell] == 12).sum() == 1


def test_row_labels_do_not_matter(data):
    relabelled = data.set_index(np.zeros(N, dtype=int))
    assert np.array_equal(design("x + (1|subject)", relabelled)[1], design("x + (1|subject)", data)[1])


def test_the_order_of_trials_does_not_matter(data):
    turned, straight = (common("condition*scale(x)", table)[2] for table in (data.iloc[::-1], data))
    assert np.allclose(turned[::-1], straight, rtol=1e-13)


@pytest.mark.parametrize(
    ("formulas", "parsed"),
    [
        ("v ~ condition", {"v": "condition", "a": "1", "z": "1", "t0": "1"}),
        (["a~x", "v ~ 0 + x "], {"v": "0 + x", "a": "x", "z": "1", "t0": "1"}),
        (("z = 0.5", "t0=3e-1"), {"v": "1", "a": "1", "z": 0.5, "t0": 0.3}),
        ({"z": 0.5, "v": "x", "a": "~ x", "t0": "t0 ~ 1"}, {"v": "x", "a": "x", "z": 0.5, "t0": "1"}),
        ({"z": np.float32(0.5)}, {"v": "1", "a": "1", "z": 0.5, "t0": "1"}),
        ("v ~ poly(x, degree=2)", {"v": "poly(x, degree=2)", "a": "1", "z": "1", "t0": "1"}),
        ("v ~ x +\n  (1|subject)", {"v": "x + (1|subject)", "a": "1", "z": "1", "t0": "1"}),
        ([], {"v": "1", "a": "1", "z": "1", "t0": "1"}),
    ],
)
def test_ways_to_write_formulas(formulas, parsed):
    found = parse_formulas(formulas, DDM)
    assert {name: f if isinstance(f, float) else f.rhs for name, f in found.items()} == parsed
    assert list(found) == list(DDM)


def test_columns_used_come_from_terms_calls_and_groups():
    rhs = {"v": "b * np.log(x + y) + C(c, Sum) + bs(w, df=4)", "a": "`my column` + (b:d|e/f)", "z": 0.5}
    assert columns_used(parse_formulas(rhs, ["v", "a", "z"])) == ("b", "x", "y", "c", "w", "my column", "d", "e", "f")
    assert columns_used(parse_formulas("z = 0.5", ["v", "z"])) == ()


@pytest.mark.parametrize(
    ("formulas", "expected"),
    [
        ("V ~ 1", "unknown parameter 'V' in a formula; did you mean 'v'? "
         "On the left of ~ stands a parameter of the model: v, a, z, t0."),
        ("rt ~ x", "unknown parameter 'rt'"),
        ("drift = 1", "unknown parameter 'drift'"),
        (["v ~ 1", "v ~ x"], "parameter 'v' has two formulas; give it one."),
        (["v ~ 1", "v = 2"], "parameter 'v' has two formulas; give it one."),
        ("v x",
         "formula 'v x' must be `parameter ~ terms`, for instance v ~ 1, or a fixed value, for instance v = 0.5."),
        ("~ x", "formula '~ x' must be `parameter ~ terms`"),
        ("", "formula '' must be `parameter ~ terms`"),
        ("v ~ ", "the formula of 'v' is empty; write v ~ 1 for an intercept alone."),
        ({"v": " "}, "the formula of 'v' is empty"),
        ("z = half", "z = half is not a finite number"),
        ({"z": float("nan")}, "z = nan is not a finite number"),
        ({"z": True}, "z = True is not a finite number"),
        ({"z": None}, "z = None is not a finite number"),
        (5, "formulas must be a string, a list of strings, or a dict; got 5."),
        (["v ~ 1", 5], "formulas must be a string, a list of strings, or a dict"),
        ("z ~ 0.5", "the number 0.5 is not a term; to hold z at a value write z = 0.5."),
        ("v ~ 1|subject", "a group term is written in parentheses and added with +, as in 1 + (1|subject)."),
        ("v ~ x:(1|subject)", "a group term is written in parentheses and added with +"),
        ("v ~ x - (1|subject)", "a group term is written in parentheses and added with +"),
        ("v ~ x|p|subject", "a group term is written in parentheses and added with +"),
        ("v ~ (x|p|q|subject)", "has one bar, (1|subject), or two with a tag between them, (1|p|subject); this one"),
        ("v ~ (1|2|subject)", "between two bars stands a name, the tag of the terms that are correlated, as p in"),
        ("v ~ (1|p:q|subject)", "between two bars stands a name"),
        ("v ~ (1|C(p)|subject)", "between two bars stands a name"),
        ("v ~ (1|`my p`|subject)", "between two bars stands a name"),
        ("v ~ (1|p[a]|subject)", "between two bars stands a name"),
        ("v ~ (1|'p'|subject)", "between two bars stands a name"),
        ("v ~ (x||p|subject)", "the tag 'p' correlates effects, and || says that they are independent; keep one: "),
        ("v ~ (x|p||subject)", "the tag 'p' correlates effects, and || says that they are independent"),
        (["v ~ (1|p|subject)", "a ~ (1|p|day)"],
         "formula 'a ~ (1|p|day)': the terms of the tag 'p' have the groups day here and subject in "
         "'v ~ (1|p|subject)'; terms of one tag are correlated group by group: write the same groups, or give one of "
         "them another tag."),
        (["v ~ (1|p|subject/day)", "a ~ (1|p|subject)"], "the groups subject here and subject + subject:day in"),
        (["v ~ (1|p|gr(subject, by=side))", "a ~ (1|p|subject)"],
         "the groups subject here and gr(subject, by=side) in"),
        ("v ~ (1|gr(subject))", "gr() has a grouping factor and, after by=, the column with whose levels its standard "
         "deviations differ: (1|gr(subject, by=group)); a factor without by= is written (1|subject)."),
        ("v ~ (1|gr(subject, side))", "gr() has a grouping factor and, after by="),
        ("v ~ (1|gr(by=side))", "gr() has a grouping factor and, after by="),
        ("v ~ (1|gr(subject, cov=side))", "gr() has a grouping factor and, after by="),
        ("v ~ (1|gr(subject, by=side, by=day))", "gr() has a grouping factor and, after by="),
        ("v ~ (1|gr(subject, by=C(side)))", "gr() has a grouping factor and, after by="),
        ("v ~ (1|gr(subject, by=side) + day)", "'gr(subject, by=side)' is not a grouping factor"),
        ("v ~ gr(subject, by=side)", "calls an unknown function 'gr'"),
        ("v ~ (1|C(subject))", "'C(subject)' is not a grouping factor; on the right of | stand columns: (1|subject)"),
        ("v ~ (1|1)", "'Intercept' is not a grouping factor"),
        ("v ~ x**2", "powers of a column are written I(x**2)"),
        ("v ~ prop(x)", "prop(x) is not supported: prop() is for the proportion that a formula explains."),
        ("v ~ scale(log(x)) + scale(x)", "two terms call the same function, one of them with another function inside"),
        ("v ~ side[left]", "to choose the reference level write T(side, 'left')"),
        ("v ~ -x", "these terms cannot be combined; 0 and 1 are summands"),
        ("v ~ x == 2", "comparisons of columns stand inside I(): I(x / 2), I(x == 2)."),
        ("v ~ x/2", "arithmetic and comparisons of columns stand inside I(): I(x / 2)"),
        ("v ~ side:1", "these terms cannot be combined"),
    ],
)  # fmt: skip
def test_what_is_not_a_formula(formulas, expected):
    with pytest.raises(InputError) as caught:
        parse_formulas(formulas, DDM)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("formula", "reason", "position"),
    [
        ("v ~ x +", "it ends too early", 7),
        ("v ~ x + * y", "unexpected '*'", 8),
        ("v ~ (1|subject", "a parenthesis is not closed", 14),
        ("v ~ log(x", "a parenthesis is not closed", 9),
        ("v ~ x)", "unexpected ')'", 5),
        ("v ~ (1|)", "the group term has no factor; write (1|subject)", 7),
        ("v ~ x + (1|", "the group term has no factor; write (1|subject)", 11),
        ("v ~ (|subject)", "the group term has no effect; write (1|subject)", 5),
        ("v ~ (1|p|)", "the group term has no factor; write (1|subject)", 9),
        ("v ~ (|p|subject)", "the group term has no effect; write (1|subject)", 5),
        ("v ~ (x ||| subject)", "unexpected '|' (a group term is written in parentheses: (1|subject))", 9),
        ("v ~ x condition", "unexpected 'condition'", 6),
        ("v ~ x %in% y", "unexpected '%'", 6),
        ("v ~ x^2", "unexpected '^' (powers are written I(x**2))", 5),
        ("v ~ _x", "unexpected '_' (put column names that start with _ in backticks)", 4),
        ("v ~ x + `my column", "` is not closed", 8),
        ("v ~ T(side, 'left)", "' is not closed", 12),
        ("v ~ x ~ y", "a formula has one ~; several formulas are given as a list", 6),
        ("v ~ x; a ~ 1", "a formula has one ~; several formulas are given as a list", 9),
        ("v ~ z = 0.5", "a fixed value is written with = instead of ~", 11),
        ("v ~ .", "unexpected '.'", 4),
        ("v ~ x, y", "unexpected ','", 5),
    ],
)
def test_syntax_errors_show_where(formula, reason, position):
    with pytest.raises(InputError) as caught:
        parse_formulas(formula, DDM)
    first, text, caret = str(caught.value).splitlines()
    assert first == f"the formula of 'v' cannot be read: {reason}."
    assert text == f"  {formula}"
    assert caret == " " * (2 + position) + "^"


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("conditon", "the data have no column 'conditon'; did you mean 'condition'? Columns: condition, side, x,"),
        ("(1|participant)", "the data have no column 'participant'."),
        ("log(sidde)", "no column 'sidde'; did you mean 'side'?"),
        ("one", "'one' has one level, 'same', so it has no effect to estimate; leave it out"),
        ("0 + one", "'one' has one level, 'same'"),
        ("C(const)", "'C(const)' has one level, '2.0'"),
        ("x*one", "'one' has one level, 'same'"),
        ("(one|subject)", "'one' has one level, 'same'"),
        ("(1|one)", "factor 'one' has one level, 'same': a group needs at least two levels to have a variance"),
        ("(0|subject)", "a group term has no effect; write (1|subject)."),
        ("(1|subject) + (x|subject)", "the group effect 1|subject occurs twice; keep one."),
        ("(1|subject) + (1|p|subject)", "the group effect 1|subject occurs twice; keep one."),
        ("(1|p|subject)", "formula 'v ~ (1|p|subject)': 1|subject is the only effect of the tag 'p', so there is "
         "nothing that it could be correlated with; give a term of another parameter the tag too, as in (1|p|subject), "
         "or leave the tag out."),
        ("(0 + x|p|subject)", "x|subject is the only effect of the tag 'p'"),
        ("(1|subject|day)", "1|day is the only effect of the tag 'subject'"),
        ("(1|gr(subject, by=sid))", "the data have no column 'sid'; did you mean 'side'?"),
        ("(1|gr(subject, by=subject))", "by=subject has another level for every subject, and a standard deviation"),
        ("(1|gr(subject, by=one))", "by=one has one level, 'same', so there is nothing by which standard deviations"),
        ("const", "column 'const' is a linear combination of 'Intercept', so their coefficients cannot be told apart"),
        ("x + side + x2", "column 'x2' is a linear combination of 'Intercept', 'x', so"),
        ("condition + C(condition)", "column 'C(condition)[hard]' is a linear combination of 'condition[hard]', so"),
        ("log(x)", "log(x) is not a finite number in rows "),
        ("scale(const)", "scale(const) is not a finite number in rows 0, 1, 2, 3, 4 and 595 more (0 = first)"),
        ("lgo(load)", "calls an unknown function 'lgo'; did you mean 'log'? Known: B, C, I, S, T, abs,"),
        ("np.lgo(load)", "calls an unknown function 'np.lgo'; did you mean 'np.log'? Known: B, C, I, S, T, abs,"),
        ("np.cumsum(load)", "Compute anything else as a column of the table."),
        ("(x + side)**100000000", "the power of terms must be a whole number from 1 to 10."),
        ("poly(x, 1000000000)", "the numbers in poly(x, 1000000000) must be at most 100."),
        ("poly(side, 2)", "cannot be computed on these data: "),
        ("T(side, 'up')", "cannot be computed on these data: reference not in levels."),
        ("condition:side:day", "an interaction cannot be coded without its lower orders; write them out (a*b*c)"),
        ("(condition:side:day|subject)", "an interaction cannot be coded without its lower orders"),
    ],
)  # fmt: skip
def test_what_the_data_do_not_allow(data, formula, expected, capsys):
    with pytest.raises(InputError) as caught:
        design(formula, data)
    assert expected in str(caught.value)
    assert capsys.readouterr().out == ""


def test_rows_of_a_transform_that_fails(data):
    with pytest.raises(InputError, match=r"log\(x\) is not a finite number in rows 2, 5 \(0 = first\)"):
        design("log(x)", data.assign(x=np.where(np.isin(np.arange(N), [2, 5]), -1.0, 1.0 + np.arange(N))))


def test_missing_values_and_levels_written_alike(data):
    with pytest.raises(InputError, match=r"column 'x' has missing values in row 3 \(0 = first\)"):
        design("x", data.assign(x=data["x"].mask(data.index == 3)))
    with pytest.raises(InputError, match="column 'side' has two different values that are written '1'"):
        design("(1|side)", data.assign(side=np.array([1, "1"] * (N // 2), dtype=object)))


def test_combinations_without_trials(data):
    table = data[(data["condition"] != "hard") | (data["side"] != "right")]
    with pytest.raises(InputError, match=r"column 'condition:side\[hard, right\]' is zero in every trial"):
        design("condition*side", table)
    assert common("condition + side", table)[2].shape[1] == 4


def test_fewer_cells_than_coefficients():
    with pytest.raises(InputError, match=r"'I\(x \*\* 2\)' is a linear combination of 'Intercept', 'x'"):
        design("x + I(x**2)", pd.DataFrame({"x": [1.0, 2.0, 1.0, 2.0]}))


def test_nearly_collinear_columns_that_can_be_told_apart_are_allowed():
    seconds = 1.7e9 + np.arange(N, dtype=float)
    assert len(design("time", pd.DataFrame({"time": seconds}))[0].common) == 2


def test_a_million_trials_of_a_thousand_subjects_need_no_dense_group_matrix():
    # Dense, the group matrix of (condition|subject) would be 1e6 x 3000 x 8 bytes = 22 GiB. Measured: 0.5 s, 0.1 GiB.
    rng, n = np.random.default_rng(0), 1_000_000
    table = pd.DataFrame(
        {
            "condition": pd.Categorical.from_codes(rng.integers(0, 3, n), ["easy", "hard", "medium"]),
            "load": rng.integers(0, 6, n),
            "subject": rng.integers(0, 1000, n),
        }
    )
    tracemalloc.start()
    start = time.process_time()
    designs, cell = designs_of({"v": "condition*scale(load) + (condition|subject)", "a": "(1|subject)"}, table)
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**30
    assert seconds < 30
    assert cell.max() + 1 == 18_000
    assert len(designs["v"].groups[0].levels) == 1000


@pytest.mark.parametrize(
    "call",
    [
        "np.f2py.os.system('touch {}')",
        "I(np.f2py.os.system('touch {}'))",
        "scale(x + log(np.f2py.os.system('touch {}')))",
        "T(side, reference=np.f2py.os.system('touch {}'))",
        "np.save('{}', x)",
        "np.exp.reduce(x, '{}')",
        "C.__init__.__globals__('{}')",
        "bs.os('{}')",
    ],
)
@pytest.mark.parametrize("formula", ["1 + {}", "1 + ({}|subject)", "x:{}", "(1|{})"])
def test_a_formula_runs_nothing_but_named_functions(data, tmp_path, call, formula):
    trap = tmp_path / "pwned"
    with pytest.raises(InputError):
        design(formula.format(call.format(trap)), data)
    assert not trap.exists()


def test_functions_of_numpy_by_name(data):
    for rhs, expected in {
        "np.minimum(load, 2)": np.minimum(data["load"], 2),
        "np.where(x > 2, x, 0)": np.where(data["x"] > 2, data["x"], 0),
        "np.clip(x, 0, 4)": np.clip(data["x"], 0, 4),
    }.items():
        assert np.array_equal(common(rhs, data)[2][:, 1], expected)


def test_a_factor_nearly_as_long_as_the_table_is_refused(data):
    named = data.assign(id=[f"s{i}" for i in range(N)], pair=[f"s{i // 2}" for i in range(N)], t=np.arange(N))
    for formula in ("id", "x + id", "(id|subject)", "C(t)"):
        with pytest.raises(InputError, match=r"is a factor with 600 levels in 600 trials; .*a group term, \(1\|"):
            design(formula, named)
    for formula in ("(1|pair)", "t", "(1|id)"):
        design(formula, named)


def test_numbers_in_a_column_of_objects_are_numbers(data):
    assert common("load", data.assign(load=data["load"].astype(object)))[1] == [None, None]
