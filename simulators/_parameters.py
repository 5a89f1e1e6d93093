"""Parameters that models share: name, box, meaning and default prior, once.

Posterior bias is scored where human data lie: in the ranges of HSSM's own benchmark.
"""

from __future__ import annotations

import math
from dataclasses import replace

from hddm_sbi.simulation import Parameter, ParameterPrior

DRIFT = Parameter(
    "v",
    -5.0,
    5.0,
    "drift rate, positive towards the upper bound",
    "1/s",
    typical=(0.0, 3.0),
    support=(-math.inf, math.inf),
    prior=ParameterPrior.normal("identity", 0.0, 3.0, slope=1.5, group_sd=1.0),
    accuracy_range=(-3.0, 3.0),
    bias_range=(-2.5, 2.5),
)
THRESHOLD = Parameter(
    "a",
    0.3,
    2.5,
    "threshold: half the separation of the bounds",
    "evidence",
    typical=(0.5, 1.5),
    support=(0.0, math.inf),
    prior=ParameterPrior.normal("log", 0.0, 0.6, slope=0.4, group_sd=0.4),
    bias_range=(0.5, 2.0),
)
BIAS = Parameter(
    "z",
    0.1,
    0.9,
    "relative starting point (bias), 0.5 = unbiased",
    "1",
    typical=(0.4, 0.6),
    support=(0.0, 1.0),
    prior=ParameterPrior.normal("logit", 0.0, 0.6, slope=0.4, group_sd=0.3),
    bias_range=(0.25, 0.75),
)
NON_DECISION = Parameter(
    "t0",
    0.0,
    2.0,
    "non-decision time",
    "s",
    typical=(0.2, 0.5),
    support=(0.0, math.inf),
    prior=ParameterPrior.normal("log", math.log(0.3), 0.6, slope=0.4, group_sd=0.4),
    bias_range=(0.15, 1.0),
)
#: of models whose finishing times are positive in any case.
RACE_NON_DECISION = replace(
    NON_DECISION,
    high=1.0,
    typical=(0.1, 0.4),
    prior=ParameterPrior.normal("log", math.log(0.2), 0.6, slope=0.4, group_sd=0.4),
)
START_RANGE = Parameter(
    "A",
    0.1,
    2.0,
    "range of the starting points",
    "1",
    typical=(0.2, 1.0),
    support=(0.0, math.inf),
    prior=ParameterPrior.normal("log", math.log(0.5), 0.6, slope=0.4, group_sd=0.3),
)
START_GAP = Parameter(
    "B",
    0.1,
    2.5,
    "distance from the highest starting point to the threshold",
    "1",
    typical=(0.2, 1.5),
    support=(0.0, math.inf),
    prior=ParameterPrior.normal("log", math.log(0.7), 0.6, slope=0.4, group_sd=0.4),
)
START = Parameter(
    "z",
    0.0,
    0.9,
    "starting point, as a share of the threshold",
    "1",
    typical=(0.0, 0.5),
    support=(0.0, 1.0),
    prior=ParameterPrior.normal("logit", -1.0, 1.0, slope=0.4, group_sd=0.3),
    bias_range=(0.25, 0.75),
)
DRIFT_SD = Parameter(
    "sv",
    0.0,
    3.0,
    "standard deviation of the drift between trials",
    "1/s",
    typical=(0.2, 1.5),
    support=(0.0, math.inf),
    prior=ParameterPrior.normal("log", math.log(0.7), 0.8, slope=0.4, group_sd=0.4),
)
COLLAPSE_ANGLE = Parameter(
    "theta",
    0.0,
    1.3,
    "angle of collapse: every bound falls by tan(theta) per second",
    "rad",
    typical=(0.1, 0.9),
    support=(0.0, math.pi / 2.0),
    prior=ParameterPrior.normal("log", math.log(0.4), 0.6, slope=0.4, group_sd=0.4),
)
CONGRUENCY = Parameter(
    "congruency",
    -1.0,
    1.0,
    "+1 congruent: what is to be ignored helps; -1 incongruent: it misleads",
    "1",
    typical=(-1.0, 1.0),
    support=(-1.0, 1.0),
    prior=ParameterPrior.normal("identity", 0.0, 1.0, slope=1.0, group_sd=1.0),
    from_data=True,
)


def for_every_choice(parameter: Parameter, n: int) -> tuple[Parameter, ...]:
    """The parameter once for each of n choices; its name is the stem, and its description says {choice}."""
    return tuple(
        replace(parameter, name=f"{parameter.name}{choice}", description=parameter.description.format(choice=choice))
        for choice in range(n)
    )
