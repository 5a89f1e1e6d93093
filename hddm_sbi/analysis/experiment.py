"""A simulated experiment with known coefficients: subjects x two conditions, for the demo, the tutorial and tests."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hddm_sbi.errors import whole_number
from hddm_sbi.likelihoods import simulate
from hddm_sbi.types import Array

#: the formulas that the experiment is simulated by.
FORMULAS = ["v ~ condition + (1|subject)", "a ~ 1 + (1|subject)", "t0 ~ 1 + (1|subject)"]


@dataclass(frozen=True)
class Experiment:
    """A simulated experiment.

    trials: table with the columns subject, condition, rt (seconds) and response (+1, -1). true_values: the coefficients
    that it was simulated at, by their posterior names. formulas: of the model that it was simulated by.
    """

    trials: pd.DataFrame
    true_values: dict[str, float | Array]
    formulas: tuple[str, ...] = tuple(FORMULAS)


def simulate_experiment(n_subjects: int = 12, n_trials: int = 100, seed: int = 1) -> Experiment:
    """Simulate an experiment of the DDM: subjects, each in an easy and in a hard condition.

    The drift is 1.8 (easy) and 1.1 (hard) with a standard deviation of 0.4 between subjects; the threshold is 1.0 and
    the non-decision time 0.3 s, both with a standard deviation of 0.15 on the log scale; there is no bias.

    Parameters
    ----------
    n_subjects
        Number of subjects.
    n_trials
        Trials per subject and condition.
    seed
        Same seed, same trials.

    Returns
    -------
    Experiment
        Its `trials`, a table, and the `true_values` behind them.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> experiment = hs.simulate_experiment(n_subjects=3, n_trials=2)
    >>> experiment.trials["subject"].value_counts().tolist()
    [4, 4, 4]
    >>> experiment.true_values["v_Intercept"]
    1.8
    """
    rng = np.random.default_rng(whole_number("seed", seed, least=0))
    spread = {"v": 0.4, "a": 0.15, "t0": 0.15}
    deviation = {name: sd * rng.normal(size=n_subjects) for name, sd in spread.items()}
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
    values: dict[str, float | Array] = {
        "v_Intercept": 1.8,
        "v_condition": np.array([-0.7]),
        "a_Intercept": 0.0,
        "z_Intercept": 0.0,
        "t0_Intercept": float(np.log(0.3)),
    }
    values |= {f"{name}_1|subject_sigma": sd for name, sd in spread.items()}
    return Experiment(trials, values | {f"{name}_1|subject": x for name, x in deviation.items()})
