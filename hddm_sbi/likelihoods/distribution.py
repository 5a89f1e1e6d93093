"""A likelihood as a Pyro distribution of outcomes, each given one of the rows of theta."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from typing_extensions import override

from hddm_sbi.errors import InputError, name_rows
from hddm_sbi.likelihoods.cells import LAPSE_SECONDS, lapse_span, outcome_rows, with_lapses
from hddm_sbi.likelihoods.lapse_law import LapseLaw
from hddm_sbi.types import Array, Index

Shape = torch.Size | list[int] | tuple[int, ...]


class RowLikelihood(Protocol):
    """What a distribution asks of a `Likelihood`."""

    @property
    def simulator(self) -> Any:
        """The model."""

    def log_prob_at(self, values: Tensor, theta: Tensor, row: Tensor) -> Tensor:
        """See `Likelihood`, here and below."""

    def log_prob_by_cell(self, trials: Any, theta: Tensor, lapse: Tensor) -> Tensor:
        """Sum over the trials of every cell."""

    def check_outcomes(self, values: Array) -> None:
        """Refuse outcomes that it knows nothing of, or warn."""

    def group_by_cell(self, values: Array, cell: Index, n_cells: int) -> Any:
        """Arranged trials."""

    def sample_rows(self, theta: Tensor, seed: int) -> Array:
        """One row of outcomes for each of theta."""


class OneOf(constraints.Constraint):
    """One of finitely many numbers."""

    is_discrete = True

    def __init__(self, values: Tensor) -> None:
        self.values = values
        super().__init__()

    @override
    def check(self, value: Tensor) -> Tensor:
        return torch.isin(value, self.values.to(value))


class RowDistribution(TorchDistribution):
    """A distribution of outcomes, each given one of the rows (r, p) of what it is conditioned on.

    The pattern of rows is kept, so that a network is evaluated once per row, whether rows come from an index, a plate
    or `expand`.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 - the name and type torch prescribes

    def __init__(
        self, condition: Tensor, index: ArrayLike | None, event_shape: torch.Size, validate_args: bool | None
    ) -> None:
        self._rows, self._row = _distinct(condition, index)
        super().__init__(torch.Size(self._row.shape), event_shape, validate_args=validate_args)

    @property
    def condition(self) -> Tensor:
        """The condition of every outcome, `(*batch_shape, p)`."""
        return self._rows[torch.tensor(self._row)]

    @override
    def expand(self, batch_shape: Shape, _instance: RowDistribution | None = None) -> RowDistribution:
        """The same distribution for more outcomes; no further evaluations of the network."""
        new = self._get_checked_instance(type(self), _instance)
        new.__dict__.update({k: v for k, v in self.__dict__.items() if k not in ("_batch_shape", "_event_shape")})
        new._row = np.broadcast_to(self._row, batch_shape)
        TorchDistribution.__init__(new, torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _of_outcomes(self, value: Tensor) -> tuple[torch.Size, Index]:
        """Shape of the log density of some outcomes, and the row of each of them, (n,)."""
        batch = value.shape[: value.dim() - len(self.event_shape)]
        if value.shape[len(batch) :] != self.event_shape:
            raise InputError(f"an outcome must have shape {tuple(self.event_shape)}; got {tuple(value.shape)}.")
        if not self.event_shape and batch[-1:] == (1,) and self.batch_shape[-1:] not in ((), (1,)):
            raise InputError(
                f"an outcome is one number, so {tuple(self.batch_shape)} outcomes are expected; got shape "
                f"{tuple(batch)}: drop its last dimension."
            )
        shape = batch if batch == self.batch_shape else torch.broadcast_shapes(batch, self.batch_shape)
        return shape, np.broadcast_to(self._row, shape).reshape(-1)


class LikelihoodDistribution(RowDistribution):
    """A likelihood as a Pyro distribution; made by `Likelihood.distribution`, which says what its arguments are."""

    def __init__(
        self,
        likelihood: RowLikelihood,
        theta: Tensor,
        index: ArrayLike | None = None,
        lapse: float | Tensor = 0.0,
        lapses: LapseLaw | None = None,
        validate_args: bool | None = None,
    ) -> None:
        names = likelihood.simulator.names
        if theta.shape[-1:] != (len(names),):
            raise InputError(
                f"theta must have {len(names)} numbers in its last dimension, {' '.join(names)}; got shape "
                f"{tuple(theta.shape)}."
            )
        self.likelihood = likelihood
        self.lapse = torch.as_tensor(lapse, dtype=torch.float64)
        columns, n_choices = likelihood.simulator.outcomes, len(likelihood.simulator.choices)
        if not likelihood.simulator.is_decision_model and bool((self.lapse.detach() != 0.0).any()):
            raise InputError(f"outcomes such as {columns[0].name!r} know no lapses; expected lapse=0, got {lapse!r}.")
        if lapses is not None and len(lapses.split) != n_choices:
            raise InputError(f"lapses must have a split among {n_choices} responses; got {lapses!r}.")
        if self.lapse.dim() and self.lapse.shape != theta.shape[:-1]:
            raise InputError(
                f"lapse must be one number, or one for each row of theta, {tuple(theta.shape[:-1])}; got shape "
                f"{tuple(self.lapse.shape)}."
            )
        self._lapses, self._n_theta = lapses, len(names)
        condition = theta.double()
        if self.lapse.dim():
            condition = torch.cat([condition, self.lapse.unsqueeze(-1)], -1)
        super().__init__(condition, index, torch.Size([len(columns)]), validate_args)

    @property
    @override
    def support(self) -> constraints.Constraint:
        """Positive numbers, numbers, counts or codes, column by column."""
        columns = self.likelihood.simulator.outcomes
        return constraints.independent(constraints.cat([_support(o.kind, o.categories) for o in columns], -1), 1)

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of outcomes `(*sample, *batch_shape, k)` -> `(*sample, *batch_shape)`."""
        shape, row = self._of_outcomes(value)
        values = self._positions(value, shape)
        theta, at = self._of_rows(self._rows), torch.tensor(row)
        log_p = self.likelihood.log_prob_at(values, theta[0], at)
        return with_lapses(log_p, theta[1][at], self._lapse_density(values)).reshape(shape)

    def log_prob_sum(self, value: Tensor) -> Tensor:
        """Sum of `log_prob`, (): the outcomes are sorted once, and each row of theta is evaluated once."""
        shape, row = self._of_outcomes(value)
        values = self._positions(value, shape).numpy()
        self.likelihood.check_outcomes(values)
        trials = self.likelihood.group_by_cell(values, row, len(self._rows))
        trials = trials if self._lapses is None else trials.with_lapses(self._lapses)
        return self.likelihood.log_prob_by_cell(trials, *self._of_rows(self._rows)).sum()

    def _of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """theta (r, p) and the probability of a lapse (r,) of rows of the condition."""
        lapse = rows[:, -1] if self.lapse.dim() else self.lapse.expand(len(rows))
        return rows[:, : self._n_theta], lapse

    def _lapse_density(self, values: Tensor) -> Tensor | float:
        """Density of a lapse at every one of the outcomes, as the likelihood takes them."""
        if not self.likelihood.simulator.is_decision_model:
            return 0.0
        rt, choice = values[:, 0].numpy(), values[:, 1].numpy().astype(np.int64)
        law = self._lapses or LapseLaw(self._alike, lapse_span(rt, LAPSE_SECONDS))
        return torch.from_numpy(law.density(rt, choice))

    @property
    def _alike(self) -> tuple[float, ...]:
        return (1.0,) * len(self.likelihood.simulator.choices)

    @override
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Outcomes, `(*sample_shape, *batch_shape, k)`. Randomness is torch's global generator, as in Pyro."""
        shape = torch.Size(sample_shape)
        rows = self.condition.detach().expand(*shape, *self.batch_shape, -1).reshape(-1, self._rows.shape[-1])
        (theta, lapse), seed = self._of_rows(rows), int(torch.randint(2**62, ()))
        values = torch.as_tensor(self.likelihood.sample_rows(theta, seed))
        if bool((lapse > 0.0).any()):
            at = torch.rand(len(values), dtype=torch.float64) < lapse
            law = self._lapses or LapseLaw(self._alike, LAPSE_SECONDS)
            rt, choice = law.sample(len(values), np.random.default_rng(seed))
            values = torch.where(at.unsqueeze(-1), outcome_rows(rt, choice), values)
        return self._codes(values).reshape(self._extended_shape(shape))

    def _positions(self, value: Tensor, shape: torch.Size) -> Tensor:
        """Outcomes as the likelihood takes them, (n, k). Raises InputError for values an outcome cannot be."""
        flat = value.detach().double().expand(shape + self.event_shape).reshape(-1, *self.event_shape)
        columns = []
        for k, outcome in enumerate(self.likelihood.simulator.outcomes):
            numbers = flat[:, k].numpy() if not _coded(outcome.categories) else outcome.numbers(flat[:, k].numpy())
            wrong = np.flatnonzero(~outcome.allows(numbers))
            if wrong.size:
                raise InputError(
                    f"{outcome.name!r} must be {outcome.expected}; got {float(flat[wrong[0], k]):g} in "
                    f"{name_rows(wrong.tolist())} (0 = first)."
                )
            columns.append(torch.from_numpy(numbers))
        return torch.stack(columns, -1)

    def _codes(self, values: Tensor) -> Tensor:
        """Outcomes as coded in a table, from those of the likelihood."""
        columns = [
            torch.tensor(o.categories, dtype=torch.float64)[values[:, k].long()]
            if _coded(o.categories)
            else values[:, k]
            for k, o in enumerate(self.likelihood.simulator.outcomes)
        ]
        return torch.stack(columns, -1)


def _distinct(condition: Tensor, index: ArrayLike | None) -> tuple[Tensor, Index]:
    """Rows of the condition to evaluate, (r, p), and the row of every outcome, an array of the batch shape.

    Which rows are the same follows from how they came about (index, expand), never from their values where gradients
    are needed: two parameters that happen to be equal, as at the start of a chain, have different gradients. For the
    same reason the pattern is numpy's: a constant when the log density is recorded.
    """
    once = condition[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in condition.stride()[:-1])]
    rows = once.reshape(-1, condition.shape[-1])
    row = np.broadcast_to(np.arange(len(rows)).reshape(once.shape[:-1]), condition.shape[:-1])
    if index is not None:
        chosen = np.asarray(index)
        n = row.shape[-1] if row.ndim else 0
        if chosen.dtype.kind not in "iu" or (chosen.size and not 0 <= chosen.min() <= chosen.max() < n):
            raise InputError(
                f"index must hold integers from 0 to {n - 1}, rows of the condition of shape {tuple(condition.shape)}."
            )
        row = row[..., chosen]
    if not condition.requires_grad and index is None:
        rows, same = torch.unique(rows, dim=0, return_inverse=True)
        row = same.numpy()[row]
    return rows, row


def _coded(categories: tuple[object, ...]) -> bool:
    """Whether there are categories and all are numbers; others are told by their position."""
    return bool(categories) and all(isinstance(c, int | float) for c in categories)


def _support(kind: str, categories: tuple[Any, ...]) -> constraints.Constraint:
    if kind == "categorical":
        codes = categories if _coded(categories) else range(len(categories))
        return OneOf(torch.tensor(list(codes), dtype=torch.float64))
    return {"positive": constraints.positive, "count": constraints.nonnegative_integer}.get(kind, constraints.real)
