"""Effects of the groups of a factor in Pyro: deviations from common coefficients, centred or not, correlated or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from hddm_sbi.data import By, Term
from hddm_sbi.hierarchy.terms.coefficients import Coefficients, Values
from hddm_sbi.hierarchy.terms.correlation import Correlation, Scores
from hddm_sbi.hierarchy.terms.own_trials import OwnTrials
from hddm_sbi.hierarchy.terms.population import Population
from hddm_sbi.types import Label


@dataclass(frozen=True)
class GroupEffects:
    """Effects of one group factor that are drawn together: theta_s = mean + u_s, u_s ~ N(0, diag(sigma) R diag(sigma)).

    non-centred: u = sigma * offset with offset ~ N(0, 1), best where groups have few trials.
    centred: level ~ N(mean, sigma), u = level - mean, best where they have many. `mean` is the common coefficient of
    the same column (0 where there is none). population: the law of levels, for u uncorrelated; see `Population`.
    own_trials: partly centred offsets, for u uncorrelated and not centred; see `OwnTrials`.

    mean_of: for each column the common coefficients and position that are its mean, or None. by: parts of the groups,
    each with a sigma and an R of its own. correlation: R, of these effects or of others as well, which have the same
    tag; `first` is the position of the first of these effects among its labels.
    """

    name: str
    parameter: str
    factor: str
    levels: tuple[Label, ...]
    index: Tensor
    matrix: Tensor
    terms: tuple[Term, ...]
    sigma_priors: tuple[TorchDistribution, ...]
    mean_of: tuple[tuple[Coefficients, int] | None, ...]
    by: By | None
    correlation: Correlation | None
    first: int
    population: Population
    centred: bool
    own_trials: OwnTrials | None = None

    @property
    def effect_names(self) -> tuple[str, ...]:
        """Posterior names of the deviations, one per term: `v_1|subject`."""
        return tuple(f"{self.parameter}_{term.name}|{self.factor}" for term in self.terms)

    @property
    def site(self) -> str:
        """Name of the sampled site behind the deviations."""
        return f"{self.name}_{'level' if self.centred else 'offset'}"

    @property
    def own_correlation(self) -> Correlation | None:
        """The correlation, for the first of the terms that it is of; None for the others, and where there is none."""
        return self.correlation if self.first == 0 else None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what the posterior reports beside the sampled coefficients: deviations, and a correlation matrix."""
        own = self.own_correlation
        return self.effect_names if own is None else (*self.effect_names, own.reported)

    def sample(self, values: dict[str, Tensor], plate: pyro.plate, scores: Scores) -> None:
        """Pyro sites of these effects; the deviations are recorded under `effect_names`.

        scores: of the centred terms that are correlated with these effects and were drawn before.
        """
        for name, term, prior in zip(self.effect_names, self.terms, self.sigma_priors, strict=True):
            values[f"{name}_sigma"] = pyro.sample(f"{name}_sigma", self._of_parts(prior, term)).double()
        if self.own_correlation is not None:
            values[self.own_correlation.site] = self.own_correlation.sample()
        with plate:
            values[self.site] = pyro.sample(self.site, self._distribution(values, scores))
        if self.centred:
            self.standardise(values, scores)

    def _of_parts(self, prior: TorchDistribution, term: Term) -> TorchDistribution:
        """The prior of all standard deviations of a term."""
        shape = [] if self.by is None else [len(self.by.levels)]
        shape += [] if term.levels is None else [term.matrix.shape[1]]
        return prior.expand(shape).to_event(len(shape)) if shape else prior

    def _distribution(self, values: Values, scores: Scores) -> TorchDistribution:
        if not self.centred:
            return self.population.distribution(*self._offset_prior(values)).to_event(1)
        sigma, mean = self.sigma(values), self.mean(values)
        if self.correlation is None:
            return self.population.distribution(mean, self._of_levels(sigma)).to_event(1)
        before, scale_tril = self._from_before(values, scores), self._scale_tril(values)
        mean = mean if before is None else mean + before
        if self.matrix.shape[1] == 1:
            return dist.Normal(mean, scale_tril[..., 0]).to_event(1)
        return dist.MultivariateNormal(mean, scale_tril=scale_tril)

    def _offset_prior(self, values: Values) -> tuple[Tensor, Tensor]:
        """Location and scale of the offsets."""
        sigma = self.sigma_of_levels(values)
        if self.own_trials is None:
            # Offsets of all groups have the same law, also where their standard deviations differ.
            alike = torch.ones(sigma.shape[-1:], dtype=sigma.dtype)
            return torch.zeros_like(alike), alike
        return self.own_trials.offset_prior(self.mean(values), sigma)

    def standardise(self, values: Values, scores: Scores) -> None:
        """Add z of these effects to those of the terms before them, where these effects or later terms need it."""
        if self.correlation is None or (self.centred and self._end == len(self.correlation.labels)):
            return
        z = self._score(self.deviations(values, scores), values, scores) if self.centred else values[self.site]
        self._add(z, scores)

    def recovered(self, posterior: Values, scores: Scores) -> Tensor:
        """The sampled site, (..., n_levels, k), from what the posterior reports and the site of the correlation.

        scores: of the terms that were drawn before, to which those of these effects are added.
        """
        u = self.reported_deviations(posterior)
        if self.correlation is not None:
            self._add(self._score(u, posterior, scores), scores)
        if self.correlation is None or self.centred:
            return self.site_of(u, posterior)
        return scores[self.correlation.name][..., self._begin :]

    def site_of(self, u: Tensor, values: Values) -> Tensor:
        """Levels or offsets, (..., n_levels, k), that have these deviations; uncorrelated, if they are offsets."""
        if self.centred:
            return u + self.mean(values).unsqueeze(-2)
        multiple = u / self.sigma_of_levels(values)
        if self.own_trials is None:
            return multiple
        location, scale = self._offset_prior(values)
        return location + multiple * scale

    def slope(self, values: Values) -> Tensor:
        """Derivative of deviations by the unconstrained numbers that are sampled, (n_levels, k)."""
        site = values[self.site]
        if self.centred:
            return self.population.slope(site)
        sigma = self.sigma_of_levels(values)
        return (sigma if self.own_trials is None else sigma / self._offset_prior(values)[1]).expand_as(site)

    def _score(self, u: Tensor, values: Values, scores: Scores) -> Tensor:
        """z of deviations u of these effects, (..., n_levels, k)."""
        before = self._from_before(values, scores)
        return self._solved(self._scale_tril(values), u if before is None else u - before)

    def _add(self, z: Tensor, scores: Scores) -> None:
        """Add z of these effects to those of the terms before them."""
        assert self.correlation is not None
        known = scores.get(self.correlation.name)
        scores[self.correlation.name] = z if known is None else torch.cat([known, z], -1)

    def deviations(self, values: Values, scores: Scores) -> Tensor:
        """u: (..., n_levels, k), for one draw or any leading batch of draws."""
        if self.centred:
            return values[self.site] - self.mean(values).unsqueeze(-2)
        if self.correlation is None:
            return self._of_offset(values[self.site], values)
        return self._times(self._rows(values), scores[self.correlation.name][..., : self._end])

    def _of_offset(self, offset: Tensor, values: Values) -> Tensor:
        """u of offsets that are uncorrelated."""
        if self.own_trials is not None:
            location, scale = self._offset_prior(values)
            offset = (offset - location) / scale
        return offset * self.sigma_of_levels(values)

    def reported_deviations(self, posterior: Values) -> Tensor:
        """u again, (..., n_levels, k), from the deviations that the posterior reports under `effect_names`."""
        return self.joined([posterior[name] for name in self.effect_names])

    def named(self, values: Values, scores: Scores) -> dict[str, Tensor]:
        """What the posterior reports of these effects, under `names`."""
        report, own = self.split(self.deviations(values, scores)), self.own_correlation
        return report if own is None else {**report, own.reported: own.matrix(values)}

    def sigma(self, values: Values) -> Tensor:
        """Standard deviation of every effect, (..., k), or of every part of the groups, (..., n_parts, k)."""
        return self.joined([values[f"{name}_sigma"] for name in self.effect_names])

    def sigma_of_levels(self, values: Values) -> Tensor:
        """Standard deviation of every effect of every group, (..., n_levels or 1, k)."""
        sigma = self._of_levels(self.sigma(values))
        return sigma.unsqueeze(-2) if self.by is None else sigma

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """(..., k) from one tensor per term, which lacks the last dimension where the term has one scalar effect."""
        pairs = zip(parts, self.terms, strict=True)
        return torch.cat([x.unsqueeze(-1) if term.levels is None else x for x, term in pairs], -1)

    def split(self, columns: Tensor) -> dict[str, Tensor]:
        """The inverse of `joined`: one tensor per term, by the term's posterior name."""
        parts = torch.split(columns, [term.matrix.shape[1] for term in self.terms], dim=-1)
        named = zip(self.effect_names, self.terms, parts, strict=True)
        return {name: x.squeeze(-1) if term.levels is None else x for name, term, x in named}

    @property
    def columns(self) -> range:
        """The positions of these effects among the labels of their correlation."""
        return range(self.first, self.first + self.matrix.shape[1])

    @property
    def _begin(self) -> int:
        """The first row of these effects in L, and so how many are before them."""
        return 0 if self.correlation is None else self.correlation.places[self.first]

    @property
    def _end(self) -> int:
        return self._begin + self.matrix.shape[1]

    def _of_levels(self, x: Tensor, event: int = 1) -> Tensor:
        """Numbers of the parts, the last `event` dimensions of x, by group; x itself where there are no parts."""
        return x if self.by is None else x.index_select(x.dim() - 1 - event, torch.as_tensor(self.by.index))

    def _rows(self, values: Values) -> Tensor:
        """diag(sigma_t) [L_tb, L_tt], (..., k, b + k), or (..., n_levels, k, b + k) where groups have parts."""
        assert self.correlation is not None
        L = values[self.correlation.site]
        return self._of_levels(self.sigma(values).unsqueeze(-1) * L[..., self._begin : self._end, : self._end], 2)

    def _scale_tril(self, values: Values) -> Tensor:
        """diag(sigma_t) L_tt, (..., k, k), or (..., n_levels, k, k)."""
        return self._rows(values)[..., self._begin :]

    def _times(self, rows: Tensor, z: Tensor) -> Tensor:
        """rows z of every group, (..., n_levels, k)."""
        return z @ rows.transpose(-1, -2) if self.by is None else (rows @ z.unsqueeze(-1)).squeeze(-1)

    def _solved(self, scale_tril: Tensor, u: Tensor) -> Tensor:
        """z where scale_tril z = u in every group, (..., n_levels, k)."""
        columns = u.transpose(-1, -2) if self.by is None else u.unsqueeze(-1)
        z = torch.linalg.solve_triangular(scale_tril, columns, upper=False)
        return z.transpose(-1, -2) if self.by is None else z.squeeze(-1)

    def _from_before(self, values: Values, scores: Scores) -> Tensor | None:
        """What terms before say of these effects, (..., n_levels, k): their mean given those; None of the first."""
        assert self.correlation is not None
        b = self._begin
        return self._times(self._rows(values)[..., :b], scores[self.correlation.name][..., :b]) if b else None

    def mean(self, values: Values) -> Tensor:
        """Population mean of every effect, (..., k); 0 where no common coefficient is one."""
        sigma = self.sigma(values)
        zero = torch.zeros_like(sigma[..., 0] if self.by is None else sigma[..., 0, 0])
        columns = [zero if source is None else source[0].columns(values)[..., source[1]] for source in self.mean_of]
        return torch.stack(columns, -1)
