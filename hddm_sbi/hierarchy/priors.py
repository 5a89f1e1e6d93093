"""The prior of every coefficient: the default of the model, a set from the literature, or the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from hddm_sbi.errors import InputError, did_you_mean
from hddm_sbi.likelihoods.likelihood import LAPSE
from hddm_sbi.simulation import ParameterPrior, Prior, Simulator
from hddm_sbi.types import Array

PriorChoice = str | Mapping[str, TorchDistribution] | None

#: LKJ shape of the correlations between the effects of one group term; above 1 favours no correlation.
LKJ_SHAPE = 2.0


def gamma(mean: Tensor, sd: Tensor) -> TorchDistribution:
    """Gamma distribution by mean and standard deviation: shape mean²/sd², rate mean/sd²."""
    variance = sd * sd
    return dist.Gamma(mean * mean / variance, mean / variance)


#: what `Prior.family` may name, and the distribution that its location and scale make.
PRIOR_FAMILIES: dict[str, Callable[[Tensor, Tensor], TorchDistribution]] = {
    "normal": dist.Normal,
    "halfnormal": lambda location, scale: dist.HalfNormal(scale),
    "gamma": gamma,
}


def to_pyro(prior: Prior, spread: Array | None = None) -> TorchDistribution:
    """Pyro distribution of `prior`, its scale divided by `spread` (the spread of the predictor of each column).

    A slope's prior is thereby on the scale of one standard deviation of its covariate, whatever the covariate's units.
    A family of one's own is an entry in `PRIOR_FAMILIES`. Raises InputError for a family that is not there.

    >>> to_pyro(Prior("normal", 0.0, 3.0))
    Normal(loc: 0.0, scale: 3.0)
    """
    if prior.family not in PRIOR_FAMILIES:
        raise InputError(
            f"there is no family of priors {prior.family!r}{did_you_mean(prior.family, list(PRIOR_FAMILIES))} "
            f"Expected one of {', '.join(PRIOR_FAMILIES)}."
        )
    location = torch.tensor(prior.location, dtype=torch.float64)
    scale = torch.tensor(prior.scale, dtype=torch.float64)
    if spread is not None and np.any(spread != 1.0):
        scale = scale / torch.as_tensor(spread)
    return PRIOR_FAMILIES[prior.family](location, scale)


def parameter_priors(simulator: Simulator, priors: PriorChoice) -> dict[str, ParameterPrior]:
    """The prior table in force: the model's own, or the set from the literature that `priors` names."""
    table = {p.name: p.prior for p in simulator.parameters if not p.from_data}
    if isinstance(priors, str):
        known = simulator.literature_priors
        if priors not in known:
            raise InputError(
                f"priors={priors!r} is not a prior set of {simulator.name!r}{did_you_mean(priors, list(known))} "
                f"Expected one of {sorted(known)}, None for the defaults, or a dict of coefficient name -> Pyro "
                "distribution."
            )
        table.update(known[priors])
    return table


def user_priors(priors: PriorChoice, names: list[str]) -> dict[str, TorchDistribution]:
    """The user's distributions by coefficient name, checked against the model's coefficient names."""
    if priors is None or isinstance(priors, str):
        return {}
    if not isinstance(priors, Mapping):
        raise InputError(
            f"priors must be None, the name of a prior set, or a dict of coefficient name -> Pyro distribution; got "
            f"{priors!r}."
        )
    # formulae writes I(age / 10) with spaces, and a file has another sign for the slash.
    written = {_squeezed(name): name for name in names}
    given = {written.get(_squeezed(str(name)), name): prior for name, prior in priors.items()}
    for name, prior in given.items():
        if name not in names:
            hint = did_you_mean(name, names)
            raise InputError(
                f"priors names {name!r}, which is not a coefficient of this model{hint} Coefficients: {names}"
            )
        if not isinstance(prior, dist.Distribution):
            raise InputError(
                f"the prior of {name!r} must be a Pyro distribution, for instance pyro.distributions.Normal(0., 1.); "
                f"got {prior!r}."
            )
    return {name: in_double(prior) for name, prior in given.items()}


def _squeezed(name: str) -> str:
    return "".join(letter for letter in name if letter not in " /\u2215")


def check_lapse(lapse: float | TorchDistribution | None, simulator: Simulator) -> float | TorchDistribution:
    """Probability of a lapse, or its prior in double precision; by default 0.05, or 0 where outcomes know none."""
    if lapse is None:
        return LAPSE if simulator.is_decision_model else 0.0
    if not simulator.is_decision_model and lapse != 0:
        raise InputError(
            f"lapse={lapse!r}: a lapse is a random response at a random time; outcomes such as "
            f"{simulator.outcomes[0].name!r} know none: leave lapse out, or let the simulator lapse."
        )
    if isinstance(lapse, TorchDistributionMixin):
        low, high = (getattr(lapse.support, f"{end}_bound", None) for end in ("lower", "upper"))
        if lapse.event_shape or low is None or high is None or low < 0 or high > 1:
            raise InputError(
                "the prior of a lapse must be one of a probability, between 0 and 1, for instance "
                f"pyro.distributions.Beta(1., 19.); got {lapse!r}."
            )
        return in_double(lapse)
    if isinstance(lapse, bool) or not isinstance(lapse, int | float) or not 0 <= lapse < 1:
        raise InputError(
            f"lapse must be a probability in [0, 1) or its prior, for instance pyro.distributions.Beta(1., 19.); "
            f"got {lapse!r}."
        )
    return float(lapse)


def in_double(prior: TorchDistribution) -> TorchDistribution:
    """The same distribution in double precision, where its class is built from its parameters alone.

    >>> in_double(dist.Normal(0.1, 3.0)).loc.dtype
    torch.float64
    """
    names: Mapping[str, object] = prior.arg_constraints
    try:
        return type(prior)(**{name: getattr(prior, name).double() for name in names}) if names else prior
    except (AttributeError, TypeError):
        return prior


@dataclass(frozen=True)
class PriorRecord:
    """A Pyro distribution as plain data: the name of its class, and its arguments, numbers or nested lists of them.

    >>> record = PriorRecord.of(dist.Normal(0.0, 3.0))
    >>> record
    PriorRecord(distribution='Normal', arguments={'loc': 0.0, 'scale': 3.0})
    >>> print(record)
    Normal(loc=0, scale=3)
    >>> record.build()
    Normal(loc: 0.0, scale: 3.0)
    """

    distribution: str
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, prior: TorchDistribution) -> PriorRecord:
        """The record of a distribution; of independent components, that of one."""
        while isinstance(prior, dist.Independent):
            prior = prior.base_dist
        name = type(prior).__name__
        ours = getattr(dist, name, None) is type(prior)
        known = {a: getattr(prior, a, None) for a in dict(prior.arg_constraints)}
        arguments = {a: torch.as_tensor(value).tolist() for a, value in known.items() if value is not None}
        return cls(name if ours else f"{type(prior).__module__}.{name}", arguments)

    def build(self) -> TorchDistribution:
        """The distribution again, in double precision. Raises InputError where its arguments alone do not make it."""
        arguments = {name: torch.tensor(value, dtype=torch.float64) for name, value in self.arguments.items()}
        try:
            built: TorchDistribution = getattr(dist, self.distribution)(**arguments)
        except (AttributeError, TypeError):
            raise InputError(
                f"the prior {self.distribution} cannot be built from its arguments; give it again in priors=."
            ) from None
        return built

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={_rounded(value)}" for name, value in self.arguments.items())
        return f"{self.distribution.rpartition('.')[2]}({shown})"


def _rounded(value: Any) -> str:
    flat = np.asarray(value, dtype=np.float64).reshape(-1)
    if len(np.unique(flat)) == 1:
        return f"{flat[0]:.3g}"
    return f"[{', '.join(f'{x:.3g}' for x in flat[:4])}{', …' if len(flat) > 4 else ''}]"
