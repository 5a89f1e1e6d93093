"""Simulator -> weights: designed parameters, simulations compressed to histograms, and the network fitted to those."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.stats import qmc
from torch import Tensor
from tqdm import tqdm

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.mixture.network import Architecture, Mixture, MixtureNetwork
from hddm_sbi.likelihoods.mixture.reduction import Reduction, learned_parameters
from hddm_sbi.parallel import ResultStore, check_recipe, run_tasks
from hddm_sbi.simulation import DecisionModel, Simulator
from hddm_sbi.types import Array

Watch = Callable[[MixtureNetwork], bool]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights. The same recipe gives the same weights on the same machine.

    thetas x trials simulations, in `bins` of log decision time per choice; `steps` of the optimizer, "soap" or "adam".
    """

    thetas: int = 100_000
    trials: int = 10_000
    bins: int = 96
    steps: int = 40_000
    batch: int = 256
    learning_rate: float = 1e-2
    seed: int = 1
    shard: int = 5_000
    optimizer: str = "soap"

    def __post_init__(self) -> None:
        if self.optimizer not in ("soap", "adam"):
            raise InputError(f"optimizer must be 'soap' or 'adam'; got {self.optimizer!r}.")


def train(
    simulator: Simulator,
    recipe: Recipe,
    folder: Path,
    architecture: Architecture | None = None,
    *,
    device: str = "cpu",
    n_jobs: int | None = None,
    n_threads: int = 1,
    progress: bool = True,
    watch: Watch | None = None,
) -> MixtureNetwork:
    """Simulate, compress and fit. Everything is kept in `folder`, and a run that was stopped goes on from there.

    n_jobs: processes that simulate, as in `parallel.run_tasks`; n_threads: of each. Neither changes the weights.
    device: where the fit runs, "cpu" or "cuda"; simulations always run on the CPU. watch: sees the mean network every
    500 steps, and ends the fit by returning True.
    """
    check_device(device)
    architecture = architecture or Architecture()
    folder.mkdir(parents=True, exist_ok=True)
    learned = {p.name: [p.low, p.high] for p in learned_parameters(simulator)}
    check_recipe(folder, {"learned": learned, **asdict(recipe), **architecture.as_dict()})
    data = simulate_histograms(simulator, recipe, folder, n_jobs=n_jobs, n_threads=n_threads, progress=progress)
    return fit(simulator, recipe, architecture, data, folder, device=device, progress=progress, watch=watch)


def check_device(device: str) -> None:
    """Raises InputError where torch cannot train on `device`."""
    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = torch.device("meta")
    if wanted.type not in ("cpu", "cuda"):
        raise InputError(f"device must be 'cpu', 'cuda', or one of several GPUs, as 'cuda:1'; got {device!r}.")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted.type == "cuda" and (wanted.index or 0) >= there:
        raise InputError(
            f"device={device!r} needs a GPU, but torch {torch.__version__} finds {there or 'none'}: train on 'cpu', or "
            "install the build of torch for your GPU and its driver."
        )


# ---- simulations, compressed


def design(simulator: Simulator, n: int, seed: int) -> Array:
    """n parameter sets of what is learned, (n, p): a scrambled Sobol sequence over the box widened by 5 %, with shift
    and delay at 0 and given conditions at either of their codes.

    Widening keeps the edge of the box inside the training region.
    """
    parameters = learned_parameters(simulator)
    sobol = qmc.Sobol(len(parameters), scramble=True, rng=np.random.default_rng(seed))
    points = sobol.random_base2((n - 1).bit_length())[:n]
    theta = np.empty_like(points)
    for column, p in enumerate(parameters):
        margin = 0.05 * (p.high - p.low)
        low = max(p.low - margin, (p.low + p.support[0]) / 2)
        high = min(p.high + margin, (p.high + p.support[1]) / 2)
        theta[:, column] = low + (high - low) * points[:, column]
        if p.name in (simulator.symmetries.shift, simulator.symmetries.delay):
            theta[:, column] = 0.0
        elif p.from_data:
            theta[:, column] = np.where(points[:, column] < 0.5, p.low, p.high)
    return theta


def simulate_histograms(
    simulator: Simulator,
    recipe: Recipe,
    folder: Path,
    *,
    n_jobs: int | None = None,
    n_threads: int = 1,
    progress: bool = True,
) -> dict[str, Tensor]:
    """Simulations of every designed theta, counted in bins of log reduced decision time: one file per shard.

    theta (n, r) reduced; share (n, n_choices, bins) of trials in a bin, mean of log decision time in it; of a race of
    independent accumulators, one of them instead of n_choices.
    """
    reduction = Reduction(simulator)
    theta = design(simulator, recipe.thetas, recipe.seed)
    shards = {
        f"histograms-{index:04d}": (simulator, reduction, theta[first : first + recipe.shard], recipe, index, n_threads)
        for index, first in enumerate(range(0, recipe.thetas, recipe.shard))
    }
    store: ResultStore[dict[str, Tensor]] = ResultStore(folder, ".safetensors", save_file, load_file)
    parts = list(run_tasks(_histogram_shard, shards, store, n_jobs=n_jobs, unit="shards", progress=progress).values())
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _histogram_shard(
    simulator: Simulator, reduction: Reduction, theta: Array, recipe: Recipe, index: int, n_threads: int
) -> dict[str, Tensor]:
    n = len(theta)
    shape = (n, 1 if reduction.racing else reduction.n_choices, recipe.bins)
    share, mean = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    together = max(1, 1_000_000 // recipe.trials)
    for first in range(0, n, together):
        rows = slice(first, min(n, first + together))
        seed = hash_seed(recipe.seed, index, first)
        rt, choice = _simulate_learned(simulator, np.repeat(theta[rows], recipe.trials, axis=0), seed, n_threads)
        at = torch.as_tensor(theta[rows])
        y = reduction.log_time(torch.as_tensor(rt).reshape(-1, recipe.trials), at)[0].numpy()
        _count(y, choice.reshape(-1, recipe.trials), share[rows], mean[rows])
    reduced = reduction.reduce(torch.as_tensor(theta)).float()
    return {"theta": reduced, "share": torch.from_numpy(share), "mean": torch.from_numpy(mean)}


def _simulate_learned(simulator: Simulator, theta: Array, seed: int, n_threads: int) -> tuple[Array, NDArray[np.int64]]:
    """Trials, or finishing times of one accumulator of a race (choice 0 throughout); choice -1 where one failed."""
    if isinstance(simulator, DecisionModel) and simulator.races:
        return simulator.simulate_accumulator(theta, seed, n_threads), np.zeros(len(theta), np.int64)
    values = simulator.simulate_outcomes(theta, seed, n_threads=n_threads).values
    return values[:, 0], np.where(np.isnan(values[:, 1]), -1, values[:, 1]).astype(np.int64)


def hash_seed(*parts: int) -> int:
    """One 64-bit seed from several whole numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


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


# ---- the fit


def fit(
    simulator: Simulator,
    recipe: Recipe,
    architecture: Architecture,
    data: dict[str, Tensor],
    folder: Path,
    *,
    device: str = "cpu",
    progress: bool = True,
    watch: Watch | None = None,
) -> MixtureNetwork:
    """Minimise - sum share * log p(choice, y) on a cosine schedule; the mean of late weights is returned.

    The state is written to `folder` every 2 000 steps, and a stopped run resumes from it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = MixtureNetwork(Reduction(simulator), architecture).to(device)
    average = copy.deepcopy(network)
    optimizer = _optimizer(recipe, network)
    data = {name: value.to(device) for name, value in data.items()}
    state = folder / "state.safetensors"
    first = _resume(state, network, average, optimizer)
    bar = tqdm(
        range(first, recipe.steps), initial=first, total=recipe.steps, desc="fit", disable=not progress, mininterval=5
    )
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, recipe.steps)
        # Each step draws its batch from its own stream, so a resumed run sees the same batches.
        rows = np.random.default_rng([recipe.seed, step]).integers(0, len(data["theta"]), recipe.batch)
        loss = _loss(network, {name: value[torch.as_tensor(rows)] for name, value in data.items()})
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        _update_average(average, network, step, recipe.steps)
        if (step + 1) % 2_000 == 0 or step + 1 == recipe.steps:
            bar.set_postfix(loss=f"{float(loss.detach()):.5f}")
            _save_state(state, network, average, optimizer, step + 1)
            # A file lays tensors out in rows, and products of those round differently: every run goes on from its file.
            _resume(state, network, average, optimizer)
        if watch is not None and (step + 1) % 500 == 0 and watch(average):
            break
    return average.cpu()


def _loss(network: MixtureNetwork, batch: dict[str, Tensor]) -> Tensor:
    mixture = network(network.reduction.by_choice(batch["theta"]))
    z, log_stretch = network.reduction.coordinate(batch["mean"])
    log_p = Mixture(*(part.unsqueeze(2) for part in mixture)).log_prob(z) + log_stretch
    return -(batch["share"] * log_p).sum((1, 2)).mean()


def _schedule(step: int, steps: int) -> float:
    return min(1.0, step / 100) * (0.5 * (1 + math.cos(math.pi * step / steps)) + 5e-4)


def _update_average(average: MixtureNetwork, network: MixtureNetwork, step: int, steps: int) -> None:
    """Exponential mean of the weights over the second half of the run."""
    weight = 1.0 if step < steps // 2 else 0.005
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), weight)


def _optimizer(recipe: Recipe, network: MixtureNetwork) -> torch.optim.Optimizer:
    """Adam, or SOAP (Vyas et al. 2024): Adam in the eigenbasis of Shampoo's preconditioner (docs/decisions/011)."""
    if recipe.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99))
    from pytorch_optimizer import SOAP

    return SOAP(network.parameters(), lr=recipe.learning_rate, betas=(0.95, 0.95), weight_decay=0.0)


# ---- the state of a fit, in a file


def _save_state(
    path: Path, network: MixtureNetwork, average: MixtureNetwork, optimizer: torch.optim.Optimizer, step: int
) -> None:
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in _flat(state).items()}
    partial = path.with_suffix(".part")
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial, {"step": str(step)})
    partial.rename(path)


def _resume(path: Path, network: MixtureNetwork, average: MixtureNetwork, optimizer: torch.optim.Optimizer) -> int:
    """Load a saved state into the three, and return the step to go on from (0 where there is none)."""
    if not path.exists():
        return 0
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
    tensors = load_file(path)
    for name, module in (("network.", network), ("average.", average)):
        module.load_state_dict({k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)})
    saved = optimizer.state_dict()
    for index in range(len(list(network.parameters()))):
        prefix = f"optimizer.{index}."
        saved["state"][index] = _nested({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    for group in saved["param_groups"]:
        group["step"] = step
    optimizer.load_state_dict(saved)
    return step


def _flat(state: dict[str, Any]) -> dict[str, Tensor]:
    """What an optimizer remembers of one parameter, as tensors: numbers have no dimensions, lists are key.0, key.1."""
    flat = {}
    for key, value in state.items():
        for i, part in enumerate(value) if isinstance(value, list) else [(None, value)]:
            number = torch.float64 if isinstance(part, float) else None
            flat[key if i is None else f"{key}.{i}"] = torch.as_tensor(part, dtype=number)
    return flat


def _nested(flat: dict[str, Tensor]) -> dict[str, Any]:
    """`_flat`, undone."""
    state: dict[str, Any] = {}
    for key in sorted(flat):
        name, *position = key.split(".")
        value = flat[key].item() if flat[key].ndim == 0 else flat[key]
        if position:
            state.setdefault(name, []).append(value)
        else:
            state[name] = value
    return state
