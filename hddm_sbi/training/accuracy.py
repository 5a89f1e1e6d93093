"""The accuracy of a likelihood against a reference: per trial, in its tails, and of the posterior that it leads to."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from hddm_sbi.likelihoods import (
    LAPSE,
    LAPSE_SECONDS,
    DecisionLikelihood,
    ReferenceScores,
    SortedTrials,
    outcome_rows,
    with_lapses,
)
from hddm_sbi.simulation import Simulator
from hddm_sbi.training.proposal import among_codes
from hddm_sbi.types import Array

Region = dict[str, tuple[float, float]]
Loss = Callable[[Array], tuple[float, Array]]

#: share of the box at either end that the default of `Parameter.bias_range` leaves out.
_MARGIN = 0.15
#: for the posterior of a shift, over the time from there to the first trial: points of the grid, log density at its end
#: relative to the mode, and its beginning relative to its end.
_GRID, _UNLIKELY, _SOONEST = 100, 15.0, 1e-5
#: the loss per trial where a trial is impossible: a line search steps back from a number, but not from infinity.
_IMPOSSIBLE = 1e6


@dataclass(frozen=True)
class Accuracy:
    """Accuracy per trial, over theta uniform in a region and trials simulated there.

    kl: mean of log p - log q, by the control variate q/p - 1 (zero mean), with its standard error kl_se. score_error:
    root mean square error of d log p / d theta relative to its root mean square, per parameter. thetas: their number,
    without those at which the reference has no answer.
    """

    kl: float
    kl_se: float
    mean_abs_error: float
    quantile_999: float
    score_error: dict[str, float]
    thetas: int


def accuracy(
    likelihood: DecisionLikelihood,
    reference: DecisionLikelihood,
    region: Region,
    n: int,
    seed: int,
    n_thetas: int | None = None,
) -> Accuracy:
    """Compare two likelihoods on n simulated trials, whose `n_thetas` thetas (default: n) are uniform in `region`."""
    simulator = reference.simulator
    theta = uniform_thetas(simulator, region, n, seed, n_thetas)
    rt, choice = simulator.simulate(theta, seed)
    (learned, learned_score), (exact, score) = (
        log_p_and_score(one, theta, rt, choice) for one in (likelihood, reference)
    )
    told = ~np.isnan(exact.reshape(n_thetas or n, -1)).any(1)
    kept = np.repeat(told, n // (n_thetas or n))
    error = (exact - learned)[kept]
    variate = np.expm1(-error) + error
    gap, size = np.abs(learned_score - score)[kept], np.abs(score)[kept]
    with np.errstate(invalid="ignore"):
        relative = np.sqrt(np.mean(np.minimum(gap, 1e3) ** 2, 0) / np.mean(np.minimum(size, 1e3) ** 2, 0))
    return Accuracy(
        kl=float(variate.mean()),
        kl_se=float(variate.reshape(told.sum(), -1).mean(1).std() / np.sqrt(told.sum())),
        mean_abs_error=float(np.abs(error).mean()),
        quantile_999=float(np.quantile(np.abs(error), 0.999)),
        score_error={p.name: float(r) for p, r in zip(simulator.parameters, relative, strict=True) if not p.from_data},
        thetas=int(told.sum()),
    )


def tails(
    likelihood: DecisionLikelihood,
    reference: DecisionLikelihood,
    region: Region,
    n: int,
    seed: int,
    n_thetas: int | None = None,
) -> dict[str, float]:
    """Mean absolute error of log p where data are scarce, by name of the tail.

    fastest_of_1000: trials with the shortest decision times. below_5_ms: decision times below 5 ms. choice_below_1e-5,
    choice_below_1e-10: the response that was not given, where its density lies between these two, and below the second.
    choice_below_1e-5_with_lapse: responses below 1e-5 with 5 % of lapses, as in every default fit.
    """
    simulator = reference.simulator
    theta = uniform_thetas(simulator, region, n, seed, n_thetas)
    rt, choice = simulator.simulate(theta, seed)
    at, n_choices = torch.as_tensor(theta), len(simulator.choices)

    def log_densities(choice: NDArray[np.int64]) -> tuple[Array, Array]:
        values = outcome_rows(rt, choice)
        return reference.log_prob_rows(values, at).numpy(), likelihood.log_prob_rows(values, at).numpy()

    exact, learned = log_densities(choice)
    log_other, learned_other = log_densities((choice + 1) % n_choices)
    error, other = exact - learned, log_other - learned_other
    shift = simulator.symmetries.shift
    decision = rt - (theta[:, simulator.names.index(shift)] if shift else 0.0)
    lapse, density = torch.tensor(LAPSE, dtype=torch.float64), 1.0 / (LAPSE_SECONDS * n_choices)
    both = torch.as_tensor(np.stack([log_other, log_other - other]))
    mixed = with_lapses(both, lapse, density).diff(dim=0)[0].numpy()
    groups = {
        "fastest_of_1000": np.abs(error)[decision <= np.quantile(decision, 1e-3)],
        "below_5_ms": np.abs(error)[decision < 0.005],
        "choice_below_1e-5": np.abs(other)[(log_other < np.log(1e-5)) & (log_other > np.log(1e-10))],
        "choice_below_1e-5_with_lapse": np.abs(mixed)[log_other < np.log(1e-5)],
        "choice_below_1e-10": np.abs(other)[log_other < np.log(1e-10)],
    }
    return {name: float(np.nanmean(values)) for name, values in groups.items() if len(values)}


def posterior_bias(
    likelihood: DecisionLikelihood, reference: DecisionLikelihood, n_trials: int, n_sets: int, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """|posterior mode under the likelihood - under the reference| in exact posterior sds, per parameter: mean, largest.

    n_trials are simulated at each of n_sets thetas. The prior is normal around that theta, with the variance of a
    uniform law over the box: it matters only where the trials leave a parameter open. The sds come from the curvature
    of the reference at its mode. A condition has all of its codes equally often, and what the model holds at a number
    stays there. Where the density is positive at onset, the bias of the shift is that with all else known, and vice
    versa.
    """
    simulator = reference.simulator
    names = estimated(simulator)
    sets = uniform_thetas(simulator, inner_region(likelihood), n_sets, seed)
    for column, p in enumerate(simulator.parameters):
        if p.fixed is not None:
            sets[:, column] = p.fixed
    bias = np.abs(
        [posterior_bias_at(likelihood, reference, at, n_trials, seed + 1000 + k) for k, at in enumerate(sets)]
    )
    if _abrupt(simulator):
        names.append(str(simulator.symmetries.shift))
        of_shift = [shift_bias_at(likelihood, reference, at, n_trials, seed + 2000 + k) for k, at in enumerate(sets)]
        bias = np.column_stack([bias, np.abs(of_shift)])
    return dict(zip(names, bias.mean(0).tolist(), strict=True)), dict(zip(names, bias.max(0).tolist(), strict=True))


def estimated(simulator: Simulator) -> list[str]:
    """What a fit estimates where nothing is said, and has an asymptotically normal posterior."""
    shift = simulator.symmetries.shift if _abrupt(simulator) else None
    return [p.name for p in simulator.parameters if not p.from_data and p.fixed is None and p.name != shift]


def _abrupt(simulator: Simulator) -> bool:
    """Whether the density is positive at onset: the posterior of the shift then contracts as 1/n, set by the fastest
    trial."""
    return simulator.clock.tail == "early"


def posterior_bias_at(
    likelihood: DecisionLikelihood, reference: DecisionLikelihood, theta: Array, n_trials: int, seed: int
) -> Array:
    """(mode under the likelihood - mode under the reference) in posterior sds, for trials simulated at one theta (p,).

    One number for each estimated parameter.
    """
    simulator = reference.simulator
    names = estimated(simulator)
    columns = [simulator.names.index(name) for name in names]
    cells = conditions(simulator, theta)
    cell = np.arange(n_trials) % len(cells)
    rt, choice = simulator.simulate(cells[cell], seed)
    trials = SortedTrials.sort(rt, choice, cell, len(cells), len(simulator.choices))
    bounds = [likelihood.box[name] for name in names]
    if simulator.symmetries.shift in names:
        column = names.index(simulator.symmetries.shift)
        bounds[column] = (bounds[column][0], min(bounds[column][1], float(rt.min()) - 1e-5))
    precision = box_precision(likelihood, names) / n_trials
    exact, learned = (_loss(one, trials, cells, columns, theta, precision) for one in (reference, likelihood))

    def information(x: Array) -> Array:
        """Information per trial from the scores of the reference: second differences of a numerical one are noise."""
        rows = cells[cell]
        rows[:, columns] = x
        score = log_p_and_score(reference, rows, rt, choice)[1][:, columns]
        return np.asarray(score.T @ score / n_trials + np.diag(precision))

    at_truth = information(theta[columns])
    mode = _mode(exact, theta[columns], at_truth, bounds, n_trials)
    if reference.kind == "numerical":
        sds = np.sqrt(np.diag(np.linalg.inv(information(mode) * n_trials)))
    else:
        sds = _sds(exact, mode, n_trials)
    return np.asarray((_mode(learned, mode, at_truth, bounds, n_trials) - mode) / sds)


def shift_bias_at(
    likelihood: DecisionLikelihood, reference: DecisionLikelihood, theta: Array, n_trials: int, seed: int
) -> float:
    """(posterior mean of the shift - that under the reference) in posterior sds, for trials simulated at one theta (p,)
    whose other parameters are known: on a grid that is even in the log time to the first trial.

    There the density is highest, and a network may lack it: on an even grid, the last point alone made .08 sds.
    """
    simulator = reference.simulator
    column, n_choices = simulator.names.index(str(simulator.symmetries.shift)), len(simulator.choices)
    rt, choice = simulator.simulate(np.tile(theta, (n_trials, 1)), seed)

    def log_posterior(one: DecisionLikelihood, before: Array) -> Array:
        at, cell = np.tile(theta, (len(before), 1)), np.repeat(np.arange(len(before)), n_trials)
        at[:, column] = rt.min() - before
        trials = SortedTrials.sort(np.tile(rt, len(before)), np.tile(choice, len(before)), cell, len(before), n_choices)
        with torch.no_grad():
            return one.log_prob_by_cell(trials, torch.as_tensor(at), torch.zeros((), dtype=torch.float64)).numpy()

    before = np.geomspace(1e-9, rt.min() - likelihood.box[simulator.names[column]][0], _GRID)
    log_p = log_posterior(likelihood, before)
    longest = before[log_p > log_p.max() - _UNLIKELY][-1]
    before = np.geomspace(_SOONEST * longest, longest, _GRID)
    (mean, _), (exact, sd) = (_moments(before, log_posterior(one, before)) for one in (likelihood, reference))
    return (exact - mean) / sd


def _moments(x: Array, log_p: Array) -> tuple[float, float]:
    """Mean and sd of a density on positive numbers, by trapezoids in their logarithms."""
    p = x * np.exp(log_p - log_p.max())
    p /= np.trapezoid(p, np.log(x))
    mean = float(np.trapezoid(p * x, np.log(x)))
    return mean, float(np.sqrt(np.trapezoid(p * (x - mean) ** 2, np.log(x))))


def scores(
    likelihood: DecisionLikelihood,
    reference: DecisionLikelihood,
    *,
    n: int = 400_000,
    n_sets: int = 16,
    n_trials: int = 25_000,
    n_thetas: int | None = None,
    seed: int = 5,
) -> ReferenceScores:
    """All scores of a card: over the accuracy ranges, over the whole box, tails, and posterior bias.

    n: trials, at n_thetas thetas (by default every trial has its own). n_sets, n_trials: for the posterior bias.
    """
    whole = dict(likelihood.box)
    target = {p.name: p.accuracy_range or whole[p.name] for p in likelihood.simulator.parameters}
    inside = accuracy(likelihood, reference, target, n, seed, n_thetas)
    everywhere = inside if target == whole else accuracy(likelihood, reference, whole, n, seed, n_thetas)
    mean, largest = posterior_bias(likelihood, reference, n_trials, n_sets, seed)
    return ReferenceScores(
        KL=inside.kl,
        KL_se=inside.kl_se,
        mean_abs_error=inside.mean_abs_error,
        abs_error_quantile_999=inside.quantile_999,
        score_error=inside.score_error,
        KL_whole_box=everywhere.kl,
        mean_abs_error_whole_box=everywhere.mean_abs_error,
        posterior_bias=max(mean.values()),
        posterior_bias_mean=mean,
        posterior_bias_largest=largest,
        tails=tails(likelihood, reference, whole, n, seed + 1, n_thetas),
        reference=reference.kind,
        trials=n,
        thetas=inside.thetas,
        parameter_sets=n_sets,
        trials_per_set=n_trials,
        seed=seed,
    )


def inner_region(likelihood: DecisionLikelihood) -> Region:
    """Where posterior bias is measured: every parameter's `bias_range`, inside the box."""
    region = {}
    for p in likelihood.simulator.parameters:
        low, high = likelihood.box[p.name]
        margin = _MARGIN * (high - low)
        first, last = p.bias_range or (low + margin, high - margin)
        region[p.name] = (max(low, first), min(high, last))
    return region


def uniform_thetas(simulator: Simulator, region: Region, n: int, seed: int, n_thetas: int | None = None) -> Array:
    """n rows uniform in the region, with n_thetas distinct ones; a condition has any of its codes."""
    low, high = np.array(list(region.values())).T
    points = np.random.default_rng(seed).random((n_thetas or n, len(low)))
    theta = low + (high - low) * points
    for column, p in enumerate(simulator.parameters):
        if p.from_data:
            theta[:, column] = among_codes(p, points[:, column])
    return np.repeat(theta, n // len(theta), axis=0)


def _loss(
    likelihood: DecisionLikelihood,
    trials: SortedTrials,
    cells: Array,
    estimated: list[int],
    theta: Array,
    precision: Array,
) -> Loss:
    """- log posterior per trial and its gradient, as a function of the estimated parameters, the same in all cells.

    The prior is normal around theta (p,); precision: of the estimated parameters, divided by the number of trials.
    """
    n, no_lapse = len(trials.rt), torch.zeros((), dtype=torch.float64)

    def loss(x: Array) -> tuple[float, Array]:
        free = torch.tensor(x, requires_grad=True)
        at = torch.tensor(cells).index_copy(1, torch.tensor(estimated), free.expand(len(cells), -1))
        value = -likelihood.log_prob_by_cell(trials, at, no_lapse).sum() / n
        (gradient,) = torch.autograd.grad(value, free)
        gap = x - theta[estimated]
        return float(value.detach()) + 0.5 * float(precision @ gap**2), gradient.numpy() + precision * gap

    return loss


def conditions(simulator: Simulator, theta: Array) -> Array:
    """theta (p,) once for every combination of the codes of its conditions, (n_cells, p)."""
    columns = [column for column, p in enumerate(simulator.parameters) if p.from_data]
    codes = list(itertools.product(*(p.codes for p in simulator.parameters if p.from_data)))
    cells = np.tile(theta, (len(codes), 1))
    cells[:, columns] = codes
    return cells


def box_precision(likelihood: DecisionLikelihood, names: list[str]) -> Array:
    """1 / variance of a uniform law over the box, per parameter."""
    return np.array([12.0 / np.ptp(likelihood.box[name]) ** 2 for name in names])


def log_p_and_score(
    likelihood: DecisionLikelihood, theta: Array, rt: Array, choice: NDArray[np.int64]
) -> tuple[Array, Array]:
    """log p of every trial (n,), and its score d log p / d theta (n, p)."""
    at = torch.tensor(theta, requires_grad=True)
    log_p = likelihood.log_prob_rows(outcome_rows(rt, choice), at)
    (gradient,) = torch.autograd.grad(log_p.sum(), at)
    return log_p.detach().numpy(), gradient.numpy()


def _mode(loss: Loss, start: Array, information: Array, bounds: list[tuple[float, float]], n: int) -> Array:
    """Minimum inside the bounds of the loss of n trials, each with this information (p, p).

    The search runs in posterior sds along independent directions, where the posterior is round.
    """
    low, high = np.array(bounds).T
    start = np.clip(start, low, high)
    sds = np.linalg.inv(np.linalg.cholesky(n * information)).T

    def in_sds(u: Array) -> tuple[float, Array]:
        x = start + sds @ u
        inside = np.clip(x, low, high)
        value, gradient = loss(inside)
        if not np.isfinite(value):
            value, gradient = _IMPOSSIBLE, np.zeros_like(x)
        back = information @ (x - inside)
        return n * (value + 0.5 * float(back @ (x - inside))), n * sds.T @ (np.where(x == inside, gradient, 0.0) + back)

    options = {"maxiter": 500, "ftol": 1e-13, "gtol": 1e-3}
    found = minimize(in_sds, np.zeros(len(start)), jac=True, method="L-BFGS-B", options=options).x
    return np.asarray(np.clip(start + sds @ found, low, high))


def _sds(loss: Loss, mode: Array, n: int) -> Array:
    """Posterior sds from the curvature at the mode."""
    step = 1e-5
    curvature = np.array([loss(mode - step * e)[1] - loss(mode + step * e)[1] for e in np.eye(len(mode))])
    return np.asarray(np.sqrt(np.diag(np.linalg.inv(-(curvature + curvature.T) / (4 * step) * n))))
