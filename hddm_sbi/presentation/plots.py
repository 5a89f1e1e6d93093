"""Pictures of a fit: predicted response times, shrinkage, and recovery of a known truth. Each returns its Axes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from hddm_sbi.analysis.predictive import PredictiveDraws, posterior_predictive
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.model import HierarchicalModel
from hddm_sbi.hierarchy.predictor import GroupEffects, Predictor
from hddm_sbi.inference import inference_data
from hddm_sbi.simulation.outcome import Outcome
from hddm_sbi.types import Array

AxesArray = NDArray[np.object_]

_DATA, _MODEL, _OWN = "0.75", "tab:blue", "tab:orange"
_INTERVAL = (0.03, 0.97)  # the central 94 %


def plot_predictive(
    model: HierarchicalModel,
    posterior: Any,
    by: str = "condition",
    *,
    n_draws: int = 100,
    bins: int = 40,
    seed: int = 1,
) -> AxesArray:
    """Observed and predicted outcomes, one panel per level of a column of the data.

    Of two responses, the upper ones count to the right and the lower ones to the left (negative times); of more, each
    has a panel of its own per level. Areas add up to one per level, so choice shares are shown as well. Of a model of
    anything else, every outcome has a panel per level. Grey: data. Blue: median and central 94 % of the posterior
    predictive.
    """
    frame = model.trials.frame
    if by not in _predictor_columns(model):
        raise InputError(f"by={by!r} is not a predictor of this model; expected one of {_predictor_columns(model)}.")
    predicted = posterior_predictive(model, posterior, n_draws, seed)
    if not model.simulator.is_decision_model:
        return _outcome_panels(model, predicted, by, bins)
    shown, edges, x = _signed_times(model, predicted, bins)
    levels = list(dict.fromkeys(frame[by]))
    axes = panels(len(levels) * len(shown), columns=3 if len(shown) == 1 else len(shown))
    for ax, (level, response) in zip(axes, itertools.product(levels, shown), strict=True):
        rows = (frame[by] == level).to_numpy()
        observed, simulated = shown[response]
        _compare(ax, observed[rows], simulated[:, rows], edges)
        ax.axvline(0.0, color="k", lw=0.5)
        ax.set_title(f"{by} = {level}{response}", fontsize="medium")
    label_outer(axes, x, "density (1/s)")
    two = len(model.simulator.choices) == 2
    axes[0].legend(fontsize="x-small", frameon=False, loc="upper left" if two else "upper right")
    return axes


def _signed_times(
    model: HierarchicalModel, predicted: PredictiveDraws, bins: int
) -> tuple[dict[str, tuple[Array, Array]], Array, str]:
    """Observed and predicted times by what a panel's title says of the response, the edges of bins, and the label."""
    choices = model.simulator.choices
    longest = float(np.quantile(model.trials.rt, 0.995)) * 1.1
    if len(choices) == 2:
        sign = np.array([-1.0, 1.0])
        both = {"": (sign[model.trials.choice] * model.trials.rt, sign[predicted.choice] * predicted.rt)}
        return both, np.linspace(-longest, longest, bins + 1), "response time (s); lower responses negative"
    each = {
        f", response {code}": (
            np.where(model.trials.choice == c, model.trials.rt, np.inf),
            np.where(predicted.choice == c, predicted.rt, np.inf),
        )
        for c, code in enumerate(choices)
    }
    return each, np.linspace(0.0, longest, bins + 1), "response time (s)"


def _outcome_panels(model: HierarchicalModel, predicted: PredictiveDraws, by: str, bins: int) -> AxesArray:
    """One row of panels per level, one column per outcome."""
    frame, outcomes = model.trials.frame, model.simulator.outcomes
    levels = list(dict.fromkeys(frame[by]))
    axes = panels(len(levels) * len(outcomes), columns=3 if len(outcomes) == 1 else len(outcomes), share=False)
    for panel, (level, (k, outcome)) in enumerate(itertools.product(levels, enumerate(outcomes))):
        rows, ax = (frame[by] == level).to_numpy(), axes[panel]
        _compare(ax, model.trials.values[rows, k], predicted.values[:, rows, k], _edges(model, outcome, k, bins))
        if outcome.kind == "categorical":
            ax.set_xticks(range(len(outcome.categories)), [str(category) for category in outcome.categories])
        ax.set_title(f"{by} = {level}", fontsize="medium")
        ax.set_xlabel(outcome.name)
    axes[0].figure.supylabel("density", fontsize="medium")
    axes[0].legend(fontsize="x-small", frameon=False)
    return axes


def _edges(model: HierarchicalModel, outcome: Outcome, column: int, bins: int) -> Array:
    """Edges of bins that hold all observed values and as much again of the room between them; one bin per count."""
    low, high = float(model.trials.values[:, column].min()), float(model.trials.values[:, column].max())
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
    low, middle, high = np.quantile(heights, [_INTERVAL[0], 0.5, _INTERVAL[1]], axis=0)
    ax.stairs(high, edges, baseline=low, fill=True, color=_MODEL, alpha=0.3, label="predicted, 94 %")
    ax.stairs(middle, edges, color=_MODEL, lw=1.2, label="predicted, median")


def plot_shrinkage(
    model: HierarchicalModel, posterior: Any, parameter: str = "v", group: str = "subject", ax: Axes | None = None
) -> Axes:
    """What each group's own trials say about its level, and what the hierarchy makes of it.

    Orange: maximum-likelihood level from the group's own trials, all else at its posterior mean. Blue: posterior mean
    and central 94 %. Line: population mean. Groups are ordered by their own estimate.
    """
    predictor, effects = _intercept_effects(model, parameter, group)
    variables = inference_data.dataset(posterior)
    mean = variables[f"{parameter}_Intercept"]
    level = (mean + variables[effects.effect_names[0]]).stack(sample=("chain", "draw")).transpose(group, "sample")
    centre = level.mean("sample").to_numpy()
    low, high = np.quantile(level.to_numpy(), _INTERVAL, axis=1)
    own = _own_levels(model, posterior, predictor, effects) + float(mean.mean())
    order = np.argsort(own)
    place = np.arange(len(order))
    if ax is None:
        ax = plt.figure(figsize=(max(5.0, 0.35 * len(order) + 2), 3.6), layout="constrained").add_subplot()
    ax.axhline(float(mean.mean()), color="0.5", lw=0.8, label="population mean")
    ax.vlines(place, own[order], centre[order], color="0.6", lw=0.8)
    ax.vlines(place, low[order], high[order], color=_MODEL, lw=2, alpha=0.4)
    ax.plot(place, own[order], "o", mfc="white", color=_OWN, label=f"own trials of the {group}")
    ax.plot(place, centre[order], "o", color=_MODEL, label="hierarchical, 94 %")
    ax.set_xticks(place, [effects.levels[i] for i in order], rotation=90, fontsize="small")
    ax.set_xlabel(group)
    ax.set_ylabel(_axis_label(model, parameter))
    ax.legend(fontsize="small", frameon=False, loc="upper left")
    return ax


def plot_recovery(model: HierarchicalModel, posterior: Any, truth: Mapping[str, ArrayLike]) -> AxesArray:
    """Posterior means and central 94 % against the true values, one panel per parameter; the line is equality.

    truth: posterior name -> true value, with the shape of that variable.
    """
    variables = inference_data.dataset(posterior)
    unknown = [name for name in truth if name not in variables]
    if unknown:
        raise InputError(f"truth names {unknown}, which the posterior has not; it has {sorted(map(str, variables))}.")
    known = model.simulator.names
    names = [name for name in known if any(_parameter_of(key, known) == name for key in truth)]
    axes = panels(len(names), columns=4, share=False)
    for ax, name in zip(axes, names, strict=True):
        hits, count = 0, 0
        for key in (key for key in truth if _parameter_of(key, known) == name):
            draws = variables[key].stack(sample=("chain", "draw")).transpose("sample", ...).to_numpy()
            draws = draws.reshape(len(draws), -1)
            true = np.asarray(truth[key], dtype=float).reshape(-1)
            low, high = np.quantile(draws, _INTERVAL, axis=0)
            centre = draws.mean(0)
            many = len(true) > 1
            ax.errorbar(
                true,
                centre,
                [centre - low, high - centre],
                fmt="." if many else "D",
                ms=4,
                lw=0.8,
                label=key.removeprefix(f"{name}_"),
            )
            hits, count = hits + int(((true >= low) & (true <= high)).sum()), count + len(true)
        diagonal(ax)
        ax.set_title(f"{_axis_label(model, name)}: {hits} of {count} inside", fontsize="medium")
        ax.legend(fontsize="x-small", frameon=False)
    label_outer(axes, "true value", "posterior mean and 94 % interval")
    return axes


def _density(values: Array, edges: Array) -> Array:
    """Histogram as a density over all values, those outside the edges included in the total."""
    counts = np.histogram(values, edges)[0]
    return np.asarray(counts / (len(values) * np.diff(edges)))


def panels(n: int, columns: int = 3, share: bool = True) -> AxesArray:
    """n axes of one figure, (n,)."""
    columns = min(n, columns)
    rows = -(-n // columns)
    figure = plt.figure(figsize=(3.4 * columns + 0.4, 2.3 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=share, sharey=share, squeeze=False).reshape(-1)
    for unused in axes[n:]:
        unused.remove()
    return np.asarray(axes[:n])


def label_outer(axes: AxesArray, x: str, y: str) -> None:
    """Name the axes once for all panels."""
    figure = axes[0].figure
    figure.supxlabel(x, fontsize="medium")
    figure.supylabel(y, fontsize="medium")


def diagonal(ax: Axes) -> None:
    """Draw the line of equality, and show it whole."""
    low, high = (f(*ax.get_xlim(), *ax.get_ylim()) for f in (min, max))
    ax.plot([low, high], [low, high], color="k", lw=0.6, zorder=0)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)


def _axis_label(model: HierarchicalModel, parameter: str) -> str:
    """Name and unit on the scale of the coefficients: `v (1/s)`, `log a`, `logit z`."""
    link = next(p.link for p in model.hierarchy.predictors if p.name == parameter)
    unit = next(p.unit for p in model.simulator.parameters if p.name == parameter)
    return f"{parameter} ({unit})" if link == "identity" else f"{link} {parameter}"


def _parameter_of(coefficient: str, names: Sequence[str]) -> str:
    """The parameter that a coefficient belongs to: the longest name it begins with."""
    return max((name for name in names if coefficient.startswith(f"{name}_")), key=len, default="")


def _predictor_columns(model: HierarchicalModel) -> list[str]:
    outcomes = [outcome.name for outcome in model.simulator.outcomes]
    return [str(column) for column in model.trials.frame.columns if column not in outcomes]


def _intercept_effects(model: HierarchicalModel, parameter: str, group: str) -> tuple[Predictor, GroupEffects]:
    for predictor in model.hierarchy.predictors:
        for effects in predictor.groups:
            if predictor.name == parameter and effects.factor == group and effects.terms[0].name == "1":
                return predictor, effects
    raise InputError(f"this model has no term `1 + (1|{group})` for {parameter!r}; it is {model!r}.")


def _own_levels(model: HierarchicalModel, posterior: Any, predictor: Predictor, effects: GroupEffects) -> Array:
    """Deviation of every group that maximises the likelihood of its own trials, all else at its posterior mean."""
    means = {
        str(name): torch.tensor(x.mean(("chain", "draw")).to_numpy())
        for name, x in inference_data.dataset(posterior).items()
    }
    name = effects.effect_names[0]
    lapse = torch.as_tensor(means.get("lapse", model.lapse), dtype=torch.float64)
    hierarchy = model.hierarchy

    def loss(u: Array) -> tuple[float, Array]:
        level = torch.tensor(u, requires_grad=True)
        theta = hierarchy.theta({**means, name: level})
        value = -hierarchy.likelihood.log_prob_by_cell(hierarchy.trials, theta, lapse).sum()
        (gradient,) = torch.autograd.grad(value, level)
        return float(value.detach()), gradient.numpy()

    found = minimize(loss, means[name].numpy(), jac=True, method="L-BFGS-B")
    return np.asarray(found.x)
