"""What a fitted model predicts: simulated copies of the observed table, one per posterior draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hddm_sbi import idata
from hddm_sbi.model import HierarchicalModel


@dataclass(frozen=True)
class Predicted:
    """values: (n_draws, n_trials, k), one column for each outcome of the model; categories by their position."""

    values: NDArray[np.float64]

    @property
    def rt(self) -> NDArray[np.float64]:
        """Of a decision model: (n_draws, n_trials) seconds."""
        return self.values[..., 0]

    @property
    def choice(self) -> NDArray[np.int64]:
        """Of a decision model: (n_draws, n_trials) positions in the model's choices."""
        return self.values[..., 1].astype(np.int64)


def posterior_predictive(model: HierarchicalModel, posterior: Any, n_draws: int = 100, seed: int = 1) -> Predicted:
    """Simulate the observed design once for each of n_draws posterior draws, evenly spaced; lapses included.

    By the model's simulator; by the likelihood where the simulator is a Python function (see `Likelihood.draw`).

    posterior: what `model.fit` returned. Memory is n_draws x n_trials.
    """
    variables = idata.dataset(posterior)
    total = variables.sizes["chain"] * variables.sizes["draw"]
    draws = np.linspace(0, total - 1, min(n_draws, total)).astype(int)
    theta = model.theta(posterior, draws)
    lapse = variables["lapse"].to_numpy().reshape(-1)[draws] if "lapse" in variables else [model.lapse] * len(draws)
    n = len(model.trials)
    values = np.empty((len(draws), n, len(model.simulator.columns)))
    for i in range(len(draws)):
        values[i] = model.likelihood.draw(torch.as_tensor(theta[i][model.cell]), [seed, i])
        if lapse[i] > 0:
            rng = np.random.default_rng([seed, i, 1])
            lapses = rng.random(n) < lapse[i]
            values[i, lapses, 0] = rng.uniform(0, 1 / _rate_of_lapses(model), lapses.sum())
            values[i, lapses, 1] = rng.integers(len(model.simulator.choices), size=lapses.sum())
    return Predicted(values)


def _rate_of_lapses(model: HierarchicalModel) -> float:
    """Density of the time of a lapse, in 1/s."""
    return model.hierarchy.trials.lapse_density * len(model.simulator.choices)
