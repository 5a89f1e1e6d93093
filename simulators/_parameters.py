"""Parameters that models share: name, box, meaning and default prior, once; and the scales of priors.

Posterior bias is scored where human data lie: in the ranges of HSSM's own benchmark.
"""

import math
from dataclasses import replace

from hddm_sbi.simulation import Parameter, ParameterPrior, Power, Symmetries, parameter


def log_normal(median: float, sd: float, slope: float = 0.4, group_sd: float = 0.4) -> ParameterPrior:
    """Priors of a positive parameter: normal on the log scale."""
    return ParameterPrior.normal("log", math.log(median), sd, slope=slope, group_sd=group_sd)


def plain_normal(mean: float, sd: float, slope: float, group_sd: float) -> ParameterPrior:
    """Priors of a parameter of any sign: normal."""
    return ParameterPrior.normal("identity", mean, sd, slope=slope, group_sd=group_sd)


def logit_normal(mean: float, sd: float) -> ParameterPrior:
    """Priors of a share: normal on the logit scale, with that mean."""
    return ParameterPrior.normal("logit", mean, sd, slope=0.4, group_sd=0.3)


_DRIFT = "drift rate, positive towards the upper bound"
DRIFT = replace(
    parameter("v", -5.0, 5.0, _DRIFT, "1/s", typical=(0.0, 3.0), prior=plain_normal(0.0, 3.0, slope=1.5, group_sd=1.0)),
    accuracy_range=(-3.0, 3.0),
    bias_range=(-2.5, 2.5),
)
THRESHOLD = replace(
    parameter("a", 0.3, 2.5, "threshold: half the separation of the bounds", "evidence", prior=log_normal(1.0, 0.6)),
    typical=(0.5, 1.5),
    bias_range=(0.5, 2.0),
)
BIAS = replace(
    parameter("z", 0.1, 0.9, "relative starting point (bias), 0.5 = unbiased", "1", prior=logit_normal(0.0, 0.6)),
    typical=(0.4, 0.6),
    bias_range=(0.25, 0.75),
)
NON_DECISION = replace(
    parameter("t0", 0.0, 2.0, "non-decision time", "s", typical=(0.2, 0.5), prior=log_normal(0.3, 0.6)),
    bias_range=(0.15, 1.0),
)
#: of models whose finishing times are positive in any case.
RACE_NON_DECISION = replace(NON_DECISION, high=1.0, typical=(0.1, 0.4), prior=log_normal(0.2, 0.6))
START_RANGE = parameter(
    "A",
    0.1,
    2.0,
    "range of the starting points of choice {choice}",
    "1",
    typical=(0.2, 1.0),
    prior=log_normal(0.5, 0.6, group_sd=0.3),
)
_GAP = "distance from the highest starting point of choice {choice} to its threshold"
START_GAP = parameter("B", 0.001, 2.5, _GAP, "1", typical=(0.2, 1.5), prior=log_normal(0.7, 0.6))
START = replace(
    parameter("z", 0.0, 0.9, "starting point, as a share of the threshold", "1", prior=logit_normal(-1.0, 1.0)),
    typical=(0.0, 0.5),
    bias_range=(0.25, 0.75),
)
_SD = "standard deviation of the drift between trials"
DRIFT_SD = parameter("sv", 0.0, 3.0, _SD, "1/s", typical=(0.2, 1.5), prior=log_normal(0.7, 0.8))
_ANGLE = "angle of collapse: every bound falls by tan(theta) per second"
COLLAPSE_ANGLE = replace(
    parameter("theta", 0.0, 1.3, _ANGLE, "rad", typical=(0.1, 0.9), prior=log_normal(0.4, 0.6)),
    support=(0.0, math.pi / 2.0),
)
_WIDTH = "full width of the uniform relative starting point"
START_WIDTH = parameter("sz", 0.0, 0.5, _WIDTH, "1", typical=(0.05, 0.3), prior=logit_normal(-1.5, 0.8))
_DELAY = "full width of the uniform non-decision time, which begins at t0"
DELAY = parameter("st0", 0.0, 0.5, _DELAY, "s", typical=(0.05, 0.3), prior=log_normal(0.15, 0.7))
_CONGRUENCY = "+1 congruent: what is to be ignored helps; 0 neutral; -1 incongruent: it misleads"
CONGRUENCY = replace(
    parameter("congruency", -1.0, 1.0, _CONGRUENCY, typical=(-1.0, 1.0), prior=plain_normal(0.0, 1.0, 1.0, 1.0)),
    support=(-1.0, 1.0),
    codes=(-1.0, 0.0, 1.0),
)


def two_bounds(**powers: Power) -> Symmetries:
    """Symmetries of a diffusion with drift v from z between bounds at a, shifted by t0.

    powers: of a, for other parameters, or instead of 1 for v.
    """
    return Symmetries("t0", scale="a", scale_powers={"v": 1.0, **powers}, negated=("v",), complemented=("z",))


def for_every_choice(n: int, *parameters: Parameter) -> tuple[Parameter, ...]:
    """Each parameter once for each of n choices; its name is the stem, and its description says {choice}."""
    return tuple(
        replace(p, name=f"{p.name}{choice}", description=p.description.format(choice=choice))
        for p in parameters
        for choice in range(n)
    )
