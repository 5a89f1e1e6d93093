"""Fits in words and numbers: one fit, and what many simulated tables say. Every summary is a DataFrame."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from hddm_sbi.analysis.calibration import LOG_LIKELIHOOD, rank_tests, worst_coefficient
from hddm_sbi.hierarchy import FitRecord, HierarchicalModel, read_fit, went_on
from hddm_sbi.inference import inference_data


def summary(model: HierarchicalModel, posterior: Any) -> pd.DataFrame:
    """Coefficients of the population, by name.

    Parameters
    ----------
    model
        The fitted model.
    posterior
        What `model.fit` returned.

    Returns
    -------
    pandas.DataFrame
        ArviZ's columns (mean, sd, central 94 %, Monte Carlo errors, effective sample sizes, r_hat), and `scale`: the
        scale of the coefficient, which is that of the parameter's link. ``attrs["went_on"]`` says in one sentence where
        Rhat asked for more draws than a fit takes first.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 200, seed=1)
    >>> model = hs.HierarchicalModel({"v": "1", "a": "1", "z": 0.5, "t0": 0.3}, trials, likelihood="exact")
    >>> posterior = model.fit(draws=1000, tune=300, chains=2, seed=1, progress=False)
    >>> hs.report.summary(model, posterior)["scale"].to_dict()
    {'v_Intercept': 'identity', 'a_Intercept': 'log', 'lapse': 'identity'}
    """
    links = {p.name: p.link for p in model.hierarchy.predictors}
    return _summary(model.matched(posterior), model.hierarchy.population_names, links)


def summary_of_fit(fit: str | Path) -> pd.DataFrame:
    """The same table from the file of a fit alone.

    Parameters
    ----------
    fit
        What `posterior.to_netcdf` wrote.

    Returns
    -------
    pandas.DataFrame
        As from `summary`.

    Examples
    --------
    >>> import tempfile, hddm_sbi as hs
    >>> trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 200, seed=1)
    >>> model = hs.HierarchicalModel({"v": "1", "a": "1", "z": 0.5, "t0": 0.3}, trials, likelihood="exact")
    >>> posterior = model.fit(draws=1000, tune=300, chains=2, seed=1, progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = hs.report.summary_of_fit(posterior.to_netcdf(f"{folder}/fit.nc"))
    >>> table.equals(hs.report.summary(model, posterior))
    True
    """
    posterior, _ = read_fit(fit)
    known = inference_data.dataset(posterior)
    record = FitRecord.read(known.attrs)
    return _summary(known, list(record.priors), record.links)


def _summary(known: xr.Dataset, names: Sequence[str], links: Mapping[str, str]) -> pd.DataFrame:
    table, of = inference_data.summary(known, names), {f"{name}_": link for name, link in links.items()}
    scales = [max((stem for stem in of if name.startswith(stem)), key=len, default="") for name in table.index]
    table = table.assign(scale=[of.get(stem, "identity") for stem in scales])
    table.attrs["went_on"] = went_on(known)
    return table


def sbc_summary(tables: xr.Dataset) -> pd.DataFrame:
    """Tests of the ranks that simulation-based calibration found, by coefficient.

    An honest posterior fails in one of 1 000 checks. Power with 20 coefficients: 100 tables detect a bias of 0.5 sd or
    a 1.5-fold width error in 75 % of runs; 1 000 tables detect 0.16 sd or 1.14-fold.

    Parameters
    ----------
    tables
        What `hs.run_sbc` returned.

    Returns
    -------
    pandas.DataFrame
        shift: mean of (true value - posterior mean), in posterior sds. spread: sd of the same; 1 where the width is
        right, above 1 where the posterior is too narrow. p_value: of shift, spread and shape of the ranks, corrected
        for these three.

    Examples
    --------
    >>> import numpy as np, xarray as xr, hddm_sbi as hs
    >>> ranks = np.random.default_rng(1).integers(100, size=(200, 1))
    >>> tables = xr.Dataset({"rank": (("table", "coefficient"), ranks)}, {"coefficient": ["v_Intercept"]})
    >>> table = hs.report.sbc_summary(tables)
    >>> table.columns.tolist(), bool(table["p_value"]["v_Intercept"] > 0.001)
    (['shift', 'spread', 'p_value'], True)
    """
    tests = rank_tests(tables)
    columns = {name: [getattr(test, name) for test in tests.values()] for name in ("shift", "spread", "p_value")}
    return pd.DataFrame(columns, index=pd.Index(tests, name="coefficient"))


def sbc_verdict(tables: xr.Dataset) -> str:
    """What simulation-based calibration found, in one sentence.

    Parameters
    ----------
    tables
        What `hs.run_sbc` returned.

    Returns
    -------
    str
        "Good: ...", or "Miscalibrated: ..." with the worst coefficient and how far it is off.

    Examples
    --------
    >>> import numpy as np, xarray as xr, hddm_sbi as hs
    >>> ranks = np.random.default_rng(1).integers(40, 60, size=(100, 1))
    >>> tables = xr.Dataset({"rank": (("table", "coefficient"), ranks)}, {"coefficient": ["v_Intercept"]})
    >>> hs.report.sbc_verdict(tables)[:45]
    'Miscalibrated: the posterior of v_Intercept i'
    """
    n = tables.sizes["table"]
    worst, p, passes = worst_coefficient(tables)
    test = rank_tests(tables)[worst]
    if np.isnan(test.spread):
        return f"{n} simulated tables say nothing about a posterior's calibration: take 100 or more."
    if passes:
        return f"Good: the true values of {n} simulated tables have the ranks that they should have (p = {p:.2g})."
    if worst == LOG_LIKELIHOOD:
        fit, amount = ("better", "more") if test.shift < 0 else ("worse", "less")
        what = f"draws fit the data {fit} than the true values do, as if there were {amount} data than there are"
    else:
        narrow = test.spread > 1
        width = f"{test.spread:.2f} times too narrow" if narrow else f"{1 / test.spread:.2f} times too wide"
        what = f"the posterior of {worst} is off by {-test.shift:.2f} of its sds, and {width}"
    return f"Miscalibrated: {what} (p = {p:.1g}, {n} simulated tables)."


def recovery_summary(tables: xr.Dataset) -> pd.DataFrame:
    """How well known coefficients were recovered, by coefficient.

    Parameters
    ----------
    tables
        What `hs.recover_parameters` returned.

    Returns
    -------
    pandas.DataFrame
        bias and rmse (root mean squared error) of the posterior mean; correlation of the posterior mean with the true
        value, nan where the true value is the same in all tables; sd: mean posterior sd; coverage: share of the central
        94 % intervals that contain the true value.

    Examples
    --------
    >>> import xarray as xr, hddm_sbi as hs
    >>> columns = {"truth": [1.0, 2.0], "mean": [1.1, 2.1], "sd": [0.2, 0.2], "low": [0.7, 1.7], "high": [1.5, 2.5]}
    >>> by = ("table", "coefficient")
    >>> tables = xr.Dataset({k: (by, [[x] for x in v]) for k, v in columns.items()}, {"coefficient": ["v_Intercept"]})
    >>> hs.report.recovery_summary(tables).round(3).to_dict("records")
    [{'bias': 0.1, 'rmse': 0.1, 'correlation': 1.0, 'sd': 0.2, 'coverage': 1.0}]
    """
    error = tables["mean"] - tables["truth"]
    inside = (tables["low"] <= tables["truth"]) & (tables["truth"] <= tables["high"])
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = xr.corr(tables["mean"], tables["truth"], "table")
        correlation = correlation.where(tables["truth"].max("table") > tables["truth"].min("table"))
    columns = {
        "bias": error.mean("table"),
        "rmse": (error**2).mean("table") ** 0.5,
        "correlation": correlation,
        "sd": tables["sd"].mean("table"),
        "coverage": inside.mean("table"),
    }
    return xr.Dataset(columns).drop_vars("population", errors="ignore").to_dataframe()


def write_figures(
    model: HierarchicalModel, posterior: Any, true_values: Mapping[str, ArrayLike], folder: Path
) -> list[Path]:
    """Write four figures of a fit to a simulated experiment as PNG files.

    Parameters
    ----------
    model
        The fitted model, whose table has the columns condition and subject.
    posterior
        What `model.fit` returned.
    true_values
        Posterior name -> true value, with the shape of that variable.
    folder
        An existing folder, which gets the files.

    Returns
    -------
    list of pathlib.Path
        Predicted response times by condition and by subject, shrinkage of the drift, and recovery of the true values.

    Examples
    --------
    >>> import tempfile, hddm_sbi as hs
    >>> trials = hs.simulate_experiment().trials
    >>> model = hs.HierarchicalModel({"v": "condition + (1|subject)", "a": 1.0, "z": 0.5, "t0": 0.3}, trials)
    >>> posterior = model.fit(draws=1000, tune=500, chains=2, seed=2, progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = hs.report.write_figures(model, posterior, {"v_Intercept": 1.8}, Path(folder))
    >>> [path.stem for path in paths]
    ['predictive_condition', 'predictive_subject', 'shrinkage', 'recovery']
    """
    import matplotlib.pyplot as plt

    from hddm_sbi.presentation import plots

    figures = {
        "predictive_condition": plots.plot_predictive(model, posterior, "condition"),
        "predictive_subject": plots.plot_predictive(model, posterior, "subject"),
        "shrinkage": plots.plot_shrinkage(model, posterior),
        "recovery": plots.plot_recovery(model, posterior, true_values),
    }
    for name, axes in figures.items():
        drawn = io.BytesIO()
        axes[0].figure.savefig(drawn, dpi=150)
        inference_data.write_whole(drawn.getvalue(), folder / f"{name}.png")
        plt.close(axes[0].figure)
    return [folder / f"{name}.png" for name in figures]
