"""Pictures of one fit, and of fits to many simulated tables. Every function returns an array of matplotlib Axes."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from hddm_sbi.analysis.predictive import PredictiveDraws, predictive_draws
from hddm_sbi.analysis.shrinkage import group_levels
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy import HierarchicalModel
from hddm_sbi.inference import inference_data
from hddm_sbi.inference.inference_data import CENTRAL
from hddm_sbi.types import Array

AxesArray = NDArray[np.object_]

_DATA, _MODEL, _OWN = "0.75", "tab:blue", "tab:orange"
#: of `plot_sbc`: bars, and where 99 % of them should end.
_BARS, _BAND = 10, (0.005, 0.995)


def plot_predictive(
    model: HierarchicalModel,
    posterior: Any,
    by: str = "condition",
    *,
    n_draws: int = 100,
    bins: int = 40,
    seed: int = 1,
) -> AxesArray:
    """Observed outcomes beside those that the posterior predicts, one panel per level of a column.

    Grey: data. Blue: median and central 94 % of the posterior predictive. With two responses, times of upper responses
    are positive and those of lower responses negative; with more, every response has a panel of its own. The areas of a
    level add up to one, so that the shares of the responses are shown as well. A model of other outcomes has a panel
    per level and outcome.

    Parameters
    ----------
    model
        The fitted model.
    posterior
        What `model.fit` returned.
    by
        Column of the table, one that a formula names.
    n_draws
        Number of simulated copies of the table, each at a posterior draw of its own; no more than there are draws.
    bins
        Number of bins of each histogram.
    seed
        Same seed, same copies.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        The panels, row by row.

    Raises
    ------
    InputError
        The column is no predictor of the model.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> trials = hs.simulate_experiment(n_subjects=2, n_trials=20).trials
    >>> model = hs.HierarchicalModel({"v": "condition", "a": 1.0, "z": 0.5, "t0": 0.3}, trials, likelihood="exact")
    >>> posterior = model.fit(draws=1000, tune=200, chains=2, seed=1, progress=False)
    >>> [ax.get_title() for ax in hs.plots.plot_predictive(model, posterior, by="condition")]
    ['condition = easy', 'condition = hard']
    """
    frame = model.trials.frame
    known = list(model.trials.predictors)
    if by not in known:
        raise InputError(f"by={by!r} is not a predictor of this model; expected one of {known}.")
    predicted = predictive_draws(model, posterior, n_draws, seed)
    if not model.simulator.is_decision_model:
        return _outcome_panels(model, predicted, by, bins)
    shown, edges, x = _signed_times(model, predicted, bins)
    levels = list(dict.fromkeys(frame[by]))
    axes = _panels(len(levels) * len(shown), columns=3 if len(shown) == 1 else len(shown))
    for ax, (level, response) in zip(axes, itertools.product(levels, shown), strict=True):
        rows = (frame[by] == level).to_numpy()
        observed, simulated = shown[response]
        _compare(ax, observed[rows], simulated[:, rows], edges)
        ax.axvline(0.0, color="k", lw=0.5)
        ax.set_title(f"{by} = {level}{response}{_untimed(observed[rows], simulated[:, rows])}", fontsize="medium")
    _label_outer(axes, x, "density (1/s)")
    two = len(model.simulator.choices) == 2
    axes[0].legend(fontsize="x-small", frameon=False, loc="upper left" if two else "upper right")
    return axes


def _signed_times(
    model: HierarchicalModel, predicted: PredictiveDraws, bins: int
) -> tuple[dict[str, tuple[Array, Array]], Array, str]:
    """Observed and predicted times by what a panel's title says of the response, the edges of bins, and the label."""
    names = model.trials.responses or model.simulator.choices
    rt = model.trials.rt
    longest = float(np.quantile(rt[np.isfinite(rt)], 0.995)) * 1.1
    if len(names) == 2:
        sign = np.array([-1.0, 1.0])
        observed, simulated = (
            np.where(model.trials.choice < 0, np.nan, rt),
            np.where(predicted.choice < 0, np.nan, predicted.rt),
        )
        both = {"": (sign[model.trials.choice] * observed, sign[predicted.choice] * simulated)}
        lower = names[0] if model.trials.responses else "lower responses"
        return both, np.linspace(-longest, longest, bins + 1), f"response time (s); {lower} negative"
    each = {
        f", response {name}": (
            np.where(model.trials.choice == c, rt, np.inf),
            np.where(predicted.choice == c, predicted.rt, np.inf),
        )
        for c, name in enumerate(names)
    }
    return each, np.linspace(0.0, longest, bins + 1), "response time (s)"


def _untimed(observed: Array, simulated: Array) -> str:
    """What a panel's title says of trials without a time: their share, and the central 94 % of those of the draws."""
    share, predicted = np.isnan(observed).mean(), np.isnan(simulated).mean(1)
    if share == 0 and not predicted.any():
        return ""
    low, high = np.quantile(predicted, CENTRAL)
    return f"\nno time: {share:.0%} (predicted {low:.0%} to {high:.0%})"


def _outcome_panels(model: HierarchicalModel, predicted: PredictiveDraws, by: str, bins: int) -> AxesArray:
    """One row of panels per level, one column per outcome."""
    frame, outcomes = model.trials.frame, model.simulator.outcomes
    levels = list(dict.fromkeys(frame[by]))
    axes = _panels(len(levels) * len(outcomes), columns=3 if len(outcomes) == 1 else len(outcomes), share=False)
    for panel, (level, (k, outcome)) in enumerate(itertools.product(levels, enumerate(outcomes))):
        rows, ax = (frame[by] == level).to_numpy(), axes[panel]
        _compare(ax, model.trials.values[rows, k], predicted.values[:, rows, k], _edges(model, k, bins))
        if outcome.kind == "categorical":
            ax.set_xticks(range(len(outcome.categories)), [str(category) for category in outcome.categories])
        ax.set_title(f"{by} = {level}", fontsize="medium")
        ax.set_xlabel(outcome.name)
    axes[0].figure.supylabel("density", fontsize="medium")
    axes[0].legend(fontsize="x-small", frameon=False)
    return axes


def _edges(model: HierarchicalModel, column: int, bins: int) -> Array:
    """Edges of bins over all observed values and a quarter of their range to either side; one bin per count."""
    outcome, values = model.simulator.outcomes[column], model.trials.values[:, column]
    low, high = float(values.min()), float(values.max())
    if outcome.kind == "categorical":
        return np.arange(len(outcome.categories) + 1.0) - 0.5
    if outcome.kind == "count":
        more = np.ceil(0.25 * (high - low))
        return np.arange(max(0.0, low - more), high + more + 2) - 0.5
    margin = 0.25 * (high - low) or 1.0
    return np.linspace(0.0 if outcome.kind == "positive" else low - margin, high + margin, bins + 1)


def _compare(ax: Axes, observed: Array, simulated: Array, edges: Array) -> None:
    """Histogram of the data (n,), with median and central 94 % of those of the draws (n_draws, n)."""
    ax.stairs(_density(observed, edges), edges, fill=True, color=_DATA, label="data")
    heights = np.array([_density(draw, edges) for draw in simulated])
    low, middle, high = np.quantile(heights, [CENTRAL[0], 0.5, CENTRAL[1]], axis=0)
    ax.stairs(high, edges, baseline=low, fill=True, color=_MODEL, alpha=0.3, label="predicted, 94 %")
    ax.stairs(middle, edges, color=_MODEL, lw=1.2, label="predicted, median")


def plot_shrinkage(
    model: HierarchicalModel, posterior: Any, parameter: str = "v", group: str = "subject", ax: Axes | None = None
) -> AxesArray:
    """Level of a parameter in every group, by its own trials alone and by the hierarchical fit.

    Orange: the level that maximises the likelihood of the group's own trials, all else at its posterior mean. Blue:
    posterior mean and central 94 %. Line: mean of the population. Groups are ordered by their orange level.

    Parameters
    ----------
    model
        The fitted model.
    posterior
        What `model.fit` returned.
    parameter
        Name of a parameter whose formula has the terms `1 + (1|group)`.
    group
        Name of the column of the groups.
    ax
        Where to draw; by default a new figure.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        The one panel.

    Raises
    ------
    InputError
        The model has no such term.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> trials = hs.simulate_experiment().trials
    >>> model = hs.HierarchicalModel({"v": "condition + (1|subject)", "a": 1.0, "z": 0.5, "t0": 0.3}, trials)
    >>> posterior = model.fit(draws=1000, tune=500, chains=2, seed=1, progress=False)
    >>> [ax.get_ylabel() for ax in hs.plots.plot_shrinkage(model, posterior, "v", group="subject")]
    ['v (1/s)']
    """
    levels = group_levels(model, posterior, parameter, group)
    order = np.argsort(levels.own)
    place = np.arange(len(order))
    if ax is None:
        ax = plt.figure(figsize=(max(5.0, 0.35 * len(order) + 2), 3.6), layout="constrained").add_subplot()
    ax.axhline(levels.population, color="0.5", lw=0.8, label="population mean")
    ax.vlines(place, levels.own[order], levels.mean[order], color="0.6", lw=0.8)
    ax.vlines(place, levels.low[order], levels.high[order], color=_MODEL, lw=2, alpha=0.4)
    ax.plot(place, levels.own[order], "o", mfc="white", color=_OWN, label=f"own trials of the {group}")
    ax.plot(place, levels.mean[order], "o", color=_MODEL, label="hierarchical, 94 %")
    ax.set_xticks(place, [levels.groups[i] for i in order], rotation=90, fontsize="small")
    ax.set_xlabel(group)
    ax.set_ylabel(_axis_label(model, parameter))
    ax.legend(fontsize="small", frameon=False, loc="upper left")
    return np.array([ax])


def plot_recovery(model: HierarchicalModel, posterior: Any, true_values: Mapping[str, ArrayLike]) -> AxesArray:
    """Posterior means and central 94 % against the true values, one panel per parameter; the line is equality.

    Parameters
    ----------
    model
        The fitted model.
    posterior
        What `model.fit` returned.
    true_values
        Posterior name -> true value, with the shape of that variable.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One panel per parameter; its title counts the intervals that contain the true value.

    Raises
    ------
    InputError
        `true_values` has a name that the posterior does not have.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 200, seed=2)
    >>> model = hs.HierarchicalModel({"v": "1", "a": 1.0, "z": 0.5, "t0": 0.3}, trials, likelihood="exact")
    >>> posterior = model.fit(draws=1000, tune=200, chains=2, seed=1, progress=False)
    >>> [ax.get_title() for ax in hs.plots.plot_recovery(model, posterior, {"v_Intercept": 1.0})]
    ['v (1/s): 1 of 1 inside']
    """
    draws = inference_data.draws(model.matched(posterior))
    unknown = [name for name in true_values if name not in draws]
    if unknown:
        raise InputError(
            f"true_values names {unknown}, which the posterior has not; it has {sorted(map(str, draws.data_vars))}."
        )
    known = [p.name for p in model.hierarchy.predictors]
    keys_of = {name: [key for key in true_values if _parameter_of(key, known) == name] for name in known}
    names = [name for name in known if keys_of[name]]
    axes = _panels(len(names), columns=4, share=False)
    for ax, name in zip(axes, names, strict=True):
        inside: list[bool] = []
        for key in keys_of[name]:
            values = draws[key].to_numpy().reshape(draws.sizes["sample"], -1)
            true = np.asarray(true_values[key], dtype=float).reshape(-1)
            low, high = np.quantile(values, CENTRAL, axis=0)
            marker = "." if len(true) > 1 else "D"
            _against_truth(ax, true, values.mean(0), low, high, fmt=marker, label=key.removeprefix(f"{name}_"))
            inside += ((true >= low) & (true <= high)).tolist()
        ax.set_title(f"{_axis_label(model, name)}: {sum(inside)} of {len(inside)} inside", fontsize="medium")
        ax.legend(fontsize="x-small", frameon=False)
    _finish_recovery(axes)
    return axes


def plot_sbc(tables: xr.Dataset, coefficients: Sequence[str] | None = None) -> AxesArray:
    """Ranks of the true values among posterior draws, one panel per coefficient.

    Grey: where 99 % of the bars should end. A valley: the posterior is too narrow. A hill: it is too wide. A slope: it
    is shifted.

    Parameters
    ----------
    tables
        What `hs.run_sbc` returned.
    coefficients
        Which to show; by default those of the population.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One panel per coefficient.

    Raises
    ------
    InputError
        A coefficient is not there.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 50, seed=1)
    >>> model = hs.HierarchicalModel({"v": "1", "a": 1.0, "z": 0.5, "t0": 0.3}, trials, likelihood="exact")
    >>> tables = hs.run_sbc(model, 2, method="laplace", progress=False)
    >>> [ax.get_title() for ax in hs.plots.plot_sbc(tables)]
    ['v_Intercept', 'lapse', 'log_likelihood']
    """
    names = _named(tables, coefficients)
    n, draws = tables.sizes["table"], int(tables.attrs["draws_ranked"])
    edges = np.linspace(-0.5, draws + 0.5, _BARS + 1)
    low, high = binom.ppf(_BAND, n, 1 / _BARS)
    axes = _panels(len(names), columns=4)
    for ax, name in zip(axes, names, strict=True):
        ax.axhspan(low, high, color="0.88")
        ax.axhline(n / _BARS, color="0.5", lw=0.8)
        ax.hist(tables["rank"].sel(coefficient=name).to_numpy(), edges, color=_MODEL, alpha=0.8)
        ax.set_title(name, fontsize="small")
    _label_outer(axes, f"rank of the truth among {draws} posterior draws", "tables")
    return axes


def plot_tables(tables: xr.Dataset, coefficients: Sequence[str] | None = None) -> AxesArray:
    """Posterior mean and central 94 % of every table against the true value; the line is equality.

    Parameters
    ----------
    tables
        What `hs.recover_parameters` returned.
    coefficients
        Which to show; by default those of the population.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One panel per coefficient.

    Raises
    ------
    InputError
        A coefficient is not there.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 50, seed=1)
    >>> model = hs.HierarchicalModel({"v": "1", "a": 1.0, "z": 0.5, "t0": 0.3}, trials, likelihood="exact")
    >>> tables = hs.recover_parameters(model, {"v_Intercept": 1.0}, 2, method="laplace", progress=False)
    >>> [ax.get_title() for ax in hs.plots.plot_tables(tables, ["v_Intercept"])]
    ['v_Intercept']
    """
    names = _named(tables, coefficients)
    axes = _panels(len(names), columns=4, share=False)
    for ax, name in zip(axes, names, strict=True):
        one = {column: tables[column].sel(coefficient=name).to_numpy() for column in ("truth", "mean", "low", "high")}
        _against_truth(ax, *one.values(), fmt=".", color=_MODEL)
        ax.set_title(name, fontsize="small")
    _finish_recovery(axes)
    return axes


def _named(tables: xr.Dataset, coefficients: Sequence[str] | None) -> list[str]:
    known = [str(name) for name in tables["coefficient"].values]
    if coefficients is None:
        return [name for name, of_all in zip(known, tables["population"].values, strict=True) if of_all]
    unknown = [name for name in coefficients if name not in known]
    if unknown or not coefficients:
        raise InputError(f"coefficients must be some of {known}; got {unknown or 'none'}.")
    return list(coefficients)


def _against_truth(ax: Axes, true: Array, mean: Array, low: Array, high: Array, **style: Any) -> None:
    """Means with intervals over the true values, each (n,)."""
    ax.errorbar(true, mean, [mean - low, high - mean], ms=4, lw=0.8, **style)


def _finish_recovery(axes: AxesArray) -> None:
    """The line of equality, shown whole, and labels."""
    for ax in axes:
        low, high = (end(*ax.get_xlim(), *ax.get_ylim()) for end in (min, max))
        ax.plot([low, high], [low, high], color="k", lw=0.6, zorder=0)
        ax.set_xlim(low, high)
        ax.set_ylim(low, high)
    _label_outer(axes, "true value", "posterior mean and 94 % interval")


def _density(values: Array, edges: Array) -> Array:
    """Histogram as a density over all values, those outside the edges included in the total."""
    counts = np.histogram(values, edges)[0]
    return np.asarray(counts / (len(values) * np.diff(edges)))


def _panels(n: int, columns: int = 3, share: bool = True) -> AxesArray:
    """n axes of one figure, (n,)."""
    columns = min(n, columns)
    rows = -(-n // columns)
    figure = plt.figure(figsize=(3.4 * columns + 0.4, 2.3 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=share, sharey=share, squeeze=False).reshape(-1)
    for unused in axes[n:]:
        unused.remove()
    return np.asarray(axes[:n])


def _label_outer(axes: AxesArray, x: str, y: str) -> None:
    """Name the axes once for all panels."""
    figure = axes[0].figure
    figure.supxlabel(x, fontsize="medium")
    figure.supylabel(y, fontsize="medium")


def _axis_label(model: HierarchicalModel, parameter: str) -> str:
    """Name and unit on the scale of the coefficients: `v (1/s)`, `log a`, `logit z`."""
    predictor = next(p for p in model.hierarchy.predictors if p.name == parameter)
    unit = next(p.unit for p in model.simulator.parameters if p.name in predictor.parameters)
    return f"{parameter} ({unit})" if predictor.link == "identity" else f"{predictor.link} {parameter}"


def _parameter_of(coefficient: str, names: Sequence[str]) -> str:
    """The parameter that a coefficient belongs to: the longest name it begins with."""
    return max((name for name in names if coefficient.startswith(f"{name}_")), key=len, default="")
