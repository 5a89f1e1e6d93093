"""The one protocol of all likelihoods, exact or learned, by parameter names and by cells.

To write a likelihood of your own, derive from `DecisionLikelihood` (rt and response, `decision.py`) or `Likelihood` and
write `log_prob_rows`; the rest follows: sums by cell, lapses, distribution functions, the Pyro distribution. A
likelihood that is not the law of its simulator writes `sample_rows` as well. Faster or closed forms may replace what
follows: `log_prob_at` (many trials of few thetas), `log_mass_at` (ranges of time), `complete_by_cell`,
`events_by_cell`, `cdf_rows`, `log_survival_rows`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hddm_sbi.errors import InputError, name_rows
from hddm_sbi.likelihoods.cells import LAPSE, LAPSE_SECONDS, CellTrials, Events, with_lapses
from hddm_sbi.likelihoods.distribution import LikelihoodDistribution
from hddm_sbi.likelihoods.lapse_law import LapseLaw
from hddm_sbi.seeds import derive_seed
from hddm_sbi.simulation import Observation, Simulator
from hddm_sbi.types import Array, Index

__all__ = [
    "LAPSE",
    "LAPSE_SECONDS",
    "ByName",
    "CellTrials",
    "LapseLaw",
    "Likelihood",
    "Observation",
    "Simulator",
    "n_rows",
    "shift_of",
    "with_lapses",
]

#: outcomes that are simulated of a row of theta for their mean, where the density does not say it.
_OUTCOMES = 200

ByName = Mapping[str, ArrayLike | Tensor]


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
        Seal of its weights and their card; "" where there is none.

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

    def check_outcomes(self, values: Array) -> None:  # noqa: B027, most likelihoods know all outcomes
        """Raise InputError for outcomes (n, k) of a table of which this likelihood knows nothing, or warn of them."""

    def doubts(self, theta: Tensor) -> str:
        """What speaks against trusting this likelihood at theta (n, p), draws of a posterior; "" where nothing does."""
        return ""

    def sample_rows(self, theta: Tensor, seed: int) -> Array:
        """Outcomes drawn from this likelihood, one row (k,) for each of theta (n, p); default: from the simulator."""
        return self.simulator.simulate_outcomes(theta.detach().numpy(), seed).complete(self.simulator.name)

    def group_by_cell(
        self,
        values: Array,
        cell: Index,
        n_cells: int,
        lapse_seconds: float | None = LAPSE_SECONDS,
        observation: Observation | None = None,
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
            Lapses are uniform over the responses and over this many seconds, or up to the longest rt if that is longer;
            None: up to the longest rt.
        observation
            How trials of rt and response were seen; None for other outcomes, which are complete.
        """
        order = np.argsort(cell, kind="stable")
        return CellTrials(np.ascontiguousarray(values[order]), cell[order], order, n_cells)

    def log_prob_by_cell(self, trials: Any, theta: Tensor, lapse: Tensor) -> Tensor:
        """Sum over each cell's trials of log[(1 - lapse) p(outcomes | theta) + lapse * density of a lapse].

        Parameters
        ----------
        trials
            From `group_by_cell`.
        theta
            (n_cells, p) float64.
        lapse
            () or (n_cells,) float64 in [0, 1); 0 where the outcomes know no lapses.

        Returns
        -------
        Tensor
            (n_cells,) float64, differentiable in theta, and in lapse where lapse > 0.
        """
        total = self.complete_by_cell(trials, theta, lapse.expand(len(theta)))
        if trials.incomplete is None:
            return total
        return total + self.events_by_cell(trials.incomplete.events, theta, lapse.expand(len(theta)), trials.lapses)

    def complete_by_cell(self, trials: Any, theta: Tensor, lapse: Tensor) -> Tensor:
        """The part of `log_prob_by_cell` of the trials from which nothing is missing; lapse (n_cells,)."""
        cell = torch.from_numpy(trials.cell)
        log_p = self.log_prob_at(torch.from_numpy(trials.values), theta, cell)
        each = with_lapses(log_p, lapse[cell], trials.lapse_density)
        return torch.zeros(len(theta), dtype=theta.dtype).index_add(0, cell, each)

    def log_prob_by_trial(self, trials: Any, theta: Tensor, lapse: Tensor) -> Tensor:
        """What `log_prob_by_cell` sums, for every trial: (n,), in the order of the caller's table."""
        of_cells, cell = lapse.expand(len(theta)), torch.from_numpy(trials.cell)
        log_p = self.log_prob_at(torch.from_numpy(trials.values), theta, cell)
        complete, known = with_lapses(log_p, of_cells[cell], trials.lapse_density), trials.incomplete
        if known is None:
            return torch.empty_like(complete).index_copy(0, torch.from_numpy(trials.order), complete)
        at = torch.from_numpy(known.events.cell)
        each = self.events_by_cell(known.events.one_by_one(), theta[at], of_cells[at], trials.lapses)
        order = torch.from_numpy(np.concatenate([trials.order, known.order]))
        whole = torch.cat([complete, each[torch.from_numpy(known.event)]])
        whole = torch.empty_like(whole).index_copy(0, order, whole)
        return whole if known.kept is None else whole - each[torch.from_numpy(known.kept)]

    def events_by_cell(self, events: Events, theta: Tensor, lapse: Tensor, lapses: LapseLaw) -> Tensor:
        """Sum over each cell's events of weight * log[(1 - lapse) P(event | theta) + lapse P(event | a lapse)]: theta
        (n_cells, p), lapse (n_cells,) -> (n_cells,)."""
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
        n = n_rows(theta) if n_trials is None else n_trials
        values = self.sample_rows(self._theta(theta, n), seed)
        return pd.DataFrame(self.simulator.labels(values))

    def quantities(
        self, theta: Array, responses: Sequence[object] = (), correct: Index | None = None, *, seed: int = 1
    ) -> dict[str, Array]:
        """Numbers that describe outcomes, by name, at every row of theta: what predictions and descriptions show.

        Parameters
        ----------
        theta
            (n, p) float64, in the order of `simulator.parameters`.
        responses
            Names of the choices of a decision model, where they are not its codes.
        correct
            Of a decision model: the position of the correct choice in every row (n,); None where it is not known.
        seed
            Of what is simulated.

        Returns
        -------
        dict of str to numpy.ndarray
            (n,) each: of rt and response `accuracy`, where it is known, `probability[response]`, and `rt_mean` and the
            quantiles `rt_q10`, `rt_q30`, `rt_q50`, `rt_q70`, `rt_q90` in seconds, of all responses and of each, from
            the density; of other outcomes means, and probabilities of categories, by simulation.

        Examples
        --------
        >>> import numpy as np
        >>> import hddm_sbi as hs
        >>> found = hs.load_likelihood("ddm", kind="exact").quantities(np.array([[1.0, 1.0, 0.5, 0.3]]))
        >>> {name: found[name].round(3).tolist() for name in ("probability[1]", "rt_mean", "rt_q10[1]")}
        {'probability[1]': [0.881], 'rt_mean': [1.062], 'rt_q10[1]': [0.526]}
        """
        repeated = torch.as_tensor(np.repeat(theta, _OUTCOMES, axis=0))
        values = self.simulate(repeated, seed).reshape(len(theta), _OUTCOMES, -1)
        found: dict[str, Array] = {}
        for k, outcome in enumerate(self.simulator.outcomes):
            if outcome.kind == "categorical":
                shares = [(values[..., k] == c).mean(1) for c in range(len(outcome.categories))]
                names = [f"probability[{category}]" for category in outcome.categories]
                found |= {f"{outcome.name}_{name}": x for name, x in zip(names, shares, strict=True)}
            else:
                found[f"{outcome.name}_mean"] = values[..., k].mean(1)
        return found

    def distribution(
        self,
        theta: Tensor,
        index: ArrayLike | None = None,
        lapse: float | Tensor = 0.0,
        lapses: LapseLaw | None = None,
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
            Probability of a lapse, a number or a tensor (), or `(*batch)`, one beside each row of theta. 0 where the
            outcomes know no lapses.
        lapses
            Which responses they are, and when. None: uniform over the responses and over 10 seconds, or up to the
            longest rt.

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
        return LikelihoodDistribution(self, theta, index, lapse, lapses)

    def _theta(self, theta: ByName, n: int) -> Tensor:
        """theta by name as a matrix (n, p), inside the box, and conditions at one of their codes."""
        columns = []
        for p, value in zip(self.simulator.parameters, self.simulator.in_order(theta, n), strict=True):
            column = value.double() if isinstance(value, Tensor) else torch.tensor(np.asarray(value, dtype=np.float64))
            given, (low, high) = column.detach().reshape(-1), self.box[p.name]
            outside = torch.nonzero(~((given >= low) & (given <= high)))
            expected = f"lie in [{low:g}, {high:g}], the box of this {self.kind} likelihood"
            if p.codes:
                outside = torch.nonzero(~torch.isin(given, given.new_tensor(p.codes)))
                expected = f"be one of {', '.join(f'{code:g}' for code in p.codes)}, the codes of this condition"
            if len(outside):
                rows = outside[:, 0].tolist()
                got = f"{float(given[rows[0]]):g} in {name_rows(rows)} (0 = first)"
                raise InputError(f"theta[{p.name!r}] must {expected}; got {got}.")
            columns.append(column.expand(n))
        return torch.stack(columns, -1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._summary()})"

    def _summary(self) -> str:
        return f"{self.simulator.name}: {' '.join(self.simulator.names)}"


def shift_of(simulator: Simulator, theta: Tensor) -> Tensor:
    """Non-decision time of every row of theta (n, p): (n,), 0 where the model has none."""
    name = simulator.symmetries.shift
    return torch.zeros_like(theta[:, 0]) if name is None else theta[:, simulator.names.index(name)]


def n_rows(theta: ByName) -> int:
    """How many rows a theta by name has: the length of its longest entry."""
    return max((v.numel() if isinstance(v, Tensor) else int(np.size(v)) for v in theta.values()), default=1)
