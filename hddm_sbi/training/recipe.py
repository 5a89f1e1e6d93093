"""The recipe of a mixture network: everything that decides its weights."""

from __future__ import annotations

from dataclasses import dataclass

from hddm_sbi.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights. The same recipe gives the same weights on the same machine.

    n_thetas, n_trials: parameter sets, and simulated trials of each. bins: of log decision time, per choice. steps,
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
    optimizer: str = "soap"

    def __post_init__(self) -> None:
        if self.optimizer not in ("soap", "adam"):
            raise InputError(f"optimizer must be 'soap' or 'adam'; got {self.optimizer!r}.")
