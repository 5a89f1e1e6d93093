"""From parameters on the cells of a design to the rows of theta that the likelihood sees; by default the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from torch import Tensor
from typing_extensions import override

from hddm_sbi.likelihoods import CellTrials as CellTrials
from hddm_sbi.types import Index


class ParameterMap(ABC):
    """Parameters on the cells of the design, and the trials -> rows of theta.

    A map may give every trial a theta of its own, one that depends on the trials before it, for instance. Its trials
    are then grouped one to a cell, in the order of the table: `likelihood.group_by_cell(values, np.arange(n), n)`.
    """

    @property
    def further(self) -> tuple[str, ...]:
        """Names of what it takes on the design's cells beside the parameters of the likelihood."""
        return ()

    @property
    def facts(self) -> dict[str, Any]:
        """What it is, as plain data."""
        return {}

    @abstractmethod
    def rows(self, values: Tensor, trials: CellTrials) -> Tensor:
        """Theta of every cell of `trials`, (..., trials.n_cells, p), from the values on the design's (..., n_cells, q):
        the likelihood's parameters, and what is further.

        Differentiable in `values`; torch functions alone, so that the model can be compiled.
        """

    @abstractmethod
    def cell(self, trials: CellTrials) -> Index:
        """The design's cell of every cell of `trials`, (trials.n_cells,).

        Pilot fit and whitening take a trial's theta to move with the values on its cell, one to one, or as
        `along_trials.tangent` says. Where that is wrong, sampling starts farther away and is slower, but of the same
        posterior.
        """


class OnCells(ParameterMap):
    """The identity: trials of one cell of the design share theta."""

    @override
    def rows(self, values: Tensor, trials: CellTrials) -> Tensor:
        return values

    @override
    def cell(self, trials: CellTrials) -> Index:
        return np.arange(trials.n_cells)
