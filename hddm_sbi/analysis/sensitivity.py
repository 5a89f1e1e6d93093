"""The priors of a posterior as ArviZ reads them, for sensitivity to priors by power scaling."""

from __future__ import annotations

from typing import Any

from hddm_sbi.hierarchy import HierarchicalModel, PosteriorWriter, check_fit_of


def with_log_prior(model: HierarchicalModel, posterior: Any) -> Any:
    """The same posterior with the log prior of every coefficient, as group `log_prior`: what `az.psens` reads.

    Power scaling asks how the posterior would move if priors were a little stronger or weaker: a value above .05 says
    that priors inform that quantity. The law of groups, given its standard deviations, is a part of the model and not
    among these priors.

    Parameters
    ----------
    model
        The fitted model.
    posterior
        What `model.fit` returned.

    Returns
    -------
    arviz.InferenceData
        With one number for every chain, draw and coefficient in `model.prior_table`, on the scale that stands there. A
        group of that name is replaced.

    Raises
    ------
    InputError
        The posterior is of another model, other priors or other trials.

    References
    ----------
    Kallioinen, Paananen, Bürkner & Vehtari (2024), Statistics and Computing 34:57.

    Examples
    --------
    >>> import arviz as az
    >>> import hddm_sbi as hs
    >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
    >>> model = hs.HierarchicalModel(["v ~ 1", "z = 0.5"], data, likelihood="exact", lapse=0)
    >>> posterior = model.fit(draws=500, tune=300, chains=2, seed=1, progress=False)
    >>> bool(az.psens(hs.with_log_prior(model, posterior))["v_Intercept"] < 0.05)
    True
    """
    _, known = check_fit_of(model, posterior)
    return PosteriorWriter(model.uncentred, model.trials).with_log_prior(posterior, known)
