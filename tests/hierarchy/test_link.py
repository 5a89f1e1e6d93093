"""Links map smoothly onto the box, and the recorded potential is Pyro's own."""

import numpy as np
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.analysis.experiment import simulate_experiment
from hddm_sbi.hierarchy.terms.link import onto_box, to_link
from hddm_sbi.inference.density import flatten

BOXES = [("identity", -5.0, 5.0), ("log", 0.3, 2.5), ("log", 0.0, 2.0), ("logit", 0.1, 0.9), ("logit", 0.0, 1.0)]


@pytest.mark.parametrize(("link", "low", "high"), BOXES)
def test_no_draw_leaves_the_box(link, low, high):
    eta = torch.linspace(-30.0, 30.0, 2_001, dtype=torch.float64)
    value = onto_box(eta, link, low, high)
    assert ((value >= low) & (value <= high)).all()
    inside = (value > low + 0.01 * (high - low)) & (value < high - 0.01 * (high - low))
    assert (value[inside].diff() > 0).all()


@pytest.mark.parametrize(("link", "low", "high"), BOXES)
def test_inside_the_box_the_link_means_what_it_says(link, low, high):
    """In the middle fifth: the value itself to 1e-6, and its gradient by central differences."""
    value = torch.linspace(low + 0.4 * (high - low), low + 0.6 * (high - low), 50, dtype=torch.float64)
    eta = to_link(value, link).requires_grad_()
    found = onto_box(eta, link, low, high)
    torch.testing.assert_close(found.detach(), value, rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(found.sum(), eta)
    with torch.no_grad():
        difference = (onto_box(eta + 1e-5, link, low, high) - onto_box(eta - 1e-5, link, low, high)) / 2e-5
    torch.testing.assert_close(gradient, difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("formula", ["v ~ condition + (condition|subject)", "v ~ 0 + condition + (1|subject)"])
@pytest.mark.parametrize("centred", [True, False, "auto"])
def test_recorded_potential_is_that_of_pyro(formula, centred):
    """Density and gradient at five random points, 1e-9 relative."""
    data = simulate_experiment(4, 15).trials
    model = hs.HierarchicalModel(formula, data, likelihood="exact", centered=centred)
    partly = [g.own_trials is not None for g in model.hierarchy.groups]
    assert partly == [centred == "auto" and "(1|" in formula]
    eager = flatten(model.hierarchy, model.start, path="eager")
    assert (model.density.path, eager.path) == ("compiled", "eager")
    rng = np.random.default_rng(3)
    for _ in range(5):
        x = model.density.start + 0.1 * rng.normal(size=model.density.size)
        (value, gradient), (expected, slope) = model.density(x), eager(x)
        assert value == pytest.approx(expected, rel=1e-9)
        np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-9 * np.abs(slope).max())
