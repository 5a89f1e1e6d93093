"""An sbi estimator as a checked likelihood; sbi's trainer in stages of larger batches and smaller steps."""

import time
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from io import StringIO
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.sbi.compatibility import SilentTracker, trainer_class
from hddm_sbi.likelihoods.sbi.encoding import EncodedOutcomes, Encoding
from hddm_sbi.likelihoods.sbi.estimators import EstimatorShape, build, kind
from hddm_sbi.likelihoods.sbi.likelihood import SbiDecisionLikelihood, SbiLikelihood
from hddm_sbi.likelihoods.sbi.log_density import log_table
from hddm_sbi.simulation import Simulated
from hddm_sbi.training.held_out import check
from hddm_sbi.training.proposal import countable, design_parameters
from hddm_sbi.training.request import MOST_HELD_OUT, TrainingRequest, succeeded

#: (batch, step of Adam) of every stage: the noise of the gradient goes down with both.
_STAGES = ((512, 4e-3), (2_048, 1e-3), (8_192, 3e-4))
#: the least number of epochs, and of steps, before a stage is cut off.
_EPOCHS, _STEPS = 10, 1_500
#: full-batch training on counts: Adam step size per stage, steps per epoch, epochs per stage.
_COUNTED_STAGES, _COUNTED_PASSES, _COUNTED_EPOCHS = (1e-2, 3e-3, 1e-3), 10, 50
#: share of the rows that validate every epoch, and their largest number.
_VALIDATION, _MOST_VALIDATION = 0.1, 50_000
#: share of the simulations that are held out for the check, and their smallest number.
_HELD_OUT, _FEWEST_HELD_OUT = 0.05, 200


@dataclass(frozen=True)
class _Stage:
    """Rows of a batch, step size of Adam, passes through the rows per epoch, and the largest number of epochs."""

    batch: int
    step: float
    passes: int
    epochs: int


class _Batches:
    """The part of a data loader that sbi's loop uses, for tensors: torch's own takes longer than the network."""

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
    """sbi's NLE or MNLE with batches of ours and a deadline."""

    class Trainer(trainer_class(mixed)):  # type: ignore[misc]
        passes, deadline = 1, float("inf")
        bar: Any = None

        def get_dataloaders(self, *arguments: Any, **options: Any) -> tuple[_Batches, _Batches]:
            simulations = self.get_simulations(0)
            n = len(simulations[0]) - min(round(len(simulations[0]) * _VALIDATION), _MOST_VALIDATION)
            self.train_indices = torch.arange(n)
            trained, held_out = zip(*((tensor[:n], tensor[n:]) for tensor in simulations), strict=True)
            return _Batches(trained, arguments[1], self.passes), _Batches(held_out, len(held_out[0]))

        def goes_on(self, loss: float) -> bool:
            if self.bar is not None:
                self.bar.update()
                self.bar.set_postfix(validation=f"{loss:.4f}")
            return time.monotonic() <= self.deadline

    return Trainer


@cache
def _counting_trainer() -> Any:
    """The same for one discrete outcome; x (n, size): share of each of its values among the simulations of a row."""

    class Trainer(_trainer(mixed=False)):  # type: ignore[misc]
        def loss_of(self, network: Any, theta: Tensor, x: Tensor) -> Tensor:
            return -(x * log_table(network, theta)).sum(-1)

    return Trainer


def train_estimator(
    request: TrainingRequest, shape: EstimatorShape
) -> tuple[SbiLikelihood | SbiDecisionLikelihood, str]:
    """The likelihood that was asked for, and what to say about simulations that failed."""
    simulator = request.simulator
    n_held_out = int(np.clip(_HELD_OUT * request.n_simulations, _FEWEST_HELD_OUT, MOST_HELD_OUT))
    held_out, held_out_theta = request.held_out(n_held_out)
    theta = design_parameters(simulator, request.prior, request.n_simulations - n_held_out, request.seed)
    training = request.simulate(theta)
    simulated = Simulated(np.concatenate([held_out.values, training.values]), held_out.errors + training.errors)
    values, theta = succeeded(simulated, np.concatenate([held_out_theta, theta]))
    encoding = Encoding.of(simulator, values, theta)
    n_held_out -= int(held_out.failed.sum())
    x, at = torch.as_tensor(values[n_held_out:]), torch.as_tensor(theta[n_held_out:])
    encoded = encoding.encode(x, at)
    if not bool(torch.isfinite(encoded.log_stretch).all()):
        name = simulator.symmetries.shift
        raise InputError(f"rt is at or below {name!r} in some simulations, but symmetries declare {name!r} as a shift.")
    estimator, validation, cut_short = fit_estimator(request, encoding, shape, encoding.condition(at), encoded)
    architecture = {name: getattr(encoding, name) for name in ("location", "spread", "sizes")}
    recipe = {"failed": int(simulated.failed.sum()), "cut_short": cut_short}
    card = request.card("sbi", {**shape.as_dict(), **architecture}, recipe, validation)
    kind_of = SbiDecisionLikelihood if simulator.is_decision_model else SbiLikelihood
    likelihood = kind_of(simulator, estimator, encoding, simulator.box, card)
    likelihood.card = replace(card, scores=check(likelihood, values[:n_held_out], theta[:n_held_out], request.seed))
    return likelihood, simulated.statement()


def fit_estimator(
    request: TrainingRequest, encoding: Encoding, shape: EstimatorShape, condition: Tensor, encoded: EncodedOutcomes
) -> tuple[Any, tuple[float, ...], bool]:
    """Train an estimator on encoded outcomes (n, ...) at conditions (n, width).

    Returns it; minus the mean log density of encoded validation outcomes, epoch by epoch; and whether the budget ended
    the fit.

    Every stage begins at the best weights of the one before, and ends when the validation rows (the last tenth) have
    not become likelier for a few epochs. One discrete outcome is counted where neighbouring rows have the same
    condition, and the estimator is fitted to the counts: the likelihood is the same, and all rows fit into one batch,
    which avoids the noise of small ones. The same seed gives the same weights unless the budget ends the fit.
    """
    deadline, validation = time.monotonic() + request.seconds, []
    condition, x = condition.float(), torch.cat([encoded.continuous, encoded.discrete], -1).float()
    counted = countable(encoding.simulator)
    if counted:
        condition, x = _counts(condition, x[:, 0].long(), encoding.sizes[0])
    trainers = _counting_trainer() if counted else _trainer(kind(encoding) == "mixed")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), redirect_stdout(StringIO()):
        # sbi prints how it converged, and warns where a stage reached its last epoch, which is as planned.
        warnings.simplefilter("ignore")
        torch.manual_seed(request.seed)
        estimator = build(encoding, shape)
        with tqdm(desc="fit", unit=" epochs", disable=not request.machine.progress) as bar:
            for stage in _stages(len(x), counted):
                trainer = trainers(
                    density_estimator=lambda *_, begun=estimator: begun,
                    tracker=SilentTracker(),
                    device=request.machine.device,
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
    return estimator.to("cpu"), tuple(validation), time.monotonic() > deadline


def _stages(n: int, counted: bool) -> list[_Stage]:
    """The stages of a fit to n rows."""
    if counted:
        return [_Stage(n, step, _COUNTED_PASSES, _COUNTED_EPOCHS) for step in _COUNTED_STAGES]
    batches = [(max(1, min(batch, n // 20)), step) for batch, step in _STAGES]
    return [_Stage(batch, step, 1, max(_EPOCHS, -(-_STEPS * batch // n))) for batch, step in batches]


def _counts(condition: Tensor, position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Distinct neighbouring conditions (r, width), and the share of every category among their rows (r, size)."""
    rows, row = torch.unique_consecutive(condition, dim=0, return_inverse=True)
    counts = torch.bincount(row * size + position, minlength=len(rows) * size).reshape(len(rows), size).float()
    # A condition that lost simulations weighs less, as it does without counting.
    return rows, counts / counts.sum(-1).max()
