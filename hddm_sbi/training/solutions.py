"""Densities of thetas, in closed form or solved, as histograms of infinitely many trials would have them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods import Reduction
from hddm_sbi.seeds import derive_seed
from hddm_sbi.simulation import DecisionModel, Simulator, Solution
from hddm_sbi.training.recipe import Recipe
from hddm_sbi.types import Array

#: points of the grids on which the equation is solved, until the probabilities of all decisions sum to 1 this nearly:
#: log densities are then right to 5e-4 or better, a KL of 1e-7. On the last grid the second number will do.
_GRIDS, _OFF, _FAR_OFF = (150, 300, 600), 3e-5, 1e-3
#: trials that say where decisions end, and by which factor the solution goes on beyond the last one: past all but 1e-5.
_TRIALS, _BEYOND = 256, 3.0
#: log reduced times between which a closed form is looked for, and the points of every look, each where the one before
#: it found the density; the last one is its grid.
_RANGE, _LOOKS = (-46.0, 30.0), (305, 65, 601)
#: nats below its maximum at which the density of a log decision time ends; at early times it falls at least like this
#: power.
_DEPTH, _LEAST_POWER = 14.0, 0.25
#: the log of a density that is not known, or 0.
_NOTHING = -600.0
#: points lie as thick as the density to this power, plus this share of its maximum.
_POWER, _FLOOR = 0.4, 0.02
#: a choice of at least this probability has it exactly; the points tell that of others.
_OFTEN = 1e-4


@dataclass(frozen=True)
class _Density:
    """The law of choice and decision time at one theta, over a coordinate x that grows with time.

    x: (m,), ascending. log_p: (n_choices, m), log density of x there. at: the same at any x of every choice
    (n_choices, n). mass: (n_choices,), their probabilities. log_time: log reduced times y of any x.
    """

    x: Array
    log_p: Array
    at: Callable[[Array], Array]
    mass: Array
    log_time: Callable[[Array], Array]


def solved_shard(
    simulator: Simulator, reduction: Reduction, theta: Array, recipe: Recipe, index: int, n_threads: int
) -> dict[str, Tensor]:
    """Histograms of these thetas, by the closed form or else by the equation; all shares are 0 where neither answers.

    Of a race, as of simulated trials, the histogram of one accumulator. Raises InputError for a model that declares
    neither `log_density` nor `passage`.
    """
    if not isinstance(simulator, DecisionModel) or (simulator.log_density is None and simulator.passage is None):
        raise InputError(f"{simulator.name!r} declares neither a closed form nor an equation; learn its simulations.")
    seed = derive_seed(recipe.seed, index, bits=64)
    shape = (len(theta), 1 if reduction.racing else reduction.n_choices, recipe.bins)
    within = np.random.default_rng(seed).random(shape)
    if simulator.log_density is None:
        densities = _by_equation(simulator, reduction, theta, seed, n_threads)
    else:
        densities = (_in_closed_form(simulator, reduction, row, shape[1]) for row in theta)
    share, y = np.zeros(shape), np.zeros(shape)
    for i, density in enumerate(densities):
        if density is not None:
            x, share[i] = _points(density, within[i])
            y[i] = density.log_time(x)
    return {
        "theta": reduction.reduce(torch.as_tensor(theta)).float(),
        "share": torch.from_numpy(share).float(),
        "mean": torch.from_numpy(y).float(),
    }


def _in_closed_form(simulator: DecisionModel, reduction: Reduction, theta: Array, n_choices: int) -> _Density | None:
    """The density of log reduced time by the closed form; None where it is too narrow for the points it is seen at."""
    law, row, scratch = simulator.log_density, np.ascontiguousarray(theta), np.empty((len(theta), max(_LOOKS)))
    assert law is not None
    at = torch.as_tensor(row)[None]
    log_scale, clock = reduction.log_time_scale(at).unsqueeze(-1), reduction.clock(at)

    def log_density(y: Array) -> Array:
        t = reduction.times.time(torch.from_numpy(y), log_scale, clock)
        log_p, log_slope = np.empty(y.shape), reduction.times.log_time(t, log_scale, clock)[1].numpy()
        for choice, times in enumerate(t.numpy()):
            law(row, choice, times, log_p[choice], scratch)
        return _known(log_p - log_slope)

    low, high = _RANGE
    for n in _LOOKS:
        y = np.linspace(low, high, n)
        log_p = log_density(np.tile(y, (n_choices, 1)))
        inside = np.flatnonzero((log_p > log_p.max(1, keepdims=True) - _DEPTH).any(0))
        low, high = y[max(inside[0] - 1, 0)], y[min(inside[-1] + 1, n - 1)]
    # Trapezoids, of a function that vanishes at both ends.
    mass = np.exp(log_p).sum(1) * (y[1] - y[0])
    return _Density(y, log_p, log_density, mass, lambda y: y) if abs(1.0 - mass.sum()) < _FAR_OFF else None


def _by_equation(
    simulator: DecisionModel, reduction: Reduction, theta: Array, seed: int, n_threads: int
) -> Iterator[_Density | None]:
    """The density of log decision time at every theta, solved on a grid; None where no grid is fine enough."""
    repeated = np.repeat(theta, _TRIALS, axis=0)
    if simulator.races:
        times = simulator.simulate_accumulator(repeated, seed, n_threads)
    else:
        times = simulator.simulate(repeated, seed, n_threads)[0]
    for row, last in zip(theta, times.reshape(-1, _TRIALS).max(1), strict=True):
        solution = _solution(simulator, row, _BEYOND * last)
        yield None if solution is None else _over_log_time(solution, reduction, row)


def _over_log_time(solution: Solution, reduction: Reduction, theta: Array) -> _Density:
    """A solution over log decision time."""
    grid, at = np.log(solution.t[1:]), torch.as_tensor(theta)[None]

    def log_density(log_t: Array) -> Array:
        with np.errstate(all="ignore"):
            log_p = _known(solution.log_density(np.exp(log_t.reshape(-1)))).reshape(len(log_t), *log_t.shape)
        own = np.arange(len(log_t))
        return np.asarray(log_p[own, own] + log_t)

    def log_time(log_t: Array) -> Array:
        return reduction.log_time(torch.from_numpy(np.exp(log_t)), at.expand(len(log_t), -1))[0].numpy()

    with np.errstate(all="ignore"):
        log_p = _known(solution.log_p[:, 1:] + grid)
    return _Density(grid, log_p, log_density, solution.mass(solution.t[-1:])[:, 0], log_time)


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


def _points(density: _Density, within: Array) -> tuple[Array, Array]:
    """Points x, and the probability that each stands for: (n_choices, n) each.

    within (n_choices, n): where each point lies in its own n-th of the points, at random in [0, 1). Then the expected
    loss is the integral. A network learns where points lie that are a function of theta, and stands up in spikes.
    """
    edges, height = _thickness(density)
    n = within.shape[1]
    heap = np.concatenate([np.zeros((len(height), 1)), np.cumsum(height * np.diff(edges), axis=1)], axis=1)
    heap /= heap[:, -1:]
    share_before = (np.arange(n) + within) / n
    x = np.stack([np.interp(u, of, edges) for u, of in zip(share_before, heap, strict=True)])
    per_unit = n * np.diff(heap) / np.diff(edges)
    interval = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)
    share = np.exp(density.at(x)) / np.take_along_axis(per_unit, interval, axis=1)
    often = density.mass > _OFTEN
    share[often] *= (density.mass[often] / share[often].sum(1))[:, None]
    return x, share / share.sum()


def _known(log_p: Array) -> Array:
    """Log densities where they are known, else next to nothing."""
    return np.maximum(np.nan_to_num(log_p, nan=_NOTHING, posinf=_NOTHING), _NOTHING)


def _thickness(density: _Density) -> tuple[Array, Array]:
    """Edges (m + 1,) between which any choice has a density that counts, and how thick the points of every choice lie
    between them, (n_choices, m), on any scale: as the density of log reduced time says, in which networks learn."""
    with np.errstate(all="ignore"):
        pace = np.gradient(density.log_time(density.x[None])[0], density.x)
        rough = _known(density.log_p - np.log(pace))
    highest = rough.max(1, keepdims=True)
    depth = rough - highest + _DEPTH
    inside = np.flatnonzero((depth > 0.0).any(0))
    kept = slice(inside[0], inside[-1] + 1)
    x, rough, pace = density.x[kept], rough[:, kept], pace[kept]
    height = (np.exp(_POWER * (rough - highest)) + _FLOOR) * pace
    between, edges = 0.5 * (height[:, 1:] + height[:, :-1]), x
    if inside[0] == 0:
        # Before the grid, the density falls like a power of time.
        slope = np.maximum((rough[:, 1] - rough[:, 0]) / (x[1] - x[0]), _LEAST_POWER)
        first = x[0] - (np.maximum(depth[:, 0], 0.0) / slope).max()
        edges = np.concatenate([[first], x])
        between = np.concatenate([0.5 * (height[:, :1] + _FLOOR * pace[0]), between], axis=1)
    return edges, between
