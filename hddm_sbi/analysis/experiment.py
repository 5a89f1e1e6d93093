"""A simulated experiment with known truth: subjects x two conditions, for the demo, the tutorial and tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hddm_sbi.likelihoods.catalogue import simulate
from hddm_sbi.types import Array

#: the formulas that the experiment was made by.
FORMULAS = ["v ~ condition + (1|subject)", "a ~ 1 + (1|subject)", "t0 ~ 1 + (1|subject)"]


@dataclass(frozen=True)
class Experiment:
    """Trials (subject, condition, rt, response) and the coefficients behind them, by their posterior names."""

    trials: pd.DataFrame
    truth: dict[str, float | Array]


def simulate_experiment(n_subjects: int = 12, n_trials: int = 100, seed: int = 1) -> Experiment:
    """Simulate n_subjects x (easy, hard) x n_trials trials of the DDM.

    Drift 1.8 (easy) and 1.1 (hard), sd 0.4 between subjects; threshold 1.0 and non-decision time 0.3 s, sd 0.15 on the
    log scale; no bias.

    >>> simulate_experiment(n_subjects=3, n_trials=2).trials["subject"].value_counts().tolist()
    [4, 4, 4]
    """
    rng = np.random.default_rng(seed)
    deviation = {name: sd * rng.normal(size=n_subjects) for name, sd in (("v", 0.4), ("a", 0.15), ("t0", 0.15))}
    subject = np.repeat(np.arange(n_subjects), 2 * n_trials)
    hard = np.tile(np.repeat([False, True], n_trials), n_subjects)
    theta = {
        "v": 1.8 - 0.7 * hard + deviation["v"][subject],
        "a": np.exp(deviation["a"])[subject],
        "z": 0.5,
        "t0": np.exp(np.log(0.3) + deviation["t0"])[subject],
    }
    trials = simulate("ddm", theta, seed=seed)
    trials.insert(0, "condition", np.where(hard, "hard", "easy"))
    trials.insert(0, "subject", [f"s{number:02d}" for number in subject])
    truth: dict[str, float | Array] = {
        "v_Intercept": 1.8,
        "v_condition": np.array([-0.7]),
        "a_Intercept": 0.0,
        "z_Intercept": 0.0,
        "t0_Intercept": float(np.log(0.3)),
    }
    truth |= {f"{name}_1|subject_sigma": sd for name, sd in (("v", 0.4), ("a", 0.15), ("t0", 0.15))}
    return Experiment(trials, truth | {f"{name}_1|subject": values for name, values in deviation.items()})
