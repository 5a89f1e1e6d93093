"""From a posterior back to what was sampled, however effects are centred; the prior of every model is normalised."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from asked import experiment
from pyro.poutine import block

import hddm_sbi as hs
from hddm_sbi.hierarchy.fits.posterior import variables
from hddm_sbi.hierarchy.from_prior import prior_draws
from hddm_sbi.hierarchy.priors.natural import bounds
from hddm_sbi.hierarchy.sites import sampled_sites
from hddm_sbi.hierarchy.terms.own_trials import OwnTrials
from hddm_sbi.inference import bridge, flatten

#: the prior of a positive number away from 0.
AWAY = dist.Gamma(25.0, 50.0)
TAGGED = ["v ~ condition + (condition|p|subject)", "a ~ 1 + (1|p|subject)", "t0 ~ 1 + (1|p|subject)"]
MODELS = {
    "no groups": (["v ~ condition", "z = 0.5"], {}),
    "intercepts": (["v ~ condition + (1|subject)", "a ~ 1 + (1|subject)", "z = 0.5"], {}),
    "correlated": (["v ~ condition + (condition|subject)", "a ~ 1 + (1|subject)", "z = 0.5"], {}),
    "tagged": ([*TAGGED, "z = 0.5"], {}),
    "uncorrelated": (["v ~ condition + (condition||subject)", "z = 0.5"], {}),
    "by parts": (["v ~ group + (condition|gr(subject, by=group))", "z = 0.5"], {}),
    "smooth": (["v ~ s(x)", "z = 0.5"], {}),
    "monotonic": (["v ~ mo(dose)", "z = 0.5"], {}),
    "gamma population": (["v ~ 1", "a ~ 1 + (1|subject)", "z = 0.5"], {"priors": "hddm"}),
    "lapses": (["v ~ 1", "z = 0.5", "lapse ~ 1 + (1|subject)"], {}),
    "one share of lapses": (["v ~ 1", "z = 0.5"], {"lapse": "estimated"}),
    "a rule": (["v ~ p + (1|subject)", "z = 0.5"], {"sequences": {"p": hs.practice("subject", law="power")}}),
    "priors in their own unit": (
        ["v ~ 1", "z ~ 1"],
        {
            "priors": {
                "a": dist.Gamma(4.0, 4.0),
                "z": dist.Beta(2.0, 2.0),
                "t0": dist.Uniform(0.1, 0.4),
                "v_Intercept": dist.Uniform(-3.0, 3.0),
            }
        },
    ),
}
#: of the error of a density that the estimate meets exactly.
ROUNDING = 1e-9
#: which effects are centred, of those that may be.
CENTRED = {"none": lambda i: False, "all": lambda i: True, "every other": lambda i: i % 2 == 1}


def made(name):
    formulas, options = MODELS[name]
    trials = experiment()
    dose = pd.Categorical(np.arange(len(trials)) % 4, ordered=True)
    return hs.HierarchicalModel(
        formulas, trials.assign(dose=dose, trial=np.arange(len(trials))), likelihood="exact", **options
    )


def centrings(hierarchy):
    """The model with effects centred in several ways; those of a population that must be are."""
    for centred in CENTRED.values():
        yield hierarchy.with_centring(
            {g.name: centred(i) or g.population.centred_only for i, g in enumerate(hierarchy.groups)}
        )
    if any(may_be_partly_centred(g) for g in hierarchy.groups):
        predictors = (replace(p, groups=tuple(map(partly_centred, p.groups))) for p in hierarchy.predictors)
        yield replace(hierarchy, predictors=tuple(predictors))


def may_be_partly_centred(group):
    return group.correlation is None and not group.population.centred_only


def partly_centred(group):
    """As if the trials of every group told its levels, with variances from much to little beside those of the prior."""
    shape = len(group.levels), group.matrix.shape[1]
    level = torch.linspace(-1.0, 1.0, shape[0] * shape[1], dtype=torch.float64).reshape(shape)
    told = OwnTrials(level, 10.0**level)
    return replace(group, own_trials=told) if may_be_partly_centred(group) else group


@pytest.mark.parametrize("name", MODELS)
def test_sites_are_those_that_were_sampled(name):
    """Draws of the Pyro model: what the posterior reports of them leads back to them."""
    for hierarchy in centrings(made(name).uncentred):
        drawn = []
        for seed in range(5):
            torch.manual_seed(seed)
            with pyro.validation_enabled(False):
                trace = pyro.poutine.trace(block(hierarchy, hide=["trials"])).get_trace()
            kept = [n for n in trace.stochastic_nodes if n != "cell" and not n.startswith("levels of")]
            drawn.append({n: trace.nodes[n]["value"].double() for n in kept})
        stacked = {n: torch.stack([d[n] for d in drawn]) for n in drawn[0]}
        reported = {n: torch.from_numpy(x) for n, x in variables(hierarchy, stacked).items()}
        found = sampled_sites(hierarchy, reported)
        assert found.keys() == stacked.keys()
        for n, value in stacked.items():
            np.testing.assert_allclose(found[n], value, rtol=1e-6, atol=1e-8, err_msg=n)


@pytest.mark.parametrize("name", MODELS)
def test_priors_are_normalised(name):
    """The log evidence of no data is 0: from draws of the prior, whose effects are then centred in several ways.

    Where they are centred, sds and other positive numbers are away from 0, so that there is no funnel. 39 estimates
    within 5 stated standard errors: 2e-5 false alarms in all.
    """
    drawn = {}
    for hierarchy in centrings(made(name).uncentred):
        away = any(g.centred for g in hierarchy.groups)
        if away:
            positive = [n for n, prior in hierarchy.coefficient_priors().items() if bounds(prior)[0] == 0.0]
            hierarchy = hierarchy.with_priors(dict.fromkeys(positive, AWAY))
        if away not in drawn:
            drawn[away] = prior_draws(hierarchy, 1_000, seed=1)
        sampled = sampled_sites(hierarchy, drawn[away])
        density = flatten(block(hierarchy, hide=["trials"]), {site: value[0] for site, value in sampled.items()})
        found = bridge(density, density.unconstrain(sampled).reshape(2, 500, -1), seed=1)
        assert found.error < 0.1
        assert abs(found.log_evidence) < 5 * found.error + ROUNDING
