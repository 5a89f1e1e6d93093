"""Log priors against densities by hand, and what ArviZ makes of them: power scaling by hand."""

import warnings

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from asked import experiment
from scipy.stats import beta, halfnorm, norm

import hddm_sbi as hs
from hddm_sbi.hierarchy import prior_draws
from hddm_sbi.hierarchy.fits.posterior import log_priors

FIXED = {"a": 1.0, "z": 0.5, "t0": 0.3}
MODELS = {
    "groups": (["v ~ condition + (1|subject)", "a ~ 1 + (1|subject)", "z = 0.5"], {}),
    "by parts": (["v ~ group + (1|gr(subject, by=group))", "z = 0.5"], {}),
    "smooth": (["v ~ s(x)", "z = 0.5"], {}),
    "gamma population": (["v ~ 1", "a ~ 1 + (1|subject)", "z = 0.5"], {"priors": "hddm"}),
    "lapses": (["v ~ 1", "z = 0.5"], {"lapse": "estimated"}),
    "their own unit": (["v ~ 1", "z ~ 1"], {"priors": {"a": dist.Gamma(4.0, 4.0), "z": dist.Beta(2.0, 2.0)}}),
}


@pytest.mark.parametrize("case", MODELS)
def test_log_priors_are_those_of_the_pyro_model(case):
    """Of draws of the prior, as Pyro traces them: whatever has a site of its own."""
    formulas, options = MODELS[case]
    own = hs.HierarchicalModel(formulas, experiment(), likelihood="exact", **options).uncentred
    drawn = {name: torch.as_tensor(x) for name, x in prior_draws(own, 3, 1).items()}
    found = log_priors(own, {name: x.reshape(1, 3, *x.shape[1:]) for name, x in drawn.items()})
    names = [name for name in own.coefficient_names if name in own.coefficient_priors()]
    assert set(names) == set(found)
    for i in range(3):
        at = {name: drawn[name][i] for name in names}
        trace = pyro.poutine.trace(pyro.condition(own, at)).get_trace()
        trace.compute_log_prob()
        for name in names:
            assert float(found[name][0, i]) == pytest.approx(float(trace.nodes[name]["log_prob_sum"]), rel=1e-9)


def fitted(**priors):
    data = hs.simulate_experiment(n_subjects=4, n_trials=20, seed=1).trials
    model = hs.HierarchicalModel(
        {"v": "condition + (condition|subject)", **FIXED}, data, likelihood="exact", lapse=0.05, priors=priors or None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        return model, model.fit(draws=500, tune=300, chains=2, seed=1, progress=False)


@pytest.fixture(scope="module")
def fit():
    """Priors whose densities are written out below; that of the slope is against the data."""
    return fitted(
        **{
            "v_Intercept": dist.Normal(1.0, 2.0),
            "v_condition": dist.Normal(1.0, 0.3),
            "v_1|subject_sigma": dist.HalfNormal(1.0),
            "v_condition|subject_sigma": dist.HalfNormal(0.5),
        }
    )


def by_hand(posterior):
    """Log prior of every coefficient at the draws; LKJ(2) of two effects is a beta law of (r + 1) / 2."""
    x = {str(name): array.to_numpy() for name, array in posterior["posterior"].data_vars.items()}
    correlation = x["v_1+condition|subject_corr"][..., 0, 1]
    return {
        "v_Intercept": norm.logpdf(x["v_Intercept"], 1.0, 2.0),
        "v_condition": norm.logpdf(x["v_condition"][..., 0], 1.0, 0.3),
        "v_1|subject_sigma": halfnorm.logpdf(x["v_1|subject_sigma"], scale=1.0),
        "v_condition|subject_sigma": halfnorm.logpdf(x["v_condition|subject_sigma"][..., 0], scale=0.5),
        "v_1+condition|subject_corr": beta.logpdf((correlation + 1.0) / 2.0, 2.0, 2.0) - np.log(2.0),
    }


def moved(x, log_prior, delta=0.01):
    """Power scaling of draws x (n,) by hand (Kallioinen 2024, eq. 8): cumulative Jensen-Shannon distances, both ways
    round, between the draws and those that are weighted by the prior to the power +- delta, over its log."""
    total = 0.0
    for power in (delta, 1.0 / (1.0 + delta) - 1.0):
        w = np.exp(power * (log_prior - log_prior.max()))
        total += max(distance(sign * x, w / w.sum()) for sign in (1.0, -1.0))
    return total / (2.0 * np.log2(1.0 + delta))


def distance(x, w):
    order = np.argsort(x)
    p, q, widths = np.arange(1, len(x)) / len(x), np.cumsum(w[order])[:-1], np.diff(x[order])
    middle = (p + q) / 2.0

    def divergence(of, other):
        return widths @ (of * np.log2(of / middle)) + widths @ (other - of) / (2.0 * np.log(2.0))

    return np.sqrt(max(divergence(p, q) + divergence(q, p), 0.0) / (widths @ (p + q)))


def test_the_group_is_by_hand(fit):
    """Up to 1e-7: Pyro's constant of LKJ is in single precision."""
    model, posterior = fit
    found = hs.with_log_prior(model, posterior)["log_prior"]
    for name, exact in by_hand(posterior).items():
        np.testing.assert_allclose(found[name], exact, rtol=1e-6, atol=1e-7)
    assert set(found.data_vars) == set(model.prior_table.index)


def test_power_scaling_is_by_hand(fit):
    """Weights so near to 1 that ArviZ's smoothing of their tail changes little: 5 %."""
    model, posterior = fit
    names = ["v_Intercept", "v_condition", "v_1|subject_sigma"]
    found = az.psens(hs.with_log_prior(model, posterior), var_names=names)
    log_prior = sum(by_hand(posterior).values()).reshape(-1)
    for name in names:
        x = posterior["posterior"][name].to_numpy().reshape(-1)
        assert float(found[name].squeeze()) == pytest.approx(moved(x, log_prior), rel=0.05)
    one = az.psens(hs.with_log_prior(model, posterior), component_var_names=["v_condition"], var_names=names)
    slope, of_slope = posterior["posterior"]["v_condition"].to_numpy(), by_hand(posterior)["v_condition"]
    alone = moved(slope.reshape(-1), of_slope.reshape(-1))
    assert float(one["v_condition"].squeeze()) == pytest.approx(alone, rel=0.05)


def test_a_prior_against_the_data_is_seen(fit):
    """The slope's prior says 1 +- .3 where the data say -.7; default priors say little of an intercept."""
    sensitivity = az.psens(hs.with_log_prior(*fit), var_names=["v_condition", "v_Intercept"])
    assert float(sensitivity["v_condition"].squeeze()) > 0.1
    weak = az.psens(hs.with_log_prior(*fitted()), var_names=["v_condition", "v_Intercept"])
    assert float(weak["v_condition"].squeeze()) < 0.05


def test_another_models_posterior_is_refused(fit):
    model, posterior = fit
    other = hs.HierarchicalModel(
        {"v": "condition + (condition|subject)", **FIXED}, model.trials.frame, likelihood="exact", lapse=0.05
    )
    with pytest.raises(hs.InputError, match=r"the posterior is of another model: its priors\['v_"):
        hs.with_log_prior(other, posterior)
