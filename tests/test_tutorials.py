"""Every tutorial runs from top to bottom with small settings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).resolve().parent.parent / "tutorials").glob("*.py"))


@pytest.mark.parametrize("path", TUTORIALS, ids=[path.stem for path in TUTORIALS])
def test_tutorial_runs(path: Path, tmp_path: Path):
    small = {
        "TUTORIAL_DRAWS": "40",
        "TUTORIAL_TRIALS": "10",
        "TUTORIAL_SIMULATIONS": "2000",
        "MPLBACKEND": "Agg",
    }
    command = [sys.executable, "-W", "ignore", str(path)]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **small}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
