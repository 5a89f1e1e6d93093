"""One model on many simulated tables: simulation-based calibration, and recovery of known parameters."""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from hddm_sbi.analysis.fit import central, table_log_likelihood
from hddm_sbi.analysis.predictive import (
    TrueValues,
    checked_values,
    parameters_at,
    posterior_draws,
    prior_draw,
    simulate_table,
)
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy import ConvergenceWarning, HierarchicalModel, Sampling, check_model, coordinates
from hddm_sbi.inference import inference_data
from hddm_sbi.parallel import ResultStore, check_recipe, run_folder, run_tasks
from hddm_sbi.seeds import derive_seed
from hddm_sbi.training.ranks import DRAWS, FALSE_ALARMS, RankTest, rank_test
from hddm_sbi.types import Array

#: what is kept of a fitted table, as JSON knows it: by coefficient, and of the whole fit; or why there is no fit.
Table = dict[str, Any]

#: name of the data's log likelihood among the coefficients. A sampler that ignores the data passes the test of ranks on
#: every coefficient; the data's log likelihood exposes it (Modrák et al. 2023).
LOG_LIKELIHOOD = "log_likelihood"


class ReplicaWarning(UserWarning):
    """Some simulated tables have no fit, or a fit with few effective draws; the message says how many, and why.

    Examples
    --------
    >>> import warnings
    >>> import hddm_sbi as hs
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", hs.ReplicaWarning)
    """


def run_sbc(
    model: HierarchicalModel,
    n_tables: int = 100,
    seed: int = 1,
    *,
    draws: int = 500,
    tune: int = 500,
    chains: int = 2,
    method: str = "nuts",
    folder: Path | str | None = None,
    n_jobs: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Simulation-based calibration: many tables simulated at draws of the prior, and each of them fitted.

    Where simulator, likelihood, priors and sampler agree, the true value of a coefficient has every rank among its
    posterior draws equally often. `report.sbc_verdict` says whether it has; `plots.plot_sbc` shows the ranks.

    Parameters
    ----------
    model
        Its design, priors and likelihood are checked; its outcomes are not used, but for their range with
        `lapse_seconds="range"`. Responses slower than `lapse_seconds` make lapses of the simulation and of the fit
        slightly different: with lapse=0 the check is exact.
    n_tables
        Number of simulated tables; for its power see `report.sbc_summary`.
    seed
        Same seed, same numbers, on any number of processes.
    draws
        Number of draws per chain that are kept of each fit; draws x chains must be at least 99.
    tune
        Number of tuning steps per chain before the draws.
    chains
        Number of chains of each fit.
    method
        How each table is fitted: a name in `hs.SAMPLERS`, as in `model.fit`.
    folder
        Keeps every fitted table; the same call goes on from there, also with more tables. By default a temporary one.
    n_jobs
        Number of tables that are fitted at a time; None for as many as `joblib.parallel_config` says, or one.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        By table and coefficient: truth, rank (0 ... 99), and mean, sd, low and high of the posterior (central 94 %); by
        table: the largest rhat, the smallest ess, and the number of divergences. The coefficient `log_likelihood` is
        the log likelihood of the data.

    Raises
    ------
    InputError
        There are fewer than 99 draws, the folder holds another run, or no table could be fitted.

    Warns
    -----
    ReplicaWarning
        Some tables could not be fitted, or have fewer than 99 effective draws.

    References
    ----------
    Talts, Betancourt, Simpson, Vehtari & Gelman (2018), arXiv:1804.06788. Modrák et al. (2023), Bayesian Analysis.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 50, seed=1)
    >>> model = hs.HierarchicalModel({"v": "1", "a": 1.0, "z": 0.5, "t0": 0.3}, trials, likelihood="exact", lapse=0)
    >>> tables = hs.run_sbc(model, n_tables=10, method="laplace", progress=False)
    >>> hs.report.sbc_verdict(tables)[:40]
    'Good: the true values of 10 simulated ta'
    """
    check_model(model)
    sampling = Sampling.checked(draws, tune, chains, seed, method, quick=False)
    values = [prior_draw(model, derive_seed(sampling.seed, index, 0)) for index in range(_checked(n_tables))]
    return _fitted(model, values, sampling, folder, n_jobs, progress)


def recover_parameters(
    model: HierarchicalModel,
    true_values: Any = None,
    n_tables: int = 20,
    seed: int = 1,
    *,
    draws: int = 500,
    tune: int = 500,
    chains: int = 2,
    method: str = "nuts",
    folder: Path | str | None = None,
    n_jobs: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Simulate the model's design at known coefficients and fit it again, many times.

    `report.recovery_summary` and `plots.plot_tables` show the result.

    Parameters
    ----------
    model
        Its design, priors and likelihood are used; its outcomes are not.
    true_values
        Where tables are simulated. What `model.fit` returned: evenly spaced draws of it, which says whether this
        experiment recovers the effects it seems to have found. A dict from posterior name to value: the same for every
        table, with `lapse` at the mean of its prior if it is left out. None: draws of the prior.
    n_tables
        Number of simulated tables.
    seed
        Same seed, same numbers, on any number of processes.
    draws
        Number of draws per chain that are kept of each fit; draws x chains must be at least 99.
    tune
        Number of tuning steps per chain before the draws.
    chains
        Number of chains of each fit.
    method
        How each table is fitted: a name in `hs.SAMPLERS`, as in `model.fit`.
    folder
        Keeps every fitted table; the same call goes on from there, also with more tables. By default a temporary one.
    n_jobs
        Number of tables that are fitted at a time; None for as many as `joblib.parallel_config` says, or one.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        As from `run_sbc`.

    Raises
    ------
    InputError
        As in `run_sbc`, or `true_values` are not those of this model.

    Warns
    -----
    ReplicaWarning
        As in `run_sbc`.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 50, seed=1)
    >>> model = hs.HierarchicalModel({"v": "1", "a": 1.0, "z": 0.5, "t0": 0.3}, trials, likelihood="exact")
    >>> tables = hs.recover_parameters(model, {"v_Intercept": 1.0}, 5, method="laplace", progress=False)
    >>> bool(abs(hs.report.recovery_summary(tables)["bias"]["v_Intercept"]) < 0.5)
    True
    """
    check_model(model)
    n, sampling = _checked(n_tables), Sampling.checked(draws, tune, chains, seed, method, quick=False)
    if true_values is None:
        values = [prior_draw(model, derive_seed(sampling.seed, index, 0)) for index in range(n)]
    elif isinstance(true_values, Mapping) and not hasattr(true_values, "posterior"):
        values = [checked_values(model, true_values)] * n
    else:
        values = posterior_draws(model, true_values, n)
    return _fitted(model, values, sampling, folder, n_jobs, progress)


def _checked(n_tables: int) -> int:
    if isinstance(n_tables, bool) or not isinstance(n_tables, int) or n_tables < 1:
        raise InputError(f"n_tables must be a whole number of at least 1; got {n_tables!r}.")
    return n_tables


def _fitted(
    model: HierarchicalModel,
    true_values: Sequence[TrueValues],
    sampling: Sampling,
    folder: Path | str | None,
    n_jobs: int | None,
    progress: bool,
) -> xr.Dataset:
    if sampling.draws * sampling.chains < DRAWS:
        raise InputError(
            f"a value is ranked among {DRAWS} draws; got draws={sampling.draws} of chains={sampling.chains}: take more."
        )
    recipe = {"model": model.fingerprint, **asdict(sampling)}
    arguments = {
        f"table-{index:05d}-{_digest(values)}": (model, values, index, sampling)
        for index, values in enumerate(true_values)
    }
    with run_folder(folder) as kept:
        check_recipe(kept, recipe)
        store: ResultStore[Table] = ResultStore(kept, ".json", _write, _read)
        tables = run_tasks(_table, arguments, store, n_jobs=n_jobs, unit="tables", progress=progress)
    return _together(dict(enumerate(tables.values())))


def _digest(values: TrueValues) -> str:
    """Part of a table's name: a folder may get more tables, but none at other values under the same name."""
    written = json.dumps({name: value.tolist() for name, value in values.items()})
    return hashlib.sha256(written.encode()).hexdigest()[:8]


def _write(table: Table, path: Path) -> None:
    path.write_text(json.dumps(table))


def _read(path: Path) -> Table:
    return dict(json.loads(path.read_text()))


def _table(model: HierarchicalModel, values: TrueValues, index: int, sampling: Sampling) -> Table:
    """One table, simulated at the true values and fitted; or the reason why it could not be."""
    try:
        on_cells, lapse = _on_cells(model, values)
        replica = model.with_outcomes(
            *simulate_table(model, on_cells, lapse, [sampling.seed, index], by_simulator=True)
        )
        with warnings.catch_warnings():
            # `_together` warns once for all tables.
            warnings.simplefilter("ignore", ConvergenceWarning)
            posterior = replica.fit(
                sampling.draws,
                sampling.tune,
                sampling.chains,
                derive_seed(sampling.seed, index, 1),
                sampling.method,
                progress=False,
            )
        stopped = posterior["posterior"].attrs["stopped"]
        if stopped == "interrupted":
            raise KeyboardInterrupt
        if stopped:
            raise InputError(f"{stopped}.")
    except InputError as refusal:
        return {"failed": str(refusal)}
    return _compared(replica, values, posterior)


def _on_cells(model: HierarchicalModel, values: TrueValues) -> tuple[Array, Array]:
    """Numbers on the cells (n_cells, q), from which theta follows, and probability of a lapse of every row of theta."""
    own, at = model.hierarchy, {name: torch.as_tensor(value) for name, value in values.items()}
    return own.on_cells(at).numpy(), own.share(at).expand(own.trials.n_cells).numpy()


def _compared(model: HierarchicalModel, values: TrueValues, posterior: Any) -> Table:
    """True values beside their posterior, by coefficient."""
    dataset = inference_data.dataset(posterior)
    names, population, columns, true = [], [], [], []
    for name, labels in _flat(model, dataset).items():
        names += list(labels)
        population += [name in model.hierarchy.population_names] * len(labels)
        kept = list(labels.values())
        true.append(values[name].reshape(-1)[kept])
        columns.append(dataset[name].to_numpy().reshape(-1, values[name].size)[:, kept])
    draws, truth = np.concatenate(columns, 1), np.concatenate(true)
    ranked = inference_data.evenly_spaced(len(draws), DRAWS)
    level, levels = _log_likelihoods(model, values, posterior, ranked)
    parts = _summary(draws, draws[ranked], truth), _summary(levels, levels, np.array(level))
    worst = dataset[model.hierarchy.population_names]
    return {
        "coefficient": [*names, LOG_LIKELIHOOD],
        "population": [*population, True],
        **{name: [*parts[0][name].tolist(), parts[1][name].item()] for name in parts[0]},
        "rhat": inference_data.worst_rhat(worst)[1] if dataset.sizes["chain"] > 1 else float("nan"),
        "ess": inference_data.worst_ess(worst)[1],
        "divergences": _divergences(posterior),
    }


def _summary(draws: Array, ranked: Array, truth: Array) -> dict[str, NDArray[Any]]:
    """The true value, its rank among some of the draws (n, ...), and what all draws say."""
    low, high = central(draws)
    rank = np.asarray((ranked < truth).sum(0))
    return {"truth": truth, "rank": rank, "mean": draws.mean(0), "sd": draws.std(0), "low": low, "high": high}


def _flat(model: HierarchicalModel, drawn: xr.Dataset) -> dict[str, dict[str, int]]:
    """Posterior variable -> label of every number in it -> its position; correlations below the diagonal only."""
    coords, dims = coordinates(model.hierarchy)
    flat = {}
    for name in map(str, drawn.data_vars):
        shape = drawn[name].shape[2:]
        labels = {}
        for position, index in enumerate(np.ndindex(shape)):
            at = [str(coords[dim][i]) for dim, i in zip(dims.get(name, ()), index, strict=True)]
            if not name.endswith("_corr") or index[-2] > index[-1]:
                labels[f"{name}[{', '.join(at)}]" if at else name] = position
        flat[name] = labels
    return flat


def _log_likelihoods(
    model: HierarchicalModel, values: TrueValues, posterior: Any, draws: NDArray[np.int64]
) -> tuple[float, Array]:
    """Log likelihood of the data at the true values, and at some of the draws."""
    true, drawn = _on_cells(model, values), parameters_at(model, posterior, draws)
    together = (np.concatenate([at[None], of_draws]) for at, of_draws in zip(true, drawn, strict=True))
    first, *others = table_log_likelihood(model.hierarchy, *together)
    return float(first), np.array(others)


def _divergences(posterior: Any) -> int:
    stats = inference_data.dataset(posterior, "sample_stats") if "sample_stats" in posterior else {}
    return int(stats["diverging"].sum()) if "diverging" in stats else 0


def _together(tables: Mapping[int, Table]) -> xr.Dataset:
    """All tables that have a fit; warns about the others."""
    failed = {index: table["failed"] for index, table in tables.items() if "failed" in table}
    fitted = {index: table for index, table in tables.items() if "failed" not in table}
    if failed:
        first = next(iter(failed.values()))
        message = f"{len(failed)} of {len(tables)} simulated tables could not be fitted, the first because: {first}"
        if not fitted:
            raise InputError(message)
        warnings.warn(f"{message} The result is that of the others.", ReplicaWarning, stacklevel=4)
    poor = sum(table["ess"] < DRAWS for table in fitted.values())
    if poor:
        warnings.warn(
            f"in {poor} of {len(fitted)} fits the smallest effective sample size is below {DRAWS}: ranks among "
            "correlated draws look like ranks in a posterior that is too narrow: take more draws",
            ReplicaWarning,
            stacklevel=4,
        )
    first_table = next(iter(fitted.values()))

    def column(name: str) -> NDArray[Any]:
        return np.array([table[name] for table in fitted.values()])

    return xr.Dataset(
        {name: (("table", "coefficient"), column(name)) for name in ("truth", "rank", "mean", "sd", "low", "high")}
        | {name: ("table", column(name)) for name in ("rhat", "ess", "divergences")},
        {
            "table": list(fitted),
            "coefficient": first_table["coefficient"],
            "population": ("coefficient", first_table["population"]),
        },
        {"failed": json.dumps(failed), "draws_ranked": DRAWS},
    )


def rank_tests(tables: xr.Dataset) -> dict[str, RankTest]:
    """Tests of the ranks that `run_sbc` found, by coefficient."""
    ranks = tables["rank"]
    return {str(name): rank_test(ranks.sel(coefficient=name).to_numpy()) for name in tables["coefficient"].values}


def worst_coefficient(tables: xr.Dataset) -> tuple[str, float, bool]:
    """Name of the coefficient that is furthest off, its p-value corrected for their number, and whether it passes."""
    tests = rank_tests(tables)
    p_values = {name: min(1.0, test.p_value * len(tests)) for name, test in tests.items()}
    # What is wrong with a coefficient says more than what is wrong with the likelihood of the data.
    worst = min(p_values, key=lambda name: (p_values[name] >= FALSE_ALARMS, name == LOG_LIKELIHOOD, p_values[name]))
    return worst, p_values[worst], p_values[worst] >= FALSE_ALARMS
