"""Any sbi estimator as a Pyro distribution."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.distributions import constraints

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.distribution import OneOf, RowDistribution, Shape
from hddm_sbi.likelihoods.sbi.compatibility import default_dtype, validation_kept
from hddm_sbi.likelihoods.sbi.log_density import log_density


class SBIToPyro(RowDistribution):
    """A trained sbi estimator as a Pyro distribution of the outcomes, log p(x | condition).

    Parameters
    ----------
    estimator
        What `NLE(...).train()` or `MNLE(...).train()` returns, of any kind; or a ratio estimator (NRE), whose log_prob
        is log p(x | condition) - log p(x), up to a constant: right for posteriors, not a density, not to be sampled. A
        posterior is no likelihood and is refused. So is an estimator from `NPE(...).train()`, by its sizes; but with as
        many parameters as numbers in an outcome it looks the same from outside.
    condition
        `(*batch, p)`, the estimator's parameters; log_prob is differentiable in it.
    index
        Integers in 0 ... n - 1 where condition is `(*batch, n, p)`: outcome k is conditioned on row `index[k]`, as with
        `condition[..., index, :]`, and the network is evaluated once per row instead of once per outcome. The same
        holds for rows repeated by a plate or by `expand`. Rows that merely hold equal numbers are evaluated together
        where no gradient is asked for; with gradients each keeps its own.
    validate_args
        Whether outcomes are checked against the support; None: as Pyro is set.

    Notes
    -----
    Batch shape: `(*batch,)` or, with index, `(*batch[:-1], *index.shape)`. Event shape: the estimator's input shape; ()
    if an outcome is one number.

    Raises
    ------
    InputError
        For anything that is not a likelihood, for a condition of the wrong size, an index out of range, outcomes of the
        wrong shape, and categories the estimator was not trained on.

    Examples
    --------
    >>> import torch
    >>> import hddm_sbi as hs
    >>> with hs.validation_kept():
    ...     from sbi.neural_nets import likelihood_nn
    >>> rate, chips = torch.rand(50, 1), torch.randn(50, 1)
    >>> estimator = likelihood_nn("mdn")(chips, rate)
    >>> hs.SBIToPyro(estimator, rate[:2], index=[0, 1, 1]).batch_shape
    torch.Size([3])
    """

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
        super().__init__(condition, index, torch.Size() if outcome == (1,) else outcome, validate_args)

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

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of outcomes `(*sample, *batch_shape, *event_shape)` -> `(*sample, *batch_shape)`."""
        shape, row = self._of_outcomes(value)
        if self._validate_args:
            self._validate_sample(value)
        rows = self._rows.to(_dtype(self.estimator))
        x = value.expand(shape + self.event_shape).reshape(-1, *self._outcome).to(rows.dtype)
        log_p = log_density(self.estimator, x, rows, row)
        return log_p.reshape(shape).to(self._rows.dtype)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Outcomes `(*sample_shape, *batch_shape, *event_shape)`, by torch's global generator, as in Pyro."""
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
