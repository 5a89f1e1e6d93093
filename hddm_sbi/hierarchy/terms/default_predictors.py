"""Designs -> predictors with default priors: scaled by the columns' spread, each group effect with its mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hddm_sbi.data import By, Design, GroupTerm, MonotonicTerm, SmoothTerm, Term
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.priors.choice import to_pyro
from hddm_sbi.hierarchy.terms.coefficients import Coefficients
from hddm_sbi.hierarchy.terms.correlation import Correlation
from hddm_sbi.hierarchy.terms.group_effects import GroupEffects
from hddm_sbi.hierarchy.terms.monotonic import MonotonicCoefficient
from hddm_sbi.hierarchy.terms.population import population
from hddm_sbi.hierarchy.terms.predictor import Predictor
from hddm_sbi.hierarchy.terms.smooth import Wiggles
from hddm_sbi.simulation import ParameterPrior
from hddm_sbi.types import Array, Index


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
