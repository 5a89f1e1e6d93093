"""A network is a density by construction: laws that hold for any weights, trained or not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.catalogue import load_likelihood, load_simulator
from hddm_sbi.likelihoods.decision import outcome_rows
from hddm_sbi.likelihoods.mixture import Architecture, Mixture, MixtureLikelihood, MixtureNetwork, Reduction
from hddm_sbi.simulation import Symmetries, rt_and_response

DDM = load_simulator("ddm")
#: arithmetic done in another order differs in the last digits only: log densities here are of order 1 to 100.
ROUNDING = 1e-11


def untrained(seed=3):
    """Weights large enough that every output varies over the box, so no law holds by accident of a flat network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MixtureNetwork(Reduction(DDM), Architecture())
        for layers in (network.density, network.score):
            torch.nn.init.normal_(layers[-1].weight, std=0.05)
    return MixtureLikelihood(DDM, network, DDM.box)


@pytest.fixture(scope="module", params=["pretrained", "untrained"])
def likelihood(request):
    return load_likelihood("ddm") if request.param == "pretrained" else untrained()


def dyadic(low, high, n, seed, step=2**-12):
    """Uniform multiples of a power of two: sums and differences of them are exact in float64."""
    return (
        step * torch.as_tensor(np.random.default_rng(seed).integers(int(low / step) + 1, int(high / step), n)).double()
    )


def trials(n, seed, a_high=2.5):
    """(rt, choice, theta) with theta in the box and rt above t0, all multiples of 2^-12."""
    theta = [
        dyadic(-5, 5, n, seed),
        dyadic(0.3, a_high, n, seed + 1),
        dyadic(0.1, 0.9, n, seed + 2),
        dyadic(0, 1, n, seed + 3),
    ]
    rt = theta[3] + dyadic(0.01, 4, n, seed + 4)
    return rt, torch.arange(n) % 2, torch.stack(theta, -1)


def test_mass_over_choices_and_times_is_one(likelihood):
    # Trapezoids of 0.02 in log decision time: the error for a normal of sd 0.1 is 1e-200.
    y = torch.linspace(-16.0, 12.0, 1_401, dtype=torch.float64)
    box = np.array(list(likelihood.box.values()))
    inside = torch.as_tensor(np.random.default_rng(11).uniform(*box.T, (40, 4)))
    corners = torch.cartesian_prod(*(torch.tensor(limits, dtype=torch.float64) for limits in box))
    theta = torch.cat([inside, corners])
    assert float(likelihood.network.mixture(theta).log_sd.exp().min()) > 0.1
    each = theta.repeat_interleave(len(y), 0)
    times = y.repeat(len(theta))
    density = sum(
        torch.exp(
            likelihood.log_prob_rows(
                outcome_rows(each[:, 3] + torch.exp(times), torch.full((len(each),), choice)), each
            )
        )
        for choice in (0, 1)
    )
    mass = torch.trapezoid((density * torch.exp(times)).reshape(-1, len(y)), y)
    # rt - t0 loses digits where decision times are small beside t0: at 1e-4 s and t0 = 2 s, the thirteenth.
    torch.testing.assert_close(mass, torch.ones(len(theta), dtype=torch.float64), rtol=0, atol=1e-11)


def test_non_decision_time_is_a_pure_shift(likelihood):
    rt, choice, theta = trials(500, 20)
    later = theta + torch.tensor([0.0, 0.0, 0.0, 0.75], dtype=torch.float64)
    assert torch.equal(
        likelihood.log_prob_rows(outcome_rows(rt, choice), theta),
        likelihood.log_prob_rows(outcome_rows(rt + 0.75, choice), later),
    )


def test_doubling_the_bound_stretches_time_fourfold(likelihood):
    rt, choice, theta = trials(500, 30, a_high=1.25)
    v, a, z, t0 = theta.unbind(-1)
    wide = torch.stack([v / 2, 2 * a, z, t0], -1)
    at_one = likelihood.log_prob_rows(outcome_rows(rt, choice), theta)
    at_two = likelihood.log_prob_rows(outcome_rows(t0 + 4 * (rt - t0), choice), wide)
    torch.testing.assert_close(at_two, at_one - np.log(4.0), rtol=0, atol=ROUNDING)


def test_choices_mirror_when_drift_and_bias_do(likelihood):
    rt, choice, theta = trials(500, 40)
    v, a, z, t0 = theta.unbind(-1)
    mirrored = torch.stack([-v, a, 1 - z, t0], -1)
    torch.testing.assert_close(
        likelihood.log_prob_rows(outcome_rows(rt, 1 - choice), mirrored),
        likelihood.log_prob_rows(outcome_rows(rt, choice), theta),
        rtol=0,
        atol=ROUNDING,
    )


def test_sign_of_the_drift_does_not_matter_once_the_choice_is_known(likelihood):
    rt, choice, theta = trials(500, 50)
    reversed_ = theta * torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64)

    def given_choice(at):
        mixture = likelihood.network.mixture(at)
        share = torch.logsumexp(mixture.log_weight, -1)[torch.arange(len(rt)), choice]
        return likelihood.log_prob_rows(outcome_rows(rt, choice), at) - share

    torch.testing.assert_close(given_choice(theta), given_choice(reversed_), rtol=0, atol=ROUNDING)


def test_trained_network_is_not_symmetric_by_accident():
    rt, choice, theta = trials(500, 60)
    pretrained = load_likelihood("ddm")
    at, mirrored = (pretrained.log_prob_rows(outcome_rows(rt, c), theta) for c in (choice, 1 - choice))
    assert float((at - mirrored).abs().median()) > 0.5


def test_mixture_agrees_with_scipy():
    rng = np.random.default_rng(5)
    log_weight, mean, log_sd = rng.normal(size=(3, 200, 8))
    y = rng.normal(0, 3, 200)
    expected = logsumexp(log_weight + norm.logpdf(y[:, None], mean, np.exp(log_sd)), axis=1)
    found = Mixture(*map(torch.as_tensor, (log_weight, mean, log_sd))).log_prob(torch.as_tensor(y))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_reduction_leaves_drift_and_bias_of_the_unit_bound():
    reduction = Reduction(DDM)
    theta = torch.tensor([[1.5, 2.0, 0.3, 0.25]], dtype=torch.float64)
    assert reduction.names == ["v", "z"]
    assert reduction.reduce(theta).tolist() == [[3.0, 0.3]]
    assert reduction.shift(theta).tolist() == [0.25]
    assert float(reduction.log_time_scale(theta)) == pytest.approx(np.log(4.0), rel=1e-15)
    assert reduction.by_choice(torch.tensor([[3.0, 0.25]])).tolist() == [[[3.0, 0.25], [-3.0, 0.75]]]


def test_gradient_is_finite_at_every_corner_of_the_box(likelihood):
    corners = torch.cartesian_prod(*(torch.tensor(limits, dtype=torch.float64) for limits in likelihood.box.values()))
    theta = corners.repeat_interleave(4, 0).requires_grad_()
    decision = torch.tensor([1e-6, 0.01, 1.0, 60.0], dtype=torch.float64).repeat(len(corners))
    for choice in (0, 1):
        log_p = likelihood.log_prob_rows(
            outcome_rows(theta[:, 3].detach() + decision, torch.full((len(theta),), choice)), theta
        )
        (gradient,) = torch.autograd.grad(log_p.sum(), theta)
        assert torch.isfinite(log_p).all()
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"outcomes": rt_and_response(0, 1, 2)}, "two choices"),
        ({"symmetries": Symmetries(shift="t0", scale="a")}, "mirror"),
    ],
)
def test_model_without_a_mirror_image_is_refused(changes, said):
    with pytest.raises(InputError, match=f"'ddm' cannot be reduced.*{said}"):
        Reduction(dataclasses.replace(DDM, **changes))
