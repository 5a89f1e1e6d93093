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
#: nats below its maximum at which the density of a log decision time ends, and points between; at early times it falls
#: at least like this power.
_DEPTH, _POINTS, _LEAST_POWER = 14.0, 192, 0.25
#: the log of a density that is not known, or 0.
_NOTHING = -600.0
#: bins hold equal parts of the integral of the density to this power, plus this share of its maximum.
_POWER, _FLOOR = 0.4, 0.02


def solved_shard(
    simulator: Simulator, reduction: Reduction, theta: Array, recipe: Recipe, index: int, n_threads: int
) -> dict[str, Tensor]:
    """Histograms of these thetas; where the equation cannot be solved, all shares are 0.

    Raises InputError for a model that declares no `passage` between two bounds.
    """
    if not isinstance(simulator, DecisionModel) or simulator.passage is None or simulator.races:
        raise InputError(f"{simulator.name!r} declares no equation between two bounds; learn it from its simulator.")
    seed = derive_seed(recipe.seed, index, bits=64)
    offset = np.random.default_rng(seed).random(len(theta))
    trials = simulator.simulate(np.repeat(theta, _TRIALS, axis=0), seed, n_threads)
    last = trials[0].reshape(-1, _TRIALS).max(1)
    shape = (len(theta), reduction.n_choices, recipe.bins)
    share, y = np.zeros(shape), np.zeros(shape)
    at = torch.as_tensor(theta)
    for i, row in enumerate(theta):
        solution = _solution(simulator, row, _BEYOND * last[i])
        if solution is None:
            continue
        log_t, share[i] = _binned(solution, recipe.bins, offset[i])
        share[i] /= share[i].sum()
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


def _binned(solution: Solution, bins: int, offset: float) -> tuple[Array, Array]:
    """Mean log decision times, and probabilities, of bins of log decision time: (n_choices, bins) each.

    offset: where the first point lies in its step, in [0, 1). It must be random, or a network learns where the points
    lie, and stands up in a spike at each.
    """
    low, high = _range(solution)
    step = (high - low) / _POINTS
    points = low + step * (np.arange(_POINTS) + offset)
    with np.errstate(all="ignore"):
        log_p = _known(solution.log_density(np.exp(points)) + points)
    highest = log_p.max(1, keepdims=True)
    p = np.exp(log_p - highest)
    crowding = np.cumsum(p**_POWER + _FLOOR, axis=1)
    of_point = np.minimum((bins * (crowding / crowding[:, -1:] - 1e-9)).astype(np.int64), bins - 1)
    share, mean = np.zeros((len(p), bins)), np.zeros((len(p), bins))
    for c, of in enumerate(of_point):
        np.add.at(share[c], of, p[c])
        np.add.at(mean[c], of, p[c] * points)
    mean = np.where(share > 0.0, mean / np.where(share > 0.0, share, 1.0), points[0])
    return mean, share * np.exp(highest) * step


def _known(log_p: Array) -> Array:
    """Log densities where the grid tells them, else next to nothing."""
    return np.maximum(np.nan_to_num(log_p, nan=_NOTHING, posinf=_NOTHING), _NOTHING)


def _range(solution: Solution) -> tuple[float, float]:
    """The log decision times between which any choice has a density that counts."""
    log_t = np.log(solution.t[1:])
    with np.errstate(all="ignore"):
        rough = _known(solution.log_p[:, 1:] + log_t)
    depth = rough - rough.max(1, keepdims=True) + _DEPTH
    inside = np.flatnonzero((depth > 0.0).any(0))
    low, high = log_t[inside[0]], log_t[inside[-1]]
    if inside[0] == 0:
        # Before the grid, the density falls like a power of time.
        slope = np.maximum((rough[:, 1] - rough[:, 0]) / (log_t[1] - log_t[0]), _LEAST_POWER)
        low -= (np.maximum(depth[:, 0], 0.0) / slope).max()
    return float(low), float(high)
