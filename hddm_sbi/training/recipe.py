"""The recipe of a mixture network, which decides its weights, and the machine that follows it."""

from dataclasses import dataclass

import torch

from hddm_sbi.errors import InputError
from hddm_sbi.training.descent import OptimizerName


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights. The same recipe gives the same weights on the same machine.

    n_thetas, n_trials: parameter sets, and simulated trials of each; 0 trials: the model's equation is solved instead,
    which gives the shares of infinitely many. together: consecutive parameter sets that differ only in what the model
    names as `solved_for_all`. bins: of log decision time, per choice. steps,
    batch, learning_rate, optimizer: of the fit; the optimizer is "soap" or "adam". shard: parameter sets in one file
    of simulations.
    """

    n_thetas: int = 100_000
    n_trials: int = 10_000
    bins: int = 96
    steps: int = 40_000
    batch: int = 256
    learning_rate: float = 1e-2
    seed: int = 1
    shard: int = 5_000
    optimizer: OptimizerName = "soap"
    together: int = 1

    def __post_init__(self) -> None:
        if self.optimizer not in ("soap", "adam"):
            raise InputError(f"optimizer must be 'soap' or 'adam'; got {self.optimizer!r}.")


@dataclass(frozen=True)
class Machine:
    """Where a training runs. Raises InputError where torch cannot train on the device.

    n_jobs: processes that simulate, as in `parallel.run_tasks`; n_threads: of each. Neither changes the weights.
    device: where the fit runs, "cpu" or "cuda"; simulations always run on the CPU. progress: whether bars are shown.
    """

    n_jobs: int | None = None
    n_threads: int = 1
    device: str = "cpu"
    progress: bool = True

    def __post_init__(self) -> None:
        try:
            wanted = torch.device(self.device)
        except RuntimeError:
            wanted = torch.device("meta")
        if wanted.type not in ("cpu", "cuda"):
            raise InputError(f"device must be 'cpu', 'cuda', or one of several GPUs, as 'cuda:1'; got {self.device!r}.")
        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if wanted.type == "cuda" and (wanted.index or 0) >= there:
            raise InputError(
                f"device={self.device!r} needs a GPU, but torch {torch.__version__} finds {there or 'none'}: train on "
                "'cpu', or install the build of torch for your GPU and its driver."
            )
