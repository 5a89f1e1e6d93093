"""Compiler: milliseconds per gradient eager and compiled, and effective samples per CPU second.

40 subjects x 2 conditions of the demo's experiment. "besides the likelihood": the same without any trials.
`python -m benchmarks.compiler 1000 8000` for these numbers of trials only.
"""

import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import torch

import hddm_sbi as hs
from benchmarks.timing import best_seconds
from hddm_sbi.inference import inference_data
from hddm_sbi.inference.density import Route
from hddm_sbi.likelihoods.decision import SortedTrials

TRIALS = (1_000, 8_000, 40_000)
PATHS: tuple[Route, ...] = ("eager", "compiled")


def gradients(model: hs.HierarchicalModel) -> dict[str, float]:
    """Milliseconds per gradient of every path, and the seconds that compiling took."""
    start = model.start
    row = {}
    for path in PATHS:
        began = time.process_time()
        density = hs.flatten(model.hierarchy, start, path)
        seconds = time.process_time() - began
        x = density.start + 0.05
        row[path] = best_seconds(lambda f=density, x=x: f(x), 30) * 1e3
    return {**row, "compile s": seconds}


def besides_the_likelihood(model: hs.HierarchicalModel) -> float:
    """Microseconds of a compiled gradient of the same cells without any trials, under a closed form."""
    full = model.hierarchy.trials
    none = replace(full, starts=np.zeros_like(full.starts), rt=full.rt[:0])
    density = hs.flatten(replace(model.hierarchy, trials=none), model.start)
    x = density.start + 0.05
    return best_seconds(lambda: density(x), 300) * 1e6


def effective_samples(model: hs.HierarchicalModel) -> tuple[float, int]:
    """Least effective sample size per CPU second of sampling, 2 chains x (300 + 300), and the divergences."""
    model.density  # noqa: B018 - compiled before the clock starts
    began = time.process_time()
    posterior = model.fit(draws=300, tune=300, chains=2, seed=1, progress=False)
    seconds = time.process_time() - began
    _, ess = inference_data.worst_ess(inference_data.dataset(posterior))
    return ess / seconds, int(np.sum(posterior["sample_stats"]["diverging"].to_numpy()))


def network_and_mixture(n_cells: int) -> float:
    """Milliseconds of the learned likelihood with gradient, 40 000 trials in so many cells, called from torch."""
    rng = np.random.default_rng(3)
    theta = np.array([0.8, 0.9, 0.5, 0.3]) + 0.1 * rng.random((n_cells, 4))
    cell = np.repeat(np.arange(n_cells), 40_000 // n_cells)
    rt, choice = hs.load_simulator("ddm").simulate(theta[cell], 3)
    trials, likelihood = SortedTrials.sort(rt, choice, cell, n_cells, 2), hs.load_likelihood("ddm")
    at, lapse = torch.tensor(theta, requires_grad=True), torch.tensor(0.05, dtype=torch.float64)

    def gradient() -> None:
        torch.autograd.grad(likelihood.log_prob_by_cell(trials, at, lapse).sum(), at)

    return best_seconds(gradient, 8) * 1e3


def main(sizes: tuple[int, ...] = TRIALS) -> None:
    warnings.simplefilter("ignore")
    for n in sizes:
        experiment = hs.simulate_experiment(n_subjects=40, n_trials=n // 80, seed=1)
        for kind in ("exact", "neural"):
            model = hs.HierarchicalModel(experiment.formulas, experiment.trials, likelihood=kind)
            row = gradients(model)
            besides = f"{besides_the_likelihood(model):.0f}" if kind == "exact" else "-"
            print(
                f"{len(experiment.trials):6d} trials, {kind:6s}: eager {row['eager']:6.2f}, "
                f"compiled {row['compiled']:7.4f} ms per gradient "
                f"({row['eager'] / row['compiled']:4.0f} times eager); besides the likelihood {besides} "
                f"microseconds; record and compile {row['compile s']:.1f} CPU s"
            )
            rate, divergences = effective_samples(model)
            print(f"{'':6s}         {'':6s}  {rate:6.1f} effective samples per CPU second ({divergences} divergences)")
    for n_cells in (80, 40_000):
        print(
            f"learned likelihood, 40 000 trials in {n_cells} cells: {network_and_mixture(n_cells):.1f} ms per gradient"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tuple(map(int, sys.argv[1:])) or TRIALS)
