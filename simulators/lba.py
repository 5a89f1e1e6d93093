"""Linear ballistic accumulators: every choice rises in a straight line, at a speed and from a start that vary."""

import math
from dataclasses import replace
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._elsewhere import each, shared
from hddm_sbi.simulators._parameters import (
    RACE_NON_DECISION,
    START_GAP,
    START_RANGE,
    for_every_choice,
    log_normal,
    plain_normal,
)

from hddm_sbi.numerics import FAST, LOG_2PI_HALF, exp_negative, inner, log, upper_tail
from hddm_sbi.simulation import EXACT, Clock, Counterpart, DecisionModel, Symmetries, parameter, rt_and_response
from hddm_sbi.simulation.accumulators import NOBODY, between, log_covered, race_density, scaled_normal
from hddm_sbi.types import Array

# x_i(t) = start_i + d_i t, start_i ~ uniform on [0, A_i], d_i ~ N(v_i, sv_i) given d_i > 0, response i where x_i first
# reaches b_i = A_i + B_i, rt = t0 + that time. Of one of them, with space in units of sv, x = B / t - v, y = b / t - v
# (Brown & Heathcote 2008) and D = y - x:
#   f = (phi(x) - phi(y) + v [Phi(y) - Phi(x)]) / (A Phi(v))
#   S = ([G(y) - G(x)] / D - Phi(-v)) / Phi(v),   G(e) = e Phi(e) + phi(e) = max(e, 0) + phi(e) - |e| Phi(-|e|)
# All is in units of exp(-top²/2), the largest phi there is, so that nothing underflows.
#
# Late, x and y lie close together and this cancels; there the integrals behind it are summed by Gauss-Legendre,
#   f = 1/A integral from B to b of k phi(k/t - v) / t² dk / Phi(v)
#   S = 1/A integral from 0 to b/t of min(A, b - u t) phi(u - v) du / Phi(v)

#: late is after this many times b: b / t is below 1/2.
_LATE = 2.0
#: nodes on [0, 1] and weights; exact to rounding for phi over an interval of 1/2, up to 30 sds from its middle.
_GAUSS = tuple((0.5 + 0.5 * x, 0.5 * weight) for x, weight in np.stack(np.polynomial.legendre.leggauss(12), 1).tolist())


@nb.njit(cache=True, nogil=True)
def _positive_normal(mean: float, rng: Any) -> float:
    """N(mean, 1) given that it is positive; for low means by Robert's (1995) exponential proposals."""
    if mean > -1.0:
        while True:
            x = mean + rng.standard_normal()
            if x > 0.0:
                return x
    rate = 0.5 * (math.sqrt(mean * mean + 4.0) - mean)
    while True:
        x = rng.standard_exponential() / rate
        if rng.random() <= math.exp(-0.5 * (x - mean - rate) ** 2):
            return x


@nb.njit(cache=True, nogil=True)
def accumulator(v: float, sv: float, A: float, B: float, t0: float, rng: Any) -> float:
    """Finishing time of one choice."""
    distance = B + A * rng.random()
    return t0 + distance / (sv * _positive_normal(v / sv, rng))


@inner(fastmath=FAST, forceinline=True)
def _won_early(t: Array, n: int, v: float, A: float, B: float, logp: Array, by: Array) -> None:
    """`_won` of the first n times, where differences are exact."""
    b, (log_Phi_v, hazard) = A + B, upper_tail(-v)
    constant = -math.log(A) - log_Phi_v
    for i in range(n):
        u = 1.0 / t[i]
        value, by_v, by_B, by_b = log_covered(u, v, B, b)
        logp[i] += value + constant
        by[0, i] = by_v - hazard
        by[1, i] = by_b - 1.0 / A
        by[2, i] = by_B + by_b
        by[3, i] = -u * (B * by_B + b * by_b)


@inner(fastmath=FAST, forceinline=True)
def _won_late(t: Array, first: int, v: float, A: float, B: float, logp: Array, by: Array) -> None:
    """`_won` of the others, by quadrature."""
    b, (log_Phi_v, hazard) = A + B, upper_tail(-v)
    by[:, first:] = 0.0
    for node, weight in _GAUSS:
        k = B + A * node
        for i in range(first, len(t)):
            u = 1.0 / t[i]
            top, e = min(max(B * u - v, 0.0), b * u - v), k * u - v
            p = weight * exp_negative(0.5 * (top - e) * (top + e))
            slope = (1.0 - k * u * e) * p
            by[0, i] += k * e * p
            by[1, i] += node * slope
            by[2, i] += slope
            by[3, i] += k * p
    for i in range(first, len(t)):
        u, f = 1.0 / t[i], by[3, i]
        top = min(max(B * u - v, 0.0), b * u - v)
        logp[i] += log(f * u) + log(u) - 0.5 * top * top - LOG_2PI_HALF - log_Phi_v
        by[0, i] = by[0, i] / f - hazard
        by[1, i] /= f
        by[2, i] /= f
        by[3, i] = -u * (1.0 + A * by[1, i] + B * by[2, i])


@inner(fastmath=FAST, forceinline=True)
def _lost_early(t: Array, n: int, v: float, A: float, B: float, logp: Array, by: Array) -> None:
    """`_lost` of the first n times, where differences are exact."""
    b, rises, (log_Phi_v, hazard) = A + B, v >= 0.0, upper_tail(-v)
    for i in range(n):
        u = 1.0 / t[i]
        x, y = B * u - v, b * u - v
        top = min(y, 0.0) if rises else v
        (phi_v, tail_v), (phi_x, tail_x), (phi_y, tail_y) = (
            scaled_normal(v, top),
            scaled_normal(x, top),
            scaled_normal(y, top),
        )
        mass, per_D = between(x, y, tail_x, tail_y), 1.0 / (y - x)
        # Phi(v), where it is needed, and max(e, 0) averaged over x < e < y less Phi(-v), which is the same where x > 0.
        Phi_v = 1.0 - tail_v if rises else tail_v
        flat = Phi_v if x >= 0.0 else max(y, 0.0) * per_D - tail_v
        S = flat + (phi_y - abs(y) * tail_y - phi_x + abs(x) * tail_x) * per_D
        # Phi(y) - Phi(-v)
        moved = Phi_v - tail_y if y >= 0.0 else tail_y - tail_v
        logp[i] += log(S) - 0.5 * top * top - log_Phi_v
        by[0, i] = (phi_v - mass * per_D) / S - hazard
        by[1, i] = (moved / S - 1.0) / A
        by[2, i] = mass / (A * S)
        by[3, i] = -u * (A * by[1, i] + B * by[2, i])


@inner(fastmath=FAST, forceinline=True)
def _lost_late(t: Array, first: int, v: float, A: float, B: float, logp: Array, by: Array) -> None:
    """`_lost` of the others, by quadrature."""
    b, (log_Phi_v, hazard) = A + B, upper_tail(-v)
    by[:, first:] = 0.0
    for node, weight in _GAUSS:
        for i in range(first, len(t)):
            u = 1.0 / t[i]
            top, e, e_above = min(max(-v, 0.0), b * u - v), B * node * u - v, (B + A * node) * u - v
            below = weight * B * exp_negative(0.5 * (top - e) * (top + e))
            above = weight * A * exp_negative(0.5 * (top - e_above) * (top + e_above))
            by[0, i] += below * e + (1.0 - node) * above * e_above
            by[1, i] += below + above
            by[2, i] += above
            by[3, i] += below + (1.0 - node) * above
    for i in range(first, len(t)):
        u, S = 1.0 / t[i], by[3, i]
        top = min(max(-v, 0.0), b * u - v)
        logp[i] += log(S) + log(u) - 0.5 * top * top - LOG_2PI_HALF - log_Phi_v
        by[0, i] = by[0, i] / S - hazard
        by[1, i] = (by[1, i] / S - 1.0) / A
        by[2, i] /= A * S
        by[3, i] = -u * (A * by[1, i] + B * by[2, i])


@inner()
def _early(t: Array, A: float, B: float) -> int:
    """How many of the times are early."""
    n = len(t)
    while n > 0 and t[n - 1] > _LATE * (A + B):
        n -= 1
    return n


@inner()
def _won(t: Array, own: Array, logp: Array, by: Array) -> None:
    """Add log f to logp; by: its derivatives by v, sv, A, B and t."""
    v, A, B = own[0] / own[1], own[2] / own[1], own[3] / own[1]
    n = _early(t, A, B)
    _won_early(t, n, v, A, B, logp, by[1:])
    _won_late(t, n, v, A, B, logp, by[1:])
    _in_units(own, by)


@inner()
def _lost(t: Array, own: Array, logp: Array, by: Array) -> None:
    """Add log S to logp; by: its derivatives by v, sv, A, B and t."""
    v, A, B = own[0] / own[1], own[2] / own[1], own[3] / own[1]
    n = _early(t, A, B)
    _lost_early(t, n, v, A, B, logp, by[1:])
    _lost_late(t, n, v, A, B, logp, by[1:])
    _in_units(own, by)


@inner(fastmath=FAST)
def _in_units(own: Array, by: Array) -> None:
    """Derivatives by v, sv, A and B in place of nothing and those by v / sv, A / sv and B / sv."""
    v, sv, A, B = own[0], own[1], own[2], own[3]
    for i in range(by.shape[1]):
        by_v, by_A, by_B = by[1, i] / sv, by[2, i] / sv, by[3, i] / sv
        by[0, i] = by_v
        by[1, i] = -(v * by_v + A * by_A + B * by_B) / sv
        by[2, i] = by_A
        by[3, i] = by_B


_race = race_density(_won, _lost, 4)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_density(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
    """Log density and gradient of a run; theta: v0, ..., sv0, ..., A0, ..., B0, ..., t0."""
    _race(theta, choice, rt, logp, grad)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_survival(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
    """Log probability of a later response, and gradient, of a run; theta: v0, ..., sv0, ..., A0, ..., B0, ..., t0."""
    _race(theta, NOBODY, rt, logp, grad)


_MEAN = "mean drift rate of choice {choice}"
_DRIFT = parameter("v", -1.0, 7.0, _MEAN, "1/s", typical=(0.5, 4.0), prior=plain_normal(2.0, 2.0, 1.0, 1.0))
_SD = "standard deviation of the drift rate of choice {choice}"
_DRIFT_SD = replace(
    parameter("sv", 0.5, 3.0, _SD, "1/s", typical=(0.5, 1.5), prior=log_normal(1.0, 0.5, slope=0.3, group_sd=0.2)),
    fixed=1.0,
)


def _elsewhere(n: int) -> dict[str, Counterpart]:
    """Counterparts of the model of n choices."""
    # The networks of HSSM have a standard deviation of 0.1.
    one = dict.fromkeys((f"sv{choice}" for choice in range(n)), 1.0)
    small = Counterpart(
        f"lba{n}",
        {**each("v{}", "v{}/10", n, first=0), "A": "A0/10", "b": "(A0 + B0)/10"},
        without={"t0": 0.0, **one, **shared(n, "A", "B")},
        note="sd of drifts 0.1; its likelihood asks for one positive drift, ours for all",
    )
    own = {**each("A[{}]", "A{}", n), "t0": "t0"}
    return {
        "HSSM": small,
        "ssm-simulators": small,
        "rtdists": Counterpart(
            "dLBA, norm",
            {**each("mean_v[{}]", "v{}", n), **each("sd_v[{}]", "sv{}", n), **own, **each("b[{}]", "A{} + B{}", n)},
            note="posdrift = TRUE",
        ),
        "EMC2": Counterpart(
            "LBA", {**each("v[{}]", "v{}", n), **each("sv[{}]", "sv{}", n), **own, **each("B[{}]", "B{}", n)}
        ),
        "SSM.jl": Counterpart(
            "LBA",
            {**each("ν[{}]", "v{}", n), **each("σ[{}]", "sv{}", n), "A": "A0", "k": "B0", "τ": "t0"},
            without=shared(n, "A", "B"),
            note="it asks for one positive drift, ours for all",
        ),
    }


def of_choices(n: int) -> DecisionModel:
    """The model of n choices."""
    return DecisionModel(
        name="lba" if n == 2 else f"lba{n}",
        title=f"linear ballistic accumulators, {n} choices",
        parameters=(*for_every_choice(n, _DRIFT, _DRIFT_SD, START_RANGE, START_GAP), RACE_NON_DECISION),
        outcomes=rt_and_response(*range(n)),
        accumulator=accumulator,
        clock=Clock(tail="late"),
        log_density=log_density,
        log_survival=log_survival,
        symmetries=Symmetries(
            shift="t0",
            per_choice=("v", "sv", "A", "B"),
            time_unit=lambda at: (at["A"] + at["B"]) / at["sv"],
            reduced={"v": lambda at: at["v"] / at["sv"], "A": lambda at: at["A"] / (at["A"] + at["B"])},
        ),
        discretisation=EXACT,
        citation="Brown & Heathcote (2008), Cognitive Psychology 57:153",
        counterparts=_elsewhere(n),
    )


SIMULATORS = tuple(of_choices(n) for n in (2, 3, 4))
