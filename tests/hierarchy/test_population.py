"""Populations and families of priors: laws of each, and one of either added from outside the package."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from factory import Poisson, bake
from torch.distributions import biject_to

import hddm_sbi as hs
from hddm_sbi.inference.density import flatten

DATA = bake()
FORMULA = "rate ~ 1 + (1|location)"


class StudentT(hs.Population):
    """Heavy tails: a t of 4 degrees of freedom, scaled to the sd; sampled centred or not."""

    def distribution(self, mean, sd):
        return dist.StudentT(4.0, mean, sd / 2**0.5)


class LogNormal(hs.Population):
    """Positive levels with that mean and sd: log level ~ Normal(log mean - s² / 2, s), s² = log(1 + sd² / mean²)."""

    centred_only = True

    def distribution(self, mean, sd):
        variance = torch.log1p((sd / mean) ** 2)
        return dist.LogNormal(torch.log(mean) - variance / 2, variance.sqrt())

    def slope(self, level):
        return level

    def start(self, level, mean):
        return torch.maximum(level, 0.1 * mean)


LAWS = {**hs.POPULATIONS, "student_t": StudentT(), "lognormal": LogNormal()}


@pytest.mark.parametrize("name", LAWS)
def test_a_population_has_the_mean_and_the_sd_it_is_asked_for(name):
    mean, sd = torch.tensor([2.0, 5.0]).double(), torch.tensor([0.5, 1.0]).double()
    law = LAWS[name].distribution(mean, sd)
    torch.testing.assert_close(law.mean, mean)
    torch.testing.assert_close(law.variance.sqrt(), sd)


@pytest.mark.parametrize("name", LAWS)
def test_the_slope_of_a_level_is_that_of_pyros_transform(name):
    mean, sd = torch.tensor(2.0).double(), torch.tensor(0.5).double()
    x = torch.tensor([-0.4, 0.3, 0.9], dtype=torch.float64, requires_grad=True)
    level = biject_to(LAWS[name].distribution(mean, sd).support)(x)
    (slope,) = torch.autograd.grad(level.sum(), x)
    torch.testing.assert_close(LAWS[name].slope(level.detach()), slope)


@pytest.mark.parametrize("name", LAWS)
def test_sampling_starts_where_the_law_is(name):
    mean, sd = torch.tensor(2.0).double(), torch.tensor(0.5).double()
    start = LAWS[name].start(torch.tensor([-3.0, 0.0, 2.5]).double(), mean)
    assert torch.isfinite(LAWS[name].distribution(mean, sd).log_prob(start)).all()
    assert start[2] == 2.5


def model_with(intercept, population, **options):
    """Rates of locations in chips, without a link: this prior of the mean, and that population."""
    prior = hs.ParameterPrior("identity", intercept, hs.Prior("normal", 0.0, 2.0), hs.Prior("halfnormal", 0.0, 1.0))
    prior = hs.ParameterPrior(prior.link, prior.intercept, prior.slope, prior.group_sd, population)
    likelihood = Poisson()
    likelihood.simulator = hs.declare({"rate": hs.parameter("rate", 0.5, 20, prior=prior)}, {"chips": "count"})(
        lambda rate, rng: rng.poisson(rate)
    )
    return hs.HierarchicalModel(FORMULA, DATA, likelihood=likelihood, **options)


def by_hand(population):
    """The same model line by line, levels sampled."""

    def model():
        mean = pyro.sample("mean", dist.StudentT(3.0, torch.tensor(8.0).double(), torch.tensor(2.0).double()))
        sd = pyro.sample("sd", dist.HalfNormal(torch.tensor(1.0).double()))
        with pyro.plate("location", 5):
            rate = pyro.sample("rate", population.distribution(mean, sd))
        index = torch.as_tensor(pd.Categorical(DATA["location"]).codes.astype(int))
        with pyro.plate("cookie", len(DATA)):
            pyro.sample("chips", dist.Poisson(rate[index]), obs=torch.tensor(DATA["chips"].tolist()).double())

    return model


@pytest.mark.filterwarnings("ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning")
@pytest.mark.parametrize("name", ["student_t", "lognormal"])
def test_a_family_and_a_population_from_outside_make_the_model_written_by_hand(monkeypatch, name):
    """Gradients of the two agree at five points, and a fit runs compiled; densities differ by a constant."""
    monkeypatch.setitem(hs.PRIOR_FAMILIES, "student_t", lambda location, scale: dist.StudentT(3.0, location, scale))
    monkeypatch.setitem(hs.POPULATIONS, name, LAWS[name])
    model = model_with(hs.Prior("student_t", 8.0, 2.0), name, centered=True)
    start = {"mean": torch.tensor(8.0), "sd": torch.tensor(1.0), "rate": torch.full((5,), 8.0)}
    hand = flatten(by_hand(LAWS[name]), {site: value.double() for site, value in start.items()})
    names = {"rate_Intercept": "mean", "rate_1|location_sigma": "sd", "rate_1|location_level": "rate"}
    gap = []
    for seed in range(5):
        point = hand.start + 0.1 * np.random.default_rng(seed).normal(size=hand.size)
        sites = hand.unflatten(torch.as_tensor(point))
        same = np.concatenate([sites[names[site]].numpy().reshape(-1) for site in model.density.names])
        gap.append(model.density(same)[0] - hand(point)[0])
    # The box's soft edge moves a rate by less than 1e-6 here.
    np.testing.assert_allclose(gap, gap[0], atol=1e-4)
    posterior = model.fit(draws=50, tune=100, chains=1, seed=1, progress=False)
    assert posterior.posterior.attrs["density"] == "compiled"
    assert posterior.posterior["rate_1|location"].shape == (1, 50, 5)


def test_a_location_scale_population_is_the_same_centred_or_not(monkeypatch):
    """The density of level = mean + sd * offset is that of the offset over sd: five levels, five factors of sd."""
    monkeypatch.setitem(hs.POPULATIONS, "student_t", StudentT())
    centred, other = (
        model_with(hs.Prior("normal", 8.0, 2.0), "student_t", centered=choice).density for choice in (True, False)
    )
    mean, log_sd, offset = 8.0, 0.2, np.array([-1.0, -0.3, 0.0, 0.5, 2.0])
    values = {"rate_Intercept": [mean], "rate_1|location_sigma": [log_sd]}
    level = mean + np.exp(log_sd) * offset
    one, two = (
        np.concatenate([{**values, site: groups}[name] for name in density.names])
        for density, site, groups in (
            (centred, "rate_1|location_level", level),
            (other, "rate_1|location_offset", offset),
        )
    )
    assert centred(one)[0] == pytest.approx(other(two)[0] - 5 * log_sd, abs=1e-9)


def test_an_unknown_name_is_refused_before_anything_runs():
    with pytest.raises(hs.InputError, match="no population 'gama'; did you mean 'gamma'"):
        model_with(hs.Prior("normal", 8.0, 2.0), "gama")
    with pytest.raises(hs.InputError, match="no family of priors 'norml'; did you mean 'normal'"):
        model_with(hs.Prior("norml", 8.0, 2.0), "normal")
