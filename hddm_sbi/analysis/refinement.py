"""Learning where a posterior lies, until it stands still."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.analysis.fit import Fit
from hddm_sbi.errors import InputError, TrainingWarning, whole_number
from hddm_sbi.hierarchy import SAME_LIKELIHOOD, HierarchicalModel, check_fit_of, check_model
from hddm_sbi.inference import inference_data
from hddm_sbi.likelihoods import Likelihood
from hddm_sbi.seeds import derive_seed
from hddm_sbi.training.further import Further, check_further

#: draws of the posterior around which parameters are drawn.
_DRAWS = 500


@dataclass(frozen=True)
class Refinement:
    """A likelihood that was refined where a posterior lies; `refine_likelihood` makes it.

    Parameters
    ----------
    likelihood : Likelihood
        After the last round.
    model : HierarchicalModel
        The same model with it.
    posterior : arviz.InferenceData
        Of that model.
    moved : pandas.DataFrame
        A row for each round: `simulations`, all so far; `shift`, how far the posterior moved in this round, in
        posterior sds, where it moved most; `quantity`, what that was; `error`, the Monte Carlo standard error of the
        shift.
    settled : bool
        Whether it stood still in the last round.

    Examples
    --------
    >>> from dataclasses import fields
    >>> import hddm_sbi as hs
    >>> [field.name for field in fields(hs.Refinement)]
    ['likelihood', 'model', 'posterior', 'moved', 'settled']
    """

    likelihood: Likelihood
    model: HierarchicalModel = field(repr=False)
    posterior: Any = field(repr=False)
    moved: pd.DataFrame
    settled: bool


def refine_likelihood(
    likelihood: Likelihood,
    model: HierarchicalModel,
    posterior: Any,
    n_simulations: int = 100_000,
    rounds: int = 5,
    tolerance: float = 0.1,
    *,
    seed: int = 1,
    n_jobs: int | None = None,
    fit: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Refinement:
    """Simulate where a posterior lies, go on training there, and fit again, until the posterior stands still.

    A likelihood that was learned over a whole box spends most of its simulations far from the data at hand. Each round
    draws parameters from the posterior, made twice as wide, adds simulations there, goes on training with all of them,
    and fits the model again.

    Parameters
    ----------
    likelihood
        Learned by `hs.train_likelihood`, with its simulator.
    model
        The model that was fitted with it.
    posterior
        What `model.fit` returned.
    n_simulations
        Of each round.
    rounds
        The largest number of rounds.
    tolerance
        The posterior stands still where no mean of the population moves by more than this, in posterior sds.
    seed
        Same seed, same result.
    n_jobs
        Processes that simulate; None for as many as `joblib.parallel_config` says, or one.
    fit
        Arguments of `model.fit` for the fits of the rounds; by default its own.
    progress
        Print a line for every round, and show the progress of fits.

    Returns
    -------
    Refinement
        The likelihood, the model with it, its posterior, and how far each round moved it.

    Raises
    ------
    InputError
        The likelihood cannot go on training, or the posterior is of another model.

    Warns
    -----
    TrainingWarning
        The posterior still moved in the last round.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import hddm_sbi as hs
    >>> @hs.declare(parameters={"rate": (0.5, 20.0)}, outcomes={"chips": "count"}, vectorised=True)
    ... def cookies(rate, rng):
    ...     return rng.poisson(rate)
    >>> likelihood = hs.train_likelihood(cookies, n_simulations=20_000, progress=False)
    >>> table = pd.DataFrame({"chips": np.random.default_rng(1).poisson(8.0, 100)})
    >>> model = hs.HierarchicalModel("rate ~ 1", table, likelihood=likelihood)
    >>> posterior = model.fit(seed=1, progress=False)
    >>> found = hs.refine_likelihood(likelihood, model, posterior, 20_000, progress=False)
    >>> found.settled
    True
    """
    check_model(model)
    further = Further(check_further(likelihood), seed, n_jobs)
    if likelihood is not model.likelihood and (not likelihood.sha256 or likelihood.sha256 != model.likelihood.sha256):
        raise InputError(
            f"the model has another likelihood, {model.likelihood!r}; refine that, or fit with {likelihood!r}."
        )
    check_fit_of(model, posterior, SAME_LIKELIHOOD)
    whole_number("n_simulations", n_simulations, 1_000)
    whole_number("rounds", rounds, 1)
    options = {"seed": seed, "progress": progress, **(fit or {})}
    found, settled = [], False
    for number in range(rounds):
        at = Fit.of(model, posterior)
        further.simulate(at.model.theta(at.known, at.spaced(_DRAWS)), n_simulations)
        refined = further.trained()
        model = model.with_likelihood(refined)
        before, posterior = posterior, model.fit(**{**options, "seed": derive_seed(options["seed"], number)})
        moved = _moved(model, before, posterior)
        found.append({"simulations": (number + 1) * n_simulations, **moved})
        if progress:
            print(f"round {number + 1}: {moved['quantity']} moved by {moved['shift']:.2f} posterior sds")
        settled = moved["shift"] <= tolerance
        if settled:
            break
    if not settled:
        message = (
            f"the posterior still moved by {found[-1]['shift']:.2f} sds ({found[-1]['quantity']}) in round {rounds}: "
            "refine again with more simulations, n_simulations=."
        )
        warnings.warn(message, TrainingWarning, stacklevel=2)
    table = pd.DataFrame(found, index=pd.RangeIndex(1, len(found) + 1, name="round"))
    return Refinement(refined, model, posterior, table, settled)


def _moved(model: HierarchicalModel, before: Any, after: Any) -> dict[str, Any]:
    """How far means of the population are apart, in posterior sds, where they are furthest."""
    names = model.uncentred.population_names
    first, second = (inference_data.summary(each, names) for each in (before, after))
    shift = (second["mean"] - first["mean"]).abs() / first["sd"]
    quantity = str(shift.idxmax())
    error = np.hypot(first["mcse_mean"][quantity], second["mcse_mean"][quantity]) / first["sd"][quantity]
    return {"shift": float(shift[quantity]), "quantity": quantity, "error": float(error)}
