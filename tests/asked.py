"""A model with draws that are known numbers: its prior, in place of a posterior, so that no test waits for a fit."""

import arviz as az
import numpy as np
import pyro.distributions as dist
import xarray as xr

import hddm_sbi as hs

PRIORS = {
    "v_Intercept": dist.Normal(1.5, 0.3),
    "v_condition": dist.Normal(-0.5, 0.2),
    "a_Intercept": dist.Normal(0.0, 0.2),
    "t0_Intercept": dist.Normal(-1.2, 0.1),
    "v_1|subject_sigma": dist.HalfNormal(0.5),
    "a_1|subject_sigma": dist.HalfNormal(0.3),
}
FORMULAS = ["v ~ condition + (1|subject)", "a ~ 1 + (1|subject)", "z = 0.5"]


def experiment():
    """Four subjects; s00 has half as many trials of the hard condition, and x differs in every trial."""
    trials = hs.simulate_experiment(n_subjects=4, n_trials=20).trials
    few = (trials["subject"] == "s00") & (trials["condition"] == "hard") & (np.arange(len(trials)) % 2 == 1)
    trials = trials[~few].reset_index(drop=True)
    return trials.assign(x=np.cos(np.arange(len(trials))), group=np.where(trials["subject"] < "s02", "old", "young"))


def model_of(formulas=FORMULAS, priors=PRIORS, trials=None, **options):
    """A model of that experiment with a closed form."""
    trials = experiment() if trials is None else trials
    return hs.HierarchicalModel(formulas, trials, likelihood="exact", priors=priors, **options)


def as_posterior(model, draws=120, seed=3):
    """Draws of the prior as a posterior of two chains, and as arrays (draws, ...) by name."""
    prior = hs.prior_predictive(model, draws, seed)["prior"]
    halves = [prior.isel(draw=slice(i * draws // 2, (i + 1) * draws // 2)) for i in (0, 1)]
    halves = [half.assign_coords(draw=np.arange(draws // 2), chain=[i]) for i, half in enumerate(halves)]
    joined = xr.concat(halves, "chain")
    return az.InferenceData(posterior=joined), {str(n): x.to_numpy()[0] for n, x in prior.data_vars.items()}
