"""Stimulus coding: the column of +1 and -1, what is ambiguous, and a bias that comes back."""

import numpy as np
import pandas as pd
import pytest

import hddm_sbi as hs

TABLE = pd.DataFrame({"S": ["face", "house", "face"], "three": ["a", "b", "c"], "one": "x", "n": [0, 1, 0]}, [5, 3, 9])


@pytest.mark.parametrize(
    ("stimulus", "upper", "expected"),
    [
        ("S", "face", [1, -1, 1]),
        ("S", "house", [-1, 1, -1]),
        ("three", ["a", "c"], [1, -1, 1]),
        ("three", ["b"], [-1, 1, -1]),
        ("n", 1, [-1, 1, -1]),
    ],
)
def test_the_sign_of_every_trial(stimulus, upper, expected):
    side = hs.code_stimulus(TABLE, stimulus, upper=upper)
    assert side.tolist() == expected
    assert side.index.tolist() == [5, 3, 9]
    categorical = TABLE.assign(**{stimulus: TABLE[stimulus].astype("category")})
    assert hs.code_stimulus(categorical, stimulus, upper=upper).tolist() == expected


@pytest.mark.parametrize(
    ("stimulus", "upper", "expected"),
    [
        ("S", "faces", "upper='faces' must be the stimulus in column 'S' .* holds 'face', 'house'"),
        ("S", [], "must be the stimulus in column 'S'"),
        ("S", None, "upper=None must be the stimulus"),
        ("S", ["face", "house"], "leaves no stimulus in column 'S' that asks for the lower response"),
        ("one", "x", "leaves no stimulus in column 'one'"),
        ("three", "a", r"does not say which response the others ask for; .*upper=\['a'\] if it is alone"),
        ("T", "face", "the data have no column 'T'"),
        (["S"], "face", "stimulus must be the name of a column"),
    ],
)
def test_what_is_ambiguous_is_refused(stimulus, upper, expected):
    with pytest.raises(hs.InputError, match=expected):
        hs.code_stimulus(TABLE, stimulus, upper=upper)


def test_missing_stimuli_are_refused():
    with pytest.raises(hs.InputError, match="'S' has missing values in row 1"):
        hs.code_stimulus(TABLE.assign(S=["face", None, "face"]), "S", upper="face")


def test_a_bias_comes_back_in_stimulus_coding_and_its_mirror():
    """2 000 trials, z = .57: both ways within 5 posterior sds of the truth (false alarms 6e-7), and far from .5."""
    rng = np.random.default_rng(1)
    stimulus = rng.choice(["face", "house"], 2_000)
    v = np.where(stimulus == "face", 0.9, -0.9)
    table = hs.simulate("ddm", {"v": v, "a": 1.0, "z": 0.57, "t0": 0.3}, seed=1).assign(S=stimulus)
    table["response"] = np.where(table["response"] == 1, "face", "house")
    table["side"] = hs.code_stimulus(table, "S", upper="face")
    by_stimulus = ["v ~ 0 + side", "z ~ 1"], {"upper": "face"}
    mirrored = ["v ~ 1", "z ~ 0 + side"], {"correct": "S"}
    for formulas, coding in (by_stimulus, mirrored):
        model = hs.HierarchicalModel(formulas, table, likelihood="exact", lapse=0.0, **coding)
        posterior = model.fit(draws=500, tune=300, chains=2, seed=1, progress=False)["posterior"]
        drift = posterior["v_side" if coding == by_stimulus[1] else "v_Intercept"]
        bias = posterior["z_Intercept" if coding == by_stimulus[1] else "z_side"]
        for draws, truth in ((drift, 0.9), (bias, np.log(0.57 / 0.43))):
            assert abs(float(draws.mean()) - truth) < 5 * float(draws.std())
        assert float(bias.mean()) > 5 * float(bias.std())
