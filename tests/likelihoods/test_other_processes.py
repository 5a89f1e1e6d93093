"""A likelihood of every kind gives the same numbers in another process, which knows only what it was sent."""

import joblib
import numba as nb
import numpy as np
import pytest
import torch
from factory import Poisson, cookies
from laws import random_thetas

import hddm_sbi as hs
from hddm_sbi.likelihoods.likelihood import Likelihood


@pytest.fixture(scope="module")
def own_closed_form():
    """A user's model of one choice that comes after an exponential time, with its closed form."""

    @nb.njit
    def trial(rate, t0, rng):
        return t0 + rng.standard_exponential() / rate, 0 if rng.random() < 0.5 else 1

    @nb.njit
    def log_density(theta, choice, rt, logp, grad):
        for i in range(rt.shape[0]):
            t = rt[i] - theta[1]
            logp[i] = np.log(0.5 * theta[0]) - theta[0] * t if t > 0 else -np.inf
            grad[0, i], grad[1, i] = 1 / theta[0] - t, theta[0]

    ddm = hs.load_simulator("ddm")
    rate = hs.parameter("rate", 0.5, 5.0)
    t0 = next(p for p in ddm.parameters if p.name == "t0")
    return type(ddm)(
        name="exponential",
        title="exponential waiting times",
        parameters=(rate, t0),
        outcomes=ddm.outcomes,
        trial=trial,
        symmetries=hs.Symmetries(shift="t0"),
        log_density=log_density,
    )


def sums(likelihood: Likelihood, values: np.ndarray, theta: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Log likelihood of two cells, and its gradient."""
    at, cell = theta.clone().requires_grad_(), np.arange(len(values)) % 2
    total = likelihood.log_prob_by_cell(likelihood.group_by_cell(values, cell, 2), at, torch.zeros(()).double())
    return total.detach().numpy(), torch.autograd.grad(total.sum(), at)[0].numpy()


def same_elsewhere(likelihood: Likelihood, values: np.ndarray, theta: torch.Tensor, rounding: float = 0.0) -> None:
    here = sums(likelihood, values, theta)
    (there,) = joblib.Parallel(n_jobs=2, backend="loky")([joblib.delayed(sums)(likelihood, values, theta)])
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(one, other, rtol=rounding)


@pytest.mark.parametrize(("name", "kind"), [("ddm", "exact"), ("ddm", "neural"), ("ornstein", "numerical")])
def test_shipped_likelihoods(name, kind):
    likelihood = hs.load_likelihood(name, kind=kind)
    theta = random_thetas(likelihood.simulator, 2, 1, margin=0.3)
    values = np.stack(likelihood.simulator.simulate(np.tile(theta, (3, 1)), 1), -1)
    # A gradient of the numerical one is a difference over 1e-4: rounding, which depends on how arrays lie in memory,
    # is 1e4 times as large there.
    same_elsewhere(likelihood, values, torch.tensor(theta), rounding=1e-11 if kind == "numerical" else 0.0)


def test_a_closed_form_of_the_user(own_closed_form):
    likelihood = hs.load_likelihood("ddm", kind="exact").__class__(own_closed_form)
    same_elsewhere(likelihood, np.array([[0.9, 0.0], [1.2, 1.0]]), torch.tensor([[1.0, 0.2], [2.0, 0.3]]).double())


@pytest.mark.filterwarnings("ignore::hddm_sbi.TrainingWarning")
@pytest.mark.usefixtures("few_steps")
def test_a_likelihood_of_an_sbi_estimator():
    likelihood = hs.train_likelihood(cookies, n_simulations=2_000, seed=1, shape=hs.EstimatorShape(), progress=False)
    same_elsewhere(likelihood, np.array([[3.0], [9.0]]), torch.tensor([[3.0], [8.0]]).double())


def test_a_likelihood_of_ones_own_class():
    same_elsewhere(Poisson(), np.array([[3.0], [9.0]]), torch.tensor([[3.0], [8.0]]).double())


@pytest.mark.filterwarnings("ignore::hddm_sbi.ConvergenceWarning")
def test_models_of_a_closed_form_are_fitted_by_several_processes():
    data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=60, seed=1)
    models = {
        name: hs.HierarchicalModel([formula, "z = 0.5", "t0 = 0.3"], data, likelihood="exact")
        for name, formula in (("free", "a ~ 1"), ("fixed", "a = 1.0"))
    }
    settings = {"draws": 20, "tune": 20, "chains": 1, "seed": 1, "progress": False}
    one, two = (hs.fit_models(models, n_jobs=n, **settings) for n in (1, 2))
    for name in models:
        np.testing.assert_array_equal(one[name].posterior["v_Intercept"], two[name].posterior["v_Intercept"])
