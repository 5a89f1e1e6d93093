"""Pictures of many simulated tables: ranks of the truth, and posterior means against it. Each returns its Axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy.stats import binom

from hddm_sbi.errors import InputError
from hddm_sbi.presentation.plots import AxesArray, diagonal, label_outer, panels

_BINS = 10
_BAND = (0.005, 0.995)


def plot_sbc(tables: xr.Dataset, coefficients: Sequence[str] | None = None) -> AxesArray:
    """Ranks of the truth among posterior draws, one panel per coefficient (default: those of the population).

    Grey: where 99 % of the bars should end. A valley says that the posterior is too narrow, a hill that it is too wide,
    a slope that it is shifted. tables: what `hs.run_sbc` returned.
    """
    names = _chosen(tables, coefficients)
    n, draws = tables.sizes["table"], int(tables.attrs["draws_ranked"])
    edges = np.linspace(-0.5, draws + 0.5, _BINS + 1)
    low, high = binom.ppf(_BAND, n, 1 / _BINS)
    axes = panels(len(names), columns=4)
    for ax, name in zip(axes, names, strict=True):
        ax.axhspan(low, high, color="0.88")
        ax.axhline(n / _BINS, color="0.5", lw=0.8)
        ax.hist(tables["rank"].sel(coefficient=name).to_numpy(), edges, color="tab:blue", alpha=0.8)
        ax.set_title(name, fontsize="small")
    label_outer(axes, f"rank of the truth among {draws} posterior draws", "tables")
    return axes


def plot_tables(tables: xr.Dataset, coefficients: Sequence[str] | None = None) -> AxesArray:
    """Posterior mean and central 94 % of every table against the truth, one panel per coefficient (default: those of
    the population); the line is equality. tables: what `hs.recover_parameters` returned."""
    names = _chosen(tables, coefficients)
    axes = panels(len(names), columns=4, share=False)
    for ax, name in zip(axes, names, strict=True):
        one = tables.sel(coefficient=name)
        truth, mean = one["truth"].to_numpy(), one["mean"].to_numpy()
        reach = [mean - one["low"].to_numpy(), one["high"].to_numpy() - mean]
        ax.errorbar(truth, mean, reach, fmt=".", ms=4, lw=0.8, color="tab:blue")
        diagonal(ax)
        ax.set_title(name, fontsize="small")
    label_outer(axes, "true value", "posterior mean and 94 % interval")
    return axes


def _chosen(tables: xr.Dataset, coefficients: Sequence[str] | None) -> list[str]:
    known = [str(name) for name in tables["coefficient"].values]
    if coefficients is None:
        return [name for name, of_all in zip(known, tables["population"].values, strict=True) if of_all]
    unknown = [name for name in coefficients if name not in known]
    if unknown or not coefficients:
        raise InputError(f"coefficients must be some of {known}; got {unknown or 'none'}.")
    return list(coefficients)
