"""Designs x likelihood x priors: the hierarchical model as one pure Pyro function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from hddm_sbi.hierarchy.parameter_map import OnCells, ParameterMap
from hddm_sbi.hierarchy.priors.classes import Kind
from hddm_sbi.hierarchy.terms.coefficients import Values
from hddm_sbi.hierarchy.terms.correlation import Correlation, Scores
from hddm_sbi.hierarchy.terms.group_effects import GroupEffects
from hddm_sbi.hierarchy.terms.predictor import Predictor
from hddm_sbi.likelihoods import LAPSE, CellTrials, LapseLaw, Likelihood, Observation, with_lapses
from hddm_sbi.types import Index

__all__ = ["LAPSE", "LAPSES", "CellTrials", "Hierarchy", "LapseLaw", "Observation", "with_lapses"]

#: name of the share of lapses: of its site, and of its predictor where it has a formula.
LAPSES = "lapse"


@dataclass(frozen=True)
class Hierarchy:
    """A hierarchical model of one trial table; calling it runs the Pyro model.

    predictors: one per formula. fixed: parameters held at a number, or given for every cell (n_cells,).
    lapse: probability of a lapse trial, a number or its prior; None where one of the predictors is that of `LAPSES`.
    parameter_map: from parameters on the design's cells to theta on those of `trials`.

    log p = log prior + sum over trials of log[(1 - lapse) p(outcomes | theta(cell)) + lapse p(outcomes | a lapse)].
    """

    likelihood: Likelihood
    trials: CellTrials
    predictors: tuple[Predictor, ...]
    fixed: Mapping[str, float | Tensor] = field(default_factory=dict)
    lapse: float | TorchDistribution | None = LAPSE
    parameter_map: ParameterMap = field(default_factory=OnCells)

    def __call__(self) -> None:
        """The Pyro model."""
        values: dict[str, Tensor] = {}
        sampled = self.sample(values)
        for name, value in self.named(values).items():
            pyro.deterministic(name, value)
        for name, prior in self.lapse_prior.items():
            values[name] = pyro.sample(name, prior).double()
        lapse = self._share(values, dict(zip([p.name for p in self.predictors], sampled, strict=True)))
        with pyro.plate("cell", self.trials.n_cells, dim=-1):
            theta = self.parameter_map.rows(self._stack(sampled), self.trials)
            pyro.factor("trials", self.likelihood.log_prob_by_cell(self.trials, theta, lapse))

    def sample(self, values: dict[str, Tensor]) -> list[Tensor]:
        """Draw every coefficient and effect in Pyro into `values`; the parameters on the rows of every predictor."""
        sizes = {effects.factor: len(effects.levels) for effects in self.groups}
        # A column may be called "cell" or "trials", as our own sites are.
        plates = {factor: pyro.plate(f"levels of {factor}", size, dim=-1) for factor, size in sizes.items()}
        scores: Scores = {}
        for predictor in self.predictors:
            predictor.sample(values, plates, scores)
        self._standardise_others(values, scores)
        return [predictor.value(values, scores) for predictor in self.predictors]

    def theta(self, values: Values) -> Tensor:
        """Parameters of every cell, (..., n_cells, p), from a posterior's variables with any leading batch of draws."""
        return self.parameter_map.rows(self.on_cells(values), self.trials)

    def on_cells(self, values: Values) -> Tensor:
        """What the parameter map takes, on the design's cells (..., n_cells, q), likewise."""
        return self._stack([predictor.reported_value(values) for predictor in self.predictors])

    def share(self, values: Values) -> Tensor:
        """Probability of a lapse from the same variables: (...), or of every cell of `trials`, (..., n_cells)."""
        return self._share(values, {p.name: p.reported_value(values) for p in self.predictors if p.name == LAPSES})

    def named(self, values: Values) -> dict[str, Tensor]:
        """Deviations and correlations of every group term, by their posterior names."""
        scores: Scores = {}
        for effects in (g for g in self.groups if g.centred):
            effects.standardise(values, scores)
        self._standardise_others(values, scores)
        return {name: value for p in self.predictors for name, value in p.named(values, scores).items()}

    def _standardise_others(self, values: Values, scores: Scores) -> None:
        """Of effects that are not centred, which come after those that are."""
        for effects in (g for g in self.groups if not g.centred):
            effects.standardise(values, scores)

    def with_centring(self, centred: Mapping[str, bool]) -> Hierarchy:
        """The same model with the named group effects centred or not. The posterior does not change."""
        first: dict[str, set[int]] = {}
        for g in self.groups:
            if g.correlation is not None and centred.get(g.name, g.centred):
                first.setdefault(g.correlation.name, set()).update(g.columns)

        def changed(g: GroupEffects) -> GroupEffects:
            order = None if g.correlation is None else g.correlation.with_first(first.get(g.correlation.name, set()))
            return replace(g, centred=centred.get(g.name, g.centred), correlation=order)

        return replace(
            self, predictors=tuple(replace(p, groups=tuple(map(changed, p.groups))) for p in self.predictors)
        )

    @property
    def n_cells(self) -> int:
        """Number of cells of the design."""
        if not self.predictors:
            return self.trials.n_cells
        return self.predictors[0].n_rows // len(self.predictors[0].parameters)

    @property
    def lapse_prior(self) -> dict[str, TorchDistribution]:
        """The prior of the share of lapses by its name, where it is one number that is estimated."""
        return {} if self.lapse is None or isinstance(self.lapse, float) else {LAPSES: self.lapse}

    @property
    def estimated(self) -> tuple[tuple[tuple[str, ...], Predictor], ...]:
        """Every estimated number on a cell that trials tell of: the parameters that have it, and their predictor."""
        found: dict[str, tuple[tuple[str, ...], Predictor]] = {}
        known = (*self.likelihood.simulator.names, LAPSES)
        for predictor in self.predictors:
            for names in (names for names in predictor.together if names[0] in known):
                found.setdefault(names[0], (names, predictor))
        return tuple(found.values())

    @property
    def cell(self) -> Index:
        """The design's cell of every complete trial, in the order of `trials`, (n,)."""
        return self.parameter_map.cell(self.trials)[self.trials.cell]

    @property
    def groups(self) -> tuple[GroupEffects, ...]:
        """The group terms of all parameters."""
        return tuple(effects for p in self.predictors for effects in p.groups)

    @property
    def correlations(self) -> tuple[Correlation, ...]:
        """The correlation matrices of group effects."""
        return tuple(own for g in self.groups if (own := g.own_correlation) is not None)

    @property
    def coefficient_names(self) -> list[str]:
        """Names of sampled numbers: common coefficients, group standard deviations, and an estimated lapse."""
        names = [name for p in self.predictors for c in p.common for name in c.priors]
        names += [name for p in self.predictors for name in p.coefficient_names if name not in names]
        return [*names, *self.lapse_prior]

    @property
    def names(self) -> list[str]:
        """Names of all that a posterior reports."""
        effects = [name for p in self.predictors for name in p.names if name not in p.coefficient_names]
        return self.coefficient_names + effects

    @property
    def population_names(self) -> list[str]:
        """Posterior names of the population: coefficients, standard deviations and correlations; not single groups."""
        return self.coefficient_names + [c.reported for c in self.correlations]

    def coefficient_priors(self) -> dict[str, TorchDistribution]:
        """The prior in force of every one of `population_names`: a user may put another on each."""
        priors = {name: prior for p in self.predictors for c in p.common for name, prior in c.priors.items()}
        for g in self.groups:
            priors |= {f"{n}_sigma": prior for n, prior in zip(g.effect_names, g.sigma_priors, strict=True)}
        return {**priors, **self.lapse_prior, **{c.reported: c.prior for c in self.correlations}}

    def coefficient_levels(self) -> dict[str, int]:
        """How many levels every one of `coefficient_names` has, 0 for a number."""
        common = [c for p in self.predictors for c in p.common]
        levels = {name: len(c.labels.get(name, ())) for c in common for name in c.priors}
        for g in self.groups:
            parts = () if g.by is None else g.by.levels
            levels |= {f"{n}_sigma": len(t.levels or parts) for n, t in zip(g.effect_names, g.terms, strict=True)}
        return {**levels, **dict.fromkeys(self.lapse_prior, 0)}

    def coefficient_kinds(self) -> dict[str, Kind]:
        """Parameter and class of every one of `population_names` but the lapses, for priors by class."""
        return {name: Kind(p.name, of) for p in self.predictors for name, of in p.classes.items()}

    def with_priors(self, chosen: Mapping[str, TorchDistribution]) -> Hierarchy:
        """The same model with some priors replaced, by coefficient name."""
        return replace(
            self,
            predictors=tuple(p.with_priors(chosen) for p in self.predictors),
            lapse=chosen.get(LAPSES, self.lapse),
        )

    def _share(self, values: Values, on_cells: Mapping[str, Tensor]) -> Tensor:
        """As `share`; on_cells: the predictor `LAPSES` on the design's cells, where there is one."""
        if self.lapse is not None:
            return values[LAPSES] if self.lapse_prior else torch.tensor(self.lapse, dtype=torch.float64)
        return on_cells[LAPSES][..., torch.from_numpy(self.parameter_map.cell(self.trials))]

    def _stack(self, values: Sequence[Tensor]) -> Tensor:
        """What the parameter map takes, (..., n_cells, q), from what every predictor is on its rows, (..., n_rows)."""
        on_cells: dict[str, Tensor] = {}
        for predictor, on_rows in zip(self.predictors, values, strict=True):
            on_cells |= predictor.by_parameter(on_rows)
        some = next(iter(on_cells.values())) if on_cells else torch.zeros(self.n_cells, dtype=torch.float64)
        columns = [
            on_cells[name] if name in on_cells else torch.as_tensor(self.fixed[name], dtype=some.dtype).expand_as(some)
            for name in (*self.likelihood.simulator.names, *self.parameter_map.further)
        ]
        return torch.stack(columns, -1)
