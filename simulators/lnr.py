"""Lognormal race: every choice finishes at a lognormal time, and the first one is the response."""

import math
from typing import Any

import numba as nb
from hddm_sbi.simulators._elsewhere import each
from hddm_sbi.simulators._parameters import RACE_NON_DECISION, for_every_choice, log_normal, plain_normal

from hddm_sbi.numerics import FAST, LOG_2PI_HALF, inner, log, upper_tail
from hddm_sbi.simulation import EXACT, Counterpart, DecisionModel, Symmetries, parameter, rt_and_response
from hddm_sbi.simulation.accumulators import NOBODY, race_density
from hddm_sbi.types import Array

# t_i = exp(m_i + s_i e_i), e_i ~ N(0, 1), rt = t0 + min t_i. With e_i = (log(rt - t0) - m_i) / s_i:
#   log p(rt, c) = log phi(e_c) - log s_c - log(rt - t0) + sum_{j != c} log Phi(-e_j)


@nb.njit(cache=True, nogil=True)
def accumulator(m: float, s: float, t0: float, rng: Any) -> float:
    """Finishing time of one choice."""
    return t0 + math.exp(m + s * rng.standard_normal())


@inner(fastmath=FAST)
def _won(t: Array, own: Array, logp: Array, by: Array) -> None:
    """Add log f to logp; by: its derivatives by m, s and t."""
    m, s = own[0], own[1]
    log_s = math.log(s)
    for i in range(len(t)):
        log_t = log(t[i])
        e = (log_t - m) / s
        logp[i] -= log_t + log_s + LOG_2PI_HALF + 0.5 * e * e
        by[0, i] = e / s
        by[1, i] = (e * e - 1.0) / s
        by[2, i] = -(1.0 + e / s) / t[i]


@inner(fastmath=FAST)
def _lost(t: Array, own: Array, logp: Array, by: Array) -> None:
    """Add log S to logp; by: its derivatives by m, s and t."""
    m, s = own[0], own[1]
    for i in range(len(t)):
        e = (log(t[i]) - m) / s
        value, hazard = upper_tail(e)
        logp[i] += value
        by[0, i] = hazard / s
        by[1, i] = hazard * e / s
        by[2, i] = -hazard / (s * t[i])


_race = race_density(_won, _lost, 2)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_density(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
    """Log density and gradient of a run; theta: m0, ..., s0, ..., t0."""
    _race(theta, choice, rt, logp, grad)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_survival(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
    """Log probability of a later response, and gradient, of a run; theta: m0, ..., s0, ..., t0."""
    _race(theta, NOBODY, rt, logp, grad)


_LOG_MEAN = "mean of the log finishing time of choice {choice}"
_M = parameter("m", -3.0, 1.5, _LOG_MEAN, "log s", typical=(-1.5, 0.5), prior=plain_normal(-0.5, 1.0, 0.5, 0.5))
_LOG_SD = "standard deviation of the log finishing time of choice {choice}"
_S = parameter("s", 0.1, 1.5, _LOG_SD, "1", typical=(0.2, 0.8), prior=log_normal(0.5, 0.6, group_sd=0.3))


def _elsewhere(n: int) -> dict[str, Counterpart]:
    """Counterparts of the model of n choices."""
    there = {**each("mu{}", "m{}", n, first=0), **each("sigma{}", "s{}", n, first=0), "t": "t0"}
    return {
        "ssm-simulators": Counterpart(f"lnr{n}", there),
        "EMC2": Counterpart("LNR", {**each("m[{}]", "m{}", n), **each("s[{}]", "s{}", n), "t0": "t0"}),
        "SSM.jl": Counterpart("LNR", {**each("ν[{}]", "m{}", n), **each("σ[{}]", "s{}", n), "τ": "t0"}),
    }


def of_choices(n: int) -> DecisionModel:
    """The model of n choices."""
    return DecisionModel(
        name="lnr" if n == 2 else f"lnr{n}",
        title=f"lognormal race, {n} choices",
        parameters=(*for_every_choice(n, _M, _S), RACE_NON_DECISION),
        outcomes=rt_and_response(*range(n)),
        accumulator=accumulator,
        log_density=log_density,
        log_survival=log_survival,
        symmetries=Symmetries(
            shift="t0",
            per_choice=("m", "s"),
            time_unit=lambda at: at["m"].exp(),
            reduced={"s": lambda at: at["s"]},
        ),
        discretisation=EXACT,
        citation="Heathcote & Love (2012), Frontiers in Psychology 3:292; Rouder et al. (2015), Psychometrika 80:491",
        counterparts=_elsewhere(n),
    )


SIMULATORS = tuple(of_choices(n) for n in (2, 3, 4))
