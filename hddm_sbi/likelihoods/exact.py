"""Closed-form likelihoods: a model's own log density and gradient, driven over sorted trials with lapses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from typing_extensions import override

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.cells import Events
from hddm_sbi.likelihoods.decision import DecisionLikelihood, SortedTrials
from hddm_sbi.likelihoods.exact_events_kernel import exact_events
from hddm_sbi.likelihoods.exact_kernel import DENSITIES, exact_cells, log_densities
from hddm_sbi.likelihoods.lapse_law import LapseLaw
from hddm_sbi.simulation import DecisionModel, Simulator


class ExactLikelihood(DecisionLikelihood):
    """The closed form that a model declares as its `log_density`, on the model's whole support.

    Raises InputError for a model without a closed form.
    """

    kind = "exact"

    def __init__(self, simulator: Simulator) -> None:
        if not isinstance(simulator, DecisionModel) or simulator.log_density is None:
            raise InputError(f"{simulator.name!r} has no closed-form likelihood; use the learned one, kind='neural'.")
        super().__init__(simulator, simulator.support)
        self._log_density, self._log_survival = simulator.log_density, simulator.log_survival

    @property
    def _kernel(self) -> str:
        """The key of the model's kernel in this process, made anew where a likelihood comes from another one."""
        return self._key(self._log_density)

    def _key(self, law: Callable[..., None]) -> str:
        key = f"{self.simulator.name}#{id(law)}"
        DENSITIES[key] = law
        return key

    @override
    def log_prob_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        """Every row is a cell of one trial."""
        n, n_choices = len(values), len(self.simulator.choices)
        after = torch.arange(n_choices) > values[:, 1:]
        starts = torch.cat([(torch.arange(n).unsqueeze(1) + after).reshape(-1), torch.tensor([n])])
        none, rt = torch.zeros(n, dtype=torch.float64), values[:, 0].contiguous()
        return exact_cells(theta, none, [0.0] * n_choices, 0.0, starts, n_choices, rt, self._kernel)[0]

    @override
    def log_prob_at(self, values: Tensor, theta: Tensor, row: Tensor) -> Tensor:
        """Trials of one row together, where no gradient is asked for."""
        if torch.is_grad_enabled() and theta.requires_grad:
            return super().log_prob_at(values, theta, row)
        return log_densities(values, theta, row, self._kernel)

    @override
    def complete_by_cell(self, trials: SortedTrials, theta: Tensor, lapse: Tensor) -> Tensor:
        assert trials.lapses is not None
        law = trials.lapses.at_start, trials.lapses.rate
        starts, rt = torch.from_numpy(trials.starts), torch.from_numpy(trials.rt)
        return trials.absolute(exact_cells(theta, lapse, *law, starts, trials.n_choices, rt, self._kernel)[0])

    @override
    def events_by_cell(self, events: Events, theta: Tensor, lapse: Tensor, lapses: LapseLaw) -> Tensor:
        """By what survives, where the model says it and times do not differ by response, else by integration."""
        shift, names, survival = self.simulator.symmetries.shift, self.simulator.names, self._log_survival
        return exact_events(
            theta,
            lapse,
            torch.from_numpy(events.cell),
            *map(torch.from_numpy, events.ranges),
            torch.from_numpy(events.weight),
            torch.from_numpy(lapses.mass(events.ranges)),
            -1 if shift is None else names.index(shift),
            survival is not None,
            self._kernel,
            self._kernel if survival is None else self._key(survival),
        )[0]
