"""Fits in words and pictures: one on the screen and in a folder, and what many simulated tables say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from hddm_sbi.analysis.calibration import LOG_LIKELIHOOD
from hddm_sbi.hierarchy.model import HierarchicalModel
from hddm_sbi.inference import inference_data
from hddm_sbi.training.ranks import FALSE_ALARMS, FEWEST, RankTest, rank_test


def summary(model: HierarchicalModel, posterior: Any) -> str:
    """The population's coefficients: mean, sd, 94 % interval, effective sample sizes, Rhat."""
    table = inference_data.summary(posterior, model.hierarchy.population_names)
    links = ", ".join(f"{p.name}: {p.link}" for p in model.hierarchy.predictors if p.link != "identity")
    note = f"\nCoefficients are on the scale of the link ({links})." if links else ""
    return table.to_string() + note


def sbc_summary(tables: xr.Dataset) -> tuple[pd.DataFrame, str]:
    """What `hs.run_sbc` returned, tested: a table by coefficient, and the verdict.

    shift: mean of truth - posterior mean, in posterior sds. spread: sd of that, 1 where the posterior is as wide as it
    should be, above 1 where it is too narrow. p_value: of the shift, spread and shape of the ranks, corrected for these
    three. An honest posterior fails in one of 1 000 checks. Of 20 coefficients 100 tables find, three times in four, a
    shift by 0.5 sds and a posterior 1.5 times too wide or too narrow; 1 000 tables a shift by 0.16 and a factor 1.14.
    """
    found = {
        str(name): rank_test(tables["rank"].sel(coefficient=name).to_numpy()) for name in tables["coefficient"].values
    }
    columns = {name: [getattr(one, name) for one in found.values()] for name in ("shift", "spread", "p_value")}
    summary = pd.DataFrame(columns, index=pd.Index(found, name="coefficient"))
    return summary, _sbc_verdict(found, tables.sizes["table"])


def _sbc_verdict(found: Mapping[str, RankTest], n: int) -> str:
    if n < FEWEST:
        return f"{n} simulated tables say nothing of a posterior's calibration: take 100 or more."
    p_values = {name: min(1.0, one.p_value * len(found)) for name, one in found.items()}
    # What is wrong with a coefficient says more than what is wrong with the likelihood of the data.
    worst = min(p_values, key=lambda name: (p_values[name] >= FALSE_ALARMS, name == LOG_LIKELIHOOD, p_values[name]))
    p = p_values[worst]
    if p >= FALSE_ALARMS:
        return f"Good: the truths of {n} simulated tables have the ranks that they should have (p = {p:.2g})."
    if worst == LOG_LIKELIHOOD:
        closely = found[worst].shift < 0
        what = (
            f"draws fit the data {'better' if closely else 'worse'} than the truth does, as if there were "
            f"{'more' if closely else 'less'} data than there are"
        )
    else:
        off = f"off by {-found[worst].shift:.2f} of its sds, and {_width(found[worst].spread)}"
        what = f"the posterior of {worst} is {off}"
    return f"Miscalibrated: {what} (p = {p:.1g}, {n} simulated tables)."


def _width(spread: float) -> str:
    return f"{spread:.2f} times too narrow" if spread > 1 else f"{1 / spread:.2f} times too wide"


def recovery_summary(tables: xr.Dataset) -> pd.DataFrame:
    """What `hs.recover_parameters` returned, by coefficient: bias and root of the mean squared error of the posterior
    mean, its correlation with the truth (nan where the truth is the same in all tables), mean posterior sd, and the
    share of central 94 % intervals with the truth inside."""
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


def write_figures(model: HierarchicalModel, posterior: Any, truth: Mapping[str, ArrayLike], folder: Path) -> list[Path]:
    """Predicted response times by condition and by subject, shrinkage of drifts, recovery of the truth: PNG files."""
    import matplotlib.pyplot as plt

    from hddm_sbi.presentation import plots

    made = {
        "predictive_condition": plots.plot_predictive(model, posterior, "condition")[0],
        "predictive_subject": plots.plot_predictive(model, posterior, "subject")[0],
        "shrinkage": plots.plot_shrinkage(model, posterior),
        "recovery": plots.plot_recovery(model, posterior, truth)[0],
    }
    paths = []
    for name, ax in made.items():
        paths.append(folder / f"{name}.png")
        ax.figure.savefig(paths[-1], dpi=150)
        plt.close(ax.figure)
    return paths
