"""A checked table and its formulas: which trials share a cell, and what each column is there for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hddm_sbi.data import (
    ACCURACY,
    CONGRUENCY,
    Accumulators,
    Coding,
    Course,
    Design,
    Formula,
    Missing,
    Trials,
    build_designs,
    check_codes,
    check_names,
    check_new_table,
    check_table,
    check_used,
    columns_used,
    course,
    parse_formulas,
    stimulus_column,
    warn_reversed,
)
from hddm_sbi.data import Sequence as TrialSequence
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.pyro_model import LAPSES
from hddm_sbi.simulation import Parameter, Simulator
from hddm_sbi.types import Index


@dataclass(frozen=True)
class TableDesign:
    """What a model's table and formulas say, whatever its likelihood and priors.

    formulas: of every parameter, or of the stem of those of all accumulators; a number where one is held. share: what
    the formulas say of lapses, None for nothing. sequences: rules of covariates along trials, by name. stimulus: of a
    race, the column of right responses, where formulas need it. missing: why an rt or a response may be. seen: the
    trials, by their positions in ascending order, that the likelihood is of; None for all. fitted: of a new table the
    same of the one that was fitted, by which this one is coded.
    """

    simulator: Simulator
    formulas: Mapping[str, Formula | float]
    share: Formula | float | None
    sequences: Mapping[str, TrialSequence]
    trials: Trials
    stimulus: str | None
    missing: Missing
    seen: Index | None = None
    fitted: TableDesign | None = None

    @classmethod
    def of(
        cls,
        formulas: str | Sequence[str] | Mapping[str, str | float],
        data: pd.DataFrame,
        simulator: Simulator,
        sequences: Mapping[str, TrialSequence] | None,
        stimulus: str | None,
        missing: Missing,
        coding: Mapping[str, Any],
    ) -> TableDesign:
        """From the arguments of `HierarchicalModel`. coding: which columns outcomes lie in, and how they are written
        there, as `check_table` takes them."""
        stems, own = simulator.stems, [p.name for p in simulator.parameters]
        sequences = check_names(sequences, [*own, *stems, LAPSES], getattr(data, "columns", ()))
        parameters = (*simulator.parameters, *_of_rules(sequences))
        held = {p.name: p.fixed for p in parameters if p.fixed is not None}
        estimable = [p.name for p in parameters if not p.from_data]
        with_lapses = () if LAPSES in [p.name for p in parameters] else (LAPSES,)
        parsed = parse_formulas(formulas, estimable, held, stems, [*sequences], with_lapses)
        check_used(sequences, parsed)
        stimulus = stimulus_column(stimulus, parsed, stems, data, coding["response"])
        asked = [*([] if stimulus is None else [stimulus]), *(p.name for p in parameters if p.from_data)]
        trials = check_table(
            data,
            simulator,
            list(dict.fromkeys([*columns_used(parsed), *asked])),
            missing=missing,
            beside=[column for each in sequences.values() for column in each.complete_columns],
            may_lack=[column for each in sequences.values() for column in each.open_columns],
            **coding,
        )
        share = parsed.get(LAPSES) if with_lapses else None
        if isinstance(share, float):
            # The same as the argument.
            del parsed[LAPSES]
        return cls(simulator, parsed, share, sequences, trials, stimulus, missing)

    @property
    def rule_parameters(self) -> list[Parameter]:
        """The parameters of the rules of all sequences."""
        return _of_rules(self.sequences)

    @property
    def codes(self) -> dict[str, tuple[float, ...]]:
        """The values that conditions of the model may have in the table, by name."""
        parameters = (*self.simulator.parameters, *self.rule_parameters)
        return {p.name: p.codes for p in parameters if p.from_data}

    @property
    def cell(self) -> Index:
        """The row of theta of each trial, (n_trials,): its cell, or with sequences the trial itself."""
        return np.arange(len(self.trials)) if self.sequences else self.trials.cells.of_trial

    @property
    def n_rows(self) -> int:
        """How many rows theta has."""
        return len(self.trials) if self.sequences else len(self.trials.cells)

    @property
    def accumulators(self) -> Accumulators | None:
        """Of the trials of a race."""
        return self.trials.accumulators(self.simulator.choices, self.stimulus) if self.simulator.stems else None

    @property
    def courses(self) -> list[Course]:
        """Every sequence on the table; the choices of its rule are responses, or the categories of the last outcome."""
        choices = self.simulator.choices or self.simulator.outcomes[-1].categories
        if self.fitted is None:
            return [course(name, each, self.trials, choices) for name, each in self.sequences.items()]
        return [known.of_new(self.trials, choices, self.grouping_columns) for known in self.fitted.courses]

    def designs(self) -> dict[str, Design]:
        """Of every formula, on the cells."""
        fitted = self.fitted
        coding = None if fitted is None else Coding(fitted.trials.frame, fitted.accumulators)
        return build_designs(self.formulas, self.trials.frame, self.trials.cells, self.accumulators, coding)

    def box(self, of_likelihood: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Of every parameter, those of rules included."""
        return {**of_likelihood, **{p.name: (p.low, p.high) for p in self.rule_parameters}}

    def fixed(self, of_likelihood: Mapping[str, tuple[float, float]]) -> dict[str, float | Tensor]:
        """Parameters that are not estimated: held at a number, or read from the table on every cell (n_cells,)."""
        fixed, box = dict[str, float | Tensor](), self.box(of_likelihood)
        for name, value in ((name, f) for name, f in self.formulas.items() if isinstance(f, float)):
            members = self.simulator.stems.get(name, (name,))
            low, high = box[members[0]]
            if not low <= value <= high:
                raise InputError(f"{name} = {value:g} lies outside the likelihood's box [{low:g}, {high:g}].")
            fixed |= dict.fromkeys(members, value)
        for name, known in self.codes.items():
            condition = check_codes(self.trials, name, known)
            if name == CONGRUENCY:
                warn_reversed(self.trials, condition, self.formulas)
            fixed[name] = torch.as_tensor(condition[self.trials.cells.first])
        return fixed

    @property
    def grouping_columns(self) -> tuple[str, ...]:
        """Predictors that only tell groups apart."""
        effects = {column for f in self._parsed for column in f.scope}
        known = {*effects, *([] if self.stimulus is None else [self.stimulus]), *self.codes}
        return tuple(name for name in self.trials.predictors if name not in known)

    @property
    def columns(self) -> tuple[str, ...]:
        """Predictors that tell rows of the design of the population apart, parts of groups, gr(by=), among them."""
        parts, groups = {bar.by for f in self._parsed for bar in f.bars}, self.grouping_columns
        return tuple(name for name in self.trials.predictors if name not in groups or name in parts)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Of `columns` those that are no numbers: factors, the stimulus of a race, conditions of the model."""
        known = {*self.trials.levels, self.stimulus, *self.codes}
        return tuple(name for name in self.columns if name in known)

    @property
    def correct(self) -> Index | None:
        """The position of the correct response of each cell, (n_cells,), where the table or the model says it."""
        own = self.accumulators
        if own is not None and own.stimulus is not None:
            return own.stimulus[self.trials.cells.first]
        if self.trials.responses == ACCURACY or CONGRUENCY in self.simulator.names:
            return np.ones(len(self.trials.cells), dtype=np.int64)
        return None

    def of_new(self, data: pd.DataFrame) -> TableDesign:
        """The same of a new table, with or without outcomes."""
        check_names(self.sequences, (), getattr(data, "columns", ()))
        sequences = self.sequences.values()
        trials = check_new_table(
            data,
            self.simulator,
            self.trials,
            self.grouping_columns,
            self.missing,
            beside=[column for each in sequences for column in each.complete_columns],
            may_lack=[column for each in self.courses for column in each.given],
            brought=[column for each in sequences for column in each.brought],
        )
        return replace(self, trials=trials, seen=None, fitted=self.fitted or self)

    @property
    def _parsed(self) -> list[Formula]:
        """Formulas without the numbers."""
        return [f for f in self.formulas.values() if isinstance(f, Formula)]


def _of_rules(sequences: Mapping[str, TrialSequence]) -> list[Parameter]:
    return [p for each in sequences.values() for p in each.parameters.values()]
