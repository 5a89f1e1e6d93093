"""Simulated copies of a model's table, and the coefficients at which they are simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from hddm_sbi.analysis.fit import Fit
from hddm_sbi.analysis.forward import run_forward
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy import AlongTrials, HierarchicalModel, prior_draws
from hddm_sbi.inference import inference_data
from hddm_sbi.types import Array, Index

#: posterior name -> value, of every coefficient and deviation of a model.
TrueValues = Mapping[str, Array]

#: failures of one outcome after which simulating it ends.
_ATTEMPTS = 20
#: how often a trial is simulated that would have been removed from the table.
_REMOVALS = 1_000


@dataclass(frozen=True)
class PredictiveDraws:
    """Simulated copies of a table.

    values: (n_draws, n_trials, k), one column for each outcome of the model; categories by their position. What would
    not have been seen, as behind a deadline, is nan or infinite, as in the table.
    """

    values: Array

    @property
    def rt(self) -> Array:
        """Response times of a decision model in seconds, (n_draws, n_trials)."""
        return self.values[..., 0]

    @property
    def choice(self) -> NDArray[np.int64]:
        """Choices of a decision model by their positions, (n_draws, n_trials); -1 where missing."""
        return np.where(np.isnan(self.values[..., 1]), -1, self.values[..., 1]).astype(np.int64)


def predictive_draws(model: HierarchicalModel, posterior: Any, n_draws: int = 100, seed: int = 1) -> PredictiveDraws:
    """Simulate the observed design, lapses included, once for each of n_draws evenly spaced posterior draws.

    The model's simulator makes the trials; the likelihood does where the simulator is a Python function (see
    `Likelihood.simulate`). posterior: what `model.fit` returned. Memory is n_draws x n_trials.
    """
    fit = Fit.of(model, posterior)
    positions = fit.spaced(n_draws)
    return PredictiveDraws(simulated_tables(fit.model, fit.on_cells(positions), fit.lapse(positions), seed))


def simulated_tables(model: HierarchicalModel, on_cells: Array, lapse: Array, seed: int) -> Array:
    """Outcomes (n, n_trials, k) of n copies of the table, each at its own numbers on the cells (n, n_cells, q) and
    shares of lapses (n, n_rows)."""
    return np.stack([simulate_table(model, on_cells[i], lapse[i], [seed, i])[0] for i in range(len(on_cells))])


def predicted_table(model: HierarchicalModel, posterior: Any, n_draws: int = 100, seed: int = 1) -> pd.DataFrame:
    """The same as a table: a row for every draw and trial, with the predictors of the trial."""
    values = predictive_draws(model, posterior, n_draws, seed).values
    n, trials = len(values), len(model.trials)
    numbers = {"draw": np.repeat(np.arange(n), trials), "trial": np.tile(np.arange(trials), n)}
    taken = [*model.trials.predictors, *model.trials.outcomes]
    own = {name if name not in taken else f"{name}_": column for name, column in numbers.items()}
    told = model.trials.labels(model.simulator, values.reshape(n * trials, -1))
    predictors = pd.concat([model.trials.frame[list(model.trials.predictors)]] * n, ignore_index=True)
    return pd.concat([pd.DataFrame(own), predictors, pd.DataFrame(told)], axis=1)


def parameters_at(model: HierarchicalModel, posterior: Any, draws: NDArray[np.int64]) -> tuple[Array, Array]:
    """Numbers on the cells (n_draws, n_cells, q) and probability of a lapse (n_draws, n_rows) of every row of theta."""
    fit = Fit.of(model, posterior)
    return fit.on_cells(draws), fit.lapse(draws)


def simulate_table(
    model: HierarchicalModel, on_cells: Array, lapse: float | Array, seed: Sequence[int], *, by_simulator: bool = False
) -> tuple[Array, dict[str, Array | None]]:
    """Outcomes (n_trials, k) of the model's design, lapses included, as they would be seen; and what choices would have
    brought, by sequence, as `with_outcomes` takes both.

    on_cells: (n_cells, q), numbers on the cells. lapse: probability of one, or that of every row of theta, (n_rows,).
    by_simulator: by the simulator even where it is a slow Python function, instead of `Likelihood.simulate`. Outcomes
    that fail, or would have been removed from the table, are simulated again, because a likelihood is that of an
    outcome given that there is one.
    """
    along, share = model.uncentred.parameter_map, np.broadcast_to(lapse, model.uncentred.trials.n_cells)[model.cell]

    def outcomes(trials: Index, theta: Array, at: Sequence[int]) -> Array:
        return _seen(model, trials, theta, share[trials], at, by_simulator)

    if isinstance(along, AlongTrials):
        return run_forward(model, along, on_cells, seed, outcomes)
    return outcomes(np.arange(len(model.trials)), on_cells[model.cell], seed), {}


def _seen(
    model: HierarchicalModel, trials: Index, theta: Array, lapse: Array, seed: Sequence[int], by_simulator: bool
) -> Array:
    """Outcomes (m, k) of trials (m,) at theta (m, p) and shares of lapses (m,), as they would be seen."""
    values = _outcomes(model, theta, lapse, seed, by_simulator)
    if model.trials.observation is None:
        return values
    observation = model.trials.observation.of(trials)
    for attempt in range(_REMOVALS):
        removed = observation.removed(values)
        if not removed.any():
            return observation.seen(values)
        values[removed] = _outcomes(model, theta[removed], lapse[removed], [*seed, 2, attempt], by_simulator)
    raise InputError(
        f"{int(removed.sum())} of {len(values)} simulated trials would have been removed {_REMOVALS} times: at these "
        "parameters next to no time lies between the limits, truncated=."
    )


def _outcomes(model: HierarchicalModel, theta: Array, lapse: Array, seed: Sequence[int], by_simulator: bool) -> Array:
    """Outcomes (n, k) at theta (n, p), lapses of share (n,) included."""
    if by_simulator and model.simulator.can_simulate:
        values = _simulated(model, theta, seed)
    else:
        values = model.likelihood.simulate(torch.as_tensor(theta), seed)
    if model.lapses is not None and lapse.any():
        rng = np.random.default_rng([*seed, 1])
        lapses = rng.random(len(values)) < lapse
        values[lapses, 0], values[lapses, 1] = model.lapses.sample(int(lapses.sum()), rng)
    return values


def _simulated(model: HierarchicalModel, theta: Array, seed: Sequence[int]) -> Array:
    values = model.simulator.simulate_outcomes(theta, seed).values
    for attempt in range(1, _ATTEMPTS):
        failed = np.isnan(values).any(1)
        if not failed.any():
            return values
        values[failed] = model.simulator.simulate_outcomes(theta[failed], [*seed, attempt]).values
    raise InputError(
        f"{model.simulator.name!r} has failed {_ATTEMPTS} times for some trials: it gives no outcome at parameters "
        "that the prior allows; narrow the priors."
    )


def prior_draw(model: HierarchicalModel, seed: int) -> TrueValues:
    """One draw of every coefficient and deviation from the prior."""
    return {name: value[0].numpy() for name, value in prior_draws(model.hierarchy, 1, seed).items()}


def posterior_draws(model: HierarchicalModel, posterior: Any, n: int) -> list[TrueValues]:
    """n draws of what `model.fit` returned, evenly spaced."""
    draws = Fit.of(model, posterior).draws()
    return [
        checked_values(model, {str(name): array.to_numpy()[draw] for name, array in draws.data_vars.items()})
        for draw in inference_data.evenly_spaced(draws.sizes["sample"], n)
    ]


def checked_values(model: HierarchicalModel, values: Mapping[str, ArrayLike]) -> TrueValues:
    """The same as arrays, if they are those of this model, and its lapses at the mean of their prior if left out.

    Raises InputError otherwise.
    """
    values = {**{name: float(prior.mean) for name, prior in model.hierarchy.lapse_prior.items()}, **values}
    expected = prior_draw(model, 0)
    if set(values) != set(expected):
        missing, unknown = sorted(set(expected) - set(values)), sorted(set(values) - set(expected))
        raise InputError(
            f"true_values must give every coefficient and deviation of the model, {sorted(expected)}; it lacks "
            f"{missing or 'none'}, and names {unknown or 'none'} that are not there."
        )
    arrays = {name: np.asarray(values[name], dtype=np.float64) for name in expected}
    for name, value in arrays.items():
        if value.shape != expected[name].shape:
            raise InputError(f"true_values[{name!r}] must have the shape {expected[name].shape}; got {value.shape}.")
    return arrays
