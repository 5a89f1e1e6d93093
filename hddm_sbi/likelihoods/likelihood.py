"""The one protocol every likelihood follows, exact or learned, and the trials it is evaluated on, cell by cell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from typing_extensions import override

from hddm_sbi.errors import InputError, name_rows
from hddm_sbi.likelihoods.bisection import bisect
from hddm_sbi.simulation.simulator import Simulator

#: lapses are uniform over the responses and over this many seconds, or up to the longest rt if that is longer.
LAPSE_SECONDS = 10.0
#: log decision times (seconds) outside which no distribution function looks, and the quadrature between them.
_Y_RANGE = (-14.0, 30.0)
_NODES, _WEIGHTS = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(1000))


class CellTrials(Protocol):
    """The outcomes of a table, cell by cell, as one kind of likelihood wants them."""

    @property
    def n_cells(self) -> int:
        """Number of cells, each with at least one trial."""

    @property
    def order(self) -> NDArray[np.int64]:
        """Position of each trial in the caller's table, (n,)."""

    @property
    def values(self) -> NDArray[np.float64]:
        """Outcomes (n, k), in the order of `simulator.outcomes`; a categorical one is the position of its category."""

    @property
    def cell(self) -> NDArray[np.int64]:
        """The cell of each trial, (n,), ascending."""

    @property
    def lapse_density(self) -> float:
        """Density of a lapse trial; 0 where the outcomes know no lapses."""

    @property
    def lapse_seconds(self) -> float:
        """Lapses are uniform over the responses and over these; 0 where the outcomes know no lapses."""


@dataclass(frozen=True)
class SortedTrials:
    """Trials sorted once by (cell, choice, rt), so that a kernel walks through runs of ascending response times.

    rt: (n,) seconds, sorted. starts: (n_cells * n_choices + 1,) offsets of the runs; run `cell * n_choices + choice`
    is `rt[starts[run]:starts[run + 1]]`. order: (n,) position of each sorted trial in the caller's table.
    lapse_seconds: lapses are uniform over the responses and over these.
    """

    rt: NDArray[np.float64]
    starts: NDArray[np.int64]
    order: NDArray[np.int64]
    n_cells: int
    n_choices: int
    lapse_seconds: float = LAPSE_SECONDS

    @classmethod
    def sort(
        cls,
        rt: NDArray[np.float64],
        choice: NDArray[np.int64],
        cell: NDArray[np.int64],
        n_cells: int,
        n_choices: int,
        lapse_seconds: float = LAPSE_SECONDS,
    ) -> SortedTrials:
        """Sort trials by (cell, choice, rt). rt, choice, cell: (n,)."""
        order = np.lexsort((rt, choice, cell))
        counts = np.bincount(cell * n_choices + choice, minlength=n_cells * n_choices)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        longest = float(rt.max()) if rt.size else 0.0
        return cls(np.ascontiguousarray(rt[order]), starts, order, n_cells, n_choices, max(lapse_seconds, longest))

    @property
    def values(self) -> NDArray[np.float64]:
        """rt and choice, (n, 2)."""
        return np.stack([self.rt, self._run % self.n_choices], -1)

    @property
    def cell(self) -> NDArray[np.int64]:
        """The cell of each trial, (n,)."""
        return self._run // self.n_choices

    @property
    def _run(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @property
    def lapse_density(self) -> float:
        """Density of a lapse trial: 1 / (n_choices * lapse_seconds)."""
        return 1.0 / (self.n_choices * self.lapse_seconds)


class Likelihood(ABC):
    """log p(outcomes | theta) of one model.

    simulator: the model. kind: "exact", "neural", ... box: (low, high) of each parameter, where it may be evaluated.
    sha256: of the file it was loaded from, "" where there is none.
    """

    kind: str
    sha256: str = ""

    def __init__(self, simulator: Simulator, box: Mapping[str, tuple[float, float]]) -> None:
        self.simulator = simulator
        self.box = dict(box)

    @abstractmethod
    def group_by_cell(
        self,
        values: NDArray[np.float64],
        cell: NDArray[np.int64],
        n_cells: int,
        lapse_seconds: float = LAPSE_SECONDS,
    ) -> CellTrials:
        """Outcomes (n, k), in the order of `simulator.outcomes`, with the cell of each (n,), for `log_prob_by_cell`."""

    @abstractmethod
    def log_prob_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        """Log density per row: values (n, k) as in `group_by_cell`, theta (n, p) -> (n,), differentiable in theta."""

    @abstractmethod
    def sample_rows(self, theta: Tensor, seed: int) -> NDArray[np.float64]:
        """Outcomes drawn from this likelihood, one row (k,) for each of theta (n, p)."""

    @abstractmethod
    def log_prob_by_cell(self, trials: Any, theta: Tensor, lapse: Tensor) -> Tensor:
        """Sum over each cell's trials of log[(1 - lapse) p(outcomes | theta) + lapse * trials.lapse_density].

        trials: from `group_by_cell`. theta: (n_cells, p) float64. lapse: () float64 in [0, 1), 0 where the outcomes
        know no lapses. Returns (n_cells,), differentiable in theta, and in lapse where lapse > 0.
        """

    def n_values(self, column: int) -> int:
        """How many values the discrete outcome in this column of `simulator.outcomes` can take."""
        return len(self.simulator.outcomes[column].categories)

    def simulate(self, theta: Tensor, seed: int | Sequence[int]) -> NDArray[np.float64]:
        """Outcomes (n, k) at every row of theta: by the model's simulator, or from this likelihood where the simulator
        is a Python function, which may be slow, may fail, and may not be here."""
        if self.simulator.compiled:
            return self.simulator.simulate_outcomes(theta.detach().numpy(), seed).values
        return self.sample_rows(theta.detach(), int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))

    def sample(
        self, theta: Mapping[str, ArrayLike | Tensor], n_trials: int | None = None, *, seed: int
    ) -> pd.DataFrame:
        """Trials drawn from this likelihood: a column for each outcome, such as `rt` (seconds) and `response`.

        theta: parameter name -> scalar or one value per trial. n_trials: needed where all are scalars.
        """
        n = _length(theta) if n_trials is None else n_trials
        values = self.sample_rows(self._theta(theta, n), seed)
        return pd.DataFrame(self.simulator.labels(values))

    def _theta(self, theta: Mapping[str, ArrayLike | Tensor], n: int) -> Tensor:
        columns = []
        for name, value in zip(self.simulator.names, self.simulator.in_order(theta, n), strict=True):
            column = value.double() if isinstance(value, Tensor) else torch.tensor(np.asarray(value, dtype=np.float64))
            low, high = self.box[name]
            outside = torch.nonzero(~((column >= low) & (column <= high)).reshape(-1)).reshape(-1)
            if len(outside):
                raise InputError(
                    f"theta[{name!r}] must lie in [{low:g}, {high:g}], the box of this {self.kind} likelihood; got "
                    f"{float(column.reshape(-1)[outside[0]]):g} in {name_rows(outside.tolist())} (0 = first)."
                )
            columns.append(column.expand(n))
        return torch.stack(columns, -1)


class DecisionLikelihood(Likelihood):
    """log p(rt, response | theta) of a decision model."""

    @override
    def group_by_cell(
        self,
        values: NDArray[np.float64],
        cell: NDArray[np.int64],
        n_cells: int,
        lapse_seconds: float = LAPSE_SECONDS,
    ) -> SortedTrials:
        choice, n_choices = values[:, 1].astype(np.int64), len(self.simulator.choices)
        return SortedTrials.sort(values[:, 0], choice, cell, n_cells, n_choices, lapse_seconds)

    @abstractmethod
    def log_prob_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        """Log density per row.

        values: (n, 2) float64, rt in seconds and the position of the response in `simulator.choices`. theta: (n, p)
        float64. Returns (n,) float64, differentiable in theta; -inf at or below the non-decision time.
        """

    @override
    def sample_rows(self, theta: Tensor, seed: int) -> NDArray[np.float64]:
        return np.stack(self.simulator.simulate(theta.detach().numpy(), seed), -1)

    @override
    def log_prob_by_cell(self, trials: SortedTrials, theta: Tensor, lapse: Tensor) -> Tensor:
        cell = torch.from_numpy(trials.cell)
        log_p = self.log_prob_rows(torch.from_numpy(trials.values), theta[cell])
        if float(lapse.detach()) > 0.0:
            log_p = torch.logaddexp(torch.log1p(-lapse) + log_p, torch.log(lapse * trials.lapse_density))
        return torch.zeros(len(theta), dtype=theta.dtype).index_add(0, cell, log_p)

    def log_prob(self, rt: ArrayLike, response: ArrayLike, theta: Mapping[str, ArrayLike | Tensor]) -> Tensor:
        """Log density of every trial, (n,) float64, differentiable in theta.

        rt: (n,) seconds. response: (n,) codes of `simulator.choices`. theta: parameter name -> scalar or (n,).
        -inf at or below the non-decision time. Raises InputError for a missing or unknown parameter, a value outside
        the box, a response outside the coding, or shapes that do not agree.

        >>> from hddm_sbi.likelihoods.catalogue import load_likelihood
        >>> exact = load_likelihood("ddm", kind="exact")
        >>> float(exact.log_prob([0.6], [1], {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3})[0])  # doctest: +ELLIPSIS
        0.07034914...
        """
        values = self._outcomes(rt, response)
        return self.log_prob_rows(values, self._theta(theta, len(values)))

    def cdf(self, rt: ArrayLike, response: ArrayLike, theta: Mapping[str, ArrayLike | Tensor]) -> Tensor:
        """P(response given, and within rt seconds) of every row, (n,): the defective distribution function.

        Arguments and errors as in `log_prob`; differentiable in theta.
        """
        values = self._outcomes(rt, response)
        return self.cdf_rows(values, self._theta(theta, len(values)))

    def survival(self, rt: ArrayLike, theta: Mapping[str, ArrayLike | Tensor]) -> Tensor:
        """P(no response within rt seconds) of every row, (n,): the probability of an omission at a deadline."""
        times = torch.tensor(np.asarray(rt, dtype=np.float64)).reshape(-1)
        return self.survival_rows(times, self._theta(theta, len(times)))

    def choice_probabilities(self, theta: Mapping[str, ArrayLike | Tensor]) -> Tensor:
        """Probability of every response, in the order of `simulator.choices`: (n, n_choices)."""
        rows = self._theta(theta, _length(theta))
        forever = torch.full((len(rows),), torch.inf, dtype=torch.float64)
        choices = range(len(self.simulator.choices))
        by_choice = [self.cdf_rows(outcome_rows(forever, torch.full_like(forever, c)), rows) for c in choices]
        return torch.stack(by_choice, -1)

    def quantile(self, probability: ArrayLike, response: ArrayLike, theta: Mapping[str, ArrayLike | Tensor]) -> Tensor:
        """The rt below which a trial with this response lies with this probability, (n,) seconds, by bisection.

        probability: (n,) in (0, 1); not differentiable.
        """
        probabilities = torch.tensor(np.asarray(probability, dtype=np.float64)).reshape(-1)
        if not bool(((probabilities > 0) & (probabilities < 1)).all()):
            raise InputError(f"probability must lie in (0, 1); got {probability!r}.")
        forever = torch.full_like(probabilities, torch.inf)
        rows, values = self._theta(theta, len(forever)), self._outcomes(forever, response)
        shift, choice = shift_of(self.simulator, rows), values[:, 1]
        with torch.no_grad():
            target = probabilities * self.cdf_rows(values, rows)
            low, high = (torch.full_like(probabilities, end) for end in _Y_RANGE)
            _, log_decision = bisect(
                lambda y: self.cdf_rows(outcome_rows(shift + torch.exp(y), choice), rows) < target, low, high
            )
        return shift + torch.exp(log_decision)

    def cdf_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        """P(response, RT <= rt) per row of values (n, 2), as in `log_prob_rows`; rt may be inf.

        By Gauss-Legendre quadrature over log decision time.
        """
        # The limits are treated as constants. Their derivative terms vanish because the density is 0 at both ends (t0
        # and the closing time).
        still, (rt, choice) = theta.detach(), values.unbind(-1)
        shift, closing = shift_of(self.simulator, still), self.simulator.clock.closing
        low, high = _Y_RANGE
        decision = rt - shift
        if closing is not None:
            decision = torch.minimum(
                decision, 1.0 / closing(dict(zip(self.simulator.names, still.unbind(-1), strict=True)))
            )
        upper = torch.log(decision.clamp(min=np.exp(low), max=np.exp(high)))
        half = 0.5 * (upper - low)
        y = low + half.unsqueeze(-1) * (1.0 + _NODES)
        at = (shift.unsqueeze(-1) + torch.exp(y)).reshape(-1)
        many = len(_NODES)
        log_p = self.log_prob_rows(outcome_rows(at, choice.repeat_interleave(many)), theta.repeat_interleave(many, 0))
        return half * (torch.exp(log_p.reshape(y.shape) + y) * _WEIGHTS).sum(-1)

    def survival_rows(self, rt: Tensor, theta: Tensor) -> Tensor:
        """P(RT > rt) per row: rt (n,), theta (n, p) -> (n,)."""
        by_choice = (
            self.cdf_rows(outcome_rows(rt, torch.full_like(rt, c)), theta) for c in range(len(self.simulator.choices))
        )
        return 1.0 - sum(by_choice, torch.zeros_like(rt))

    def _outcomes(self, rt: ArrayLike, response: ArrayLike) -> Tensor:
        """rt (n,) seconds and response codes (n,) as outcomes (n, 2)."""
        # A copy of the times, for a column of pandas is read-only, which torch does not take.
        times, codes = np.array(rt, dtype=np.float64).reshape(-1), np.asarray(response).reshape(-1)
        if len(codes) != len(times):
            raise InputError(f"rt and response must be equally long; got {len(times)} and {len(codes)}.")
        position = self.simulator.outcomes[1].numbers(codes)
        wrong = np.flatnonzero(np.isnan(position))
        if wrong.size:
            raise InputError(
                f"response must be one of {self.simulator.choices}; got {codes[wrong[0]]!r} in "
                f"{name_rows(wrong.tolist())} (0 = first)."
            )
        return outcome_rows(times, position)


def outcome_rows(rt: ArrayLike | Tensor, choice: ArrayLike | Tensor) -> Tensor:
    """rt (n,) seconds and choice (n,), positions in `simulator.choices`, as the outcomes (n, 2) a likelihood takes."""
    return torch.stack([torch.as_tensor(rt), torch.as_tensor(choice)], -1)


def shift_of(simulator: Simulator, theta: Tensor) -> Tensor:
    """Non-decision time of every row of theta (n, p): (n,), 0 where the model has none."""
    name = simulator.symmetries.shift
    return torch.zeros_like(theta[:, 0]) if name is None else theta[:, simulator.names.index(name)]


def _length(theta: Mapping[str, ArrayLike | Tensor]) -> int:
    """How many rows a theta by name has: the length of its longest entry."""
    return max((v.numel() if isinstance(v, Tensor) else int(np.size(v)) for v in theta.values()), default=1)
