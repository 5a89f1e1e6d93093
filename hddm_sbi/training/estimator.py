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

from hddm_sbi.likelihoods.sbi.encoding import EncodedOutcomes, Encoding
from hddm_sbi.likelihoods.sbi.estimators import EstimatorShape, build, kind
from hddm_sbi.likelihoods.sbi.log_density import log_table
from hddm_sbi.likelihoods.sbi.pyro import SilentTracker, validation_kept
from hddm_sbi.training.proposal import countable

#: (batch, step of Adam) of every stage: the noise of the gradient goes down with both.
_STAGES = ((512, 4e-3), (2_048, 1e-3), (8_192, 3e-4))
#: a stage has at least so many epochs and so many steps before it is cut off.
_EPOCHS, _STEPS = 10, 1_500
#: steps of Adam where outcomes are counted: every batch is all of them. So many make an epoch, and epochs a stage.
_COUNTED_STAGES, _COUNTED_PASSES, _COUNTED_EPOCHS = (1e-2, 3e-3, 1e-3), 10, 50
#: share of the rows on which every epoch is judged, and so many at most.
_VALIDATION, _MOST_VALIDATION = 0.1, 50_000


@dataclass(frozen=True)
class TrainedEstimator:
    """A trained estimator. validation: minus the mean log density of encoded outcomes, epoch by epoch, of simulations
    it was not trained on. cut_short: whether the budget ended it."""

    estimator: Any
    validation: tuple[float, ...]
    cut_short: bool


@dataclass(frozen=True)
class _Stage:
    """Rows of a batch, step of Adam, how often the rows are gone through in an epoch, and how many epochs at most."""

    batch: int
    step: float
    passes: int
    epochs: int


class _Batches:
    """What sbi's loop needs of a data loader, for tensors: torch's own takes longer than the network."""

    def __init__(self, tensors: tuple[Tensor, ...], batch_size: int, passes: int = 1) -> None:
        self.tensors, self.batch_size, self.passes = tensors, min(batch_size, len(tensors[0])), passes

    def __len__(self) -> int:
        return self.passes * (len(self.tensors[0]) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        n = len(self.tensors[0])
        for _ in range(self.passes):
            if self.batch_size == n:
                yield self.tensors
                continue
            for rows in torch.randperm(n)[: n // self.batch_size * self.batch_size].split(self.batch_size):
                yield tuple(tensor.index_select(0, rows) for tensor in self.tensors)


@cache
def _trainer(mixed: bool) -> Any:
    """sbi's NLE or MNLE with batches of ours and a clock."""
    with validation_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sbi.inference import MNLE, NLE

    class Trainer(MNLE if mixed else NLE):  # type: ignore[misc]
        passes, deadline = 1, float("inf")
        bar: Any = None

        def get_dataloaders(self, *arguments: Any, **options: Any) -> tuple[_Batches, _Batches]:
            simulations = self.get_simulations(0)
            n = len(simulations[0]) - min(round(len(simulations[0]) * _VALIDATION), _MOST_VALIDATION)
            self.train_indices = torch.arange(n)
            trained, held_out = zip(*((tensor[:n], tensor[n:]) for tensor in simulations), strict=True)
            return _Batches(trained, arguments[1], self.passes), _Batches(held_out, len(held_out[0]))

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


@cache
def _counting_trainer() -> Any:
    """The same for one discrete outcome, x the shares of its values (n, size) among the simulations of each row."""

    class Trainer(_trainer(mixed=False)):  # type: ignore[misc]
        def _loss(self, theta: Tensor, x: Tensor) -> Tensor:
            return -(x * log_table(self._neural_net, theta)).sum(-1)

    return Trainer


def fit_estimator(
    encoding: Encoding,
    shape: EstimatorShape,
    condition: Tensor,
    encoded: EncodedOutcomes,
    *,
    seed: int,
    seconds: float = float("inf"),
    device: str = "cpu",
    progress: bool = True,
) -> TrainedEstimator:
    """Train an estimator on encoded outcomes (n, ...) at conditions (n, width).

    Every stage begins at the best weights of the one before and ends where simulations held out (the last tenth of the
    rows) have not become likelier for a few epochs. One discrete outcome is counted where neighbouring rows have the
    same condition, and fitted to the counts: the same likelihood, and so little work that all rows make one batch,
    without the noise of choosing. The same seed gives the same weights while the budget is not spent.
    """
    deadline, validation = time.monotonic() + seconds, []
    condition, x = condition.float(), torch.cat([encoded.continuous, encoded.discrete], -1).float()
    counted = countable(encoding.simulator)
    if counted:
        condition, x = _counts(condition, x[:, 0].long(), encoding.sizes[0])
    trainers = _counting_trainer() if counted else _trainer(kind(encoding) == "mixed")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), redirect_stdout(StringIO()):
        # sbi says how it converged, and warns where a stage reached its last epoch, which is as planned.
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        estimator = build(encoding, shape)
        with tqdm(desc="fit", unit=" epochs", disable=not progress) as bar:
            for stage in _stages(len(x), counted):
                trainer = trainers(
                    density_estimator=lambda *_, begun=estimator: begun,
                    tracker=SilentTracker(),
                    device=device,
                    show_progress_bars=False,
                )
                trainer.passes, trainer.deadline, trainer.bar = stage.passes, deadline, bar
                trainer.append_simulations(condition, x)
                estimator = trainer.train(
                    training_batch_size=stage.batch,
                    learning_rate=stage.step,
                    max_num_epochs=stage.epochs - 1,
                    stop_after_epochs=max(3, stage.epochs // 6),
                )
                validation += trainer.summary["validation_loss"]
    return TrainedEstimator(estimator.to("cpu"), tuple(validation), time.monotonic() > deadline)


def _stages(n: int, counted: bool) -> list[_Stage]:
    """What is done with n rows."""
    if counted:
        return [_Stage(n, step, _COUNTED_PASSES, _COUNTED_EPOCHS) for step in _COUNTED_STAGES]
    batches = [(max(1, min(batch, n // 20)), step) for batch, step in _STAGES]
    return [_Stage(batch, step, 1, max(_EPOCHS, -(-_STEPS * batch // n))) for batch, step in batches]


def _counts(condition: Tensor, position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Neighbouring rows of one condition as one row, (r, width), and the share of every category there, (r, size)."""
    rows, row = torch.unique_consecutive(condition, dim=0, return_inverse=True)
    counts = torch.bincount(row * size + position, minlength=len(rows) * size).reshape(len(rows), size).float()
    # Rows that lost simulations weigh less, as they do among single ones.
    return rows, counts / counts.sum(-1).max()
