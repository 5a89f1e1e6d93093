"""Each message comes with a posterior that has its fault, and names the parameter; a good one has none."""

import numpy as np
import pyro.distributions as dist
import pytest
import xarray as xr

import hddm_sbi as hs
from hddm_sbi.analysis.experiment import simulate_experiment
from hddm_sbi.hierarchy.fits.diagnostics import convergence_problems, edge_problems, second_modes
from hddm_sbi.hierarchy.pilot.empirical_bayes import SecondMode


def posterior(n=1_000, seed=1, **changed):
    """Independent draws of two variables, 4 chains: Rhat 1 and an effective sample size near 4 n."""
    rng = np.random.default_rng(seed)
    draws = {"v_Intercept": rng.normal(size=(4, n)), "a_Intercept": rng.normal(size=(4, n)), **changed}
    return xr.Dataset({name: (("chain", "draw"), x) for name, x in draws.items()})


def messages(dataset, diverging=0, accepted=0.8):
    flags = np.zeros((4, dataset.sizes["draw"]), dtype=bool)
    flags.reshape(-1)[:diverging] = True
    return list(convergence_problems(dataset, {"diverging": flags}, accepted))


def test_a_good_posterior_is_silent():
    assert messages(posterior()) == []


def test_chains_that_disagree_are_named():
    apart = np.random.default_rng(2).normal(size=(4, 1_000)) + np.array([[0.0], [0.0], [0.0], [1.0]])
    assert any(m.startswith("Rhat of a_Intercept is 1.") for m in messages(posterior(a_Intercept=apart)))


def test_chains_in_a_lower_mode_are_told_from_chains_that_are_too_short():
    apart = np.random.default_rng(2).normal(size=(4, 1_000)) + np.array([[0.0], [0.0], [0.0], [5.0]])
    lp = np.random.default_rng(3).normal(size=(4, 1_000)) - np.array([[0.0], [0.0], [0.0], [17.0]])
    (message,) = [m for m in convergence_problems(posterior(a_Intercept=apart), {"lp": lp}, 0.8) if "Rhat" in m]
    assert "the log posterior of chain 3 (by 17." in message
    assert "run more" not in message


@pytest.mark.parametrize(("period", "warned"), [(1_000, True), (5, False)])
def test_two_modes_are_told_where_chains_seldom_move_between_them(period, warned):
    mode = SecondMode("a_Intercept", (), 0.0, 1.0, 0.5, np.array([3, 5]))
    draws = np.tile(np.arange(1_000) // period % 2, (4, 1)).astype(float)
    found = list(second_modes([mode], posterior(a_Intercept=draws), np.linspace(0.3, 0.4, 11)))
    assert len(found) == warned
    assert all("rows 3, 5 (0 = first; rt 0.330 to 0.350)" in m and "moved between both 0 times" in m for m in found)


def test_too_few_draws_are_named():
    found = messages(posterior(n=60))
    assert any("effective sample size of" in m and "(below 400)" in m for m in found)


@pytest.mark.parametrize(
    ("accepted", "remedy"),
    [(0.8, "fit with target_accept=0.95, tighten"), (0.99, "fit with target_accept=0.999, "), (0.999, "tighten")],
)
def test_divergences_are_counted_and_smaller_steps_named(accepted, remedy):
    (message,) = messages(posterior(), 3, accepted)
    assert message.startswith(f"3 of 4000 draws diverged at target_accept={accepted:g}: {remedy}")


@pytest.mark.parametrize(("value", "edge"), [(0.3001, "lower edge (0.3)"), (2.499, "upper edge (2.5)")])
def test_draws_against_the_box_are_named(value, edge):
    model = hs.HierarchicalModel("v ~ condition", simulate_experiment(3, 10).trials)
    predictor = next(p for p in model.hierarchy.predictors if p.name == "a")
    values = np.full((100, 2), 1.0)
    assert not list(edge_problems("a", predictor, values, ["condition=easy", "condition=hard"]))
    values[:, 1] = value
    (message,) = edge_problems("a", predictor, values, ["condition=easy", "condition=hard"])
    assert message.startswith("100% of the draws of 'a' press against the " + edge)
    assert "condition=hard" in message


def test_centring_follows_the_data_of_a_group():
    """The drift of subjects with 4 trials is sampled non-centred, of subjects with 1 600 centred."""
    chosen = []
    for n_trials in (2, 800):
        model = hs.HierarchicalModel("v ~ 1 + (1|subject)", simulate_experiment(4, n_trials).trials, likelihood="exact")
        chosen += [g.centred for p in model.hierarchy.predictors for g in p.groups]
    assert chosen == [False, True]


@pytest.mark.parametrize("prior", [dist.Gamma(2.0, 4.0), dist.InverseGamma(3.0, 1.0), dist.Exponential(2.0)])
def test_any_positive_prior_of_a_group_sd_starts_finite(prior):
    data = simulate_experiment(4, 10).trials
    model = hs.HierarchicalModel("v ~ 1 + (1|subject)", data, priors={"v_1|subject_sigma": prior}, likelihood="exact")
    value, gradient = model.density(model.density.start)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
