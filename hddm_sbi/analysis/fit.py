"""A model and its posterior together, matched by label: draws of what is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hddm_sbi.data import DesignCells, Formula, check_by, design_cells
from hddm_sbi.hierarchy import (
    ConvergenceWarning,
    HierarchicalModel,
    PosteriorWriter,
    Sampling,
    coordinates,
    new_deviations,
    new_theta,
    of_population,
    one_of,
    prior_draws,
    rescued,
    score_shapes,
    standard_scores,
    typical_theta,
    with_known,
)
from hddm_sbi.inference import inference_data
from hddm_sbi.inference.inference_data import CENTRAL
from hddm_sbi.types import Array, Index

# The other modules of this wing take from here what they need of the hierarchy.
__all__ = [
    "CENTRAL",
    "ConvergenceWarning",
    "DesignCells",
    "Fit",
    "Formula",
    "HierarchicalModel",
    "PosteriorWriter",
    "Sampling",
    "check_by",
    "coordinates",
    "design_cells",
    "inference_data",
    "new_theta",
    "of_population",
    "one_of",
    "prior_draws",
    "rescued",
    "score_shapes",
    "standard_scores",
    "typical_theta",
]


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

    def theta(self, positions: Index) -> Array:
        """Parameters of every cell of the model's table, (n, n_cells, p)."""
        return self.model.theta(self.known, positions)

    def theta_on(self, table: HierarchicalModel, values: Mapping[str, Tensor], seed: int) -> Array:
        """The same of a new table, from `model.on_table`, at `values`: (n, n_cells, p).

        Groups that were fitted have their own effects; others are drawn from the population, anew in every draw.
        """
        n, rng = len(next(iter(values.values()))), np.random.default_rng([seed, 3])
        shapes = score_shapes(table.uncentred)
        scores = {name: torch.from_numpy(rng.standard_normal((n, *shape))) for name, shape in shapes.items()}
        new = new_deviations(table.uncentred, values, scores)
        theta = table.uncentred.theta({**values, **with_known(table.uncentred, self.model.uncentred, values, new)})
        return theta.expand(n, *theta.shape[-2:]).numpy()

    def lapse(self, positions: Index) -> Array:
        """Probability of a lapse, (n,)."""
        lapse = self.model.lapse
        if isinstance(lapse, float):
            return np.full(len(positions), lapse)
        return self.draws(positions)["lapse"].to_numpy()
