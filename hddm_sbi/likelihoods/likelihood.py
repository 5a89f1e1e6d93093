"""The one protocol of all likelihoods, exact or learned, by parameter names and by cells.

To write a likelihood of your own, derive from `DecisionLikelihood` (rt and response) or `Likelihood` (any outcomes) and
write `log_prob_rows`; the rest follows: sums by cell, lapses, distribution functions, the Pyro distribution. A
likelihood that is not the law of its simulator writes `sample_rows` as well. Faster or closed forms may replace what
follows: `log_prob_at` (many trials of few thetas), `complete_by_cell`, `cdf_rows`, `log_survival_rows`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from typing_extensions import override

from hddm_sbi.errors import InputError, name_rows
from hddm_sbi.likelihoods.bisection import bisect
from hddm_sbi.likelihoods.cells import (
    LAPSE,
    LAPSE_SECONDS,
    CellOutcomes,
    CellTrials,
    IncompleteTrials,
    SortedTrials,
    lapse_span,
    outcome_rows,
    with_lapses,
)
from hddm_sbi.likelihoods.distribution import LikelihoodDistribution
from hddm_sbi.seeds import derive_seed
from hddm_sbi.simulation import Simulator
from hddm_sbi.types import Array, Index

__all__ = [
    "LAPSE",
    "LAPSE_SECONDS",
    "CellTrials",
    "DecisionLikelihood",
    "IncompleteTrials",
    "Likelihood",
    "SortedTrials",
    "outcome_rows",
    "shift_of",
    "with_lapses",
]

ByName = Mapping[str, ArrayLike | Tensor]

#: log decision times (seconds) outside which no distribution function looks, and the quadrature between them.
_Y_RANGE = (-14.0, 30.0)
#: rows that are integrated at a time, so that memory does not grow with them.
_ROWS = 256
_NODES, _WEIGHTS = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(1000))


class Likelihood(ABC):
    """log p(outcomes | theta) of one model.

    Parameters
    ----------
    simulator
        The model.
    box
        (low, high) of each parameter, where the likelihood may be evaluated.

    Attributes
    ----------
    kind
        "exact", "neural", ...
    sha256
        Of the file it was loaded from; "" where there is none.

    Examples
    --------
    >>> import torch
    >>> import hddm_sbi as hs
    >>> class Exponential(hs.Likelihood):
    ...     kind = "exact"
    ...     def log_prob_rows(self, values, theta):
    ...         return torch.log(theta[:, 0]) - theta[:, 0] * values[:, 0]
    >>> @hs.declare(parameters={"rate": (0.1, 10.0)}, outcomes={"wait": "positive"}, vectorised=True)
    ... def queue(rate, rng):
    ...     return rng.exponential(1 / rate)
    >>> Exponential(queue, queue.box).sample({"rate": 2.0}, n_trials=3, seed=1).columns.tolist()
    ['wait']
    """

    kind: str
    sha256: str = ""

    def __init__(self, simulator: Simulator, box: Mapping[str, tuple[float, float]]) -> None:
        self.simulator = simulator
        self.box = dict(box)

    @abstractmethod
    def log_prob_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        """Log density of outcomes, row by row.

        Parameters
        ----------
        values
            (n, k) float64, in the order of `simulator.outcomes`; a categorical outcome is the position of its category.
        theta
            (n, p) float64, in the order of `simulator.parameters`.

        Returns
        -------
        Tensor
            (n,) float64, differentiable in theta.
        """

    def log_prob_at(self, values: Tensor, theta: Tensor, row: Tensor) -> Tensor:
        """Log density of values (n, k), each at `theta[row]`: theta (r, p), row (n,) int64 -> (n,)."""
        return self.log_prob_rows(values, theta[row])

    def sample_rows(self, theta: Tensor, seed: int) -> Array:
        """Outcomes drawn from this likelihood, one row (k,) for each of theta (n, p); default: from the simulator."""
        return self.simulator.simulate_outcomes(theta.detach().numpy(), seed).complete(self.simulator.name)

    def group_by_cell(
        self, values: Array, cell: Index, n_cells: int, lapse_seconds: float = LAPSE_SECONDS
    ) -> CellTrials:
        """Arrange the trials of a table once, for `log_prob_by_cell`.

        Parameters
        ----------
        values
            Outcomes (n, k), as in `log_prob_rows`.
        cell
            (n,) the cell of each trial, 0 ... n_cells - 1; trials of a cell share theta.
        n_cells
            Number of cells.
        lapse_seconds
            Lapses are uniform over the responses and over this many seconds, or up to the longest rt.
        """
        return CellOutcomes.sort(values, cell, n_cells)

    def log_prob_by_cell(self, trials: Any, theta: Tensor, lapse: Tensor) -> Tensor:
        """Sum over each cell's trials of log[(1 - lapse) p(outcomes | theta) + lapse * density of a lapse].

        Parameters
        ----------
        trials
            From `group_by_cell`.
        theta
            (n_cells, p) float64.
        lapse
            () float64 in [0, 1); 0 where the outcomes know no lapses.

        Returns
        -------
        Tensor
            (n_cells,) float64, differentiable in theta, and in lapse where lapse > 0.
        """
        total = self.complete_by_cell(trials, theta, lapse)
        if trials.incomplete is None:
            return total
        cell = torch.from_numpy(trials.incomplete.cell)
        return total.index_add(0, cell, self.incomplete_rows(trials, theta[cell], lapse))

    def complete_by_cell(self, trials: Any, theta: Tensor, lapse: Tensor) -> Tensor:
        """The part of `log_prob_by_cell` of the trials from which nothing is missing."""
        each = self.log_prob_by_trial(trials, theta, lapse)
        return torch.zeros(len(theta), dtype=theta.dtype).index_add(0, torch.from_numpy(trials.cell), each)

    def log_prob_by_trial(self, trials: Any, theta: Tensor, lapse: Tensor) -> Tensor:
        """What `log_prob_by_cell` sums, for every complete trial: (n,), in the order of `trials.values`."""
        log_p = self.log_prob_at(torch.from_numpy(trials.values), theta, torch.from_numpy(trials.cell))
        return with_lapses(log_p, lapse, trials.lapse_density)

    def incomplete_rows(self, trials: Any, theta: Tensor, lapse: Tensor) -> Tensor:
        """Log probability of every one of `trials.incomplete`, lapses included: theta (m, p) -> (m,)."""
        raise InputError(f"outcomes of {self.simulator.name!r} must be complete; only rt and response may be missing.")

    def n_values(self, column: int) -> int:
        """How many values the discrete outcome in this column of `simulator.outcomes` can take."""
        return len(self.simulator.outcomes[column].categories)

    def simulate(self, theta: Tensor, seed: int | Sequence[int]) -> Array:
        """Outcomes (n, k) at every row of theta (n, p): by the model's simulator, or from this likelihood where the
        simulator is a Python function, which may be slow, may fail, and may not be here."""
        if self.simulator.compiled:
            return self.simulator.simulate_outcomes(theta.detach().numpy(), seed).values
        return self.sample_rows(theta.detach(), derive_seed(seed, bits=63))

    def sample(self, theta: ByName, n_trials: int | None = None, *, seed: int) -> pd.DataFrame:
        """Trials drawn from this likelihood.

        Parameters
        ----------
        theta
            Parameter name -> scalar or one value per trial.
        n_trials
            Number of trials; needed where all of theta are scalars.
        seed
            Same seed, same trials.

        Returns
        -------
        DataFrame
            A column for each outcome, such as `rt` (seconds) and `response`.

        Examples
        --------
        >>> import hddm_sbi as hs
        >>> exact = hs.load_likelihood("ddm", kind="exact")
        >>> exact.sample({"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=2, seed=1).columns.tolist()
        ['rt', 'response']
        """
        n = _length(theta) if n_trials is None else n_trials
        values = self.sample_rows(self._theta(theta, n), seed)
        return pd.DataFrame(self.simulator.labels(values))

    def distribution(
        self, theta: Tensor, index: ArrayLike | None = None, lapse: float | Tensor = 0.0
    ) -> LikelihoodDistribution:
        """This likelihood as a Pyro distribution of outcomes.

        Parameters
        ----------
        theta
            `(*batch, p)` float64, in the order of `simulator.parameters`.
        index
            Integers `(*shape)`: outcome k is one of `theta[..., index[k], :]`, where theta is `(*batch, n, p)`. Trials
            of a cell are then evaluated together: say it wherever trials share parameters.
        lapse
            Probability of a lapse, a number or a tensor (). Lapses are uniform over the responses and over 10 seconds,
            or up to the longest rt. 0 where the outcomes know no lapses.

        Returns
        -------
        LikelihoodDistribution
            Batch shape `(*batch,)`, or `(*batch[:-1], *shape)` with an index. Event shape (k,): rt in seconds and the
            response as coded in a table, or the model's own outcomes.

        Raises
        ------
        InputError
            Where theta has not p columns, an index is out of range, outcomes have another shape, or a response is
            outside the coding.

        Examples
        --------
        >>> import pyro, torch
        >>> import hddm_sbi as hs
        >>> exact = hs.load_likelihood("ddm", kind="exact")
        >>> trials = torch.tensor([[0.6, 1.0], [0.8, -1.0]]).double()
        >>> def model():
        ...     v = pyro.sample("v", pyro.distributions.Normal(torch.zeros(()).double(), 1.0))
        ...     theta = torch.stack([v, v.new_tensor(1.0), v.new_tensor(0.5), v.new_tensor(0.3)])
        ...     with pyro.plate("trials", 2):
        ...         pyro.sample("obs", exact.distribution(theta.unsqueeze(0), index=[0, 0]), obs=trials)
        """
        return LikelihoodDistribution(self, theta, index, lapse)

    def _theta(self, theta: ByName, n: int) -> Tensor:
        """theta by name as a matrix (n, p), inside the box."""
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
    """log p(rt, response | theta) of a decision model; arguments as in `Likelihood`.

    `log_prob_rows` takes rt in seconds and the position of the response in `simulator.choices`, and returns -inf at or
    below the non-decision time.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> isinstance(hs.load_likelihood("ddm"), hs.DecisionLikelihood)
    True
    """

    @override
    def group_by_cell(
        self,
        values: Array,
        cell: Index,
        n_cells: int,
        lapse_seconds: float = LAPSE_SECONDS,
        observed: NDArray[np.bool_] | None = None,
        deadline: Array | float = np.inf,
    ) -> SortedTrials:
        """Arrange the trials of a table once, for `log_prob_by_cell`; arguments as in `Likelihood.group_by_cell`.

        Parameters
        ----------
        observed
            (n, 2) mask of the rt and responses that were observed; None: all.
        deadline
            Seconds, one for all or (n,). A missing rt lies before it where the response is known, and after it where
            both are missing: then it must be finite.
        """
        n_choices, order = len(self.simulator.choices), np.arange(len(values))
        known = np.ones((len(values), 2), dtype=np.bool_) if observed is None else observed
        whole, end = known.all(1), np.broadcast_to(np.asarray(deadline, dtype=np.float64), (len(values),))
        omitted = np.flatnonzero(~known.any(1) & ~np.isfinite(end))
        if omitted.size:
            raise InputError(
                f"a trial without rt and response needs a deadline, in seconds; {name_rows(omitted.tolist())} (0 = "
                "first) have none."
            )
        span = lapse_span(values[known[:, 0], 0], lapse_seconds)
        rt, choice = values[whole].T
        trials = SortedTrials.sort(rt, choice.astype(np.int64), cell[whole], n_cells, n_choices, span)
        if whole.all():
            return trials
        rest = order[~whole]
        missing = IncompleteTrials(values[rest], known[rest], end[rest], cell[rest], rest)
        return replace(trials, order=order[whole][trials.order], incomplete=missing)

    @override
    def incomplete_rows(self, trials: SortedTrials, theta: Tensor, lapse: Tensor) -> Tensor:
        """No response by a deadline: P(RT > deadline). A response without its time: P(response, RT <= deadline). A time
        without its response: the density of all responses."""
        missing = trials.incomplete
        assert missing is not None
        (timed, answered), values = missing.observed.T, torch.from_numpy(missing.values)
        deadline, log_p = torch.from_numpy(missing.deadline), torch.zeros(len(theta), dtype=theta.dtype)
        laws = (
            (timed, lambda i: self._log_density_of_all(values[i, 0], theta[i])),
            (answered & ~timed, lambda i: self._log_cdf_rows(outcome_rows(deadline[i], values[i, 1]), theta[i])),
            (~answered & ~timed, lambda i: self.log_survival_rows(deadline[i], theta[i])),
        )
        for rows, law in laws:
            if rows.any():
                at = torch.from_numpy(np.flatnonzero(rows))
                log_p = log_p.index_add(0, at, law(at))
        return with_lapses(log_p, lapse, missing.lapse_density(trials.n_choices, trials.lapse_seconds))

    def _log_density_of_all(self, rt: Tensor, theta: Tensor) -> Tensor:
        """Log density of rt, whatever the response, (n,)."""
        choices = range(len(self.simulator.choices))
        by_choice = torch.stack([self.log_prob_rows(outcome_rows(rt, torch.full_like(rt, c)), theta) for c in choices])
        possible = (by_choice > -torch.inf).any(0)
        # The untaken branch must stay finite, or its gradient would be nan.
        return torch.where(possible, torch.logsumexp(torch.where(possible, by_choice, 0.0), 0), -torch.inf)

    def _log_cdf_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        """Log of `cdf_rows`, with gradient 0 where that is 0."""
        p = self.cdf_rows(values, theta)
        return torch.where(p > 0.0, torch.log(torch.where(p > 0.0, p, 1.0)), -torch.inf)

    def log_prob(self, rt: ArrayLike, response: ArrayLike, theta: ByName) -> Tensor:
        """Log density of every trial.

        Parameters
        ----------
        rt
            (n,) seconds.
        response
            (n,) codes of `simulator.choices`.
        theta
            Parameter name -> scalar or (n,).

        Returns
        -------
        Tensor
            (n,) float64, differentiable in theta; -inf at or below the non-decision time.

        Raises
        ------
        InputError
            For a missing or unknown parameter, a value outside the box, a response outside the coding, or shapes that
            do not agree.

        Examples
        --------
        >>> import hddm_sbi as hs
        >>> exact = hs.load_likelihood("ddm", kind="exact")
        >>> float(exact.log_prob([0.6], [1], {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3})[0])  # doctest: +ELLIPSIS
        0.07034914...
        """
        values = self._outcomes(rt, response)
        return self.log_prob_rows(values, self._theta(theta, len(values)))

    def cdf(self, rt: ArrayLike, response: ArrayLike, theta: ByName) -> Tensor:
        """Defective distribution function: P(this response, within rt seconds) of every row.

        Arguments and errors as in `log_prob`; rt may be inf. Returns (n,) float64, differentiable in theta.

        Examples
        --------
        >>> import hddm_sbi as hs
        >>> exact = hs.load_likelihood("ddm", kind="exact")
        >>> float(exact.cdf([0.6], [1], {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3})[0])  # doctest: +ELLIPSIS
        0.1657...
        """
        values = self._outcomes(rt, response)
        return self.cdf_rows(values, self._theta(theta, len(values)))

    def survival(self, rt: ArrayLike, theta: ByName) -> Tensor:
        """P(no response within rt seconds) of every row: the probability of an omission at a deadline.

        Arguments and errors as in `log_prob`. Returns (n,) float64, differentiable in theta; accurate far out too.

        Examples
        --------
        >>> import hddm_sbi as hs
        >>> exact = hs.load_likelihood("ddm", kind="exact")
        >>> float(exact.survival([10.0], {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3})[0])  # doctest: +ELLIPSIS
        6.95...e-08
        """
        times = torch.tensor(np.asarray(rt, dtype=np.float64)).reshape(-1)
        return torch.exp(self.log_survival_rows(times, self._theta(theta, len(times))))

    def choice_probabilities(self, theta: ByName) -> Tensor:
        """Probability of every response, in the order of `simulator.choices`: (n, n_choices), differentiable in theta.

        Examples
        --------
        >>> import hddm_sbi as hs
        >>> exact = hs.load_likelihood("ddm", kind="exact")
        >>> exact.choice_probabilities({"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}).numpy().round(4)
        array([[0.1192, 0.8808]])
        """
        rows = self._theta(theta, _length(theta))
        forever = torch.full((len(rows),), torch.inf, dtype=torch.float64)
        choices = range(len(self.simulator.choices))
        by_choice = [self.cdf_rows(outcome_rows(forever, torch.full_like(forever, c)), rows) for c in choices]
        return torch.stack(by_choice, -1)

    def quantile(self, probability: ArrayLike, response: ArrayLike, theta: ByName) -> Tensor:
        """The rt below which a trial with this response lies with this probability, by bisection.

        Parameters
        ----------
        probability
            (n,) in (0, 1).
        response, theta
            As in `log_prob`.

        Returns
        -------
        Tensor
            (n,) seconds; not differentiable.

        Examples
        --------
        >>> import hddm_sbi as hs
        >>> exact = hs.load_likelihood("ddm", kind="exact")
        >>> exact.quantile([0.1, 0.9], [1, 1], {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}).numpy().round(3)
        array([0.526, 1.821])
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
        """P(response, RT <= rt) per row of values (n, 2), as in `log_prob_rows`; rt may be inf."""
        parts = zip(values.split(_ROWS), theta.split(_ROWS), strict=True)
        return torch.cat([self._cdf_integral(some, at) for some, at in parts])

    def _cdf_integral(self, values: Tensor, theta: Tensor) -> Tensor:
        rt, choice = values.unbind(-1)
        decision = torch.minimum(rt - shift_of(self.simulator, theta.detach()), self._longest(theta))
        low = torch.full_like(rt, _Y_RANGE[0])
        upper = torch.log(decision.clamp(min=np.exp(_Y_RANGE[0]), max=np.exp(_Y_RANGE[1])))
        log_p, half = self._integrand(low, upper, choice, theta)
        return half * (torch.exp(log_p) * _WEIGHTS).sum(-1)

    def log_survival_rows(self, rt: Tensor, theta: Tensor) -> Tensor:
        """log P(RT > rt) per row: rt (n,), theta (n, p) -> (n,), accurate to 1e-9 down to 1e-270.

        The integral of the density from rt on: 1 - P(RT <= rt) would be rounding there.
        """
        parts = zip(rt.split(_ROWS), theta.split(_ROWS), strict=True)
        return torch.cat([self._survival_integral(some, at) for some, at in parts])

    def _survival_integral(self, rt: Tensor, theta: Tensor) -> Tensor:
        decision, longest = rt - shift_of(self.simulator, theta.detach()), self._longest(theta)
        inside = (decision > 0) & (decision < longest)
        # The untaken branch must stay finite, or its gradient would be nan.
        start = torch.log(torch.where(inside, decision, torch.exp(torch.tensor(_Y_RANGE[0]))))
        end = torch.minimum(torch.log(longest), start.clamp(min=0.0) + _Y_RANGE[1])
        parts = []
        for c in range(len(self.simulator.choices)):
            log_p, half = self._integrand(start, end, torch.full_like(rt, c), theta)
            parts.append(log_p + torch.log(_WEIGHTS * half.unsqueeze(-1)))
        log_s = torch.logsumexp(torch.cat(parts, -1), -1)
        return torch.where(inside, log_s, torch.where(decision > 0, -torch.inf, 0.0))

    def _integrand(self, low: Tensor, high: Tensor, choice: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Log density of log decision time at 1000 Gauss-Legendre nodes between two ends (n,), (n, 1000), and half the
        distance of the ends."""
        # The limits are treated as constants. Their derivative terms vanish because rt is one, and the density is 0 at
        # the others (t0 and the closing time).
        half = 0.5 * (high - low)
        y = low.unsqueeze(-1) + half.unsqueeze(-1) * (1.0 + _NODES)
        at = (shift_of(self.simulator, theta.detach()).unsqueeze(-1) + torch.exp(y)).reshape(-1)
        row = torch.arange(len(theta)).repeat_interleave(len(_NODES))
        return self.log_prob_at(outcome_rows(at, choice[row]), theta, row).reshape(y.shape) + y, half

    def _longest(self, theta: Tensor) -> Tensor:
        """The longest decision time of every row of theta, (n,): inf where the bounds never meet."""
        closing, columns = self.simulator.clock.closing, theta.detach().unbind(-1)
        if closing is None:
            return torch.full_like(columns[0], torch.inf)
        return torch.as_tensor(1.0 / closing(dict(zip(self.simulator.names, columns, strict=True))))

    def _outcomes(self, rt: ArrayLike, response: ArrayLike) -> Tensor:
        """rt (n,) seconds and response codes (n,) as outcomes (n, 2)."""
        # A copy of the times, for a column of pandas is read-only, which torch does not take.
        times, codes = np.asarray(rt, dtype=np.float64).reshape(-1).copy(), np.asarray(response).reshape(-1)
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


def shift_of(simulator: Simulator, theta: Tensor) -> Tensor:
    """Non-decision time of every row of theta (n, p): (n,), 0 where the model has none."""
    name = simulator.symmetries.shift
    return torch.zeros_like(theta[:, 0]) if name is None else theta[:, simulator.names.index(name)]


def _length(theta: ByName) -> int:
    """How many rows a theta by name has: the length of its longest entry."""
    return max((v.numel() if isinstance(v, Tensor) else int(np.size(v)) for v in theta.values()), default=1)
