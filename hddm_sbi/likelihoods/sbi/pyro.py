"""sbi and Pyro, joined: our mixture network as an sbi estimator, and any sbi estimator as a Pyro distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Distribution, constraints

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.mixture.network import Architecture, MixtureNetwork
from hddm_sbi.likelihoods.mixture.reduction import Reduction
from hddm_sbi.likelihoods.sbi.log_density import Rows, log_density
from hddm_sbi.simulation.simulator import Simulator

if TYPE_CHECKING:
    from sbi.neural_nets.estimators.base import ConditionalDensityEstimator

Shape = torch.Size | list[int] | tuple[int, ...]


@contextmanager
def validation_kept() -> Iterator[None]:
    """Keep the default of argument validation. zuko, which sbi imports, switches it off for torch and so for Pyro."""
    before = Distribution._validate_args
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def estimator_builder(
    simulator: Simulator, architecture: Architecture | None = None
) -> Callable[[Tensor, Tensor], ConditionalDensityEstimator]:
    """What `sbi.inference.NLE(density_estimator=...)` expects: (theta, x) -> an untrained estimator.

    theta: (n, p). x: (n, 2), columns rt in seconds and response code. The estimator's density is that of
    `MixtureLikelihood`: normalised over both choices and all times, zero at and below the non-decision time.
    """
    with validation_kept():
        from sbi.neural_nets.estimators.base import ConditionalDensityEstimator

    class MixtureEstimator(ConditionalDensityEstimator):
        """log p(rt, response | theta), by the reduced mixture network."""

        def __init__(self, network: MixtureNetwork, input_shape: torch.Size, condition_shape: torch.Size) -> None:
            super().__init__(network, input_shape, condition_shape)
            self.register_buffer("codes", torch.tensor(simulator.choices))

        @property
        def columns(self) -> tuple[constraints.Constraint, ...]:
            """Support of rt and response, for `SBIToPyro`."""
            return constraints.positive, OneOf(self.codes)

        def log_prob(self, input: Tensor, condition: Tensor, **_: Any) -> Tensor:
            """input (sample, batch, 2) or (batch, 2), condition (batch, p) -> (sample, batch)."""
            x = input if input.dim() == 3 else input.unsqueeze(0)
            theta = condition.expand(x.shape[0], x.shape[1], -1)
            each = np.arange(x.shape[:-1].numel())
            return self.row_log_prob(x.reshape(-1, 2), theta.reshape(len(each), -1), each).reshape(x.shape[:-1])

        def row_log_prob(self, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
            """Log density of x (n, 2) given `rows[row]`, the network evaluated once per row, for `SBIToPyro`."""
            choice = (x[:, 1:] == self.codes).int().argmax(1)
            return self.net.log_prob(x[:, 0], choice, rows[row], self.net.mixture(rows).take(torch.as_tensor(row)))

        def loss(self, input: Tensor, condition: Tensor, **_: Any) -> Tensor:
            """Minus the log density of every pair, (batch,)."""
            return -self.log_prob(input, condition)[0]

        def sample(self, sample_shape: torch.Size, condition: Tensor, **_: Any) -> Tensor:
            """Draws (*sample_shape, batch, 2)."""
            shape = torch.Size(sample_shape)
            with torch.no_grad():
                theta = condition.expand(*shape, *condition.shape).reshape(-1, condition.shape[-1])
                rt, choice = self.net.sample(theta, self.net.mixture(theta))
                return torch.stack([rt, self.codes[choice].to(rt)], -1).reshape(*shape, condition.shape[0], 2)

    def build(theta: Tensor, x: Tensor) -> ConditionalDensityEstimator:
        network = MixtureNetwork(Reduction(simulator), architecture or Architecture())
        return MixtureEstimator(network, x[0].shape, theta[0].shape)

    return build


class SilentTracker:
    """For `tracker=` of sbi's trainers, whose default writes a folder `sbi-logs`: remembers nothing."""

    log_dir = None

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Forget one number."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Forget several numbers."""

    def log_params(self, params: dict[str, Any]) -> None:
        """Forget settings."""

    def add_figure(self, name: str, figure: Any, step: int | None = None) -> None:
        """Forget a figure."""

    def flush(self) -> None:
        """Nothing is left to write."""


class OneOf(constraints.Constraint):
    """One of finitely many numbers."""

    is_discrete = True

    def __init__(self, values: Tensor) -> None:
        self.values = values
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Which entries are one of them."""
        return torch.isin(value, self.values.to(value))


class SBIToPyro(TorchDistribution):
    """A trained sbi estimator as a Pyro distribution of the outcomes, log p(x | condition).

    estimator: what `NLE(...).train()` or `MNLE(...).train()` returns, of any kind; or a ratio estimator (NRE), whose
    log_prob is log p(x | condition) - log p(x), up to a constant: right for posteriors, not a density, not to be
    sampled. A posterior is no likelihood and is refused, and so is an estimator from `NPE(...).train()` by its sizes,
    unless there are as many parameters as numbers in an outcome: then it looks the same from outside.
    condition: (*batch, p), the estimator's parameters; log_prob is differentiable in it.
    index: integers in 0 ... n - 1 where condition is (*batch, n, p): outcome k is conditioned on row `index[k]`, as
    with `condition[..., index, :]`, and the network is evaluated once per row instead of once per outcome. The same
    holds for rows repeated by a plate or by `expand`. Rows that merely hold equal numbers are evaluated together
    where no gradient is asked for; with gradients each keeps its own.

    Batch shape: (*batch,) or, with index, (*batch[:-1], *index.shape). Event shape: the estimator's input shape; () if
    an outcome is one number. Raises InputError for anything that is not a likelihood, for a condition of the wrong
    size, an index out of range, outcomes of the wrong shape, and categories the estimator was not trained on.

        with pyro.plate("cookie", len(chips)):
            pyro.sample("chips", SBIToPyro(estimator, rate.unsqueeze(-1), index=location), obs=chips)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 - the name and type torch prescribes

    def __init__(
        self, estimator: Any, condition: Tensor, index: ArrayLike | None = None, validate_args: bool | None = None
    ) -> None:
        parameters, outcome = _shapes(estimator)
        if condition.shape[-1:] != parameters:
            if condition.shape[-1:] == outcome:
                raise InputError(
                    f"the estimator expects {parameters[0]} numbers and makes {outcome[0]}, the condition has "
                    f"{outcome[0]}: it looks like one that NPE trained, the other way round. A posterior p(parameters "
                    "| data) has a prior in it already, which a Pyro model would count twice. Train NLE, MNLE or NRE."
                )
            raise InputError(
                f"condition must have {parameters[0]} parameters in its last dimension, as many as the estimator was "
                f"trained with; got shape {tuple(condition.shape)}."
            )
        self.estimator = estimator.eval() if estimator.training else estimator
        self._outcome = outcome
        self._rows, self._row = _distinct(condition, index)
        event_shape = torch.Size() if outcome == (1,) else outcome
        super().__init__(torch.Size(self._row.shape), event_shape, validate_args=validate_args)

    @property
    def condition(self) -> Tensor:
        """The condition of every outcome, (*batch_shape, p)."""
        return self._rows[torch.tensor(self._row)]

    @property
    def support(self) -> constraints.Constraint:
        """Real numbers, positive ones, or the categories of the training data, each as the estimator is made."""
        columns = _support(self.estimator)
        if not self.event_shape:
            return columns[0]
        each = columns * self.event_shape.numel() if len(columns) == 1 else columns
        if all(column is each[0] for column in each):
            return constraints.independent(each[0], len(self.event_shape))
        return constraints.independent(constraints.cat(each, -1), 1)

    def expand(self, batch_shape: Shape, _instance: SBIToPyro | None = None) -> SBIToPyro:
        """The same distribution for more outcomes; no further evaluations of the network."""
        new = self._get_checked_instance(SBIToPyro, _instance)
        new.estimator, new._outcome, new._rows = self.estimator, self._outcome, self._rows
        new._row = np.broadcast_to(self._row, batch_shape)
        TorchDistribution.__init__(new, torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of outcomes (*sample, *batch_shape, *event_shape) -> (*sample, *batch_shape)."""
        shape = self._shape_of(value)
        if self._validate_args:
            self._validate_sample(value)
        rows = self._rows.to(_dtype(self.estimator))
        x = value.expand(shape + self.event_shape).reshape(-1, *self._outcome).to(rows.dtype)
        log_p = log_density(self.estimator, x, rows, np.broadcast_to(self._row, shape).reshape(-1))
        return log_p.reshape(shape).to(self._rows.dtype)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Outcomes, (*sample_shape, *batch_shape, *event_shape). Randomness is torch's global generator, as in Pyro."""
        if not hasattr(self.estimator, "sample"):
            raise NotImplementedError(
                "a ratio estimator knows p(x | condition) / p(x) and cannot draw x; use the simulator, or train a "
                "likelihood estimator (NLE)."
            )
        shape = torch.Size(sample_shape)
        dtype = _dtype(self.estimator)
        with torch.no_grad(), default_dtype(dtype):
            draws = self.estimator.sample(shape, self.condition.reshape(-1, self._rows.shape[-1]).to(dtype))
        return draws.reshape(self._extended_shape(shape)).to(self._rows.dtype)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Refused: outcomes are observed, and a categorical column among continuous ones cannot be enumerated alone."""
        raise NotImplementedError("SBIToPyro is a likelihood of observed outcomes; its support is not enumerated.")

    def _shape_of(self, value: Tensor) -> torch.Size:
        """Shape of the log density of some outcomes."""
        batch = value.shape[: value.dim() - len(self.event_shape)]
        if value.shape[len(batch) :] != self.event_shape:
            raise InputError(f"an outcome must have shape {tuple(self.event_shape)}; got {tuple(value.shape)}.")
        if not self.event_shape and batch[-1:] == (1,) and self.batch_shape[-1:] not in ((), (1,)):
            raise InputError(
                f"an outcome is one number, so {tuple(self.batch_shape)} outcomes are expected; got shape "
                f"{tuple(batch)}: drop its last dimension."
            )
        return batch if batch == self.batch_shape else torch.broadcast_shapes(batch, self.batch_shape)


@cache
def _bases() -> tuple[Any, Any]:
    """sbi's base classes of density and of ratio estimators."""
    with validation_kept():
        from sbi.neural_nets.estimators.base import ConditionalDensityEstimator
        from sbi.neural_nets.ratio_estimators import RatioEstimator
    return ConditionalDensityEstimator, RatioEstimator


def _shapes(estimator: Any) -> tuple[torch.Size, torch.Size]:
    """Shape of the parameters and of one outcome. Raises InputError for what is not a likelihood."""
    ConditionalDensityEstimator, RatioEstimator = _bases()
    if isinstance(estimator, RatioEstimator):
        return estimator.theta_shape, estimator.x_shape
    if isinstance(estimator, ConditionalDensityEstimator):
        return estimator.condition_shape, estimator.input_shape
    if hasattr(estimator, "potential_fn") or "Posterior" in type(estimator).__name__:
        raise InputError(
            f"{type(estimator).__name__} is a posterior p(parameters | data), not a likelihood p(data | parameters): "
            "it has a prior in it already, which a Pyro model would count twice. Pass what NLE(...).train() returned."
        )
    raise InputError(
        "estimator must be what the train() of sbi's NLE, MNLE or NRE returns; got "
        f"{type(estimator).__module__}.{type(estimator).__name__}."
    )


def _dtype(estimator: torch.nn.Module) -> torch.dtype:
    return next(estimator.parameters()).dtype


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """sbi's and nflows' samplers draw their noise in torch's default precision, whatever the network's."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        yield
    finally:
        torch.set_default_dtype(before)


def _distinct(condition: Tensor, index: ArrayLike | None) -> tuple[Tensor, Rows]:
    """Rows of the condition to evaluate, (r, p), and the row of every outcome, an array of the batch shape.

    Which rows are the same follows from how they came about (index, expand), never from their values where gradients
    are needed: two parameters that happen to be equal, as at the start of a chain, have different gradients. For the
    same reason the pattern is numpy's: a constant when the log density is traced.
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


def _support(estimator: Any) -> list[constraints.Constraint]:
    """Support of each column of an outcome; one entry if they share it."""
    from sbi.neural_nets.estimators import CategoricalMassEstimator, MixedDensityEstimator
    from sbi.utils.sbiutils import CallableTransform

    if isinstance(estimator, CategoricalMassEstimator):
        return [OneOf(values) for values in estimator.net.categorical_values_per_var]
    if isinstance(estimator, MixedDensityEstimator):
        discrete = _support(estimator.discrete_net)
        continuous = [constraints.positive] if estimator.log_transform_input else _support(estimator.continuous_net)
        n = estimator.input_shape[0] - len(discrete)
        return [*(continuous * n if len(continuous) == 1 else continuous), *discrete]
    if hasattr(estimator, "columns"):
        return list(estimator.columns)
    for module in estimator.modules():
        if isinstance(module, CallableTransform):
            return _range(module.transform.inv, estimator.input_shape)
    return [constraints.real]


def _range(transform: Callable[[Tensor], Tensor], shape: torch.Size) -> list[constraints.Constraint]:
    """Where an increasing map takes the line, column by column."""
    ends = torch.stack([transform(torch.full(shape, end)) for end in (-torch.inf, torch.inf)], -1).reshape(-1, 2)
    return [_interval(float(low), float(high)) for low, high in ends]


def _interval(low: float, high: float) -> constraints.Constraint:
    if high < torch.inf:
        return constraints.interval(low, high) if low > -torch.inf else constraints.less_than(high)
    if low > -torch.inf:
        return constraints.positive if low == 0 else constraints.greater_than(low)
    return constraints.real
