"""Learned likelihoods: a network per cell, a mixture per trial."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from hddm_sbi.likelihoods.cells import Events
from hddm_sbi.likelihoods.decision import DecisionLikelihood, SortedTrials, outcome_rows
from hddm_sbi.likelihoods.lapse_law import LapseLaw
from hddm_sbi.likelihoods.learned import LearnedLikelihood
from hddm_sbi.likelihoods.mixture.events_kernel import FIELDS
from hddm_sbi.likelihoods.mixture.network import Mixture, MixtureNetwork
from hddm_sbi.likelihoods.mixture.operator import neural_cells
from hddm_sbi.likelihoods.mixture.perceptron import BLOCK, packed
from hddm_sbi.types import Array, Index

#: rows of theta that go through the network at a time where every trial has its own.
_CHUNK = 16_384
#: log survival under a delay below which its closed form, a difference, has lost half of its digits.
_ROUNDING = -18.0
#: trials of a cell and choice up to which those of many cells are faster side by side.
_FEW = 6


class MixtureLikelihood(LearnedLikelihood, DecisionLikelihood):
    """A likelihood learned by a mixture network: normalised by construction, smooth, zero at and below the shift.

    Arguments as in `LearnedLikelihood`.
    """

    network: MixtureNetwork

    @override
    def complete_by_cell(self, trials: SortedTrials, theta: Tensor, lapse: Tensor) -> Tensor:
        """The network runs once per cell, and only for choices made there."""
        few = not self.network.reduction.racing and _few(trials)
        way = "delayed" if self.network.reduction.delayed else "rows" if few else "cells"
        assert trials.lapses is not None
        law = trials.lapses.at_start, trials.lapses.rate
        return trials.absolute(self._by_cell(theta, lapse, *law, trials.starts, trials.rt, way))

    @override
    def events_by_cell(self, events: Events, theta: Tensor, lapse: Tensor, lapses: LapseLaw) -> Tensor:
        """The network runs once per cell that has events."""
        reduction = self.network.reduction
        way = "racing events" if reduction.racing else "delayed events" if reduction.delayed else "events"
        cells, starts, numbers = _packed(events, lapses)
        at = torch.from_numpy(cells)
        each = self._by_cell(theta[at], lapse[at], [1.0], 0.0, starts, numbers, way)
        return torch.zeros(len(theta), dtype=theta.dtype).index_add(0, at, each)

    def _by_cell(
        self, theta: Tensor, lapse: Tensor, at_start: list[float], rate: float, starts: Index, rt: Array, way: str
    ) -> Tensor:
        """The operator at theta; at_start, rate: of a `LapseLaw`, of no account for events, which have a mass each."""
        network, reduction = self.network, self.network.reduction
        views = reduction.views(theta)
        density_weights, density_sizes = packed(network.density)
        score_weights, score_sizes = (views.new_empty(0), [0]) if reduction.racing else packed(network.score)
        return neural_cells(
            views=views,
            density_x=reduction.density_features(views),
            score_x=reduction.choice_features(views),
            density_weights=density_weights,
            density_sizes=density_sizes,
            score_weights=score_weights,
            score_sizes=score_sizes,
            scale=list(network.architecture.scale),
            s=reduction.log_time_scales(theta).reshape(-1) if reduction.racing else reduction.log_time_scale(theta),
            t0=reduction.shift(theta),
            clock=reduction.clock(theta),
            delay=reduction.delay(theta),
            law=[int(reduction.racing), reduction.times.tail],
            lapse=lapse,
            lapse_density=at_start,
            lapse_rate=rate,
            starts=torch.from_numpy(starts),
            rt=torch.from_numpy(rt),
            way=way,
        )[0]

    @override
    def log_prob_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        """The network runs once per row of theta, or once per distinct row where no gradient is asked for."""
        if not theta.requires_grad:
            return self.log_prob_at(values, theta, torch.arange(len(theta)))
        parts = zip(values.split(_CHUNK), theta.split(_CHUNK), strict=True)
        return torch.cat([self.log_prob_at(x, at, torch.arange(len(at))) for x, at in parts])

    @override
    def log_prob_at(self, values: Tensor, theta: Tensor, row: Tensor) -> Tensor:
        """The network runs once per row of theta, or once per distinct row where no gradient is asked for."""
        return self.network.log_prob(values[:, 0], values[:, 1].long(), theta[row], *self._mixtures(theta, row))

    @override
    def cdf_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        """In closed form, but for the probability of one choice in a race."""
        if self.network.reduction.racing:
            return super().cdf_rows(values, theta)
        mixture, row = self._mixtures(theta, torch.arange(len(theta)))
        return self.network.cdf(values[:, 0], values[:, 1].long(), theta, mixture.take(row))

    @override
    def log_survival_rows(self, rt: Tensor, theta: Tensor) -> Tensor:
        """In closed form, but far out under a delay, where that would be rounding."""
        network = self.network
        if not network.reduction.delayed:
            return network.log_survival(rt, theta, network.mixture(theta))
        with torch.no_grad():
            closed = network.log_survival(rt, theta, network.mixture(theta)) > _ROUNDING
        near, far = (torch.nonzero(rows)[:, 0] for rows in (closed, ~closed))
        result = torch.zeros_like(rt).index_put(
            (near,), network.log_survival(rt[near], theta[near], network.mixture(theta[near]))
        )
        return result.index_put((far,), super().log_survival_rows(rt[far], theta[far]))

    @override
    def sample_rows(self, theta: Tensor, seed: int) -> Array:
        mixture, inverse = self._distinct_mixtures(theta.detach())
        generator = torch.Generator().manual_seed(seed)
        rt, choice = self.network.sample(theta.detach(), mixture.take(inverse), generator)
        return outcome_rows(rt, choice).numpy()

    def _mixtures(self, theta: Tensor, row: Tensor) -> tuple[Mixture, Tensor]:
        """Mixtures of theta, of its distinct rows alone where no gradient is asked for; and which `theta[row]` have."""
        if theta.requires_grad:
            return self.network.mixture(theta), row
        several, inverse = self._distinct_mixtures(theta)
        return several, inverse[row]

    def _distinct_mixtures(self, theta: Tensor) -> tuple[Mixture, Tensor]:
        """Mixtures of the distinct rows of theta, and which of them each row has."""
        rows, inverse = torch.unique(theta, dim=0, return_inverse=True)
        parts = zip(*(self.network.mixture(r) for r in rows.split(_CHUNK)), strict=True)
        return Mixture(*(torch.cat(part) for part in parts)), inverse


def _few(trials: SortedTrials) -> bool:
    """Whether cells have few trials: of BLOCK neighbours, those that have most of them, on average."""
    counts = np.diff(trials.starts)
    counts = counts[counts > 0]
    return len(counts) > 0 and bool(np.maximum.reduceat(counts, np.arange(0, len(counts), BLOCK)).mean() <= _FEW)


def _packed(events: Events, lapses: LapseLaw) -> tuple[Index, Index, Array]:
    """The cells that have events, and starts and numbers of those: see `events_kernel.py`."""
    cells, of_cell = np.unique(events.cell, return_inverse=True)
    m, n_choices = events.ranges.low.shape
    same = (np.repeat(x, n_choices).reshape(m, n_choices) for x in (events.weight, lapses.mass(events.ranges)))
    numbers = np.stack([*events.ranges, *same], -1).reshape(m * n_choices, FIELDS)
    choice = np.tile(np.arange(n_choices), m)
    starts = np.concatenate([[0], np.cumsum(np.repeat(np.bincount(of_cell.reshape(-1)), n_choices))])
    return cells, FIELDS * starts, numbers[np.lexsort((choice, np.repeat(events.cell, n_choices)))].reshape(-1)
