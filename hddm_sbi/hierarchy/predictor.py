"""A formula's linear predictor in Pyro: common coefficients and group effects, centred or not, on the cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from hddm_sbi.data import By, Design, GroupTerm, Label, MonotonicTerm, SmoothTerm, Term
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.coefficients import Coefficients as Coefficients
from hddm_sbi.hierarchy.coefficients import Values as Values
from hddm_sbi.hierarchy.correlation import Correlation, Scores
from hddm_sbi.hierarchy.link import onto_box
from hddm_sbi.hierarchy.monotonic import MonotonicCoefficient
from hddm_sbi.hierarchy.population import Population, population
from hddm_sbi.hierarchy.priors import to_pyro
from hddm_sbi.hierarchy.smooth import Wiggles
from hddm_sbi.simulation import Link, ParameterPrior
from hddm_sbi.types import Array, Index


@dataclass(frozen=True)
class GroupEffects:
    """Effects of one group factor that are drawn together: theta_s = mean + u_s, u_s ~ N(0, diag(sigma) R diag(sigma)).

    non-centred: u = sigma * offset with offset ~ N(0, 1), best where groups have few trials.
    centred: level ~ N(mean, sigma), u = level - mean, best where they have many. `mean` is the common coefficient of
    the same column (0 where there is none). population: the law of levels, for u uncorrelated; see `Population`.

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
        sigma = self.sigma(values)
        if not self.centred:
            # Offsets of all groups have the same law, also where their standard deviations differ.
            alike = torch.ones(sigma.shape[-1:], dtype=sigma.dtype)
            return self.population.distribution(torch.zeros_like(alike), alike).to_event(1)
        mean = self.mean(values)
        if self.correlation is None:
            return self.population.distribution(mean, self._of_levels(sigma)).to_event(1)
        before, scale_tril = self._from_before(values, scores), self._scale_tril(values)
        mean = mean if before is None else mean + before
        if self.matrix.shape[1] == 1:
            return dist.Normal(mean, scale_tril[..., 0]).to_event(1)
        return dist.MultivariateNormal(mean, scale_tril=scale_tril)

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
        if self.centred:
            return u + self.mean(posterior).unsqueeze(-2)
        if self.correlation is None:
            return u / self.sigma_of_levels(posterior)
        return scores[self.correlation.name][..., self._begin :]

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
            return values[self.site] * self.sigma_of_levels(values)
        return self._times(self._rows(values), scores[self.correlation.name][..., : self._end])

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


def build_predictors(
    designs: Mapping[str, Design],
    priors: Mapping[str, ParameterPrior],
    box: Mapping[str, tuple[float, float]],
    trials_per_cell: Index,
    spreads: Mapping[str, float],
) -> tuple[Predictor, ...]:
    """The predictor of every design, with default priors; no group term is centred that need not be.

    priors, box: by parameter; accumulators of a race have the same. spreads: sd over trials of every covariate of
    sequences.
    """
    tagged, built = _tagged(designs.values()), []
    for d in designs.values():
        spread = _Spread(np.tile(trials_per_cell, len(d.parameters)), tuple(spreads[name] for name in d.along))
        built.append(_predictor(d, priors[d.parameters[0]], box[d.parameters[0]], spread, tagged))
    names = [name for predictor in built for name in predictor.names]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two parts of the model would be called {twice!r}; rename a column of the table.")
    return tuple(built)


#: by tag and grouping factor: the correlation of all effects that have both.
Tagged = Mapping[tuple[str, str], Correlation]


def _tagged(designs: Iterable[Design]) -> Tagged:
    """The correlation of the effects of every tag and grouping factor, in the order of the formulas."""
    found: dict[tuple[str, str], list[tuple[str, GroupTerm]]] = {}
    for parameter, group in ((d.parameter, group) for d in designs for group in d.groups if group.tag):
        found.setdefault((group.tag, group.factor), []).append((parameter, group))
    return {
        (tag, factor): _correlation(
            f"{tag}|{factor}", [label for name, g in terms for label in _labels(name, g.terms)], terms[0][1].by
        )
        for (tag, factor), terms in found.items()
    }


def _labels(parameter: str, terms: Sequence[Term]) -> list[str]:
    """Labels of effects among those of several parameters: `v_1`, `v_condition[hard]`."""
    return [f"{parameter}_{label}" for term in terms for label in term.columns]


def _correlation(name: str, labels: Sequence[str], by: By | None) -> Correlation:
    return Correlation.of(name, tuple(labels), None if by is None else len(by.levels))


def _predictor(
    design: Design, prior: ParameterPrior, box: tuple[float, float], spread: _Spread, tagged: Tagged
) -> Predictor:
    if not design.common and not design.groups and design.offset is not None:
        raise InputError(
            f"the formula of {design.parameter!r} ({design.formula!r}) has nothing to estimate beside its offset; add "
            f"a term, {design.parameter} ~ 1 + {design.formula.lstrip('0 +')}."
        )
    if not design.common and not design.groups:
        raise InputError(
            f"the formula of {design.parameter!r} ({design.formula!r}) has no term; write {design.parameter} ~ 1."
        )
    common = _common(design, prior, spread)
    groups = [
        _group_effects(design.parameter, group, terms, prior, common, spread, tagged)
        for group in design.groups
        for terms in ([group.terms] if group.correlated and not group.tag else [(term,) for term in group.terms])
    ]
    n, groups = len(spread.trials), _one_mean_each(groups)
    offset = None if design.offset is None else torch.as_tensor(design.offset)
    own = design.parameter, design.parameters, prior.link, *box
    return Predictor(*own, n, common, tuple(groups), offset, design.along)


def _common(design: Design, prior: ParameterPrior, spread: _Spread) -> tuple[Coefficients, ...]:
    has_intercept = any(term.name == "Intercept" for term in design.common)
    made: list[Coefficients] = []
    for position, term in enumerate(design.common):
        cell_means = not has_intercept and position == 0 and term.levels is not None
        level = term.name == "Intercept" or cell_means
        distribution = to_pyro(prior.intercept) if level else to_pyro(prior.slope, spread.of(term))
        matrix = torch.as_tensor(term.matrix)
        shared = bool((matrix == matrix[0]).all())
        name = f"{design.parameter}_{term.name}"
        if isinstance(term, MonotonicTerm):
            made.append(MonotonicCoefficient.build(name, term.matrix, distribution, term.steps))
            continue
        made.append(Coefficients(name, term.levels, matrix[:1] if shared else matrix, distribution, level))
        if isinstance(term, SmoothTerm):
            made.append(Wiggles.build(name, term.wiggles, to_pyro(prior.group_sd)))
    return tuple(made)


def _group_effects(
    parameter: str,
    group: GroupTerm,
    terms: tuple[Term, ...],
    prior: ParameterPrior,
    common: tuple[Coefficients, ...],
    spread: _Spread,
    tagged: Tagged,
) -> GroupEffects:
    matrix = torch.as_tensor(np.concatenate([term.matrix for term in terms], axis=1))
    name, labels = f"{parameter}_{'+'.join(term.name for term in terms)}|{group.factor}", _labels(parameter, terms)
    correlation = tagged.get((group.tag, group.factor))
    first = 0 if correlation is None else correlation.labels.index(labels[0])
    if correlation is None and group.correlated and len(labels) > 1:
        correlation = _correlation(name, [label for term in terms for label in term.columns], group.by)
    own = correlation is None and terms[0].name == "1" and len(labels) == 1
    return GroupEffects(
        name=name,
        parameter=parameter,
        factor=group.factor,
        levels=group.levels,
        index=torch.as_tensor(group.index),
        matrix=matrix,
        terms=terms,
        sigma_priors=tuple(to_pyro(prior.group_sd, spread.of(term)) for term in terms),
        mean_of=tuple(_mean_of(matrix[:, column], common) for column in range(matrix.shape[1])),
        by=group.by,
        correlation=correlation,
        first=first,
        population=population(prior.population if own else "normal"),
        centred=False,
    )


def _mean_of(column: Tensor, common: tuple[Coefficients, ...]) -> tuple[Coefficients, int] | None:
    """The common coefficient whose column equals this column of a group term."""
    for coefficients in common:
        for position in range(coefficients.matrix.shape[1]):
            if bool((coefficients.matrix[:, position] == column).all()):
                return coefficients, position
    return None


def _one_mean_each(groups: list[GroupEffects]) -> list[GroupEffects]:
    """A common coefficient is the mean of one factor's levels only: the factor with the fewest levels keeps it.

    Levels that are only sampled centred need a mean, so they choose first; without one they are normal.
    """
    taken: set[tuple[str, int]] = set()
    settled: dict[str, GroupEffects] = {}
    for effects in sorted(groups, key=lambda g: (not g.population.centred_only, len(g.levels))):
        mean_of = tuple(None if s is None or (s[0].name, s[1]) in taken else s for s in effects.mean_of)
        taken.update((s[0].name, s[1]) for s in mean_of if s is not None)
        law = effects.population
        if law.centred_only and mean_of[0] is None:
            law = population("normal")
        settled[effects.name] = replace(effects, mean_of=mean_of, population=law, centred=law.centred_only)
    return [settled[effects.name] for effects in groups]


@dataclass(frozen=True)
class _Spread:
    """How far columns of a design spread over trials, by which priors of slopes are scaled.

    trials: (n_rows,) on every row. along: sd over trials of every covariate of sequences that the design has.
    """

    trials: Index
    along: tuple[float, ...]

    def of(self, term: Term) -> Array | None:
        """Standard deviation of each column over trials; 1 for columns of -1, 0 and 1 (indicators, contrasts). That of
        a covariate of sequences for what it is multiplied with.

        Shape (k,), or () for a scalar coefficient.
        """
        weights = self.trials / self.trials.sum()
        mean = weights @ term.matrix
        sd = np.sqrt(weights @ (term.matrix - mean) ** 2)
        indicator = np.isin(term.matrix, (-1.0, 0.0, 1.0)).all(axis=0)
        spread = np.where(indicator | (sd == 0), 1.0, sd)
        first, *others = np.split(term.matrix, 1 + len(self.along))
        for other, of_covariate in zip(others, self.along, strict=True):
            spread = np.where((other != first).any(axis=0), of_covariate, spread)
        return spread[0] if term.levels is None else spread
