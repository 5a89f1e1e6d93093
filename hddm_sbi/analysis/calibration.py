"""One model on many simulated tables: simulation-based calibration, and recovery of known parameters."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from hddm_sbi.analysis.comparison import fingerprint
from hddm_sbi.analysis.known_parameters import Truth, checked_values, posterior_draws, prior_draw
from hddm_sbi.analysis.predictive import simulate_table
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.diagnostics import ConvergenceWarning
from hddm_sbi.hierarchy.model import HierarchicalModel
from hddm_sbi.hierarchy.posterior import coordinates
from hddm_sbi.inference import inference_data
from hddm_sbi.inference.sampling import METHODS, Method
from hddm_sbi.parallel import ResultStore, check_recipe, run_folder, run_tasks
from hddm_sbi.training.ranks import DRAWS
from hddm_sbi.types import Array

#: what is kept of a fitted table, as JSON knows it: by coefficient, and of the whole fit; or why there is none.
Table = dict[str, Any]

_INTERVAL = (0.03, 0.97)  # the central 94 %
#: name of the data's log likelihood among the coefficients. Of a posterior that took no notice of the data the ranks of
#: all coefficients are uniform; of this one they are not (Modrák et al. 2023).
LOG_LIKELIHOOD = "log_likelihood"


class ReplicaWarning(UserWarning):
    """Some simulated tables have no fit, or fits that say little; the message says how many and why."""


@dataclass(frozen=True)
class Sampling:
    """How every simulated table is fitted; see `HierarchicalModel.fit`."""

    draws: int
    tune: int
    chains: int
    method: Method

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"method must be one of {METHODS}; got {self.method!r}.")
        if self.draws * self.chains < DRAWS:
            raise InputError(
                f"a truth is ranked among {DRAWS} draws; got draws={self.draws} of chains={self.chains}: take more."
            )


def run_sbc(
    model: HierarchicalModel,
    n_tables: int = 100,
    seed: int = 1,
    *,
    draws: int = 500,
    tune: int = 500,
    chains: int = 2,
    method: Method = "nuts",
    folder: Path | str | None = None,
    n_jobs: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Simulation-based calibration (Talts et al. 2018): tables simulated at draws of the prior, each fitted.

    If simulator, likelihood, priors and sampler agree, the truth has every rank among 99 posterior draws equally often.
    `report.sbc_summary` says whether it has, `table_plots.plot_sbc` shows it.

    model: whose design, priors and likelihood are checked; its outcomes are not looked at. n_tables: what so many can
    find stands at `report.sbc_summary`. draws, tune, chains, method: of every fit, as in `model.fit`. folder: keeps
    every fitted table: a run that was stopped goes on from there, and so does one with more tables. n_jobs: processes,
    as in `parallel.run_tasks`: the same seed, the same numbers on any number of them.

    Returns, by table and coefficient: truth, rank, and of the posterior mean, sd, low and high (central 94 %); by
    table: the worst rhat and ess, and the number of divergences. Among the coefficients is log_likelihood, that of the
    data. Of lapses, responses slower than `lapse_seconds` make the law of the fit slightly another (see
    `HierarchicalModel`): lapse=0 is exact.
    """
    truths = {index: prior_draw(model, _seed(seed, index, 0)) for index in range(_checked(n_tables))}
    return _fitted(model, truths, seed, Sampling(draws, tune, chains, method), folder, n_jobs, progress)


def recover_parameters(
    model: HierarchicalModel,
    truth: Any = None,
    n_tables: int = 20,
    seed: int = 1,
    *,
    draws: int = 500,
    tune: int = 500,
    chains: int = 2,
    method: Method = "nuts",
    folder: Path | str | None = None,
    n_jobs: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Simulate the model's design at known coefficients and fit it again, many times.

    truth: what `model.fit` returned (draws of it, evenly spaced: does this experiment recover what it seems to have
    found?); a dict posterior name -> value, the same for every table; or None for draws of the prior. Everything else,
    and what is returned, as in `run_sbc`. `report.recovery_summary` and `table_plots.plot_tables` show it.
    """
    n = _checked(n_tables)
    if truth is None:
        truths = {index: prior_draw(model, _seed(seed, index, 0)) for index in range(n)}
    elif isinstance(truth, Mapping) and not hasattr(truth, "posterior"):
        truths = dict.fromkeys(range(n), checked_values(model, truth))
    else:
        truths = posterior_draws(model, truth, n)
    return _fitted(model, truths, seed, Sampling(draws, tune, chains, method), folder, n_jobs, progress)


def _checked(n_tables: int) -> int:
    if isinstance(n_tables, bool) or not isinstance(n_tables, int) or n_tables < 1:
        raise InputError(f"n_tables must be a whole number of at least 1; got {n_tables!r}.")
    return n_tables


def _fitted(
    model: HierarchicalModel,
    truths: Mapping[int, Truth],
    seed: int,
    sampling: Sampling,
    folder: Path | str | None,
    n_jobs: int | None,
    progress: bool,
) -> xr.Dataset:
    recipe = {"model": fingerprint(model), "seed": seed, **asdict(sampling)}
    given = {
        f"table-{index:05d}-{_digest(truth)}": (model, truth, seed, index, sampling) for index, truth in truths.items()
    }
    with run_folder(folder) as kept:
        check_recipe(kept, recipe)
        store: ResultStore[Table] = ResultStore(kept, ".json", _write, _read)
        tables = run_tasks(_table, given, store, n_jobs=n_jobs, unit="tables", progress=progress)
    return _together(dict(zip(truths, tables.values(), strict=True)))


def _digest(truth: Truth) -> str:
    """Part of a table's name, so that a folder may get more tables, but none of another truth under the same name."""
    told = {name: value.tolist() for name, value in truth.items()}
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]


def _write(table: Table, path: Path) -> None:
    path.write_text(json.dumps(table))


def _read(path: Path) -> Table:
    return dict(json.loads(path.read_text()))


def _table(model: HierarchicalModel, truth: Truth, seed: int, index: int, sampling: Sampling) -> Table:
    """One table simulated at the truth and fitted; the reason, where it could not be."""
    try:
        theta, lapse = _theta(model, truth)
        replica = model.with_outcomes(simulate_table(model, theta, lapse, [seed, index], by_simulator=True))
        with warnings.catch_warnings():
            # Said once for all tables, by what the dataset holds.
            warnings.simplefilter("ignore", ConvergenceWarning)
            posterior = replica.fit(
                sampling.draws,
                sampling.tune,
                sampling.chains,
                _seed(seed, index, 1),
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
    return _compared(replica, truth, posterior)


def _theta(model: HierarchicalModel, values: Truth) -> tuple[Array, float]:
    """Parameters of every cell (n_cells, p), and the probability of a lapse."""
    at = model.hierarchy.theta({name: torch.as_tensor(value) for name, value in values.items()}).numpy()
    return at, float(values["lapse"]) if "lapse" in values else float(model.lapse)


def _compared(model: HierarchicalModel, truth: Truth, posterior: Any) -> Table:
    """The truth beside its posterior, by coefficient."""
    drawn = inference_data.dataset(posterior)
    names, population, true, draws = [], [], [], []
    for name, labels in _flat(model, drawn).items():
        names += list(labels)
        population += [name in model.hierarchy.population_names] * len(labels)
        kept = list(labels.values())
        true.append(truth[name].reshape(-1)[kept])
        draws.append(drawn[name].to_numpy().reshape(-1, truth[name].size)[:, kept])
    all_draws, all_true = np.concatenate(draws, 1), np.concatenate(true)
    thin = np.linspace(0, len(all_draws) - 1, DRAWS).astype(int)
    level, levels = _log_likelihoods(model, truth, posterior, thin)
    low, high = np.quantile(all_draws, _INTERVAL, axis=0)
    level_low, level_high = np.quantile(levels, _INTERVAL)
    worst = drawn[model.hierarchy.population_names]
    by_coefficient = {
        "truth": [*all_true, level],
        "rank": [*(all_draws[thin] < all_true).sum(0), (levels < level).sum()],
        "mean": [*all_draws.mean(0), levels.mean()],
        "sd": [*all_draws.std(0), levels.std()],
        "low": [*low, level_low],
        "high": [*high, level_high],
    }
    return {
        "coefficient": [*names, LOG_LIKELIHOOD],
        "population": [*population, True],
        **{name: np.array(column).tolist() for name, column in by_coefficient.items()},
        "rhat": inference_data.worst_rhat(worst)[1] if drawn.sizes["chain"] > 1 else float("nan"),
        "ess": inference_data.worst_ess(worst)[1],
        "divergences": _divergences(posterior),
    }


def _flat(model: HierarchicalModel, drawn: xr.Dataset) -> dict[str, dict[str, int]]:
    """Posterior variable -> label of every number in it -> its position; of a correlation matrix, what is below 1."""
    coords, dims = coordinates(model.hierarchy)
    flat = {}
    for name in map(str, drawn.data_vars):
        shape = drawn[name].shape[2:]
        labels = {}
        for position, index in enumerate(np.ndindex(shape)):
            at = [str(coords[dim][i]) for dim, i in zip(dims.get(name, ()), index, strict=True)]
            if not name.endswith("_corr") or index[0] > index[1]:
                labels[f"{name}[{', '.join(at)}]" if at else name] = position
        flat[name] = labels
    return flat


def _log_likelihoods(
    model: HierarchicalModel, truth: Truth, posterior: Any, chosen: NDArray[np.int64]
) -> tuple[float, Array]:
    """Log likelihood of the data at the truth, and at chosen draws."""
    drawn = inference_data.dataset(posterior)
    lapses = drawn["lapse"].to_numpy().reshape(-1)[chosen] if "lapse" in drawn else [model.lapse] * len(chosen)
    sets = [_theta(model, truth), *zip(model.theta(posterior, chosen), lapses, strict=True)]
    with torch.no_grad():
        sums = [
            float(
                model.likelihood.log_prob_by_cell(
                    model.hierarchy.trials, torch.as_tensor(theta), torch.tensor(lapse, dtype=torch.float64)
                ).sum()
            )
            for theta, lapse in sets
        ]
    return sums[0], np.array(sums[1:])


def _divergences(posterior: Any) -> int:
    stats = inference_data.dataset(posterior, "sample_stats") if "sample_stats" in posterior else {}
    return int(stats["diverging"].sum()) if "diverging" in stats else 0


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _together(tables: Mapping[int, Table]) -> xr.Dataset:
    """All tables that have a fit; what is wrong with the others is told."""
    failed = {index: table["failed"] for index, table in tables.items() if "failed" in table}
    fitted = {index: table for index, table in tables.items() if "failed" not in table}
    if failed:
        first = next(iter(failed.values()))
        message = f"{len(failed)} of {len(tables)} simulated tables could not be fitted, the first because: {first}"
        if not fitted:
            raise InputError(message)
        warnings.warn(f"{message} What is said holds for the others.", ReplicaWarning, stacklevel=4)
    poor = sum(table["ess"] < DRAWS for table in fitted.values())
    if poor:
        warnings.warn(
            f"in {poor} of {len(fitted)} fits the smallest effective sample size is below {DRAWS}: ranks among "
            "correlated draws look like those of a posterior that is too narrow: take more draws",
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
