"""Any sbi estimator as a Pyro distribution: against sbi's own wrapper, and which estimator suits counts."""

import warnings
from collections.abc import Callable

import numpy as np
import pyro
import torch
from pyro import distributions as dist
from torch import Tensor

import hddm_sbi as hs
from benchmarks.timing import best_seconds

Condition = tuple[Tensor, np.ndarray]


def cookies(n_locations: int, seed: int = 1) -> tuple[Condition, Tensor]:
    """Log rates of locations and the chips of 30 cookies each, (n, 1)."""
    rng = np.random.default_rng(seed)
    rate, index = rng.uniform(5, 10, (n_locations, 1)), np.repeat(np.arange(n_locations), 30)
    return (torch.tensor(np.log(rate)).float(), index), torch.tensor(rng.poisson(rate[index])).float()


def ddm_cells(seed: int = 1) -> tuple[Condition, Tensor]:
    """80 cells of 100 trials of the drift-diffusion model."""
    rng, simulator = np.random.default_rng(seed), hs.load_simulator("ddm")
    theta, index = np.array([0.8, 0.9, 0.5, 0.3]) + 0.1 * rng.random((80, 4)), np.repeat(np.arange(80), 100)
    rt, choice = simulator.simulate(theta[index], seed)
    return (torch.tensor(theta).float(), index), torch.tensor(np.stack([rt, choice], 1)).float()


def compare(name: str, estimator: torch.nn.Module, condition: Condition, x: Tensor) -> None:
    """Seconds for log density and gradient: sbi's wrapper, ours with an index, ours without."""
    from sbi.utils.pyroutils import to_pyro_distribution

    rows, index = condition[0].requires_grad_(True), torch.tensor(condition[1])
    outcome = x.squeeze(-1)

    def gradient(log_prob: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(log_prob().sum(), rows)

    theirs, ours, apart = (
        best_seconds(gradient(log_prob), 40)
        for log_prob in (
            lambda: to_pyro_distribution(estimator, rows[index]).log_prob(x),
            lambda: hs.SBIToPyro(estimator, rows, index, validate_args=False).log_prob(outcome),
            lambda: hs.SBIToPyro(estimator, rows[index], validate_args=False).log_prob(outcome),
        )
    )
    print(
        f"  {name:28s} {len(x):6d} outcomes in {len(rows):3d} rows: sbi {theirs * 1e3:7.2f} ms; "
        f"index {theirs / ours:5.1f} times as fast, no index {theirs / apart:4.1f} times"
    )


def cookie_model(likelihood: Callable[[Tensor], dist.TorchDistribution], n: int, chips: Tensor) -> Callable[[], None]:
    """The hierarchical cookie model."""

    def model() -> None:
        mu, sigma = pyro.sample("mu", dist.Gamma(2.0, 0.2)), pyro.sample("sigma", dist.Exponential(1.0))
        with pyro.plate("location", n):
            rate = pyro.sample("rate", dist.Gamma((mu / sigma) ** 2, mu / sigma**2))
        with pyro.plate("cookie", len(chips)):
            pyro.sample("chips", likelihood(rate.log().unsqueeze(-1)), obs=chips)

    return model


def compare_models(estimator: torch.nn.Module, n_locations: int) -> None:
    """The whole hierarchical model: sbi's wrapper in eager Pyro, ours on the fast path (sbi's cannot be compiled)."""
    from sbi.utils.pyroutils import to_pyro_distribution

    (log_rate, index), x = cookies(n_locations)
    start = {"mu": torch.tensor(8.0), "sigma": torch.tensor(1.0), "rate": log_rate.exp().squeeze(-1)}
    theirs = cookie_model(lambda c: to_pyro_distribution(estimator, c[index].float()), n_locations, x)
    ours = cookie_model(lambda c: hs.SBIToPyro(estimator, c, index=index), n_locations, x.squeeze(-1))
    eager, compiled = hs.flatten(theirs, start, path="eager"), hs.flatten(ours, start)
    slow, fast = (best_seconds(lambda f=f: f(f.start), 40) for f in (eager, compiled))
    print(
        f"  cookie model, {n_locations:3d} locations x 30: sbi in Pyro {slow * 1e3:6.2f} ms, ours {compiled.path}, "
        f"{slow / fast:5.1f} times as fast"
    )


def train(build: Callable[[Tensor, Tensor], torch.nn.Module], theta: Tensor, x: Tensor) -> torch.nn.Module:
    """sbi's trainer on larger and larger batches, as in the tutorial."""
    from sbi.inference import NLE

    estimator = None
    torch.manual_seed(1)
    for batch, step in [(500, 5e-3), (1_000, 1e-3), (5_000, 3e-4)]:
        builder = build if estimator is None else lambda *_, trained=estimator: trained
        trainer = NLE(density_estimator=builder, tracker=hs.SilentTracker(), show_progress_bars=False)
        trainer.append_simulations(theta, x)
        estimator = trainer.train(training_batch_size=batch, learning_rate=step, max_num_epochs=5)
    return estimator


def score_counts(name: str, estimator: torch.nn.Module, shift: float) -> None:
    """Against the Poisson at rates 5 to 12: divergence, and what 125 cookies of one rate would say."""
    rate, counts = torch.linspace(5, 12, 60, requires_grad=True), torch.arange(45.0)
    true = dist.Poisson(rate.detach().double()).log_prob(counts.double().unsqueeze(-1))
    log_p = hs.SBIToPyro(estimator, rate.log().unsqueeze(-1)).log_prob((counts + shift).unsqueeze(-1).expand(-1, 60))
    score = torch.stack([torch.autograd.grad(row.sum(), rate, retain_graph=True)[0] for row in log_p])
    p, wide = true.exp(), rate.detach()
    divergence = (p * (true - log_p.detach())).sum(0)
    bias = (p * score).sum(0) * (125 * wide).sqrt()
    information = (p * score**2).sum(0) * wide
    print(
        f"  {name:36s} KL {divergence.mean():.1e}; shift of a pooled posterior {bias.square().mean().sqrt():.2f} sds "
        f"(worst {bias.abs().max():.2f}); information {information.min():.2f} to {information.max():.2f} of the truth"
    )


def table(blocks: int) -> Callable[[Tensor, Tensor], torch.nn.Module]:
    """Builder of sbi's table of 46 counts, with so many hidden blocks."""
    from sbi.neural_nets.net_builders.categorial import build_categoricalmassestimator

    every = torch.arange(46.0).unsqueeze(-1)
    return lambda theta, _: build_categoricalmassestimator(every, theta, num_hidden=20, num_layers=blocks)


def speed() -> None:
    """Log density and gradient of cookies and of trials, sbi's wrapper against ours."""
    from sbi.neural_nets import likelihood_nn

    theta = torch.rand(500, 1).log()
    print("log density and gradient")
    for n in (5, 50, 500):
        condition, x = cookies(n)
        compare("categorical", table(0)(theta, x), condition, x)
        for kind in ("mdn", "nsf", "zuko_nsf"):
            compare(kind, likelihood_nn(kind)(theta, x[:150] + torch.rand(150, 1)), condition, x + 0.5)
    condition, x = ddm_cells()
    for kind in ("nsf", "zuko_nsf", "mdn"):
        build = likelihood_nn("mnle", flow_model=kind, log_transform_x=True)
        compare(f"MNLE with {kind}", build(condition[0].detach()[condition[1]], x), condition, x)
    for n in (5, 50):
        compare_models(table(0)(theta, cookies(n)[1]), n)


def estimators() -> None:
    """Which of sbi's estimators suits counts."""
    from sbi.neural_nets import likelihood_nn

    print("which estimator for counts: 100 000 simulated cookies, 15 epochs")
    rate = 0.5 + 19.5 * torch.rand(100_000, 1, generator=torch.Generator().manual_seed(1))
    chips = torch.tensor(np.random.default_rng(1).poisson(rate.numpy())).float().clamp(max=45)
    noisy = chips + torch.rand(chips.shape, generator=torch.Generator().manual_seed(2))
    for name, build, x, shift in (
        ("categorical, no hidden block", table(0), chips, 0.0),
        ("categorical, one hidden block", table(1), chips, 0.0),
        ("mdn of 3, counts with noise", likelihood_nn("mdn", num_components=3, hidden_features=20), noisy, 0.5),
        ("zuko_nsf, counts with noise", likelihood_nn("zuko_nsf", num_transforms=1), noisy, 0.5),
    ):
        score_counts(name, train(build, rate.log(), x), shift)


def main() -> None:
    warnings.simplefilter("ignore")
    with hs.validation_kept():
        import sbi.neural_nets  # noqa: F401 - imported once here, where what it changes is put back
    speed()
    estimators()


if __name__ == "__main__":
    main()
