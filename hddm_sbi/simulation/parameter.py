"""A parameter of a model: its box, its meaning, and the default priors of its coefficients."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hddm_sbi.errors import InputError
from hddm_sbi.types import Link as Link

Range = tuple[float, float]

#: the values that a parameter with this link can have.
_ALLOWED: dict[Link, Range] = {"identity": (-math.inf, math.inf), "log": (0.0, math.inf), "logit": (0.0, 1.0)}
#: a log link's box that begins at 0 is treated as if it began at this share of its end; a logit link's at this number.
_NEAR_ZERO = 0.01
#: a middle nearer to 0 than this, of the width, is 0.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Prior:
    """A prior as plain data; `hddm_sbi.hierarchy.priors.choice` turns it into a Pyro distribution.

    Parameters
    ----------
    family
        "normal", "halfnormal" or "gamma".
    location
        Mean of a normal or gamma prior; 0 for a half-normal one.
    scale
        Standard deviation of a normal or gamma prior; scale of a half-normal one.

    Examples
    --------
    >>> Prior("normal", 0.0, 3.0)
    Prior(family='normal', location=0.0, scale=3.0)
    """

    family: str
    location: float
    scale: float


@dataclass(frozen=True)
class ParameterPrior:
    """Default priors of one parameter's coefficients, on the scale of its link.

    Parameters
    ----------
    link
        "identity", "log" or "logit": the scale on which the linear predictor of the parameter adds up.
    intercept
        Prior of the intercept, and of every cell mean under `0 + condition`.
    slope
        Prior of every other common coefficient.
    group_sd
        Prior of the standard deviation of every group effect.
    population
        How groups spread around the mean: "normal" on the link scale, or "gamma" with that mean and sd.

    Examples
    --------
    >>> ParameterPrior.normal("log", 0.0, 0.6, slope=0.4, group_sd=0.3).slope
    Prior(family='normal', location=0.0, scale=0.4)
    """

    link: Link
    intercept: Prior
    slope: Prior
    group_sd: Prior
    population: str = "normal"

    @classmethod
    def normal(cls, link: Link, mean: float, sd: float, *, slope: float, group_sd: float) -> ParameterPrior:
        """Normal priors: the intercept N(mean, sd), slopes N(0, slope), sds between groups half-normal with that scale.

        >>> ParameterPrior.normal("identity", 2.0, 3.0, slope=1.0, group_sd=0.5).intercept
        Prior(family='normal', location=2.0, scale=3.0)
        """
        return cls(link, Prior("normal", mean, sd), Prior("normal", 0.0, slope), Prior("halfnormal", 0.0, group_sd))


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model; `hddm_sbi.parameter` makes one from its box alone.

    Parameters
    ----------
    name
        Its name in formulas and in every theta.
    low
        Lower end of the box, in `unit`. The box is where simulators are tested and networks trained.
    high
        Upper end of the box, in `unit`.
    description
        What it means, in a few words.
    unit
        Its unit, "1" for a pure number.
    typical
        (low, high): the range seen in human data.
    support
        (low, high): where the model is defined.
    prior
        Default priors of its coefficients.
    codes
        Of a condition of the task: the parameter is not estimated but read from the column of its name in the trial
        table, and these are all values that it can have, ascending from `low` to `high`.
    fixed
        The number at which it is held where no formula and no theta says otherwise; None: it is estimated, and a theta
        must say it.
    accuracy_range
        (low, high): where the accuracy per trial of a learned likelihood is scored; None for the whole box.
    bias_range
        (low, high): where its posterior bias is scored; None for the box without 15 % of its width at either end.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> drift = hs.load_simulator("ddm").parameters[0]
    >>> drift.name, drift.low, drift.high, drift.unit
    ('v', -5.0, 5.0, '1/s')
    """

    name: str
    low: float
    high: float
    description: str
    unit: str
    typical: Range
    support: Range
    prior: ParameterPrior
    codes: tuple[float, ...] = ()
    fixed: float | None = None
    accuracy_range: Range | None = None
    bias_range: Range | None = None

    @property
    def from_data(self) -> bool:
        """Whether it is a condition of the task, a column of the trial table."""
        return bool(self.codes)


def parameter(
    name: str,
    low: float,
    high: float,
    description: str = "",
    unit: str = "",
    *,
    link: Link | None = None,
    prior: ParameterPrior | None = None,
    typical: Range | None = None,
) -> Parameter:
    """A parameter by its box alone; link, support and priors follow from it unless given.

    Parameters
    ----------
    name
        Its name in formulas and in every theta.
    low
        Lower end of the box, in `unit`. The box is where the simulator is run and the likelihood will hold.
    high
        Upper end of the box, in `unit`.
    description
        What it means, in a few words; by default its name.
    unit
        Its unit; by default "1", a pure number.
    link
        By default logit where the box lies in [0, 1], log where it is positive, else identity.
    prior
        By default the intercept is normal on the scale of the link, with 95 % of it inside the box; slopes and sds
        between groups have half that scale.
    typical
        The range seen in human data; by default the middle half of the box.

    Returns
    -------
    Parameter
        With its box, link and default priors.

    Raises
    ------
    InputError
        For a box without two finite ends, low < high.

    Examples
    --------
    >>> parameter("rate", 0.5, 20.0).prior.link
    'log'
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"the box of {name!r} must be two finite numbers, low < high; got ({low}, {high}).")
    guessed: Link = "identity" if low < 0 else "logit" if high <= 1 else "log"
    chosen = prior.link if prior is not None else link or guessed
    quarter = (high - low) / 4
    return Parameter(
        name,
        float(low),
        float(high),
        description or name,
        unit or "1",
        typical=typical or (low + quarter, high - quarter),
        support=_ALLOWED[chosen],
        prior=prior or _default_prior(chosen, low, high),
    )


def _default_prior(link: Link, low: float, high: float) -> ParameterPrior:
    if link == "log":
        low, high = math.log(low or _NEAR_ZERO * high), math.log(high)
    elif link == "logit":
        ends = max(low, _NEAR_ZERO), min(high, 1 - _NEAR_ZERO)
        low, high = (math.log(x / (1 - x)) for x in ends)
    width = high - low
    # Ends at the same distance from 0 leave rounding.
    middle = (low + high) / 2 if abs(low + high) > _ROUNDING * width else 0.0
    return ParameterPrior.normal(link, middle, width / 4, slope=width / 8, group_sd=width / 8)
