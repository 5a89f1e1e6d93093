"""Peers: Pyro's own NUTS, plain and jit_compile, beside compiled NUTS, at 1k, 8k and 40k trials of 40 subjects.

Milliseconds per gradient, least bulk effective sample size (all parameters) per second of sampling and per second in
all, from a process that has imported everything to the last draw, with every cache empty, so that all is compiled, and peak memory.
Every row in a process of its own; Pyro gets fewer draws, or this would take a day. `python -m benchmarks.peers 8000` for
that many trials only. HSSM, where it is installed, is not run from here: it needs an environment of its own.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import arviz as az
import numpy as np
import torch

import hddm_sbi as hs
from hddm_sbi.compile import flatten
from hddm_sbi.experiment import FORMULAS, simulate_experiment
from hddm_sbi.inference import sample
from hddm_sbi.start import start_values

TRIALS = (1_000, 8_000, 40_000)
#: chains, tuning steps and draws of every sampler.
RUNS = {"compiled": (2, 500, 1_000), "Pyro": (1, 150, 150), "Pyro jit": (1, 150, 150)}


def pyro_nuts(model: hs.HierarchicalModel, tune: int, draws: int, jit: bool) -> tuple[np.ndarray, int]:
    """Draws (1, draws, n) of Pyro's NUTS from our starting values, and the number of gradients."""
    import pyro.infer.mcmc.hmc
    import pyro.ops.integrator
    from pyro.infer import MCMC, NUTS

    counted, gradient = [0], pyro.ops.integrator.potential_grad

    def count(*arguments):
        counted[0] += 1
        return gradient(*arguments)

    density = flatten(model.hierarchy, start_values(model.hierarchy, model._pooled), "eager")
    start = density.unflatten(torch.from_numpy(density.start))
    pyro.ops.integrator.potential_grad = pyro.infer.mcmc.hmc.potential_grad = count
    with pyro.validation_enabled(False):
        kernel = NUTS(model.pyro_model, jit_compile=jit, ignore_jit_warnings=True)
        run = MCMC(kernel, num_samples=draws, warmup_steps=tune, initial_params=start, disable_progbar=True)
        run.run()
    samples = run.get_samples()
    x = torch.cat([density.transforms[n](samples[n]).reshape(draws, -1) for n in density.names], -1)
    return x.detach().numpy()[np.newaxis], counted[0]


def fit(name: str, n: int, kind: str) -> None:
    """Fit and print one row."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    warnings.simplefilter("ignore")
    chains, tune, draws = RUNS[name]
    began = time.perf_counter()
    model = hs.HierarchicalModel(FORMULAS, simulate_experiment(40, n // 80, seed=1).trials, likelihood=kind)
    if name == "compiled":
        density = model.density
        sampling = time.perf_counter()
        options = {"draws": draws, "tune": tune, "chains": chains, "seed": 1, "method": "nuts", "progress": False}
        x = sample(density, model.hierarchy, **options).x
        seconds = time.perf_counter() - sampling
        at, evaluations = density.start + 0.05, 200
        once = time.perf_counter()
        for _ in range(evaluations):
            density(at)
        per_gradient, total = (time.perf_counter() - once) / evaluations, sampling - began + seconds
    else:
        sampling = time.perf_counter()
        x, gradients = pyro_nuts(model, tune, draws, jit=name == "Pyro jit")
        seconds = time.perf_counter() - sampling
        per_gradient, total = seconds / gradients, time.perf_counter() - began
    ess = min(float(az.ess(np.ascontiguousarray(x[..., i]), method="bulk")) for i in range(x.shape[-1]))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{n:6d} trials, {kind:6s}, {name:8s}: {per_gradient * 1e3:8.3f} ms per gradient; least bulk ESS {ess:6.0f} in "
        f"{seconds:6.1f} s: {ess / seconds:8.3f} per second, {ess / total:7.3f} in all; {memory:.2f} GiB",
        flush=True,
    )


def main(sizes: tuple[int, ...] = TRIALS, kinds: tuple[str, ...] = ("exact", "neural")) -> None:
    for n in sizes:
        for kind in kinds:
            for name in RUNS:
                with tempfile.TemporaryDirectory() as cache:
                    command = [sys.executable, "-m", "benchmarks.peers", "--one", name, str(n), kind]
                    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
                    subprocess.run(command, check=True, cwd=Path(__file__).parents[1], env=environment)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fit(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main(tuple(map(int, sys.argv[1:])) or TRIALS)
