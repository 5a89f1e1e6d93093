"""Numerical likelihoods: a diffusion's equation solved at every theta. Slow; what learned ones are judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.decision import DecisionLikelihood, outcome_rows
from hddm_sbi.likelihoods.likelihood import shift_of
from hddm_sbi.simulation import DecisionModel, Law, Passage, Solution
from hddm_sbi.types import Array, Index

#: step of the differences by which gradients are taken, in widths of the box; of time, in decision times.
_STEP = 1e-4
#: how far past the latest decision its density is solved, unless the bounds meet before.
_MARGIN = 1.05
#: all decisions are made by the first of these times, seconds, at which less than this is left on so many points.
_ENDS, _LEFT, _POINTS = 0.1 * 1.5 ** np.arange(24), 1e-8, 500


class _Told(NamedTuple):
    """A law of decision times t > 0; what it is before, and once the bounds have met (None: what it was then)."""

    law: Law
    before: float
    after: float | None


_DENSITY = _Told(Solution.log_density, -np.inf, -np.inf)
_MASS = _Told(Solution.mass, 0.0, None)
_SURVIVAL = _Told(Solution.log_survival, 0.0, -np.inf)


@dataclass(frozen=True)
class _Trials:
    """Decision times (n,) at one theta, the row of the law for each, up to when its equation is solved, and on how many
    points (0: until two grids agree)."""

    decision: Array
    choice: Index
    end: float
    points: int = 0


@lru_cache(maxsize=32)
def _solved(passage: Callable[..., Passage], row: tuple[float, ...], end: float) -> Passage:
    return passage(*row, t_max=end)


class NumericalLikelihood(DecisionLikelihood):
    """The first-passage density that a model declares as its `passage`; gradients are central differences.

    Right to a tolerance, relative, in densities and probabilities; where no grid is, InputError, or NaN if `refuses` is
    False. One solution per distinct theta, and two per parameter where a gradient is asked for. Raises InputError for
    a model that declares none.
    """

    kind = "numerical"

    def __init__(self, simulator: DecisionModel, tolerance: float = 1e-6, refuses: bool = True) -> None:
        if simulator.passage is None:
            raise InputError(f"{simulator.name!r} declares no `passage`, the density of its decision time.")
        super().__init__(simulator, simulator.support)
        self._passage = simulator.passage
        self._tolerance, self._refuses = tolerance, refuses
        shift = simulator.symmetries.shift
        self._shift_column = None if shift is None else simulator.names.index(shift)

    @override
    def log_prob_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        return self._rows(_DENSITY, self._just_after, values[:, 0], values[:, 1], theta)

    @override
    def cdf_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        return self._rows(_MASS, self._when_all_are_made, values[:, 0], values[:, 1], theta)

    @override
    def log_mass_at(self, low: Tensor, high: Tensor, theta: Tensor, row: Tensor) -> Tensor:
        """What survives, where no time is known but that it is late."""
        alike = (low == low[:, :1]).all(1) & (high == torch.inf).all(1)
        late, others = (torch.nonzero(rows)[:, 0] for rows in (alike, ~alike))
        log_p = torch.zeros_like(low[:, 0])
        log_p = log_p.index_put((late,), self.log_survival_rows(low[late, 0], theta[row[late]]))
        return log_p.index_put((others,), super().log_mass_at(low[others], high[others], theta, row[others]))

    @override
    def _log_mass_within(self, choice: Tensor, low: Tensor, high: Tensor, theta: Tensor, row: Tensor) -> Tensor:
        before, until = (self.cdf_rows(outcome_rows(end, choice), theta[row]) for end in (low, high))
        mass = until - before
        # The untaken branch must stay finite, or its gradient would be nan.
        return torch.where(mass > 0.0, torch.log(torch.where(mass > 0.0, mass, 1.0)), -torch.inf)

    @override
    def log_survival_rows(self, rt: Tensor, theta: Tensor) -> Tensor:
        return self._rows(_SURVIVAL, self._when_all_are_made, rt, torch.zeros_like(rt), theta)

    def _rows(
        self, told: _Told, end: Callable[[Array, Array], float], rt: Tensor, choice: Tensor, theta: Tensor
    ) -> Tensor:
        """What is told of every row, with its gradient. end: of a theta (p,) and its decision times (n,)."""
        rows, inverse = np.unique(theta.detach().numpy(), axis=0, return_inverse=True)
        decision, which = (rt - shift_of(self.simulator, theta.detach())).numpy(), choice.long().numpy()
        value, gradient = np.empty(len(decision)), np.zeros(tuple(theta.shape))
        for i, row in enumerate(rows):
            here = np.flatnonzero(inverse.reshape(-1) == i)
            trials = _Trials(decision[here], which[here], end(row, decision[here]))
            value[here], points = self._at(told, row, trials)
            if theta.requires_grad:
                gradient[here] = self._differences(told, row, replace(trials, points=points))
        constant = torch.from_numpy(value)
        if not theta.requires_grad:
            return constant
        # The value, with a gradient that is already known.
        return constant + ((theta - theta.detach()) * torch.from_numpy(gradient)).sum(-1)

    def _at(self, told: _Told, row: Array, trials: _Trials) -> tuple[Array, int]:
        """What is told of trials at one theta, (n,), and by how many points."""
        value, points = np.full(len(trials.decision), told.before), trials.points
        inside = trials.decision > 0.0
        if told.after is not None:
            over = trials.decision >= self._longest(row)
            value[over], inside = told.after, inside & ~over
        if inside.any():
            passage = replace(_solved(self._passage, tuple(row), trials.end), tolerance=self._tolerance)
            if points:
                passage = replace(passage, grids=(points,))
            try:
                by_choice, points = passage.agreed(told.law, trials.decision[inside])
            except (ValueError, ArithmeticError) as reason:
                if self._refuses:
                    raise self._refusal(row, trials.end, reason) from reason
                return np.full(len(value), np.nan), points
            value[inside] = by_choice[trials.choice[inside], np.arange(inside.sum())]
        return value, points

    def _differences(self, told: _Told, row: Array, trials: _Trials) -> Array:
        """Gradient (n, p) of what is told of trials at one theta; by a shift, that of time backwards."""
        gradient = np.zeros((len(trials.decision), len(row)))
        for column, p in enumerate(self.simulator.parameters):
            if p.from_data:
                continue
            ends, step = [], _STEP * (p.high - p.low)
            for sign in (-1.0, 1.0):
                at, now = row.copy(), trials
                if column == self._shift_column:
                    now = replace(trials, decision=trials.decision * (1.0 - sign * _STEP))
                    way = sign * _STEP * trials.decision
                else:
                    at[column] = np.clip(row[column] + sign * step, *p.support)
                    way = np.asarray(at[column] - row[column])
                ends.append((self._at(told, at, now)[0], way))
            (below, down), (above, up) = ends
            # A probability of all times has no slope in a shift.
            with np.errstate(invalid="ignore"):
                slope = (above - below) / (up - down)
            gradient[:, column] = np.where(np.isfinite(slope), slope, 0.0)
        return gradient

    def _just_after(self, row: Array, decision: Array) -> float:
        """A little after the latest of the decisions."""
        longest = self._longest(row)
        latest = decision[decision < longest].max(initial=0.0)
        return float(min(_MARGIN * latest, 0.5 * (latest + longest)))

    def _when_all_are_made(self, row: Array, decision: Array) -> float:
        """When next to nothing is left."""
        longest = self._longest(row)
        for time in _ENDS:
            end = float(time) if time < longest else 0.99 * longest
            with np.errstate(all="ignore"):
                left = 1.0 - _solved(self._passage, tuple(row), end).solve(_POINTS).mass(np.array([end])).sum()
            if abs(left) < _LEFT:
                return end
        raise self._refusal(row, end, ArithmeticError(f"{left:.2g} of all decisions are left"))

    def _longest(self, row: Array) -> float:
        """The decision time at which the bounds meet, or inf."""
        closing = self.simulator.clock.closing
        if closing is None:
            return np.inf
        return float(1.0 / closing(dict(zip(self.simulator.names, torch.tensor(row), strict=True))))

    def _refusal(self, row: Array, end: float, reason: Exception) -> InputError:
        theta = ", ".join(f"{name}={x:.4g}" for name, x in zip(self.simulator.names, row, strict=True))
        return InputError(
            f"the equation of {self.simulator.name!r} cannot be solved to {self._tolerance:g} at {theta} for decisions "
            f"within {end:.4g} s: {reason}; take kind='exact' or 'neural', or parameters and times nearer to those of "
            "people."
        )
