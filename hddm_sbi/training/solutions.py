"""Solved densities of thetas, as histograms of infinitely many trials would have them."""

import numpy as np
import torch
from torch import Tensor

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.mixture import Reduction
from hddm_sbi.seeds import derive_seed
from hddm_sbi.simulation import DecisionModel, Simulator, Solution
from hddm_sbi.training.recipe import Recipe
from hddm_sbi.types import Array

#: points of the grids on which the equation is solved, until the probabilities of all decisions sum to 1 this nearly:
#: log densities are then right to 5e-4 or better, a KL of 1e-7. On the last grid the second number will do.
_GRIDS, _OFF, _FAR_OFF = (150, 300, 600), 3e-5, 1e-3
#: trials that say where decisions end, and by which factor the solution goes on beyond the last one: past all but 1e-5.
_TRIALS, _BEYOND = 256, 3.0
#: nats below its maximum at which the density of a log decision time ends; at early times it falls at least like this
#: power.
_DEPTH, _LEAST_POWER = 14.0, 0.25
#: the log of a density that is not known, or 0.
_NOTHING = -600.0
#: points lie as thick as the density to this power, plus this share of its maximum.
_POWER, _FLOOR = 0.4, 0.02
#: a choice of at least this probability has it exactly; the points tell that of others.
_OFTEN = 1e-4


def solved_shard(
    simulator: Simulator, reduction: Reduction, theta: Array, recipe: Recipe, index: int, n_threads: int
) -> dict[str, Tensor]:
    """Histograms of these thetas; where the equation cannot be solved, all shares are 0.

    Raises InputError for a model that declares no `passage` between two bounds.
    """
    if not isinstance(simulator, DecisionModel) or simulator.passage is None or simulator.races:
        raise InputError(f"{simulator.name!r} declares no equation between two bounds; learn it from its simulator.")
    seed = derive_seed(recipe.seed, index, bits=64)
    within = np.random.default_rng(seed).random((len(theta), reduction.n_choices, recipe.bins))
    trials = simulator.simulate(np.repeat(theta, _TRIALS, axis=0), seed, n_threads)
    last = trials[0].reshape(-1, _TRIALS).max(1)
    shape = (len(theta), reduction.n_choices, recipe.bins)
    share, y = np.zeros(shape), np.zeros(shape)
    at = torch.as_tensor(theta)
    for i, row in enumerate(theta):
        solution = _solution(simulator, row, _BEYOND * last[i])
        if solution is None:
            continue
        log_t, share[i] = _points(solution, within[i])
        y[i] = reduction.log_time(torch.from_numpy(np.exp(log_t)), at[[i] * len(log_t)])[0].numpy()
    return {
        "theta": reduction.reduce(at).float(),
        "share": torch.from_numpy(share).float(),
        "mean": torch.from_numpy(y).float(),
    }


def _solution(simulator: DecisionModel, theta: Array, t_max: float) -> Solution | None:
    """The solution up to this time; None where no grid is fine enough."""
    assert simulator.passage is not None
    with np.errstate(all="ignore"):
        passage = simulator.passage(*theta, t_max=t_max)
        for n in _GRIDS:
            solution = passage.solve(n)
            off = abs(1.0 - float(solution.mass(solution.t[-1:]).sum()))
            if off < _OFF:
                break
    return solution if off < _FAR_OFF else None


def _points(solution: Solution, within: Array) -> tuple[Array, Array]:
    """Log decision times, and the probability that each stands for: (n_choices, n) each.

    within (n_choices, n): where each point lies in its own n-th of the points, at random in [0, 1). Then the expected
    loss is the integral. A network learns where points lie that are a function of theta, and stands up in spikes.
    """
    edges, height = _thickness(solution)
    n = within.shape[1]
    heap = np.concatenate([np.zeros((len(height), 1)), np.cumsum(height * np.diff(edges), axis=1)], axis=1)
    heap /= heap[:, -1:]
    share_before = (np.arange(n) + within) / n
    log_t = np.stack([np.interp(u, of, edges) for u, of in zip(share_before, heap, strict=True)])
    per_unit = n * np.diff(heap) / np.diff(edges)
    interval = np.clip(np.searchsorted(edges, log_t, side="right") - 1, 0, len(edges) - 2)
    with np.errstate(all="ignore"):
        log_p = _known(solution.log_density(np.exp(log_t.reshape(-1)))).reshape(len(log_t), *log_t.shape)
    own = np.arange(len(log_t))
    share = np.exp(log_p[own, own] + log_t) / np.take_along_axis(per_unit, interval, axis=1)
    mass = solution.mass(solution.t[-1:])[:, 0]
    often = mass > _OFTEN
    share[often] *= (mass[often] / share[often].sum(1))[:, None]
    return log_t, share / share.sum()


def _known(log_p: Array) -> Array:
    """Log densities where the grid tells them, else next to nothing."""
    return np.maximum(np.nan_to_num(log_p, nan=_NOTHING, posinf=_NOTHING), _NOTHING)


def _thickness(solution: Solution) -> tuple[Array, Array]:
    """Edges (m + 1,) in log decision time between which any choice has a density that counts, and how thick the points
    of every choice lie between them, (n_choices, m), on any scale."""
    log_t = np.log(solution.t[1:])
    with np.errstate(all="ignore"):
        rough = _known(solution.log_p[:, 1:] + log_t)
    highest = rough.max(1, keepdims=True)
    depth = rough - highest + _DEPTH
    inside = np.flatnonzero((depth > 0.0).any(0))
    kept = slice(inside[0], inside[-1] + 1)
    height = np.exp(_POWER * (rough - highest)[:, kept]) + _FLOOR
    between, edges = 0.5 * (height[:, 1:] + height[:, :-1]), log_t[kept]
    if inside[0] == 0:
        # Before the grid, the density falls like a power of time.
        slope = np.maximum((rough[:, 1] - rough[:, 0]) / (log_t[1] - log_t[0]), _LEAST_POWER)
        first = edges[0] - (np.maximum(depth[:, 0], 0.0) / slope).max()
        edges = np.concatenate([[first], edges])
        between = np.concatenate([0.5 * (height[:, :1] + _FLOOR), between], axis=1)
    return edges, between
