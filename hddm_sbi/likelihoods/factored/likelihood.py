"""Likelihoods learned from simulations of any simulator: of any outcomes, and of rt and response."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from typing_extensions import override

from hddm_sbi.errors import InputError, name_rows
from hddm_sbi.likelihoods.card import Card
from hddm_sbi.likelihoods.decision import DecisionLikelihood
from hddm_sbi.likelihoods.factored.encoding import Encoding
from hddm_sbi.likelihoods.factored.network import FactoredNetwork
from hddm_sbi.likelihoods.learned import LearnedLikelihood
from hddm_sbi.types import Array, Index

#: a simulator works where so many simulations succeed; and a posterior lies there but for this share of its draws.
_MOST, _FEW_DRAWS = 0.5, 0.05


def _distinct(theta: Tensor) -> tuple[Tensor, Index]:
    """Rows of theta to evaluate, and which of them each has; every row is its own where gradients are needed."""
    if theta.requires_grad:
        return theta, np.arange(len(theta))
    rows, row = torch.unique(theta, dim=0, return_inverse=True)
    return rows, row.numpy()


class _Factored(LearnedLikelihood):
    """What likelihoods by a chain of perceptrons, trained on encoded outcomes, have in common."""

    network: FactoredNetwork

    def __init__(
        self, network: FactoredNetwork, encoding: Encoding, box: Mapping[str, tuple[float, float]], card: Card
    ) -> None:
        super().__init__(encoding.simulator, network, box, card)
        self.encoding = encoding

    @override
    def log_prob_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        return self._log_prob(values, *_distinct(theta))

    @override
    def log_prob_at(self, values: Tensor, theta: Tensor, row: Tensor) -> Tensor:
        """The network runs once per row of theta."""
        return self._log_prob(values, theta, row.numpy())

    def _log_prob(self, values: Tensor, theta: Tensor, row: Index) -> Tensor:
        discrete = self.encoding.encode(values, theta.detach()[row]).discrete
        y, _, log_stretch = self.encoding.encode(values, theta[torch.as_tensor(row)])
        return self.network.log_prob(y, discrete, self.encoding.condition(theta), row) + log_stretch

    @override
    def check_outcomes(self, values: Array) -> None:
        """Raises InputError for counts beyond those of the simulations, and warns of other outcomes beyond them."""
        self.encoding.check(values)

    @override
    def doubts(self, theta: Tensor) -> str:
        """Theta where most simulations failed: nothing was learned there."""
        if self.network.success is None:
            return ""
        with torch.no_grad():
            succeeds = self.network.success(self.encoding.condition(theta)).softmax(-1)[:, 1]
        failing = succeeds < _MOST
        if failing.double().mean() < _FEW_DRAWS:
            return ""
        return (
            f"{float(failing.double().mean()):.0%} of the posterior lies where simulations fail (about "
            f"{float(1 - succeeds[failing].mean()):.0%} of them do), so the likelihood was hardly trained there: see "
            f"why {self.simulator.name!r} fails, or keep the parameters away by priors or a smaller box."
        )

    @override
    def sample_rows(self, theta: Tensor, seed: int) -> Array:
        theta = theta.detach()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            x = torch.cat(self.network.sample(self.encoding.condition(theta)), -1)
        return np.asarray(self.encoding.decode(x, theta).numpy())


class FactoredLikelihood(_Factored):
    """A likelihood of outcomes other than rt and response, learned from simulations by a chain of perceptrons.

    network: trained on encoded outcomes. box: where it was trained. card: what made it, and how good it is.
    """

    @override
    def n_values(self, column: int) -> int:
        encoding = self.encoding
        before = [outcome for outcome in self.simulator.outcomes[:column] if outcome.discrete]
        return encoding.sizes[len(before)]

    def log_prob(self, outcomes: Mapping[str, ArrayLike], theta: Mapping[str, ArrayLike | Tensor]) -> Tensor:
        """Log density of every row, (n,) float64, differentiable in theta.

        outcomes: outcome name -> (n,). theta: parameter name -> scalar or (n,). Raises InputError for names that are
        missing or unknown, values an outcome cannot be, and parameters outside the box.
        """
        names = tuple(outcome.name for outcome in self.simulator.outcomes)
        if set(outcomes) != set(names):
            raise InputError(f"outcomes must name exactly {names}; got {tuple(outcomes)}.")
        columns = []
        for outcome in self.simulator.outcomes:
            numbers = outcome.numbers(outcomes[outcome.name])
            wrong = np.flatnonzero(~outcome.allows(numbers))
            if wrong.size:
                raise InputError(
                    f"{outcome.name!r} must be {outcome.expected}; it is not in {name_rows(wrong.tolist())} (0 = "
                    "first)."
                )
            columns.append(numbers)
        values = np.stack(columns, -1)
        self.encoding.check(values)
        return self.log_prob_rows(torch.as_tensor(values), self._theta(theta, len(values)))


class FactoredDecisionLikelihood(_Factored, DecisionLikelihood):
    """A likelihood of rt and response, learned from simulations by a chain of perceptrons; a shift is exact.

    Arguments as in `FactoredLikelihood`.
    """

    @override
    def _log_mass_within(self, choice: Tensor, low: Tensor, high: Tensor, theta: Tensor, row: Tensor) -> Tensor:
        """By the distribution functions of mixtures; the network runs once per row of theta and choice."""
        after, until = (self.encoding.encode_time(rt, theta[row]).unsqueeze(-1) for rt in (low, high))
        rows, of_theta = _distinct(theta)
        inputs, which = self.encoding.condition(rows), of_theta[row.numpy()]
        return self.network.log_mass(after, until, choice.unsqueeze(-1), inputs, which)

    @override
    def log_survival_rows(self, rt: Tensor, theta: Tensor) -> Tensor:
        """By the same."""
        late = rt.unsqueeze(-1).expand(-1, len(self.simulator.choices))
        return self.log_mass_at(late, torch.full_like(late, torch.inf), theta, torch.arange(len(rt)))


def factored_likelihood(
    network: FactoredNetwork, encoding: Encoding, box: Mapping[str, tuple[float, float]], card: Card
) -> FactoredLikelihood | FactoredDecisionLikelihood:
    """The likelihood by a network, of the kind that the simulator's outcomes ask for."""
    kind = FactoredDecisionLikelihood if encoding.simulator.is_decision_model else FactoredLikelihood
    return kind(network, encoding, box, card)


Factored = FactoredLikelihood | FactoredDecisionLikelihood
