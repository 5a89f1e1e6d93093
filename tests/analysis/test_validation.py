"""SBC of one model of every kind, as docs/validation.md reports it; slow. Its instrument fails where it should."""

import numpy as np
import pytest
import xarray as xr

import hddm_sbi as hs
from benchmarks.validation import MODELS, TABLES, calibrated, row


def test_every_kind_is_there():
    """As many as the page has lines; those of shipped likelihoods can be made at once."""
    assert list(MODELS) == ["ddm", "angle", "lba", "dmc", "omissions", "learning", "own simulator"]
    made = {name: MODELS[name]() for name in MODELS if name != "own simulator"}
    assert [model.simulator.name for model in made.values()] == ["ddm", "angle", "lba", "dmc", "ddm", "ddm"]
    assert all(model.grouping_columns == ("subject",) for model in made.values())
    assert made["learning"].sequences
    assert made["omissions"].trials.observation is not None


@pytest.mark.parametrize(("width", "verdict"), [(1.0, "Good"), (1.7, "Miscalibrated"), (0.6, "Miscalibrated")])
def test_a_line_says_what_ranks_say(width, verdict):
    """Ranks of 100 tables of a posterior whose sds are right, too wide, or too narrow by 1.7; seeded."""
    rng = np.random.default_rng(1)
    truth, draws = rng.normal(size=(TABLES, 2)), width * rng.normal(size=(99, TABLES, 2))
    tables = xr.Dataset(
        {"rank": (("table", "coefficient"), (draws < truth).sum(0))}, {"coefficient": ["v_Intercept", "a_Intercept"]}
    )
    cells = [cell.strip() for cell in row("ddm", tables).strip("|").split("|")]
    assert cells[:3] == ["ddm", "100", "2"]
    assert cells[-1] == verdict
    spread = [float(x) for x in cells[4].split(" to ")]
    assert spread[0] <= spread[1]
    assert (spread[0] > 1.2) == (width < 1.0)
    assert (spread[1] < 0.8) == (width > 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_posteriors_have_the_ranks_that_they_should_have(name):
    """SBC of 100 tables each: false alarms in 1 of 1 000; sds off by 1.5 are found in 78 to 88 % (decision 010)."""
    verdict = hs.report.sbc_verdict(calibrated(name, TABLES))
    assert verdict.startswith("Good"), verdict
