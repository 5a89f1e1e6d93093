"""The map of a model: what every parameter is on every design cell, as an equation of its coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from torch import Tensor

from hddm_sbi.data import Formula, Trials
from hddm_sbi.hierarchy.coefficients import summand
from hddm_sbi.hierarchy.design_cells import design_cells
from hddm_sbi.hierarchy.link import Link
from hddm_sbi.hierarchy.predictor import GroupEffects, Predictor
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.types import Index

#: the inverse of every link, as it is written.
_INVERSE: dict[Link, str] = {"identity": "{}", "log": "exp({})", "logit": "logistic({})"}


def equations(
    hierarchy: Hierarchy,
    trials: Trials,
    formulas: Mapping[str, Formula | float],
    columns: Sequence[str],
    conditions: Sequence[str],
) -> pd.DataFrame:
    """A row for every parameter and every cell of its own formula: `parameter`, `cell`, `equation`.

    columns: that tell rows of the design apart. conditions: those of them that make cells. A number stands by its
    coefficient where it is the same in all trials of a cell, and the name of its column where it is not.
    """
    found = []
    for predictor in hierarchy.predictors:
        formula = formulas[predictor.name]
        assert isinstance(formula, Formula)
        own = [name for name in columns if name in formula.scope or formula.own]
        cells = design_cells(trials, own, [name for name in own if name in conditions])
        for part, row in cells.table.iterrows():
            where = ", ".join(f"{name} = {value}" for name, value in row.items())
            rows = cells.cell[cells.weight[int(str(part))] > 0]
            for k, parameter in enumerate(predictor.parameters):
                text = _equation(predictor, rows + k * hierarchy.n_cells, set(trials.levels))
                found.append((parameter, where, f"{parameter} = {text}"))
    held = [(name, "", f"{name} = {x:g}") for name, x in hierarchy.fixed.items() if not isinstance(x, Tensor)]
    order = {name: i for i, name in enumerate(hierarchy.likelihood.simulator.names)}
    table = pd.DataFrame([*found, *held], columns=["parameter", "cell", "equation"])
    return table.sort_values("parameter", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def _equation(predictor: Predictor, rows: Index, factors: set[str]) -> str:
    """The right side, on rows of the predictor."""
    summands = [s for c in predictor.common for s in c.summands(rows, predictor.name, factors)]
    summands += [s for effects in predictor.groups for s in _effects(effects, rows, factors)]
    if predictor.offset is not None:
        summands.append("offset")
    text = " + ".join(summands or ["0"]).replace("+ -", "- ")
    return _INVERSE[predictor.link].format(text)


def _effects(effects: GroupEffects, rows: Index, factors: set[str]) -> list[str]:
    """Deviations of a group, by what they are called in the posterior: v_condition|subject of the level hard."""
    found, column = [], 0
    for term, name in zip(effects.terms, effects.effect_names, strict=True):
        for level in term.levels or ("",):
            label = f"{name}[{level}]" if term.levels else name
            own = "" if term.name == "1" else term.name
            found += summand(label, own, effects.matrix[rows, column], factors)
            column += 1
    return found
