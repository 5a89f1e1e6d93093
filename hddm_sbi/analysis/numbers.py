"""Draws of parameters, accuracy and response times in cells of a table: of a population, or of every group."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.analysis.fit import Fit, central
from hddm_sbi.data import DesignCells, check_by, design_cells
from hddm_sbi.errors import InputError, whole_number
from hddm_sbi.hierarchy import HierarchicalModel, new_theta, of_population, score_shapes, standard_scores, typical_theta
from hddm_sbi.types import Array, Index

#: the level of answers that are of no single group.
POPULATION = "population"
#: rows of parameters that are in memory at a time.
_AT_A_TIME = 2**16


@dataclass(frozen=True)
class Numbers:
    """Draws of numbers in cells.

    cells: a table with a row for each cell. of: level -> quantity -> (n_draws, n_cells); parameters have all draws,
    outcomes those that were asked for.
    """

    cells: pd.DataFrame
    of: Mapping[str, Mapping[str, Array]]

    def without(self, names: Collection[str]) -> Numbers:
        """All but some quantities."""
        kept = {level: {n: x for n, x in found.items() if n not in names} for level, found in self.of.items()}
        return Numbers(self.cells, kept)

    def table(self, more: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """A row for every level, quantity and cell: mean, median, sd, low and high. more: column -> its number from the
        draws (n_draws, n_cells) of a quantity, which it gets by name."""
        tables = []
        for level, quantities in self.of.items():
            for name, x in quantities.items():
                low, high = central(x)
                told = {"mean": x.mean(0), "median": np.median(x, axis=0), "sd": x.std(0), "low": low, "high": high}
                own = {} if level == "" else {"level": level}
                added = {column: number(name, x) for column, number in (more or {}).items()}
                tables.append(self.cells.assign(**own, quantity=name, **told, **added))
        return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class Request:
    """What is computed: new groups for averages, draws for outcomes (0 for no outcomes), and the seed."""

    groups: int
    draws: int
    seed: int

    @classmethod
    def checked(cls, groups: object, draws: object, seed: object) -> Request:
        """Raises InputError for what are no whole numbers."""
        numbers = whole_number("groups", groups, least=2), whole_number("draws", draws, least=0)
        return cls(*numbers, whole_number("seed", seed, least=0))


def numbers_of(
    fit: Fit, by: str | Sequence[str], level: str, request: Request, values: Mapping[str, Any] | None = None
) -> Numbers:
    """Numbers in the cells of the model's table by the columns `by`, at a level; see `predictions`.

    values: of columns in all trials, in place of their own; cells are not by these. Raises InputError for other columns
    than the model's predictors, and for a level that is none.
    """
    model = fit.model
    by = check_by(by, [name for name in model.design_columns if name not in (values or {})], model.grouping_columns)
    if model.sequences:
        raise InputError(
            f"parameters of cells are not defined where they move along trials, by {', '.join(model.sequences)}, which "
            "depends on the choices and outcomes before: hs.posterior_predictive(model, posterior, data=) simulates a "
            "table, also a new one, and what is learned along it, and means of its trials answer for any cell."
        )
    if level == POPULATION:
        cells = design_cells(model.trials, model.design_columns, by)
    elif level in model.grouping_columns:
        cells = design_cells(model.trials, model.trials.predictors, [*by, level])
    else:
        known = [POPULATION, *model.grouping_columns]
        raise InputError(f"level={level!r} must be one of {', '.join(map(repr, known))}.")
    table, at = model, cells.cell
    if values:
        frame = model.trials.frame.iloc[model.trials.cells.first[at]].drop(columns=[*model.trials.outcomes])
        table = model.on_table(frame.assign(**values))
        at = table.cell
    rows = _Rows(fit, table, at, cells, request)
    levels = ("typical", "average") if level == POPULATION else ("",)
    return Numbers(cells.table, {name: rows.numbers(name) for name in levels})


@dataclass(frozen=True)
class _Rows:
    """Rows of a design. table: the model on them; at: its cell of each row; cells: parts in which they are averaged."""

    fit: Fit
    table: HierarchicalModel
    at: Index
    cells: DesignCells
    request: Request

    def numbers(self, level: str) -> dict[str, Array]:
        """(n_draws, n_cells) by quantity."""
        names = self.table.simulator.names
        estimated = [name for p in self.table.uncentred.predictors for name in p.parameters if name in names]
        columns = [names.index(name) for name in estimated]
        means = self._means(level, self.at, self.cells, columns)
        found = dict(zip(estimated, np.moveaxis(means, -1, 0), strict=True))
        return found | self._outcomes(level) if self.request.draws else found

    def _means(self, level: str, at: Index, cells: DesignCells, columns: list[int]) -> Array:
        """Parameters in these columns of theta, (n_draws, n_cells, q), of all draws.

        An average differs little from the typical group, from row to row: where there are many rows, by as much as in
        some of them.
        """
        kept, few = cells.few()
        if level == "average" and len(kept) < len(at):
            typical = self._means("typical", at, cells, columns)
            some = [self._means(of, at[kept], few, columns) for of in ("average", "typical")]
            return typical + (some[0] - some[1])
        every = self.fit.spaced(self.fit.n_draws)
        blocks = [cells.mean(theta[..., columns].mean(1)) for theta in self._theta(level, at, every)]
        return np.concatenate(blocks)

    def _outcomes(self, level: str) -> dict[str, Array]:
        kept, few = self.cells.few()
        at, known = self.at[kept], self.table.correct
        blocks: dict[str, list[Array]] = {}
        for theta in self._theta(level, at, self.fit.spaced(self.request.draws)):
            n, m = theta.shape[:2]
            correct = None if known is None else np.tile(known[at], n * m)
            flat, responses = theta.reshape(-1, theta.shape[-1]), self.table.trials.responses
            found = self.table.likelihood.quantities(flat, responses, correct, seed=self.request.seed)
            for name, x in found.items():
                mean = x.reshape(n, m, len(at)).mean(1)
                blocks.setdefault(name, []).append(few.mean(mean[..., np.newaxis])[..., 0])
        return {name: np.concatenate(x) for name, x in blocks.items()}

    def _theta(self, level: str, at: Index, positions: Index) -> Iterator[Array]:
        """Parameters of m groups on some rows, (n, m, n_rows, p), for a block of draws after the other."""
        values, hierarchy = self.fit.values(positions), self.table.uncentred
        anyone = of_population(hierarchy, at) if level else hierarchy
        scores = standard_scores(score_shapes(anyone), self.request.groups, self.request.seed) if level else {}
        n_rows = anyone.n_cells * (self.request.groups if level == "average" else 1)
        size = max(1, _AT_A_TIME // n_rows)
        for start in range(0, len(positions), size):
            block = {name: x[start : start + size] for name, x in values.items()}
            if level == "typical":
                yield typical_theta(anyone, block).numpy()[:, np.newaxis]
            elif level == "average":
                yield new_theta(anyone, block, scores).numpy()
            else:
                yield self.fit.on_table(self.table, block, self.request.seed)[0][:, np.newaxis, at]
