"""How the groups of a term spread around their mean: one table of laws, normal or gamma."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from scipy.special import gammaincinv
from torch import Tensor
from typing_extensions import override

from hddm_sbi.errors import InputError, did_you_mean
from hddm_sbi.hierarchy.priors.choice import gamma

#: levels of a gamma population start no lower than at this fraction of its mean.
_ABOVE_ZERO = 0.1


class Population(ABC):
    """The law of the groups' levels of an intercept, by its mean and standard deviation.

    A law of one's own is a subclass with an entry in `POPULATIONS`. A location-scale law, level = mean + sd * offset,
    is sampled centred or not, whichever is faster. Any other sets `centred_only`: its levels themselves are sampled,
    and need a common coefficient as their mean; `slope` and `start` then say how.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> import pyro.distributions as dist
    >>> class StudentT(hs.Population):
    ...     def distribution(self, mean, sd):
    ...         return dist.StudentT(4.0, mean, sd / 2**0.5)  # with 4 degrees of freedom its sd is 2**0.5
    >>> hs.POPULATIONS["student_t"] = StudentT()
    >>> spread = hs.Prior("halfnormal", 0.0, 1.0)
    >>> prior = hs.ParameterPrior("log", hs.Prior("normal", 1.0, 1.0), spread, spread, population="student_t")
    >>> del hs.POPULATIONS["student_t"]
    """

    centred_only: ClassVar[bool] = False

    @abstractmethod
    def distribution(self, mean: Tensor, sd: Tensor) -> TorchDistribution:
        """The law of levels, with the batch shape of `mean` and `sd`."""

    def quantile(self, score: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
        """The level at the quantile Phi(score): levels of standard normal scores follow the law."""
        try:
            return self.distribution(mean, sd).icdf(torch.special.ndtr(score))
        except NotImplementedError:
            raise InputError(
                f"new groups cannot be drawn from {type(self).__name__}: its distribution has no icdf; write its "
                "method quantile(score, mean, sd)."
            ) from None

    def slope(self, level: Tensor) -> Tensor:
        """Derivative of a level by the unconstrained number that Pyro samples instead."""
        return torch.ones_like(level)

    def start(self, level: Tensor, mean: Tensor) -> Tensor:
        """A level near this one where sampling may start: inside the support."""
        return level


class _Normal(Population):
    """Normal on the scale of the link."""

    @override
    def distribution(self, mean: Tensor, sd: Tensor) -> TorchDistribution:
        return dist.Normal(mean, sd)

    @override
    def quantile(self, score: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
        return mean + sd * score


class _Gamma(Population):
    """Gamma with that mean and sd, as in HDDM's hierarchy: positive, where the link is the identity."""

    centred_only = True

    @override
    def distribution(self, mean: Tensor, sd: Tensor) -> TorchDistribution:
        return gamma(mean, sd)

    @override
    def quantile(self, score: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
        shape, probability = (mean / sd) ** 2, torch.special.ndtr(score)
        return torch.as_tensor(gammaincinv(shape.numpy(), probability.numpy())) * mean / shape

    @override
    def slope(self, level: Tensor) -> Tensor:
        # Pyro samples log(level).
        return level

    @override
    def start(self, level: Tensor, mean: Tensor) -> Tensor:
        return torch.maximum(level, _ABOVE_ZERO * mean)


#: what `ParameterPrior.population` may name.
POPULATIONS: dict[str, Population] = {"normal": _Normal(), "gamma": _Gamma()}


def population(name: str) -> Population:
    """The law of that name. Raises InputError where there is none."""
    if name not in POPULATIONS:
        raise InputError(
            f"there is no population {name!r}{did_you_mean(name, list(POPULATIONS))} Expected one of "
            f"{', '.join(POPULATIONS)}."
        )
    return POPULATIONS[name]
