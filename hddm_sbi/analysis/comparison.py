"""Many models fitted, one a task, each written as it ends, and compared."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.diagnostics import ConvergenceWarning
from hddm_sbi.hierarchy.model import HierarchicalModel
from hddm_sbi.hierarchy.priors import describe
from hddm_sbi.inference import inference_data
from hddm_sbi.inference.sampling import Method
from hddm_sbi.parallel import ResultStore, check_recipe, run_folder, run_tasks

#: what a file may be called on any system.
_FILE_NAME = re.compile(r"[\w][\w .+-]*")


def fit_models(
    models: Mapping[str, HierarchicalModel],
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    seed: int = 1,
    method: Method = "nuts",
    *,
    folder: Path | str | None = None,
    n_jobs: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """The posterior of every model, by its name, as `model.fit(draws, tune, chains, seed, method)` returns it, with the
    pointwise log likelihood: `compare_models` takes it as it is.

    models: by names that can be file names. folder: gets NAME.nc as each fit ends; a run that was stopped goes on with
    the fits that are not there. n_jobs: models at a time, as in `parallel.run_tasks`; every one of them samples its
    chains in threads. Warnings begin with the name of the model.

        fits = hs.fit_models({"drift": one, "drift and threshold": other}, folder="fits", n_jobs=2)
        hs.compare_models(fits)
    """
    unusable = [name for name in models if not _FILE_NAME.fullmatch(name)]
    if unusable:
        raise InputError(f"models must have names that can be file names; got {unusable}.")
    sampling = {"draws": draws, "tune": tune, "chains": chains, "seed": seed, "method": method}
    recipe = {"models": {name: fingerprint(model) for name, model in models.items()}, **sampling}
    given = {name: (model, draws, tune, chains, seed, method) for name, model in models.items()}
    with run_folder(folder) as kept:
        check_recipe(kept, recipe)
        store: ResultStore[Any] = ResultStore(kept, ".nc", inference_data.write, inference_data.read)
        fits = run_tasks(_fit, given, store, n_jobs=n_jobs, unit="models", progress=progress)
    for name, posterior in fits.items():
        for message in json.loads(posterior["posterior"].attrs["warnings"]):
            warnings.warn(f"{name}: {message}", ConvergenceWarning, stacklevel=2)
    return fits


def _fit(model: HierarchicalModel, draws: int, tune: int, chains: int, seed: int, method: Method) -> Any:
    """One posterior; what the fit warned about goes with it, for a worker's warnings reach nobody."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        posterior = model.fit(draws, tune, chains, seed, method, progress=False, log_likelihood=True)
    attrs = posterior["posterior"].attrs
    if attrs["stopped"] == "interrupted":
        raise KeyboardInterrupt
    attrs["warnings"] = json.dumps([str(warning.message) for warning in caught])
    return posterior


def compare_models(fits: Mapping[str, Any]) -> pd.DataFrame:
    """ArviZ's comparison of models of the same trials by the expected log predictive density of new ones (PSIS-LOO).

    fits: what `fit_models` returned, or posteriors with a pointwise log likelihood, by name.
    """
    observed = {name: inference_data.dataset(posterior, "observed_data") for name, posterior in fits.items()}
    first, *others = observed
    for name in others:
        if not observed[first].equals(observed[name]):
            raise InputError(
                f"models can be compared on the same trials only; those of {name!r} are not those of {first!r}."
            )
    return inference_data.compare(fits)


def fingerprint(model: HierarchicalModel) -> str:
    """Changes with what a posterior depends on: the table, the formulas, the priors, the likelihood."""
    lapse = model.lapse if isinstance(model.lapse, float) else describe(model.lapse)
    told = [repr(model), model.prior_table.to_csv(), str(lapse), model.likelihood.sha256]
    hashed = hashlib.sha256("\n".join(told).encode())
    hashed.update(np.ascontiguousarray(pd.util.hash_pandas_object(model.trials.frame).to_numpy()).tobytes())
    return hashed.hexdigest()
