"""Scale: minutes, memory and effective samples of whole fits from a thousand to a million trials, exact likelihood.

Every size in a process of its own. `python -m benchmarks.scale 1000` for that many subjects of as many trials only;
`python -m benchmarks.scale covariate` for the covariate of every trial.
"""

import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import hddm_sbi as hs
from hddm_sbi import idata

FORMULAS = ["v ~ condition + (condition|subject)", "a ~ 1 + (1|subject)", "t0 ~ 1 + (1|subject)"]
#: subjects, and trials of each.
SIZES = (32, 100, 316, 1_000)
CHAINS, TUNE, DRAWS = 2, 300, 300


def experiment(n: int, seed: int = 1) -> pd.DataFrame:
    """n subjects x n trials, half of them hard; drifts, their slopes, thresholds and onsets differ between subjects."""
    rng = np.random.default_rng(seed)
    subject, hard = np.repeat(np.arange(n), n), np.tile(np.arange(n) % 2, n)
    theta = {
        "v": (1.8 + 0.4 * rng.normal(size=n))[subject] + (-0.7 + 0.3 * rng.normal(size=n))[subject] * hard,
        "a": np.exp(0.15 * rng.normal(size=n))[subject],
        "z": 0.5,
        "t0": np.exp(np.log(0.3) + 0.15 * rng.normal(size=n))[subject],
    }
    trials = hs.simulate("ddm", theta, seed=seed)
    return trials.assign(subject=subject.astype(str), condition=np.where(hard, "hard", "easy"))


def every_trial_its_own(n: int = 100_000, n_subjects: int = 40, seed: int = 1) -> pd.DataFrame:
    """A drift that follows a covariate of every trial, with slopes of the subjects' own."""
    rng = np.random.default_rng(seed)
    subject, load = np.arange(n) % n_subjects, rng.normal(size=n)
    own = [sd * rng.normal(size=n_subjects)[subject] for sd in (0.4, 0.2, 0.15)]
    theta = {"v": 1.0 + own[0] + (0.5 + own[1]) * load, "a": np.exp(own[2]), "z": 0.5, "t0": 0.3}
    return hs.simulate("ddm", theta, seed=seed).assign(subject=subject.astype(str), load=load)


def fit(size: str) -> None:
    """Fit and print one line: trials, seconds of building, compiling and sampling, memory, effective samples."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    covariate = size == "covariate"
    data = every_trial_its_own() if covariate else experiment(int(size))
    formulas = ["v ~ load + (load|subject)", "a ~ 1 + (1|subject)"] if covariate else FORMULAS
    began = time.perf_counter()
    model = hs.HierarchicalModel(formulas, data, likelihood="exact")
    density = model.density
    built = time.perf_counter()
    x = density.start + 0.01
    density(x)
    density(x)
    gradient = time.perf_counter()
    for _ in range(3):
        density(x)
    gradient = (time.perf_counter() - gradient) / 3
    sampling, cpu = time.perf_counter(), time.process_time()
    posterior = model.fit(draws=DRAWS, tune=TUNE, chains=CHAINS, seed=1, progress=False)
    end, cpu = time.perf_counter(), time.process_time() - cpu
    population = idata.dataset(posterior)[model.hierarchy.population_names]
    name, ess = idata.worst_ess(population)
    _, rhat = idata.worst_rhat(population)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    steps = float(posterior["sample_stats"]["n_steps"].to_numpy().mean())
    print(
        f"{len(data)} trials, {density.size} parameters: {built - began:.1f} s to build and compile, "
        f"{gradient * 1e3:.2f} ms per gradient, {end - sampling:.0f} s to fit ({cpu:.0f} CPU s, {steps:.0f} steps per "
        f"draw), {memory:.2f} GiB, effective samples of the population at least {ess:.0f} ({name}), Rhat at most "
        f"{rhat:.3f}",
        flush=True,
    )


def main(sizes: tuple[str, ...] = (*map(str, SIZES), "covariate")) -> None:
    for size in sizes:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.scale", "--one", size], check=True, cwd=Path(__file__).parents[1]
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fit(sys.argv[2])
    else:
        main(tuple(sys.argv[1:]) or (*map(str, SIZES), "covariate"))
