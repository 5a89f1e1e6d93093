"""Sequences on tables: order, what a rule reads, what choices bring, and everything that cannot be one."""

import numpy as np
import pandas as pd
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.data import Missing, build_designs, check_table, course, parse_formulas, payoffs
from hddm_sbi.data.design import find_cells
from hddm_sbi.data.sequences.written import read_sequence


def table(n=40, seed=1):
    """Two subjects whose trials are interleaved, in no order of rows."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "rt": rng.gamma(4.0, 0.2, n) + 0.3,
            "response": rng.choice([-1, 1], n),
            "subject": np.arange(n) % 2,
            "trial": np.arange(n) // 2,
            "feedback": rng.random(n),
        }
    )
    return rows.sample(frac=1.0, random_state=seed, ignore_index=True)


def bound(rule, rows, columns=("subject", "trial"), may_lack=("feedback",), **said):
    trials = check_table(rows, hs.load_simulator("ddm"), beside=columns, may_lack=may_lack, **said)
    return course("x", rule, trials, (-1, 1))


def test_trials_follow_one_another_whatever_the_order_of_rows():
    rows = table()
    found = bound(hs.delta_rule("feedback", "response", "subject"), rows)
    walked = rows.iloc[found.trial]
    assert found.starts.tolist() == [0, 20, 40]
    for first in (0, 20):
        part = walked.iloc[first : first + 20]
        assert part["subject"].nunique() == 1
        assert part["trial"].tolist() == list(range(20))


def test_numbers_of_trials_need_not_follow_closely():
    rows = table()
    rows["trial"] = rows["trial"] ** 2 + 0.5
    found = bound(hs.delta_rule("feedback", "response", "subject"), rows)
    assert (np.diff(rows["trial"].to_numpy()[found.trial[:20]]) > 0).all()


def test_what_is_read():
    rows = table()
    found = bound(hs.delta_rule("feedback", "response", "subject"), rows)
    np.testing.assert_array_equal(found.rows[:, 0], rows["feedback"])
    np.testing.assert_array_equal(found.rows[:, 1:], np.stack([rows["response"] == -1, rows["response"] == 1], 1))
    assert found.known.all()


def test_what_is_missing_is_not_known():
    rows = table().astype({"response": float})
    rows.loc[3, ["rt", "response"]] = np.nan
    rows.loc[7, "feedback"] = np.nan
    found = bound(hs.delta_rule("feedback", "response", "subject"), rows, missing=Missing(deadline=9.0))
    assert np.flatnonzero(found.known == 0).tolist() == [3, 7]


@pytest.mark.parametrize("coding", [{-1: 0, 1: 1}, {-1: -1, 1: 1}])
def test_choices_in_a_column_of_their_own(coding):
    """It holds the model's responses, so predictions put theirs there, in its own words."""
    rows = table()
    rows["choice"] = rows["response"].map(coding)
    found = bound(hs.delta_rule("feedback", "choice", "subject"), rows, may_lack=("feedback", "choice"))
    np.testing.assert_array_equal(found.rows[:, 2], rows["response"] == 1)
    other = np.stack([rows["rt"], 1.0 - (rows["response"] == 1)], -1)
    told = found.columns(rows, other, np.tile([[10.0, 20.0]], (len(rows), 1)))
    np.testing.assert_array_equal(told["choice"], (-rows["response"]).map(coding))
    np.testing.assert_array_equal(told["feedback"], np.where(rows["response"] == 1, 10.0, 20.0))


def test_choices_of_somebody_else_stay():
    rows = table()
    rows["partner"] = np.random.default_rng(2).choice([-1, 1], len(rows))
    found = bound(hs.sticky_choice("partner", "subject"), rows, may_lack=("partner",))
    other = np.stack([rows["rt"], 1.0 - (rows["response"] == 1)], -1)
    np.testing.assert_array_equal(found.read(np.arange(len(rows)), other, None), found.rows)


def test_payoffs_are_those_that_were_seen():
    """Drawn with replacement among trials of the same subject and choice: 4 000 tables, 5 standard errors (1e-6)."""
    rows = table(400)
    rows["feedback"] = 1.0 * (rows["response"] == 1) + 10.0 * rows["subject"] + (rows["trial"] % 4 == 0)
    found = bound(hs.delta_rule("feedback", "response", "subject"), rows)
    rng = np.random.default_rng(3)
    drawn = np.stack([payoffs(found, rows, rng) for _ in range(40)])
    for subject in (0, 1):
        for choice, code in enumerate((-1, 1)):
            seen = rows.loc[(rows["subject"] == subject) & (rows["response"] == code), "feedback"]
            here = drawn[:, rows["subject"] == subject, choice]
            assert set(np.unique(here)) <= set(seen)
            assert abs(here.mean() - seen.mean()) < 5 * seen.std() / np.sqrt(here.size)


def test_payoffs_of_a_choice_that_somebody_never_made_are_those_of_others():
    rows = table()
    rows.loc[rows["subject"] == 0, "response"] = 1
    rows["feedback"] = np.where(rows["response"] == 1, 1.0, 5.0)
    found = bound(hs.delta_rule("feedback", "response", "subject"), rows)
    np.testing.assert_array_equal(payoffs(found, rows, np.random.default_rng(1)), [[5.0, 1.0]] * len(rows))
    rows["response"] = 1
    found = bound(hs.delta_rule("feedback", "response", "subject"), rows)
    with pytest.raises(hs.InputError, match=r"choice 0 .* was never made"):
        payoffs(found, rows, np.random.default_rng(1))


def test_payoffs_of_columns_and_of_functions():
    rows = table().assign(left=2.0, right=3.0)
    by = ("feedback", "left", "right")
    rule = hs.delta_rule("feedback", "response", "subject", paid=("left", "right"))
    found = bound(rule, rows, may_lack=by)
    np.testing.assert_array_equal(payoffs(found, rows, np.random.default_rng(1)), [[2.0, 3.0]] * 40)
    rule = hs.delta_rule("feedback", "response", "subject", paid=lambda t, rng: np.zeros((len(t), 3)))
    with pytest.raises(hs.InputError, match=r"must return \(40, 2\) numbers"):
        payoffs(bound(rule, rows), rows, np.random.default_rng(1))
    assert payoffs(bound(hs.sticky_choice("response", "subject"), rows), rows, None) is None


@pytest.mark.parametrize("start", [(0.25, 0.75), [0.25, 0.75], np.array([0.25, 0.75])])
def test_states_that_begin_differently(start):
    """As a tuple, a list or an array; the covariate of a first trial is what the rule begins with."""
    rule = hs.sequence(start={"q": start}, choices=["response"], by="subject")(lambda s, row, p: (s, s["q"]))
    assert bound(rule, table(), may_lack=()).begins == {"q": (0.25, 0.75)}


def test_designs_where_a_covariate_is_0_and_1():
    rows = table().assign(c=np.tile(["a", "b"], 20))
    formulas = parse_formulas(["v ~ c*x + y + (1 + x|subject)"], ["v"], sequences=["x", "y"])
    cells = find_cells(rows, ["c", "subject"])
    design = build_designs(formulas, rows, cells)["v"]
    assert design.along == ("x", "y")
    assert design.parameters == ("v", "v where x is 1", "v where y is 1")
    columns = {term.name: term.matrix.reshape(3, len(cells)) for term in design.common}
    b = (rows["c"].iloc[cells.first] == "b").to_numpy(float)
    np.testing.assert_array_equal(columns["x"], np.array([[0.0], [1.0], [0.0]]) * np.ones(len(cells)))
    np.testing.assert_array_equal(columns["c:x"], [0 * b, b, 0 * b])
    np.testing.assert_array_equal(columns["c"], [b, b, b])


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("v ~ scale(x)", "function of 'x'"),
        ("v ~ x + I(x**2)", "function of 'x'"),
        ("v ~ s(x)", "function of 'x'"),
        ("v ~ offset(x)", "function of 'x'"),
        ("v ~ x:y", "product of two sequences"),
        ("v ~ (1|x)", "is a number for every trial"),
        ("v ~ (1|gr(subject, by=x))", "is a number for every trial"),
    ],
)
def test_terms_that_covariates_cannot_be(formula, said):
    with pytest.raises(hs.InputError, match=said):
        parse_formulas([formula], ["v"], sequences=["x", "y"])


DELTA = {"feedback": "feedback", "chosen": "response", "by": "subject"}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"by": ()}, "'trial' is .* twice, in rows"),
        ({"by": "nobody"}, "no column 'nobody'"),
        ({"feedback": "reward"}, "no column 'reward'"),
        ({"feedback": "word"}, "feedback must be a column of numbers; 'word' holds 'abc' in rows"),
        ({"feedback": "level"}, "feedback must be a column of numbers; 'level' holds 1.0, as category: convert it"),
        ({"feedback": "gone"}, "column 'gone' is missing in every row, so that its rule learns nothing"),
        ({"chosen": "word"}, "must hold responses, -1, 1, or their positions 0, 1"),
        ({"order": "word"}, "must be numbers that ascend"),
        ({"order": "when"}, r"needs the order of trials.*groupby\(\['subject'\]\)\.cumcount"),
        ({"rate": "v"}, "'v' would be a parameter of 'x', and is a parameter of the model"),
    ],
)
def test_tables_on_which_a_rule_cannot_run(said, message):
    rows = table().assign(word="abc", gone=np.nan, level=pd.Categorical(np.ones(40)))
    with pytest.raises(hs.InputError, match=message):
        hs.HierarchicalModel("v ~ x", rows, likelihood="exact", sequences={"x": hs.delta_rule(**{**DELTA, **said})})


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        (hs.delta_rule(**DELTA), "sequences must be a dict"),
        ({"x": "delta"}, "must be a rule such as"),
        ({"x y": hs.delta_rule(**DELTA)}, "a name that can stand in a formula"),
        ({"feedback": hs.delta_rule(**DELTA)}, "is a column of the table"),
        ({"t0": hs.delta_rule(**DELTA)}, "'t0' would be a covariate"),
        ({"x": hs.delta_rule(**DELTA), "y": hs.delta_rule(**DELTA)}, "'alpha' would be a parameter of 'y'"),
        ({"x": hs.delta_rule(**DELTA), "y": hs.sticky_choice("response", "subject")}, "'y'.* stands in no formula"),
    ],
)
def test_sequences_that_are_none(sequences, message):
    with pytest.raises(hs.InputError, match=message):
        hs.HierarchicalModel("v ~ x", table(), likelihood="exact", sequences=sequences)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hs.delta_rule(**DELTA, start="q0"), "^delta_rule: .* is no parameter of the rule"),
        (lambda: hs.delta_rule(**DELTA, start=np.nan), "must be a finite number"),
        (lambda: hs.delta_rule(**{**DELTA, "by": 3}), "by must be names of columns"),
        (lambda: hs.delta_rule(**DELTA, paid=3), "paid must be names of columns"),
        (lambda: hs.delta_rule(**DELTA, order=None), "order must be the name of a column"),
        (lambda: hs.kalman_rule("feedback", "response", "subject", gives="gain"), "'value' or 'uncertainty'"),
        (lambda: hs.practice("subject", law="linear"), "'exponential' or 'power'"),
        (lambda: hs.sequence(start={}), "start must give the states"),
        (lambda: hs.sequence(start=[1.0]), "start must be a dict"),
        (lambda: hs.sequence(start={"q": 0.0}, parameters=["a"]), "parameters must be a dict"),
        (lambda: hs.sequence(start={"q": 0.0}, parameters={"a": 3}), r"must be \(low, high\)"),
        (lambda: hs.sequence(start={"q": 0.0}, columns=["x"], choices=["x"]), "'x' names two"),
        (lambda: hs.sequence(start={"q": 0.0}, payoff="x"), "is none of its columns"),
        (lambda: hs.sequence(start={"q": 0.0}, columns=["x"], payoff="x"), "a payoff follows from a choice"),
    ],
)
def test_rules_that_are_none(make, message):
    def decorated():
        return make()(lambda state, row, parameters: (state, state["q"]))

    with pytest.raises(hs.InputError, match=message):
        decorated()


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("dq = delta_rule(feedback, response, by=subject)", hs.delta_rule("feedback", "response", "subject")),
        (
            "q=delta_rule('how much', response, [a, 'b c'], start=-1)",
            hs.delta_rule("how much", "response", ["a", "b c"], start=-1),
        ),
        ("p = practice(by=subject, law=power)", hs.practice("subject", law="power")),
    ],
)
def test_sequences_as_they_are_written(written, made):
    name, found = read_sequence(written)
    assert name == written.partition("=")[0].strip()
    assert (found.name, found.settings, found.start) == (made.name, made.settings, made.start)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("delta_rule(feedback, response, subject)", "is written NAME = RULE"),
        ("dq", "is written NAME = RULE"),
        ("dq = delta_rule", "is written NAME = RULE"),
        ("d q = delta_rule(a, b, c)", "is written NAME = RULE"),
        ("dq = delta_rule(feedback, response", "is written NAME = RULE"),
        ("dq = os.system('ls')", "is written NAME = RULE"),
        ("dq = system('ls')", "'system' is not a rule that comes with hddm_sbi; expected one of delta_rule, "),
        ("dq = delta_rule(open('x'), b, c)", r"cannot be read at \"open\('x'\)\""),
        ("dq = delta_rule(a + b, b, c)", "cannot be read at 'a \\+ b'"),
        ("dq = delta_rule(*a)", "cannot be read at"),
        ("dq = delta_rule(**a)", "missing .* 'feedback'"),
        ("dq = delta_rule(feedback)", "missing .* 'chosen'"),
        ("dq = delta_rule(a, b, c, speed=1)", "unexpected keyword argument 'speed'|got an unexpected"),
        ("dq = delta_rule(a, b, 3)", "by must be names of columns"),
    ],
)
def test_sequences_that_cannot_be_read(written, message):
    with pytest.raises(hs.InputError, match=message):
        read_sequence(written)


def _own(step, **said):
    asked = {"start": {"q": 0.5}, "parameters": {"rate": (0.0, 1.0)}, "columns": ["feedback"], "choices": ["response"]}
    return {"x": hs.sequence(**{**asked, "by": "subject", **said})(step)}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda s, r, p: (s if r["feedback"] > 0.5 else {"q": -s["q"]}, s["q"]), "not by `if`"),
        (lambda s, r, p: ({"q": s["q"] * p["speed"]}, s["q"]), "KeyError: 'speed'"),
        (lambda s, r, p: s["q"], "must return a dict of states and a covariate"),
        (lambda s, r, p: ({"q": s["q"][:1]}, s["q"]), r"states of \[2\] numbers"),
        (lambda s, r, p: (s, torch.cat([s["q"], s["q"]])), "of one for each of 2 choices; got .* and 4"),
        (lambda s, r, p: ({"q": np.exp(s["q"])}, s["q"]), "does not record"),
        (lambda s, r, p: (s, s["q"] + r["response"]), "depends on the response"),
    ],
)
@pytest.mark.filterwarnings("ignore:__array_wrap__")
def test_rules_of_ones_own_that_do_not_work(step, message):
    with pytest.raises(hs.InputError, match=message):
        hs.HierarchicalModel("v ~ x", table(), likelihood="exact", sequences=_own(step))


def test_a_covariate_that_needs_what_is_missing():
    rows = table()
    rows.loc[[2, 5], "feedback"] = np.nan
    looking = _own(lambda s, r, p: ({"q": s["q"] * p["rate"]}, s["q"] + r["feedback"]))
    with pytest.raises(hs.InputError, match=r"'feedback', which has missing values in rows 2, 5"):
        hs.HierarchicalModel("v ~ x", rows, likelihood="exact", sequences=looking)
