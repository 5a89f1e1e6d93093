"""Missing times and responses in a table: what is accepted, what it becomes, and one message for each contradiction."""

import numpy as np
import pandas as pd
import pytest

import hddm_sbi as hs
from hddm_sbi.data import Missing, check_table
from hddm_sbi.errors import InputError

DDM = hs.load_simulator("ddm")
INF = np.inf


@pytest.fixture
def table():
    rt = [0.5, 0.7, 0.9, 1.1, 1.3, 0.6]
    return pd.DataFrame({"rt": rt, "response": [1, -1, 1, 1, -1, 1], "limit": 2.0, "cue": list("ababab")})


def checked(table, **said):
    coding = {name: said.pop(name) for name in ("upper", "choices", "correct") if name in said}
    return check_table(table, DDM, missing=Missing(**said), **coding)


def without(table, rows, *columns):
    other = table.copy()
    other[list(columns)] = other[list(columns)].astype(float)
    other.loc[rows, list(columns)] = np.nan
    return other


def known(trials):
    """Values, and low and high of time by response, of incomplete trials."""
    (low, high), kept = trials.observation.ranges(trials.values), trials.observation.kept
    incomplete = ~np.isfinite(trials.values).all(1)
    return low[incomplete].tolist(), high[incomplete].tolist(), None if kept is None else [end.tolist() for end in kept]


def test_a_complete_table_was_seen_whole(table):
    trials = checked(table)
    assert trials.observation is None


def test_an_omission_took_longer_than_the_deadline_of_its_row(table):
    omitted = without(table, [2, 3], "rt", "response").assign(limit=[2.0, 2.0, 3.0, 4.0, 2.0, 2.0])
    assert known(checked(omitted, deadline=5.0)) == ([[5.0, 5.0]] * 2, [[INF, INF]] * 2, None)
    assert known(checked(omitted, deadline="limit")) == ([[3.0, 3.0], [4.0, 4.0]], [[INF, INF]] * 2, None)


def test_a_missing_time_lies_before_the_deadline_of_its_response(table):
    untimed = without(table, [0, 1], "rt")
    assert known(checked(untimed)) == ([[1.0, 0.0], [0.0, 1.0]], [[0.0, INF], [INF, 0.0]], None)
    assert known(checked(untimed, deadline=2.0))[1] == [[0.0, 2.0], [2.0, 0.0]]


def test_a_time_without_a_response_is_a_point(table):
    assert known(checked(without(table, 4, "response"))) == ([[1.3, 1.3]], [[1.3, 1.3]], None)


def test_a_withheld_response_is_none_before_the_deadline(table):
    go = without(table, table.response == -1, "rt")
    low, high, _ = known(checked(go, withheld=-1))
    assert (low, high) == ([[0.0, 1.0]] * 2, [[INF, 0.0]] * 2)
    low, high, _ = known(checked(go, withheld=-1, deadline=2.0))
    assert (low, high) == ([[0.0, 2.0]] * 2, [[INF, INF]] * 2)
    # Not responding may as well be written as nothing at all, or by its name.
    nothing = without(go, table.response == -1, "response")
    named = go.assign(response=np.where(table.response == -1, "none", "press"))
    for other, said in ((nothing, {"withheld": -1}), (named, {"withheld": "none", "upper": "press"})):
        assert known(checked(other, deadline=2.0, **said)) == (low, high, None)


def test_times_beyond_limits_are_known_to_lie_there(table):
    low, high, kept = known(checked(table, censored=(0.55, 1.2)))
    assert (low, high, kept) == ([[1.0, 0.0], [1.2, 1.0]], [[0.0, 0.55], [INF, 0.0]], None)
    infinite = table.assign(rt=[-INF, 0.7, 0.9, 1.1, INF, 0.6])
    assert known(checked(infinite, censored=(0.55, 1.2))) == (low, high, None)
    unanswered = without(infinite, [0, 4], "response")
    assert known(checked(unanswered, censored=(0.55, 1.2)))[:2] == ([[0.0] * 2, [1.2] * 2], [[0.55] * 2, [INF] * 2])


def test_what_was_removed_limits_what_is_known(table):
    low, high, kept = known(checked(without(table, 0, "rt"), truncated=(0.4, 2.5)))
    assert (low, high) == ([[1.0, 0.4]], [[0.0, 2.5]])
    assert kept == [[[0.4] * 2] * 6, [[2.5] * 2] * 6]
    both = checked(without(table, [0, 1], "rt", "response"), truncated=(0.4, None), deadline=3.0)
    low, high, kept = known(both)
    assert (low, high) == ([[3.0] * 2] * 2, [[INF] * 2] * 2)
    assert kept == [[[0.4] * 2] * 6, [[INF] * 2] * 6]
    go = checked(without(table, table.response == -1, "rt"), truncated=(0.4, 2.5), withheld=-1)
    assert [end[0].tolist() for end in go.observation.kept] == [[0.0, 0.4], [INF, 2.5]]


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA], ids=["nan", "None", "NA"])
@pytest.mark.parametrize("dtype", ["numbers", "objects", "nullable", "names"])
def test_any_mark_of_pandas_is_missing(table, missing, dtype):
    other = table.astype({"rt": object, "response": object})
    if dtype == "names":
        other["response"] = other["response"].map({1: "right", -1: "left"})
    other.loc[[1, 2], ["rt", "response"]] = missing
    if dtype == "nullable":
        other = other.astype({"rt": "Float64", "response": "Int64"})
    elif dtype == "numbers":
        other = other.assign(rt=pd.to_numeric(other["rt"], errors="coerce"))
    trials = checked(other, deadline=2.0, **({"upper": "right"} if dtype == "names" else {}))
    assert np.isnan(trials.values).tolist() == [[row in (1, 2)] * 2 for row in range(6)]


def test_an_omission_is_neither_correct_nor_an_error(table):
    asked = without(table, 0, "rt", "response").assign(S=[1, -1, 1, -1, 1, 1])
    trials = checked(asked, correct="S", deadline=2.0)
    assert trials.frame["response"].isna().tolist() == [True] + [False] * 5
    assert trials.frame["response"].tolist()[1:] == ["correct", "correct", "error", "error", "correct"]
    assert trials.choice.tolist() == [-1, 1, 1, 0, 0, 1]


def test_outcomes_of_tables_are_labelled_as_they_were(table):
    trials = checked(without(table, [0], "rt", "response"), deadline=2.0)
    labels = trials.labels(DDM, trials.values)
    np.testing.assert_array_equal(labels["response"], [np.nan, -1, 1, 1, -1, 1])
    named = table.assign(response=table.response.map({1: "right", -1: "left"}))
    named.loc[0, ["rt", "response"]] = None
    trials = checked(named, deadline=2.0, upper="right")
    assert trials.labels(DDM, trials.values)["response"].tolist() == [None, "left", "right", "right", "left", "right"]


_NO_TIME = {"rt": [0.5, 0.7, np.nan, 1.1, 1.3, 0.6]}
_NOTHING = {**_NO_TIME, "response": [1, -1, np.nan, 1, -1, 1]}


@pytest.mark.parametrize(
    ("columns", "said", "message"),
    [
        (_NOTHING, {}, r"both missing in row 2 .*deadline=.*withheld="),
        (_NOTHING, {"deadline": "gap"}, r"both missing in row 2 .*and so is the deadline, column 'gap': say there"),
        (_NOTHING, {"deadline": 1500}, r"deadline=1500 must be in seconds.*is 1500 in rows 0.*takes 1.3; divide"),
        (
            {**_NOTHING, "limit": [2.0, 2, 999, 2, 2, 2]},
            {"deadline": "limit"},
            r"deadline='limit' must be in seconds.*is 999 in row 2 .*leave a column empty where there is no limit",
        ),
        (
            {**_NO_TIME, "least": [0.4, 0.4, 2.5, 0.4, 0.4, 0.4]},
            {"deadline": 2.0, "truncated": ("least", None)},
            r"begins after the deadline in row 2 .*no response of these trials would be left",
        ),
        ({"limit": 1500.0}, {"deadline": "limit"}, r"deadline='limit' must be in seconds.*divide milliseconds by 1000"),
        ({}, {"censored": (200, 3000)}, r"censored=\(200, 3000\) must be in seconds.*divide milliseconds by 1000"),
        ({}, {"truncated": (None, 3000)}, r"truncated=\(None, 3000\) must be in seconds.*divide milliseconds"),
        ({}, {"deadline": 1.0}, r"deadline=1.0 is shorter than the response time in rows 3, 4 .*column"),
        ({}, {"deadline": "limits"}, r"no column 'limits'; did you mean 'limit'"),
        ({}, {"deadline": "cue"}, r"deadline='cue' must be a column of seconds"),
        ({"limit": [2.0, 0.0, 2, 2, 2, 2]}, {"deadline": "limit"}, r"deadline='limit' must be positive.*row 1"),
        ({}, {"deadline": 0}, r"deadline=0 must be a positive number of seconds, or a column of them; got 0"),
        ({}, {"deadline": True}, r"deadline=True must be a positive number"),
        ({}, {"deadline": INF}, r"deadline=inf must be a positive number"),
        ({}, {"deadline": [1.0]}, r"deadline=\[1.0\] must be a positive number"),
        ({}, {"withheld": -1}, r"withheld=-1 .*takes no time; column 'rt' has one in rows 1, 4"),
        ({}, {"withheld": 0}, r"withheld=0 must be one of the responses, -1, 1\."),
        ({}, {"withheld": [1]}, r"withheld=\[1\] must be one of the responses, -1, 1\."),
        ({"rt": [0.5, 0.7, INF, 1.1, 1.3, 0.6]}, {}, r"column 'rt' is inf in row 2.*censored=\(None, 2.0\)\."),
        (
            {"rt": [0.5, 0.7, -INF, 1, 1, 0.6]},
            {"censored": (None, 2)},
            r"column 'rt' is -inf in row 2.*censored=\(0.2, None\)\.",
        ),
        ({}, {"censored": 2.0}, r"censored must be the shortest and the longest time.*got 2.0"),
        ({}, {"censored": (1.0, 0.5)}, r"censored=\(1.0, 0.5\) must be the shortest and the longest time; rows 0, 1"),
        ({}, {"truncated": (1.2, 0.55)}, r"truncated=\(1.2, 0.55\) must be the shortest and the longest time; rows 0"),
        ({}, {"truncated": (2.0,)}, r"truncated must be the shortest and the longest time.*got \(2.0,\)"),
        ({}, {"truncated": (0.55, 1.2)}, r"times outside were removed; rows 0, 4 .*remove them, or say censored="),
        ({}, {"truncated": (None, 1.5), "deadline": 2.0}, r"ends before the deadline in rows 0, 1, 2, 3, 4 and 1 more"),
        (
            {"rt": [0.5, 0.7, INF, 1.1, 1.3, 0.6]},
            {"censored": (None, 2.0), "truncated": (None, 1.5)},
            r"is infinite in row 2 .*beyond which time nothing is left",
        ),
        ({"rt": np.nan}, {}, r"no trial has both 'rt' and 'response'"),
        ({"rt": [0.5, 0.7, -999, 1, 1, 1]}, {}, r"row 2 .*If -999 marks.*replace\(-999, float\('nan'\)\).*deadline="),
        ({"rt": [0.5, 0.7, 999, 1, 1, 1]}, {}, r"column 'rt' is 999 in row 2.*If 999 marks.*replace\(999,"),
        ({"response": [1, -1, -999, 1, -1, 1]}, {}, r"got -999 in row 2 .*deadline="),
    ],
)
def test_contradictions_are_refused_by_row(table, columns, said, message):
    other = table.assign(gap=[2.0, 2.0, np.nan, 2.0, 2.0, 2.0]).assign(**columns)
    with pytest.raises(InputError, match=message):
        checked(other, **said)


def test_outcomes_of_ones_own_are_complete():
    @hs.declare(parameters={"rate": (0.1, 10.0)}, outcomes={"wait": "positive"}, vectorised=True)
    def queue(rate, rng):
        return rng.exponential(1 / rate)

    with pytest.raises(InputError, match=r"deadline=2.0 is for models of rt and response"):
        check_table(pd.DataFrame({"wait": [1.0]}), queue, missing=Missing(deadline=2.0))
    with pytest.raises(InputError, match=r"'wait' has missing values in row 1"):
        check_table(pd.DataFrame({"wait": [1.0, np.nan]}), queue)
