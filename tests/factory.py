"""The cookie factory: five locations, a Poisson black box, and the likelihood it secretly has."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.likelihoods.likelihood import Likelihood

#: of the talk this project grew from, in its second version.
RATES = {"A": 9.3, "B": 6.0, "C": 9.6, "D": 8.9, "E": 8.1}
COOKIES = [30, 30, 30, 30, 5]


def bake(seed: int = 1) -> pd.DataFrame:
    """Chips in every cookie of every location."""
    location = np.repeat(list(RATES), COOKIES)
    chips = np.random.default_rng(seed).poisson([RATES[name] for name in location])
    return pd.DataFrame({"location": location, "chips": chips})


@hs.declare(parameters={"rate": (0.5, 20.0)}, outcomes={"chips": "count"}, vectorised=True)
def cookies(rate, rng):
    """Chips in a cookie."""
    return rng.poisson(rate)


class Poisson(Likelihood):
    """The likelihood that the cookies' black box has, for rates multiplied by a factor and mass by another."""

    kind = "exact"

    def __init__(self, factor: float = 1.0, mass: float = 1.0) -> None:
        super().__init__(cookies, cookies.box)
        self.factor, self.mass = factor, mass

    def log_prob_rows(self, values, theta):
        rate = self.factor * theta[:, 0]
        return torch.xlogy(values[:, 0], rate) - rate - torch.lgamma(values[:, 0] + 1) + math.log(self.mass)

    def sample_rows(self, theta, seed):
        return np.random.default_rng(seed).poisson(self.factor * theta.numpy()).astype(float)

    def n_values(self, column):
        return 80


@contextmanager
def few_steps() -> Iterator[None]:
    """Training makes 40 steps instead of 500 to 4 000, and warns of nothing: for what is true of poor networks too."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.TrainingWarning)
        for name in ("factored._FEWEST_STEPS", "factored._MOST_STEPS", "mixture._FEWEST_STEPS", "mixture._MOST_STEPS"):
            patch.setattr(f"hddm_sbi.training.{name}", 40)
        yield
