"""What answers cost and how far they are off: response times of a law, averages over a population, ordinates of points.

python -m benchmarks.answers
"""

import time
import warnings

import numpy as np
import torch
from scipy.stats import norm

import hddm_sbi as hs
from hddm_sbi.analysis.hypothesis import _log_density_at_zero
from hddm_sbi.likelihoods.outcome_law import PROBABILITIES, decision_law

#: one theta of every model.
MODELS = ("ddm", "angle", "full_ddm", "lba", "dmc")
ROWS, GROUPS, MANY = 200, (10, 30, 100), 3_000


def law_and_cdf() -> None:
    """Milliseconds of the law of one theta, and of as many times of its distribution function."""
    print("law of one theta, ms: density on a grid | 20 values of cdf per response | 500 simulated trials")
    for name, kind in [("ddm", "exact"), *((name, "neural") for name in MODELS)]:
        likelihood = hs.load_likelihood(name, kind=kind)
        simulator = likelihood.simulator
        at = [p.codes[-1] if p.codes else np.mean(p.typical or (p.low, p.high)) for p in simulator.parameters]
        theta = np.tile(np.array(at, dtype=np.float64), (ROWS, 1))
        n, choices = 20, len(simulator.choices)
        values = np.stack(
            [np.tile(np.linspace(0.3, 2.0, n), choices * ROWS), np.tile(np.repeat(range(choices), n), ROWS)]
        )
        rows = torch.as_tensor(values.T.astype(np.float64).copy()), torch.as_tensor(theta.repeat(n * choices, 0))
        seconds = []
        for run in (
            lambda: decision_law(likelihood, theta, PROBABILITIES),  # noqa: B023 - run at once
            lambda: likelihood.cdf_rows(*rows),  # noqa: B023 - run at once
            lambda: simulator.simulate_outcomes(theta.repeat(500, 0), 1),  # noqa: B023 - run at once
        ):
            with torch.no_grad():
                run()
                began = time.perf_counter()
                run()
                seconds.append((time.perf_counter() - began) / ROWS)
        print(f"  {name:9s} {kind:7s} " + " | ".join(f"{1e3 * s:.3f}" for s in seconds))


def averages() -> None:
    """Seconds of predictions, and how far averages over few groups are from those over many, in posterior sds."""
    warnings.simplefilter("ignore", hs.ConvergenceWarning)
    trials = hs.simulate_experiment().trials
    formulas = ["v ~ condition + (condition|subject)", "a ~ 1 + (1|subject)", "t0 ~ 1 + (1|subject)"]
    for kind in ("exact", "neural"):
        model = hs.HierarchicalModel(formulas, trials, likelihood=kind)
        posterior = model.fit(draws=500, tune=500, chains=4, seed=1, progress=False)
        hs.predictions(model, posterior, by="condition", draws=2)
        began = time.perf_counter()
        hs.predictions(model, posterior, by="condition")
        print(f"predictions by condition, {kind}: {time.perf_counter() - began:.1f} s")
        if kind == "neural":
            continue
        tables = {n: hs.predictions(model, posterior, by="condition", draws=20, groups=n) for n in (*GROUPS, MANY)}
        exact = tables[MANY].query("level == 'average'")
        for n in GROUPS:
            off = (tables[n].query("level == 'average'")["mean"] - exact["mean"]).abs() / exact["sd"]
            print(f"averages over {n} groups: off by {off.median():.3f} sds in the median, {off.max():.3f} at most")


def ordinates() -> None:
    """Relative error of the density of 4 000 normal draws at some sds from their mean: bias and sd over 200 seeds."""
    for distance in (0.0, 1.0, 2.0, 2.5):
        found = [
            np.exp(_log_density_at_zero(np.random.default_rng(seed).normal(distance, 1.0, 4_000), "x = 0"))
            for seed in range(200)
        ]
        ratio = np.array(found) / norm.pdf(distance)
        print(f"ordinate at {distance} sds: bias {ratio.mean() - 1:+.3f}, sd {ratio.std():.3f}")


if __name__ == "__main__":
    law_and_cdf()
    averages()
    ordinates()
