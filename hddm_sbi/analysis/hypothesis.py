"""Hypotheses about coefficients: their posterior probability, evidence ratio, and Bayes factor of a point."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from pyro.distributions import LKJ, Beta, Dirichlet, Normal, TorchDistribution
from torch import Tensor
from torch.distributions import biject_to

from hddm_sbi.analysis.fit import Fit, central
from hddm_sbi.analysis.linear import Linear, read_hypothesis
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy import ConvergenceWarning, HierarchicalModel, one_of
from hddm_sbi.types import Array

#: a point lies beyond the draws where fewer are on one side of it.
_FEWEST = 20
#: from a point, on both sides of which a prior must have a density.
_NEARBY = 1e-9


@dataclass(frozen=True)
class Coefficient:
    """One number that a posterior reports: its variable there, its position in it, and its draws (chains, draws)."""

    variable: str
    index: tuple[int, ...]
    draws: Array


def hypothesis(model: HierarchicalModel, posterior: Any, hypotheses: str | Sequence[str]) -> pd.DataFrame:
    """Test hypotheses about coefficients, on the scale of their links, as `hypothesis` of brms does.

    Parameters
    ----------
    model
        The fitted model.
    posterior
        What `model.fit` returned.
    hypotheses
        One or several of "left < right", "left > right" and "left = right", whose sides are sums of numbers and of
        multiples of coefficients, by their posterior names and labels: "v_condition[hard] < 0",
        "v_condition[hard] - v_condition[medium] = 0.5", "v_1|subject[s01] > 0". For parameters on their natural scale
        see `comparisons`.

    Returns
    -------
    pandas.DataFrame
        A row for each: `hypothesis`; of left - right the posterior `mean`, `sd`, and `low` and `high`, the ends of the
        central 94 %; `evidence_ratio` and `probability`. Of a direction, `probability` is that of the hypothesis and
        the ratio that to its opposite, infinite where no draw is against it. Of a point (`=`) the ratio is the Bayes
        factor for it, the Savage-Dickey ratio of the density of the posterior there to that of the prior, and
        `probability` is ratio / (1 + ratio): both were as likely before. The density of the prior is exact; that of the
        posterior is estimated from its draws.

    Raises
    ------
    InputError
        What is no hypothesis, or names no coefficient; a point whose prior is not known in closed form, which are all
        but single coefficients and combinations of those with normal priors; or the posterior is of another model.

    Warns
    -----
    ConvergenceWarning
        Where a point lies beyond all but a few draws: the density there is then that of a normal law.

    References
    ----------
    Wagenmakers, Lodewyckx, Kuriyal & Grasman (2010), Cognitive Psychology 60, 158-189.

    Examples
    --------
    >>> import warnings
    >>> import hddm_sbi as hs
    >>> warnings.simplefilter("ignore", hs.ConvergenceWarning)
    >>> trials = hs.simulate_experiment(n_subjects=4, n_trials=50).trials
    >>> formulas = {"v": "condition + (1|subject)", "a": 1.0, "z": 0.5, "t0": 0.3}
    >>> model = hs.HierarchicalModel(formulas, trials, likelihood="exact")
    >>> posterior = model.fit(draws=50, tune=100, chains=2, seed=1, progress=False)
    >>> hs.hypothesis(model, posterior, "v_condition[hard] < 0")[["hypothesis", "probability"]].values.tolist()
    [['v_condition[hard] < 0', 1.0]]
    """
    fit = Fit.of(model, posterior)
    texts = [hypotheses] if isinstance(hypotheses, str) else hypotheses
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(
            f"hypotheses must be one or several such as 'v_condition[hard] < 0', as text; got {hypotheses!r}."
        )
    draws = _coefficients(fit)
    return pd.DataFrame([_tested(fit, draws, text) for text in texts])


def _coefficients(fit: Fit) -> dict[str, Coefficient]:
    """Every number that the posterior reports, by its name and labels."""
    found: dict[str, Coefficient] = {}
    for name, array in fit.known.data_vars.items():
        dims = [dim for dim in array.dims if dim not in ("chain", "draw")]
        values = array.transpose("chain", "draw", *dims).to_numpy()
        for index in np.ndindex(values.shape[2:]):
            labels = ", ".join(str(array[dim].to_numpy()[i]) for dim, i in zip(dims, index, strict=True))
            full = f"{name}[{labels}]" if dims else str(name)
            found[full] = Coefficient(str(name), index, values[(..., *index)])
    return found


def _tested(fit: Fit, known: Mapping[str, Coefficient], text: str) -> dict[str, Any]:
    """A row of the table."""
    difference, sign = read_hypothesis(text, list(known))
    parts = [weight * known[name].draws for name, weight in difference.weights.items()]
    x = difference.constant + np.sum(parts, axis=0)
    low, high = central(x.reshape(-1))
    told = {"hypothesis": text, "mean": x.mean(), "sd": x.std(), "low": low, "high": high}
    if sign == "=":
        prior = _prior_at_zero(fit.model, known, difference, text)
        ratio = float(np.exp(_log_density_at_zero(prior.unbounded(x.reshape(-1)), text) - prior.log_density))
        return {**told, "evidence_ratio": ratio, "probability": ratio / (1.0 + ratio)}
    probability = float((x < 0).mean() if sign == "<" else (x > 0).mean())
    ratio = probability / (1.0 - probability) if probability < 1.0 else np.inf
    return {**told, "evidence_ratio": ratio, "probability": probability}


@dataclass(frozen=True)
class _AtZero:
    """The prior of a linear combination at 0.

    unbounded: draws of the combination (n,) -> the same where no bound of the support is near, with 0 at 0, so that an
    estimate of their density loses nothing beyond a bound. log_density: of the prior there, on that scale.
    """

    log_density: float
    unbounded: Callable[[Array], Array] = lambda x: x


def _prior_at_zero(
    model: HierarchicalModel, known: Mapping[str, Coefficient], difference: Linear, text: str
) -> _AtZero:
    """Of one coefficient, or of normal ones."""
    priors = model.uncentred.coefficient_priors()
    used = [known[name] for name in difference.weights]
    for name, coefficient in zip(difference.weights, used, strict=True):
        if coefficient.variable not in priors:
            raise InputError(
                f"hypothesis {text!r}: the prior of {name!r} depends on other coefficients, so its density has no "
                "closed form; test a direction, < or >, or a coefficient of the population."
            )
    parts = [_marginal(priors[c.variable], c.index) for c in used]
    weights = list(difference.weights.values())
    laws, scales = [part.law for part in parts], [w * p.scale for w, p in zip(weights, parts, strict=True)]
    constant = difference.constant + sum(w * p.shift for w, p in zip(weights, parts, strict=True))
    if len(laws) == 1:
        at = torch.tensor(-constant / scales[0], dtype=torch.float64)
        support: Any = laws[0].support
        if not all(bool(support.check(at + nearby)) for nearby in (-_NEARBY, _NEARBY)):
            raise InputError(
                f"hypothesis {text!r}: under its prior {next(iter(difference.weights))} cannot be on both sides of "
                "that point, so there are no densities to compare; fit the model without it, and compare the two."
            )
        return _of_one(laws[0], at, constant, scales[0])
    if not all(isinstance(law, Normal) for law in laws):
        raise InputError(
            f"hypothesis {text!r}: the prior of a combination is known in closed form where all its coefficients have "
            "normal priors; test a direction, < or >, or one coefficient at a time."
        )
    mean = constant + sum(w * float(law.mean) for w, law in zip(scales, laws, strict=True))
    sd = sum((w * float(law.stddev)) ** 2 for w, law in zip(scales, laws, strict=True)) ** 0.5
    return _AtZero(float(_log_normal(mean / sd) - np.log(sd)))


def _of_one(law: TorchDistribution, at: Tensor, constant: float, scale: float) -> _AtZero:
    """Of constant + scale y at 0, where y = at, whose law may be bounded: y = T(u), p(u) = p(y) |dy / du|."""
    transform = biject_to(law.support)
    there = transform.inv(at)

    def unbounded(x: Array) -> Array:
        return np.asarray(transform.inv(torch.as_tensor((x - constant) / scale)) - there)

    return _AtZero(float(law.log_prob(at) + transform.log_abs_det_jacobian(there, at)), unbounded)


@dataclass(frozen=True)
class _Marginal:
    """The prior of one number: that of shift + scale x, where x has this law."""

    law: TorchDistribution
    shift: float = 0.0
    scale: float = 1.0


def _marginal(prior: TorchDistribution, index: tuple[int, ...]) -> _Marginal:
    """The prior of one number of a variable."""
    if isinstance(prior, LKJ):
        # A correlation of k effects under LKJ(eta) is 2 x - 1, x ~ Beta of eta - 1 + k / 2 twice (Lewandowski 2009).
        shape = prior.concentration.double() - 1.0 + prior.event_shape[0] / 2.0
        return _Marginal(Beta(shape, shape), -1.0, 2.0)
    if isinstance(prior, Dirichlet):
        shapes = prior.concentration.double()
        return _Marginal(Beta(shapes[index[-1]], shapes.sum() - shapes[index[-1]]))
    return _Marginal(one_of(prior, index[-1]) if prior.batch_shape else prior)


def _log_density_at_zero(x: Array, text: str) -> float:
    """Log density at 0 of what x (n,) was drawn from.

    A sum of normal kernels around draws that are moved towards their mean, so that it has the variance of the draws
    (West 1993), and of a normal posterior no bias. Where next to no draw is, that of a normal law.
    """
    beyond, mean, sd = int(min((x < 0).sum(), (x > 0).sum())), x.mean(), x.std()
    if beyond < _FEWEST:
        warnings.warn(
            f"hypothesis {text!r}: {beyond} of {len(x)} draws lie beyond the point, so the density of the posterior "
            "there is that of a normal law with its mean and sd: read the evidence ratio as very small.",
            ConvergenceWarning,
            stacklevel=4,
        )
        return _log_normal(mean / sd) - float(np.log(sd))
    width = 1.06 * len(x) ** -0.2
    centres = mean + (1.0 - width**2) ** 0.5 * (x - mean)
    return float(np.log(np.exp(_log_normal(centres / (width * sd))).mean()) - np.log(width * sd))


def _log_normal(z: Any) -> Any:
    """Log density of N(0, 1)."""
    return -0.5 * z**2 - 0.5 * np.log(2.0 * np.pi)
