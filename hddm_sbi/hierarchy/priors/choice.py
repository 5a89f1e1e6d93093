"""The prior of every coefficient: the default of the model, a set from the literature, or the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from hddm_sbi.errors import InputError, did_you_mean
from hddm_sbi.hierarchy.priors.classes import CLASSES, Choice, Kind, class_keys, of_classes
from hddm_sbi.hierarchy.priors.natural import Natural, NaturalPrior, bounds
from hddm_sbi.hierarchy.terms.correlation import lkj
from hddm_sbi.hierarchy.terms.link import from_link
from hddm_sbi.simulation import ParameterPrior, Prior, Simulator
from hddm_sbi.types import Array, Link

PriorChoice = str | Mapping[str, TorchDistribution | Natural] | None


#: draws of a prior by which it is known to have an integral.
_TRIED = 20
#: of the share of lapses, on the scale of its logit. The intercept has the mean and the sd of the log odds of
#: `lapses.estimated`; a group one sd above the mean has nearly three times the lapses.
OF_LAPSES = ParameterPrior.normal("logit", -4.5, 1.3, slope=1.0, group_sd=1.0)


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


def median(prior: TorchDistribution) -> Tensor:
    """Median of a prior; of one without a quantile function, such as Gamma, that of 1 001 draws."""
    try:
        return prior.icdf(torch.tensor(0.5, dtype=torch.float64))
    except NotImplementedError:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return prior.sample((1_001,)).double().median(0).values


def parameter_priors(simulator: Simulator, priors: PriorChoice) -> dict[str, ParameterPrior]:
    """The prior table in force: the model's own, or the set from the literature that `priors` names."""
    table = {p.name: p.prior for p in simulator.parameters if not p.from_data}
    if isinstance(priors, str):
        known = simulator.literature_priors
        if priors not in known:
            raise InputError(
                f"priors={priors!r} is not a prior set of {simulator.name!r}{did_you_mean(priors, list(known))} "
                f"Its sets: {', '.join(known) or 'none'}; leave out priors= for its default priors."
            )
        table.update(known[priors])
    return table


def user_priors(
    priors: PriorChoice,
    defaults: Mapping[str, TorchDistribution],
    levels: Mapping[str, int],
    kinds: Mapping[str, Kind],
    links: Mapping[str, Link],
    edges: Mapping[str, tuple[float, float]],
) -> dict[str, TorchDistribution]:
    """The user's distributions by coefficient name, checked against the default ones of the model.

    A key that is the name of a parameter stands for its intercept, and its prior is on the natural scale: that of the
    parameter itself. A key that is a class stands for all coefficients in it that have no prior of their own. levels:
    how many a coefficient has, 0 for a number. kinds: of every coefficient that is in a class. links: of every
    parameter. edges: of the likelihood's box, by parameter, on the scale of its link.
    """
    if priors is None or isinstance(priors, str):
        return {}
    if not isinstance(priors, Mapping):
        raise InputError(
            f"priors must be None, the name of a prior set, or a dict of coefficient name -> Pyro distribution; got "
            f"{priors!r}."
        )
    of_class, shared = of_classes(priors, kinds), class_keys(priors, kinds)
    own = _own({key: prior for key, prior in priors.items() if key not in shared}, defaults, links)
    chosen: dict[str, TorchDistribution] = {}
    for name, choice in {**of_class, **own}.items():
        kind = kinds.get(name, Kind("", ""))
        link = links.get(kind.parameter, "identity")
        level = kind.name == "Intercept"
        given = choice.prior.prior if isinstance(choice.prior, Natural) else choice.prior
        default = defaults[name]
        if isinstance(default, dist.Dirichlet):
            chosen[name] = _of_simplex(choice.key, given, default)
            continue
        if isinstance(default, dist.LKJ):
            chosen[name] = _of_correlations(choice, default)
            continue
        checked = _one_density(choice.key, given, 0 if choice.of_class else levels[name])
        if isinstance(choice.prior, Natural) and link != "identity":
            checked = _on_natural_scale(choice.key, name, kind, link, checked)
        elif not isinstance(checked, NaturalPrior):
            _check_support(choice.key, kind.parameter if level else "", link, checked, default)
        if level:
            _check_overlap(choice.key, kind.parameter, link, checked, edges[kind.parameter])
        chosen[name] = checked
    return chosen


def _own(
    priors: Mapping[Any, Any], defaults: Mapping[str, TorchDistribution], links: Mapping[str, Link]
) -> dict[str, Choice]:
    """The priors that stand under the name of a coefficient, or of a parameter, whose intercept is meant."""
    # formulae writes I(age / 10) with spaces, and a file has another sign for the slash.
    names = {_squeezed(name): name for name in defaults}
    found: dict[str, Choice] = {}
    for key, prior in priors.items():
        written = names.get(_squeezed(str(key)), key)
        name = f"{key}_Intercept" if key in links and f"{key}_Intercept" in defaults else written
        if name not in defaults:
            known = [*defaults, *CLASSES]
            raise InputError(
                f"priors names {name!r}, which is not a coefficient of this model{did_you_mean(str(name), known)} "
                f"Coefficients: {list(defaults)}; classes of them: {', '.join(CLASSES)}, or of one parameter, v_sigma."
            )
        if name in found:
            raise InputError(f"priors names {name!r} twice, by itself and by its parameter; keep one.")
        natural = name != written and not isinstance(prior, Natural)
        found[name] = Choice(Natural(prior) if natural else prior, str(key))
    return found


def _squeezed(name: str) -> str:
    return "".join(letter for letter in name if letter not in " /\u2215")


def _one_density(name: str, prior: Any, levels: int) -> TorchDistribution:
    """A prior in double precision. Raises InputError for what is not the density of one number, or of one per level."""
    if not isinstance(prior, TorchDistributionMixin):
        raise InputError(
            f"the prior of {name!r} must be a Pyro distribution, for instance pyro.distributions.Normal(0., 1.); "
            f"got {prior!r}."
        )
    try:
        discrete = bool(prior.support.is_discrete)
    except (NotImplementedError, AttributeError):
        discrete = True
    if discrete or isinstance(prior, dist.Delta):
        raise InputError(
            f"the prior of {name!r} must have a density; got {prior}. To hold a parameter at a number, write it as a "
            "formula, for instance z = 0.5."
        )
    if isinstance(prior, dist.ImproperUniform | dist.MaskedDistribution) or not _is_proper(prior):
        raise InputError(
            f"the prior of {name!r} must have an integral, and {prior} has none; give a wide one, for instance "
            "pyro.distributions.Normal(0., 10.)."
        )
    if prior.event_shape or prior.batch_shape not in ((), (levels,)):
        expected = "one number" if levels == 0 else f"one number, or of {levels}, one by one"
        raise InputError(
            f"the prior of {name!r} must be that of {expected}; got {prior} of shape "
            f"{tuple(prior.batch_shape + prior.event_shape)}."
        )
    return in_double(prior)


def _is_proper(prior: TorchDistribution) -> bool:
    """Whether a density has an integral: with an infinite scale it is no number at any of its draws."""
    try:
        with torch.random.fork_rng(devices=[]):
            drawn = prior.sample((_TRIED,))
    except RuntimeError:
        # A negative scale, where the prior was told not to check it.
        return False
    if not torch.isfinite(drawn).any(0).all():
        return False
    return bool(torch.isfinite(prior.log_prob(drawn)).any(0).all())


def _of_simplex(key: str, prior: Any, default: dist.Dirichlet) -> TorchDistribution:
    """The prior of a simplex. Raises InputError for what is not Dirichlet of the same size."""
    n = default.event_shape[0]
    if not isinstance(prior, dist.Dirichlet) or prior.batch_shape or prior.event_shape != default.event_shape:
        raise InputError(
            f"priors[{key!r}] must be the prior of how a change is shared among {n} steps, "
            f"pyro.distributions.Dirichlet(torch.ones({n})) for instance, one number for each; got {prior!r}."
        )
    return in_double(prior)


def _of_correlations(choice: Choice, default: dist.LKJ) -> TorchDistribution:
    """The prior of a correlation matrix. Raises InputError for what is not LKJ, or of another size than the matrix; of
    a class, the shape alone is taken."""
    prior, k = choice.prior, default.event_shape[0]
    one = isinstance(prior, dist.LKJ | dist.LKJCholesky) and not prior.batch_shape
    if not one or not (choice.of_class or prior.event_shape == default.event_shape):
        raise InputError(
            f"priors[{choice.key!r}] must be the prior of a {k} x {k} correlation matrix, pyro.distributions.LKJ({k}, "
            f"shape), whose shape of 1 is uniform and above 1 favours no correlation; got {_shown(prior)}."
        )
    return lkj(k, prior.concentration)


def _shown(prior: Any) -> str:
    """A prior of a user, an LKJ with the size that its own text does not say."""
    return f"LKJ({prior.event_shape[-1]}, ...)" if isinstance(prior, dist.LKJ | dist.LKJCholesky) else repr(prior)


def _on_natural_scale(key: str, name: str, kind: Kind, link: Link, prior: TorchDistribution) -> TorchDistribution:
    """The prior of an intercept, or of means of conditions, from that of the parameter in its own unit."""
    parameter = kind.parameter
    if kind.name != "Intercept":
        raise InputError(
            f"priors[{key!r}]: {name} is on the {link} scale of {parameter}, where it is a difference or a spread, and "
            f"no value of {parameter} itself, so a natural scale has no meaning for it. Give its prior on the {link} "
            f"scale, without hs.natural; or write {parameter} ~ 0 + condition, whose coefficients are values of "
            f"{parameter}."
        )
    (low, high), top = bounds(prior), 1.0 if link == "logit" else np.inf
    if low < 0.0 or high > top:
        raise InputError(
            f"priors[{key!r}] is the prior of {parameter} itself, which lies between 0 and {top:g}; got {prior}, "
            f"which allows {_range(low, high)}. Give one that does not, for instance "
            f"{'Beta(2., 2.)' if link == 'logit' else 'LogNormal or Gamma'}, or that of {parameter}_Intercept, on the "
            f"{link} scale."
        )
    return NaturalPrior(prior, link)


def _check_support(key: str, parameter: str, link: Link, prior: TorchDistribution, default: TorchDistribution) -> None:
    """Refuse a prior that allows what a coefficient cannot be, or the natural scale where a link's is meant.

    parameter: whose value, on the scale of its link, the coefficient is; "" where it is none.
    """
    (low, high), (least, most) = bounds(prior), bounds(default)
    if low < least or high > most:
        known = "HalfNormal(1.)" if most > 1.0 else "Beta(1., 19.)"
        raise InputError(
            f"priors[{key!r}] must be the prior of a number in {_range(least, most)}, for instance {known}; got "
            f"{prior}, which allows {_range(low, high)}."
        )
    # The parameter itself is never negative: a prior that allows negative numbers is surely meant on the link's scale.
    if parameter and link != "identity" and low >= 0.0:
        raise InputError(
            f"priors[{key!r}] is on the {link} scale of {parameter}; got {prior}, which allows {_range(low, high)} "
            f"only, that is {parameter} in {_range(*_natural(low, high, link))}. For a prior of {parameter} itself, on "
            f"its natural scale, write priors={{{key!r}: hs.natural(...)}}; on the {link} scale, a Normal, or any "
            "that allows negative numbers."
        )


def _check_overlap(key: str, parameter: str, link: Link, prior: TorchDistribution, edges: tuple[float, float]) -> None:
    """Refuse a prior of an intercept, on the link's scale, that leaves the likelihood's box out."""
    (low, high), (least, most) = bounds(prior), edges
    if low >= most or high <= least:
        raise InputError(
            f"priors[{key!r}] allows {parameter} in {_range(*_natural(low, high, link))} only, and the likelihood "
            f"knows {parameter} in {_range(*_natural(least, most, link))}; give a prior of values there."
        )


def _natural(low: float, high: float, link: Link) -> list[float]:
    """A range on the link's scale as one of the parameter itself."""
    ends: list[float] = from_link(torch.tensor([low, high], dtype=torch.float64), link).tolist()
    return ends


def _range(low: float, high: float) -> str:
    return f"[{low:.4g}, {high:.4g}]"


def in_double(prior: TorchDistribution) -> TorchDistribution:
    """The same distribution in double precision, where its class is built from its parameters alone.

    >>> in_double(dist.Normal(0.1, 3.0)).loc.dtype
    torch.float64
    """
    names: Mapping[str, object] = prior.arg_constraints
    try:
        return type(prior)(**{name: getattr(prior, name).double() for name in names}) if names else prior
    except (AttributeError, TypeError, ValueError):
        return prior


def one_of(prior: TorchDistribution, position: int) -> TorchDistribution:
    """One of several priors, (k,), where its class is built from its parameters alone.

    >>> one_of(dist.Normal(0.0, torch.tensor([1.0, 3.0])), 1)
    Normal(loc: 0.0, scale: 3.0)
    """
    if isinstance(prior, NaturalPrior):
        return NaturalPrior(one_of(prior.base, position), prior.link)
    names: Mapping[str, object] = prior.arg_constraints
    return type(prior)(**{name: getattr(prior, name).expand(prior.batch_shape)[position] for name in names})


@dataclass(frozen=True)
class PriorRecord:
    """A Pyro distribution as plain data: the name of its class, and its arguments, numbers or nested lists of them.

    link: where it is the prior of a parameter itself (`NaturalPrior`), that of the parameter; else "".

    >>> record = PriorRecord.of(dist.Normal(0.0, 3.0))
    >>> record
    PriorRecord(distribution='Normal', arguments={'loc': 0.0, 'scale': 3.0}, link='')
    >>> print(record)
    Normal(loc=0, scale=3)
    >>> record.build()
    Normal(loc: 0.0, scale: 3.0)
    """

    distribution: str
    arguments: Mapping[str, Any]
    link: Link | Literal[""] = ""

    @classmethod
    def of(cls, prior: TorchDistribution) -> PriorRecord:
        """The record of a distribution; of independent components, that of one."""
        while isinstance(prior, dist.Independent):
            prior = prior.base_dist
        if isinstance(prior, NaturalPrior):
            return replace(cls.of(prior.base), link=prior.link)
        name = type(prior).__name__
        ours = getattr(dist, name, None) is type(prior)
        known = {a: getattr(prior, a, None) for a in dict(prior.arg_constraints)}
        # Its class has no constraint of its size, and does not take it as a tensor.
        size = {"dim": prior.event_shape[0]} if isinstance(prior, dist.LKJ) else {}
        arguments: dict[str, Any] = {
            **size,
            **{a: torch.as_tensor(value).tolist() for a, value in known.items() if value is not None},
        }
        return cls(name if ours else f"{type(prior).__module__}.{name}", arguments)

    def build(self) -> TorchDistribution:
        """The distribution again, in double precision. Raises InputError where its arguments alone do not make it."""
        arguments: dict[str, Any] = {
            name: value if name == "dim" else torch.tensor(value, dtype=torch.float64)
            for name, value in self.arguments.items()
        }
        try:
            built: TorchDistribution = getattr(dist, self.distribution)(**arguments)
        except (AttributeError, TypeError):
            raise InputError(
                f"the prior {self.distribution} cannot be built from its arguments; give it again in priors=."
            ) from None
        return NaturalPrior(built, self.link) if self.link else built

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={_rounded(value)}" for name, value in self.arguments.items())
        natural = " on the natural scale" if self.link else ""
        return f"{self.distribution.rpartition('.')[2]}({shown}){natural}"


def _rounded(value: Any) -> str:
    flat = np.asarray(value, dtype=np.float64).reshape(-1)
    if len(np.unique(flat)) == 1:
        return f"{flat[0]:.3g}"
    return f"[{', '.join(f'{x:.3g}' for x in flat[:4])}{', …' if len(flat) > 4 else ''}]"
