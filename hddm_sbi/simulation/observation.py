"""How trials of rt and response come to be seen: deadlines, responses that are withheld, limits of time, removals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hddm_sbi.types import Array, Index

#: low and high, (n, n_choices) seconds each: see `Observation.ranges`.
Ends = tuple[Array, Array]


@dataclass(frozen=True)
class Observation:
    """How the trials of a table were seen; what is said of none is that of an experiment which sees every trial whole.

    n_choices: of the model. deadline: (n,) seconds; a trial that takes longer has neither rt nor response; inf for
    none. withheld: the position of the response that is given by not responding; None for none. censored: two (n,) of
    seconds; of a time outside it is only known on which side. truncated: two (n,) of seconds; trials with a time
    outside were removed. timed, answered: (n,), False where rt or response was not recorded, by chance.
    """

    n_choices: int
    deadline: Array
    withheld: int | None
    censored: tuple[Array, Array]
    truncated: tuple[Array, Array]
    timed: NDArray[np.bool_]
    answered: NDArray[np.bool_]

    def seen(self, values: Array) -> Array:
        """Outcomes (n, 2) as they are seen: nan for what is missing, and -inf or inf for a time that is too short or
        too long. A trial that would have been removed stays."""
        rt, choice = np.array(values, dtype=np.float64).T
        omitted = rt > self.deadline
        if self.withheld is not None:
            omitted |= choice == self.withheld
        low, high = self.censored
        rt = np.where(rt < low, -np.inf, np.where(rt > high, np.inf, rt))
        rt[omitted | ~self.timed] = np.nan
        choice[omitted | ~self.answered] = np.nan
        return np.stack([rt, choice], -1)

    def removed(self, values: Array) -> NDArray[np.bool_]:
        """Whether each of these outcomes (n, 2), not yet seen, would have been removed."""
        rt, choice = values.T
        outside = ((rt < self.truncated[0]) | (rt > self.truncated[1])) & (rt <= self.deadline)
        return np.asarray(outside if self.withheld is None else outside & (choice != self.withheld))

    def ranges(self, values: Array) -> Ends:
        """Where the times of trials lie whose outcomes (n, 2), as `seen`, are not both finite, by response: after low,
        and up to high. Where both are equal the time is known; where low > high, the response was not given.

        A missing time with a response lies before the deadline. With neither, the trial took longer than the deadline,
        or the response was withheld.
        """
        rt, choice = values.T
        first, last = self._limits()
        early, over, missing = np.isneginf(rt), np.isposinf(rt), np.isnan(rt)
        low = np.where(over, np.maximum(self.censored[1], first), np.where(missing | early, first, rt))
        high = np.where(early, np.minimum(self.censored[0], last), np.where(missing | over, last, rt))
        given = np.arange(self.n_choices) == choice[:, None]
        possible = given | np.isnan(choice)[:, None]
        neither = missing & np.isnan(choice)
        lows, highs = np.where(possible, low[:, None], 1.0), np.where(possible, high[:, None], 0.0)
        # Without a deadline no response is late, and only the withheld one is left.
        late = np.isfinite(self.deadline)[neither, None]
        lows[neither], highs[neither] = np.where(late, self.deadline[neither, None], 1.0), np.where(late, np.inf, 0.0)
        if self.withheld is not None:
            lows[:, self.withheld], highs[:, self.withheld] = np.where(neither, [[0.0], [np.inf]], [[1.0], [0.0]])
        return lows, highs

    @property
    def kept(self) -> Ends | None:
        """Where the times of trials lie that were not removed, by response; None where none was."""
        first, last = self.truncated
        if not (first > 0.0).any() and not np.isfinite(last).any():
            return None
        # Who takes longer than the deadline is no trial with a time, and stays.
        last = np.where(self.deadline <= last, np.inf, last)
        low, high = (np.tile(end[:, None], (1, self.n_choices)) for end in (first, last))
        if self.withheld is not None:
            low[:, self.withheld], high[:, self.withheld] = 0.0, np.inf
        return low, high

    @property
    def ends(self) -> Array:
        """The last finite limit of each trial, (n,) seconds; 0 where there is none."""
        limits = np.stack([self.deadline, *self.censored, *self.truncated])
        return np.asarray(np.where(np.isfinite(limits), limits, 0.0).max(0))

    def of(self, rows: Index) -> Observation:
        """How some of the trials were seen."""
        (low, high), (first, last) = self.censored, self.truncated
        return replace(
            self,
            deadline=self.deadline[rows],
            censored=(low[rows], high[rows]),
            truncated=(first[rows], last[rows]),
            timed=self.timed[rows],
            answered=self.answered[rows],
        )

    def _limits(self) -> tuple[Array, Array]:
        """Between which any time lies that was not recorded."""
        return self.truncated[0], np.minimum(self.truncated[1], self.deadline)
