"""Scale: minutes, memory and effective samples of whole fits from a thousand to a million trials, exact likelihood.

Every size in a process of its own. `python -m benchmarks.scale 1000` for that many subjects of as many trials only;
`python -m benchmarks.scale covariate` for the covariate of every trial. A run of all sizes draws docs/scale.png.
"""

import json
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
from hddm_sbi.inference import inference_data

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


def fit(size: str) -> dict[str, float | str]:
    """Facts about one fit: seconds of building, compiling and sampling, memory, effective samples."""
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
    population = inference_data.dataset(posterior)[model.hierarchy.population_names]
    name, ess = inference_data.worst_ess(population)
    return {
        "trials": len(data),
        "parameters": density.size,
        "build": built - began,
        "gradient": gradient,
        "fit": end - sampling,
        "cpu": cpu,
        "steps": float(posterior["sample_stats"]["n_steps"].to_numpy().mean()),
        "GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "ess": ess,
        "least": name,
        "rhat": inference_data.worst_rhat(population)[1],
    }


def figure(rows: list[dict[str, float]], path: Path) -> None:
    """Seconds and memory of whole fits against trials."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    trials = [row["trials"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.loglog(trials, [row["build"] + row["fit"] for row in rows], "o-", label="build, compile and fit")
    left.loglog(trials, [row["fit"] for row in rows], "o-", label=f"fit, {CHAINS} x ({TUNE} + {DRAWS})")
    left.axhline(600, color="grey", linestyle=":", label="10 minutes")
    left.set(xlabel="trials", ylabel="seconds")
    left.legend(frameon=False)
    right.semilogx(trials, [row["GiB"] for row in rows], "o-", color="tab:green")
    right.axhline(4, color="grey", linestyle=":", label="4 GiB")
    right.set(xlabel="trials", ylabel="peak memory, GiB", ylim=(0, 4.4))
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main(sizes: tuple[str, ...] = (*map(str, SIZES), "covariate")) -> None:
    root, rows = Path(__file__).parents[1], []
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.scale", "--one", size]
        said = subprocess.run(command, check=True, cwd=root, stdout=subprocess.PIPE, text=True).stdout
        row = json.loads(said.splitlines()[-1])
        print(
            "{trials} trials, {parameters} parameters: {build:.1f} s to build and compile, {ms:.2f} ms per gradient, "
            "{fit:.0f} s to fit ({cpu:.0f} CPU s, {steps:.0f} steps per draw), {GiB:.2f} GiB, effective samples of the "
            "population at least {ess:.0f} ({least}), Rhat at most {rhat:.3f}".format(ms=row["gradient"] * 1e3, **row),
            flush=True,
        )
        rows += [row] if size != "covariate" else []
    if len(rows) == len(SIZES):
        figure(rows, root / "docs" / "scale.png")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(fit(sys.argv[2])))
    else:
        main(tuple(sys.argv[1:]) or (*map(str, SIZES), "covariate"))
