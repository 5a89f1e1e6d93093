"""Predicted tables as groups of ArviZ's object: from the prior, from the posterior, and of new tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hddm_sbi.analysis.fit import Fit, numbers_on_cells
from hddm_sbi.analysis.predictive import simulated_tables
from hddm_sbi.errors import whole_number
from hddm_sbi.hierarchy import HierarchicalModel, PosteriorWriter, check_model, coordinates, prior_draws
from hddm_sbi.inference import inference_data
from hddm_sbi.types import Array


def prior_predictive(model: HierarchicalModel, draws: int = 100, seed: int = 1) -> Any:
    """Draws from the prior, and the model's table simulated at each: what is assumed before the fit.

    Parameters
    ----------
    model
        A model; it is not fitted.
    draws
        Draws of the prior. Memory is draws x trials.
    seed
        Same seed, same draws.

    Returns
    -------
    arviz.InferenceData
        With the groups prior (all that a posterior has, under the same names, dims and coords), prior_predictive,
        observed_data and constant_data; `az.plot_ppc(..., group="prior")` shows it. Lapses are included. Outcomes that
        would not have been observed, for instance after a deadline, are missing.

    Raises
    ------
    InputError
        The simulator gives no outcome at parameters that the prior allows.

    Examples
    --------
    >>> import warnings
    >>> import hddm_sbi as hs
    >>> warnings.simplefilter("ignore", hs.ConvergenceWarning)
    >>> trials = hs.simulate_experiment(n_subjects=2, n_trials=20).trials
    >>> model = hs.HierarchicalModel("v ~ condition + (1|subject)", trials, likelihood="exact")
    >>> prior = hs.prior_predictive(model, draws=30)
    >>> prior["prior"]["v_1|subject"].dims, prior["prior_predictive"]["rt"].shape
    (('chain', 'draw', 'subject'), (1, 30, 80))
    """
    check_model(model)
    n = whole_number("draws", draws)
    values = prior_draws(model.uncentred, n, whole_number("seed", seed, least=0))
    tables = simulated_tables(model, *numbers_on_cells(model.uncentred, values, n), seed)
    writer = PosteriorWriter(model.uncentred, model.trials)
    coords, dims = coordinates(model.uncentred)
    coords[writer.trial] = list(range(len(model.trials)))
    groups: dict[str, dict[str, NDArray[Any]]] = {
        "prior": {name: x.numpy()[np.newaxis] for name, x in values.items()},
        "prior_predictive": _outcomes(model, tables[np.newaxis]),
        **writer.data(),
    }
    present = {name: group for name, group in groups.items() if group}
    of_trials = {name: {column: [writer.trial] for column in group} for name, group in present.items()}
    attrs = {"model": model.simulator.name, "seed": seed}
    return inference_data.build(present, coords, {**of_trials, "prior": dims}, attrs)


def posterior_predictive(
    model: HierarchicalModel,
    posterior: Any,
    data: pd.DataFrame | None = None,
    draws: int = 100,
    seed: int = 1,
) -> Any:
    """The model's table, or a new one, simulated at draws of the posterior.

    Parameters
    ----------
    model
        The fitted model.
    posterior
        What `model.fit` returned.
    data
        None for the table that was fitted; or a new one with every predictor, and the columns of limits such as
        `deadline`, as `model.on_table` takes it: other combinations of conditions, other values of covariates, other
        subjects; with outcomes or without. Outcomes are coded as in the fitted table: responses have the names that
        `upper`, `choices` or `correct` ("correct" and "error") gave them, and what is missing is explained by the
        model's `deadline` and the like. Subjects that were fitted have their own effects; a new one is drawn from the
        population in every draw, with its standard deviations and correlations, and is the same in all its trials.
        With `sequences`, trials are simulated in their order, and what is learned follows from simulated choices. These
        bring what the columns or the function `paid` of the rule say of the new table; else what they were seen to
        bring there, where it has outcomes and feedback; else what they brought in the fitted table, in trials with the
        same levels of the rule's `by`, of which only groups may be new.
    draws
        About how many posterior draws to use: as many from every chain, evenly spaced. Memory is draws x trials.
    seed
        Same seed, same trials.

    Returns
    -------
    arviz.InferenceData
        The posterior with the group `posterior_predictive`, which `az.plot_ppc` reads; for a new table, the groups
        posterior, posterior_predictive, constant_data (the predictors and limits of that table) and, where it has
        outcomes, observed_data, beside which `az.plot_ppc` shows the predicted ones. Lapses are included. Outcomes
        that would not have been observed, for instance after a deadline, are missing.

    Raises
    ------
    InputError
        The posterior is of another model; or the new table lacks a column, or has levels that were not fitted or
        outcomes that the fitted table gives no meaning; or nothing says what choices bring there.

    Examples
    --------
    >>> import pandas as pd
    >>> import warnings
    >>> import hddm_sbi as hs
    >>> warnings.simplefilter("ignore", hs.ConvergenceWarning)
    >>> trials = hs.simulate_experiment(n_subjects=3, n_trials=30).trials
    >>> formulas = {"v": "condition + (1|subject)", "a": 1.0, "z": 0.5, "t0": 0.3}
    >>> model = hs.HierarchicalModel(formulas, trials, likelihood="exact")
    >>> posterior = model.fit(draws=50, tune=100, chains=2, seed=1, progress=False)
    >>> hs.posterior_predictive(model, posterior)["posterior_predictive"]["rt"].shape
    (2, 50, 180)

    Trials of the easy condition, of a subject that was fitted and of one that was not:

    >>> new = pd.DataFrame({"condition": "easy", "subject": ["s01"] * 10 + ["new"] * 10})
    >>> hs.posterior_predictive(model, posterior, new)["posterior_predictive"]["response"].shape
    (2, 50, 20)

    A session that was not fitted, with its outcomes:

    >>> session = hs.simulate_experiment(n_subjects=3, n_trials=10, seed=2).trials
    >>> sorted(hs.posterior_predictive(model, posterior, session).groups())
    ['constant_data', 'observed_data', 'posterior', 'posterior_predictive']
    """
    fit = Fit.of(model, posterior)
    chains, length = fit.known.sizes["chain"], fit.known.sizes["draw"]
    each = inference_data.evenly_spaced(length, min(length, -(-whole_number("draws", draws) // chains)))
    positions = (np.arange(chains)[:, np.newaxis] * length + each).reshape(-1)
    seed = whole_number("seed", seed, least=0)
    table = fit.model if data is None else fit.model.on_table(data)
    fitted = fit.on_cells(positions), fit.lapse(positions)
    tables = simulated_tables(
        table, *(fitted if data is None else fit.on_table(table, fit.values(positions), seed)), seed
    )
    writer = PosteriorWriter(table.uncentred, table.trials)
    coords: dict[str, Any] = {writer.trial: np.arange(len(table.trials)), "chain": fit.known["chain"].to_numpy()}
    coords["draw"] = fit.known["draw"].to_numpy()[each]
    outcomes = _outcomes(table, tables.reshape(chains, len(each), *tables.shape[1:]))
    found = {"posterior_predictive": outcomes, **({} if data is None else writer.data())}
    present = {name: group for name, group in found.items() if group}
    groups = {name: inference_data.table_group(name, group, writer.trial, coords) for name, group in present.items()}
    return inference_data.with_groups(posterior, groups, kept=None if data is None else ["posterior"])


def _outcomes(model: HierarchicalModel, values: Array) -> dict[str, NDArray[Any]]:
    """Outcomes (chain, draw, n_trials, k) as the variables that observed_data has."""
    columns = model.simulator.labels(values.reshape(-1, values.shape[-1]))
    return {name: column.reshape(values.shape[:-1]) for name, column in columns.items()}
