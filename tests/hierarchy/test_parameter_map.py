"""The map from parameters on cells to rows of theta: the default adds nothing, and one from outside works."""

from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.hierarchy.parameter_map import OnCells, ParameterMap
from hddm_sbi.hierarchy.pilot.empirical_bayes import pilot_fit
from hddm_sbi.hierarchy.pilot.pooled import pooled_fit
from hddm_sbi.hierarchy.pilot.start import start_values
from hddm_sbi.hierarchy.pilot.whitening import whitening

FORMULAS = ["v ~ condition + (1|subject)", "a ~ 1", "z = 0.5", "t0 ~ 1"]
GAIN = 0.4


class Practice(ParameterMap):
    """The drift grows with the logarithm of a trial's place in its subject's sequence."""

    def __init__(self, cell, place):
        self.of_trial, self.place = cell, place

    def rows(self, values, trials):
        drift, *others = values[..., torch.as_tensor(self.of_trial), :].unbind(-1)
        return torch.stack([drift + GAIN * torch.log1p(torch.as_tensor(self.place)), *others], -1)

    def cell(self, trials):
        return self.of_trial


@pytest.fixture(scope="module")
def practised():
    """A table, the model of it without practice, and the same model with it."""
    table = hs.simulate_experiment(n_subjects=4, n_trials=15, seed=2).trials
    place = table.groupby("subject").cumcount().to_numpy(dtype=float)
    model = hs.HierarchicalModel(FORMULAS, table, likelihood="exact", centered=False, lapse=0.05, lapse_seconds=10.0)
    n = len(table)
    trials = model.likelihood.group_by_cell(model.trials.values, np.arange(n), n)
    hierarchy = replace(model.hierarchy, trials=trials, parameter_map=Practice(model.cell, place))
    return table, place, model, hierarchy


def test_the_default_map_adds_nothing_to_the_graph():
    values, trials = (
        torch.ones(3, 4),
        hs.load_likelihood("ddm", kind="exact").group_by_cell(
            np.array([[0.5, 1.0], [0.7, 0.0], [0.4, 1.0]]), np.array([1, 0, 1]), 2
        ),
    )
    assert OnCells().rows(values, trials) is values
    assert OnCells().cell(trials).tolist() == [0, 1]


def by_hand(table, place, model):
    """The model with practice line by line, one trial a row."""
    priors = model.pyro_model.coefficient_priors()
    hard = torch.tensor((table["condition"] == "hard").to_numpy(dtype=float))
    subject = torch.as_tensor(table["subject"].astype("category").cat.codes.to_numpy(dtype=np.int64))

    def run():
        intercept, slope = (
            pyro.sample("v_Intercept", priors["v_Intercept"]),
            pyro.sample("v_condition", priors["v_condition"].expand([1]).to_event(1)),
        )
        sd = pyro.sample("v_1|subject_sigma", priors["v_1|subject_sigma"])
        with pyro.plate("subject", 4):
            one = torch.ones(1, dtype=torch.float64)
            offset = pyro.sample("v_1|subject_offset", dist.Normal(0 * one, one).to_event(1))
        v = intercept + slope * hard + sd * offset[subject, 0] + GAIN * torch.log1p(torch.as_tensor(place))
        a, t0 = (pyro.sample(f"{name}_Intercept", priors[f"{name}_Intercept"]).exp() for name in ("a", "t0"))
        theta = torch.stack([v, a.expand_as(v), torch.full_like(v, 0.5), t0.expand_as(v)], -1)
        log_p = model.likelihood.log_prob_rows(torch.as_tensor(model.trials.values), theta)
        pyro.factor("trials", torch.log(0.95 * log_p.exp() + 0.05 / 20.0).sum())

    return run


def test_a_map_that_follows_the_sequence_is_the_model_written_by_hand(practised):
    """Log density and gradient at five points; ours compiled."""
    table, place, model, hierarchy = practised
    start = model.start
    ours, hand = hs.flatten(hierarchy, start), hs.flatten(by_hand(table, place, model), start, path="eager")
    assert (ours.path, ours.names) == ("compiled", hand.names)
    for seed in range(5):
        x = ours.start + 0.2 * np.random.default_rng(seed).normal(size=ours.size)
        (value, gradient), (expected, by_x) = ours(x), hand(x)
        np.testing.assert_allclose(value, expected, rtol=1e-10)
        np.testing.assert_allclose(gradient, by_x, rtol=1e-7, atol=1e-8)
    without = model.density(ours.start)[0]
    assert abs(ours(ours.start)[0] - without) > 1.0


def test_pilot_fit_and_whitening_know_the_map_by_its_cells(practised):
    """Sampling starts where the density is finite, higher than where the model without practice starts."""
    *_, model, hierarchy = practised
    pilot = pilot_fit(hierarchy, pooled_fit(hierarchy))
    start = start_values(hierarchy, pilot)
    density = hs.flatten(hierarchy, start)
    elsewhere = hs.flatten(hierarchy, model.start)
    assert density(density.start)[0] > elsewhere(elsewhere.start)[0]
    assert whitening(hierarchy, pilot, start, density).size == density.size


def test_predictions_have_a_row_for_every_trial(practised):
    table, place, _, hierarchy = practised
    values = {
        "v_Intercept": 1.0,
        "v_condition": [-0.5],
        "v_1|subject": np.zeros(4),
        "a_Intercept": 0.0,
        "t0_Intercept": -1.2,
    }
    theta = hierarchy.theta({name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()})
    hard = (table["condition"] == "hard").to_numpy()
    np.testing.assert_allclose(theta[:, 0], 1.0 - 0.5 * hard + GAIN * np.log1p(place))
