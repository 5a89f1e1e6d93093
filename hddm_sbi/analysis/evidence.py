"""The evidence of a fitted model, from its posterior draws and its compiled density."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from hddm_sbi.errors import InputError, whole_number
from hddm_sbi.hierarchy import ConvergenceWarning, HierarchicalModel, check_fit_of, sampled_sites
from hddm_sbi.inference import Evidence, bridge

#: standard error of a log evidence, in nats, above which it says little.
_UNSURE = 0.5


def evidence(model: HierarchicalModel, posterior: Any, seed: int = 1) -> Evidence:
    """Log evidence of a model: the log of the probability density of its trials, averaged over its priors.

    By bridge sampling on the model's compiled density. It depends on the priors, however many trials there are: give
    the priors that you believe before you compare models by it.

    Parameters
    ----------
    model
        The model that was fitted.
    posterior
        What `model.fit` returned, or what was read from its file: draws of method "nuts" or "pyro-nuts".
    seed
        Same seed, same number.

    Returns
    -------
    Evidence
        `log_evidence` and its standard error, `error`, in nats. The log Bayes factor of two models of the same trials
        is the difference of their log evidences.

    Raises
    ------
    InputError
        The posterior is of another model or other trials, comes from an approximation, or has too few draws.

    Warns
    -----
    ConvergenceWarning
        Where the error is above half a nat.

    References
    ----------
    Meng & Wong (1996), Statistica Sinica 6:831. Meng & Schilling (2002), Journal of Computational and Graphical
    Statistics 11:552. Frühwirth-Schnatter (2004), Econometrics Journal 7:143. Gronau et al. (2017), Journal of
    Mathematical Psychology 81:80.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
    >>> fixed = {"a": 1.0, "z": 0.5, "t0": 0.3}
    >>> model = hs.HierarchicalModel({"v": "1", **fixed}, data, likelihood="exact")
    >>> found = hs.evidence(model, model.fit(draws=1000, chains=2, seed=1, progress=False))
    >>> found.error < 0.01
    True
    """
    record, known = check_fit_of(model, posterior)
    seed = whole_number("seed", seed, least=0)
    if record.approximate:
        raise InputError(
            f"the posterior comes from method={record.method!r}, an approximation, and the evidence needs draws of the "
            "posterior itself: fit with method='nuts'."
        )
    draws = known.transpose("chain", "draw", ...).data_vars.items()
    sampled = sampled_sites(model.hierarchy, {str(name): torch.tensor(x.to_numpy()) for name, x in draws})
    found = bridge(model.density, model.density.unconstrain(sampled), seed)
    if found.error > _UNSURE:
        warnings.warn(
            f"the log evidence is known up to a standard error of {found.error:.1f} nats only: fit with more draws=",
            ConvergenceWarning,
            stacklevel=2,
        )
    return found
