"""Likelihoods of any simulator: their laws against independent ones, chains, what lies beyond, compiled fits."""

import math
import warnings

import mpmath
import numpy as np
import pandas as pd
import pytest
import torch
from laws import OWN, load, untrained
from scipy import stats
from scipy.optimize import minimize

import hddm_sbi as hs
from hddm_sbi.inference.density import flatten
from hddm_sbi.likelihoods.factored.encoding import Encoding
from hddm_sbi.likelihoods.factored.laws import Categories, Counts, Mixture

#: false alarms of a test of samples.
FALSE_ALARM = 1e-5
LAWS = {
    "categories": Categories(4),
    "counts": Counts(30, 3),
    "one outcome": Mixture(1, 3),
    "two outcomes": Mixture(2, 2),
    "three outcomes": Mixture(3, 1),
}


def numbers_of(law, seed=1, n=1):
    """Numbers of a law near its start, (n, width)."""
    generator = torch.Generator().manual_seed(seed)
    start = law.start.double()
    return start + 0.5 * torch.randn(n, len(start), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", ["categories", "counts"])
def test_probabilities_sum_to_one(name):
    law = LAWS[name]
    table = law.log_table(numbers_of(law, n=20))
    torch.testing.assert_close(table.exp().sum(-1), torch.ones(20, dtype=torch.float64), rtol=0, atol=1e-12)
    position = torch.arange(float(law.size), dtype=torch.float64).unsqueeze(-1)
    row = numbers_of(law, n=1)
    torch.testing.assert_close(
        law.log_prob(row.expand(law.size, -1), position), law.log_table(row)[0], rtol=1e-12, atol=0
    )


def skewed(u, skew):
    """sinh(asinh(u / 2) + skew), twice as large and 0 at 0, and its slope: by hyperbolic functions."""
    return 2 * np.sinh(np.arcsinh(u / 2) + skew) - 2 * np.sinh(skew), np.cosh(np.arcsinh(u / 2) + skew) / np.sqrt(
        1 + (u / 2) ** 2
    )


def test_a_mixture_of_one_component_is_a_multivariate_t():
    """scipy's density, by the matrix (T' S^-2 T)^-1 of its triangular regressions; where it is skewed, of coordinates
    in which it is not."""
    law = LAWS["three outcomes"]
    numbers = numbers_of(law, seed=3)
    _, degrees, skew, mean, log_per_sd, slopes = (part[0, 0].numpy() for part in law._parts(numbers))
    regression = np.eye(3)
    regression[np.tril_indices(3, -1)] = slopes
    whiten = np.exp(log_per_sd)[:, None] * regression
    law_of_scipy = stats.multivariate_t(mean, np.linalg.inv(whiten.T @ whiten), df=float(degrees))
    # As far as 1e4 sds out.
    x = np.concatenate([law_of_scipy.rvs(20, random_state=1), mean + 1e4 * np.eye(3)])
    symmetric = torch.cat([numbers[:, :-3], torch.zeros(1, 3)], -1)
    found = law.log_prob(symmetric.expand(len(x), -1), torch.as_tensor(x))
    np.testing.assert_allclose(found, law_of_scipy.logpdf(x), rtol=1e-10)
    z, slope = skewed((x - mean) @ whiten.T, skew)
    spherical = stats.multivariate_t(np.zeros(3), np.eye(3), df=float(degrees))
    expected = spherical.logpdf(z) + np.log(slope).sum(-1) + log_per_sd.sum()
    np.testing.assert_allclose(law.log_prob(numbers.expand(len(x), -1), torch.as_tensor(x)), expected, rtol=1e-10)


#: quantiles, log density, and the largest KL divergence.
SKEWED = {
    "the logarithm of a normal law of 5 %": (
        lambda q: np.log1p(0.05 * stats.norm.ppf(q)),
        lambda x: stats.norm(1.0, 0.05).logpdf(np.exp(x)) + x,
        1e-4,
    ),
    "the logarithm of a gamma law": (stats.loggamma(4.0).ppf, stats.loggamma(4.0).logpdf, 1e-3),
    "normal and exponential": (stats.exponnorm(1.5).ppf, stats.exponnorm(1.5).logpdf, 2e-3),
}


@pytest.mark.parametrize(("quantile", "log_density", "most"), SKEWED.values(), ids=SKEWED)
def test_one_component_is_near_skewed_laws(quantile, log_density, most):
    """The best of one component has a small KL divergence, a tenth of that of the best without skewness, at most.

    By hand: 3e-5, 3.7e-4, 8.7e-4; and 1.9e-3, 1.8e-2, 4.2e-2.
    """
    x, law = quantile((np.arange(4_000) + 0.5) / 4_000), Mixture(1, 1)
    scale, known = x.std(), float(log_density(x).mean())
    at = torch.as_tensor((x - np.median(x)) / scale).unsqueeze(-1)

    def divergence(mean, width, degrees, skew):
        numbers = torch.tensor([0.0, mean, width, degrees, skew], dtype=torch.float64)
        return known - float(law.log_prob(numbers.expand(len(at), -1), at).mean()) + math.log(scale)

    options = {"maxiter": 2_000, "fatol": 1e-8}
    best = minimize(lambda x: divergence(*x), [0.0, 0.0, 3.0, 0.1], method="Nelder-Mead", options=options).fun
    symmetric = minimize(lambda x: divergence(*x, 0.0), [0.0, 0.0, 3.0], method="Nelder-Mead", options=options).fun
    assert best < most
    assert symmetric > 10 * best


def test_counts_far_out_are_right():
    """Against mpmath, in both tails, where differences of distribution functions cancel."""
    law, numbers = Counts(400, 1), torch.tensor([[0.0, 6.0, 0.4, -3.0, math.log(0.6)]], dtype=torch.float64)
    mpmath.mp.dps = 60
    per_sd = mpmath.e ** (8 * mpmath.tanh(mpmath.mpf(-0.4) / 8))
    share = 1 / (1 + mpmath.e**3)
    for count in (1, 20, 36, 100, 200, 390):
        powers = (20 * ((k - mpmath.mpf(1) / 3) / 400) ** mpmath.mpf(0.6) for k in (count, count + 1))
        low, high = ((power - 6) * per_sd for power in powers)
        mass = mpmath.ncdf(high) - mpmath.ncdf(low) if low < 0 else mpmath.ncdf(-low) - mpmath.ncdf(-high)
        expected = float(mpmath.log((1 - share) * mass))
        found = float(law.log_prob(numbers, torch.tensor([[float(count)]]).double()))
        assert found == pytest.approx(expected, rel=1e-9), count


OF_COUNTS = {
    "rare": (stats.poisson(1.0), 0.67),
    "Poisson": (stats.poisson(10.0), 0.67),
    "overdispersed": (stats.nbinom(5, 1 / 3), 0.4),
    "with a limit": (stats.binom(20, 0.5), 0.9),
}


@pytest.mark.parametrize(("law", "power"), OF_COUNTS.values(), ids=OF_COUNTS)
def test_one_component_is_near_laws_of_counts(law, power):
    """The best of one component has a KL divergence below 3e-4, at a power of the kind that the docstring says; at the
    root it is more than three times as large. By hand: 1.4e-6 to 2.3e-4 at powers of .65, .67, .46 and .99; and 1.5e-3,
    2.3e-3, 5.7e-4 and 9.4e-3 at the root."""
    counts, exact = Counts(80, 1), torch.as_tensor(law.pmf(np.arange(80))).clamp(min=1e-300)
    mean, sd = 80**0.5 * (law.mean() / 80) ** power, 0.5

    def divergence(x, of_power):
        numbers = torch.tensor([[0.0, x[0], x[1], -20.0, math.log(of_power)]], dtype=torch.float64)
        return float((exact * (exact.log() - counts.log_table(numbers)[0])).sum())

    best = minimize(lambda x: divergence(x, x[2]), [mean, math.log(sd), power], method="Nelder-Mead").fun
    root = minimize(
        lambda x: divergence(x, 0.5), [80**0.5 * (law.mean() / 80) ** 0.5, math.log(sd)], method="Nelder-Mead"
    ).fun
    assert best < 3e-4
    assert root > 3 * best


@pytest.mark.parametrize("name", LAWS)
def test_gradients_are_those_of_differences(name):
    law = LAWS[name]
    numbers = numbers_of(law, seed=2)
    x = law.sample(numbers.expand(5, -1))
    at = numbers.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(law.log_prob(at.expand(5, -1), x).sum(), at)
    for j in range(numbers.shape[1]):
        step = torch.zeros_like(numbers)
        step[0, j] = 1e-6
        up, down = (law.log_prob((numbers + s * step).expand(5, -1), x).sum() for s in (1, -1))
        assert float(gradient[0, j]) == pytest.approx(float(up - down) / 2e-6, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", ["categories", "counts"])
def test_samples_of_a_discrete_law_have_its_probabilities(name):
    """Chi-squared of 20 000 samples."""
    law, n = LAWS[name], 20_000
    numbers = numbers_of(law, seed=4)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        drawn = law.sample(numbers.expand(n, -1))[:, 0].long().numpy()
    expected = n * law.log_table(numbers)[0].exp().numpy()
    enough = expected >= 5
    observed = np.bincount(drawn, minlength=law.size)
    observed, expected = (
        np.append(observed[enough], observed[~enough].sum()),
        np.append(expected[enough], expected[~enough].sum()),
    )
    observed, expected = observed[expected > 0], expected[expected > 0]
    assert stats.chisquare(observed, expected).pvalue > FALSE_ALARM


def test_samples_of_a_mixture_have_its_density():
    """Ranks of 5 000 samples of two outcomes in the distribution function of a line, by quadrature."""
    law, n = LAWS["two outcomes"], 5_000
    numbers = numbers_of(law, seed=5)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        drawn = law.sample(numbers.expand(n, -1)).numpy()
    line = np.sinh(np.linspace(-9, 9, 801))
    grid = torch.as_tensor(np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2))
    density = law.log_prob(numbers.expand(len(grid), -1), grid).exp().reshape(801, 801).numpy()
    weight = np.gradient(line)
    joint = density * weight[:, None] * weight
    assert joint.sum() == pytest.approx(1.0, abs=2e-3)
    for axis in (0, 1):
        cumulated = joint.sum(1 - axis).cumsum() / joint.sum()
        uniform = np.interp(drawn[:, axis], line, cumulated - 0.5 * joint.sum(1 - axis) / joint.sum())
        assert stats.kstest(uniform, "uniform").pvalue > FALSE_ALARM


@hs.declare(
    parameters={"mu": (-1.0, 1.0), "w": (0.1, 0.9)},
    outcomes={"x": "real", "n": "count", "side": ("l", "r"), "y": "real"},
    vectorised=True,
)
def everything(mu, w, rng):
    """Outcomes of every kind that depend on each other."""
    side = (rng.random(len(mu)) < w).astype(int)
    n = rng.poisson(2.0 + side)
    x = mu + n + rng.standard_normal(len(mu))
    return x, n, np.array(["l", "r"])[side], x**2 + rng.standard_normal(len(mu))


SHAPES = [
    hs.EstimatorShape(hidden=8, components=2, chained=c, tabulated=t) for c in (False, True) for t in (False, True)
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"chained {shape.chained}, tabulated {shape.tabulated}")
def test_a_chain_is_the_product_of_its_laws(shape):
    """Row by row, in any order, and with rows that share theta."""
    likelihood, values, theta = untrained(shape, everything)
    x, at = torch.as_tensor(values), torch.as_tensor(theta)
    each = likelihood.log_prob_rows(x, at)
    alone = torch.cat([likelihood.log_prob_rows(x[[k]], at[[k]]) for k in range(0, 400, 40)])
    torch.testing.assert_close(each[::40], alone, rtol=1e-12, atol=1e-12)
    row = torch.as_tensor(np.random.default_rng(1).integers(0, 5, 400))
    torch.testing.assert_close(likelihood.log_prob_at(x, at[:5], row), likelihood.log_prob_rows(x, at[:5][row]))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"chained {shape.chained}, tabulated {shape.tabulated}")
def test_every_chain_is_compiled(shape):
    likelihood, values, _ = untrained(shape, everything)
    table = pd.DataFrame(everything.labels(values[:60])).assign(group=np.repeat(list("abc"), 20))
    model = hs.HierarchicalModel(["mu ~ 1 + (1|group)", "w ~ 1"], table, likelihood=likelihood)
    compiled, eager = (flatten(model.pyro_model, model.start, path) for path in ("compiled", "eager"))
    assert compiled.path == "compiled"
    at = np.random.default_rng(1).normal(size=compiled.size)
    (value, gradient), (expected, slope) = compiled(at), eager(at)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-9)


def test_intervals_of_a_mixture_are_those_of_scipy():
    """Of Student t distributions: between two ends, below one, above one, all; and gradients by differences."""
    law, numbers = LAWS["one outcome"], numbers_of(LAWS["one outcome"], seed=6)
    ends = torch.tensor(
        [[-0.5, 1.0], [-math.inf, 0.3], [2.0, math.inf], [-math.inf, math.inf], [40.0, math.inf]]
    ).double()
    low, high = ends[:, :1], ends[:, 1:]

    def mass(at):
        return law.log_mass(at.expand(len(ends), -1), low, high)

    log_weight, degrees, skew, mean, log_per_sd, _ = (part[0].numpy() for part in law._parts(numbers))
    per_sd = np.exp(log_per_sd[:, 0])
    finite = [np.clip(x.numpy(), -1e12, 1e12) for x in (low, high)]
    z = [skewed((x - mean[:, 0]) * per_sd, skew[:, 0])[0] for x in finite]
    above = stats.t(degrees).sf(z[0]) - stats.t(degrees).sf(z[1])
    np.testing.assert_allclose(mass(numbers).exp(), above @ np.exp(log_weight), rtol=1e-9)
    at = numbers.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mass(at).sum(), at)
    for j in range(numbers.shape[1] - law.n_constant):
        step = torch.zeros_like(numbers).index_fill(1, torch.tensor(j), 1e-6)
        slope = (mass(numbers + step) - mass(numbers - step)).sum() / 2e-6
        assert gradient[0, j].item() == pytest.approx(float(slope), rel=1e-6, abs=1e-7)


def heavy_tailed():
    """The likelihood of one's own with half a degree of freedom in one component."""
    likelihood = load(*OWN)
    with torch.no_grad():
        *_, of_time = likelihood.network.factors
        of_time.constant.copy_(torch.tensor([-8.0, 1.0, 5.0, 0.0, 0.5, -0.5]))
    return likelihood


def test_all_that_may_happen_has_probability_one_under_heavy_tails():
    """Responses before times from next to the onset to 1e6 s, and what is later: 1 to 1e-12; and each of them rises or
    falls with time, between 0 and 1."""
    likelihood = heavy_tailed()
    theta = dict(zip(likelihood.simulator.names, [0.2, -0.3, 0.4, 0.25], strict=True))
    rt = np.concatenate([[0.0, 0.25], 0.25 + np.geomspace(1e-6, 1e6, 60), [np.inf]])
    cdf = np.stack([likelihood.cdf(rt, np.full(len(rt), c), theta).numpy() for c in range(3)])
    survival = likelihood.survival(rt, theta).numpy()
    np.testing.assert_allclose(cdf.sum(0) + survival, 1.0, rtol=0, atol=1e-12)
    assert (np.diff(cdf, axis=1) >= 0.0).all()
    assert (np.diff(survival) <= 0.0).all()
    assert cdf.min() == 0.0
    assert survival[-1] == 0.0
    assert survival[-2] > 1e-3
    assert len(likelihood.cdf([], [], theta)) == len(likelihood.survival([], theta)) == 0


def test_omissions_of_a_simulator_of_ones_own_are_compiled():
    """The mixture's distribution function after a deadline; lapses as well."""

    @hs.declare({"m": (-1.0, 1.0), "t0": (0.1, 0.4)}, {"rt": "positive", "response": (-1, 1)}, vectorised=True)
    def race(m, t0, rng):
        first, second = (np.exp(sign * m - 0.7 + 0.4 * rng.normal(size=len(m))) for sign in (-1.0, 1.0))
        return t0 + np.minimum(first, second), np.where(first < second, 1, -1)

    likelihood, values, _ = untrained(SHAPES[0], race)
    late = values[:60, 0] > 0.8
    table = pd.DataFrame(race.labels(values[:60])).mask(np.stack([late, late], -1))
    table = table.assign(group=np.repeat(list("abc"), 20))
    model = hs.HierarchicalModel("m ~ 1 + (1|group)", table, likelihood=likelihood, deadline=0.8)
    assert model.trials.observation is not None
    compiled, eager = (flatten(model.pyro_model, model.start, path) for path in ("compiled", "eager"))
    assert compiled.path == "compiled"
    at = np.random.default_rng(1).normal(scale=0.3, size=compiled.size)
    (value, gradient), (expected, slope) = compiled(at), eager(at)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-9)


def test_outcomes_beyond_the_simulations_are_warned_of():
    likelihood, values, _ = untrained(SHAPES[0], everything)
    values = values[:20].copy()
    values[[3, 7], 0] = 1e3
    with pytest.warns(hs.TableWarning, match=r"'x' is 1000 in rows 3, 7 \(0 = first\), beyond all that was simulated"):
        likelihood.check_outcomes(values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        likelihood.check_outcomes(values[:3])
        # A time that is known to be late is no time.
        likelihood.check_outcomes(np.where(values > 100.0, np.inf, values))


def test_heavy_tails_do_not_blow_up_the_scale():
    theta = np.zeros((10_000, 1))
    heavy = hs.declare({"mu": (-1.0, 1.0)}, {"x": "real"}, vectorised=True)(
        lambda mu, rng: mu + rng.standard_cauchy(len(mu))
    )
    encoding = Encoding.of(heavy, heavy.simulate_outcomes(theta, 1).values, theta)
    # Quartiles of the Cauchy distribution are at -1 and 1.
    assert encoding.spread[0] == pytest.approx(2 / 1.349, rel=0.1)


def test_outcomes_on_a_device_are_not_fetched_from_it():
    """As a fit on a GPU has them: torch's device without memory refuses operands and results on the CPU."""
    for shape in SHAPES:
        likelihood, values, _ = untrained(shape, everything)
        n, network = len(values), likelihood.network.float().requires_grad_(True).to("meta")
        parts = [torch.zeros(n, width, device="meta") for width in (2, 2, likelihood.encoding.width)]
        loss = network.log_prob(*parts).sum()
        loss.backward()
        assert loss.device.type == "meta"


@pytest.mark.parametrize("kind", ["category", "counts"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.usefixtures("few_steps")
def test_small_networks_are_read_again(kind, depth, tmp_path):
    """The smallest number of weights that a card may promise is not more than there are."""
    outcomes = {"category": {"side": ("l", "r")}, "counts": {"n": "count"}}[kind]

    def simulate(w, rng):
        return (rng.random(len(w)) < w).astype(int) if kind == "counts" else np.where(rng.random(len(w)) < w, "r", "l")

    simulator = hs.declare({"w": (-0.5, 0.9)}, outcomes, vectorised=True)(simulate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.TrainingWarning)
        learned = hs.train_likelihood(
            simulator, n_simulations=800, shape=hs.EstimatorShape(depth=depth, hidden=16), progress=False
        )
    learned.save(tmp_path / "small.safetensors")
    assert repr(hs.load_likelihood(tmp_path / "small.safetensors")) == repr(learned)
