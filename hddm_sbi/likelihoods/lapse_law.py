"""The law of a lapse: which response, and when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hddm_sbi.errors import InputError
from hddm_sbi.types import Array, Index

#: least density of a lapse under a logarithm.
_LEAST = 1e-300


class Ranges(NamedTuple):
    """Where the times of trials lie, by response, (n, n_choices) seconds each: after low, and up to high.

    Where both are equal the time is known, and an event has a density instead of a probability. Where low > high, the
    response was not given.
    """

    low: Array
    high: Array


@dataclass(frozen=True)
class LapseLaw:
    """Which response a lapse gives, and when: at a time that is uniform, or exponential.

    The density of a lapse with response c at time t is u_c exp(-rate t), u_c = split_c / (sum of split * span), with
    rate 0 and span `seconds`, or rate 1 / mean and span `mean`.

    Parameters
    ----------
    split
        How often each response is given, in the order of the model's choices: in proportion, so that (1, 1) is the same
        as (0.5, 0.5).
    seconds
        Times are uniform from 0 up to this; of no account with a `mean`.
    mean
        Times are exponential, from 0 on, with this mean in seconds.

    Raises
    ------
    InputError
        For a split that is not of positive sum, or seconds or a mean that are not positive.

    Examples
    --------
    >>> import numpy as np
    >>> import hddm_sbi as hs
    >>> hs.LapseLaw((1.0, 1.0), seconds=10.0).density(np.array([0.5]), np.array([1]))
    array([0.05])
    >>> hs.LapseLaw((0.7, 0.3), mean=2.0).density(np.array([0.0]), np.array([0]))
    array([0.35])
    """

    split: tuple[float, ...]
    seconds: float = 0.0
    mean: float | None = None

    def __post_init__(self) -> None:
        if not self.split or min(self.split) < 0 or not 0 < sum(self.split) < math.inf:
            raise InputError(
                f"the split of lapses must say how often each response is given, as (1, 1) does; got {self.split!r}."
            )
        if not 0 < self._span < math.inf:
            raise InputError(
                "lapses must have seconds over which they are uniform, or the mean of exponential times, a positive "
                f"number; got seconds={self.seconds!r}, mean={self.mean!r}."
            )

    @property
    def rate(self) -> float:
        """By how much the log density falls in a second."""
        return 0.0 if self.mean is None else 1.0 / self.mean

    @property
    def at_start(self) -> list[float]:
        """Density of every response at time 0: u."""
        # A response may be no lapse, but the gradient of the logarithm must be finite, here and below.
        return [max(part / (sum(self.split) * self._span), _LEAST) for part in self.split]

    @property
    def _span(self) -> float:
        return self.seconds if self.mean is None else self.mean

    def density(self, rt: Array, choice: Index) -> Array:
        """Of rt (n,) seconds with choices (n,), positions in `simulator.choices`: (n,)."""
        return np.asarray(np.array(self.at_start)[choice] * np.exp(-self.rate * rt)).clip(min=_LEAST)

    def mass(self, ranges: Ranges) -> Array:
        """Probability of ranges of time by response, (n,), or its density where times are known."""
        widths = self._widths_of_uniform(ranges) if self.mean is None else self._widths_of_exponential(ranges)
        split = np.array(self.split)
        return np.asarray((split * widths).sum(1) / (self._span * split.sum())).clip(min=_LEAST)

    def _widths_of_uniform(self, ranges: Ranges) -> Array:
        low, high = (np.clip(end, 0.0, self.seconds) for end in ranges)
        known = (ranges.high <= self.seconds) * 1.0
        return np.where(ranges.low == ranges.high, known, np.maximum(high - low, 0.0))

    def _widths_of_exponential(self, ranges: Ranges) -> Array:
        """Integrals of exp(-rate t), or its values."""
        low = np.clip(ranges.low, 0.0, None)
        with np.errstate(invalid="ignore"):
            later = np.where(ranges.high > low, ranges.high - low, 0.0)
        left = np.exp(-self.rate * low)
        return np.where(ranges.low == ranges.high, left, -left * np.expm1(-self.rate * later) * self._span)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Index]:
        """Times (n,) in seconds and choices (n,), by their positions, of n lapses."""
        rt = rng.uniform(0, self.seconds, n) if self.mean is None else rng.exponential(self.mean, n)
        alike = len(set(self.split)) == 1
        share = None if alike else np.array(self.split) / sum(self.split)
        return rt, rng.choice(len(self.split), n, p=share)
