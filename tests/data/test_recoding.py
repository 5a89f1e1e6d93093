"""Tables as they come: stimulus and response columns, labels of congruency, and congruency the wrong way round."""

import warnings

import numpy as np
import pandas as pd
import pytest

import hddm_sbi as hs
from hddm_sbi.data.trials import check_table

DDM, DMC, LBA3 = map(hs.load_simulator, ("ddm", "dmc", "lba3"))
TABLE = pd.DataFrame({"S": ["left", "right", "right", "left"], "key": ["left", "right", "left", "left"]})
CONFLICT = pd.DataFrame({"congruency": ["comp", "incomp", "incomp", "comp"]})


def accuracy(table, correct="S", simulator=DDM, **options):
    return check_table(table.assign(rt=0.5), simulator, response="key", correct=correct, **options)


def congruency(table, congruent, simulator=DMC, neutral=None):
    trials = check_table(
        table.assign(rt=0.5, response=1), simulator, ["congruency"], congruent=congruent, neutral=neutral
    )
    return trials.frame["congruency"].tolist()


def refusal(function, *arguments, **options):
    with pytest.raises(hs.InputError) as caught:
        function(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [object, "category", "string"])
def test_responses_become_correct_or_error(dtype):
    before = TABLE.astype(dtype)
    trials = accuracy(before)
    assert trials.frame["key"].tolist() == ["correct", "correct", "error", "correct"]
    assert trials.choice.tolist() == [1, 1, 0, 1]
    pd.testing.assert_frame_equal(before, TABLE.astype(dtype))


def test_stimuli_and_responses_may_be_numbers_and_more_than_two():
    table = pd.DataFrame({"S": [1, 2, 3, 1], "key": [1.0, 3.0, 3.0, 2.0]})
    assert accuracy(table).choice.tolist() == [1, 0, 1, 0]


def test_stimuli_that_are_no_responses():
    message = refusal(accuracy, TABLE.assign(S=["word", "right", "word", "left"]))
    for part in ("column 'S' holds 'word' in rows 0, 2 (0 = first)", "'key' never does: it holds 'left', 'right'"):
        assert part in message
    coded = refusal(accuracy, TABLE.assign(key=["correct", "error", "error", "correct"]))
    assert "where column 'key' itself says correct or error, write upper='correct' instead" in coded


def test_responses_that_are_never_correct():
    message = refusal(accuracy, pd.DataFrame({"S": ["a", "b", "a"], "key": ["a", "b", "none"]}))
    for part in ("column 'key' holds 'none' in row 2 (0 = first)", "'S' never does: it holds 'a', 'b'", "omission"):
        assert part in message


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"correct": "stim"}, "the data have no column 'stim'"),
        ({"correct": "key"}, "correct must be the column that has the correct response of each trial; got 'key'"),
        ({"correct": ["S"]}, "correct must be the column that has the correct response of each trial; got ['S']"),
        ({"upper": "left"}, "correct='S' makes the responses error and correct; leave out upper='left'"),
        ({"choices": ["left", "right"]}, "error and correct; leave out choices=['left', 'right']"),
        ({"simulator": LBA3}, "for models of two responses, correct and error; 'lba3' is none"),
        ({"table": TABLE.assign(S=["left", None, "right", "left"])}, "column 'S' has missing values in row 1"),
    ],
)
def test_bad_correct(options, expected):
    assert expected in refusal(accuracy, **{"table": TABLE, **options})


@pytest.mark.parametrize(
    ("labels", "congruent", "codes"),
    [
        (["comp", "incomp", "incomp", "comp"], "comp", [1, -1, -1, 1]),
        (["comp", "incomp", "incomp", "comp"], "incomp", [-1, 1, 1, -1]),
        ([0, 1, 1, 0], 0, [1, -1, -1, 1]),
        (pd.Categorical(["c", "i", "i", "c"]), "c", [1, -1, -1, 1]),
        ([True, False, False, True], True, [1, -1, -1, 1]),
    ],
)
def test_labels_of_congruency(labels, congruent, codes):
    assert congruency(CONFLICT.assign(congruency=labels), congruent) == codes


@pytest.mark.parametrize("congruent", ["congruent", 1, ["comp"], np.ones(4)])
def test_labels_that_do_not_occur(congruent):
    message = refusal(congruency, CONFLICT, congruent)
    assert "must say which trials are congruent" in message
    assert "holds 'comp', 'incomp'" in message


def test_neutral_trials_and_other_models():
    three = CONFLICT.assign(congruency=["comp", "incomp", "neutral", "comp"])
    assert congruency(three, "comp", neutral="neutral") == [1, -1, 0, 1]
    without_incongruent = three.assign(congruency=["comp", "neutral", "neutral", "comp"])
    assert congruency(without_incongruent, "comp", neutral="neutral") == [1, 0, 0, 1]
    for neutral in (None, "comp", "neutrals"):
        assert "holds 'comp', 'incomp', 'neutral'" in refusal(congruency, three, "comp", neutral=neutral)
    assert "needs congruent=" in refusal(congruency, three, None, neutral="neutral")
    assert "'ddm' has no 'congruency': leave it out" in refusal(congruency, CONFLICT, "comp", DDM)
    assert "'ddm' has no 'congruency': leave it out" in refusal(congruency, CONFLICT, None, DDM, neutral="comp")


def conflict_table(sign, subjects=3, seed=1):
    """Trials of dmc; `sign` is that of congruent trials in the table."""
    code = np.tile([1, -1], 60 * subjects)
    theta = {"v": 4.0, "a": 0.5, "t0": 0.3, "amp": 0.15, "tau": 0.06, "alpha": 3.0, "st0": 0.1, "congruency": code}
    trials = hs.simulate("dmc", theta, seed=seed)
    return trials.assign(congruency=sign * code, subject=np.repeat(np.arange(subjects), 120))


def test_labels_in_a_model_are_the_codes():
    trials = conflict_table(1)
    labelled = trials.assign(congruency=np.where(trials["congruency"] > 0, "comp", "incomp"))
    models = [
        hs.HierarchicalModel("v ~ 1 + (1|subject)", table, "dmc", congruent=congruent)
        for table, congruent in ((trials, None), (labelled, "comp"))
    ]
    assert models[0].fingerprint == models[1].fingerprint
    message = refusal(hs.HierarchicalModel, "v ~ 1", labelled, "dmc")
    assert "must be +1 (congruent), +0 (neutral) or -1 (incongruent); got 'comp'" in message
    assert "say which is congruent: congruent='comp' or congruent='incomp'" in message
    unknown = trials.assign(congruency=trials["congruency"].where(trials.index != 7, 2))
    assert "got 2 in row 7 (0 = first); say which is" in refusal(hs.HierarchicalModel, "v ~ 1", unknown, "dmc")


@pytest.mark.parametrize("formula", ["v ~ 1", "v ~ 1 + (1|subject)"])
def test_congruency_the_wrong_way_round(formula):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hs.HierarchicalModel(formula, conflict_table(1), "dmc")
    where = "in all 3 groups" if "subject" in formula else "here"
    with pytest.warns(hs.TableWarning, match=f"incongruent trials .* are faster and more often correct {where}"):
        hs.HierarchicalModel(formula, conflict_table(-1), "dmc")


def test_one_subject_the_right_way_round_is_enough():
    one = conflict_table(-1)
    one.loc[one["subject"] == 1, "congruency"] *= -1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hs.HierarchicalModel("v ~ 1 + (1|subject)", one, "dmc")
