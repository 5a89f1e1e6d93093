"""What survives of the Wiener process between two constant bounds, whose drift may differ between trials."""

import math

import numba as nb
import numpy as np

from hddm_sbi.numerics import FAST, PER_SQRT_2PI, exp_negative, log_positive, tail_ratio
from hddm_sbi.types import Array

# On the scale A = 1: S(u, V, Q, w) with u = t / A², a drift from N(V, Q), V = v A >= 0, Q = q A², and w the start as
# seen from the lower bound. Of a fixed drift x,
#   S = 2 pi sum_k k exp(-k² pi² u / 2) [e(1 - w) sin(k pi (1 - w)) + e(-w) sin(k pi w)] / (x² + k² pi²)
#       e(c) = exp(x c - x² u / 2)                                                                       large u
#     = 1 + sum_d s_d [P_d + R_d]                                                                        small u
#       P_d = exp(x (c - d)) Phi((x u - d) / u^1/2),  R_d = exp(x (c + d)) Phi(-(x u + d) / u^1/2)
# with d the distances to the bounds and their mirror images, c = 1 - w at the upper bound and -w at the lower one.
#
# Averaged over x, images have a closed form, as exp(a x) Phi(b x - e) of a normal x is one again. With D = 1 + Q u,
#   P_d = exp(a V + a² Q / 2) Phi(((V + a Q) u - d) / (u D)^1/2),  a = c - d;  R_d alike, a = c + d
# and a term of the series has D^-1/2 exp((Q c² + 2 V c - V² u) / 2D) for e(c), and for 1 / (x² + k² pi²) its mean under
# N((V + Q c) / D, Q / D). The trapezoid rule takes that mean: with y = k pi (D / 2Q)^1/2, the error of its poles is
# exp(y² - 2 pi y / h).

_PI = math.pi
#: reduced times below and above which S is summed by images and by the series, of a drift that does not differ; either
#: is exact to 1e-12 there.
_EARLY = 0.1
#: terms of the series then.
_TERMS = 9
#: the same of a drift that differs, where two terms are enough, and y is 2 at least.
_EARLY_MIXED, _MIXED_TERMS = 0.8, 2
#: step of the trapezoids in 2^1/2 standard deviations, and how many there are to either side: errors of 1e-13.
_STEP, _STEPS = 0.36, 16
#: an image of distance d counts where (d² - 1) / 2u is below this.
_FAR = 36.0
#: standard deviations beyond which all is 0.
_OUT = 1e12
#: variance of the drift, and reduced time, below which either is taken for this.
_LEAST, _SOONEST = 1e-30, 1e-100


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _late(u: Array, first: int, V: float, w: float, log_s: Array, by: Array, room: Array) -> None:
    """log S and its derivatives by V, w and u, rows of by, for u[first:], of a drift that does not differ."""
    n = u.shape[0]
    power, ratio, square = room[0], room[1], room[2]
    for i in range(first, n):
        q = exp_negative(-0.5 * _PI * _PI * u[i])
        power[i], square[i] = 1.0, q * q
        ratio[i] = q * q * q
        log_s[i] = by[0, i] = by[1, i] = by[2, i] = 0.0
    fall, sin, cos = math.exp(-V), math.sin(_PI * w), math.cos(_PI * w)
    sin_k, cos_k, sign = sin, cos, 1.0
    for k in range(1, _TERMS + 1):
        per = k / (V * V + (k * _PI) ** 2)
        c = per * (sign + fall) * sin_k
        c_V = -per * (fall * sin_k + 2.0 * V * c / k)
        c_w = per * (sign + fall) * k * _PI * cos_k
        for i in range(first, n):
            log_s[i] += c * power[i]
            by[0, i] += c_V * power[i]
            by[1, i] += c_w * power[i]
            by[2, i] += k * k * c * power[i]
            power[i] *= ratio[i]
            ratio[i] *= square[i]
        sin_k, cos_k, sign = sin_k * cos + cos_k * sin, cos_k * cos - sin_k * sin, -sign
    constant = math.log(2.0 * _PI) + V * (1.0 - w)
    for i in range(first, n):
        inverse = 1.0 / log_s[i]
        log_s[i] = constant - 0.5 * (V * V + _PI * _PI) * u[i] + log_positive(log_s[i])
        by[0, i] = 1.0 - w - V * u[i] + by[0, i] * inverse
        by[1, i] = -V + by[1, i] * inverse
        by[2, i] = -0.5 * V * V - 0.5 * _PI * _PI * by[2, i] * inverse


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _add_images(
    u: Array, first: int, last: int, V: float, Q: float, w: float, image: int, log_s: Array, by: Array, room: Array
) -> None:
    """Add an image beyond the upper bound, and that of equal factor beyond the lower one, to S / exp(top) and its
    derivatives; u, ascending, counts from `first` on."""
    top, root, per_u, per_D, sign = room[0], room[1], room[2], room[3], -1.0 if image % 2 == 0 else 1.0
    # Distance to the image beyond the upper bound, and its derivative by w; a and its own.
    d_upper, turn = (image + 1.0 - w, -1.0) if image % 2 == 0 else (image + w, 1.0)
    a, a_w = 1.0 - w - d_upper, -1.0 - turn
    # In units of exp(-y² / 2), P and R are tails, or P is a tail less than a number: exp(a V + a² Q / 2), of which both
    # images have one, of opposite sign. Numbers are compared before tails are added: S may be smaller by many digits.
    moved, size = V + a * Q, a * V + 0.5 * a * a * Q
    for i in range(first, last):
        at = moved * u[i]
        only_lower = at > d_upper - 1.0 and at <= d_upper if image > 0 else at <= d_upper
        number = (-sign if image > 0 else 1.0) * exp_negative(min(size - top[i], 0.0)) if only_lower else 0.0
        log_s[i] += number
        by[0, i] += a * number
        by[1, i] += a_w * moved * number
        by[3, i] += 0.5 * a * a * number
    for beyond in range(2 if image > 0 else 1):
        d, c, s = d_upper - beyond, 1.0 - w - beyond, sign * (1.0 - 2.0 * beyond)
        b, b_w = c + d, turn - 1.0
        moved_b = V + b * Q
        for i in range(first, last):
            x = (d - moved * u[i]) * root[i]
            E = 0.5 * (Q * c * c + 2.0 * V * c - V * V * u[i]) * per_D[i]
            unit = s * exp_negative(E - 0.5 * d * d * per_u[i] - top[i])
            x_r = (d + moved_b * u[i]) * root[i]
            (p, of_p), (r, of_r) = tail_ratio(min(abs(x), _OUT)), tail_ratio(min(x_r, _OUT))
            per = unit / (of_p * of_r)
            p, r = p * of_r * per * (1.0 if x >= 0.0 else -1.0), r * of_p * per
            step = unit * PER_SQRT_2PI * root[i]
            log_s[i] += p + r
            by[0, i] += a * p + b * r
            by[1, i] += a_w * moved * p + b_w * moved_b * r - 2.0 * turn * (1.0 + Q * u[i]) * step
            by[2, i] += step * d * per_u[i]
            by[3, i] += 0.5 * (a * a * p + b * b * r) - d * u[i] * step


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _early(u: Array, last: int, V: float, Q: float, w: float, log_s: Array, by: Array, room: Array) -> None:
    """log S and its derivatives by V, w, u and Q, rows of by, for u[:last]."""
    top, root, per_u, per_D = room[0], room[1], room[2], room[3]
    for i in range(last):
        per_u[i], per_D[i] = 1.0 / max(u[i], _SOONEST), 1.0 / (1.0 + Q * u[i])
        past = max(V * u[i] - (1.0 - w), 0.0)
        root[i] = math.sqrt(per_u[i] * per_D[i])
        top[i] = -0.5 * past * past * per_u[i] * per_D[i]
        log_s[i] = by[0, i] = by[1, i] = by[2, i] = by[3, i] = 0.0
    image = 0
    while True:
        nearest = image - w if image % 2 == 0 else image - 1.0 + w
        first = int(np.searchsorted(u[:last], (nearest * nearest - 1.0) / (2.0 * _FAR))) if nearest > 1.0 else 0
        if first == last:
            break
        _add_images(u, first, last, V, Q, w, image, log_s, by, room)
        image += 1
    _take_log(log_s, by, top, 0, last, 4)


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _take_log(log_s: Array, by: Array, top: Array, first: int, last: int, rows: int) -> None:
    """From S / exp(top) and its derivatives to log S and its own."""
    for i in range(first, last):
        inverse = 1.0 / log_s[i]
        log_s[i] = top[i] + log_positive(log_s[i])
        for row in range(rows):
            by[row, i] *= inverse


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _mean_over_drift(k: int, first: int, n: int, room: Array) -> None:
    """Mean of 1 / (x² + k² pi²) over the drift, and its two derivatives by the mean drift, in the last rows of room."""
    m, spread, f, f_1, f_2 = room[1], room[2], room[3], room[4], room[5]
    square = (k * _PI) ** 2
    for i in range(first, n):
        f[i] = f_1[i] = f_2[i] = 0.0
    for j in range(-_STEPS, _STEPS + 1):
        t = j * _STEP
        share = _STEP / math.sqrt(_PI) * math.exp(-t * t)
        for i in range(first, n):
            x = m[i] + spread[i] * t
            r = 1.0 / (x * x + square)
            f[i] += share * r
            f_1[i] -= 2.0 * share * x * r * r
            f_2[i] += share * r * r * (6.0 - 8.0 * square * r)


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _late_mixed(u: Array, first: int, V: float, Q: float, w: float, log_s: Array, by: Array, room: Array) -> None:
    """log S and its derivatives by V, w, u and Q, rows of by, for u[first:]."""
    n, top, m, spread, f, f_1, f_2 = u.shape[0], room[0], room[1], room[2], room[3], room[4], room[5]
    for i in range(first, n):
        log_s[i] = by[0, i] = by[1, i] = by[2, i] = by[3, i] = 0.0
        D = 1.0 + Q * u[i]
        spread[i] = math.sqrt(2.0 * max(Q, _LEAST) / D)
        top[i] = 0.5 * (max(Q * (1.0 - w) ** 2 + 2.0 * V * (1.0 - w), Q * w * w - 2.0 * V * w) - V * V * u[i]) / D
    for c in (1.0 - w, -w):
        for i in range(first, n):
            m[i] = (V + Q * c) / (1.0 + Q * u[i])
        for k in range(1, _MIXED_TERMS + 1):
            _mean_over_drift(k, first, n, room)
            sin, by_w = math.sin(k * _PI * abs(c)), k * _PI * math.cos(k * _PI * c) * (-1.0 if c > 0.0 else 1.0)
            for i in range(first, n):
                per = 1.0 / (1.0 + Q * u[i])
                E = 0.5 * (Q * c * c + 2.0 * V * c - V * V * u[i]) * per
                size = k * exp_negative(min(E - top[i], 0.0) - 0.5 * (k * k - 1.0) * _PI * _PI * u[i])
                part, by_V = size * sin, (c - V * u[i]) * per
                log_s[i] += part * f[i]
                by[0, i] += part * (by_V * f[i] + per * f_1[i])
                by[1, i] += size * by_w * f[i] - part * (m[i] * f[i] + Q * per * f_1[i])
                # dS/du is the density, which the mean is not in.
                by[2, i] -= 0.5 * part
                by[3, i] += part * (
                    0.5 * (by_V * by_V - u[i] * per) * f[i] + per * (by_V * f_1[i] + 0.5 * per * f_2[i])
                )
    for i in range(first, n):
        top[i] += math.log(2.0 * _PI) - 0.5 * log_positive(1.0 + Q * u[i]) - 0.5 * _PI * _PI * u[i]
    _take_log(log_s, by, top, first, n, 4)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_survival_between(u: Array, V: float, w: float, log_s: Array, by: Array) -> None:
    """log S of a drift that does not differ, and its derivatives by V, w and u, the first rows of by (4, n).

    u > 0 ascending, V >= 0.
    """
    room = np.empty((4, u.shape[0]))
    split = int(np.searchsorted(u, _EARLY, side="right"))
    if split > 0:
        _early(u, split, V, 0.0, w, log_s, by, room)
    if split < u.shape[0]:
        _late(u, split, V, w, log_s, by, room)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_survival_of_varying_drift(t: Array, A: float, v: float, q: float, w: float, log_s: Array, by: Array) -> None:
    """log S of decision times, ascending and above 0, and its derivatives by v, A, w, t and q, rows of by."""
    # From either bound the process is the same, with the other sign of the drift.
    sign = -1.0 if v < 0.0 else 1.0
    V, Q, start = sign * v * A, q * A * A, w if sign > 0.0 else 1.0 - w
    u, room = t / (A * A), np.empty((6, t.shape[0]))
    split = int(np.searchsorted(u, _EARLY_MIXED, side="right"))
    if split > 0:
        _early(u, split, V, Q, start, log_s, by, room)
    if split < u.shape[0]:
        _late_mixed(u, split, V, Q, start, log_s, by, room)
    for i in range(t.shape[0]):
        by_V, by_w, by_u, by_Q = by[0, i], by[1, i], by[2, i], by[3, i]
        by[0, i] = sign * A * by_V
        by[1, i] = sign * v * by_V - 2.0 * u[i] / A * by_u + 2.0 * q * A * by_Q
        by[2, i] = sign * by_w
        by[3, i] = by_u / (A * A)
        by[4, i] = A * A * by_Q
