"""Deviations of groups: none, as of the typical one, or of new groups drawn from the population."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.hierarchy.terms.coefficients import Values
from hddm_sbi.hierarchy.terms.group_effects import GroupEffects

#: to 0 and to 1, of a quasi-random number that may be either.
_NEAREST = 1e-12

# Standard scores z ~ N(0, 1) of every group make its deviations: u = diag(sigma) L z with L L' = R where effects are
# correlated, and else the quantile of the population at Phi(z), less its mean; for a normal population u = sigma z.


def no_deviations(hierarchy: Hierarchy) -> dict[str, Tensor]:
    """Deviations of 0, of every group and effect, by their posterior names."""
    zeros = [(g, torch.zeros(len(g.levels), g.matrix.shape[1], dtype=torch.float64)) for g in hierarchy.groups]
    return {name: u for g, zero in zeros for name, u in g.split(zero).items()}


def score_shapes(hierarchy: Hierarchy) -> dict[str, tuple[int, int]]:
    """(n_levels, k) of the scores that `new_deviations` takes, by the name of what is drawn together."""
    shapes = {g.name: (len(g.levels), g.matrix.shape[1]) for g in hierarchy.groups if g.correlation is None}
    correlated = [(g.correlation, len(g.levels)) for g in hierarchy.groups if g.correlation is not None]
    return shapes | {known.name: (n, len(known.labels)) for known, n in correlated}


def new_deviations(hierarchy: Hierarchy, values: Values, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Deviations of new groups from the population of every draw, (..., n_levels[, k]), by their posterior names.

    values: coefficients, standard deviations and correlations, (...) by their posterior names. scores: (..., n_levels,
    k) of N(0, 1), by `score_shapes`.
    """
    return {name: u for g in hierarchy.groups for name, u in g.split(_drawn(g, values, scores)).items()}


def with_known(hierarchy: Hierarchy, fitted: Hierarchy, values: Values, new: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Deviations of the groups of a table: those in `values` of groups that were fitted, and `new` of all others."""
    levels = {g.name: g.levels for g in fitted.groups}
    found: dict[str, Tensor] = {}
    for g in hierarchy.groups:
        position = {level: i for i, level in enumerate(levels[g.name])}
        known = [i for i, level in enumerate(g.levels) if level in position]
        there = torch.tensor([position[g.levels[i]] for i in known], dtype=torch.int64)
        u = g.joined([new[name] for name in g.effect_names])
        if known:
            u = u.index_copy(-2, torch.tensor(known), g.reported_deviations(values)[..., there, :])
        found |= g.split(u)
    return found


def _drawn(g: GroupEffects, values: Values, scores: Mapping[str, Tensor]) -> Tensor:
    """u, (..., n_levels, k)."""
    sigma = g.sigma_of_levels(values)
    if g.correlation is None:
        mean = g.mean(values).unsqueeze(-2)
        return g.population.quantile(scores[g.name], mean, sigma) - mean
    R, z = values[g.correlation.reported], scores[g.correlation.name]
    L = torch.linalg.cholesky(R)
    of_levels = L.unsqueeze(-3) if g.by is None else L[..., torch.as_tensor(g.by.index), :, :]
    return sigma * (of_levels @ z.unsqueeze(-1)).squeeze(-1)[..., list(g.columns)]


def standard_scores(shapes: Mapping[str, tuple[int, int]], n: int, seed: int) -> dict[str, Tensor]:
    """Scores of n new groups of each shape, (n, n_levels, k): quasi-random, in pairs z and -z, of variance 1 each.

    Means over these groups are nearer to those over the population than means over n groups at random.
    """
    size = sum(levels * k for levels, k in shapes.values())
    if not size:
        return {}
    uniform = torch.quasirandom.SobolEngine(size, scramble=True, seed=seed).draw((n + 1) // 2, dtype=torch.float64)
    z = torch.special.ndtri(uniform.clamp(_NEAREST, 1.0 - _NEAREST))
    z = z / z.square().mean(0).sqrt()
    parts = torch.split(torch.cat([z, -z]), [levels * k for levels, k in shapes.values()], dim=-1)
    return {name: part.reshape(-1, *shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def typical_theta(population: Hierarchy, values: Values) -> Tensor:
    """Parameters of the typical group, whose deviations are 0: (n_draws, n_cells, p).

    population: from `rows.of_population`. values: (n_draws, ...) by posterior name.
    """
    n = _n_draws(values)
    zeros = {name: u.expand(n, *u.shape) for name, u in no_deviations(population).items()}
    theta = population.theta({**values, **zeros})
    return theta.expand(n, *theta.shape[-2:])


def new_theta(population: Hierarchy, values: Values, scores: Mapping[str, Tensor]) -> Tensor:
    """Parameters of m new groups on every cell, (n_draws, m, n_cells, p).

    scores: (m, n_levels, k) by `score_shapes`; or (n_draws, m, n_levels, k), others in every draw.
    """
    m = next(iter(scores.values())).shape[-3] if scores else 1
    wide = {name: x.unsqueeze(1).expand(len(x), m, *x.shape[1:]) for name, x in values.items()}
    theta = population.theta({**wide, **new_deviations(population, wide, scores)})
    return theta.expand(_n_draws(values), m, *theta.shape[-2:])


def _n_draws(values: Values) -> int:
    return len(next(iter(values.values())))
