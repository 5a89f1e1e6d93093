"""How many outcomes a learned likelihood is good for, by two networks that saw one half of the simulations each."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hddm_sbi.likelihoods import Likelihood
from hddm_sbi.training.proposal import propose
from hddm_sbi.types import Array

#: the shift of a posterior mean that counts as safe, in posterior sds, and the share of parameter sets that must be.
SAFE_SHIFT, SAFE_SHARE = 0.3, 0.9
#: halves do not see an error that they share: shifts are taken for larger by this factor (docs/decisions/063).
_CAUTION = 1.25
#: parameter sets, and outcomes drawn at each.
_SETS, _DRAWS = 512, 200
#: numbers of outcomes that are looked at, four to a factor of ten.
NUMBERS = np.round(10 ** np.arange(1.0, 6.01, 0.25))


def safe_outcomes(likelihood: Likelihood, halves: Sequence[Likelihood], seed: int) -> int:
    """The largest number of outcomes whose posterior means are off by at most `SAFE_SHIFT` sds, as far as halves tell.

    0 where not even ten are safe. At `SAFE_SHARE` of the parameter sets in the box, no parameter may be off by more: a
    mean square would be made by a few sets near its sides, where a shift is far from what it is to first order.
    Two likelihoods that are trained on one half of the simulations each differ by twice the error of one that is
    trained on all of them (root mean squares), where that error comes from the number of simulations.
    """
    theta = propose(likelihood.simulator, None, _SETS, seed)
    values = torch.as_tensor(likelihood.sample_rows(torch.as_tensor(np.repeat(theta, _DRAWS, axis=0)), seed))
    own, first, second = (scores(each, values, theta) for each in (likelihood, *halves))
    shift = np.abs(shifts(own, (first - second).mean(1), box_of(likelihood), NUMBERS)).max(-1) / 2
    within = _CAUTION * np.quantile(shift, SAFE_SHARE, axis=1) <= SAFE_SHIFT
    return int(NUMBERS[within.cumprod().sum() - 1]) if within[0] else 0


def scores(likelihood: Likelihood, values: Tensor, theta: Array) -> Array:
    """d log p / d theta of outcomes, (sets, draws, p): values (sets * draws, k), theta (sets, p)."""
    n_sets, n_parameters = theta.shape
    rows = torch.as_tensor(np.repeat(theta, len(values) // n_sets, axis=0)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(likelihood.log_prob_rows(values, rows).sum(), rows)
    return gradient.reshape(n_sets, -1, n_parameters).numpy()


def box_of(likelihood: Likelihood) -> Array:
    """Width of the box of every parameter, (p,)."""
    return np.array([high - low for low, high in likelihood.box.values()])


def shifts(own: Array, error: Array, width: Array, numbers: Array) -> Array:
    """Shift of posterior means in posterior sds, (numbers, sets, p), to first order.

    own: scores of outcomes (sets, draws, p), whose mean square is the information I of one outcome. error (sets, p):
    the mean of a wrong score. n outcomes and a flat prior on a box, of precision P = 12 / width², have the covariance
    (n I + P)^-1, and a mean that is off by (n I + P)^-1 n error.
    """
    information = np.einsum("sdi,sdj->sij", own, own) / own.shape[1]
    n = numbers[:, None, None, None]
    covariance = np.linalg.inv(n * information + np.diag(12.0 / width**2))
    sd = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    return np.einsum("nsij,sj->nsi", n * covariance, error) / sd
