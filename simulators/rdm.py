"""Racing diffusions: every choice is a Wiener process that starts anywhere below a common threshold."""

import math
from dataclasses import replace
from typing import Any

import numba as nb
from hddm_sbi.simulators._elsewhere import each
from hddm_sbi.simulators._parameters import RACE_NON_DECISION, START_GAP, START_RANGE, for_every_choice, log_normal

from hddm_sbi.numerics.vecmath import PER_SQRT_2PI, upper_tail
from hddm_sbi.simulation import EXACT, Counterpart, DecisionModel, Symmetries, parameter, rt_and_response
from hddm_sbi.simulation.accumulators import normal, race_density
from hddm_sbi.types import Array

# dx_i = v_i dt + dW_i, x_i(0) ~ uniform on [0, A], response i where x_i first reaches B + A, rt = t0 + that time.
# The distance k to the threshold is uniform on [B, B + A]. With x = (k - v t) / sqrt(t), y = (k + v t) / sqrt(t):
#   g_k(t) = k t^-3/2 phi(x)                          density of the time to cover k
#   S_k(t) = Phi(x) - E_k,   E_k = exp(2 v k) Phi(-y)
#   f = 1/A integral g_k dk = ([v Phi(x) - phi(x) / sqrt(t)] from k = B to B + A) / A
#   S = 1/A integral S_k dk = ([sqrt(t) (x Phi(x) + phi(x)) - (E_k + Phi(x)) / 2v] from k = B to B + A) / A
# (Logan et al. 2014; Tillman, Van Zandt & Logan 2020).


#: a slower drift is taken for this one, as S divides by it; their laws differ by as little.
_SLOWEST = 1e-7


@nb.njit(cache=True, nogil=True)
def accumulator(v: float, A: float, B: float, t0: float, rng: Any) -> float:
    """Finishing time of one choice: inverse Gaussian, by the roots of Michael, Schucany & Haas (1976)."""
    k = B + A * rng.random()
    mean = k / v
    y = rng.standard_normal() ** 2 / (k * v)
    # The smaller root x = mean (1 + y/2 - sqrt(y + y²/4)), without its cancellation.
    x = mean / (1.0 + 0.5 * y + math.sqrt(y + 0.25 * y * y))
    if rng.random() * (mean + x) > mean:
        x = mean * mean / x
    return t0 + x


@nb.njit(cache=True, nogil=True)
def _tilted_tail(v: float, k: float, y: float) -> float:
    """exp(2 v k) Phi(-y), y = (k + v t) / sqrt(t), without overflow: far out by Mills' continued fraction."""
    if y < 25.0:
        return math.exp(2.0 * v * k) * 0.5 * math.erfc(y / math.sqrt(2.0))
    fraction = y
    for n in range(20, 0, -1):
        fraction = y + n / fraction
    return PER_SQRT_2PI * math.exp(2.0 * v * k - 0.5 * y * y) / fraction


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _winner(t: float, v: float, A: float, B: float) -> tuple[float, float, float, float, float]:
    """log f and its derivatives by v, A, B and t."""
    v = max(v, _SLOWEST)
    root = math.sqrt(t)
    low, high = (B - v * t) / root, (B + A - v * t) / root
    if low > 0.0:
        # Early, everything is in units of phi(low), which may underflow.
        log_unit = -0.5 * low * low + math.log(PER_SQRT_2PI)
        phi_l, phi_h = 1.0, math.exp(0.5 * (low - high) * (low + high))
        between = 1.0 / upper_tail(low)[1] - phi_h / upper_tail(high)[1]
    else:
        log_unit = 0.0
        (phi_l, Phi_l), (phi_h, Phi_h) = normal(low), normal(high)
        between = Phi_h - Phi_l
    f = (v * between + (phi_l - phi_h) / root) / A
    if not f > 0.0:
        return -math.inf, 0.0, 0.0, 0.0, 0.0
    g_l, g_h = B * phi_l / (t * root), (B + A) * phi_h / (t * root)
    by_v = (between - v * root * (phi_h - phi_l) + low * phi_l - high * phi_h) / A
    slope_l, slope_h = -(B + v * t) / (2.0 * t * root), -(B + A + v * t) / (2.0 * t * root)
    by_t = v * (phi_h * slope_h - phi_l * slope_l) + (high * phi_h * slope_h - low * phi_l * slope_l) / root
    by_t -= (phi_l - phi_h) / (2.0 * t * root)
    return log_unit + math.log(f), by_v / f, (g_h / f - 1.0) / A, (g_h - g_l) / (A * f), by_t / (A * f)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _loser(t: float, v: float, A: float, B: float) -> tuple[float, float, float, float]:
    """log S and its derivatives by v, A and B. (By t it is -f / S.)"""
    v = max(v, _SLOWEST)
    root = math.sqrt(t)
    low, high = (B - v * t) / root, (B + A - v * t) / root
    phi_l, Phi_l = normal(low)
    phi_h, Phi_h = normal(high)
    E_l, E_h = _tilted_tail(v, B, (B + v * t) / root), _tilted_tail(v, B + A, (B + A + v * t) / root)
    E = ((E_h - E_l) + (Phi_h - Phi_l)) / (2.0 * v)
    S = (root * (high * Phi_h + phi_h - low * Phi_l - phi_l) - E) / A
    k_E = ((B + A) * E_h - B * E_l - E + v * t * (Phi_h - Phi_l) - root * (phi_h - phi_l)) / (2.0 * v)
    S_l, S_h = Phi_l - E_l, Phi_h - E_h
    if not S > 0.0:
        return -math.inf, 0.0, 0.0, 0.0
    return math.log(S), -2.0 * k_E / (A * S), (S_h / S - 1.0) / A, (S_h - S_l) / (A * S)


_race = race_density(_winner, _loser)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_density(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
    """Log density and gradient of a run; theta: v0, ..., A, B, t0."""
    _race(theta, choice, rt, logp, grad)


_DRIFT = parameter(
    "v", 0.1, 8.0, "drift rate of choice {choice}", "1/s", typical=(0.5, 5.0), prior=log_normal(2.0, 0.7, slope=0.5)
)
_A = replace(START_RANGE, low=0.05, high=1.5)
_B = replace(START_GAP, low=0.3, high=3.0, typical=(0.5, 2.0), prior=log_normal(1.0, 0.6))


def _elsewhere(n: int) -> dict[str, Counterpart]:
    """Counterparts of the model of n choices."""
    three = {**each("v{}", "v{}", n, first=0), "A": "A", "b": "A + B", "t": "t0"}
    return ({"ssm-simulators": Counterpart("racing_diffusion_3", three)} if n == 3 else {}) | {
        "EMC2": Counterpart("RDM", {**each("v[{}]", "v{}", n), "A": "A", "B": "B", "t0": "t0"}, note="s = 1"),
        "SSM.jl": Counterpart("RDM", {**each("ν[{}]", "v{}", n), "A": "A", "k": "B", "τ": "t0"}),
    }


def _simulator(n: int) -> DecisionModel:
    return DecisionModel(
        name="rdm" if n == 2 else f"rdm{n}",
        title=f"racing diffusions, {n} choices",
        parameters=(*for_every_choice(_DRIFT, n), _A, _B, RACE_NON_DECISION),
        outcomes=rt_and_response(*range(n)),
        accumulator=accumulator,
        log_density=log_density,
        symmetries=Symmetries(shift="t0", scale="B", scale_powers={"v": 1.0, "A": -1.0}, per_choice="v"),
        discretisation=EXACT,
        citation="Tillman, Van Zandt & Logan (2020), Psychonomic Bulletin & Review 27:911",
        counterparts=_elsewhere(n),
    )


SIMULATORS = tuple(_simulator(n) for n in (2, 3, 4))
