"""A posterior beside a model: its variables matched by label, or refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from hddm_sbi.data import LEVELS, TABLE, Formula, Trials, in_files, ordered_levels
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.fits.posterior import coordinates, group_dims, opened
from hddm_sbi.hierarchy.pyro_model import Hierarchy

_SHOWN = 5


def matched(
    posterior: Any, hierarchy: Hierarchy, trials: Trials, formulas: Mapping[str, Formula | float]
) -> xr.Dataset:
    """The variables of a posterior that a model has, groups and coefficients in the model's order.

    The posterior may be that of more groups than the table of this model has. Raises InputError where it is of another
    model, lacks a group, or where the formulas code this table otherwise than the one that was fitted.
    """
    known, table = opened(posterior)
    _same_formulas(known.attrs, hierarchy, formulas)
    coords, _ = coordinates(hierarchy)
    missing = [name for name in hierarchy.names if name not in known]
    if missing:
        raise InputError(
            f"the posterior is not of this model: it lacks {', '.join(missing[:_SHOWN])}; fit this model, or give its "
            "posterior."
        )
    _same_coding(table, known.attrs, trials, formulas)
    found = known[hierarchy.names]
    unknown = [str(name) for name, x in found.data_vars.items() if np.isnan(x.to_numpy()).any()]
    if unknown:
        raise InputError(
            f"the posterior has draws that are no numbers, of {', '.join(unknown[:_SHOWN])}: give it as model.fit "
            "returned it, or read it from its file again."
        )
    return _by_label(found, coords, set(group_dims(hierarchy).values()))


def _by_label(found: xr.Dataset, coords: Mapping[str, Sequence[Any]], groups: set[str]) -> xr.Dataset:
    """The same with the labels of every dim, of which only those of groups may be fewer."""
    for dim, labels in coords.items():
        there = found[dim].to_numpy().tolist() if dim in found.dims else []
        if there == list(labels):
            continue
        absent = [label for label in labels if label not in there]
        if absent or (dim not in groups and len(there) > len(labels)):
            said = ", ".join(map(repr, (absent or labels)[:_SHOWN]))
            raise InputError(
                f"the posterior does not fit this model: along {dim!r} it has {_listed(there)}, and this model "
                f"{'needs' if absent else 'has only'} {said}. Fit this model to its own table, or leave those rows out."
            )
        found = found.sel({dim: list(labels)})
    return found


def _same_formulas(attrs: Mapping[Any, Any], hierarchy: Hierarchy, formulas: Mapping[str, Formula | float]) -> None:
    """Refuse a posterior that says it is of another model."""
    model = hierarchy.likelihood.simulator.name
    if attrs.get("model", model) != model:
        raise InputError(f"the posterior is of the model {attrs['model']!r}, not of {model!r}.")
    ours = {name: f if isinstance(f, float) else f.rhs for name, f in formulas.items()}
    theirs = json.loads(attrs["formulas"]) if "formulas" in attrs else ours
    for name in (name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)):
        raise InputError(
            f"the posterior is of another model: its formula of {name!r} is {theirs.get(name)!r}, that of this model "
            f"{ours.get(name)!r}."
        )


def _same_coding(
    fitted: xr.Dataset, attrs: Mapping[Any, Any], trials: Trials, formulas: Mapping[str, Formula | float]
) -> None:
    """Refuse a table that the formulas code otherwise: other levels of a factor, other values in scale(x)."""
    factors, known = trials.levels, json.loads(attrs.get("levels", "{}"))
    scope: dict[str, int] = {}
    for formula in formulas.values():
        for column, seen in (formula.scope if isinstance(formula, Formula) else {}).items():
            scope[column] = max(scope.get(column, 0), seen)
    for column, seen in scope.items():
        if in_files(column) not in fitted:
            continue
        theirs, ours = fitted[in_files(column)].to_numpy(), trials.frame[column]
        if column in factors:
            levels = list(factors[column]), known.get(column, list(factors[column]))
        elif seen == LEVELS:
            levels = ordered_levels(ours).categories.tolist(), np.unique(theirs).tolist()
        else:
            levels = [], []
        same = levels[0] == levels[1]
        if seen == TABLE and same and column not in factors:
            same = np.array_equal(np.sort(theirs), np.sort(ours.to_numpy(dtype=theirs.dtype)))
        if not same:
            how = (
                f"its levels are {_listed(levels[1])} there and {_listed(levels[0])} here"
                if levels[0]
                else ("a formula has a function of all its values, and they are others here")
            )
            raise InputError(
                f"the posterior does not fit this model: column {column!r} is coded otherwise in the table that was "
                f"fitted ({how}). Fit this model to its own table."
            )


def _listed(labels: Sequence[Any]) -> str:
    more = len(labels) - _SHOWN
    return ", ".join(map(repr, labels[:_SHOWN])) + (f" and {more} more" if more > 0 else "")
