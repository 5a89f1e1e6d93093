"""The prior of a parameter itself, in its own unit, as the law of its intercept on the scale of its link."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from typing_extensions import override

from hddm_sbi.hierarchy.terms.link import from_link, to_link
from hddm_sbi.types import Link

Shape = torch.Size | list[int] | tuple[int, ...]


@dataclass(frozen=True)
class Natural:
    """A prior that `priors` gives on the natural scale; see `natural`."""

    prior: TorchDistribution


def natural(prior: TorchDistribution) -> Natural:
    """A prior on the natural scale: that of a parameter itself, not of the scale of its link.

    Parameters
    ----------
    prior
        A Pyro distribution of the parameter in its own unit, for instance of `t0` in seconds.

    Returns
    -------
    Natural
        For `HierarchicalModel(..., priors={"a_Intercept": hs.natural(...)})`. It is for intercepts and for means of
        conditions, as of `0 + condition`: with the link's Jacobian they have the law that is given. A slope, or a
        standard deviation of groups, on the scale of a log or a logit has no value on the scale of the parameter.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> import pyro.distributions as dist
    >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
    >>> priors = {"a_Intercept": hs.natural(dist.Uniform(0.5, 2.0)), "t0_Intercept": hs.natural(dist.Gamma(9.0, 30.0))}
    >>> model = hs.HierarchicalModel("v ~ 1", data, likelihood="exact", priors=priors)
    >>> model.prior_table.loc["a_Intercept", "prior"]
    'Uniform(low=0.5, high=2) on the natural scale'
    """
    return Natural(prior)


class NaturalPrior(TorchDistribution):
    """The law of eta = link(x) where x, a parameter in its own unit, follows `base`, a scalar distribution.

    log p(eta) = log base(x) + log |dx / d eta|
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 - the name and type torch prescribes

    def __init__(self, base: TorchDistribution, link: Link) -> None:
        self.base, self.link = base, link
        super().__init__(base.batch_shape, validate_args=False)

    @property
    @override
    def mean(self) -> Tensor:
        """To first order in the spread of the base."""
        return to_link(self.base.mean, self.link)

    @property
    @override
    def variance(self) -> Tensor:
        """To first order in the spread of the base."""
        return self.base.variance * torch.exp(-2.0 * self._log_slope(self.base.mean))

    @property
    @override
    def support(self) -> constraints.Constraint:
        """Real numbers, between the links of the base's bounds."""
        natural = torch.tensor(bounds(self.base), dtype=torch.float64).clamp(min=0.0)
        low, high = to_link(natural, self.link).tolist()
        if low > -torch.inf and high < torch.inf:
            return constraints.interval(low, high)
        if low > -torch.inf:
            return constraints.greater_than(low)
        return constraints.less_than(high) if high < torch.inf else constraints.real

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        x = from_link(value, self.link)
        log_p: Tensor = self.base.log_prob(x)
        return log_p + self._log_slope(x)

    def _log_slope(self, x: Tensor) -> Tensor:
        """log |dx / d eta|."""
        return torch.log(x) + torch.log1p(-x) if self.link == "logit" else torch.log(x)

    @override
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        return to_link(self.base.sample(torch.Size(sample_shape)), self.link)

    @override
    def expand(self, batch_shape: Shape, _instance: NaturalPrior | None = None) -> NaturalPrior:
        return NaturalPrior(self.base.expand(torch.Size(batch_shape)), self.link)

    def __repr__(self) -> str:
        return f"NaturalPrior({self.base}, {self.link!r})"


def bounds(prior: TorchDistribution) -> tuple[float, float]:
    """The least and the largest value a distribution allows; -inf and inf where there is none."""
    support = prior.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    low, high = (getattr(support, f"{end}_bound", None) for end in ("lower", "upper"))
    return (
        -torch.inf if low is None else float(torch.as_tensor(low).min()),
        torch.inf if high is None else float(torch.as_tensor(high).max()),
    )


def inside(prior: TorchDistribution, value: Tensor) -> Tensor:
    """A value where a prior allows it, and its mean elsewhere."""
    low, high = bounds(prior)
    allowed = (value > low) & (value < high)
    return value if bool(allowed.all()) else torch.where(allowed, value, prior.mean.to(value))
