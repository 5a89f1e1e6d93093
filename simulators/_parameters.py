"""Parameters that diffusion models share: name, box, meaning and default prior, once.

Posterior bias is scored where human data lie: in the ranges of HSSM's own benchmark.
"""

from __future__ import annotations

import math

from hddm_sbi.simulation import Parameter, ParameterPrior, Prior

DRIFT = Parameter(
    "v",
    -5.0,
    5.0,
    "drift rate, positive towards the upper bound",
    "1/s",
    typical=(0.0, 3.0),
    support=(-math.inf, math.inf),
    prior=ParameterPrior(
        "identity", Prior("normal", 0.0, 3.0), Prior("normal", 0.0, 1.5), Prior("halfnormal", 0.0, 1.0)
    ),
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
    prior=ParameterPrior("log", Prior("normal", 0.0, 0.6), Prior("normal", 0.0, 0.4), Prior("halfnormal", 0.0, 0.4)),
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
    prior=ParameterPrior("logit", Prior("normal", 0.0, 0.6), Prior("normal", 0.0, 0.4), Prior("halfnormal", 0.0, 0.3)),
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
    prior=ParameterPrior(
        "log", Prior("normal", math.log(0.3), 0.6), Prior("normal", 0.0, 0.4), Prior("halfnormal", 0.0, 0.4)
    ),
    bias_range=(0.15, 1.0),
)
DRIFT_SD = Parameter(
    "sv",
    0.0,
    3.0,
    "standard deviation of the drift between trials",
    "1/s",
    typical=(0.2, 1.5),
    support=(0.0, math.inf),
    prior=ParameterPrior(
        "log", Prior("normal", math.log(0.7), 0.8), Prior("normal", 0.0, 0.4), Prior("halfnormal", 0.0, 0.4)
    ),
)
COLLAPSE_ANGLE = Parameter(
    "theta",
    0.0,
    1.3,
    "angle of collapse: every bound falls by tan(theta) per second",
    "rad",
    typical=(0.1, 0.9),
    support=(0.0, math.pi / 2.0),
    prior=ParameterPrior(
        "log", Prior("normal", math.log(0.4), 0.6), Prior("normal", 0.0, 0.4), Prior("halfnormal", 0.0, 0.4)
    ),
)
CONGRUENCY = Parameter(
    "congruency",
    -1.0,
    1.0,
    "+1 congruent: what is to be ignored helps; -1 incongruent: it misleads",
    "1",
    typical=(-1.0, 1.0),
    support=(-1.0, 1.0),
    prior=ParameterPrior(
        "identity", Prior("normal", 0.0, 1.0), Prior("normal", 0.0, 1.0), Prior("halfnormal", 0.0, 1.0)
    ),
    from_data=True,
)
