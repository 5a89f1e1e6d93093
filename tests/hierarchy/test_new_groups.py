"""New groups from the population: standard deviations, correlations, parts, and laws that are not normal."""

import numpy as np
import pandas as pd
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.hierarchy.terms.new_groups import (
    new_deviations,
    new_theta,
    no_deviations,
    score_shapes,
    standard_scores,
    typical_theta,
)
from hddm_sbi.hierarchy.terms.rows import of_population

FIXED = {"z": 0.5, "t0": 0.3}
N = 40_000


@pytest.fixture(scope="module")
def trials():
    table = hs.simulate_experiment(n_subjects=6, n_trials=10).trials
    return table.assign(group=np.where(table["subject"] < "s03", "old", "young"))


def population(formulas, trials, **options):
    model = hs.HierarchicalModel({**FIXED, **formulas}, trials, likelihood="exact", **options)
    first = trials.reset_index(drop=True).groupby("condition").head(1).index
    return model, of_population(model.uncentred, model.cell[first])


def values_of(**numbers):
    return {name: torch.tensor([number], dtype=torch.float64) for name, number in numbers.items()}


def scores_of(hierarchy, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shapes = score_shapes(hierarchy)
    return {n: torch.randn(1, N, *s, dtype=torch.float64, generator=generator) for n, s in shapes.items()}


def test_scores_come_in_pairs_of_unit_variance():
    scores = standard_scores({"one": (2, 3), "two": (1, 1)}, 31, 5)
    assert scores["one"].shape == (32, 2, 3)
    np.testing.assert_allclose(scores["one"].mean(0), 0.0, atol=1e-12)
    np.testing.assert_allclose(scores["one"].square().mean(0), 1.0, rtol=1e-12)
    assert torch.equal(scores["two"], standard_scores({"one": (2, 3), "two": (1, 1)}, 31, 5)["two"])
    assert standard_scores({}, 31, 5) == {}


def test_correlated_effects_of_two_parameters(trials):
    """Covariance diag(s) R diag(s) of 40 000 groups: 5 standard errors of a covariance, 6e-7 each."""
    formulas = {"v": "condition + (condition|p|subject)", "a": "1 + (1|p|subject)"}
    _, hierarchy = population(formulas, trials)
    R = np.array([[1.0, -0.5, 0.3], [-0.5, 1.0, 0.2], [0.3, 0.2, 1.0]])
    sd = np.array([0.4, 0.7, 0.2])
    values = {
        "v_1|subject_sigma": torch.full((1, N), 0.4).double(),
        "v_condition|subject_sigma": torch.full((1, N, 1), 0.7).double(),
        "a_1|subject_sigma": torch.full((1, N), 0.2).double(),
        "p|subject_corr": torch.tensor(R).expand(1, N, 3, 3),
    }
    u = new_deviations(hierarchy, values, scores_of(hierarchy))
    found = torch.stack(
        [u["v_1|subject"][0, :, 0], u["v_condition|subject"][0, :, 0, 0], u["a_1|subject"][0, :, 0]]
    ).numpy()
    expected = sd[:, None] * R * sd
    error = np.sqrt((expected**2 + np.outer(sd, sd) ** 2) / N)
    assert (abs(np.cov(found) - expected) < 5 * error).all()


def test_parts_have_their_own_standard_deviations(trials):
    _, hierarchy = population({"v": "1 + (1|gr(subject, by=group))", "a": 1.0}, trials)
    values = {"v_Intercept": torch.zeros(1, N).double(), "v_1|subject_sigma": torch.tensor([0.2, 0.9]).expand(1, N, 2)}
    u = new_deviations(hierarchy, values, scores_of(hierarchy))["v_1|subject"][0]
    assert u.shape == (N, 2)
    assert (abs(u.std(0) / torch.tensor([0.2, 0.9]) - 1.0) < 5 / (2 * N) ** 0.5).all()


def test_a_gamma_population_has_its_mean_and_sd(trials):
    _, hierarchy = population({"v": "1", "a": "1 + (1|subject)"}, trials, priors="hddm")
    sd = torch.full((1, N), 0.5).double()
    values = {"a_Intercept": torch.full((1, N), 1.4).double(), "a_1|subject_sigma": sd, "v_Intercept": 0 * sd}
    level = 1.4 + new_deviations(hierarchy, values, scores_of(hierarchy))["a_1|subject"][0, :, 0]
    assert (level > 0).all()
    assert abs(float(level.mean()) - 1.4) < 5 * 0.5 / N**0.5
    # Kurtosis 3 + 6 / shape.
    assert abs(float(level.std()) / 0.5 - 1.0) < 5 * ((2 + 6 * (0.5 / 1.4) ** 2) / (4 * N)) ** 0.5


def test_typical_and_average_on_a_log_scale(trials):
    """exp(mu) and exp(mu + s² / 2): the mean over quasi-random groups is nearer than 1e-3."""
    model, hierarchy = population({"v": "condition + (1|subject)", "a": "1 + (1|subject)"}, trials)
    values = values_of(
        v_Intercept=1.5, v_condition=[-0.4], a_Intercept=0.1, **{"v_1|subject_sigma": 0.3, "a_1|subject_sigma": 0.4}
    )
    v, a = (model.simulator.names.index(name) for name in "va")
    typical = typical_theta(hierarchy, values)[0]
    np.testing.assert_allclose(typical[:, v], [1.5, 1.1], rtol=1e-6)
    np.testing.assert_allclose(typical[:, a], np.exp(0.1), rtol=1e-6)
    average = new_theta(hierarchy, values, standard_scores(score_shapes(hierarchy), 200, 1))[0].mean(0)
    np.testing.assert_allclose(average[:, v], [1.5, 1.1], rtol=1e-6)
    np.testing.assert_allclose(average[:, a], np.exp(0.1 + 0.4**2 / 2), rtol=1e-3)
    assert all((u == 0).all() for u in no_deviations(hierarchy).values())


def test_a_law_without_quantiles_is_refused():
    class Mine(hs.Population):
        def distribution(self, mean, sd):
            return torch.distributions.StudentT(4.0, mean, sd)

    with pytest.raises(hs.InputError, match="Mine: its distribution has no icdf; write its method quantile"):
        Mine().quantile(torch.zeros(1), torch.zeros(1), torch.ones(1))


def test_a_part_that_was_not_fitted_is_refused(trials):
    model, _ = population({"v": "1 + (1|gr(subject, by=group))", "a": 1.0}, trials)
    with pytest.raises(
        hs.InputError, match="column 'group' holds 'ancient', whose standard deviations were not fitted"
    ):
        model.on_table(pd.DataFrame({"subject": ["x"], "group": ["ancient"]}))
