"""One process, loky's and dask's: the same numbers from each, and a worker that is killed loses nothing."""

import warnings
from contextlib import contextmanager, nullcontext

import joblib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from factory import Poisson, bake
from safetensors.numpy import load_file, save_file
from seeded import killed_once, normal

import hddm_sbi as hs
from hddm_sbi.analysis.calibration import ReplicaWarning
from hddm_sbi.hierarchy.fits.diagnostics import ConvergenceWarning
from hddm_sbi.likelihoods.catalogue import load_simulator
from hddm_sbi.parallel import ResultStore, WorkerWarning, run_tasks
from hddm_sbi.training.histograms import simulate_histograms
from hddm_sbi.training.recipe import Machine, Recipe

QUIET = Machine(progress=False)
RECIPE = Recipe(n_thetas=80, n_trials=100, bins=12, shard=20, seed=7)
SHORT = {"draws": 60, "tune": 60, "chains": 2, "progress": False}


@pytest.fixture(scope="module")
def cluster():
    """Dask's, of 2 worker processes."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as made,
        distributed.Client(made),
    ):
        yield made


@contextmanager
def backend(name, request):
    if name == "dask":
        request.getfixturevalue("cluster")
    with joblib.parallel_config(backend=name, n_jobs=2):
        yield


BACKENDS = pytest.mark.parametrize("name", ["loky", "dask"])


@BACKENDS
def test_histograms_are_the_same_bytes(name, request, tmp_path):
    ddm = load_simulator("ddm")
    simulate_histograms(ddm, RECIPE, tmp_path / "serial", QUIET)
    with backend(name, request):
        simulate_histograms(ddm, RECIPE, tmp_path / name, QUIET)
    files = sorted(path.name for path in (tmp_path / name).iterdir() if path.suffix != ".sha256")
    assert files == [f"histograms-000{shard}.safetensors" for shard in range(4)]
    for file in files:
        assert (tmp_path / "serial" / file).read_bytes() == (tmp_path / name / file).read_bytes()


@pytest.fixture(scope="module")
def model():
    return hs.HierarchicalModel("rate ~ 1 + (1|location)", bake(), likelihood=Poisson())


@pytest.fixture(scope="module")
def fitted(model):
    """By one process: SBC of two tables, and fits of two models."""
    return sbc_and_fits(model)


def sbc_and_fits(model):
    other = hs.HierarchicalModel("rate ~ 1", bake(), likelihood=Poisson())
    with warnings.catch_warnings():
        # So few draws and tables are for the same numbers, not for what they say.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", ReplicaWarning)
        return hs.run_sbc(model, 2, **SHORT), hs.fit_models({"by location": model, "all alike": other}, **SHORT)


@pytest.mark.parametrize("name", [pytest.param("loky", marks=pytest.mark.slow), "dask"])
def test_sbc_and_fits_are_the_same_numbers(name, request, model, fitted):
    with backend(name, request):
        tables, fits = sbc_and_fits(model)
    xr.testing.assert_identical(tables, fitted[0])
    assert list(fits) == list(fitted[1])
    for key, posterior in fits.items():
        for group in ("posterior", "log_likelihood", "observed_data"):
            pd.testing.assert_frame_equal(posterior[group].to_dataframe(), fitted[1][key][group].to_dataframe())


@pytest.mark.parametrize("name", ["loky", pytest.param("dask", marks=pytest.mark.slow)])
def test_a_killed_worker_loses_nothing(name, request, tmp_path):
    """loky ends all workers and says so, and we begin again what they were at; dask does that by itself."""
    given = {f"seed-{seed}": (seed, tmp_path) for seed in range(6)}
    said = pytest.warns(WorkerWarning, match="a worker died") if name == "loky" else nullcontext()
    with backend(name, request), said:
        made = run_tasks(
            killed_once, given, ResultStore(tmp_path, ".safetensors", save_file, load_file), progress=False
        )
    assert (tmp_path / "killed").exists()
    assert list(made) == list(given)
    for seed, result in enumerate(made.values()):
        np.testing.assert_array_equal(result["x"], normal(seed)["x"])
