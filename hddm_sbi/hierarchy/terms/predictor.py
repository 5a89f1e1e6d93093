"""A formula's linear predictor in Pyro: common coefficients and group effects on the cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from hddm_sbi.hierarchy.terms.coefficients import Coefficients, Values
from hddm_sbi.hierarchy.terms.correlation import Scores
from hddm_sbi.hierarchy.terms.group_effects import GroupEffects
from hddm_sbi.hierarchy.terms.link import onto_box
from hddm_sbi.types import Link


@dataclass(frozen=True)
class Predictor:
    """One formula: eta = X b + sum over group terms of Z u[group], then the link onto the likelihood's box.

    name: of its parameter, or the stem of its parameters. parameters: one, or those of all accumulators of a race.
    n_rows: the cells of the first parameter, then those of the second, and so on. offset: what is added as it is,
    (n_rows,), or None. along: covariates of sequences that it has; its numbers are then on the scale of the link, at 0
    of all covariates and where each is 1, as in `Design`.
    """

    name: str
    parameters: tuple[str, ...]
    link: Link
    low: float
    high: float
    n_rows: int
    common: tuple[Coefficients, ...]
    groups: tuple[GroupEffects, ...]
    offset: Tensor | None = None
    along: tuple[str, ...] = ()

    def sample(self, values: dict[str, Tensor], plates: Mapping[str, pyro.plate], scores: Scores) -> None:
        """Draw every coefficient in Pyro into `values`.

        scores: of centred effects, by which those of other predictors are correlated with these.
        """
        for coefficients in self.common:
            coefficients.sample(values)
        for effects in self.groups:
            effects.sample(values, plates[effects.factor], scores)

    def value(self, values: Values, scores: Scores) -> Tensor:
        """The parameters on the cells, (..., n_rows), from sampled sites."""
        return self._on_rows(values, [g.deviations(values, scores) for g in self.groups])

    def reported_value(self, posterior: Values) -> Tensor:
        """The parameters on the cells, (..., n_rows), from what the posterior reports."""
        return self._on_rows(posterior, [g.reported_deviations(posterior) for g in self.groups])

    def by_parameter(self, x: Tensor) -> dict[str, Tensor]:
        """Numbers on the rows, (..., n_rows), by parameter, (..., n_cells)."""
        n = len(self.parameters)
        return dict(zip(self.parameters, x.chunk(n, -1) if n > 1 else (x,), strict=True))

    @cached_property
    def together(self) -> tuple[tuple[str, ...], ...]:
        """Its parameters, those in one tuple that are the same on every cell: all, or each by itself."""
        n = len(self.parameters)
        columns = [c.matrix for c in self.common if len(c.matrix) > 1] + [g.matrix for g in self.groups]
        columns += [] if self.offset is None else [self.offset]
        alike = all(torch.equal(part, x[: len(x) // n]) for x in columns for part in x.chunk(n))
        return (self.parameters,) if alike else tuple((name,) for name in self.parameters)

    def linear(self, values: Values, deviations: list[Tensor]) -> Tensor:
        """The linear predictor on the cells, (..., n_rows), from coefficients and deviations of every group term."""
        parts = [c.on_rows(values) for c in self.common]
        for effects, u in zip(self.groups, deviations, strict=True):
            parts.append((u[..., effects.index, :] * effects.matrix).sum(-1))
        eta = sum(parts[1:], start=parts[0])
        eta = eta if self.offset is None else eta + self.offset
        return eta.expand(*eta.shape[:-1], self.n_rows)

    def _on_rows(self, values: Values, deviations: list[Tensor]) -> Tensor:
        if self._distinct is None:
            eta = self.linear(values, deviations)
            return eta if self.along else onto_box(eta, self.link, self.low, self.high)
        fewer, row = self._distinct
        x = fewer._on_rows(values, deviations)
        return x.expand(*x.shape[:-1], self.n_rows) if fewer.n_rows == 1 else x[..., row]

    def known_along(self, cell: Tensor, covariates: Mapping[str, Tensor]) -> Predictor:
        """The same on trials, (n_trials,) cells, where its covariates are known numbers.

        covariates: (n_trials, accumulators), or (n_trials, 1) for one number that is that of all.
        """
        blocks = 1 + len(self.along)
        n, n_cells = len(self.parameters) // blocks, self.n_rows // len(self.parameters)

        def on_trials(rows: Tensor) -> Tensor:
            first, *others = rows.reshape(blocks, n, n_cells, -1)[:, :, cell].double()
            whole = first
            for name, other in zip(self.along, others, strict=True):
                whole = whole + covariates[name].T.unsqueeze(-1) * (other - first)
            return whole.reshape(n * len(cell), -1)

        common = tuple(replace(c, matrix=on_trials(c.matrix.expand(self.n_rows, -1))) for c in self.common)
        index = [g.index[:n_cells][cell].repeat(n) for g in self.groups]
        groups = tuple(replace(g, index=i, matrix=on_trials(g.matrix)) for g, i in zip(self.groups, index, strict=True))
        offset = None if self.offset is None else on_trials(self.offset.unsqueeze(-1))[:, 0]
        return replace(
            self,
            parameters=self.parameters[:n],
            n_rows=n * len(cell),
            common=common,
            groups=groups,
            offset=offset,
            along=(),
        )

    def by_covariate(self) -> dict[str, Predictor]:
        """The same where its covariates are 0, by "", and what each of them is multiplied with, by its name."""
        cell = torch.arange(self.n_rows // len(self.parameters))
        zero, one = (torch.full((len(cell), 1), x, dtype=torch.float64) for x in (0.0, 1.0))
        none = dict.fromkeys(self.along, zero)
        base, found = self.known_along(cell, none), dict[str, Predictor]()
        for name in self.along:
            there = self.known_along(cell, {**none, name: one})
            common = tuple(
                replace(c, matrix=c.matrix - b.matrix) for c, b in zip(there.common, base.common, strict=True)
            )
            groups = tuple(
                replace(g, matrix=g.matrix - b.matrix) for g, b in zip(there.groups, base.groups, strict=True)
            )
            found[name] = replace(there, common=common, groups=groups, offset=None)
        return {"": base, **found}

    @cached_property
    def _distinct(self) -> tuple[Predictor, Tensor] | None:
        """The same on rows that differ, and which of them every row is; None if most differ."""
        columns = [c.matrix.expand(self.n_rows, -1) for c in self.common]
        columns += [x for g in self.groups for x in (g.index.unsqueeze(-1), g.matrix)]
        columns += [] if self.offset is None else [self.offset.unsqueeze(-1)]
        rows = torch.cat(columns, 1).numpy()
        _, first, row = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        if 2 * len(first) > self.n_rows:
            return None
        common = tuple(replace(c, matrix=c.matrix if len(c.matrix) == 1 else c.matrix[first]) for c in self.common)
        groups = tuple(replace(g, index=g.index[first], matrix=g.matrix[first]) for g in self.groups)
        offset = None if self.offset is None else self.offset[first]
        fewer = replace(self, n_rows=len(first), common=common, groups=groups, offset=offset)
        return fewer, torch.from_numpy(row.reshape(-1))

    @property
    def coefficient_names(self) -> list[str]:
        """Common coefficients and standard deviations of groups, by their posterior names."""
        sigmas = [f"{name}_sigma" for effects in self.groups for name in effects.effect_names]
        return [name for c in self.common for name in c.priors] + sigmas

    @property
    def names(self) -> list[str]:
        """Names of all that the posterior reports of this parameter."""
        effects = [name for g in self.groups for name in g.names]
        return self.coefficient_names + [c.name for c in self.common if c.name not in c.priors] + effects

    @property
    def classes(self) -> dict[str, str]:
        """Class of every one of `coefficient_names`, and of correlations, for priors by class."""
        sigmas = {f"{name}_sigma": "sigma" for effects in self.groups for name in effects.effect_names}
        correlations = {own.reported: "corr" for g in self.groups if (own := g.own_correlation) is not None}
        return {name: of for c in self.common for name, of in c.classes.items()} | sigmas | correlations

    def with_priors(self, chosen: Mapping[str, TorchDistribution]) -> Predictor:
        """The same predictor with some priors replaced, by coefficient name."""
        common = tuple(c.with_priors(chosen) for c in self.common)
        groups = tuple(
            replace(
                g,
                correlation=None if g.correlation is None else g.correlation.with_priors(chosen),
                sigma_priors=tuple(
                    chosen.get(f"{name}_sigma", prior)
                    for name, prior in zip(g.effect_names, g.sigma_priors, strict=True)
                ),
            )
            for g in self.groups
        )
        # The means of group effects are looked up by coefficient name, so they need no change.
        return replace(self, common=common, groups=groups)

    def named(self, values: Values, scores: Scores) -> dict[str, Tensor]:
        """What the posterior reports beside the sampled coefficients: deviations and correlations, by their names."""
        report = {name: value for c in self.common for name, value in c.named(values).items()}
        for effects in self.groups:
            report |= effects.named(values, scores)
        return report
