"""Leaky competing accumulators: each leaks, holds the others down, and cannot fall below zero."""

import math
from dataclasses import replace
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._elsewhere import each
from hddm_sbi.simulators._parameters import DRIFT, NON_DECISION, START, THRESHOLD, for_every_choice, log_normal

from hddm_sbi.simulation import Counterpart, DecisionModel, Symmetries, parameter, rt_and_response
from hddm_sbi.simulation.accumulators import longest_step, reflected
from hddm_sbi.simulation.moving_bounds import crossing_time

# dx_i = (v_i - g x_i - b sum_{j != i} x_j) dt + dW_i, reflected at 0, x_i(0) = z a, response i where x_i first reaches
# a, rt = t + t0.
#
# Within a step an accumulator has the mean of its drifts at both ends (Heun). For that drift, whether and when the path
# meets the threshold is exact, and so is its minimum m, by which reflection lifts its end, max(0, -m) (Skorokhod), as
# long as it cannot touch 0 and then the threshold in one step: steps are so short that the odds of that are 3e-7. The
# drift at the end is that at the lifted end, without which the error would be of first order in the step.

#: longest step, in the times that leak and inhibition take. tests/simulation/test_lca.py states the error that is left.
_STEP = 0.05
#: product of both ends' distances, per unit of the step, beyond which nothing is met in between: odds of exp(-40).
_FAR = 20.0


@nb.njit(cache=True, nogil=True)
def trial(v: tuple[float, ...], a: float, z: float, t0: float, g: float, b: float, rng: Any) -> tuple[float, int]:
    """One trial of as many choices as there are drifts."""
    n = len(v)
    x, drift, end, low = np.full(n, z * a), np.empty(n), np.empty(n), np.empty(n)
    longest = _STEP / max(abs(g) + abs(b) * (n - 1), 1e-9)
    t, total = 0.0, n * z * a
    while True:
        h = longest
        for i in range(n):
            drift[i] = v[i] - g * x[i] - b * (total - x[i])
            h = min(h, longest_step(x[i], a - x[i], max(drift[i], 0.0)))
        sd, foreseen = math.sqrt(h), 0.0
        for i in range(n):
            end[i] = x[i] + h * drift[i] + sd * rng.standard_normal()
            low[i] = 0.0 if x[i] * end[i] > _FAR * h else math.log(1.0 - rng.random())
            foreseen += reflected(x[i], end[i], h, low[i])
        first, choice, total = math.inf, -1, 0.0
        for i in range(n):
            at_end = reflected(x[i], end[i], h, low[i])
            end[i] += 0.5 * h * (v[i] - g * at_end - b * (foreseen - at_end) - drift[i])
            gap, gap_end = a - x[i], a - end[i]
            if gap_end <= 0.0 or (gap * gap_end < _FAR * h and rng.random() < math.exp(-2.0 * gap * gap_end / h)):
                crossing = crossing_time(gap, gap_end, h, rng)
                if crossing < first:
                    first, choice = crossing, i
            x[i] = reflected(x[i], end[i], h, low[i])
            total += x[i]
        if choice >= 0:
            return t0 + t + first, choice
        t += h


_INPUT = replace(DRIFT, low=0.0, high=6.0, description="input of choice {choice}", accuracy_range=None, bias_range=None)
_A = replace(THRESHOLD, low=0.4, high=1.8)
_RATE = log_normal(1.0, 0.7)
_G = parameter("g", 0.0, 2.0, "leak: draws every accumulator to 0", "1/s", typical=(0.2, 2.0), prior=_RATE)
_B = parameter("b", 0.0, 4.0, "inhibition by every other accumulator", "1/s", typical=(0.2, 3.0), prior=_RATE)


def _elsewhere(n: int) -> dict[str, Counterpart]:
    """Counterparts of the model of n choices."""
    same = {**each("v{}", "v{}", n, first=0), "a": "a", "z": "z", "t": "t0", "g": "g", "b": "b"}
    return {"ssm-simulators": Counterpart(f"lca_no_bias_{n}", same)} if n > 2 else {}


def of_choices(n: int) -> DecisionModel:
    """The model of n choices."""
    inputs = for_every_choice(n, _INPUT)
    return DecisionModel(
        name="lca" if n == 2 else f"lca{n}",
        title=f"leaky competing accumulators, {n} choices",
        parameters=(*inputs, _A, replace(START, high=0.8), NON_DECISION, _G, _B),
        outcomes=rt_and_response(*range(n)),
        trial=trial,
        discretisation="mean decision time off by at most 0.1 % in 1e7 trials (tests/simulation/test_lca.py -m slow)",
        symmetries=Symmetries(
            shift="t0", scale="a", scale_powers={**{p.name: 1.0 for p in inputs}, "g": 2.0, "b": 2.0}, per_choice=("v",)
        ),
        citation="Usher & McClelland (2001), Psychol. Rev. 108:550",
        counterparts=_elsewhere(n),
    )


SIMULATORS = tuple(of_choices(n) for n in (2, 3, 4))
