"""Published data: described before the fit, and what a fit predicts is what was observed."""

import warnings

import numpy as np
import pandas as pd
import pytest

import hddm_sbi as hs

pytestmark = pytest.mark.real_data


def quick(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        return model.fit(quick=True, seed=1, progress=False)


def misfit(observed, table, quantity, by):
    """(observed share - predicted) in standard errors, by cell, lapses added: 5 % of both responses alike."""
    rows = table[table["quantity"] == quantity].set_index(by).loc[observed.index]
    predicted, n = 0.95 * rows["mean"] + 0.025, observed["n"]
    return (observed["share"] - predicted) / np.sqrt(predicted * (1 - predicted) / n + rows["sd"] ** 2)


def shares(data, by, upper):
    groups = upper.groupby([data[name] for name in by])
    return pd.DataFrame({"share": groups.mean(), "n": groups.size()})


def test_cavanagh(published):
    """Shares of upper responses of 14 subjects in three conditions: none is off by 5 standard errors."""
    data = pd.read_csv(published / "cavanagh.csv")
    formulas = ["v ~ stim + (stim|subj_idx)", "a ~ 1 + (1|subj_idx)", "t0 ~ 1 + (1|subj_idx)", "z = 0.5"]
    model = hs.HierarchicalModel(formulas, data, likelihood="exact", upper=1)
    assert (
        "v = v_Intercept + v_stim[WW] + v_1|subj_idx + v_stim|subj_idx[WW]    where stim = WW" in model.describe().map
    )
    posterior = quick(model)
    table = hs.predictions(model, posterior, by="stim", level="subj_idx", draws=40)
    observed = shares(data, ["stim", "subj_idx"], data["response"] == 1)
    off = misfit(observed, table, "probability[1]", ["stim", "subj_idx"])
    assert abs(off).max() < 5
    assert 0.3 < off.std() < 1.5
    easy = hs.comparisons(model, posterior, {"stim": ("WL", "LL")}, draws=40).set_index(
        ["contrast", "level", "quantity"]
    )
    assert easy.loc[("WL - LL", "average", "v"), "low"] > 0
    assert easy.loc[("WL - LL", "average", "rt_mean"), "high"] < 0
    tests = hs.hypothesis(model, posterior, ["v_stim[WL] > 0", "v_stim[WL] < v_stim[WW]"])
    assert tests["probability"][0] > 0.99
    assert len(hs.subject_table(model, posterior, by="stim", level="subj_idx")) == 14


def test_rr98(published):
    """Instruction and brightness (33 levels) of three people; thresholds differ by instruction."""
    data = pd.read_csv(published / "rr98.csv").query("not outlier").reset_index(drop=True)
    data = data.assign(brightness=(data["strength"] - 16) / 16)[::6].reset_index(drop=True)
    formulas = ["v ~ brightness + (brightness|id)", "a ~ instruction + (1|id)", "t0 ~ 1 + (1|id)"]
    model = hs.HierarchicalModel(formulas, data, likelihood="exact", upper="light")
    posterior = quick(model)
    table = hs.comparisons(model, posterior, {"instruction": ("speed", "accuracy")}, draws=20)
    effects = table.set_index(["contrast", "level", "quantity"])
    assert effects.loc[("speed / accuracy", "average", "a"), "high"] < 0.8
    assert effects.loc[("speed - accuracy", "average", "rt_mean"), "direction"] == 1.0
    new = hs.posterior_predictive(model, posterior, data.assign(id="new")[["brightness", "instruction", "id"]], draws=8)
    assert new["posterior_predictive"]["rt"].shape == (2, 4, len(data))
    dark = hs.comparisons(model, posterior, {"brightness": (-1.0, 1.0)}, level="id", draws=0)
    assert (dark.query("quantity == 'v'")["high"] < 0).all()
