"""The law of lapses: how many trials are random responses, and over which seconds these are uniform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin

from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.priors import PriorChoice, in_double

# The density of a trial is (1 - l) p + l / (n_choices T), T the seconds, and at least the longest rt.

Lapse = float | TorchDistribution | Literal["estimated"] | None
LapseSeconds = float | Literal["default", "range"]


@dataclass(frozen=True)
class Lapses:
    """The probability of a lapse, or its prior, and the seconds over which lapses are uniform.

    seconds: None for the range that the table covers.
    """

    probability: float | TorchDistribution
    seconds: float | None


def estimated() -> TorchDistribution:
    """The prior of a probability that is estimated: of mean 0.02, 95 % below 0.06; decision 047."""
    return in_double(dist.Beta(1.0, 49.0))


#: the outcomes that know lapses: random responses at random times.
_OF_LAPSES = ("rt", "response")
#: where nothing is said. Decision 047 has what Lapses(estimated(), None) would be like.
DEFAULT = Lapses(0.05, 10.0)
#: of the sets of priors from the literature. HDDM: p_outlier, and w_outlier = 0.1 for each of two responses.
_OF_SETS = {"hddm": Lapses(0.05, 5.0)}


def choose_lapses(lapse: Lapse, seconds: LapseSeconds, outcomes: Sequence[str], priors: PriorChoice) -> Lapses:
    """The law that a caller asks for; what is not said is that of the set of priors, or the default.

    outcomes: of the model, by name; only rt and response know lapses.
    Raises InputError for what is no probability, no prior of one, or no number of seconds.
    """
    default = _OF_SETS.get(priors, DEFAULT) if isinstance(priors, str) else DEFAULT
    if tuple(outcomes) != _OF_LAPSES:
        default = Lapses(0.0, default.seconds)
    probability = default.probability if lapse is None else _checked(lapse, outcomes)
    if isinstance(seconds, str) and seconds in ("default", "range"):
        return Lapses(probability, default.seconds if seconds == "default" else None)
    number = isinstance(seconds, int | float | np.number) and not isinstance(seconds, bool)
    if not number or not 0 < float(seconds) < np.inf:
        raise InputError(
            f"lapse_seconds must be a positive number of seconds, or 'range' for that of the table; got {seconds!r}."
        )
    return Lapses(probability, float(seconds))


def _checked(lapse: Lapse, outcomes: Sequence[str]) -> float | TorchDistribution:
    """A probability, or its prior in double precision."""
    if tuple(outcomes) != _OF_LAPSES and lapse != 0:
        raise InputError(
            f"lapse={lapse!r}: a lapse is a random response at a random time; outcomes such as "
            f"{outcomes[0]!r} know none: leave out lapse=, or let the simulator lapse."
        )
    if isinstance(lapse, str) and lapse == "estimated":
        return estimated()
    if isinstance(lapse, TorchDistributionMixin):
        low, high = (getattr(lapse.support, f"{end}_bound", None) for end in ("lower", "upper"))
        if lapse.event_shape or low is None or high is None or low < 0 or high > 1:
            raise InputError(
                "the prior of a lapse must be one of a probability, between 0 and 1, for instance "
                f"pyro.distributions.Beta(1., 19.); got {lapse!r}."
            )
        return in_double(lapse)
    if isinstance(lapse, bool) or not isinstance(lapse, int | float | np.number) or not 0 <= lapse < 1:
        raise InputError(
            f"lapse must be a probability in [0, 1) or its prior, for instance pyro.distributions.Beta(1., 19.), or "
            f"'estimated'; got {lapse!r}."
        )
    return float(lapse)
