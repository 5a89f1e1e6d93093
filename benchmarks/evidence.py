"""Log evidence: against closed forms, in repeated runs, of hierarchical models, and as probability of models.

python -m benchmarks.evidence
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from scipy.integrate import quad
from scipy.special import gammaln
from scipy.stats import expon, multivariate_normal, norm

import hddm_sbi as hs
from hddm_sbi.inference import bridge

Target = tuple[Callable[[], None], dict[str, torch.Tensor], float]
RUNS, TABLES = 100, 200


def real(x: Any) -> torch.Tensor:
    return torch.as_tensor(x, dtype=torch.float64)


def means(n: int) -> Target:
    """n numbers with normal priors, three normal outcomes of each."""
    y = np.random.default_rng(0).normal(1.0, 1.5, (3, n))

    def model() -> None:
        mean = pyro.sample("mean", dist.Normal(real(0.5), 2.0).expand([n]).to_event(1))
        pyro.sample("y", dist.Normal(mean, 1.5).expand([3, n]).to_event(2), obs=real(y))

    marginal = multivariate_normal(np.full(3, 0.5), 1.5**2 * np.eye(3) + 2.0**2)
    return model, {"mean": torch.zeros(n).double()}, float(np.sum(marginal.logpdf(y.T)))


def rates(n: int) -> Target:
    """n Poisson rates with gamma priors, one count of each: skewed on the scale of the logarithm."""
    y = np.random.default_rng(0).poisson(1.0, n)

    def model() -> None:
        rate = pyro.sample("rate", dist.Gamma(real(0.7), real(0.5)).expand([n]).to_event(1))
        pyro.sample("y", dist.Poisson(rate).to_event(1), obs=real(y))

    each = gammaln(0.7 + y) - gammaln(0.7) - gammaln(y + 1) + 0.7 * np.log(0.5) - (0.7 + y) * np.log(1.5)
    return model, {"rate": torch.ones(n).double()}, float(each.sum())


def groups(n: int) -> Target:
    """n groups around a mean, with a spread that is estimated: n + 2 numbers, an integral over the spread alone."""
    y = np.random.default_rng(0).normal(0.5, 0.9, n)

    def model() -> None:
        mu = pyro.sample("mu", dist.Normal(real(0.0), 2.0))
        tau = pyro.sample("tau", dist.Exponential(real(1.0)))
        offset = pyro.sample("offset", dist.Normal(real(0.0), 1.0).expand([n]).to_event(1))
        pyro.sample("y", dist.Normal(mu + tau * offset, 0.5).to_event(1), obs=real(y))

    def log_p(tau: float) -> float:
        s2, squares = 0.25 + tau**2, ((y - y.mean()) ** 2).sum()
        contrasts = -0.5 * squares / s2 - 0.5 * (n - 1) * np.log(2 * np.pi * s2)
        mean = norm.logpdf(n**0.5 * y.mean(), 0.0, (s2 + 4.0 * n) ** 0.5)
        return float(mean + contrasts + expon.logpdf(tau))

    top = max(log_p(tau) for tau in np.linspace(0.05, 4.0, 200))
    area, _ = quad(lambda tau: np.exp(log_p(tau) - top), 0.0, 8.0, limit=200, epsabs=0.0, points=[0.5, 1.0, 2.0])
    start = {"mu": real(0.0), "tau": real(1.0), "offset": torch.zeros(n).double()}
    return model, start, float(np.log(area) + top)


def closed_forms() -> None:
    """Of Pyro models, from draws of NUTS."""
    print("model, numbers: exact | off, stated error, seconds of two seeds")
    known = {"means": means, "rates": rates, "groups": groups}
    for name, make in known.items():
        for n in (1, 10, 50, 500) if name != "groups" else (10, 48, 498):
            model, start, exact = make(n)
            density = hs.flatten(model, start)
            shown = []
            for seed in (1, 2):
                x = hs.sample(density, draws=1_000, tune=500, chains=4, seed=seed, progress=False).x
                began = time.perf_counter()
                found = bridge(density, x, seed)
                seconds = time.perf_counter() - began
                shown.append(f"{found.log_evidence - exact:+.3f} {found.error:.3f} {seconds:.2f} s")
            print(f"  {name}, {density.size}: {exact:.3f} | {' | '.join(shown)}")


def repeated() -> None:
    """Stated errors against those of repeated fits."""
    for name, target in {"20 rates": rates(20), "20 groups": groups(20)}.items():
        model, start, exact = target
        density = hs.flatten(model, start)
        found = []
        for seed in range(RUNS):
            x = hs.sample(density, draws=500, tune=500, chains=4, seed=seed, progress=False).x
            found.append(bridge(density, x, seed))
        values, errors = np.array(found).T
        z = (values - exact) / errors
        print(
            f"{name}, {RUNS} fits: error {np.sqrt(((values - exact) ** 2).mean()):.4f}, stated "
            f"{np.sqrt((errors**2).mean()):.4f}; {(np.abs(z) < norm.isf(0.025)).mean():.0%} within 1.96 stated errors "
            f"(95 % +- {1.96 * np.sqrt(0.95 * 0.05 / RUNS):.0%})"
        )


def hierarchical() -> None:
    """Seconds, and two seeds, of hierarchical models."""
    formulas = ["v ~ condition + (condition|subject)", "a ~ 1 + (1|subject)", "t0 ~ 1 + (1|subject)", "z ~ 1"]
    for n_subjects, n_trials in ((10, 100), (120, 40)):
        trials = hs.simulate_experiment(n_subjects=n_subjects, n_trials=n_trials, seed=1).trials
        model = hs.HierarchicalModel(formulas, trials, likelihood="exact")
        shown = []
        for seed in (1, 2):
            posterior = model.fit(draws=1_000, tune=500, chains=4, seed=seed, progress=False)
            began = time.perf_counter()
            found = hs.evidence(model, posterior, seed)
            shown.append(f"{found.log_evidence:.3f} +- {found.error:.3f} in {time.perf_counter() - began:.2f} s")
        print(f"ddm, {len(trials)} trials, {model.density.size} numbers: {' | '.join(shown)}")


def probabilities() -> None:
    """Tables of two models, each as likely, with parameters from their priors: how often each is the one."""
    trials = hs.simulate_experiment(n_subjects=1, n_trials=20).trials[["condition", "rt", "response"]]
    priors = {"v_Intercept": dist.Normal(1.0, 1.0), "v_condition": dist.Normal(0.0, 1.0)}
    fixed = {"a": 1.0, "z": 0.5, "t0": 0.3}
    formulas = [{"v": "1", **fixed}, {"v": "condition", **fixed}]
    chosen = [{k: x for k, x in priors.items() if k == "v_Intercept"}, priors]

    def of(index: int, table: Any) -> hs.HierarchicalModel:
        return hs.HierarchicalModel(formulas[index], table, likelihood="exact", priors=chosen[index])

    rng, p, first = np.random.default_rng(1), np.empty(TABLES), np.empty(TABLES, dtype=bool)
    drawn = [hs.prior_predictive(of(index, trials), draws=TABLES, seed=index)["prior_predictive"] for index in (0, 1)]
    for i in range(TABLES):
        index = int(rng.integers(2))
        outcomes = {str(name): x.to_numpy()[0, i] for name, x in drawn[index].data_vars.items()}
        table = trials.assign(**outcomes)
        log_evidence = []
        for other in (0, 1):
            model = of(other, table)
            posterior = model.fit(draws=250, tune=300, chains=2, seed=i, progress=False)
            log_evidence.append(hs.evidence(model, posterior).log_evidence)
        p[i], first[i] = 1.0 / (1.0 + np.exp(log_evidence[1] - log_evidence[0])), index == 0
    print(f"probability of the first of two models, {TABLES} tables: said | was the first | tables")
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 1.0)):
        there = (p >= low) & (p < high + (high == 1.0))
        if there.any():
            print(f"  {low:.1f} to {high:.1f}: {p[there].mean():.2f} | {first[there].mean():.2f} | {there.sum()}")
    for name, weights in (("sum of (first - p)", np.ones(TABLES)), ("weighted by p - 1/2", p - 0.5)):
        z = (weights * (first - p)).sum() / np.sqrt((weights**2 * p * (1 - p)).sum())
        print(f"  {name}: z = {z:+.2f}, two-sided p = {2 * norm.sf(abs(z)):.2f}")


def main() -> None:
    warnings.simplefilter("ignore", hs.ConvergenceWarning)
    closed_forms()
    repeated()
    hierarchical()
    probabilities()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
