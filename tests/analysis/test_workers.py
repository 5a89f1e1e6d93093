"""Workers of real runs that are killed, and two processes at one folder: the same numbers, and nothing is lost."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from seeded import slow_draw

import hddm_sbi as hs
from hddm_sbi.inference import inference_data

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning",
        "ignore::hddm_sbi.analysis.calibration.ReplicaWarning",
    ),
]
#: prints the ranks of two tables, kept in a folder.
SBC = """
import sys
import hddm_sbi as hs

trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 40, seed=1)
model = hs.HierarchicalModel({"v": "1", "a": 1.0, "z": 0.5, "t0": 0.3}, trials, likelihood="exact")
options = {"draws": 100, "tune": 1, "chains": 1, "method": "laplace", "progress": False}
print(hs.run_sbc(model, 20, folder=sys.argv[1], **options)["mean"].values.tolist())
"""


@pytest.fixture(scope="module")
def model():
    trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 200, seed=1)
    return hs.HierarchicalModel({"v": "1", "a": "1", "z": 0.5, "t0": "1"}, trials, likelihood="exact")


def workers() -> list[int]:
    """Processes that joblib started for this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"popen_loky" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def killed_when(there) -> threading.Thread:
    """Kills one worker as soon as something is there."""

    def watch() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if there() and workers():
                os.kill(workers()[0], signal.SIGKILL)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def sbc(model, folder, n_jobs):
    return hs.run_sbc(model, 6, draws=200, tune=200, chains=1, folder=folder, n_jobs=n_jobs, progress=False)


def fits(model, folder, n_jobs):
    models = {f"m{i}": model for i in range(6)}
    options = {"draws": 300, "tune": 300, "chains": 1, "seed": 1, "progress": False}
    made = hs.fit_models(models, folder=folder, n_jobs=n_jobs, **options)
    return inference_data.dataset(made["m5"])


def simulations(_, folder, n_jobs):
    simulator = hs.declare({"mu": (0.0, 1.0)}, {"x": "real"})(slow_draw)
    made = simulator.simulate_outcomes(np.full((40_000, 1), 0.5), 1, folder=folder, n_jobs=n_jobs)
    return pd.DataFrame(made.values)


@pytest.mark.parametrize(("run", "result"), [(sbc, "*.json"), (fits, "*.nc"), (simulations, "*.npz")])
def test_a_killed_worker_costs_a_warning(model, tmp_path, run, result):
    whole = run(model, tmp_path / "whole", 1)
    thread = killed_when(lambda: len(list((tmp_path / "killed").glob(result))) > 1)
    with pytest.warns(hs.WorkerWarning, match="a worker died .* that have no result yet run again"):
        again = run(model, tmp_path / "killed", 2)
    thread.join(timeout=1)
    assert again.equals(whole)


def test_two_processes_at_one_folder_end_with_the_same_tables(tmp_path):
    def start():
        return subprocess.Popen([sys.executable, "-c", SBC, tmp_path], stdout=subprocess.PIPE, text=True)

    one, two = start(), start()
    said = [process.communicate(timeout=120)[0] for process in (one, two)]
    assert one.returncode == two.returncode == 0
    assert said[0] == said[1]
    assert len(list(tmp_path.glob("table-*.json"))) == 20
    assert not list(tmp_path.glob("*.part"))
