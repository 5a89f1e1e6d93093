"""What a model assumes before it sees responses: its equations, its priors, and what both imply on natural scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from torch import Tensor

from hddm_sbi.data import DesignCells, Formula, Trials, design_cells, records
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.from_prior import prior_draws
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.hierarchy.terms.coefficients import summand
from hddm_sbi.hierarchy.terms.group_effects import GroupEffects
from hddm_sbi.hierarchy.terms.new_groups import new_theta, score_shapes, standard_scores, typical_theta
from hddm_sbi.hierarchy.terms.predictor import Predictor
from hddm_sbi.hierarchy.terms.rows import of_population
from hddm_sbi.types import Array, Index, Link

#: the inverse of every link, as it is written.
_INVERSE: dict[Link, str] = {"identity": "{}", "log": "exp({})", "logit": "logistic({})"}
#: what is shown of a distribution.
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
#: what is said of a model whose parameters are none of a cell.
_MOVES = "Parameters move along trials; hs.prior_predictive(model) simulates what the priors imply."
#: cells and quantities that are printed; the tables have all.
_SHOWN = 24
_PRINTED = ("rt_mean", "rt_q10", "rt_q50", "rt_q90")


@dataclass(frozen=True)
class Description:
    """What a model assumes; `HierarchicalModel.describe` makes it. Its tables are pandas DataFrames.

    equations: `parameter`, `cell`, `equation`. priors: as `prior_table`. parameters, outcomes: quantiles under the
    prior on the natural scale, by cell; they are computed when first asked for, from `draws` draws of the prior.
    """

    title: str
    priors: pd.DataFrame
    hierarchy: Hierarchy
    trials: Trials
    formulas: Mapping[str, Formula | float]
    columns: tuple[str, ...]
    conditions: tuple[str, ...]
    correct: Index | None
    draws: int
    seed: int

    @cached_property
    def equations(self) -> pd.DataFrame:
        """Every parameter on every cell of its formula, as an equation of its coefficients."""
        return _equations(self.hierarchy, self.trials, self.formulas, self.columns, self.conditions)

    @cached_property
    def parameters(self) -> pd.DataFrame:
        """Quantiles under the prior of the parameters that are estimated, by cell.

        level: "typical", of the group whose deviations are 0; or "new", of one group of the population, so that the
        prior of their spread is in it.
        """
        names = self.hierarchy.likelihood.simulator.names
        estimated = [name for p in self.hierarchy.predictors for name in p.parameters if name in names]
        typical, new = self._theta
        of = {"typical": self._cells.mean(typical), "new": self._cells.mean(new)}
        return self._table({level: {n: x[..., names.index(n)] for n in estimated} for level, x in of.items()})

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """Quantiles under the prior of what the trials of a new group would be like, by cell, lapses left out.

        For every draw: accuracy, choice probabilities, mean and quantiles of rt; means of other outcomes.
        """
        kept, few = self._cells.few()
        theta = self._theta[1][:, kept]
        correct = None if self.correct is None else np.tile(self.correct[few.cell], len(theta))
        flat = theta.reshape(-1, theta.shape[-1])
        found = self.hierarchy.likelihood.quantities(flat, self.trials.responses, correct, seed=self.seed)
        by_draw = {name: few.mean(x.reshape(len(theta), -1, 1))[..., 0] for name, x in found.items()}
        return self._table({"new": by_draw}).drop(columns="level")

    @cached_property
    def _cells(self) -> DesignCells:
        return design_cells(self.trials, self.columns, self.conditions)

    @property
    def _moves(self) -> bool:
        """Whether parameters move along trials, and so are none of a cell."""
        return any(p.along for p in self.hierarchy.predictors)

    @cached_property
    def _theta(self) -> tuple[Array, Array]:
        """Of the typical group, and of a new one, for every draw of the prior: (draws, n_rows, p) each."""
        if self._moves:
            raise InputError(_MOVES)
        population = of_population(self.hierarchy, self._cells.cell)
        values = prior_draws(self.hierarchy, self.draws, self.seed)
        scores: dict[str, Tensor] = standard_scores(score_shapes(population), self.draws, self.seed)
        each = {name: z[: self.draws].unsqueeze(1) for name, z in scores.items()}
        return typical_theta(population, values).numpy(), new_theta(population, values, each)[:, 0].numpy()

    def _table(self, found: Mapping[str, Mapping[str, Array]]) -> pd.DataFrame:
        """Quantiles over the draws of numbers (draws, n_cells), by level and name, a row for each and each cell."""
        cells, tables = self._cells.table, []
        for level, numbers in found.items():
            for name, x in numbers.items():
                told = {f"q{100 * q:.0f}": np.nanquantile(x, q, axis=0) for q in _QUANTILES}
                tables.append(cells.assign(quantity=name, level=level, **told))
        return pd.concat(tables, ignore_index=True)

    @property
    def map(self) -> str:
        """Equations as text, the short form that the command line prints."""
        lines = []
        for _, row in self.equations.iterrows():
            lines.append(f"  {row['equation']}" + (f"    where {row['cell']}" if row["cell"] else ""))
        more = len(lines) - _SHOWN
        return "\n".join([*lines[:_SHOWN], *([f"  and {more} more"] if more > 0 else [])])

    @property
    def _last(self) -> object:
        """What the last choice is called."""
        names = self.trials.responses or self.hierarchy.likelihood.simulator.choices
        return names[-1] if names else ""

    def __str__(self) -> str:
        known = [
            self.title,
            f"Equations\n{self.map}",
            f"Priors, on the scale of the link\n{self.priors.to_string()}",
        ]
        return "\n\n".join([*known, *([_MOVES] if self._moves else self._implied())])

    def _implied(self) -> list[str]:
        """What the priors imply, in words."""
        names = self.outcomes["quantity"]
        known = "accuracy" if self.correct is not None else f"probability[{self._last}]"
        shown = self.outcomes[names.isin([known, *_PRINTED])]
        outcomes = self.outcomes if shown.empty else shown
        return [
            f"Implied parameters, quantiles under the prior\n{_shown(self.parameters)}",
            f"Implied trials of a new group, lapses left out\n{_shown(outcomes)}",
        ]

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """The tables, for a notebook."""
        parts = {"Equations": self.equations, "Priors, on the scale of the link": self.priors}
        if not self._moves:
            parts["Implied parameters, quantiles under the prior"] = self.parameters
            parts["Implied trials of a new group, lapses left out"] = self.outcomes
        tables = [f"<h4>{name}</h4>{table.to_html(max_rows=_SHOWN)}" for name, table in parts.items()]
        return f"<p><code>{self.title}</code></p>{''.join(tables)}"


def _shown(table: pd.DataFrame) -> str:
    more = len(table) - _SHOWN
    text = table.head(_SHOWN).to_string(index=False, float_format=lambda x: f"{x:.3g}")
    return text + (f"\n... and {more} rows more" if more > 0 else "")


def _equations(
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
        rows = np.split(cells.cell, cells.begin[1:])
        for k, parameter in enumerate(predictor.parameters[: len(predictor.parameters) // (1 + len(predictor.along))]):
            at = (part + k * hierarchy.n_cells for part in rows)
            texts = [f"{parameter} = {_equation(predictor, part, set(trials.levels))}" for part in at]
            found += [(parameter, where, text) for where, text in _distinct(cells.table, texts).items()]
    held = [(name, "", f"{name} = {x:g}") for name, x in hierarchy.fixed.items() if not isinstance(x, Tensor)]
    order = {name: i for i, name in enumerate(hierarchy.likelihood.simulator.names)}
    table = pd.DataFrame([*found, *held], columns=["parameter", "cell", "equation"])
    return table.sort_values("parameter", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def _distinct(cells: pd.DataFrame, texts: Sequence[str]) -> dict[str, str]:
    """Equations by cell, in words, without the columns that make no difference."""
    table = cells.assign(**{"": texts})
    for column in cells:
        others = [name for name in table if name not in ("", column)]
        if not others or (table.groupby(others, observed=True)[""].nunique() == 1).all():
            table = table.drop(columns=column) if others or table[""].nunique() == 1 else table
    table = table.drop_duplicates()
    labels = records(table.drop(columns=""))
    return {
        ", ".join(f"{name} = {value}" for name, value in label.items()): text
        for label, text in zip(labels, table[""], strict=True)
    }


def _equation(predictor: Predictor, rows: Index, factors: set[str]) -> str:
    """The right side, on rows of the predictor, or of the first of its blocks where it has covariates of sequences."""
    summands = []
    for covariate, part in (predictor.by_covariate() if predictor.along else {"": predictor}).items():
        known = factors | {covariate}
        own = [s for c in part.common for s in c.summands(rows, predictor.name, known)]
        own += [s for effects in part.groups for s in _effects(effects, rows, known)]
        summands += [f"{s} * {covariate}" for s in own] if covariate else own
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
