"""Ornstein-Uhlenbeck model: evidence that leaks away, or that feeds on itself."""

import math
from typing import Any

import numba as nb
from hddm_sbi.simulators._elsewhere import diffusions
from hddm_sbi.simulators._parameters import BIAS, DRIFT, NON_DECISION, THRESHOLD, plain_normal, two_bounds

from hddm_sbi.simulation import DecisionModel, parameter
from hddm_sbi.simulation.first_passage import Diffusion, Passage, constant, first_passage
from hddm_sbi.simulation.moving_bounds import UNSEEN, crossing_of

# dx = (v - g x) dt + dW, x(0) = (2z - 1) a, response when |x| >= a, rt = decision time t + t0.
#
# On the clock s = (e^2gt - 1) / 2g, x is a Brownian motion B (Doob 1942): with r = e^gt = (1 + 2 g s)^1/2,
#   x(t) = (B(s) + 2 v s / (1 + r)) / r,  so that the bounds are +-r a - 2 v s / (1 + r) for B.

#: the clock is set back to 0 when r has grown or shrunk this much: long before it overflows, or stops at 1 / 2|g|.
_LAP = 1e3


@nb.njit(nogil=True)
def _curves(s: float, v: float, a: float, g: float) -> tuple[float, float]:
    r = math.sqrt(1.0 + 2.0 * g * s)
    pushed = 2.0 * v * s / (1.0 + r)
    return -r * a - pushed, r * a - pushed


_first_crossing = crossing_of(_curves)


@nb.njit(cache=True, nogil=True)
def trial(v: float, a: float, z: float, t0: float, g: float, rng: Any) -> tuple[float, int]:
    """One trial."""
    time, x, choice = 0.0, (2.0 * z - 1.0) * a, -1
    r = _LAP if g > 0.0 else 1.0 / _LAP
    bend, lap = (1.0 / abs(g), 0.5 * (r * r - 1.0) / g) if g != 0.0 else (math.inf, math.inf)
    while choice < 0:
        s, choice, place = _first_crossing((v, a, g), x, bend, lap, rng)
        x = (place + 2.0 * v * s / (1.0 + r)) / r
        time += 0.5 * math.log1p(2.0 * g * s) / g if g != 0.0 else s
    return t0 + time, choice


def _passage(v: float, a: float, z: float, t0: float, g: float, t_max: float) -> Passage:
    """Density of the decision time, by the equation above."""
    leaky = Diffusion((2.0 * z - 1.0) * a, constant(v), constant(a), constant(0.0), leak=g)
    return first_passage(leaky, t_max)


_LEAK = "leak: positive draws the evidence to 0, negative drives it away"
_G = parameter("g", -1.0, 1.0, _LEAK, "1/s", typical=(-0.5, 0.5), prior=plain_normal(0.0, 0.5, 0.3, 0.3))

SIMULATOR = DecisionModel(
    name="ornstein",
    title="Ornstein-Uhlenbeck model",
    parameters=(DRIFT, THRESHOLD, BIAS, NON_DECISION, _G),
    trial=trial,
    passage=_passage,
    discretisation=UNSEEN,
    symmetries=two_bounds(g=2.0),
    citation="Busemeyer & Townsend (1993), Psychol. Rev. 100:432; Bogacz et al. (2006), Psychol. Rev. 113:700",
    counterparts=diffusions(
        {
            "HSSM": ("ornstein", {"g": "g"}),
            "ssm-simulators": ("ornstein", {"g": "g"}),
            "PyDDM": ("DriftLinear, BoundConstant, ICPointRatio", {"x": "-g", "t": "0"}),
        }
    ),
)
