"""Racing diffusions: every choice is a Wiener process that starts anywhere below a common threshold."""

import math
from dataclasses import replace
from typing import Any

import numba as nb
from hddm_sbi.simulators._elsewhere import each, shared
from hddm_sbi.simulators._parameters import RACE_NON_DECISION, START_GAP, START_RANGE, for_every_choice, log_normal

from hddm_sbi.numerics import FAST, PER_SQRT_2PI, inner, log, scaled_tail
from hddm_sbi.simulation import EXACT, Counterpart, DecisionModel, Symmetries, parameter, rt_and_response
from hddm_sbi.simulation.accumulators import NOBODY, between, log_covered, race_density, scaled_normal
from hddm_sbi.types import Array

# dx_i = v_i dt + dW_i, x_i(0) ~ uniform on [0, A_i], response i where x_i first reaches b_i = A_i + B_i, rt = t0 + that
# time. Of one of them, the distance k to the threshold is uniform on [B, b]. With u = t^-1/2, w = v t^1/2, x = k u - w
# and y = k u + w:
#   g_k(t) = k u³ phi(x)                          density of the time to cover k
#   S_k(t) = Phi(x) - E_k,   E_k = exp(2 v k) Phi(-y) = phi(x) Phi(-y) / phi(y)
#   f = 1/A integral g_k dk: see `log_covered`
#   S = 1/A integral S_k dk = [G(x) - (E_k + Phi(x)) / 2w from k = B to b] / (A u),   G(x) = x Phi(x) + phi(x)
# (Logan et al. 2014; Tillman, Van Zandt & Logan 2020), S in units of exp(-top²/2).


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


@inner(fastmath=FAST)
def _won(t: Array, own: Array, logp: Array, by: Array) -> None:
    """Add log f to logp; by: its derivatives by v, A, B and t."""
    v, A, B = max(own[0], _SLOWEST), own[1], own[2]
    b, log_A = A + B, math.log(A)
    for i in range(len(t)):
        root = math.sqrt(t[i])
        u = 1.0 / root
        value, by_w, by_B, by_b = log_covered(u, v * root, B, b)
        logp[i] += value + log(u) - log_A
        by[0, i] = root * by_w
        by[1, i] = by_b - 1.0 / A
        by[2, i] = by_B + by_b
        by[3, i] = 0.5 * u * (v * by_w - u * (1.0 + B * by_B + b * by_b))


@inner(fastmath=FAST)
def _lost(t: Array, own: Array, logp: Array, by: Array) -> None:
    """Add log S to logp; by: its derivatives by v, A, B and t."""
    v, A, B = max(own[0], _SLOWEST), own[1], own[2]
    b = A + B
    for i in range(len(t)):
        root = math.sqrt(t[i])
        u, w = 1.0 / root, v * root
        low, high = B * u - w, b * u - w
        top = min(high, 0.0)
        (phi_l, tail_l), (phi_h, tail_h) = scaled_normal(low, top), scaled_normal(high, top)
        mass = between(low, high, tail_l, tail_h)
        E_l = phi_l * scaled_tail(low + 2.0 * w) / PER_SQRT_2PI
        E_h = phi_h * scaled_tail(high + 2.0 * w) / PER_SQRT_2PI
        S_h = (1.0 - tail_h if high >= 0.0 else tail_h) - E_h
        # G without its part max(x, 0), whose difference is that of the ends where both are positive.
        G_l, G_h = phi_l - abs(low) * tail_l, phi_h - abs(high) * tail_h
        E = (E_h - E_l + mass) / (2.0 * v)
        S = root * (max(high, 0.0) - max(low, 0.0) + G_h - G_l) - E
        k_E = (b * E_h - B * E_l - E + v * t[i] * mass - root * (phi_h - phi_l)) / (2.0 * v)
        logp[i] += log(S / A) - 0.5 * top * top
        by[0, i] = -2.0 * k_E / S
        by[1, i] = S_h / S - 1.0 / A
        by[2, i] = (mass - (E_h - E_l)) / S
        by[3, i] = (v * by[0, i] - A * by[1, i] - B * by[2, i]) / (2.0 * t[i])


_race = race_density(_won, _lost, 3)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_density(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
    """Log density and gradient of a run; theta: v0, ..., A0, ..., B0, ..., t0."""
    _race(theta, choice, rt, logp, grad)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_survival(theta: Array, choice: int, rt: Array, logp: Array, grad: Array) -> None:
    """Log probability of a later response, and gradient, of a run; theta: v0, ..., A0, ..., B0, ..., t0."""
    _race(theta, NOBODY, rt, logp, grad)


_DRIFT = parameter(
    "v", 0.1, 8.0, "drift rate of choice {choice}", "1/s", typical=(0.5, 5.0), prior=log_normal(2.0, 0.7, slope=0.5)
)
_A = replace(START_RANGE, low=0.05, high=1.5)
_B = replace(START_GAP, high=3.0, typical=(0.5, 2.0), prior=log_normal(1.0, 0.6))


def _elsewhere(n: int) -> dict[str, Counterpart]:
    """Counterparts of the model of n choices."""
    drifts = each("v{}", "v{}", n, first=0)
    three = Counterpart("racing_diffusion_3", {**drifts, "A": "A0", "b": "A0 + B0", "t": "t0"}, shared(n, "A", "B"))
    own = {name: ours for stem in "vAB" for name, ours in each(f"{stem}[{{}}]", f"{stem}{{}}", n).items()}
    return ({"ssm-simulators": three} if n == 3 else {}) | {
        "EMC2": Counterpart("RDM", {**own, "t0": "t0"}, note="s = 1"),
        "SSM.jl": Counterpart(
            "RDM", {**each("ν[{}]", "v{}", n), "A": "A0", "k": "B0", "τ": "t0"}, without=shared(n, "A", "B")
        ),
    }


def of_choices(n: int) -> DecisionModel:
    """The model of n choices."""
    return DecisionModel(
        name="rdm" if n == 2 else f"rdm{n}",
        title=f"racing diffusions, {n} choices",
        parameters=(*for_every_choice(n, _DRIFT, _A, _B), RACE_NON_DECISION),
        outcomes=rt_and_response(*range(n)),
        accumulator=accumulator,
        log_density=log_density,
        log_survival=log_survival,
        symmetries=Symmetries(
            shift="t0",
            per_choice=("v", "A", "B"),
            time_unit=lambda at: (at["A"] + at["B"]) ** 2,
            reduced={"v": lambda at: at["v"] * (at["A"] + at["B"]), "A": lambda at: at["A"] / (at["A"] + at["B"])},
        ),
        discretisation=EXACT,
        citation="Tillman, Van Zandt & Logan (2020), Psychonomic Bulletin & Review 27:911",
        counterparts=_elsewhere(n),
    )


SIMULATORS = tuple(of_choices(n) for n in (2, 3, 4))
