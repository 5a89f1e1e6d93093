"""Linear ballistic accumulators: every choice rises in a straight line, at a speed and from a start that vary."""

import math
from typing import Any

import numba as nb
import numpy as np
from hddm_sbi.simulators._elsewhere import each
from hddm_sbi.simulators._parameters import RACE_NON_DECISION, START_GAP, START_RANGE, for_every_choice, plain_normal

from hddm_sbi.numerics.vecmath import PER_SQRT_2PI, upper_tail
from hddm_sbi.simulation import EXACT, Clock, Counterpart, DecisionModel, Symmetries, parameter, rt_and_response
from hddm_sbi.simulation.accumulators import normal, race_density
from hddm_sbi.types import Array

# x_i(t) = start_i + d_i t, start_i ~ uniform on [0, A], d_i ~ N(v_i, 1) given d_i > 0, response i where x_i first
# reaches b = A + B, rt = t0 + that time. With x = (B - v t) / t, y = (b - v t) / t (Brown & Heathcote 2008):
#   f = ([phi(x) - v Phi(x)] - [phi(y) - v Phi(y)]) / (A Phi(v))
#   F = t/A ([phi(x) - x Phi(-x)] - [phi(y) - y Phi(-y)]) / Phi(v),   S = 1 - F

# Late, x and y lie close together and all of this cancels; there the integrals behind it are summed by Gauss-Legendre,
#   f = 1/A integral from B to b of k phi(k/t - v) / t² dk / Phi(v)
#   S = 1/A integral from 0 to b/t of min(A, b - u t) phi(u - v) du / Phi(v)

#: on [0, 1]; exact to rounding for phi over an interval no longer than 4.
_NODES, _WEIGHTS = (0.5 * np.polynomial.legendre.leggauss(24)[0] + 0.5, 0.5 * np.polynomial.legendre.leggauss(24)[1])


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
def accumulator(v: float, A: float, B: float, t0: float, rng: Any) -> float:
    """Finishing time of one choice."""
    distance = B + A * rng.random()
    return t0 + distance / _positive_normal(v, rng)


@nb.njit(cache=True, nogil=True)
def _given_positive(e: float, log_Phi_v: float) -> float:
    """phi(e) / Phi(v): the density of a drift, e sds from its mean v, given that it is positive."""
    return PER_SQRT_2PI * math.exp(-0.5 * e * e - log_Phi_v)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _late_winner(t: float, v: float, A: float, B: float) -> tuple[float, float, float, float, float]:
    """log f and its derivatives by v, A, B and t, where 4 t > A + B."""
    log_Phi_v, hazard = upper_tail(-v)
    f, by_v, by_t = 0.0, 0.0, 0.0
    for i in range(len(_NODES)):
        k = B + A * _NODES[i]
        e = k / t - v
        g = _WEIGHTS[i] * k * _given_positive(e, log_Phi_v) / (t * t)
        f += g
        by_v += g * e
        by_t += g * (e * k / t - 2.0) / t
    g_b = (A + B) * _given_positive((A + B) / t - v, log_Phi_v) / (t * t)
    g_B = B * _given_positive(B / t - v, log_Phi_v) / (t * t)
    if not f > 0.0:
        return -math.inf, 0.0, 0.0, 0.0, 0.0
    return math.log(f), by_v / f - hazard, (g_b / f - 1.0) / A, (g_b - g_B) / (A * f), by_t / f


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _late_loser(t: float, v: float, A: float, B: float) -> tuple[float, float, float, float]:
    """log S and its derivatives by v, A and B, where 4 t > A + B."""
    log_Phi_v, hazard = upper_tail(-v)
    S, by_v, below, above = 0.0, 0.0, 0.0, 0.0
    for i in range(len(_NODES)):
        u = _NODES[i] * B / t
        mass = _WEIGHTS[i] * B / t * _given_positive(u - v, log_Phi_v)
        below += mass
        S += mass
        by_v += mass * (u - v)
        u = (B + _NODES[i] * A) / t
        mass = _WEIGHTS[i] * A / t * _given_positive(u - v, log_Phi_v)
        above += mass
        S += (1.0 - _NODES[i]) * mass
        by_v += (1.0 - _NODES[i]) * mass * (u - v)
    return math.log(S), by_v / S - hazard, ((below + above) / S - 1.0) / A, above / (A * S)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _winner(t: float, v: float, A: float, B: float) -> tuple[float, float, float, float, float]:
    """log f and its derivatives by v, A, B and t."""
    if 4.0 * t > A + B:
        return _late_winner(t, v, A, B)
    x, y = B / t - v, (A + B) / t - v
    if x > 0.0:
        # Early, everything is in units of phi(x), which may underflow.
        log_unit = -0.5 * x * x + math.log(PER_SQRT_2PI)
        phi_x, phi_y = 1.0, math.exp(0.5 * (x - y) * (x + y))
        between = 1.0 / upper_tail(x)[1] - phi_y / upper_tail(y)[1]
    else:
        log_unit = 0.0
        (phi_x, Phi_x), (phi_y, Phi_y) = normal(x), normal(y)
        between = Phi_y - Phi_x
    log_Phi_v, hazard = upper_tail(-v)
    area = phi_x - phi_y + v * between
    if not area > 0.0:
        return -math.inf, 0.0, 0.0, 0.0, 0.0
    # d/dx [phi(x) - v Phi(x)] = -(v + x) phi(x), and v + x = B / t.
    slope_x, slope_y = -(B / t) * phi_x, -((A + B) / t) * phi_y
    by_v = (between - slope_x + slope_y) / area - hazard
    by_t = (-B * slope_x + (A + B) * slope_y) / (t * t * area)
    log_f = log_unit + math.log(area / A) - log_Phi_v
    return log_f, by_v, -slope_y / (t * area) - 1.0 / A, (slope_x - slope_y) / (t * area), by_t


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _loser(t: float, v: float, A: float, B: float) -> tuple[float, float, float, float]:
    """log S and its derivatives by v, A and B. (By t it is -f / S.)"""
    if 4.0 * t > A + B:
        return _late_loser(t, v, A, B)
    x, y = B / t - v, (A + B) / t - v
    log_Phi_v, hazard = upper_tail(-v)
    (log_x, hazard_x), (log_y, hazard_y) = upper_tail(x), upper_tail(y)
    # Phi(-x) / Phi(v), and with phi(x) - x Phi(-x) the integral of Phi(-x) from x on, without cancellation for v < 0.
    tail_x, tail_y = math.exp(log_x - log_Phi_v), math.exp(log_y - log_Phi_v)
    F = t / A * (tail_x * (hazard_x - x) - tail_y * (hazard_y - y))
    S = 1.0 - F
    if not S > 0.0:
        return -math.inf, 0.0, 0.0, 0.0
    by_v = t / A * (tail_y - tail_x) + F * hazard
    return math.log(S), by_v / S, (F - tail_y) / (A * S), (tail_x - tail_y) / (A * S)


_race = race_density(_winner, _loser)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_density(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
    """Log density and gradient of a run; theta: v0, ..., A, B, t0."""
    _race(theta, choice, rt, logp, grad)


_MEAN = "mean drift rate of choice {choice}; its sd is 1"
_DRIFT = parameter("v", -1.0, 7.0, _MEAN, "1/s", typical=(0.5, 4.0), prior=plain_normal(2.0, 2.0, 1.0, 1.0))


def _elsewhere(n: int) -> dict[str, Counterpart]:
    """Counterparts of the model of n choices."""
    # The networks of HSSM have a standard deviation of 0.1.
    small = Counterpart(
        f"lba{n}",
        {**each("v{}", "v{}/10", n, first=0), "A": "A/10", "b": "(A + B)/10"},
        without={"t0": 0.0},
        note="sd of drifts 0.1; its likelihood asks for one positive drift, ours for all",
    )
    return {
        "HSSM": small,
        "ssm-simulators": small,
        "rtdists": Counterpart(
            "dLBA, norm",
            {**each("mean_v[{}]", "v{}", n), "A": "A", "b": "A + B", "t0": "t0"},
            note="sd_v = 1, posdrift = TRUE",
        ),
        "EMC2": Counterpart("LBA", {**each("v[{}]", "v{}", n), "A": "A", "B": "B", "t0": "t0"}, note="sv = 1"),
        "SSM.jl": Counterpart(
            "LBA",
            {**each("ν[{}]", "v{}", n), "A": "A", "k": "B", "τ": "t0"},
            note="σ = 1; it asks for one positive drift, ours for all",
        ),
    }


def _simulator(n: int) -> DecisionModel:
    return DecisionModel(
        name="lba" if n == 2 else f"lba{n}",
        title=f"linear ballistic accumulators, {n} choices",
        parameters=(*for_every_choice(_DRIFT, n), START_RANGE, START_GAP, RACE_NON_DECISION),
        outcomes=rt_and_response(*range(n)),
        accumulator=accumulator,
        clock=Clock(tail="late"),
        log_density=log_density,
        symmetries=Symmetries(shift="t0", scale="B", time_power=1.0, scale_powers={"A": -1.0}, per_choice="v"),
        discretisation=EXACT,
        citation="Brown & Heathcote (2008), Cognitive Psychology 57:153",
        counterparts=_elsewhere(n),
    )


SIMULATORS = tuple(_simulator(n) for n in (2, 3, 4))
