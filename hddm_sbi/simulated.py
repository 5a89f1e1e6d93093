"""Scores of a learned likelihood by simulation alone: where its model has neither a closed form nor an equation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from hddm_sbi.calibration import Region, box_precision, conditions, inner_region, trial_scores, uniform
from hddm_sbi.likelihood import DecisionLikelihood, SortedTrials
from hddm_sbi.simulator import Simulator

Array = NDArray[np.float64]

#: bins of a choice end where a normal law would have these points, so that tails have bins of their own.
_ENDS = np.arange(-4.5, 4.55, 0.1)
#: trials whose scores give the information of one trial.
_INFORMATION_TRIALS = 50_000


def divergence(likelihood: DecisionLikelihood, theta: Array, n_trials: int, seed: int) -> float:
    """KL(simulator, likelihood) per trial at one theta (p,), from a histogram of n_trials simulated trials.

    sum (p - q)² / 2q over bins, q the probability that the likelihood gives a bin: KL to second order in p/q - 1. Its
    estimate from counts is unbiased; its standard deviation is about sqrt(n_bins / 2) / n_trials.
    """
    simulator = likelihood.simulator
    rt, choice = simulator.simulate(np.tile(theta, (n_trials, 1)), seed)
    learned, counts = [], []
    for c, share in enumerate(_choice_probabilities(likelihood, theta)):
        if share == 0.0:
            learned.append(np.zeros(1))
            counts.append(np.array([np.count_nonzero(choice == c)]))
            continue
        ends = np.concatenate([[-np.inf], _bin_ends(likelihood, theta, c), [np.inf]])
        counts.append(np.histogram(rt[choice == c], ends)[0])
        learned.append(share * np.diff(np.concatenate([[0.0], ndtr(_ENDS), [1.0]])))
    q, p = np.concatenate(learned), np.concatenate(counts) / n_trials
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = ((p - q) ** 2 - p * (1.0 - p) / (n_trials - 1)) / (2.0 * q)
    return float(np.where((q == 0.0) & (p == 0.0), 0.0, terms).sum())


def bias_at(likelihood: DecisionLikelihood, theta: Array, n_trials: int, n_simulated: int, seed: int) -> Array:
    """|posterior mode - theta| in posterior sds after n_trials, of every estimated parameter, to first order.

    With g the mean score of the likelihood over n_simulated trials of the simulator, and J the information of a trial
    plus that of a prior as wide as the box, the mode is off by J^-1 g. A standard error of sqrt(n_trials / n_simulated)
    sds is left in it.
    """
    simulator = likelihood.simulator
    estimated = [simulator.names.index(name) for name in _regular(simulator)]
    cells = conditions(simulator, theta)
    cell = np.arange(n_simulated) % len(cells)
    rt, choice = simulator.simulate(cells[cell], seed)
    few = slice(min(_INFORMATION_TRIALS, n_simulated))
    scores = trial_scores(likelihood, cells[cell[few]], rt[few], choice[few])[:, estimated]
    prior = box_precision(likelihood, [simulator.names[column] for column in estimated]) / n_trials
    covariance = np.linalg.inv(scores.T @ scores / len(scores) + np.diag(prior))
    at = torch.tensor(cells, requires_grad=True)
    trials = SortedTrials.sort(rt, choice, cell, len(cells), len(simulator.choices))
    total = likelihood.cell_log_prob(at, trials, torch.zeros((), dtype=torch.float64)).sum()
    mean_score = torch.autograd.grad(total, at)[0].numpy().sum(0)[estimated] / n_simulated
    return np.asarray(np.abs(covariance @ mean_score) / np.sqrt(np.diag(covariance) / n_trials))


def scores_by_simulation(
    likelihood: DecisionLikelihood,
    *,
    n_thetas: int = 100,
    n_per_theta: int = 2_000_000,
    n_sets: int = 16,
    n_trials: int = 10_000,
    seed: int = 5,
) -> dict[str, Any]:
    """Scores of a card, over the whole box; no reference but the simulator is needed.

    n_thetas x n_per_theta simulated trials for KL, as many per set for the posterior bias at n_trials. Instead of the
    mean absolute error of log p there is the root of its mean square, sqrt(2 KL) per theta, which is larger.
    """
    whole: Region = dict(likelihood.box)
    simulator = likelihood.simulator
    thetas = uniform(simulator, whole, n_thetas, seed)
    kl = np.array([divergence(likelihood, theta, n_per_theta, seed + k) for k, theta in enumerate(thetas)])
    sets = uniform(simulator, inner_region(likelihood), n_sets, seed)
    bias = np.stack([bias_at(likelihood, at, n_trials, n_per_theta, seed + 1000 + k) for k, at in enumerate(sets)])
    names = _regular(simulator)
    return {
        "KL": float(kl.mean()),
        "KL_se": float(kl.std() / np.sqrt(n_thetas)),
        "KL_largest": float(kl.max()),
        "mean_abs_error": float(np.sqrt(2.0 * kl.clip(min=0.0)).mean()),
        "posterior_bias": float(bias.mean(0).max()),
        "posterior_bias_mean": dict(zip(names, bias.mean(0).tolist(), strict=True)),
        "posterior_bias_largest": dict(zip(names, bias.max(0).tolist(), strict=True)),
        "posterior_bias_se": float(np.sqrt(n_trials / n_per_theta)),
        "reference": "simulated",
        "trials": n_thetas * n_per_theta,
        "thetas": n_thetas,
        "parameter_sets": n_sets,
        "trials_per_set": n_trials,
        "seed": seed,
    }


def _regular(simulator: Simulator) -> list[str]:
    """The parameters whose posterior is normal in the limit: not a shift that the density does not vanish at, which the
    fastest trial decides at a rate of 1 / n_trials and which is known, for the others, as if it were given."""
    shift = simulator.symmetries.shift if simulator.tail == "early" else None
    return [p.name for p in simulator.parameters if not p.given and p.name != shift]


def _choice_probabilities(likelihood: DecisionLikelihood, theta: Array) -> Array:
    at = dict(zip(likelihood.simulator.names, theta.tolist(), strict=True))
    return likelihood.choice_probabilities(at)[0].numpy()


def _bin_ends(likelihood: DecisionLikelihood, theta: Array, choice: int) -> Array:
    """Times before which a trial of this choice has probability Phi(_ENDS), (len(_ENDS),)."""
    at = dict(zip(likelihood.simulator.names, theta.tolist(), strict=True))
    code = likelihood.simulator.choices[choice]
    return likelihood.quantile(ndtr(_ENDS), np.full(len(_ENDS), code), at).numpy()
