"""A table's design, a likelihood, priors and lapses -> the Pyro model, before the pilot fit chooses a centring."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hddm_sbi.data import Course
from hddm_sbi.hierarchy.along_trials import along_trials, typical_spread
from hddm_sbi.hierarchy.lapses import BOX, Lapses
from hddm_sbi.hierarchy.parameter_map import OnCells, ParameterMap
from hddm_sbi.hierarchy.priors.choice import OF_LAPSES, PriorChoice, parameter_priors, user_priors
from hddm_sbi.hierarchy.pyro_model import LAPSES, Hierarchy
from hddm_sbi.hierarchy.table_design import TableDesign
from hddm_sbi.hierarchy.terms.default_predictors import build_predictors
from hddm_sbi.hierarchy.terms.link import edges_on_link
from hddm_sbi.hierarchy.terms.predictor import Predictor
from hddm_sbi.likelihoods import CellTrials, Likelihood
from hddm_sbi.types import Array


def assemble(table: TableDesign, likelihood: Likelihood, priors: PriorChoice, lapses: Lapses) -> Hierarchy:
    """The Pyro model. Raises InputError for a prior or a number that does not fit what it is given for."""
    courses = table.courses
    predictors = _predictors(table, likelihood, priors, courses)
    trials = grouped(table, likelihood, table.trials.values, lapses.seconds)
    trials = trials.with_lapses(lapses.law(trials.lapses))
    fixed, along = table.fixed(likelihood.box), _along(table, courses, predictors)
    hierarchy = Hierarchy(likelihood, trials, predictors, fixed, lapses.probability, along)
    return hierarchy.with_priors(
        user_priors(
            priors,
            hierarchy.coefficient_priors(),
            hierarchy.coefficient_levels(),
            hierarchy.coefficient_kinds(),
            {p.name: p.link for p in predictors},
            {p.name: edges_on_link(p.link, p.low, p.high) for p in predictors},
        )
    )


def grouped(table: TableDesign, likelihood: Likelihood, values: Array, lapse_seconds: float | None) -> CellTrials:
    """Outcomes (n, k) of the table's design, cell by cell, with what is known where they are not complete; those of
    trials that are not seen left out.

    Raises InputError for outcomes of which the likelihood knows nothing, or warns of them.
    """
    likelihood.check_outcomes(values)
    cell, observation = table.cell, table.trials.observation
    if table.seen is not None:
        values, cell = values[table.seen], cell[table.seen]
        observation = None if observation is None else observation.of(table.seen)
    return likelihood.group_by_cell(values, cell, table.n_rows, lapse_seconds, observation)


def _predictors(
    table: TableDesign, likelihood: Likelihood, priors: PriorChoice, courses: Sequence[Course]
) -> tuple[Predictor, ...]:
    """Of every formula, that of lapses among them."""
    cells, with_lapses = table.trials.cells, (LAPSES,) if LAPSES in table.formulas and table.share is not None else ()
    own = parameter_priors(table.simulator, priors) | {p.name: p.prior for p in table.rule_parameters}
    return build_predictors(
        table.designs(),
        own | dict.fromkeys(with_lapses, OF_LAPSES),
        table.box(likelihood.box) | dict.fromkeys(with_lapses, BOX),
        np.bincount(cells.of_trial, minlength=len(cells)),
        {each.name: typical_spread(each, difference=not table.simulator.stems) for each in courses},
    )


def _along(table: TableDesign, courses: Sequence[Course], predictors: Sequence[Predictor]) -> ParameterMap:
    """From the design's cells to the rows of theta: the same, or along the trials where there are sequences."""
    if not courses:
        return OnCells()
    stems = table.simulator.stems.values()
    accumulators = {name: choice for members in stems for choice, name in enumerate(members)}
    return along_trials(predictors, courses, table.simulator.names, table.trials.cells.of_trial, accumulators)
