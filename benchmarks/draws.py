"""Digests of the draws of one fit of every kind: what a change of the code that should not move numbers must not move.

    python -m benchmarks.draws              # every case
    python -m benchmarks.draws demo models  # some

Run it at two revisions on one machine (`PYTHONPATH=OTHER_CHECKOUT python benchmarks/draws.py`) and compare lines. It
uses nothing but the public names.
"""

import hashlib
import sys
import warnings
from collections.abc import Callable, Mapping

import numba as nb
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch

import hddm_sbi as hs

SHORT = {"draws": 200, "tune": 200, "chains": 2, "seed": 1, "progress": False}
#: models with a clock, a delay, a heavy tail on either side, and races with and without interaction.
LEARNED = ("weibull", "full_ddm", "levy", "ornstein", "lba3", "race", "race4", "lca", "rdm")
CLOSED_FORM = ("angle", "lnr", "lba", "rdm3", "ddm_sdv")
CONFLICT = ("dmc", "ssp")
TRIALS = 400


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """The first 16 digits of the sha256 of arrays by name."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(name.encode() + str(array.shape).encode() + array.tobytes())
    return found.hexdigest()[:16]


def say(case: str, arrays: Mapping[str, np.ndarray]) -> None:
    print(f"{case:24s}{digest(arrays)}", flush=True)


def variables(posterior, group: str = "posterior") -> dict[str, np.ndarray]:
    content = posterior[group]
    dataset = content.to_dataset() if hasattr(content, "to_dataset") else content
    return {str(name): array.to_numpy() for name, array in dataset.data_vars.items()}


def fitted(formulas, data, **options) -> dict[str, np.ndarray]:
    return variables(hs.HierarchicalModel(formulas, data, **options).fit(**SHORT))


def typical(name: str) -> dict[str, float]:
    return {p.name: sum(p.typical) / 2 for p in hs.load_simulator(name).parameters}


def small_experiment() -> pd.DataFrame:
    return hs.simulate_experiment(n_subjects=6, n_trials=40, seed=2).trials


def demo() -> None:
    experiment = hs.simulate_experiment(seed=1)
    posterior = hs.HierarchicalModel(experiment.formulas, experiment.trials).fit(seed=1, progress=False)
    say("demo", variables(posterior))
    say("demo_stats", variables(posterior, "sample_stats"))


def exact() -> None:
    formulas = ["v ~ condition + (condition|subject)", "a ~ 1 + (1|subject)"]
    model = hs.HierarchicalModel(formulas, small_experiment(), likelihood="exact", lapse=dist.Beta(1.0, 19.0))
    posterior = model.fit(log_likelihood=True, **SHORT)
    say("exact", variables(posterior))
    say("exact_loglik", variables(posterior, "log_likelihood"))


def hddm() -> None:
    say("hddm", fitted(hs.simulate_experiment().formulas, small_experiment(), likelihood="exact", priors="hddm"))


def trialwise() -> None:
    data = small_experiment()
    data = data.assign(x=np.random.default_rng(3).normal(size=len(data)))
    say("trialwise", fitted(["v ~ x + (1|subject)", "z = 0.5"], data))


def models() -> None:
    for name in LEARNED:
        data = hs.simulate(name, typical(name), TRIALS, seed=4)
        data["g"] = np.repeat(["a", "b"], TRIALS // 2)
        first = hs.load_simulator(name).names[0]
        say(f"model_{name}", fitted(f"{first} ~ g", data, simulator=name))


def exact_models() -> None:
    for name in CLOSED_FORM:
        data = hs.simulate(name, typical(name), TRIALS, seed=4)
        first = hs.load_simulator(name).names[0]
        say(f"exact_{name}", fitted(f"{first} ~ 1", data, simulator=name, likelihood="exact"))


def conflict() -> None:
    for name in CONFLICT:
        congruency = np.tile([1.0, -1.0], TRIALS // 2)
        data = hs.simulate(name, typical(name) | {"congruency": congruency}, seed=5)
        data["congruency"] = congruency.astype(int)
        first = hs.load_simulator(name).names[0]
        say(name, fitted(f"{first} ~ 1", data, simulator=name))


def own_mixture() -> None:
    """A decision model of one's own with symmetries: the network of the shipped models."""

    @hs.declare(
        parameters={"v": (-4, 4), "a": (0.4, 2), "z": (0.2, 0.8), "t0": (0, 1)},
        outcomes={"rt": "positive", "response": (-1, 1)},
        symmetries=hs.Symmetries(shift="t0", scale="a", scale_powers={"v": 1}, negated=("v",), complemented=("z",)),
    )
    @nb.njit
    def walk(v, a, z, t0, rng):
        x, t = (2 * z - 1) * a, 0.0
        while abs(x) < a:
            x += v * 0.002 + 0.044721 * rng.standard_normal()
            t += 0.002
        return t0 + t, 1 if x > 0 else -1

    likelihood = hs.train_likelihood(walk, n_simulations=40_000, seed=1, progress=False)
    theta = {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}
    say("own_mixture_lp", {"lp": likelihood.log_prob([0.6, 0.9], [1, -1], theta).numpy()})
    formula = "v ~ condition + (1|subject)"
    say("own_mixture", fitted(formula, small_experiment(), simulator=walk, likelihood=likelihood))


def own_counts() -> None:
    """Counts of a black box: an estimator of sbi."""

    @hs.declare(parameters={"rate": (0.5, 20.0)}, outcomes={"chips": "count"}, vectorised=True)
    def cookies(rate, rng):
        return rng.poisson(rate)

    likelihood = hs.train_likelihood(cookies, n_simulations=40_000, seed=1, progress=False)
    data = pd.DataFrame({"location": np.repeat(list("ABCDE"), 20)})
    data["chips"] = np.random.default_rng(1).poisson(8, 100)
    say("own_counts", fitted("rate ~ 1 + (1|location)", data, likelihood=likelihood))


def own_decision() -> None:
    """A decision model of one's own without symmetries: an estimator of sbi of times and choices."""

    @hs.declare(
        parameters={"v": (-3, 3), "a": (0.5, 2), "t0": (0.1, 0.5)}, outcomes={"rt": "positive", "response": (-1, 1)}
    )
    @nb.njit
    def plain(v, a, t0, rng):
        x, t = 0.0, 0.0
        while abs(x) < a:
            x += v * 0.005 + 0.0707 * rng.standard_normal()
            t += 0.005
        return t0 + t, 1 if x > 0 else -1

    likelihood = hs.train_likelihood(plain, n_simulations=10_000, seed=1, progress=False)
    say("own_decision", fitted("v ~ condition", small_experiment()[:200], simulator=plain, likelihood=likelihood))


def sbi() -> None:
    """An estimator of sbi in a Pyro model written by hand."""
    from sbi.inference import NLE

    with torch.random.fork_rng():
        torch.manual_seed(1)
        theta = torch.rand(3000, 1) * 4
        x = theta + torch.randn(3000, 1) * 0.5
        trainer = NLE(density_estimator="maf", show_progress_bars=False, tracker=hs.SilentTracker()).append_simulations(
            theta, x
        )
        estimator = trainer.train(max_num_epochs=3)
    index = np.repeat(np.arange(4), 25)
    observed = torch.tensor(np.random.default_rng(1).normal(2, 0.5, 100)).float()

    def model():
        with pyro.plate("g", 4):
            mu = pyro.sample("mu", dist.Normal(2.0, 1.0))
        with pyro.plate("n", 100):
            pyro.sample("x", hs.SBIToPyro(estimator, mu.unsqueeze(-1), index=index), obs=observed)

    density = hs.flatten(model, {"mu": torch.full((4,), 2.0)})
    say("sbi", {"x": hs.sample(density, **SHORT).x})


def methods() -> None:
    model = hs.HierarchicalModel(["v ~ condition", "z = 0.5"], small_experiment()[:150], likelihood="exact")
    for method in ("laplace", "svi", "pyro-nuts"):
        short = SHORT | {"draws": 60, "tune": 60}
        say(f"method_{method}", variables(model.fit(method=method, **short)))
    say("quick", variables(model.fit(quick=True, seed=1, progress=False)))


def simulators() -> None:
    """Simulations, log densities, distribution functions and samples of every shipped model."""
    for name in hs.models().index:
        theta, likelihood = typical(name), hs.load_likelihood(name)
        say(f"sim_{name}", {"d": hs.simulate(name, theta, 2000, seed=7).to_numpy()})
        trials = hs.simulate(name, theta, 50, seed=7)
        outcomes = trials["rt"], trials["response"], theta
        found = {"lp": likelihood.log_prob(*outcomes).numpy(), "cdf": likelihood.cdf(*outcomes).numpy()}
        say(f"lp_{name}", found | {"s": likelihood.sample(theta, 50, seed=3).to_numpy()})


def approximate(formulas, data, **options) -> dict[str, np.ndarray]:
    """By the mode and the curvature there: a density and its gradient at some hundred points."""
    model = hs.HierarchicalModel(formulas, data, **options)
    return variables(model.fit(method="laplace", log_likelihood=True, **SHORT | {"draws": 60, "tune": 1}))


def incomplete() -> None:
    """Trials without rt or response: kernels of events of closed forms, mixtures, races and delays."""
    for name, kinds in (("ddm", ("exact", "neural")), ("lba3", ("exact", "neural")), ("full_ddm", ("neural",))):
        data = hs.simulate(name, typical(name), TRIALS, seed=6)
        deadline, i = float(data["rt"].quantile(0.8)), np.arange(TRIALS)
        late = data["rt"] > deadline
        data = data.assign(
            rt=data["rt"].mask(late | (i % 7 == 0)), response=data["response"].mask(late | (i % 11 == 0))
        )
        first = hs.load_simulator(name).names[0]
        for kind in kinds:
            options = {"simulator": name, "likelihood": kind, "deadline": deadline}
            say(f"incomplete_{name}_{kind}", approximate(f"{first} ~ 1", data, **options))


def accumulators() -> None:
    """A race by one formula of all accumulators."""
    data = hs.simulate("lba", typical("lba"), TRIALS, seed=8)
    data["stimulus"], data["subject"] = np.tile([0, 1], TRIALS // 2), np.repeat(list("abcd"), TRIALS // 4)
    options = {"simulator": "lba", "likelihood": "exact", "stimulus": "stimulus"}
    say("accumulators", approximate("v ~ match + (match|subject)", data, **options))


def learning() -> None:
    """A covariate that is computed along trials."""
    data, rng = small_experiment(), np.random.default_rng(9)
    data["feedback"], data["trial"] = rng.integers(0, 2, len(data)).astype(float), np.arange(len(data))
    rule = hs.delta_rule("feedback", "response", "subject", order="trial")
    formulas = ["v ~ 0 + dq + (0 + dq|subject)", "z = 0.5"]
    say("learning", approximate(formulas, data, likelihood="exact", sequences={"dq": rule}))


def terms() -> None:
    """Smooth and monotonic terms, an offset, correlations across parameters, lapses by formula."""
    data, rng = small_experiment(), np.random.default_rng(10)
    data["x"], data["load"] = rng.uniform(size=len(data)).round(1), rng.integers(0, 4, len(data))
    for case, formulas in {
        "smooth": "v ~ s(x)",
        "monotonic": "v ~ mo(load)",
        "offset": "v ~ 1 + offset(x)",
        "tagged": ["v ~ 1 + (1|p|subject)", "a ~ 1 + (1|p|subject)"],
        "lapses": ["v ~ 1", "lapse ~ 1 + (1|subject)"],
    }.items():
        say(f"terms_{case}", approximate(formulas, data, likelihood="exact"))


CASES: dict[str, Callable[[], None]] = {
    case.__name__: case
    for case in (
        demo,
        exact,
        hddm,
        trialwise,
        models,
        exact_models,
        conflict,
        own_mixture,
        own_counts,
        own_decision,
        sbi,
        methods,
        simulators,
        incomplete,
        accumulators,
        learning,
        terms,
    )
}


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")
    if unknown := sorted(set(names) - set(CASES)):
        sys.exit(f"there are no cases {', '.join(unknown)}; cases: {', '.join(CASES)}")
    for name in names or CASES:
        CASES[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
