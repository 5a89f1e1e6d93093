"""Distribution functions, quantiles and samples of every likelihood agree with its density."""

import itertools

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import hddm_sbi as hs
from hddm_sbi.catalogue import load_simulator, names, weights_of
from hddm_sbi.errors import InputError

KINDS = [(name, kind) for name in names() for kind in ("exact", "neural")]
KINDS = [
    (name, kind)
    for name, kind in KINDS
    if (weights_of(name) if kind == "neural" else load_simulator(name).log_density) is not None
]
#: of every chi-square test.
TEST_FAILURE_RATE = 1e-6


@pytest.fixture(scope="module", params=KINDS, ids=[" ".join(each) for each in KINDS])
def likelihood(request):
    name, kind = request.param
    return hs.load_likelihood(name, kind=kind)


def inner_theta(likelihood, n, seed):
    """n parameter sets in the inner 80 % of the model's box, by name."""
    rng = np.random.default_rng(seed)
    return {
        p.name: rng.choice([p.low, p.high], n) if p.given else rng.uniform(*np.quantile([p.low, p.high], [0.1, 0.9]), n)
        for p in likelihood.simulator.parameters
    }


def test_cdf_is_the_integral_of_the_density(likelihood):
    """Against scipy's adaptive quadrature, to its own tolerance of 1e-9."""
    theta = inner_theta(likelihood, 4, 1)
    for row in range(4):
        one = {name: float(values[row]) for name, values in theta.items()}
        start = one.get(str(likelihood.simulator.symmetries.shift), 0.0)
        for code in likelihood.simulator.choices:

            def density(t, one=one, code=code):
                return float(likelihood.log_prob([t], [code], one).exp()[0])

            ends = [start + end for end in (0.0, 0.1, 0.5, 1.5)]
            expected = sum(
                integrate.quad(density, a, b, epsabs=1e-10, limit=200)[0] for a, b in itertools.pairwise(ends)
            )
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
    theta = inner_theta(likelihood, 10, 3)
    share = np.linspace(0.05, 0.95, 10)
    for code in likelihood.simulator.choices:
        codes = np.full(10, code)
        t = likelihood.quantile(share, codes, theta)
        of_choice = likelihood.choice_probabilities(theta).numpy()[:, likelihood.simulator.choices.index(code)]
        # Bisection of log decision time in [-14, 30] 60 times; rt - t0 loses digits where it is small.
        np.testing.assert_allclose(likelihood.cdf(t, codes, theta), share * of_choice, rtol=1e-6, atol=1e-13)
    with pytest.raises(InputError, match="share"):
        likelihood.quantile([0.0], [likelihood.simulator.choices[0]], {k: v[:1] for k, v in theta.items()})


def test_samples_follow_the_cdf(likelihood):
    """100 000 trials of 2 parameter sets in up to 20 bins per choice, with edges from another sample; chi-square."""
    n = 100_000
    theta = inner_theta(likelihood, 2, 4)
    for row in range(2):
        one = {name: float(values[row]) for name, values in theta.items()}
        pilot, trials = (likelihood.sample(one, n, seed=2 * row + k) for k in range(2))
        expected, observed = [], []
        for code in likelihood.simulator.choices:
            first, rt = (table["rt"].to_numpy()[table["response"] == code] for table in (pilot, trials))
            bins = int(np.clip(len(first) / 50, 1, 20))
            inner = np.quantile(first, np.arange(1, bins) / bins) if bins > 1 else np.empty(0)
            edges = np.concatenate([[0.0], inner, [np.inf]])
            mass = likelihood.cdf(edges, np.full(len(edges), code), one).numpy()
            expected += (n * np.diff(mass)).tolist()
            observed += np.histogram(rt, edges)[0].tolist()
        expected, observed = np.array(expected), np.array(observed)
        large = expected > 5
        chi_square = ((observed - expected)[large] ** 2 / expected[large]).sum()
        assert chi_square < stats.chi2.isf(TEST_FAILURE_RATE, large.sum())


def test_same_seed_same_sample(likelihood):
    theta = inner_theta(likelihood, 50, 5)
    assert likelihood.sample(theta, seed=1).equals(likelihood.sample(theta, seed=1))
    assert not likelihood.sample(theta, seed=1).equals(likelihood.sample(theta, seed=2))


@pytest.mark.parametrize("quantity", ["survival", "choice_probabilities"])
def test_gradients_by_theta(likelihood, quantity):
    theta = inner_theta(likelihood, 3, 6)
    name = likelihood.simulator.names[0]
    step = 1e-5

    def value(at):
        at = {**theta, name: at}
        return (
            likelihood.survival(np.full(3, 1.5), at)
            if quantity == "survival"
            else likelihood.choice_probabilities(at)[:, 0]
        )

    at = torch.tensor(theta[name], requires_grad=True)
    (gradient,) = torch.autograd.grad(value(at).sum(), at)
    difference = value(theta[name] + step) - value(theta[name] - step)
    np.testing.assert_allclose(gradient, difference / (2 * step), rtol=1e-5, atol=1e-8)
