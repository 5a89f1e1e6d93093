"""What users give: priors on some scale, habits of other tools, absurd types. Bad input is an InputError."""

import warnings

import arviz as az
import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, stats
from scipy.special import expit

import hddm_sbi as hs
from hddm_sbi.hierarchy.priors.choice import PriorRecord
from hddm_sbi.hierarchy.priors.natural import NaturalPrior

N = 240


@pytest.fixture(scope="module")
def data():
    table = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, N, seed=1)
    return table.assign(subject=np.repeat(range(4), 60), side=np.tile(["a", "b", "c"], 80))


def model(data, formulas="v ~ side + (1|subject)", **options):
    return hs.HierarchicalModel(formulas, data, **{"likelihood": "exact", **options})


@pytest.mark.parametrize(
    ("priors", "expected"),
    [
        ({"t0_Intercept": dist.Uniform(0.0, 1.0)}, r"the log scale of t0; .* \[0, 1\] only, that is t0 in \[1, 2.71"),
        ({"a_Intercept": dist.Gamma(2.0, 2.0)}, r"write priors=\{'a_Intercept': hs.natural\(...\)\}; on"),
        ({"z_Intercept": dist.Uniform(0.3, 0.7)}, r"on the logit scale of z; .* that is z in \[0.5744, 0.6682\]"),
        ({"z_Intercept": dist.Beta(2.0, 2.0)}, r"on the logit scale of z; .* that is z in \[0.5, 0.7311\]"),
        ({"v_1|subject_sigma": dist.Normal(0.0, 1.0)}, r"a number in \[0, inf\], for instance HalfNormal\(1.\)"),
        ({"z": dist.Normal(0.5, 0.1)}, r"z itself, which lies between 0 and 1; .*Beta\(2., 2.\)"),
        ({"t0": dist.Normal(0.3, 0.1)}, "t0 itself, which lies between 0 and inf; .*LogNormal or Gamma"),
        ({"t0": dist.Gamma(2.0, 9.0), "t0_Intercept": dist.Normal(0.0, 1.0)}, "'t0_Intercept' twice"),
        ({"v_Intercept": dist.Delta(torch.tensor(1.0))}, "must have a density; .*hold a parameter at a number"),
        ({"v_Intercept": dist.Poisson(3.0)}, "must have a density"),
        ({"v_Intercept": dist.Normal(torch.zeros(3), 1.0)}, r"that of one number; got .* of shape \(3,\)"),
        ({"v_side": dist.Normal(torch.zeros(3), 1.0)}, r"that of one number, or of 2, one by one; .* shape \(3,\)"),
        ({"v_side": dist.MultivariateNormal(torch.zeros(2), torch.eye(2))}, "that of one number, or of 2, one by one"),
        ({"v_Intercept": dist.Normal}, "must be a Pyro distribution"),
        ({"v_Intercept": 0.5}, "must be a Pyro distribution"),
        ({1: dist.Normal(0.0, 1.0)}, "names 1, which is not a coefficient"),
        (5, "priors must be None, the name of a prior set, or a dict"),
    ],
)  # fmt: skip
def test_priors_that_are_refused(data, priors, expected):
    with pytest.raises(hs.InputError, match=expected):
        model(data, priors=priors)


@pytest.mark.parametrize(
    "priors",
    [
        {"v_Intercept": dist.Uniform(-3.0, 3.0)},
        {"v_side": dist.Normal(torch.zeros(2), torch.tensor([1.0, 2.0]))},
        {"v_side": dist.HalfNormal(1.0)},
        {"v_1|subject_sigma": dist.Uniform(0.0, 1.0)},
        {"v": dist.Normal(0.0, 1.0)},
        {"z_Intercept": dist.Uniform(-1.0, 1.0)},
        {"t0_Intercept": dist.Uniform(-3.0, 0.0)},
        {"a_Intercept": dist.Uniform(-1.0, 1.0)},
        {"v_Intercept": dist.Normal(0, 1)},
        {"v_Intercept": dist.TransformedDistribution(dist.Normal(0.0, 1.0), [dist.transforms.AffineTransform(1.0, 2)])},
    ],
)  # fmt: skip
def test_priors_that_are_taken_have_a_finite_density_where_sampling_starts(data, priors):
    density = model(data, priors=priors).density
    value, gradient = density(density.start)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("priors", "expected"),
    [
        ({"a_Intercept": dist.Uniform(-9.0, -7.0)}, r"'a_Intercept'\] allows a in \[0.0001234, 0.0009119\] only, and"),
        ({"t0": dist.Uniform(100.0, 200.0)}, r"'t0'\] allows t0 in \[100, 200\] only, and the likelihood knows t0 in"),
        ({"z_Intercept": dist.Uniform(-9.0, -7.0)}, r"only, and the likelihood knows z in \[0.1, 0.9\]; give a prior"),
        ({"v_Intercept": dist.Uniform(50.0, 60.0)}, r"allows v in \[50, 60\] only, and the likelihood knows v in"),
    ],
)  # fmt: skip
def test_a_prior_outside_the_box_of_a_learned_likelihood_is_refused(data, priors, expected):
    with pytest.raises(hs.InputError, match=expected):
        model(data, likelihood="neural", priors=priors)


@pytest.mark.parametrize(
    ("formulas", "low", "high"),
    [
        ({"v": 1.0, "a": 1.0, "t0": 0.3}, -0.4, 0.02),  # z, which the data put at the upper end
        ({"v": 1.0, "a": 1.0, "z": 0.5}, -1.25, 0.0),  # t0 likewise at the lower end
    ],
)
@pytest.mark.filterwarnings("ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning")
def test_a_bounded_prior_on_the_scale_of_a_link(data, formulas, low, high):
    """Mean and sd of the posterior against a sum over 2 000 points of likelihood x uniform prior, 5 standard errors."""
    (name,) = {"z", "t0"} - set(formulas)
    link, site = {"z": expit, "t0": np.exp}[name], f"{name}_Intercept"
    posterior = model(data, formulas, priors={site: dist.Uniform(low, high)}, lapse=0.0).fit(
        draws=1000, tune=500, chains=2, seed=1, progress=False
    )
    eta = low + (high - low) * (np.arange(2_000) + 0.5) / 2_000
    exact, n = hs.load_likelihood("ddm", "exact"), len(data)
    theta = {**formulas, name: np.repeat(link(eta), n)}
    log_p = exact.log_prob(np.tile(data["rt"], 2_000), np.tile(data["response"], 2_000), theta)
    log_p = log_p.numpy().reshape(2_000, n).sum(1)
    weight = np.exp(log_p - log_p.max())
    mean = weight @ eta / weight.sum()
    sd = np.sqrt(weight @ (eta - mean) ** 2 / weight.sum())
    draws = posterior["posterior"][site]
    assert low < draws.min() < draws.max() < high
    error = sd / np.sqrt(float(az.ess(posterior, var_names=[site])[site]))
    assert abs(float(draws.mean()) - mean) < 5 * error
    assert abs(float(draws.std()) - sd) < 5 * error


@pytest.mark.parametrize(
    ("base", "link", "reference"),
    [
        (dist.Uniform(0.1, 0.5), "log", stats.uniform(0.1, 0.4)),
        (dist.Gamma(4.0, 10.0), "log", stats.gamma(4.0, scale=0.1)),
        (dist.Beta(2.0, 3.0), "logit", stats.beta(2.0, 3.0)),
    ],
)
def test_a_natural_prior_has_mass_one_and_the_law_of_its_base(base, link, reference):
    """Mass by quadrature; 10 000 draws by Kolmogorov and Smirnov, false alarms 1e-6."""
    prior, inverse = NaturalPrior(base, link), np.exp if link == "log" else lambda x: 1 / (1 + np.exp(-x))
    ends = np.array([1e-12, 1 - 1e-12]) if link == "logit" else np.array(reference.ppf([1e-15, 1 - 1e-15]))
    low, high = np.log(ends / (1 - ends)) if link == "logit" else np.log(ends)
    mass = integrate.quad(lambda eta: float(prior.log_prob(torch.tensor(eta)).exp()), low + 1e-9, high - 1e-9)[0]
    assert abs(mass - 1) < 1e-6
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        draws = prior.sample((10_000,)).numpy()
    assert stats.kstest(inverse(draws), reference.cdf).pvalue > 1e-6
    again = PriorRecord.of(prior).build()
    assert isinstance(again, NaturalPrior)
    assert torch.allclose(again.log_prob(torch.tensor(-0.9)), prior.log_prob(torch.tensor(-0.9)).double())


def test_a_prior_in_seconds_survives_its_file(data, tmp_path):
    built = model(data, "v ~ 1", priors={"t0": dist.Uniform(0.1, 0.5)})
    assert built.prior_table.loc["t0_Intercept", "prior"] == "Uniform(low=0.1, high=0.5) on the natural scale"
    assert built.density.path == "compiled"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)  # a few draws, for the shape and the range
        posterior = built.fit(draws=100, tune=200, chains=2, seed=1, progress=False)
    t0 = np.exp(posterior["posterior"]["t0_Intercept"])
    assert 0.1 < t0.min() < t0.max() < 0.5
    posterior.to_netcdf(str(tmp_path / "fit.nc"))
    assert hs.load_model(tmp_path / "fit.nc").prior_records == built.prior_records


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("adapt_delta", "write target_accept="),
        ("cores", "a thread of its own"),
        ("burn", "write tune="),
        ("random_seed", "write seed="),
        ("drws", "did you mean 'draws'?"),
    ],
)
def test_habits_of_other_tools(data, argument, expected):
    with pytest.raises(hs.InputError, match=f"takes no argument {argument!r}.*") as caught:
        model(data, "v ~ 1").fit(**{argument: 1})
    assert expected in str(caught.value)


@pytest.mark.parametrize("value", [0.0, 1.0, 1, -0.5, np.nan, "0.9", True, [0.9]])
def test_target_accept(data, value):
    with pytest.raises(hs.InputError, match=r"target_accept must be a number between 0 and 1, as 0\.95; got"):
        model(data, "v ~ 1").fit(target_accept=value)


def test_an_approximation_takes_no_steps(data):
    with pytest.raises(hs.InputError, match="leave out target_accept="):
        model(data, "v ~ 1").fit(method="svi", target_accept=0.9)


@pytest.mark.filterwarnings("ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning")
def test_a_target_nearer_to_1_takes_smaller_steps_and_is_recorded(data):
    drawn = [model(data, "v ~ 1").fit(50, 200, 1, 1, target_accept=t, progress=False) for t in (None, 0.8, 0.99)]
    first, same, careful = (float(each["sample_stats"]["step_size"].mean()) for each in drawn)
    assert first == same > careful
    assert ["target_accept" in each["posterior"].attrs for each in drawn] == [False, True, True]


@pytest.mark.filterwarnings("ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning")
def test_numbers_and_truth_values_of_numpy(data):
    numbers = {"draws": np.int64(9), "tune": np.int32(9), "chains": np.uint8(2), "seed": np.int64(1)}
    posterior = model(data, "v ~ 1").fit(**numbers, progress=np.False_, log_likelihood=np.True_, quick=np.False_)
    assert posterior["posterior"].sizes == {"chain": 2, "draw": 9}
    assert "log_likelihood" in posterior


@pytest.mark.parametrize("value", [None, np.inf, np.nan, -1, 0, True, "10", [10]])
def test_seconds_of_lapses(data, value):
    with pytest.raises(hs.InputError, match="lapse_seconds must be a positive number of seconds"):
        model(data, "v ~ 1", lapse_seconds=value)


@pytest.mark.parametrize(
    "options",
    [
        {"simulator": 3}, {"simulator": []}, {"simulator": hs.HierarchicalModel}, {"likelihood": 3},
        {"likelihood": None}, {"likelihood": []}, {"rt": []}, {"rt": None}, {"response": {}}, {"upper": []},
        {"centered": None},
        {"centered": {"v": 1}}, {"lapse": []}, {"lapse": "a"}, {"lapse": 1.0}, {"lapse": np.nan},
        {"lapse": dist.Normal(0.0, 1.0)},
    ],
)  # fmt: skip
def test_absurd_arguments(data, options):
    with pytest.raises(hs.InputError):
        model(data, "v ~ 1", **options)


@pytest.mark.parametrize("lapse", [np.float32(0.1), np.float64(0.1), 0])
def test_numbers_of_numpy_are_numbers(data, lapse):
    assert model(data, "v ~ 1", lapse=lapse, lapse_seconds=np.int64(5)).lapse == pytest.approx(lapse)


@pytest.mark.parametrize("seed", [-1, 1.5, "a", 2**63])
def test_a_seed_is_a_number_that_a_file_can_hold(data, seed):
    """`fit`, and what calls it: tests/hierarchy/test_model.py."""
    for call in (
        lambda: hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 5, seed=seed),
        lambda: hs.simulate_experiment(2, 5, seed=seed),
        lambda: hs.sample(hs.HierarchicalModel("v ~ 1", data, likelihood="exact").density, seed=seed),
    ):
        with pytest.raises(hs.InputError, match="seed must be"):
            call()


def test_a_column_may_be_called_intercept(data):
    built = model(data.assign(Intercept=np.linspace(-1, 1, N)), "v ~ Intercept")
    assert list(built.prior_table.index[:2]) == ["v_Intercept", "v_Intercept_"]


@pytest.mark.parametrize("kind", ["exact", "neural"])
def test_torch_draws_the_same_after_loading_and_building(data, kind):
    def draw(between):
        torch.manual_seed(0)
        between()
        return torch.rand(3)

    expected = draw(lambda: None)
    assert torch.equal(draw(lambda: hs.load_likelihood("ddm", kind)), expected)
    assert torch.equal(draw(lambda: model(data, likelihood=kind)), expected)
    assert torch.equal(draw(lambda: model(data, likelihood=kind).density), expected)


def test_a_covariate_of_objects_is_a_number(data):
    built = model(data.assign(age=pd.Series(np.linspace(20, 60, N), dtype=object)), "v ~ age")
    assert "v_age" in built.prior_table.index
    assert built.trials.levels == {}
