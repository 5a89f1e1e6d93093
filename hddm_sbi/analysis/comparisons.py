"""Comparisons of a fit on natural scales: differences and ratios between two values of a predictor."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.analysis.fit import Fit
from hddm_sbi.analysis.numbers import POPULATION, Numbers, Request, numbers_of
from hddm_sbi.errors import InputError, did_you_mean
from hddm_sbi.hierarchy import HierarchicalModel
from hddm_sbi.types import Array

Rope = Mapping[str, float | tuple[float, float]]


def comparisons(
    model: HierarchicalModel,
    posterior: Any,
    variables: Mapping[str, tuple[Any, Any]],
    by: str | Sequence[str] = (),
    level: str = POPULATION,
    *,
    rope: Rope | None = None,
    draws: int = 200,
    groups: int = 30,
    seed: int = 1,
) -> pd.DataFrame:
    """Differences and ratios between two values of a predictor, all else as it is.

    Every trial is predicted twice, with the first and with the second value in place of its own, and the predictions
    are averaged over trials and compared, draw by draw: `comparisons` of marginaleffects.

    Parameters
    ----------
    model
        The fitted model.
    posterior
        What `model.fit` returned.
    variables
        Column -> (first, second), two levels or two numbers: first - second, and first / second. Several columns change
        together.
    by
        As in `predictions`; other columns than those that change.
    level
        As in `predictions`.
    rope
        Region of practical equivalence by quantity: the largest difference that does not matter, or (low, high), in the
        unit of the quantity; of parameters of accumulators each by its own name.
    draws
        As in `predictions`.
    groups
        As in `predictions`.
    seed
        As in `predictions`.

    Returns
    -------
    pandas.DataFrame
        As from `predictions`, with the columns `contrast`, such as "hard - easy" or "hard / easy"; `direction`, the
        probability of direction: that the difference has the sign that it has in most draws, or that the ratio lies on
        the side of 1 where it does; and with `rope`, `in_rope`, the posterior probability of that region. There are
        ratios of quantities that are positive in every draw. Parameters whose formulas name none of the columns are
        left out, as they are the same in both.

    Raises
    ------
    InputError
        A column that is no predictor, a level that does not occur, or the posterior is of another model.

    Examples
    --------
    >>> import warnings
    >>> import hddm_sbi as hs
    >>> warnings.simplefilter("ignore", hs.ConvergenceWarning)
    >>> trials = hs.simulate_experiment(n_subjects=4, n_trials=50).trials
    >>> formulas = {"v": "condition + (1|subject)", "a": 1.0, "z": 0.5, "t0": 0.3}
    >>> model = hs.HierarchicalModel(formulas, trials, likelihood="exact")
    >>> posterior = model.fit(draws=50, tune=100, chains=2, seed=1, progress=False)
    >>> table = hs.comparisons(model, posterior, {"condition": ("hard", "easy")}, rope={"v": 0.1}, draws=0)
    >>> table[["contrast", "level", "quantity", "direction", "in_rope"]].values.tolist()[0]
    ['hard - easy', 'typical', 'v', 1.0, 0.0]
    """
    fit = Fit.of(model, posterior)
    pairs = _pairs(variables, model)
    request = Request.checked(groups, draws, seed)
    same = _same(model, pairs)
    first, second = (
        numbers_of(fit, by, level, request, {n: pair[i] for n, pair in pairs.items()}).without(same) for i in (0, 1)
    )
    regions = _regions(rope, first, same)
    labels = [", ".join(str(pair[i]) for pair in pairs.values()) for i in (0, 1)]
    more: dict[str, Any] = {"direction": lambda _, x: _direction(x)}
    if rope is not None:
        more["in_rope"] = lambda name, x: _inside(x, regions[name]) if name in regions else np.nan
    different = _combined(first, second, lambda x, y: x - y).table(more)
    relative = _combined(_positive(first, second), second, lambda x, y: x / y)
    tables = [different.assign(contrast=" - ".join(labels))]
    if any(relative.of.values()):
        ratio = relative.table({"direction": lambda _, x: _direction(x - 1.0)})
        tables.append(ratio.assign(contrast=" / ".join(labels)))
    table = pd.concat(tables, ignore_index=True)
    return table[["contrast", *(name for name in table if name != "contrast")]]


def _pairs(variables: Any, model: HierarchicalModel) -> dict[str, tuple[Any, Any]]:
    """Column -> (first, second). Raises InputError for what are no predictors, or no two of their values."""
    if not isinstance(variables, Mapping) or not variables:
        raise InputError(
            f"variables must be a dict of column -> (first, second), such as {{'condition': ('hard', 'easy')}}; got "
            f"{variables!r}."
        )
    known, levels = model.design_columns, model.trials.levels
    for name, pair in variables.items():
        if name not in known:
            near = did_you_mean(str(name), known)
            raise InputError(f"{name!r} is no predictor of this model{near} Expected some of {list(known)}.")
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"variables[{name!r}] must be a pair (first, second); got {pair!r}.")
        if not all(pd.api.types.is_scalar(value) for value in pair):
            raise InputError(f"variables[{name!r}] must be two values, each one for all trials; got {pair!r}.")
        if pair[0] == pair[1]:
            raise InputError(f"variables[{name!r}] must be two different values; got {pair!r}.")
        for value in pair:
            if name in levels and value not in levels[name]:
                near = did_you_mean(str(value), list(map(str, levels[name])))
                listed = ", ".join(map(repr, levels[name]))
                raise InputError(f"column {name!r} has no level {value!r}{near} Its levels are {listed}.")
    return {str(name): tuple(pair) for name, pair in variables.items()}


def _same(model: HierarchicalModel, columns: Collection[str]) -> frozenset[str]:
    """Parameters whose formulas name none of the columns. Raises InputError where nothing that is compared can differ,
    as where the columns are those of lapses alone."""
    names = model.simulator.names
    estimated = {
        parameter: p.name for p in model.uncentred.predictors for parameter in p.parameters if parameter in names
    }
    formulas = {name: model.formulas[name] for name in estimated.values()}
    varying = {name for name, f in formulas.items() if not isinstance(f, float) and f.varies_with(columns)}
    if not varying and not any(p.from_data and p.name in columns for p in model.simulator.parameters):
        named = " and ".join(map(repr, columns))
        raise InputError(
            f"nothing that is compared differs with {named}: no formula of {model.simulator.name!r} names it, and "
            "comparisons are of responses that are no lapses."
        )
    return frozenset(parameter for parameter, name in estimated.items() if name not in varying)


def _regions(rope: Rope | None, numbers: Numbers, same: Collection[str]) -> dict[str, tuple[float, float]]:
    """(low, high) by quantity. Raises InputError for a quantity that is not there, or for no region."""
    known, found = list(next(iter(numbers.of.values()))), dict[str, tuple[float, float]]()
    if rope is not None and not isinstance(rope, Mapping):
        raise InputError(f"rope must be a dict of quantity -> region, such as {{{known[0]!r}: 0.1}}; got {rope!r}.")
    for name, region in (rope or {}).items():
        if name in same:
            raise InputError(f"rope names {name!r}, which is the same in both, by its formula. Compared are: {known}.")
        if name not in known:
            near = did_you_mean(str(name), known)
            raise InputError(f"rope names {name!r}, which is not compared{near} Known: {known}.")
        try:
            ends = np.asarray(region)
            ends = np.empty(0) if ends.dtype.kind == "b" else ends.astype(np.float64).reshape(-1)
        except (TypeError, ValueError):
            ends = np.empty(0)
        low, high = (-ends[0], ends[0]) if ends.size == 1 else ends if ends.size == 2 else (0.0, 0.0)
        # A region without an end has one side at least: a difference that is smaller than a limit.
        if not low < high or not np.isfinite([low, high]).any():
            raise InputError(
                f"rope[{name!r}] must be the largest difference that does not matter, or (low, high); got {region!r}."
            )
        found[name] = float(low), float(high)
    return found


def _combined(first: Numbers, second: Numbers, how: Any) -> Numbers:
    """Numbers of both, draw by draw, of every quantity that the first has."""
    of = {
        level: {name: how(x, second.of[level][name]) for name, x in found.items()} for level, found in first.of.items()
    }
    return Numbers(first.cells, of)


def _positive(first: Numbers, second: Numbers) -> Numbers:
    """The quantities of the first that are positive in every draw of both, so that they have a ratio."""
    of = {
        level: {name: x for name, x in found.items() if min(x.min(), second.of[level][name].min()) > 0.0}
        for level, found in first.of.items()
    }
    return Numbers(first.cells, of)


def _direction(x: Array) -> Array:
    """Probability of direction of every column of draws."""
    return np.asarray(np.maximum((x > 0).mean(0), (x < 0).mean(0)))


def _inside(x: Array, region: tuple[float, float]) -> Array:
    """Share of every column of draws in a region."""
    return np.asarray(((x >= region[0]) & (x <= region[1])).mean(0))
