"""Distribution functions, quantiles and samples of every likelihood agree with its density."""

import itertools

import numpy as np
import pytest
import torch
from laws import FALSE_ALARM, LIKELIHOODS, OWN, by_name, chi_square_p, edges_of, load, random_thetas
from scipy import integrate

from hddm_sbi.errors import InputError

EVERY = [*LIKELIHOODS, OWN]


@pytest.fixture(scope="module", params=EVERY, ids=[" ".join(each) for each in EVERY])
def likelihood(request):
    return load(*request.param)


def inner_theta(likelihood, n, seed):
    """n parameter sets in the inner 80 % of the model's box, by name."""
    return by_name(likelihood.simulator, random_thetas(likelihood.simulator, n, seed, margin=0.1))


def test_cdf_is_the_integral_of_the_density(likelihood):
    """Against scipy's adaptive quadrature, to its own tolerance of 1e-9."""
    theta = inner_theta(likelihood, 4, 1)
    for row in range(4):
        one = {name: float(values[row]) for name, values in theta.items()}
        start = one.get(str(likelihood.simulator.symmetries.shift), 0.0)
        for code in likelihood.simulator.choices:

            def density(t, one=one, code=code):
                return likelihood.log_prob(t[:, 0], np.full(len(t), code), one).exp().numpy()

            ends = [start + end for end in (0.0, 0.1, 0.5, 1.5)]
            parts = [integrate.cubature(density, [a], [b], atol=3e-10) for a, b in itertools.pairwise(ends)]
            assert all(part.status == "converged" for part in parts)
            expected = float(sum(part.estimate for part in parts))
            assert float(likelihood.cdf([ends[-1]], [code], one)[0]) == pytest.approx(expected, abs=1e-8)


def test_survival_and_choices_share_all_trials(likelihood):
    theta = inner_theta(likelihood, 20, 2)
    t = np.linspace(0.2, 4.0, 20)
    codes = likelihood.simulator.choices
    done = sum(likelihood.cdf(t, np.full(20, code), theta) for code in codes)
    np.testing.assert_allclose(done + likelihood.survival(t, theta), 1.0, rtol=0, atol=1e-9)
    np.testing.assert_allclose(likelihood.choice_probabilities(theta).sum(-1), 1.0, rtol=0, atol=1e-9)
    early = likelihood.survival(np.full(20, 1e-9), theta)
    np.testing.assert_allclose(early, 1.0, rtol=0, atol=1e-9)


def test_quantile_inverts_the_cdf(likelihood):
    theta, choices = inner_theta(likelihood, 4, 3), np.array(likelihood.simulator.choices)
    of_choice = likelihood.choice_probabilities(theta).numpy().reshape(-1)
    # Every choice at every theta, in one call.
    theta = {name: np.repeat(values, len(choices)) for name, values in theta.items()}
    codes, probability = np.tile(choices, 4), np.repeat([0.05, 0.3, 0.7, 0.95], len(choices))
    t = likelihood.quantile(probability, codes, theta)
    # rt - t0 loses digits where it is small.
    np.testing.assert_allclose(likelihood.cdf(t, codes, theta), probability * of_choice, rtol=1e-6, atol=1e-13)
    with pytest.raises(InputError, match="probability"):
        likelihood.quantile([0.0], [likelihood.simulator.choices[0]], {k: v[:1] for k, v in theta.items()})


@pytest.mark.parametrize(("name", "kind"), [each for each in EVERY if each[1] != "exact"])
def test_samples_follow_the_cdf(name, kind):
    """100 000 trials of 2 parameter sets against the likelihood they come from. (A closed form has its samples from the
    simulator, which is tested with the laws.)"""
    likelihood = load(name, kind)
    choices = likelihood.simulator.choices
    for seed, row in enumerate(random_thetas(likelihood.simulator, 2, 4, margin=0.1)):
        at = torch.tensor(row)
        # The edges of bins need few trials.
        pilot, trials = (likelihood.sample_rows(at.expand(n, -1), 2 * seed + (n > 5_000)) for n in (5_000, 100_000))

        def cdf(choice, t, row=row):
            codes = np.full(len(t), choices[choice])
            return likelihood.cdf(t, codes, by_name(likelihood.simulator, row)).numpy()

        assert chi_square_p(*trials.T, edges_of(*pilot.T, len(choices)), cdf) > FALSE_ALARM


def test_same_seed_same_sample(likelihood):
    theta = inner_theta(likelihood, 50, 5)
    assert likelihood.sample(theta, seed=1).equals(likelihood.sample(theta, seed=1))
    assert not likelihood.sample(theta, seed=1).equals(likelihood.sample(theta, seed=2))


@pytest.mark.parametrize("quantity", ["survival", "choice_probabilities"])
def test_gradients_by_theta(likelihood, quantity):
    """Central differences by every parameter."""
    theta = inner_theta(likelihood, 3, 6)
    step, free = 1e-5, [p.name for p in likelihood.simulator.parameters if not p.from_data]

    def values(theta):
        if quantity == "survival":
            return likelihood.survival(np.full(3, 1.5), theta)
        return likelihood.choice_probabilities(theta)[:, 0]

    at = [torch.tensor(theta[name], requires_grad=True) for name in free]
    gradients = torch.autograd.grad(values({**theta, **dict(zip(free, at, strict=True))}).sum(), at)
    for name, gradient in zip(free, gradients, strict=True):
        above, below = (values({**theta, name: theta[name] + by}) for by in (step, -step))
        np.testing.assert_allclose(gradient, (above - below) / (2 * step), rtol=1e-5, atol=1e-8, err_msg=name)
