"""Fits of many models: each written as it ends, never made twice, and compared on the same trials only."""

import warnings

import arviz as az
import numpy as np
import pytest

import hddm_sbi as hs
from hddm_sbi.analysis.experiment import simulate_experiment
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.fits.diagnostics import ConvergenceWarning
from hddm_sbi.inference import inference_data

SHORT = {"draws": 100, "tune": 100, "chains": 2, "progress": False}
FIXED = {"a": "1", "z": 0.5, "t0": 0.3}


@pytest.fixture(scope="module")
def models():
    """Drifts of 1.8 and 1.1, by condition or not."""
    trials = simulate_experiment(4, 40, seed=1).trials
    return {
        "by condition": hs.HierarchicalModel({"v": "condition", **FIXED}, trials, likelihood="exact"),
        "all alike": hs.HierarchicalModel({"v": "1", **FIXED}, trials, likelihood="exact"),
    }


@pytest.fixture(scope="module")
def fitted(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fits")
    with pytest.warns(ConvergenceWarning) as said:
        fits = hs.fit_models(models, folder=folder, **SHORT)
    return fits, folder, [str(warning.message) for warning in said]


def test_fits_are_those_of_the_models_and_lie_in_the_folder(models, fitted):
    fits, folder, _ = fitted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        alone = models["all alike"].fit(seed=1, **SHORT)
    np.testing.assert_array_equal(fits["all alike"]["posterior"]["v_Intercept"], alone["posterior"]["v_Intercept"])
    assert {path.name for path in folder.iterdir() if path.suffix != ".sha256"} == {
        "by condition.nc",
        "all alike.nc",
        "recipe.json",
    }
    read = az.from_netcdf(folder / "by condition.nc")
    np.testing.assert_array_equal(read["posterior"]["v_condition"], fits["by condition"]["posterior"]["v_condition"])
    assert fits["by condition"]["log_likelihood"]["rt_response"].shape == (2, 100, 320)


def test_warnings_name_the_model(fitted):
    assert fitted[2]
    assert all(message.startswith(("by condition: ", "all alike: ")) for message in fitted[2])


def test_fits_that_are_there_are_not_made_again(models, fitted, monkeypatch):
    fits, folder, said = fitted
    monkeypatch.setattr(hs.HierarchicalModel, "fit", None)
    with pytest.warns(ConvergenceWarning) as again:
        read = hs.fit_models(models, folder=folder, **SHORT)
    assert [str(warning.message) for warning in again] == said
    for name, posterior in fits.items():
        np.testing.assert_array_equal(read[name]["posterior"]["v_Intercept"], posterior["posterior"]["v_Intercept"])
    with pytest.raises(InputError, match="another recipe"):
        hs.fit_models(models, seed=2, folder=folder, **SHORT)
    with pytest.raises(InputError, match="another recipe"):
        hs.fit_models(
            {"all alike": models["by condition"], "by condition": models["all alike"]}, folder=folder, **SHORT
        )


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning")
def test_the_better_model_comes_first(fitted):
    table = hs.compare_models(fitted[0])
    assert table.index.tolist() == ["by condition", "all alike"]
    assert table["elpd_diff"].iloc[1] > 5


def test_models_of_other_trials_are_not_compared(fitted):
    fits = dict(fitted[0])
    other = fits["all alike"].copy()
    fits["all alike"] = other.isel(trial=slice(0, 300), groups=["observed_data"])
    with pytest.raises(InputError, match="those of 'all alike' are not those of 'by condition'"):
        hs.compare_models(fits)


def test_what_is_no_fit_is_not_compared(models, fitted):
    with pytest.raises(InputError, match=r"fits\['one'\] must be what model.fit returned.*got HierarchicalModel"):
        hs.compare_models({"two": fitted[0]["all alike"], "one": models["all alike"]})


def test_names_must_be_names_of_files(models):
    with pytest.raises(InputError, match=r"can be file names; got \['v/a', '../x'\]"):
        hs.fit_models({"v/a": models["all alike"], "../x": models["all alike"], "fine": models["all alike"]})


@pytest.mark.parametrize("models", [{}, [], None, {"one": 3}])
def test_what_are_no_models_is_not_fitted(models):
    with pytest.raises(InputError, match=r"^models? must be a (dict of models by name|HierarchicalModel; got int)"):
        hs.fit_models(models)


def test_a_number_is_no_name(models):
    with pytest.raises(InputError, match=r"can be file names; got \[1\]"):
        hs.fit_models({1: models["all alike"]})


def test_ctrl_c_keeps_the_fits_that_ended(models, fitted, tmp_path, monkeypatch):
    """The fit under way, whose draws so far `fit` returns, is not one of them."""
    fits, calls = fitted[0], []

    def fit(model, *arguments, **options):
        calls.append(model)
        posterior = fits["by condition"].copy()
        posterior["posterior"].attrs["stopped"] = "interrupted" if len(calls) == 2 else ""
        return posterior

    monkeypatch.setattr(hs.HierarchicalModel, "fit", fit)
    with pytest.raises(KeyboardInterrupt) as stop:
        hs.fit_models(models, folder=tmp_path, **SHORT)
    assert "1 of 2 models are done" in stop.value.__notes__[-1]
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".sha256"} == {"by condition.nc", "recipe.json"}


def test_a_fit_whose_folder_is_full_is_kept_elsewhere(models, tmp_path, monkeypatch):
    write = inference_data.write_whole

    def full(content, path):
        if path.parent == tmp_path:
            raise OSError(28, "No space left on device")
        write(content, path)

    monkeypatch.setattr(inference_data, "write_whole", full)
    with pytest.raises(InputError, match=r"cannot be written \(\[Errno 28\]") as raised:
        hs.fit_models({"one": models["all alike"]}, folder=tmp_path, **SHORT)
    place = str(raised.value).partition("The draws are in ")[2].removesuffix(".")
    assert az.from_netcdf(place).posterior.sizes["draw"] == 100
