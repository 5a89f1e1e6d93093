"""The law of a lapse: which response, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

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
    """Lapses: each response in proportion to `split`, at a time that is uniform over `seconds` or, with a `mean`,
    exponential.

    The density of a lapse with response c at time t is u_c exp(-rate t), u_c = split_c / (sum of split * span); rate 0
    and span `seconds`, or rate 1 / mean and span `mean`.

    >>> LapseLaw((1.0, 1.0), 10.0).density(np.array([0.5]), np.array([1]))
    array([0.05])
    """

    split: tuple[float, ...]
    seconds: float
    mean: float | None = None

    @property
    def rate(self) -> float:
        """By how much the log density falls in a second."""
        return 0.0 if self.mean is None else 1.0 / self.mean

    @property
    def at_start(self) -> list[float]:
        """Density of every response at time 0: u."""
        return [part / (sum(self.split) * self._span) for part in self.split]

    @property
    def _span(self) -> float:
        return self.seconds if self.mean is None else self.mean

    def density(self, rt: Array, choice: Index) -> Array:
        """Of rt (n,) seconds with choices (n,), positions in `simulator.choices`: (n,)."""
        return np.asarray(np.array(self.at_start)[choice] * np.exp(-self.rate * rt))

    def mass(self, ranges: Ranges) -> Array:
        """Probability of ranges of time by response, (n,), or its density where times are known.

        A lapse may be impossible, but the gradient of its logarithm must be finite.
        """
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
