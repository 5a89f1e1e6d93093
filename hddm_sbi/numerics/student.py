"""Probabilities of intervals under Student's t distribution, accurate in both tails, at any degrees of freedom."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numba as nb
import numpy as np
import torch
from numba import types
from torch import Tensor

from hddm_sbi.numerics.operators import Kernel, operator
from hddm_sbi.numerics.vecmath import FAST, exp_negative, inner, log_positive
from hddm_sbi.types import Array

# With nu degrees of freedom, a = nu / 2, r² = nu + z² and w = z / r, the upper tail of z >= 0 is
#   Q(z) = c (nu / r²)^a H(w),   c = 1 / B(1/2, a),
#   H(w) = int_w^1 (1 - s²)^(a - 1) ds / (1 - w²)^a = F(2a, 1; a + 1; (1 - w) / 2) / (2a),
# and the density there is Q(z) / (r H(w)). H is smooth from w = 0 to 1, but within 1 / sqrt(a) of 0 where a is large.
# Hence the coordinate p = (1 + k) w / (w + k), also from 0 to 1: a polynomial in 2p - 1 has H to 2e-13, from half a
# degree of freedom to 160 000 (1e-14 up to 100).

#: degree of the polynomial; k sqrt(a + 1/2), by trial.
_DEGREE, _WIDTH = 20, 3.0
#: z is cut here, where its square is still a number, and next to nothing lies beyond.
_FARTHEST = 1e150
#: rows that a kernel works on at a time.
_BLOCK = 64


class _Tails(NamedTuple):
    """Of one distribution: nu, log c, k, and the coefficients of H from the highest power."""

    nu: float
    log_c: float
    k: float
    h: Array


def student_tails(degrees: Tensor) -> Tensor:
    """What `student_intervals` needs of distributions with these degrees of freedom: (k,) -> (k, numbers)."""
    return _tails(degrees.detach().numpy().tobytes())


@lru_cache(maxsize=32)
def _tails(degrees: bytes) -> Tensor:
    nu = np.frombuffer(degrees)
    a = 0.5 * nu
    k = _WIDTH / np.sqrt(a + 0.5)
    x = np.polynomial.chebyshev.chebpts1(_DEGREE + 1)
    p = 0.5 * (1.0 + x[:, None])
    h = np.linalg.solve(np.vander(x), _series(a, 0.5 * (1.0 - k * p / (1.0 + k - p))))
    # Half of the distribution lies above 0.
    log_c = -np.log(2.0 * _series(a, np.full((1, 1), 0.5)))
    return torch.from_numpy(np.ascontiguousarray(np.concatenate([nu[None], log_c, k[None], h]).T))


def _series(a: Array, q: Array) -> Array:
    """F(2a, 1; a + 1; q) / (2a), 0 <= q <= 1/2: (k,), (n, k) -> (n, k). Term n + 1 is (2a + n) q / (a + 1 + n) times
    term n, so that they fall like exp(-n² / 4a), and after a like 2^-n."""
    total = np.ones_like(q + a)
    for n in range(60 + int(12.0 * math.sqrt(a.max())), -1, -1):
        total = 1.0 + (2.0 * a + n) / (a + 1.0 + n) * q * total
    return total / (2.0 * a)


@inner(fastmath=FAST)
def _upper(z: Array, tails: _Tails, log_q: Array, hazard: Array, at: Array) -> None:
    """log Q(z), and the hazard, density over Q(z). at: memory."""
    nu, log_c, k, n = tails.nu, tails.log_c, tails.k, len(z)
    for i in range(n):
        x = min(abs(z[i]), _FARTHEST)
        square = nu + x * x
        r = math.sqrt(square)
        at[i] = ((1.0 + 2.0 * k) * x - k * r) / (x + k * r)
        log_q[i] = log_c - 0.5 * nu * log_positive(square / nu)
        hazard[i] = r
    h = np.full(n, tails.h[0])
    for power in range(1, _DEGREE + 1):
        for i in range(n):
            h[i] = h[i] * at[i] + tails.h[power]
    for i in range(n):
        log_p, rate = log_q[i] + log_positive(h[i]), 1.0 / (hazard[i] * h[i])
        beyond = exp_negative(log_p)
        log_q[i] = log_p if z[i] >= 0.0 else log_positive(1.0 - beyond)
        hazard[i] = rate if z[i] >= 0.0 else rate * beyond / (1.0 - beyond)


@inner(fastmath=FAST)
def _between(a: Array, b: Array, tails: _Tails, log_p: Array, by_a: Array, by_b: Array) -> None:
    """log P(a < Z <= b), -inf where that is empty, and its derivatives; b is farther from 0 than a, on the right."""
    n, at, log_beyond = len(a), np.empty(len(a)), np.empty(len(a))
    _upper(a, tails, log_p, by_a, at)
    _upper(b, tails, log_beyond, by_b, at)
    for i in range(n):
        rest = exp_negative(min(log_beyond[i] - log_p[i], 0.0))
        share = 1.0 - rest
        some = a[i] < b[i] and share > 0.0
        log_p[i] = log_p[i] + log_positive(share) if some else -math.inf
        by_a[i] = -by_a[i] / share if some else 0.0
        by_b[i] = by_b[i] * rest / share if some else 0.0


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _intervals(low: Array, high: Array, tails: Array, log_p: Array, by_low: Array, by_high: Array) -> None:
    """log P(low < Z <= high) and its derivatives, one distribution and a few rows at a time."""
    a, b, value, by_a, by_b = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    for j in range(low.shape[1]):
        own = _Tails(tails[j, 0], tails[j, 1], tails[j, 2], tails[j, 3:])
        for start in range(0, low.shape[0], _BLOCK):
            n = min(_BLOCK, low.shape[0] - start)
            for i in range(n):
                # In the smaller of both tails, where Q(a) - Q(b) cancels least.
                x, y = low[start + i, j], high[start + i, j]
                a[i] = -y if x + y < 0.0 else x
                b[i] = -x if x + y < 0.0 else y
            _between(a[:n], b[:n], own, value, by_a, by_b)
            for i in range(n):
                mirrored = low[start + i, j] + high[start + i, j] < 0.0
                log_p[start + i, j] = value[i]
                by_low[start + i, j] = -by_b[i] if mirrored else by_a[i]
                by_high[start + i, j] = -by_a[i] if mirrored else by_b[i]


_NUMBERS = types.float64[:, ::1]
_KERNEL = Kernel(_intervals, types.void(*[_NUMBERS] * 6))


def _forward(low: Tensor, high: Tensor, tails: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log P(low < Z <= high) of Student's t, (n, k) each, the ends may be infinite; then its derivatives by both ends.

    tails: of the distribution of each column, from `student_tails`; the degrees of freedom have no gradient.
    """
    results = torch.zeros_like(low), torch.zeros_like(low), torch.zeros_like(low)
    given = (x.detach().contiguous().numpy() for x in (low, high, tails))
    _KERNEL.compiled(*given, *(x.numpy() for x in results))
    return results


def _shapes(low: Tensor, high: Tensor, tails: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(low), torch.empty_like(low), torch.empty_like(low)


def _backward(ctx, upstream, *_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
    by_low, by_high = ctx.saved_tensors
    return upstream * by_low, upstream * by_high, None


student_intervals = operator("hddm_sbi::student_intervals", _KERNEL, _forward, _shapes, _backward)
