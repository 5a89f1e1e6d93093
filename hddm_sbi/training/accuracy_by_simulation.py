"""Scores of a learned likelihood by simulation alone, for models with neither a closed form nor an equation."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from hddm_sbi.likelihoods import DecisionLikelihood, SimulationScores, SortedTrials
from hddm_sbi.training.accuracy import (
    Region,
    box_precision,
    conditions,
    estimated,
    inner_region,
    log_p_and_score,
    uniform_thetas,
)
from hddm_sbi.types import Array

#: ends of the bins of a choice, as normal scores, so that tails have bins of their own.
_ENDS = np.arange(-4.5, 4.55, 0.1)
#: trials from which the information of one trial is computed.
_INFORMATION_TRIALS = 50_000
#: how many times as many trials a bias takes as a divergence: at 8e6 its noise is .035 sds of a set, at 2e6 it was .07,
#: and a perfect likelihood scored .056.
_MORE = 4


def divergence(likelihood: DecisionLikelihood, theta: Array, n_trials: int, seed: int) -> float:
    """KL(simulator, likelihood) per trial at one theta (p,), from a histogram of n_trials simulated trials.

    sum (p - q)² / 2q over bins, q the probability that the likelihood gives a bin: KL to second order in p/q - 1. Its
    estimate from counts is unbiased; its standard deviation is about sqrt(n_bins / 2) / n_trials.
    """
    bins = _histogram(likelihood, theta, *likelihood.simulator.simulate(np.tile(theta, (n_trials, 1)), seed))
    q = np.concatenate([b.learned for b in bins])
    p = np.concatenate([b.counts for b in bins]) / n_trials
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = ((p - q) ** 2 - p * (1.0 - p) / (n_trials - 1)) / (2.0 * q)
    return float(np.where((q == 0.0) & (p == 0.0), 0.0, terms).sum())


@dataclass(frozen=True)
class _Bins:
    """Bins of one choice: their ends in seconds without the last, the trials in them, their learned probabilities."""

    ends: Array
    counts: NDArray[np.int64]
    learned: Array


def _histogram(likelihood: DecisionLikelihood, theta: Array, rt: Array, choice: NDArray[np.int64]) -> list[_Bins]:
    """Bins of every choice; a single bin for a choice that the likelihood gives no probability."""
    at = dict(zip(likelihood.simulator.names, theta.tolist(), strict=True))
    found = []
    for c, share in enumerate(likelihood.choice_probabilities(at)[0].numpy()):
        if share == 0.0:
            found.append(_Bins(np.empty(0), np.array([np.count_nonzero(choice == c)]), np.zeros(1)))
            continue
        code = np.full(len(_ENDS), likelihood.simulator.choices[c])
        ends = likelihood.quantile(ndtr(_ENDS), code, at).numpy()
        counts = np.histogram(rt[choice == c], np.concatenate([[-np.inf], ends, [np.inf]]))[0]
        found.append(_Bins(ends, counts, share * np.diff(np.concatenate([[0.0], ndtr(_ENDS), [1.0]]))))
    return found


def bias_at(likelihood: DecisionLikelihood, theta: Array, n_trials: int, n_simulated: int, seed: int) -> Array:
    """|posterior mode - theta| in posterior sds after n_trials, of every estimated parameter, to first order.

    With g the mean score of the likelihood over n_simulated trials of the simulator, and J the information of a trial
    plus that of a prior as wide as the box, the mode is off by J^-1 g, with a standard error of
    sqrt(n_trials / n_simulated) sds.
    """
    simulator = likelihood.simulator
    names = estimated(simulator)
    columns = [simulator.names.index(name) for name in names]
    cells = conditions(simulator, theta)
    cell = np.arange(n_simulated) % len(cells)
    rt, choice = simulator.simulate(cells[cell], seed)
    few = slice(min(_INFORMATION_TRIALS, n_simulated))
    score = log_p_and_score(likelihood, cells[cell[few]], rt[few], choice[few])[1][:, columns]
    prior = box_precision(likelihood, names) / n_trials
    covariance = np.linalg.inv(score.T @ score / len(score) + np.diag(prior))
    at = torch.tensor(cells, requires_grad=True)
    trials = SortedTrials.sort(rt, choice, cell, len(cells), len(simulator.choices))
    total = likelihood.log_prob_by_cell(trials, at, torch.zeros((), dtype=torch.float64)).sum()
    mean_score = torch.autograd.grad(total, at)[0].numpy().sum(0)[columns] / n_simulated
    return np.asarray(np.abs(covariance @ mean_score) / np.sqrt(np.diag(covariance) / n_trials))


def scores_by_simulation(
    likelihood: DecisionLikelihood,
    *,
    n_thetas: int = 100,
    n_per_theta: int = 2_000_000,
    n_sets: int = 16,
    n_trials: int = 10_000,
    seed: int = 5,
) -> SimulationScores:
    """Scores of a card, over the whole box; no reference but the simulator is needed.

    KL takes n_thetas x n_per_theta simulated trials, and the posterior bias at n_trials four times n_per_theta per set.
    The mean absolute error of log p is replaced by the root of its mean square, sqrt(2 KL) per theta, which is larger.
    """
    whole: Region = dict(likelihood.box)
    simulator = likelihood.simulator
    thetas = uniform_thetas(simulator, whole, n_thetas, seed)
    kl = np.array([divergence(likelihood, theta, n_per_theta, seed + k) for k, theta in enumerate(thetas)])
    sets = uniform_thetas(simulator, inner_region(likelihood), n_sets, seed)
    many = _MORE * n_per_theta
    bias = np.stack([bias_at(likelihood, at, n_trials, many, seed + 1000 + k) for k, at in enumerate(sets)])
    names = estimated(simulator)
    return SimulationScores(
        KL=float(kl.mean()),
        KL_se=float(kl.std() / np.sqrt(n_thetas)),
        KL_largest=float(kl.max()),
        mean_abs_error=float(np.sqrt(2.0 * kl.clip(min=0.0)).mean()),
        posterior_bias=float(bias.mean(0).max()),
        posterior_bias_mean=dict(zip(names, bias.mean(0).tolist(), strict=True)),
        posterior_bias_largest=dict(zip(names, bias.max(0).tolist(), strict=True)),
        posterior_bias_se=float(np.sqrt(n_trials / many)),
        reference="simulated",
        trials=n_thetas * n_per_theta,
        thetas=n_thetas,
        parameter_sets=n_sets,
        trials_per_set=n_trials,
        seed=seed,
    )
