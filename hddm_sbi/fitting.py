"""sbi's trainer, in stages of larger batches and smaller steps, stopped early or by a budget of seconds."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from hddm_sbi.bridge import SilentTracker, validation_kept
from hddm_sbi.encoding import Encoded, Encoding
from hddm_sbi.estimators import EstimatorShape, build, kind

#: (batch, step of Adam) of every stage: the noise of the gradient goes down with both.
_STAGES = ((512, 4e-3), (2_048, 1e-3), (8_192, 3e-4))
#: a stage has at least so many epochs and so many steps before it is cut off.
_EPOCHS, _STEPS = 10, 1_500
#: share of the simulations on which every epoch is judged.
_VALIDATION = 0.1
_VALIDATION_BATCH = 10_000


@dataclass(frozen=True)
class Fitted:
    """A trained estimator. validation: minus the mean log density of encoded outcomes, epoch by epoch, of simulations
    it was not trained on. cut_short: whether the budget ended it."""

    estimator: Any
    validation: tuple[float, ...]
    cut_short: bool


class _Batches:
    """What sbi's loop needs of a data loader, for tensors: torch's own takes longer than the network."""

    def __init__(self, tensors: tuple[Tensor, ...], batch_size: int, shuffle: bool) -> None:
        self.tensors, self.batch_size, self.shuffle = tensors, min(batch_size, len(tensors[0])), shuffle

    def __len__(self) -> int:
        return len(self.tensors[0]) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        n = len(self.tensors[0])
        order = torch.randperm(n) if self.shuffle else torch.arange(n)
        for rows in order[: len(self) * self.batch_size].split(self.batch_size):
            yield tuple(tensor.index_select(0, rows) for tensor in self.tensors)


@cache
def _trainer(mixed: bool) -> Any:
    """sbi's NLE or MNLE with batches of ours and a clock."""
    with validation_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sbi.inference import MNLE, NLE

    class Trainer(MNLE if mixed else NLE):  # type: ignore[misc]
        deadline = float("inf")
        bar: Any = None

        def get_dataloaders(self, *arguments: Any, **options: Any) -> tuple[_Batches, _Batches]:
            simulations = self.get_simulations(0)
            n = round(len(simulations[0]) * (1 - _VALIDATION))
            self.train_indices = torch.arange(n)
            trained, held_out = zip(*((tensor[:n], tensor[n:]) for tensor in simulations), strict=True)
            return _Batches(trained, arguments[1], shuffle=True), _Batches(held_out, _VALIDATION_BATCH, shuffle=False)

        def _converged(self, epoch: int, stop_after_epochs: int) -> bool:
            if self.bar is not None and epoch:
                self.bar.update()
                self.bar.set_postfix(validation=f"{self._val_loss:.4f}")
            converged = bool(super()._converged(epoch, stop_after_epochs))
            if not converged and epoch and time.monotonic() > self.deadline:
                self._neural_net.load_state_dict(self._best_model_state_dict)
                return True
            return converged

    return Trainer


def fit_estimator(
    encoding: Encoding,
    shape: EstimatorShape,
    condition: Tensor,
    encoded: Encoded,
    *,
    seed: int,
    seconds: float = float("inf"),
    progress: bool = True,
) -> Fitted:
    """Train an estimator on encoded outcomes (n, ...) at conditions (n, width).

    Every stage begins at the best weights of the one before and ends where simulations held out (the last tenth of the
    rows) have not become likelier for a few epochs. The same seed gives the same weights while the budget is not spent.
    """
    x, deadline = torch.cat([encoded.continuous, encoded.discrete], -1).float(), time.monotonic() + seconds
    condition, validation = condition.float(), []
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), redirect_stdout(StringIO()):
        # sbi says how it converged, and warns where a stage reached its last epoch, which is as planned.
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        estimator = build(encoding, shape)
        with tqdm(desc="fit", unit=" epochs", disable=not progress) as bar:
            for batch, step in _STAGES:
                trainer = _trainer(kind(encoding) == "mixed")(
                    density_estimator=lambda *_, begun=estimator: begun,
                    tracker=SilentTracker(),
                    show_progress_bars=False,
                )
                trainer.deadline, trainer.bar = deadline, bar
                trainer.append_simulations(condition, x)
                size = max(1, min(batch, len(x) // 20))
                epochs = max(_EPOCHS, -(-_STEPS * size // len(x)))
                estimator = trainer.train(
                    training_batch_size=size,
                    learning_rate=step,
                    max_num_epochs=epochs - 1,
                    stop_after_epochs=max(3, epochs // 6),
                )
                validation += trainer.summary["validation_loss"]
    return Fitted(estimator, tuple(validation), time.monotonic() > deadline)
