"""What a model predicts: simulated copies of the observed table, at given parameters or one per posterior draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.model import HierarchicalModel
from hddm_sbi.inference import inference_data
from hddm_sbi.types import Array

#: how often an outcome is simulated before it is given up.
_ATTEMPTS = 20


@dataclass(frozen=True)
class PredictiveDraws:
    """values: (n_draws, n_trials, k), one column for each outcome of the model; categories by their position."""

    values: Array

    @property
    def rt(self) -> Array:
        """Of a decision model: (n_draws, n_trials) seconds."""
        return self.values[..., 0]

    @property
    def choice(self) -> NDArray[np.int64]:
        """Of a decision model: (n_draws, n_trials) positions in the model's choices."""
        return self.values[..., 1].astype(np.int64)


def posterior_predictive(
    model: HierarchicalModel, posterior: Any, n_draws: int = 100, seed: int = 1
) -> PredictiveDraws:
    """Simulate the observed design once for each of n_draws posterior draws, evenly spaced; lapses included.

    By the model's simulator; by the likelihood where the simulator is a Python function (see `Likelihood.draw`).

    posterior: what `model.fit` returned. Memory is n_draws x n_trials.
    """
    variables = inference_data.dataset(posterior)
    total = variables.sizes["chain"] * variables.sizes["draw"]
    draws = np.linspace(0, total - 1, min(n_draws, total)).astype(int)
    theta = model.theta(posterior, draws)
    lapse = variables["lapse"].to_numpy().reshape(-1)[draws] if "lapse" in variables else [model.lapse] * len(draws)
    return PredictiveDraws(np.stack([simulate_table(model, theta[i], lapse[i], [seed, i]) for i in range(len(draws))]))


def simulate_table(
    model: HierarchicalModel, theta: Array, lapse: float, seed: Sequence[int], *, by_simulator: bool = False
) -> Array:
    """Outcomes (n_trials, k) of the model's design at theta (n_cells, p), lapses included.

    By `Likelihood.draw`; by_simulator: by the simulator where it is here, be it a slow Python function. Outcomes that
    fail are simulated again, for a likelihood is that of outcomes given that there is one.
    """
    if by_simulator and model.simulator.can_simulate:
        values = _simulated(model, theta[model.cell], seed)
    else:
        values = model.likelihood.simulate(torch.as_tensor(theta[model.cell]), seed)
    if lapse > 0:
        rng = np.random.default_rng([*seed, 1])
        lapses = rng.random(len(values)) < lapse
        values[lapses, 0] = rng.uniform(0, 1 / _rate_of_lapses(model), lapses.sum())
        values[lapses, 1] = rng.integers(len(model.simulator.choices), size=lapses.sum())
    return values


def _simulated(model: HierarchicalModel, theta: Array, seed: Sequence[int]) -> Array:
    values = model.simulator.simulate_outcomes(theta, seed).values
    for attempt in range(1, _ATTEMPTS):
        failed = np.isnan(values).any(1)
        if not failed.any():
            return values
        values[failed] = model.simulator.simulate_outcomes(theta[failed], [*seed, attempt]).values
    raise InputError(
        f"{model.simulator.name!r} has failed {_ATTEMPTS} times for some trials: it gives no outcome where the prior "
        "says parameters may be; narrow the priors."
    )


def _rate_of_lapses(model: HierarchicalModel) -> float:
    """Density of the time of a lapse, in 1/s."""
    return model.hierarchy.trials.lapse_density * len(model.simulator.choices)
