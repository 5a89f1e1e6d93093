"""How good a learned likelihood is: against a reference, by simulation alone, or on held-out simulations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args


def trained_on(simulations: int) -> str:
    """What a likelihood was trained on, in a few words; 0 simulations: solutions of the model's equation."""
    return f"{simulations:.0e} simulations".replace("e+0", "e") if simulations else "solved equations"


@dataclass(frozen=True, kw_only=True)
class AccuracyScores:
    """Scores of a likelihood whose model has a reference or can be simulated at will.

    Attributes
    ----------
    KL
        KL divergence per trial, in nats.
    KL_se
        Standard error of `KL`, in nats.
    mean_abs_error
        Of log p per trial.
    posterior_bias
        The largest of `posterior_bias_mean`.
    posterior_bias_mean
        Parameter name -> how far the posterior mode is off, in posterior sds: the mean over the parameter sets.
    posterior_bias_largest
        Parameter name -> the largest of the same over the parameter sets.
    reference
        The kind of likelihood that is the reference, "exact" or "numerical"; "simulated" without one.
    trials
        Number of simulated trials for the errors per trial.
    thetas
        Number of parameter sets at which these are simulated.
    parameter_sets
        Number of parameter sets for the posterior bias.
    trials_per_set
        Number of trials at each of those, for the posterior bias.
    seed
        Same seed, same scores.
    """

    KL: float
    KL_se: float
    mean_abs_error: float
    posterior_bias: float
    posterior_bias_mean: dict[str, float]
    posterior_bias_largest: dict[str, float]
    reference: str
    trials: int
    thetas: int
    parameter_sets: int
    trials_per_set: int
    seed: int

    def headline(self) -> dict[str, float]:
        """The scores that have targets, for a table of models."""
        return {"KL": self.KL, "mean_abs_error": self.mean_abs_error, "posterior_bias": self.posterior_bias}

    def summary(self, simulations: int) -> str:
        """Simulations and KL in a few words."""
        return f"{trained_on(simulations)}, KL {self.KL:.1e}".replace("e-0", "e-")


@dataclass(frozen=True, kw_only=True)
class ReferenceScores(AccuracyScores):
    """Scores against a closed form or a solved equation, over the accuracy ranges of the parameters.

    Attributes
    ----------
    abs_error_quantile_999
        Of log p per trial.
    score_error
        Error of d log p / d theta relative to its size, by parameter.
    KL_whole_box
        `KL` over the whole box.
    mean_abs_error_whole_box
        `mean_abs_error` over the whole box.
    tails
        Mean absolute error of log p where data are scarce, by tail.
    """

    kind: ClassVar[str] = "reference"
    abs_error_quantile_999: float
    score_error: dict[str, float]
    KL_whole_box: float
    mean_abs_error_whole_box: float
    tails: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class SimulationScores(AccuracyScores):
    """Scores over the whole box by simulated trials alone.

    Attributes
    ----------
    KL_largest
        The largest KL of a parameter set.
    posterior_bias_se
        Standard error of a bias at one parameter set.
    """

    kind: ClassVar[str] = "simulation"
    KL_largest: float
    posterior_bias_se: float


@dataclass(frozen=True)
class HeldOutScores:
    """Scores on simulations that training has not seen.

    Attributes
    ----------
    log_score
        Mean log density per outcome.
    information
        The log score minus that of a baseline without parameters, in nats.
    p_value
        The smallest p-value of many tests of ranks, corrected for their number.
    where
        That test in words: its outcome, and which simulations it took.
    distance
        The largest difference between distribution functions in that test.
    mass
        The total mass furthest from 1; None where there are several continuous outcomes.
    ranked
        Number of ranked simulations.
    safe_outcomes
        The largest number of outcomes whose posterior means are off by at most .3 sds at nine of ten parameter sets, as
        far as two networks tell that saw half of the simulations each; None where they were not trained.
    passed
        Whether ranks and mass are as they should be.
    verdict
        All of this in words.
    """

    kind: ClassVar[str] = "held out"
    log_score: float
    information: float
    p_value: float
    where: str
    distance: float
    mass: float | None
    ranked: int
    safe_outcomes: int | None
    passed: bool
    verdict: str

    def headline(self) -> dict[str, float]:
        """The score for a table of models."""
        return {"log_score": self.log_score}

    def summary(self, simulations: int) -> str:
        """Simulations and log score in a few words."""
        return f"{simulations} simulations, log score {self.log_score:.3f}"


Scores = ReferenceScores | SimulationScores | HeldOutScores
#: kind of scores, as cards name it -> its class.
KINDS: dict[str, type[Scores]] = {scores.kind: scores for scores in get_args(Scores)}
