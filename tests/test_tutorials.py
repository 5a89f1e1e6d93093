"""Every tutorial runs from top to bottom with small settings."""

import runpy
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

TUTORIALS = sorted((Path(__file__).resolve().parent.parent / "tutorials").glob("*.py"))
SMALL = {"TUTORIAL_DRAWS": "25", "TUTORIAL_TRIALS": "10", "TUTORIAL_SIMULATIONS": "2000"}


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("path", TUTORIALS, ids=[path.stem for path in TUTORIALS])
def test_tutorial_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plt.switch_backend("agg")
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        # What few draws and few simulations are warned of.
        warnings.simplefilter("ignore")
        runpy.run_path(str(path), run_name="__main__")
    plt.close("all")
