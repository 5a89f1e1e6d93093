"""The lapses that a caller asks for: how many trials are random responses, which responses, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin

from hddm_sbi.errors import InputError, did_you_mean
from hddm_sbi.hierarchy.priors.choice import PriorChoice, in_double
from hddm_sbi.hierarchy.pyro_model import LapseLaw

# The density of a trial is (1 - l) p + l u, u as in `LapseLaw`: where nothing is said, 1 / (n_choices T), T the seconds
# and at least the longest rt.

Lapse = float | TorchDistribution | Literal["estimated"] | None
LapseSeconds = float | Literal["default", "range"]
LapseChoices = Mapping[Any, float] | Sequence[float] | None

#: where a formula's share lies, so far from 0 and 1 that gradients are finite.
BOX = (1e-9, 1.0 - 1e-9)


@dataclass(frozen=True)
class Lapses:
    """The probability of a lapse, or its prior, None where a formula says it; and the law of lapses.

    seconds: over which they are uniform, None for the range that the table covers. mean: of their times, where they are
    exponential. split: probability of every response, in the order of the model's choices; None where all are alike.
    """

    probability: float | TorchDistribution | None
    seconds: float | None
    mean: float | None = None
    split: tuple[float, ...] | None = None

    def law(self, uniform: LapseLaw | None) -> LapseLaw | None:
        """The law, from the one that a table's trials have where all responses are alike and times uniform."""
        if uniform is None:
            return None
        seconds = uniform.seconds if self.mean is None else 0.0
        return LapseLaw(self.split or uniform.split, seconds, self.mean)


def estimated() -> TorchDistribution:
    """The prior of a probability that is estimated: of mean 0.02, 95 % below 0.06; decision 047."""
    return in_double(dist.Beta(1.0, 49.0))


#: the outcomes that know lapses: random responses at random times.
_OF_LAPSES = ("rt", "response")
#: where nothing is said; decision 047.
DEFAULT = Lapses(estimated(), None)
#: of the sets of priors from the literature. HDDM: p_outlier, and w_outlier = 0.1 for each of two responses.
_OF_SETS = {"hddm": Lapses(0.05, 5.0)}
#: by how much the probabilities of all responses may differ from 1.
_ROUNDING = 1e-6


def choose_lapses(
    lapse: Lapse,
    seconds: LapseSeconds,
    outcomes: Sequence[str],
    priors: PriorChoice,
    formula: str | float | None = None,
    mean: float | None = None,
    choices: LapseChoices = None,
    responses: Sequence[Any] = (),
) -> Lapses:
    """The law that a caller asks for; what is not said is that of the set of priors, or the default.

    outcomes: of the model, by name; only rt and response know lapses. formula: of the share of lapses, as it is
    written, or the number that stands in its place. mean, choices: as `lapse_mean` and `lapse_choices` of a model.
    responses: of the table, in the order of the model's choices.
    Raises InputError for what is no probability, no prior of one, no number of seconds, or no split of responses.
    """
    default = _OF_SETS.get(priors, DEFAULT) if isinstance(priors, str) else DEFAULT
    if formula is not None and lapse is not None:
        written = f"lapse = {formula:g}" if isinstance(formula, float) else formula
        raise InputError(
            f"lapse={lapse!r} and the formula '{written}' both say the probability of a lapse; leave one of them out."
        )
    given = formula if isinstance(formula, float) else lapse
    if tuple(outcomes) != _OF_LAPSES:
        asked = {"a formula for lapse": formula or None, "lapse_mean=": mean, "lapse_choices=": choices}
        said = next((name for name, value in asked.items() if value is not None), None)
        if said is not None:
            raise InputError(f"{said}: {_no_lapses(outcomes)}; leave it out.")
        default = Lapses(0.0, default.seconds)
    probability: float | TorchDistribution | None
    if isinstance(formula, str):
        probability = None
    else:
        probability = default.probability if given is None else _checked(given, outcomes)
    for name, law in {"lapse_mean": mean, "lapse_choices": choices}.items():
        if probability == 0.0 and law is not None:
            raise InputError(
                f"{name}={law!r} says how trials lapse, and none does with lapse=0: leave it out, or say how many do."
            )
    split = None if choices is None else _split(choices, responses)
    if mean is None:
        return Lapses(probability, _seconds(seconds, default.seconds), split=split)
    if not isinstance(seconds, str) or seconds != "default":
        raise InputError(
            f"lapse_mean={mean!r} makes lapses exponential in time, lapse_seconds={seconds!r} uniform; leave out one."
        )
    if not _is_number(mean) or not 0 < float(mean) < np.inf:
        raise InputError(f"lapse_mean must be a positive number of seconds, the mean time of a lapse; got {mean!r}.")
    return Lapses(probability, None, float(mean), split)


def _seconds(seconds: LapseSeconds, default: float | None) -> float | None:
    """The seconds over which lapses are uniform, None for those of the table."""
    if isinstance(seconds, str) and seconds in ("default", "range"):
        return default if seconds == "default" else None
    if not _is_number(seconds) or not 0 < float(seconds) < np.inf:
        raise InputError(
            f"lapse_seconds must be a positive number of seconds, or 'range' for that of the table; got {seconds!r}."
        )
    return float(seconds)


def _split(choices: Mapping[Any, float] | Sequence[float], responses: Sequence[Any]) -> tuple[float, ...]:
    """The probability of every response among lapses, in the order of the model's choices."""
    shown = ", ".join(f"{name!r}: {1 / len(responses):.2g}" for name in responses)
    expected = f"the probability of each response among lapses, for instance {{{shown}}}"
    if isinstance(choices, Mapping):
        unknown = next((name for name in choices if name not in responses), None)
        if unknown is not None:
            hint = did_you_mean(str(unknown), list(map(str, responses)))
            raise InputError(
                f"lapse_choices names {unknown!r}, which is no response{hint} Expected {expected}; responses are named "
                "as the table names them."
            )
        absent = [name for name in responses if name not in choices]
        if absent:
            raise InputError(f"lapse_choices must say {expected}; it lacks {', '.join(map(repr, absent))}.")
        parts = [choices[name] for name in responses]
    elif isinstance(choices, Sequence) and not isinstance(choices, str) and len(choices) == len(responses):
        parts = list(choices)
    else:
        raise InputError(f"lapse_choices must say {expected}; got {choices!r}.")
    wrong = next((part for part in parts if not _is_number(part) or not 0 <= float(part) <= 1), None)
    if wrong is not None or not abs(sum(map(float, parts)) - 1.0) <= _ROUNDING:
        what = f"they sum to {sum(map(float, parts)):g}" if wrong is None else f"got {wrong!r}"
        raise InputError(f"lapse_choices must be probabilities that sum to 1; {what}. Say {expected}.")
    return tuple(map(float, parts))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _no_lapses(outcomes: Sequence[str]) -> str:
    return f"a lapse is a random response at a random time; outcomes such as {outcomes[0]!r} know none"


def _checked(lapse: Lapse, outcomes: Sequence[str]) -> float | TorchDistribution:
    """A probability, or its prior in double precision."""
    if tuple(outcomes) != _OF_LAPSES and lapse != 0:
        raise InputError(f"lapse={lapse!r}: {_no_lapses(outcomes)}: leave out lapse=, or let the simulator lapse.")
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
    if not _is_number(lapse) or not 0 <= float(lapse) < 1:  # type: ignore[arg-type]
        raise InputError(
            f"lapse must be a probability in [0, 1) or its prior, for instance pyro.distributions.Beta(1., 19.), or "
            f"'estimated'; got {lapse!r}. Where people differ, write a formula, 'lapse ~ 1 + (1|subject)'."
        )
    return float(lapse)  # type: ignore[arg-type]
