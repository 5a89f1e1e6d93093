"""A model and its posterior together, matched by label: draws of what is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hddm_sbi.hierarchy import HierarchicalModel, Hierarchy, check_model, new_deviations, score_shapes, with_known
from hddm_sbi.inference import inference_data
from hddm_sbi.types import Array, Index


def numbers_on_cells(hierarchy: Hierarchy, values: Mapping[str, Tensor], n: int) -> tuple[Array, Array]:
    """What theta follows from, (n, n_cells, q), and probability of a lapse of every row of theta, (n, n_rows), from n
    draws of a posterior's variables, or a prior's."""
    on_cells, share = hierarchy.on_cells(values), hierarchy.share(values)
    share = share if hierarchy.lapse is None else share.unsqueeze(-1)
    rows = share.expand(n, hierarchy.trials.n_cells)
    return on_cells.expand(n, *on_cells.shape[-2:]).numpy(), rows.numpy()


def central(draws: Array) -> tuple[Array, Array]:
    """Low and high of their central 94 %, which every answer reports, of draws along the first dimension."""
    low, high = np.quantile(draws, inference_data.CENTRAL, axis=0)
    return low, high


def table_log_likelihood(hierarchy: Hierarchy, on_cells: Array, lapse: Array) -> Array:
    """Log likelihood of all trials of a hierarchy, (n,), at n sets of the two that `numbers_on_cells` gives.

    nan where a likelihood that is solved has no answer.
    """
    found = np.empty(len(on_cells))
    with torch.no_grad():
        for i, (at, of_rows) in enumerate(zip(on_cells, lapse, strict=True)):
            theta = hierarchy.parameter_map.rows(torch.as_tensor(at), hierarchy.trials)
            found[i] = hierarchy.likelihood.log_prob_by_cell(hierarchy.trials, theta, torch.as_tensor(of_rows)).sum()
    return found


@dataclass(frozen=True)
class Fit:
    """A fitted model and its posterior.

    model: with the lapses of the fit. known: draws of the model's coefficients and effects, by its own labels.
    """

    model: HierarchicalModel
    known: xr.Dataset

    @classmethod
    def of(cls, model: HierarchicalModel, posterior: Any) -> Fit:
        """From what `model.fit` returned. Raises InputError where that is of another model."""
        check_model(model)
        return cls(model.with_lapses_of(posterior), model.matched(posterior))

    @property
    def n_draws(self) -> int:
        """Of all chains."""
        return int(self.known.sizes["chain"] * self.known.sizes["draw"])

    def spaced(self, n: int) -> Index:
        """Positions of n draws, or of all if there are fewer, evenly spaced over the chains laid end to end."""
        return inference_data.evenly_spaced(self.n_draws, min(n, self.n_draws))

    def draws(self, positions: Index | None = None) -> xr.Dataset:
        """Draws along the first dimension `sample`: all, or those at some positions."""
        return inference_data.draws(self.known, positions)

    def values(self, positions: Index) -> dict[str, Tensor]:
        """The same, (n, ...) by posterior name."""
        return {str(name): torch.tensor(x.to_numpy()) for name, x in self.draws(positions).data_vars.items()}

    def on_cells(self, positions: Index) -> Array:
        """Numbers on the cells of the model's table from which theta follows, (n, n_cells, q)."""
        return self.model.on_cells(self.known, positions)

    def lapse(self, positions: Index) -> Array:
        """Probability of a lapse of every row of theta, (n, n_rows)."""
        return self.model.lapse_share(self.known, positions)

    def parameters(self, positions: Index) -> tuple[Array, Array]:
        """Both."""
        return self.on_cells(positions), self.lapse(positions)

    def on_table(self, table: HierarchicalModel, values: Mapping[str, Tensor], seed: int) -> tuple[Array, Array]:
        """The same two of a new table, from `model.on_table`, at `values`.

        Groups that were fitted have their own effects; others are drawn from the population, anew in every draw.
        """
        n, rng = len(next(iter(values.values()))), np.random.default_rng([seed, 3])
        shapes = score_shapes(table.uncentred)
        scores = {name: torch.from_numpy(rng.standard_normal((n, *shape))) for name, shape in shapes.items()}
        new = new_deviations(table.uncentred, values, scores)
        at = {**values, **with_known(table.uncentred, self.model.uncentred, values, new)}
        return numbers_on_cells(table.uncentred, at, n)
