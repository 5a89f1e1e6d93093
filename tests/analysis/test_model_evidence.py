"""Evidence of fitted models against integrals by quadrature, whatever the coordinates; and what gives none."""

import warnings

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import logsumexp, softmax
from scipy.stats import norm

import hddm_sbi as hs

SHORT = {"draws": 500, "tune": 500, "chains": 4, "seed": 1, "progress": False}
FIXED = {"z": 0.5, "t0": 0.3}
GROUPED = {"v": "condition + (condition|subject)", "a": "1 + (1|subject)", **FIXED}
V = {"v_Intercept": dist.Normal(0.5, 1.5)}
#: what every model has where a test does not say otherwise.
SAID = {"likelihood": "exact", "lapse": 0.05, "lapse_seconds": 10.0}


@pytest.fixture(scope="module")
def trials():
    return hs.simulate("ddm", {"v": 0.8, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=120, seed=1)


def fitted(formulas, table, **options):
    model = hs.HierarchicalModel(formulas, table, **SAID | options)
    return model, posterior_of(model)


def posterior_of(model, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        return model.fit(**{**SHORT, **settings})


def log_likelihood(table, v, a):
    """Sum over trials at single v and a, 5 % of lapses over 10 s and two responses: from `log_prob` alone."""
    exact = hs.load_likelihood("ddm", kind="exact")
    theta = {"v": v, "a": a, "z": 0.5, "t0": 0.3}
    p = np.exp(exact.log_prob(table["rt"].to_numpy(), table["response"].to_numpy(), theta).numpy())
    return np.log(0.95 * p + 0.05 / 20.0).sum()


def test_one_number_by_quadrature(trials):
    model, posterior = fitted({"v": "1", "a": 1.0, **FIXED}, trials, priors=V)
    found = hs.evidence(model, posterior)
    top = max(log_likelihood(trials, v, 1.0) for v in np.linspace(0, 2, 21))
    area, _ = quad(
        lambda v: np.exp(log_likelihood(trials, v, 1.0) - top) * norm.pdf(v, 0.5, 1.5), -1.0, 3.0, epsabs=1e-9
    )
    assert found.error < 0.01
    assert abs(found.log_evidence - (np.log(area) + top)) < 5 * found.error + 1e-4


def test_two_numbers_on_a_grid(trials):
    """a with a prior in its own unit, so that its Jacobian counts."""
    priors = {**V, "a": dist.Gamma(20.0, 20.0)}
    model, posterior = fitted({"v": "1", "a": "1", **FIXED}, trials, priors=priors)
    found = hs.evidence(model, posterior)
    grid_v, grid_a = np.linspace(-0.2, 1.9, 64), np.linspace(0.75, 1.35, 64)
    log_prior = priors["a"].log_prob(torch.tensor(grid_a)).numpy() + norm.logpdf(grid_v, 0.5, 1.5)[:, None]
    table = log_prior + [[log_likelihood(trials, v, a) for a in grid_a] for v in grid_v]
    assert max(table[[0, -1]].max(), table[:, [0, -1]].max()) < table.max() - 10
    exact = logsumexp(table) + np.log((grid_v[1] - grid_v[0]) * (grid_a[1] - grid_a[0]))
    assert found.error < 0.01
    assert abs(found.log_evidence - exact) < 5 * found.error + 1e-3


@pytest.fixture(scope="module")
def grouped():
    trials = hs.simulate_experiment(n_subjects=6, n_trials=60, seed=2).trials
    return trials, fitted(GROUPED, trials)


def test_coordinates_do_not_matter(grouped):
    """Draws of one centring, in the coordinates of three, give the same evidence: 5 standard errors, 1e-6 each."""
    trials, (model, posterior) = grouped
    found = [hs.evidence(model, posterior)]
    for centred in (False, True):
        other = hs.HierarchicalModel(GROUPED, trials, **SAID, centered=centred)
        assert {g.centred for g in other.hierarchy.groups} == {centred}
        found.append(hs.evidence(other, posterior))
    values, errors = np.array(found).T
    assert (errors < 0.2).all()
    assert np.ptp(values) < 5 * np.sqrt(2) * errors.max()


def test_two_fits_agree(grouped):
    _, (model, posterior) = grouped
    again = posterior_of(model, seed=2)
    one, two = hs.evidence(model, posterior), hs.evidence(model, again, seed=2)
    assert abs(one.log_evidence - two.log_evidence) < 5 * np.hypot(one.error, two.error)
    assert hs.evidence(model, posterior) == one


def test_fit_from_a_file(grouped, tmp_path):
    _, (model, posterior) = grouped
    path = posterior.to_netcdf(tmp_path / "fit.nc")
    again = hs.load_model(path)
    assert_allclose(hs.evidence(again, posterior), hs.evidence(model, posterior), atol=0.2)


def test_models_are_compared_by_it(trials):
    """Of one table; probabilities by hand from the evidences."""
    models, fits = {}, {}
    for name, formulas in {"free": {"v": "1", "a": 1.0, **FIXED}, "both": {"v": "1", "a": "1", **FIXED}}.items():
        models[name], fits[name] = fitted(formulas, trials)
    one_by_one = {name: hs.evidence(models[name], fits[name]) for name in fits}
    table = hs.compare_models(fits, by="evidence", models=models)
    pd.testing.assert_frame_equal(table, hs.compare_models(fits, by="evidence"))
    assert table["log_evidence"].is_monotonic_decreasing
    for name, (value, error) in one_by_one.items():
        assert table.loc[name, ["log_evidence", "error"]].tolist() == [value, error]
        assert_allclose(table.loc[name, "log_bayes_factor"], table["log_evidence"].max() - value)
    assert_allclose(table["probability"], softmax([one_by_one[name].log_evidence for name in table.index]))


def test_what_has_no_evidence(trials, grouped):
    model, posterior = fitted({"v": "1", "a": 1.0, **FIXED}, trials)
    other = fitted({"v": "1", "a": 1.1, **FIXED}, trials)[0]
    with pytest.raises(hs.InputError, match=r"its formula of 'a' is 1\.0, that of this model 1\.1"):
        hs.evidence(other, posterior)
    with pytest.raises(hs.InputError, match="its formula of 'v' is '1', that of this model"):
        hs.evidence(grouped[1][0], posterior)
    wider = hs.HierarchicalModel({"v": "1", "a": 1.0, **FIXED}, trials, **SAID, priors=V)
    with pytest.raises(
        hs.InputError, match=r"its priors\['v_Intercept'\] is Normal\(loc=0, scale=3\), and that of this"
    ):
        hs.evidence(wider, posterior)
    lapses = hs.HierarchicalModel({"v": "1", "a": 1.0, **FIXED}, trials, **SAID | {"lapse": 0.01})
    with pytest.raises(hs.InputError, match=r"another model: its lapse is 0\.05, and that of this model 0\.01\."):
        hs.evidence(lapses, posterior)
    later = hs.HierarchicalModel({"v": "1", "a": 1.0, **FIXED}, trials.assign(rt=trials["rt"] + 0.01), **SAID)
    with pytest.raises(hs.InputError, match="not that of the trials of this model: column 'rt'"):
        hs.evidence(later, posterior)
    with pytest.raises(hs.InputError, match="the posterior does not say what made it"):
        hs.evidence(model, posterior["posterior"].assign_attrs({"formulas": posterior.attrs["formulas"]}).drop_attrs())
    with pytest.raises(hs.InputError, match=r"posterior must be what model\.fit returned"):
        hs.evidence(model, 3)
    with pytest.raises(hs.InputError, match="seed must be a whole number"):
        hs.evidence(model, posterior, seed=0.5)


@pytest.mark.parametrize("method", ["laplace", pytest.param("svi", marks=pytest.mark.slow)])
def test_approximations_have_none(trials, method):
    model = hs.HierarchicalModel({"v": "1", "a": 1.0, **FIXED}, trials, **SAID)
    with pytest.warns(hs.ConvergenceWarning, match="approximation"):
        posterior = model.fit(draws=200, chains=2, seed=1, method=method, progress=False)
    with pytest.raises(hs.InputError, match=f"method='{method}', an approximation"):
        hs.evidence(model, posterior)


def test_few_draws_and_improper_priors(trials):
    model = hs.HierarchicalModel({"v": "1", "a": 1.0, **FIXED}, trials, **SAID)
    with pytest.warns(hs.ConvergenceWarning):
        posterior = model.fit(draws=50, tune=100, chains=2, seed=1, progress=False)
    with pytest.raises(hs.InputError, match="1 number needs at least 200 draws, and there are 100: fit with draws=100"):
        hs.evidence(model, posterior)
    for flat in (
        dist.ImproperUniform(dist.constraints.real, (), ()),
        dist.Normal(0.0, np.inf),
        dist.Uniform(-np.inf, np.inf),
        dist.Normal(0.0, 1.0).mask(False),
        dist.Normal(0.0, -1.0, validate_args=False),
    ):
        with pytest.raises(hs.InputError, match="the prior of 'v_Intercept' must have an integral"):
            hs.HierarchicalModel({"v": "1", "a": 1.0, **FIXED}, trials, **SAID, priors={"v_Intercept": flat})
    steep = {"v_Intercept": dist.StudentT(0.1), "a": dist.Gamma(0.01, 0.01)}
    assert hs.HierarchicalModel({"v": "1", "a": "1", **FIXED}, trials, **SAID, priors=steep)
