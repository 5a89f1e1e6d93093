"""What a fitted model predicts: simulated copies of the observed table, one per posterior draw."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hddm_sbi import idata
from hddm_sbi.model import HierarchicalModel


class Predicted(NamedTuple):
    """rt: (n_draws, n_trials) seconds. choice: (n_draws, n_trials) positions in the model's choices."""

    rt: NDArray[np.float64]
    choice: NDArray[np.int64]


def posterior_predictive(model: HierarchicalModel, posterior: Any, n_draws: int = 100, seed: int = 1) -> Predicted:
    """Simulate the observed design once for each of n_draws posterior draws, evenly spaced; lapses included.

    posterior: what `model.fit` returned. Memory is n_draws x n_trials.
    """
    variables = idata.dataset(posterior)
    total = variables.sizes["chain"] * variables.sizes["draw"]
    draws = np.linspace(0, total - 1, min(n_draws, total)).astype(int)
    theta = model.theta(posterior, draws)
    lapse = variables["lapse"].to_numpy().reshape(-1)[draws] if "lapse" in variables else [model.lapse] * len(draws)
    n = len(model.trials.rt)
    rt, choice = np.empty((len(draws), n)), np.empty((len(draws), n), np.int64)
    for i in range(len(draws)):
        rt[i], choice[i] = model.simulator.simulate(theta[i][model.cell], seed=[seed, i])
        rng = np.random.default_rng([seed, i, 1])
        lapses = rng.random(n) < lapse[i]
        rt[i, lapses] = rng.uniform(0, model.hierarchy.trials.lapse_seconds, lapses.sum())
        choice[i, lapses] = rng.integers(len(model.simulator.choices), size=lapses.sum())
    return Predicted(rt, choice)
