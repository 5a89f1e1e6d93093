"""sbi trains our network; any sbi estimator is a Pyro distribution, equal to sbi's own wrapper and evaluated once."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch.distributions import constraints

from hddm_sbi.errors import InputError
from hddm_sbi.inference.density import flatten
from hddm_sbi.likelihoods.sbi.compatibility import SilentTracker, validation_kept
from hddm_sbi.likelihoods.sbi.pyro import SBIToPyro

# sbi and what it imports warn about their own future; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")

TUTORIAL = Path(__file__).resolve().parent.parent.parent / "tutorials" / "02_cookie_factory.py"


def test_sbi_leaves_validation_on_and_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    before = torch.distributions.Distribution._validate_args
    with validation_kept():
        from sbi.inference import NLE
        from sbi.utils import BoxUniform
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401 - sbi's default tracker, which we replace
    assert torch.distributions.Distribution._validate_args == before
    theta = torch.rand(200, 2)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        prior = BoxUniform(torch.zeros(2), torch.ones(2))
        trainer = NLE(prior, density_estimator="maf", show_progress_bars=False, tracker=SilentTracker())
        trainer.append_simulations(theta, theta + 0.1 * torch.randn(200, 2)).train(max_num_epochs=1)
    assert not list(tmp_path.iterdir())


FLOWS = ["mdn", "made", "maf", "maf_rqs", "nsf"]
FLOWS += [f"zuko_{kind}" for kind in ("nice", "maf", "nsf", "ncsf", "sospf", "naf", "unaf", "gf", "bpf")]
TRACED = [("nsf", 1), ("mdn", 1), ("maf", 2), ("zuko_nsf", 1), ("categorical", 1), ("nre_linear", 1), ("mnle_nsf", 1)]
#: evaluated once per row of the condition, pairs of row and category for mixed outcomes.
ONCE = [("mdn", 2), *((kind, 1) for kind in ("mdn", "nsf", "categorical", "mnle_nsf", "mnle_zuko_nsf", "mnle_mdn"))]
ONCE += [(f"zuko_{kind}", 1) for kind in ("nice", "maf", "nsf", "ncsf", "sospf", "gf", "bpf")]
G, TRIALS = 7, 60


def make(kind: str, size: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """An estimator of outcomes of some size given three parameters, with random weights, and outcomes, in float64."""
    with validation_kept():
        from sbi.neural_nets import classifier_nn, likelihood_nn
        from sbi.neural_nets.net_builders.categorial import build_categoricalmassestimator

    with torch.random.fork_rng():
        torch.manual_seed(1)
        theta, x, codes = torch.rand(200, 3), torch.randn(200, size), torch.randint(0, 3, (200, size)).float()
        if kind == "categorical":
            x = codes
            estimator = build_categoricalmassestimator(x, theta)
        elif kind.startswith("mnle_"):
            x = torch.cat([x.abs() + 0.1, codes[:, :1]], 1)
            estimator = likelihood_nn("mnle", flow_model=kind.removeprefix("mnle_"), log_transform_x=True)(theta, x)
        elif kind.startswith("nre_"):
            estimator = classifier_nn(kind.removeprefix("nre_"))(theta, x)
        else:
            estimator = likelihood_nn(kind)(theta, x)
        for weights in estimator.parameters():
            weights.data += 0.2 * torch.randn_like(weights)
    return estimator.double(), x[:TRIALS].double()


def conditions() -> tuple[torch.Tensor, torch.Tensor]:
    """Seven rows of parameters, some of them equal by chance, and the row of every outcome."""
    rng = np.random.default_rng(1)
    rows = rng.random((G, 3))
    rows[3] = rows[1]
    return torch.tensor(rows, requires_grad=True), torch.tensor(rng.integers(0, G, TRIALS))


def plain(x: torch.Tensor) -> torch.Tensor:
    """Outcomes as we take them: numbers where an outcome is one number."""
    return x.squeeze(-1) if x.shape[-1] == 1 else x


CASES = [(kind, size) for kind in (*FLOWS, "categorical", "nre_linear", "nre_mlp", "nre_resnet") for size in (1, 2)]
CASES += [(f"mnle_{kind}", size) for kind in ("nsf", "zuko_nsf", "mdn", "maf") for size in (1, 2)]


@pytest.mark.parametrize(("kind", "size"), CASES)
def test_density_and_gradient_are_those_of_sbi(kind: str, size: int):
    """Reference: sbi's own wrapper on every row. 1e-7, because nflows keeps one constant in single precision."""
    from sbi.utils.pyroutils import to_pyro_distribution

    estimator, x = make(kind, size)
    rows, index = conditions()
    theirs = to_pyro_distribution(estimator, rows[index]).log_prob(x)
    expected = torch.autograd.grad(theirs.sum(), rows)[0]
    given = SBIToPyro(estimator, rows, index=index)
    each = SBIToPyro(estimator, rows[index])
    for ours in (given, each):
        assert ours.batch_shape == (TRIALS,)
        assert ours.event_shape == plain(x).shape[1:]
        log_p = ours.log_prob(plain(x))
        torch.testing.assert_close(log_p, theirs, rtol=0, atol=1e-7)
        torch.testing.assert_close(torch.autograd.grad(log_p.sum(), rows)[0], expected, rtol=1e-7, atol=1e-8)
    with torch.no_grad():
        torch.testing.assert_close(SBIToPyro(estimator, rows[index]).log_prob(plain(x)), theirs, rtol=0, atol=1e-7)


@pytest.mark.parametrize("times", [1, 20])
@pytest.mark.parametrize("kind", ["nsf", "zuko_nsf", "mnle_nsf", "mnle_zuko_nsf"])
def test_splines_of_one_number_end_where_those_of_sbi_do(kind: str, times: int):
    """Beyond the outermost knots, which lie 3 (nflows) and 5 (zuko) standard deviations out, y = x; with fewer outcomes
    than the conditions have bins, and with more."""
    from sbi.utils.pyroutils import to_pyro_distribution

    estimator, x = make(kind, 1)
    away = torch.tensor([-40.0, -8.0, -4.0, -2.0, 0.0, 2.0, 4.0, 8.0, 40.0]).repeat(times)
    far = x[torch.arange(len(away)) % len(x)].clone()
    seen = x[:, 0].log() if kind.startswith("mnle") else x[:, 0]
    far[:, 0] = seen.mean() + seen.std() * away
    if kind.startswith("mnle"):
        far[:, 0] = far[:, 0].exp()
    rows = conditions()[0][:2]
    index = torch.arange(len(far)) % 2
    theirs = to_pyro_distribution(estimator, rows[index]).log_prob(far)
    ours = SBIToPyro(estimator, rows, index=index).log_prob(plain(far))
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)
    gradients = [torch.autograd.grad(log_p.sum(), rows, retain_graph=True)[0] for log_p in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("kind", "size"), TRACED)
def test_the_fast_path_is_the_same_density(kind: str, size: int):
    """Recorded where all rows are equal, compared where all differ."""
    estimator, x = make(kind, size)
    _, index = conditions()

    def model():
        theta = pyro.sample("theta", dist.Normal(torch.zeros(G, 3), 1.0).to_event(2))
        with pyro.plate("outcome", TRIALS):
            pyro.sample("x", SBIToPyro(estimator, theta, index=index), obs=plain(x))

    start = {"theta": torch.full((G, 3), 0.5)}
    fast, eager = (flatten(model, start, path=path) for path in ("compiled", "eager"))
    assert fast.path == "compiled"
    point = np.random.default_rng(2).normal(0.5, 0.3, G * 3)
    for a, b in zip(fast(point), eager(point), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_what_cannot_be_compiled_runs_in_pyro():
    """Gaussian mixtures of sbi, of several numbers, check their values in Python."""
    estimator, x = make("mdn", 2)

    def model():
        theta = pyro.sample("theta", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("outcome", TRIALS):
            pyro.sample("x", SBIToPyro(estimator, theta), obs=x)

    with pytest.warns(UserWarning, match="runs in Pyro"):
        density = flatten(model, {"theta": torch.zeros(3)})
    assert density.path == "eager"
    assert np.isfinite(density(np.zeros(3))[1]).all()


@pytest.mark.parametrize(("kind", "size"), ONCE)
def test_the_network_sees_every_condition_once(kind: str, size: int):
    """Rows that enter its layers: not 60 outcomes, but conditions, or for some kinds blocks, at most twice as many."""
    estimator, x = make(kind, size)
    seen: list[int] = []
    for module in estimator.modules():
        if type(module).__name__.endswith("Linear"):  # zuko has one of its own
            module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[:-1].numel()))
    rows, _ = conditions()
    index, categories = np.arange(TRIALS) % 6, 3 if kind.startswith("mnle_") else 1

    def most_seen(distribution: SBIToPyro) -> int:
        seen.clear()
        distribution.log_prob(plain(x))
        return max(seen)

    assert most_seen(SBIToPyro(estimator, rows, index=index)) <= 2 * G * categories
    assert most_seen(SBIToPyro(estimator, rows[:1].expand(TRIALS, 3))) <= 2 * categories
    assert most_seen(SBIToPyro(estimator, rows[:1]).expand([TRIALS])) <= 2 * categories
    # Without gradients rows of equal numbers are one: five of the first six differ.
    assert most_seen(SBIToPyro(estimator, rows.detach()[index])) <= 2 * 5 * categories


def test_shapes_follow_pyro():
    estimator, x = make("zuko_nsf", 1)
    rows, _ = conditions()
    one = SBIToPyro(estimator, rows[0])
    assert one.batch_shape == one.event_shape == ()
    assert one.log_prob(x[0, 0]).shape == ()
    assert one.sample().shape == ()
    wide = SBIToPyro(estimator, rows).expand([4, G])
    assert wide.batch_shape == (4, G)
    assert wide.condition.shape == (4, G, 3)
    values = x[: 4 * G, 0].reshape(4, G)
    expected = SBIToPyro(estimator, rows.expand(4, G, 3)).log_prob(values)
    torch.testing.assert_close(wide.log_prob(values), expected)
    assert wide.sample((5,)).shape == (5, 4, G)
    assert wide.log_prob(wide.sample((5,))).shape == (5, 4, G)
    square = np.arange(6).reshape(2, 3)
    assert SBIToPyro(estimator, rows.expand(4, G, 3), index=square).batch_shape == (4, 2, 3)
    masked = SBIToPyro(estimator, rows).mask(torch.arange(G) < 2).log_prob(values[0])
    torch.testing.assert_close(masked, SBIToPyro(estimator, rows).log_prob(values[0]) * (torch.arange(G) < 2))


def test_precision_follows_the_condition():
    """Pyro's flat density is in double precision; sbi's networks are single."""
    estimator, x = make("nsf", 1)
    estimator = estimator.float()
    rows, index = conditions()
    distribution = SBIToPyro(estimator, rows, index=index)
    assert distribution.log_prob(x[:, 0]).dtype == distribution.sample().dtype == torch.float64
    single = SBIToPyro(estimator, rows.float(), index=index).log_prob(x[:, 0].float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(distribution.log_prob(x[:, 0]), single.double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["categorical", "mnle_nsf", "nsf", "mdn", "maf"])
def test_draws_are_those_of_the_density(kind: str):
    """20 000 draws at one condition, by ten equal slices of the line (five standard errors each: 6e-6 false alarms)."""
    n = 20_000
    estimator, _ = make(kind, 1)
    rows, _ = conditions()
    distribution = SBIToPyro(estimator, rows[0].detach())
    with torch.random.fork_rng():
        torch.manual_seed(1)
        draws = distribution.sample((n,))
    assert draws.shape == (n, *distribution.event_shape)
    assert bool(distribution.support.check(draws).all())
    if kind == "categorical":
        p = distribution.log_prob(torch.arange(3.0)).exp()
        share = torch.stack([(draws == k).double().mean() for k in range(3)])
    else:
        continuous = draws if kind != "mnle_nsf" else draws[:, 0]
        edges = continuous.quantile(torch.linspace(0.001, 0.999, 11).double())
        # Each slice by Gauss-Legendre quadrature in 20 panels of 10 points.
        ends = torch.stack([torch.linspace(float(a), float(b), 21) for a, b in pairwise(edges)])
        nodes, weights = map(torch.tensor, np.polynomial.legendre.leggauss(10))
        half = (ends[:, 1:] - ends[:, :-1]).double() / 2
        points = (ends[:, :-1].double() + half).unsqueeze(-1) + half.unsqueeze(-1) * nodes
        if kind == "mnle_nsf":
            pairs = torch.stack([torch.stack([points, torch.full_like(points, k)], -1) for k in range(3)])
            density = distribution.log_prob(pairs).exp().sum(0)
        else:
            density = distribution.log_prob(points).exp()
        p = (density * weights * half.unsqueeze(-1)).sum((1, 2))
        inside = (continuous >= edges[:-1, None]) & (continuous < edges[1:, None])
        share = inside.double().mean(1)
    assert bool(((share - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-6).all())


def test_support_is_declared():
    rows, _ = conditions()

    def support(kind: str, size: int):
        return SBIToPyro(make(kind, size)[0], rows).support

    assert support("maf", 1) is constraints.real
    assert support("maf", 2).event_dim == 1
    assert support("maf", 2).check(torch.tensor([-1.0, 3.0]))
    counts = support("categorical", 1)
    assert counts.is_discrete
    assert counts.check(torch.tensor([0.0, 1.0, 2.0, 3.0, 0.5])).tolist() == [True, True, True, False, False]
    mixed = support("mnle_nsf", 1)
    assert mixed.is_discrete
    assert mixed.check(torch.tensor([[0.3, 2.0], [-0.3, 2.0], [0.3, 5.0]])).tolist() == [True, False, False]
    with validation_kept():
        from sbi.neural_nets import likelihood_nn
    build = likelihood_nn("zuko_nsf", z_score_x="transform_to_unconstrained", x_dist=dist.LogNormal(0.0, 1.0))
    positive = SBIToPyro(build(torch.rand(99, 3), torch.rand(99, 1)), rows).support
    assert positive.check(torch.tensor([0.5, -0.5])).tolist() == [True, False]


def test_what_is_not_a_likelihood_is_refused():
    from sbi.inference.posteriors import DirectPosterior
    from sbi.neural_nets import posterior_nn
    from sbi.utils import BoxUniform

    box = BoxUniform(torch.zeros(3), torch.ones(3))
    posterior = DirectPosterior(posterior_nn("mdn")(torch.rand(50, 3), torch.rand(50, 2)), box)
    with pytest.raises(InputError, match=r"DirectPosterior is a posterior .* count twice"):
        SBIToPyro(posterior, torch.rand(3))
    with pytest.raises(InputError, match=r"looks like one that NPE trained, the other way round"):
        SBIToPyro(posterior.posterior_estimator, torch.rand(3))
    with pytest.raises(InputError, match=r"train\(\) of sbi's NLE, MNLE or NRE returns; got builtins.str"):
        SBIToPyro("ddm", torch.rand(3))
    estimator, x = make("categorical", 1)
    with pytest.raises(InputError, match=r"3 parameters in its last dimension.*got shape \(5, 2\)"):
        SBIToPyro(estimator, torch.rand(5, 2))
    for wrong in ([0, 5], [-1, 0], [0.0, 1.0]):
        with pytest.raises(InputError, match="integers from 0 to 4"):
            SBIToPyro(estimator, torch.rand(5, 3), index=wrong)
    good = SBIToPyro(estimator, torch.rand(TRIALS, 3, dtype=torch.float64), validate_args=False)
    with pytest.raises(InputError, match="drop its last dimension"):
        good.log_prob(x)
    with pytest.raises(InputError, match="not trained on outcomes 3, 7; it knows 3 categories from 0 to 2"):
        good.log_prob(torch.tensor([7.0, 3.0] + [0.0] * (TRIALS - 2)))
    with pytest.raises(InputError, match=r"an outcome must have shape \(2,\); got \(60, 3\)"):
        SBIToPyro(make("maf", 2)[0], torch.rand(3)).log_prob(torch.rand(60, 3))
    with pytest.raises(NotImplementedError, match="not enumerated"):
        good.enumerate_support()
    with pytest.raises(NotImplementedError, match="cannot draw"):
        SBIToPyro(make("nre_mlp", 1)[0], torch.rand(3)).sample()


def one_rate() -> tuple[object, torch.Tensor, float, float]:
    """A model of one latent number and 60 categorical outcomes, and its posterior mean and sd by quadrature."""
    from sbi.utils.pyroutils import to_pyro_distribution

    estimator, x = make("categorical", 1)
    estimator.requires_grad_(False)

    def model(observed: torch.Tensor | None = x[:, 0]):
        level = pyro.sample("level", dist.Normal(torch.tensor(0.5, dtype=torch.float64), 1.0))
        condition = level.unsqueeze(-1) * torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64)
        with pyro.plate("outcome", TRIALS):
            pyro.sample("x", SBIToPyro(estimator, condition), obs=observed)

    level = torch.linspace(-6, 7, 2_001, dtype=torch.float64)
    condition = level.unsqueeze(-1) * torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64)
    log_p = to_pyro_distribution(estimator, condition).log_prob(x.unsqueeze(1).expand(-1, len(level), -1)).sum(0)
    weight = (log_p + dist.Normal(0.5, 1.0).log_prob(level)).softmax(0)
    mean = float((weight * level).sum())
    return model, x, mean, float((weight * (level - mean) ** 2).sum().sqrt())


def test_pyro_samples_it():
    """NUTS: 300 draws, mean within 5 standard errors at an effective sample size of 60 (6e-7 false alarms)."""
    model, _, mean, sd = one_rate()
    with torch.random.fork_rng(), pyro.validation_enabled(True):
        pyro.set_rng_seed(1)
        mcmc = MCMC(NUTS(model), num_samples=300, warmup_steps=100, disable_progbar=True)
        mcmc.run()
        draws = mcmc.get_samples()["level"]
        assert abs(float(draws.mean()) - mean) < 5 * sd / 60**0.5
        predicted = Predictive(model, {"level": draws[:20]})(None)["x"]
        assert predicted.shape == (20, TRIALS)
        assert set(predicted.unique().tolist()) <= {0.0, 1.0, 2.0}
        parallel = Predictive(model, num_samples=20, parallel=True)(None)["x"]
        assert parallel.shape == (20, TRIALS)


def test_pyro_fits_it_variationally():
    """AutoNormal is as good as the posterior is normal: mean within half a posterior sd after 300 steps."""
    model, _, mean, sd = one_rate()
    pyro.clear_param_store()
    with torch.random.fork_rng(), pyro.validation_enabled(True):
        pyro.set_rng_seed(1)
        guide = AutoNormal(model, init_scale=0.1)
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.03}), Trace_ELBO())
        for _ in range(300):
            svi.step()
        assert abs(float(guide.median()["level"]) - mean) < 0.5 * sd
    pyro.clear_param_store()


def test_nothing_changes_when_sbi_is_imported(tmp_path: Path):
    code = (
        "import sys, torch, pyro, hddm_sbi as hs\n"
        "hs.SBIToPyro\n"
        "assert 'sbi' not in sys.modules\n"
        "before = torch.distributions.Distribution._validate_args, pyro.distributions.is_validation_enabled()\n"
        "try: hs.SBIToPyro(None, torch.zeros(3))\n"
        "except hs.InputError: pass\n"
        "assert 'zuko' in sys.modules\n"
        "after = torch.distributions.Distribution._validate_args, pyro.distributions.is_validation_enabled()\n"
        "assert before == after\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_learned_cookies_agree_with_poisson_cookies(tmp_path: Path):
    """Whole tutorial, 100 000 simulations, 12 000 draws: Monte Carlo errors are a third of the tolerances."""
    code = f"import runpy; runpy.run_path({str(TUTORIAL)!r})['agreement'].to_csv('agreement.csv')"
    command = [sys.executable, "-W", "ignore", "-c", "import matplotlib; matplotlib.use('Agg'); " + code]
    subprocess.run(command, check=True, cwd=tmp_path)
    table = pd.read_csv(tmp_path / "agreement.csv")
    assert len(table) == 1 + 5 + 7
    assert table["shift in sds"].abs().max() < 0.1
    assert (table["ratio of sds"] - 1).abs().max() < 0.1
