"""The same model on other rows: those of a new table, or some of its own cells with one unnamed group in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hddm_sbi.data import By, Design, SmoothTerm
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.hierarchy.terms.group_effects import GroupEffects
from hddm_sbi.hierarchy.terms.predictor import Predictor
from hddm_sbi.types import Index


def on_designs(
    hierarchy: Hierarchy, designs: Mapping[str, Design], fixed: Mapping[str, float | Tensor], n_cells: int
) -> Hierarchy:
    """The same coefficients on the cells of a new table, without trials.

    designs: of the new table, coded by the fitted one. fixed: parameters that are not estimated. Raises InputError
    where groups are in a part, gr(subject, by=group), that has no standard deviation.
    """
    predictors = tuple(_on_design(predictor, designs[predictor.name]) for predictor in hierarchy.predictors)
    return _without_trials(replace(hierarchy, predictors=predictors, fixed=fixed), n_cells)


def of_population(hierarchy: Hierarchy, cells: Index) -> Hierarchy:
    """The same coefficients on some of the cells, each with one group of every factor, or one of every part of it.

    Its deviations are those of anyone: 0 of the typical group, or drawn from the population.
    """
    predictors = tuple(_of_anyone(predictor, cells, hierarchy.n_cells) for predictor in hierarchy.predictors)
    fixed = {name: x[cells] if isinstance(x, Tensor) and x.dim() else x for name, x in hierarchy.fixed.items()}
    return _without_trials(replace(hierarchy, predictors=predictors, fixed=fixed), len(cells))


def _without_trials(hierarchy: Hierarchy, n_cells: int) -> Hierarchy:
    likelihood, none = hierarchy.likelihood, np.zeros(0, dtype=np.int64)
    outcomes = np.empty((0, len(likelihood.simulator.outcomes)))
    trials = likelihood.group_by_cell(outcomes, none, n_cells)
    return replace(hierarchy, trials=trials.with_lapses(hierarchy.trials.lapses))


def _on_design(predictor: Predictor, design: Design) -> Predictor:
    matrices = {f"{predictor.name}_{term.name}": term.matrix for term in design.common}
    for term in (term for term in design.common if isinstance(term, SmoothTerm)):
        matrices[f"{predictor.name}_{term.name}_wiggles"] = term.wiggles
    common = tuple(replace(c, matrix=torch.as_tensor(matrices[c.name])) for c in predictor.common)
    groups = tuple(_group_on_design(g, design) for g in predictor.groups)
    n_rows = len(next(iter(matrices.values())) if matrices else design.groups[0].index)
    offset = None if design.offset is None else torch.as_tensor(design.offset)
    return replace(predictor, n_rows=n_rows, common=common, groups=groups, offset=offset)


def _group_on_design(effects: GroupEffects, design: Design) -> GroupEffects:
    wanted = [term.name for term in effects.terms]
    group = next(g for g in design.groups if g.factor == effects.factor and {t.name for t in g.terms} >= {*wanted})
    terms = tuple(term for term in group.terms if term.name in wanted)
    matrix = torch.as_tensor(np.concatenate([term.matrix for term in terms], axis=1))
    index, by = torch.as_tensor(group.index), effects.by
    if by is not None and group.by is not None:
        unknown = [level for level in group.by.levels if level not in by.levels]
        if unknown:
            raise InputError(
                f"column {by.column!r} holds {unknown[0]!r}, whose standard deviations were not fitted; expected one "
                f"of {', '.join(map(repr, by.levels))}."
            )
        part = np.array([by.levels.index(level) for level in group.by.levels])
        by = replace(by, index=part[group.by.index])
    return replace(effects, levels=group.levels, index=index, matrix=matrix, terms=terms, by=by)


def _of_anyone(predictor: Predictor, cells: Index, n_cells: int) -> Predictor:
    rows = np.concatenate([k * n_cells + cells for k in range(len(predictor.parameters))])
    common = tuple(c if len(c.matrix) == 1 else replace(c, matrix=c.matrix[rows]) for c in predictor.common)
    groups = tuple(_anyone(g, rows) for g in predictor.groups)
    offset = None if predictor.offset is None else predictor.offset[rows]
    return replace(predictor, n_rows=len(rows), common=common, groups=groups, offset=offset)


def _anyone(effects: GroupEffects, rows: Index) -> GroupEffects:
    by, index = effects.by, torch.zeros(len(rows), dtype=torch.int64)
    if by is not None:
        index = torch.as_tensor(by.index)[effects.index[rows]]
        by = By(by.column, by.levels, np.arange(len(by.levels)))
    levels = ("anyone",) if by is None else by.levels
    terms = tuple(replace(term, matrix=term.matrix[rows]) for term in effects.terms)
    return replace(effects, levels=levels, index=index, matrix=effects.matrix[rows], terms=terms, by=by)
