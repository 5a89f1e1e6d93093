"""A table of trials is checked, never changed; every refusal names the rows and the remedy."""

from __future__ import annotations

import csv
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import hddm_sbi as hs
from hddm_sbi.data.files import read_table
from hddm_sbi.data.trials import check_table
from hddm_sbi.errors import InputError


def model(choices):
    """A decision model with these responses; its likelihood does not matter here."""
    response = hs.Outcome("response", "categorical", choices)
    return replace(hs.load_simulator("ddm"), outcomes=(hs.Outcome("rt", "positive"), response))


TWO, THREE = model((-1, 1)), model((0, 1, 2))


def table(**columns):
    default = {"subject": ["s1", "s1", "s2", "s2"], "rt": [0.5, 0.6, 0.7, 0.8], "response": [1, -1, 1, 1]}
    return pd.DataFrame({**default, **columns})


def refusal(data, simulator=TWO, predictors=(), **options):
    with pytest.raises(InputError) as caught:
        check_table(data, simulator, predictors, **options)
    return str(caught.value)


def test_trials_keep_order_rows_and_used_columns():
    data = table(extra=0, x=[4.0, 3.0, 2.0, 1.0])
    data.index = pd.Index([7, 7, 3, 1])
    before = data.copy()
    trials = check_table(data, TWO, ["x", "subject"])
    assert trials.rt.tolist() == [0.5, 0.6, 0.7, 0.8]
    assert trials.rt.dtype == np.float64
    assert trials.choice.tolist() == [1, 0, 1, 1]
    assert trials.choice.dtype == np.int64
    assert list(trials.frame.columns) == ["subject", "rt", "response", "x"]
    assert trials.frame.index.tolist() == [0, 1, 2, 3]
    assert trials.frame["x"].tolist() == [4.0, 3.0, 2.0, 1.0]
    pd.testing.assert_frame_equal(data, before)


@pytest.mark.parametrize(
    ("response", "upper", "choice"),
    [
        ([1.0, -1.0, 1.0, 1.0], None, [1, 0, 1, 1]),
        ([1, 0, 1, 1], 1, [1, 0, 1, 1]),
        ([1, 0, 1, 1], 0, [0, 1, 0, 0]),
        ([True, False, True, True], True, [1, 0, 1, 1]),
        (["no", "yes", "no", "no"], "yes", [0, 1, 0, 0]),
        (pd.Categorical(["no", "yes", "no", "no"]), "no", [1, 0, 1, 1]),
        (pd.array([1, -1, 1, 1], dtype="Int64"), None, [1, 0, 1, 1]),
        (pd.Categorical([1, -1, 1, 1], categories=[0, 1, -1]), None, [1, 0, 1, 1]),
        (["yes"] * 4, "yes", [1, 1, 1, 1]),
    ],
)
def test_two_choice_codings(response, upper, choice):
    assert check_table(table(response=response), TWO, upper=upper).choice.tolist() == choice


def test_three_choices_are_coded_by_their_position():
    assert check_table(table(response=[2, 0, 1, 0]), THREE).choice.tolist() == [2, 0, 1, 0]


def test_other_column_names():
    data = table().rename(columns={"rt": "seconds", "response": "key"})
    assert check_table(data, TWO, rt="seconds", response="key").rt[0] == 0.5
    assert "no column 'rt'" in refusal(data)


def test_a_column_in_the_index_is_named():
    said = "no column 'rt'; it is in the index of the table: give table.reset_index(). Columns: "
    assert said in refusal(table().set_index("rt"))


def times(*others):
    """98 times of 0.6 s and these."""
    return pd.DataFrame({"rt": [0.6] * 98 + list(others), "response": 1})


def test_a_long_time_among_many_is_an_outlier():
    """The unit is judged by the median."""
    with pytest.warns(hs.TableWarning) as caught:
        trials = check_table(times(0.7, 55.0), TWO)
    assert trials.rt.max() == 55.0
    (warning,) = caught
    for part in (
        "1 value above 30 s, in row 99 (0 = first)",
        "longest is 55, and the median 0.6",
        "data[data['rt'] <= 30]",
    ):
        assert part in str(warning.message)
    with pytest.warns(hs.TableWarning, match="2 values above 30 s, in rows 98, 99"):
        check_table(times(61.0, 85.0), TWO)


def test_slow_decisions_are_no_outliers():
    assert check_table(table(rt=[20.0, 60.0, 31.0, 90.0]), TWO).rt.max() == 90.0
    assert check_table(times(0.7, 30.0), TWO).rt.max() == 30.0


def test_a_table_partly_in_milliseconds_is_refused():
    message = refusal(times(*[600.0] * 6))
    for part in ("6 values above 30 s, in rows 98, 99, 100, 101, 102 and 1 more", "too many for outliers", "by 1000"):
        assert part in message


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([1, 2], ["must be a pandas DataFrame", "got list"]),
        (pd.DataFrame(), ["table is empty (0 rows"]),
        (table().iloc[:0], ["table is empty (0 rows, 3 columns)"]),
        (
            table().rename(columns={"rt": "RT"}),
            ["no column 'rt'; did you mean 'RT'?", "Columns: subject, RT, response"],
        ),
        (table().drop(columns="response"), ["no column 'response'.", "Columns: subject, rt."]),
        (pd.concat([table(), table()[["rt"]]], axis=1), ["column names must be unique; 'rt' occurs more than once"]),
        (
            table(rt=[0.5, np.nan, 0.7, np.nan], response=[1, np.nan, 1, np.nan]),
            ["columns 'rt' and 'response' are both missing in rows 1, 3 (0 = first)", "deadline=", "withheld="],
        ),
        (table(subject=["s1", None, "s2", "s2"]), ["column 'subject' has missing values in row 1"]),
        (
            table(rt=[0.5, np.inf, 0.7, 0.8]),
            ["column 'rt' is inf in row 1 (0 = first)", "for instance censored=(None, 2.0)"],
        ),
        (
            table(rt=[0.5, -0.6, 0.0, 0.8]),
            [
                "zero or negative in rows 1, 2 (0 = first)",
                "A trial without a response (an omission) stays in the table",
                "leaving out what a deadline cut off biases the estimates",
            ],
        ),
        (
            table(rt=[500.0, 612.0, 700.0, 0.8]),
            ["must be in seconds, and its median is 556", "divide milliseconds by 1000, data['rt'] / 1000."],
        ),
        (table(rt=[0.5, 0.6, 0.7, 61.0]), ["1 value above 30 s", "row 3 (0 = first)", "divide milliseconds by 1000"]),
        (table(rt=["0.5", "fast", "0.7", "x"]), ["must be numbers", "'fast' in rows 1, 3 (0 = first)"]),
        (table(rt=["0.5", "0.6", "0.7", "0.8"]), ["must be numbers", "pandas.to_numeric"]),
        (table(rt=[True, True, True, True]), ["must be numbers, in seconds; got bool"]),
        (table(rt=pd.to_timedelta([1, 2, 3, 4], "s")), ["must be numbers, in seconds; got timedelta64"]),
        (table(response=[1, 0, 1, 0]), ["+1 (upper bound) or -1 (lower bound)", "got 0 in rows 1, 3", "upper=1."]),
        (table(response=[1.0, 0.0, 1.0, 0.0]), ["got 0.0 in rows 1, 3 (0 = first)", "upper=1."]),
        (table(response=[True, False, True, True]), ["got True in rows 0, 1, 2, 3", "upper=True."]),
        (table(response=["left", "right", "left", "left"]), ["upper='left' or upper='right'"]),
        (table(response=["correct", "error", "correct", "correct"]), ["is the upper bound: upper='correct'."]),
        (table(response=["1", "-1", "1", "1"]), ["got '1' in rows 0, 1, 2, 3", "upper='-1' or upper='1'"]),
        (
            table(response=[1, -1, 0, 9]),
            ["got 0 in rows 2, 3", "holds -1, 0, 1, 9", "Recode it. A trial without a response (an omission)"],
        ),
        (table(response=[1, -1, 1, 2]), ["got 2 in row 3"]),
        (table(response=["a", "b", 3, "b"]), ["holds 3, 'a', 'b'"]),
    ],
)
def test_bad_tables(data, expected):
    message = refusal(data, predictors=["subject"] if isinstance(data, pd.DataFrame) and "subject" in data else [])
    for part in expected:
        assert part in message


def test_bad_predictors_name_rows_and_the_nearest_column():
    assert "no column 'subjct'; did you mean 'subject'?" in refusal(table(), predictors=["subjct"])
    assert "column 'x' is infinite in row 2" in refusal(table(x=[1.0, 2.0, -np.inf, 0.0]), predictors=["x"])
    assert "column 'x' has missing values in row 0" in refusal(table(x=[np.nan, 2.0, 1.0, 0.0]), predictors=["x"])


def test_missing_values_of_unused_columns_do_not_matter():
    assert len(check_table(table(note=[None, "a", None, "b"]), TWO).rt) == 4


@pytest.mark.parametrize(
    ("response", "choices", "upper", "expected"),
    [
        ([1, 0, 1, 0], TWO, "1", "upper='1' does not occur in column 'response'; it holds 0, 1."),
        (["a", "b", "b", "b"], TWO, "c", "upper='c' does not occur in column 'response'; it holds 'a', 'b'."),
        (
            ["a", "b", "c", "b"],
            TWO,
            "a",
            "with two values; it has 'a', 'b', 'c'. Recode the others. A trial without a response",
        ),
        ([0, 1, 2, 1], THREE, 1, "upper= is for models with two choices; this one has 3"),
    ],
)
def test_bad_upper(response, choices, upper, expected):
    assert expected in refusal(table(response=response), choices, upper=upper)


def test_choices_outside_an_n_choice_coding():
    message = refusal(table(response=[1, 2, 3, 3]), THREE)
    assert "must be one of 0, 1, 2; got 3 in rows 2, 3 (0 = first)" in message
    assert "upper=" not in message


WAYS = ["left", "mid", "right", "mid"]


@pytest.mark.parametrize(
    ("response", "simulator", "choices", "expected"),
    [
        (WAYS, THREE, ["right", "left", "mid"], [1, 2, 0, 2]),
        (pd.Categorical(WAYS), THREE, np.array(["left", "mid", "right"]), [0, 1, 2, 1]),
        ([30, 10, 10, 20], THREE, (10, 20, 30), [2, 0, 0, 1]),
        (["left", "left", "mid", "mid"], THREE, ["left", "none", "mid"], [0, 0, 2, 2]),
        ([True, False, True, True], TWO, [True, False], [0, 1, 0, 0]),
    ],
)
def test_choices_name_the_responses_in_their_order(response, simulator, choices, expected):
    trials = check_table(table(response=response), simulator, choices=choices)
    assert trials.choice.tolist() == expected
    assert trials.labels(simulator, trials.values)["response"].tolist() == list(response)


@pytest.mark.parametrize(
    ("response", "options", "expected"),
    [
        (WAYS, {}, "Name the responses in the order of the model's choices: choices=['left', 'mid', 'right']."),
        ([1, 2, 3, 2], {}, "choices=[1, 2, 3]."),
        (["a", "b", "b", "b"], {}, "choices=['a', 'b', 'response 2']."),
        (list("abcd"), {}, "The model has 3 choices: take one of as many as the column has responses"),
        (
            WAYS,
            {"choices": ["left", "mid", "rigth"]},
            "must be one of 'left', 'mid', 'rigth', as the model was told; got 'ri",
        ),
        (WAYS, {"choices": ["left", "mid"]}, "choices must name the 3 responses of the model in their order, for inst"),
        (WAYS, {"choices": ["left", "mid", "mid"]}, "choices must name the 3 responses"),
        (WAYS, {"choices": {"left", "mid", "right"}}, "choices must name the 3 responses of the model in their order"),
        (WAYS, {"choices": "lmr"}, "got 'lmr'."),
        (WAYS, {"choices": 3}, "got 3."),
        (WAYS, {"choices": ["left", ["mid"], "right"]}, "choices must name the 3 responses"),
        (WAYS, {"choices": ["left", pd.NA, "right"]}, "choices must name the 3 responses"),
        (WAYS, {"upper": "left"}, "name them in their order, choices=['left', 'mid', 'right']."),
        (WAYS, {"upper": "left", "choices": ["left", "mid", "right"]}, "leave one of them out."),
    ],
)
def test_responses_that_are_not_named_well(response, options, expected):
    assert expected in refusal(table(response=response), THREE, **options)


def test_a_race_of_two_is_not_spoken_of_as_bounds():
    message = refusal(table(response=["a", "b", "a", "a"]), model((0, 1)))
    assert "must be one of 0, 1; got 'a'" in message
    assert "bound" not in message


def test_many_values_are_counted_not_listed():
    data = pd.DataFrame({"rt": np.full(40, 0.5), "response": np.arange(40)})
    message = refusal(data)
    assert "rows 0, 2, 3, 4, 5 and 34 more (0 = first)" in message
    assert "0, 1, 2, 3, 4, 5, 6, 7 and 32 more" in message


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".feather", ".CSV"])
def test_tables_survive_a_file(tmp_path, suffix):
    path, data = tmp_path / f"trials{suffix}", table(x=[0.1, 0.2, 0.3, 0.4])
    writers = {
        ".csv": lambda: data.to_csv(path, index=False),
        ".tsv": lambda: data.to_csv(path, index=False, sep="\t"),
        ".parquet": lambda: data.to_parquet(path),
        ".feather": lambda: data.to_feather(path),
    }
    writers[suffix.lower()]()
    pd.testing.assert_frame_equal(read_table(path), data)
    pd.testing.assert_frame_equal(read_table(str(path)), data)


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_text("rt,response\n0.5,1\n", encoding="utf-8-sig")
    assert list(read_table(path).columns) == ["rt", "response"]


def test_quoted_headers_and_separators_inside_quotes(tmp_path):
    path = tmp_path / "quoted.csv"
    path.write_text('rt,"a;b"\n0.5,1\n')
    assert list(read_table(path).columns) == ["rt", "a;b"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("trials.xlsx", b"x", "unknown suffix; expected one of .csv, .tsv, .txt, .parquet, .feather"),
        ("trials", b"rt\n1\n", "unknown suffix"),
        ("trials.csv", b"", "is empty"),
        ("trials.csv", b"\n\n", "cannot be read as csv"),
        ("trials.csv", b"rt,response\n0.5,1\n0.5,1,2,3\n", "cannot be read as csv"),
        ("trials.csv", b"rt,response\n0.5,\xff\xfe\n", "or as .csv in UTF-8"),
        ("trials.csv", b"rt,response,rt\n0.5,1,0.6\n", "column names must be unique; 'rt' occurs more than once"),
        ("trials.csv", b"rt;response\n0,5;1\n", "separated by ';', expected ','"),
        ("trials.csv", b"rt\tresponse\n0.5\t1\n", "separated by '\\t', expected ','"),
        ("trials.tsv", b"rt,response\n0.5,1\n", "separated by ',', expected '\\t'"),
        ("trials.parquet", b"not parquet", "cannot be read as parquet"),
        ("trials.feather", b"not feather", "cannot be read as feather"),
    ],
)
def test_bad_files(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert expected in str(caught.value)
    assert repr(name) in str(caught.value)


def test_absent_files_and_folders(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*absent\.csv'; check the path"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="is a folder; give a file of trials"):
        read_table(tmp_path)


def test_a_header_alone_is_an_empty_table(tmp_path):
    path = tmp_path / "trials.csv"
    path.write_text("rt,response\n")
    assert "table is empty (0 rows, 2 columns)" in refusal(read_table(path))


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    path = tmp_path / "trials.parquet"
    table().to_parquet(path)

    def without_pyarrow(*_args, **_options):
        raise ImportError("Unable to find a usable engine")

    monkeypatch.setattr("pandas.io.parquet.get_engine", without_pyarrow)
    with pytest.raises(InputError, match=r"needs pyarrow: pip install pyarrow, or save the table as \.csv"):
        read_table(path)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (np.array([1.0, 2.5, 1.0, 4.0], dtype=object), "f"),
        (np.array([1, 2, 1, 4], dtype=object), "i"),
        (np.array([Decimal(1), Fraction(5, 2), 1.0, np.float32(4)], dtype=object), "f"),
        (np.array([10**30, 1, 2, 3], dtype=object), "f"),
        (np.array([1.0, 2.5, 1.0, 4.0], dtype=np.float16), "f"),
        (np.array([1.0, 2.5, 1.0, 4.0], dtype=np.longdouble), "f"),
        (pd.arrays.SparseArray([1.0, 2.5, 0.0, 0.0]), "f"),
        (np.array([True, False, True, True], dtype=object), "b"),
        (np.array(["1", "2", "1", "4"], dtype=object), "O"),
        (np.array([True, 2.0, True, 4.0], dtype=object), "O"),
    ],
)
def test_numbers_are_numbers_whatever_their_column(cells, kind):
    trials = check_table(table(x=cells), TWO, ["x"])
    column = trials.frame["x"]
    assert column.dtype.kind == kind
    assert column.tolist() == [float(cell) if kind == "f" else cell for cell in list(cells)]
    assert ("x" in trials.levels) == (kind in "bO")


@pytest.mark.parametrize("column", ["x", "rt", "response"])
@pytest.mark.parametrize("cell", [{}, [1], {1}, np.ones(2), ([],)])
def test_cells_that_are_no_values(column, cell):
    assert f"column {column!r} holds a {type(cell).__name__} in row 0" in refusal(
        table(**{"x": 0.0, column: [cell, 1, 2, 3]}), predictors=["x"]
    )


def test_complex_numbers():
    assert "column 'x' holds complex numbers" in refusal(table(x=np.ones(4) * 1j), predictors=["x"])


@pytest.mark.parametrize("upper", [[], [1], {}, {1: 2}, np.ones(4), np.ones(3), set()])
def test_upper_that_is_no_value(upper):
    assert "upper must be one value of column 'response'" in refusal(table(), upper=upper)


@pytest.mark.parametrize("name", [[], {}, None, 3, ("rt",), np.ones(2)])
def test_column_names_that_are_none(name):
    assert "the data have no column" in refusal(table(), rt=name)
    assert "the data have no column" in refusal(table(), response=name)


@pytest.mark.parametrize("rt", [5e-324, 1e-300, 1e-12])
def test_times_too_short_to_be_any(rt):
    assert "zero or negative in row 2" in refusal(table(rt=[0.5, 0.6, rt, 0.8]))


@pytest.mark.parametrize(
    "name", ["t.csv.gz", "t.tsv.gz", "t.txt", "T.TXT", "t.txt.gz", "semicolons.txt", "blanks.txt", "r.txt"]
)
def test_tables_of_other_programs(tmp_path, name):
    data = table(side=["a b", "c", "a b", "c"])
    separator = {"semicolons.txt": ";", "r.txt": " "}.get(name, "," if ".csv" in name else "\t")
    # write.table of R quotes names, and writes row names without a name of their own.
    data.to_csv(tmp_path / name, sep=separator, index=False, quoting=csv.QUOTE_NONNUMERIC)
    if name == "r.txt":
        first, *rest = (tmp_path / name).read_text().splitlines()
        (tmp_path / name).write_text("\n".join([first, *(f'"{i}" {line}' for i, line in enumerate(rest, 1))]) + "\n")
    pd.testing.assert_frame_equal(read_table(tmp_path / name).reset_index(drop=True), data)
