"""Likelihoods of rt and response: lapses, missing times and responses, distribution functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize.elementwise import find_root
from torch import Tensor
from typing_extensions import override

from hddm_sbi.errors import InputError, name_rows
from hddm_sbi.likelihoods import quadrature
from hddm_sbi.likelihoods.cells import (
    LAPSE,
    LAPSE_SECONDS,
    Events,
    IncompleteTrials,
    Observation,
    SortedTrials,
    lapse_span,
    outcome_rows,
    with_lapses,
)
from hddm_sbi.likelihoods.lapse_law import LapseLaw
from hddm_sbi.likelihoods.likelihood import ByName, Likelihood, n_rows, shift_of
from hddm_sbi.likelihoods.outcome_law import PROBABILITIES, decision_law
from hddm_sbi.types import Array, Index

#: by how much the probabilities of all responses may differ from 1.
_ROUNDING = 1e-6

__all__ = ["LAPSE", "LAPSE_SECONDS", "DecisionLikelihood", "SortedTrials", "outcome_rows", "with_lapses"]


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
        lapse_seconds: float | None = LAPSE_SECONDS,
        observation: Observation | None = None,
    ) -> SortedTrials:
        """Arrange the trials of a table once, for `log_prob_by_cell`.

        Parameters
        ----------
        values
            Outcomes (n, 2), as in `log_prob_rows`; those of an incomplete trial are not finite.
        cell
            (n,) the cell of each trial, 0 ... n_cells - 1; trials of a cell share theta.
        n_cells
            Number of cells.
        lapse_seconds
            Lapses are uniform over the responses and over this many seconds, or up to the longest rt if that is longer;
            None: up to the longest rt, or the end of a range.
        observation
            How the trials were seen; None where each was seen whole.
        """
        n_choices, whole = len(self.simulator.choices), np.asarray(np.isfinite(values).all(1))
        incomplete = np.flatnonzero(~whole)
        if incomplete.size and observation is None:
            raise InputError(
                f"rt and response must be finite, or observation= says how trials were seen; "
                f"{name_rows(incomplete.tolist())} (0 = first) are not finite."
            )
        seen = [values[np.isfinite(values[:, 0]), 0]]
        if lapse_seconds is None and observation is not None:
            seen.append(observation.ends)
        span, choice = lapse_span(np.concatenate(seen), lapse_seconds), values[whole, 1].astype(np.int64)
        trials = SortedTrials.sort(values[whole, 0], choice, cell[whole], n_cells, n_choices, span)
        if observation is None or (whole.all() and observation.kept is None):
            return trials
        known = IncompleteTrials.arrange(cell, values, observation)
        return replace(trials, order=np.flatnonzero(whole)[trials.order], incomplete=known)

    @override
    def events_by_cell(self, events: Events, theta: Tensor, lapse: Tensor, lapses: LapseLaw) -> Tensor:
        (low, high), cell = (torch.from_numpy(end) for end in events.ranges), torch.from_numpy(events.cell)
        log_p = self.log_mass_at(low, high, theta, cell)
        mixed = with_lapses(log_p, lapse[cell], torch.from_numpy(lapses.mass(events.ranges)))
        weight = torch.from_numpy(events.weight)
        weighted = torch.where(weight == 0.0, 0.0, weight * mixed)
        return torch.zeros(len(theta), dtype=theta.dtype).index_add(0, cell, weighted)

    def log_mass_at(self, low: Tensor, high: Tensor, theta: Tensor, row: Tensor) -> Tensor:
        """Log probability of `Ranges` of time by response, low and high (n, n_choices), each at `theta[row]`: theta
        (r, p), row (n,) int64 -> (n,). Of the density where low = high.
        """
        at, choice = torch.nonzero((low <= high) & (low < torch.inf), as_tuple=True)
        each = self._log_mass_of(choice, low[at, choice], high[at, choice], theta, row[at])
        by_choice = torch.full_like(low, -torch.inf).index_put((at, choice), each)
        possible = (by_choice > -torch.inf).any(1)
        # The untaken branch must stay finite, or its gradient would be nan.
        return torch.where(possible, torch.logsumexp(torch.where(possible[:, None], by_choice, 0.0), 1), -torch.inf)

    def _log_mass_of(self, choice: Tensor, low: Tensor, high: Tensor, theta: Tensor, row: Tensor) -> Tensor:
        """Log probability of a response with a time in a range, or its log density where low = high: (n,)."""
        at, within = (torch.nonzero(rows)[:, 0] for rows in (low == high, low < high))
        log_p = torch.full_like(low, -torch.inf)
        if len(at):
            density = self.log_prob_at(outcome_rows(low[at], choice[at]), theta, row[at])
            log_p = log_p.index_put((at,), density)
        if len(within):
            mass = self._log_mass_within(choice[within], low[within], high[within], theta, row[within])
            log_p = log_p.index_put((within,), mass)
        return log_p

    def _log_mass_within(self, choice: Tensor, low: Tensor, high: Tensor, theta: Tensor, row: Tensor) -> Tensor:
        """The same where low < high."""
        return quadrature.log_mass(self, [choice], low, high, theta[row])

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

    @override
    def quantities(
        self, theta: Array, responses: Sequence[object] = (), correct: Index | None = None, *, seed: int = 1
    ) -> dict[str, Array]:
        law = decision_law(self, theta, PROBABILITIES)
        names = [f"[{name}]" for name in (responses or self.simulator.choices)]
        found: dict[str, Array] = {}
        if correct is not None:
            found["accuracy"] = law.probability[np.arange(len(theta)), correct]
        found |= {f"probability{name}": law.probability[:, c] for c, name in enumerate(names)}
        for c, name in [(len(names), ""), *enumerate(names)]:
            found[f"rt_mean{name}"] = law.mean[:, c]
            found |= {f"rt_q{100 * p:.0f}{name}": law.quantile[:, c, k] for k, p in enumerate(PROBABILITIES)}
        return found

    def cdf(self, rt: ArrayLike, response: ArrayLike, theta: ByName) -> Tensor:
        """Defective distribution function: P(this response, within rt seconds) of every row.

        Parameters
        ----------
        rt
            (n,) seconds; may be inf.
        response
            (n,) codes of `simulator.choices`.
        theta
            Parameter name -> scalar or (n,).

        Returns
        -------
        Tensor
            (n,) float64, differentiable in theta.

        Raises
        ------
        InputError
            As `log_prob`.

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

        Parameters
        ----------
        rt
            (n,) seconds; may be inf.
        theta
            Parameter name -> scalar or (n,).

        Returns
        -------
        Tensor
            (n,) float64, differentiable in theta; accurate far out too.

        Raises
        ------
        InputError
            As `log_prob`.

        Examples
        --------
        >>> import hddm_sbi as hs
        >>> exact = hs.load_likelihood("ddm", kind="exact")
        >>> float(exact.survival([10.0], {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3})[0])  # doctest: +ELLIPSIS
        6.95...e-08
        """
        times = torch.from_numpy(_times(rt))
        return torch.exp(self.log_survival_rows(times, self._theta(theta, len(times))))

    def choice_probabilities(self, theta: ByName) -> Tensor:
        """Probability of every response.

        Parameters
        ----------
        theta
            Parameter name -> scalar or (n,).

        Returns
        -------
        Tensor
            (n, n_choices) float64, in the order of `simulator.choices`, differentiable in theta.

        Examples
        --------
        >>> import hddm_sbi as hs
        >>> exact = hs.load_likelihood("ddm", kind="exact")
        >>> exact.choice_probabilities({"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}).numpy().round(4)
        array([[0.1192, 0.8808]])
        """
        rows = self._theta(theta, n_rows(theta))
        forever = torch.full((len(rows),), torch.inf, dtype=torch.float64)
        probabilities = self._by_choice(self.cdf_rows, forever, rows).T.contiguous()
        wrong = torch.nonzero(~((probabilities.detach().sum(-1) - 1.0).abs() <= _ROUNDING))
        if len(wrong):
            at = dict(zip(self.simulator.names, rows[wrong[0, 0]].tolist(), strict=True))
            raise InputError(
                f"the law of {self.simulator.name!r} cannot be computed at {at}, far outside what it is made for: its "
                f"probabilities sum to {float(probabilities[wrong[0, 0]].sum()):.6g}; expected 1."
            )
        return probabilities

    def quantile(self, probability: ArrayLike, response: ArrayLike, theta: ByName) -> Tensor:
        """The rt below which a trial with this response lies with this probability.

        Parameters
        ----------
        probability
            (n,) in (0, 1).
        response
            (n,) codes of `simulator.choices`.
        theta
            Parameter name -> scalar or (n,).

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

            def excess(log_decision: Array, of: Index) -> Array:
                i = torch.from_numpy(of)
                rt = shift[i] + torch.exp(torch.from_numpy(log_decision))
                return (self.cdf_rows(outcome_rows(rt, choice[i]), rows[i]) - target[i]).numpy()

            found = find_root(excess, quadrature.Y_RANGE, args=(np.arange(len(target)),))
        # Where rounding is larger than what is left, no time is late enough.
        return shift + torch.exp(torch.from_numpy(np.where(found.success, found.x, quadrature.Y_RANGE[1])))

    def cdf_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        """P(response, RT <= rt) per row of values (n, 2), as in `log_prob_rows`; rt may be inf."""
        rt, choice = values[:, 0], values[:, 1].long()
        return torch.exp(self._log_mass_within(choice, torch.zeros_like(rt), rt, theta, torch.arange(len(rt))))

    def log_survival_rows(self, rt: Tensor, theta: Tensor) -> Tensor:
        """log P(RT > rt) per row: rt (n,), theta (n, p) -> (n,), accurate to 1e-9 however little survives.

        The integral of the density from rt on: 1 - P(RT <= rt) would be rounding there.
        """
        choices = [torch.full_like(rt, c) for c in range(len(self.simulator.choices))]
        return quadrature.log_mass(self, choices, rt, torch.full_like(rt, torch.inf), theta)

    def _by_choice(self, law: Callable[[Tensor, Tensor], Tensor], rt: Tensor, theta: Tensor) -> Tensor:
        """A law of outcomes (n, 2) and theta (n, p), for every choice with these times: (n_choices, n)."""
        n_choices = len(self.simulator.choices)
        choice = torch.arange(n_choices, dtype=rt.dtype).repeat_interleave(len(rt))
        return law(outcome_rows(rt.repeat(n_choices), choice), theta.repeat(n_choices, 1)).reshape(n_choices, -1)

    def _outcomes(self, rt: ArrayLike, response: ArrayLike) -> Tensor:
        """rt (n,) seconds and response codes (n,) as outcomes (n, 2)."""
        times, codes = _times(rt), np.asarray(response).reshape(-1)
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


def _times(rt: ArrayLike) -> Array:
    """Response times (n,), which are numbers."""
    # A copy, for a column of pandas is read-only, which torch does not take.
    times = np.asarray(rt, dtype=np.float64).reshape(-1).copy()
    missing = np.flatnonzero(np.isnan(times))
    if missing.size:
        raise InputError(f"rt must be numbers, in seconds; it is nan in {name_rows(missing.tolist())} (0 = first).")
    return times
