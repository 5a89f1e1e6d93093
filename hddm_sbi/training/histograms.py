"""Simulations of a designed sample of parameters, compressed to histograms of log decision time."""

from pathlib import Path

import numba as nb
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor

from hddm_sbi.likelihoods import Reduction
from hddm_sbi.parallel import ResultStore, run_tasks
from hddm_sbi.seeds import derive_seed
from hddm_sbi.simulation import DecisionModel, Simulator
from hddm_sbi.training.proposal import design_widened, share_rows
from hddm_sbi.training.recipe import Machine, Recipe
from hddm_sbi.training.solutions import solved_shard
from hddm_sbi.types import Array

#: simulated trials that are in memory at a time.
_TOGETHER = 1_000_000


def simulate_histograms(simulator: Simulator, recipe: Recipe, folder: Path, machine: Machine) -> dict[str, Tensor]:
    """Simulate every designed theta and count its trials in bins of log reduced decision time, one file per shard.

    With a recipe of 0 trials the equation of the model is solved instead, as if trials were infinitely many; raises
    InputError where it declares none.

    Returns theta (n, r) reduced; share (n, n_choices, bins), the share of the trials in a bin; mean (n, n_choices,
    bins), their mean log decision time. A race of independent accumulators has one accumulator instead of n_choices.
    """
    shard = simulated_shard if recipe.n_trials else solved_shard
    reduction = Reduction(simulator)
    symmetries = simulator.symmetries
    at_zero = (symmetries.shift, symmetries.delay)
    theta = design_widened(simulator.learned, at_zero, recipe.n_thetas, recipe.seed)
    if recipe.together > 1 and isinstance(simulator, DecisionModel):
        theta = share_rows(theta, [p.name in simulator.solved_for_all for p in simulator.learned], recipe.together)
    n_threads = machine.n_threads
    shards = {
        f"histograms-{index:04d}": (simulator, reduction, theta[first : first + recipe.shard], recipe, index, n_threads)
        for index, first in enumerate(range(0, recipe.n_thetas, recipe.shard))
    }
    store: ResultStore[dict[str, Tensor]] = ResultStore(folder, ".safetensors", _write, load_file)
    n_jobs, progress = machine.n_jobs, machine.progress
    parts = run_tasks(shard, shards, store, n_jobs=n_jobs, unit="shards", progress=progress)
    return {name: torch.cat([part[name] for part in parts.values()]) for name in ("theta", "share", "mean")}


def _write(shard: dict[str, Tensor], path: Path) -> None:
    # safetensors' own way to a file has an exception of its own where the disk is full.
    path.write_bytes(save(shard))


def n_failed(folder: Path, recipe: Recipe) -> int:
    """Number of simulations in the folder that are in no bin of any histogram."""
    shares = [load_file(path)["share"].sum((1, 2)) for path in folder.glob("histograms-*.safetensors")]
    return round(recipe.n_trials * float((1 - torch.cat(shares).double()).sum()))


def simulated_shard(
    simulator: Simulator, reduction: Reduction, theta: Array, recipe: Recipe, index: int, n_threads: int
) -> dict[str, Tensor]:
    """Histograms of simulated trials of these thetas."""
    n = len(theta)
    shape = (n, 1 if reduction.racing else reduction.n_choices, recipe.bins)
    share, mean = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    together = max(1, _TOGETHER // recipe.n_trials)
    for first in range(0, n, together):
        rows = slice(first, min(n, first + together))
        seed = derive_seed(recipe.seed, index, first, bits=64)
        rt, choice = _simulate_learned(simulator, np.repeat(theta[rows], recipe.n_trials, axis=0), seed, n_threads)
        at = torch.as_tensor(theta[rows])
        y = reduction.log_time(torch.as_tensor(rt).reshape(-1, recipe.n_trials), at)[0].numpy()
        _count(y, choice.reshape(-1, recipe.n_trials), share[rows], mean[rows])
    reduced = reduction.reduce(torch.as_tensor(theta)).float()
    return {"theta": reduced, "share": torch.from_numpy(share), "mean": torch.from_numpy(mean)}


def _simulate_learned(simulator: Simulator, theta: Array, seed: int, n_threads: int) -> tuple[Array, NDArray[np.int64]]:
    """Trials, or finishing times of one accumulator of a race (choice 0 throughout); choice -1 where one failed."""
    if isinstance(simulator, DecisionModel) and simulator.races:
        return simulator.simulate_accumulator(theta, seed, n_threads), np.zeros(len(theta), np.int64)
    values = simulator.simulate_outcomes(theta, seed, n_threads=n_threads).values
    return values[:, 0], np.where(np.isnan(values[:, 1]), -1, values[:, 1]).astype(np.int64)


@nb.njit(cache=True, nogil=True)
def _count(y: Array, choice: NDArray[np.int64], share: NDArray[np.float32], mean: NDArray[np.float32]) -> None:
    """Equal-width bins between the smallest and largest y of every (theta, choice)."""
    n, trials = y.shape
    bins = share.shape[2]
    total = np.empty(bins)
    count = np.empty(bins)
    for i in range(n):
        for c in range(share.shape[1]):
            low, high = np.inf, -np.inf
            for j in range(trials):
                if choice[i, j] == c:
                    low, high = min(low, y[i, j]), max(high, y[i, j])
            if low > high:
                continue
            per_unit = bins / (high - low + 1e-9)
            total[:] = 0.0
            count[:] = 0.0
            for j in range(trials):
                if choice[i, j] == c:
                    b = min(int((y[i, j] - low) * per_unit), bins - 1)
                    total[b] += y[i, j]
                    count[b] += 1.0
            for b in range(bins):
                share[i, c, b] = count[b] / trials
                mean[i, c, b] = total[b] / count[b] if count[b] > 0 else low
