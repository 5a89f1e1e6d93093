"""Fit many models, one task each, written as it ends; and compare them."""

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from scipy.special import softmax

from hddm_sbi.analysis.evidence import evidence
from hddm_sbi.analysis.left_out import TRIAL, LeftOut, expected_predictive
from hddm_sbi.analysis.refits import Refit
from hddm_sbi.errors import InputError, whole_number
from hddm_sbi.hierarchy import ConvergenceWarning, HierarchicalModel, check_model, load_model, rescued
from hddm_sbi.inference import inference_data
from hddm_sbi.parallel import ResultStore, check_recipe, run_folder, run_tasks

#: names of files that any system allows.
_FILE_NAME = re.compile(r"[\w][\w .+-]*")


def fit_models(
    models: Mapping[str, HierarchicalModel],
    draws: int | None = None,
    tune: int = 1000,
    chains: int = 4,
    seed: int = 1,
    method: str = "nuts",
    *,
    folder: Path | str | None = None,
    n_jobs: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Fit many models, and keep each fit as it ends.

    Parameters
    ----------
    models
        Models by names that can be file names.
    draws
        Number of draws per chain that are kept of each fit; by default as many as `model.fit` takes.
    tune
        Number of tuning steps per chain before the draws.
    chains
        Number of chains of each fit.
    seed
        Same seed, same draws.
    method
        How each model is fitted: a name in `hs.SAMPLERS`, as in `model.fit`.
    folder
        Gets NAME.nc as each fit ends; a run that was stopped goes on with the fits that are missing.
    n_jobs
        Models at a time, each of which samples its chains in threads; None for as many as `joblib.parallel_config`
        says, or one.
    progress
        Show a progress bar.

    Returns
    -------
    dict of str to arviz.InferenceData
        What `model.fit` returns for every model, with the pointwise log likelihood, as `compare_models` needs it.

    Raises
    ------
    InputError
        A name cannot be a file name, or the folder holds another run.

    Warns
    -----
    ConvergenceWarning
        What `model.fit` warns about, with the name of the model before it.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> trials = hs.simulate_experiment(n_subjects=2, n_trials=20).trials
    >>> fixed = {"a": 1.0, "z": 0.5, "t0": 0.3}
    >>> null = hs.HierarchicalModel({"v": "1", **fixed}, trials, likelihood="exact")
    >>> effect = hs.HierarchicalModel({"v": "condition", **fixed}, trials, likelihood="exact")
    >>> fits = hs.fit_models({"null": null, "effect": effect}, chains=2, progress=False)
    >>> fits["effect"]["posterior"]["v_condition"].shape
    (2, 1000, 1)
    """
    if not isinstance(models, Mapping) or not models:
        raise InputError(f"models must be a dict of models by name, such as {{'null': null}}; got {models!r}.")
    for model in models.values():
        check_model(model)
    unusable = [name for name in models if not (isinstance(name, str) and _FILE_NAME.fullmatch(name))]
    if unusable:
        raise InputError(f"models must have names that can be file names; got {unusable}.")
    sampling = {"draws": draws, "tune": tune, "chains": chains, "seed": seed, "method": method}
    recipe = {"models": {name: model.fingerprint for name, model in models.items()}, **sampling}
    arguments = {name: (model, draws, tune, chains, seed, method) for name, model in models.items()}
    with run_folder(folder) as kept:
        check_recipe(kept, recipe)
        store: ResultStore[Any] = ResultStore(kept, ".nc", _keep, inference_data.read)
        fits = run_tasks(_fit, arguments, store, n_jobs=n_jobs, unit="models", progress=progress)
    for name, posterior in fits.items():
        for message in json.loads(posterior["posterior"].attrs["warnings"]):
            warnings.warn(f"{name}: {message}", ConvergenceWarning, stacklevel=2)
    return fits


def _fit(model: HierarchicalModel, draws: int | None, tune: int, chains: int, seed: int, method: str) -> Any:
    """One posterior, with the messages of its warnings: the warnings of a worker reach nobody."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        posterior = model.fit(draws, tune, chains, seed, method, progress=False, log_likelihood=True)
    attrs = posterior["posterior"].attrs
    if attrs["stopped"] == "interrupted":
        raise KeyboardInterrupt
    attrs["warnings"] = json.dumps([str(warning.message) for warning in caught])
    return posterior


def _keep(posterior: Any, path: Path) -> None:
    """Write a fit; where there is no room, elsewhere, and say where."""
    try:
        inference_data.write(posterior, path)
    except OSError as reason:
        raise InputError(f"{str(path)!r} cannot be written ({reason}). {rescued(posterior)}") from reason


def compare_models(
    fits: Mapping[str, Any],
    by: Literal["loo", "evidence"] = "loo",
    leave_out: str = TRIAL,
    *,
    models: Mapping[str, HierarchicalModel] | None = None,
    refit: bool | int = False,
    folder: Path | str | None = None,
    n_jobs: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Compare models of the same trials: by what they predict of others, or by their evidence.

    Parameters
    ----------
    fits
        What `fit_models` returned, or posteriors, by name. By "loo" they need a pointwise log likelihood.
    by
        "loo": expected log predictive density of what is left out (PSIS-LOO, by ArviZ). "evidence": probability of the
        trials under each model, averaged over its priors, as in `evidence`.
    leave_out
        By "loo": "trial", for how well new trials of the same subjects are predicted; or a column, such as "subject",
        for how well all trials of a new subject are.
    models
        By "evidence", or with `refit`: the models that were fitted, by the same names. They are made again from the
        fits where they are not given, which is not possible for a likelihood of your own that has no file.
    refit
        By "loo": True fits a model again without each trial or group whose Pareto k is too high, with the settings of
        the first fit, and takes the density of what was left out from both fits, by bridge sampling: exact leave-one-
        out. The designs, groups and priors are those of the whole table. A number: at most so many of each model, the
        worst first.
    folder
        With `refit`: keeps what every refit says as it ends; the same call goes on from there, also with more of them.
    n_jobs
        Refits at a time; None for as many as `joblib.parallel_config` says, or one.
    progress
        Show a progress bar of the refits.

    Returns
    -------
    pandas.DataFrame
        One row per model, the best first. By "loo": `elpd_loo`, `elpd_diff` to the best model and its standard error
        `dse`, ArviZ's other columns, the largest `pareto_k` that is left, and how many `refits` there were. By
        "evidence": `log_evidence` and its standard `error`, `log_bayes_factor` of the best model against this one, and
        `probability` of each model where all are equally likely before the trials are seen.

    Raises
    ------
    InputError
        The models are of different trials, a posterior has no log likelihood, there are fewer than two, or there is
        no column to leave out; a posterior is not that of its model; or what `evidence` raises.

    Warns
    -----
    ConvergenceWarning
        Where Pareto k says that a number is not to be trusted: of what, and what to do. k is the shape of the tail of
        the weights that make draws of the posterior draws of one without a trial or group: below .7 their mean can be
        trusted, above it a few draws decide it, as those without it lie elsewhere. Also of refits that warn, or whose
        densities are known to half a nat or worse.

    References
    ----------
    Vehtari, Gelman & Gabry (2017), Statistics and Computing 27:1413. Vehtari et al. (2024), Journal of Machine
    Learning Research 25:72. Meng & Wong (1996), Statistica Sinica 6:831.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> trials = hs.simulate_experiment(n_subjects=2, n_trials=40).trials
    >>> fixed = {"a": 1.0, "z": 0.5, "t0": 0.3}
    >>> null = hs.HierarchicalModel({"v": "1", **fixed}, trials, likelihood="exact")
    >>> effect = hs.HierarchicalModel({"v": "condition", **fixed}, trials, likelihood="exact")
    >>> fits = hs.fit_models({"null": null, "effect": effect}, progress=False)
    >>> hs.compare_models(fits).index.tolist()
    ['effect', 'null']
    >>> hs.compare_models(fits, refit=True)["refits"].tolist()  # none is needed
    [0, 0]
    >>> table = hs.compare_models(fits, by="evidence")
    >>> table.columns.tolist()
    ['log_evidence', 'error', 'log_bayes_factor', 'probability']
    >>> bool(table.loc["effect", "probability"] > 0.5)
    True
    """
    if not isinstance(fits, Mapping) or len(fits) < 2:
        raise InputError("fits must be a dict of two posteriors or more, by the names of their models.")
    if by not in ("loo", "evidence"):
        raise InputError(f"by must be 'loo' or 'evidence'; got {by!r}.")
    _check_same_trials(fits)
    most = None if refit is True else whole_number("refit", int(refit) if isinstance(refit, bool) else refit, least=0)
    if by == "evidence":
        if most != 0:
            raise InputError(f"refit={refit!r} is for by='loo'; the evidence needs no refits: drop refit=.")
        if leave_out != TRIAL:
            raise InputError(
                f"leave_out={leave_out!r} is for by='loo'; the evidence leaves nothing out: drop leave_out=."
            )
        return _by_evidence(fits, models)
    without = [name for name, posterior in fits.items() if "log_likelihood" not in inference_data.groups(posterior)]
    if without:
        raise InputError(
            f"the posterior of {', '.join(map(repr, without))} has no pointwise log likelihood; add it with "
            "model.with_log_likelihood(posterior), or fit with log_likelihood=True."
        )
    if folder is not None and most == 0:
        raise InputError("folder= keeps what refits say: add refit=, or drop folder=.")
    left_out = LeftOut.of(fits, leave_out)
    if most != 0:
        # Only of fits that need it: a model cannot always be made again.
        needed = {name: fits[name] for name in fits if left_out.unreliable(name)}
        tasks = left_out.tasks(_models(needed, models), most)
        left_out = left_out.with_refits(_run(tasks, folder, n_jobs, progress))
    return expected_predictive(left_out)


def _run(
    tasks: Mapping[tuple[str, int], Refit], folder: Path | str | None, n_jobs: int | None, progress: bool
) -> dict[tuple[str, int], dict[str, Any]]:
    """What each refit says, by its name and part, kept in the folder."""
    if not tasks:
        return {}
    with run_folder(folder) as kept:
        store: ResultStore[dict[str, Any]] = ResultStore(kept, ".json", _write_json, _read_json)
        arguments = {task.name: (task,) for task in tasks.values()}
        said = run_tasks(Refit.run, arguments, store, n_jobs=n_jobs, unit="refits", progress=progress)
    return {at: said[task.name] for at, task in tasks.items()}


def _write_json(said: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(said))


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def _check_same_trials(fits: Mapping[str, Any]) -> None:
    """Refuse fits of different trials, and what are no fits."""
    for name, posterior in fits.items():
        try:
            inference_data.dataset(posterior)
        except (KeyError, TypeError, AttributeError):
            raise InputError(
                f"fits[{name!r}] must be what model.fit returned, or read from its file; got "
                f"{type(posterior).__name__}."
            ) from None
    observed = {
        name: inference_data.dataset(posterior, "observed_data")
        for name, posterior in fits.items()
        if "observed_data" in inference_data.groups(posterior)
    }
    absent = [name for name in fits if name not in observed]
    if absent:
        raise InputError(
            f"the posterior of {', '.join(map(repr, absent))} does not have the trials; give what fit returned."
        )
    first, *others = observed
    for name in others:
        if not observed[first].equals(observed[name]):
            raise InputError(
                f"models can be compared on the same trials only; those of {name!r} are not those of {first!r}."
            )


def _by_evidence(fits: Mapping[str, Any], models: Mapping[str, HierarchicalModel] | None) -> pd.DataFrame:
    """Evidence and probability of every model, the most probable first."""
    found = {name: evidence(model, fits[name]) for name, model in _models(fits, models).items()}
    table = pd.DataFrame.from_dict(found, orient="index", columns=["log_evidence", "error"])
    table = table.sort_values("log_evidence", ascending=False, kind="stable")
    table["log_bayes_factor"] = table["log_evidence"].max() - table["log_evidence"]
    table["probability"] = softmax(table["log_evidence"].to_numpy())
    return table


def _models(fits: Mapping[str, Any], models: Mapping[str, HierarchicalModel] | None) -> Mapping[str, HierarchicalModel]:
    """The model of every fit, as it is given, or made again from the fit."""
    absent = [] if models is None else [name for name in fits if name not in models]
    if absent:
        raise InputError(
            f"models lacks {', '.join(map(repr, absent))}; give the model of every fit, by the same names."
        )
    return {name: load_model(posterior) if models is None else models[name] for name, posterior in fits.items()}
