"""Numerical likelihoods: a diffusion's equation solved at every theta. Slow; what learned ones are judged by."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.decision import DecisionLikelihood
from hddm_sbi.likelihoods.likelihood import shift_of
from hddm_sbi.simulation import DecisionModel
from hddm_sbi.types import Array, Index

#: step of the differences by which gradients are taken, in widths of the box.
_STEP = 1e-4
#: how far, in logs, a density between the points of the grid may lie above all of them.
_ABOVE = 0.1
#: what survives is known where it is more than this.
_KNOWN = 1e-6
#: how far past the latest decision the equation is solved.
_MARGIN = 1.05


class NumericalLikelihood(DecisionLikelihood):
    """The first-passage density that a model declares as its `passage`; gradients are central differences, and by the
    shift, the slope in time.

    One solution per distinct theta, and two per parameter where a gradient is asked for: 20 to 40 ms each. Raises
    InputError for a model that declares none.
    """

    kind = "numerical"

    def __init__(self, simulator: DecisionModel) -> None:
        if simulator.passage is None:
            raise InputError(f"{simulator.name!r} declares no `passage`, the density of its decision time.")
        super().__init__(simulator, simulator.support)
        self._passage = simulator.passage
        shift = simulator.symmetries.shift
        self._shift_column = None if shift is None else simulator.names.index(shift)

    @override
    def log_prob_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        rows, inverse = np.unique(theta.detach().numpy(), axis=0, return_inverse=True)
        decision = (values[:, 0] - shift_of(self.simulator, theta.detach())).numpy()
        choice = values[:, 1].long().numpy()
        value, gradient = np.empty(len(decision)), np.zeros(tuple(theta.shape))
        for i, row in enumerate(rows):
            here = np.flatnonzero(inverse.reshape(-1) == i)
            trials = decision[here], choice[here], _MARGIN * float(decision[here].max())
            value[here], slope = self._log_density(row, *trials)
            if theta.requires_grad:
                gradient[here] = self._differences(row, *trials)
                if self._shift_column is not None:
                    gradient[here, self._shift_column] = -slope
        constant = torch.from_numpy(value)
        if not theta.requires_grad:
            return constant
        # The value, with a gradient that is already known.
        return constant + ((theta - theta.detach()) * torch.from_numpy(gradient)).sum(-1)

    @override
    def log_survival_rows(self, rt: Tensor, theta: Tensor) -> Tensor:
        """log[1 - P(RT <= rt)]: the equation is solved up to rt only. Raises InputError in the far tail."""
        survival = 1.0 - self._by_choice(self.cdf_rows, rt, theta).sum(0)
        unknown = torch.nonzero(~(survival.detach() > _KNOWN))
        if len(unknown):
            raise self._refusal(theta[unknown[0, 0]].detach().numpy(), float(rt[unknown[0, 0]]))
        return torch.log(survival)

    def _log_density(self, row: Array, decision: Array, choice: Index, t_max: float) -> tuple[Array, Array]:
        """log density of trials at one theta, and its slope in time. decision: (n,) decision times, seconds."""
        value, slope = np.full(len(decision), -np.inf), np.zeros(len(decision))
        above = decision > 0
        if above.any():
            made = choice[above], np.arange(above.sum())
            try:
                with np.errstate(all="ignore"):
                    passage = self._passage(*row, t_max=t_max)
                    value[above], slope[above] = (part[made] for part in passage.log_density(decision[above]))
                    highest = np.log(passage.density.max()) + _ABOVE
            except (ValueError, ArithmeticError, IndexError) as reason:
                raise self._refusal(row, t_max) from reason
            if not (np.isfinite(slope).all() and (value <= highest).all()):
                raise self._refusal(row, t_max)
        return value, slope

    def _refusal(self, row: Array, t_max: float) -> InputError:
        theta = ", ".join(f"{name}={x:.4g}" for name, x in zip(self.simulator.names, row, strict=True))
        return InputError(
            f"the equation of {self.simulator.name!r} cannot be solved at {theta} for decisions within {t_max:.4g} s: "
            "its grid is too coarse there; take kind='exact' or 'neural', or parameters and times nearer to those of "
            "people."
        )

    def _differences(self, row: Array, decision: Array, choice: Index, t_max: float) -> Array:
        gradient = np.zeros((len(decision), len(row)))
        for column, p in enumerate(self.simulator.parameters):
            if p.from_data or column == self._shift_column:
                continue
            step = _STEP * (p.high - p.low)
            ends = [row.copy(), row.copy()]
            ends[0][column] -= step
            ends[1][column] += step
            below, above = (self._log_density(end, decision, choice, t_max)[0] for end in ends)
            finite = np.isfinite(below) & np.isfinite(above)
            gradient[finite, column] = (above[finite] - below[finite]) / (2 * step)
        return gradient
