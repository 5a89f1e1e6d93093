"""Result folders in which something was changed: noticed and made again, or refused; never other numbers."""

import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from mutations import mutated

import hddm_sbi as hs
from hddm_sbi.inference import inference_data

pytestmark = pytest.mark.filterwarnings(
    "ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning",
    "ignore::hddm_sbi.analysis.calibration.ReplicaWarning",
)
#: mutated folders of each kind in the default suite, and in `make validate`.
FEW, MANY = 12, 200
FIXED = {"a": 1.0, "z": 0.5, "t0": 0.3}


@pytest.fixture(scope="module")
def model():
    trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 40, seed=1)
    return hs.HierarchicalModel({"v": "1", **FIXED}, trials, likelihood="exact", lapse=0.05)


def sbc(model, folder):
    return hs.run_sbc(model, 3, draws=100, tune=1, chains=1, method="laplace", folder=folder, progress=False)


def recovery(model, folder):
    options = {"draws": 100, "tune": 1, "chains": 1, "method": "laplace", "progress": False}
    return hs.recover_parameters(model, {"v_Intercept": 1.0}, 3, folder=folder, **options)


def fits(model, folder):
    options = {"draws": 20, "tune": 1, "chains": 1, "method": "laplace", "progress": False}
    made = hs.fit_models({"one": model, "two": model}, folder=folder, **options)
    return inference_data.dataset(made["one"]).merge(inference_data.dataset(made["two"]).rename(v_Intercept="two"))


def simulations(_, folder):
    simulator = hs.declare({"mu": (0.0, 1.0)}, {"x": "real"})(lambda mu, rng: rng.normal(mu, 1.0))
    made = simulator.simulate_outcomes(np.linspace(0.1, 0.9, 50)[:, None], 1, folder=folder)
    return pd.DataFrame(made.values)


@pytest.mark.parametrize("n", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("run", [sbc, recovery, fits, simulations])
def test_mutated_result_folders(model, tmp_path, run, n):
    """Results, their hashes and the recipe: one file changed, cut, emptied, removed or a folder."""
    whole, rng, noticed = run(model, tmp_path / "whole"), np.random.default_rng(1), 0
    for i in range(n):
        folder = tmp_path / str(i)
        shutil.copytree(tmp_path / "whole", folder)
        files = sorted(folder.iterdir())
        victim = files[i % len(files)]
        content = victim.read_bytes()
        victim.unlink()
        if i % 7 < 4:
            victim.write_bytes(mutated(content, i % 7, rng))
        elif i % 7 == 4:
            victim.touch()
        elif i % 7 == 5:
            victim.mkdir()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", hs.FitFileWarning)
            try:
                assert run(model, folder).equals(whole), victim.name
            except hs.InputError:
                noticed += 1
        noticed += any(w.category is hs.FitFileWarning for w in caught)
    assert noticed > n / 2
