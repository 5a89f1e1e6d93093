"""Kernel of mixtures over log decision time that are averaged over a uniform delay, in one pass with the gradient."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np

from hddm_sbi.likelihoods.mixture.kernel import with_density
from hddm_sbi.likelihoods.mixture.records import Cells, Components, Gradients, Law, Rows, Totals, Trials, of_row
from hddm_sbi.numerics.vecmath import LOG_2PI_HALF, Lapse, inner, mix_lapse, upper_tail
from hddm_sbi.types import Array

_BLOCK = 128
#: intervals narrower than this, in standard deviations, are integrated by quadrature: a difference would cancel.
NARROW = 0.02
#: seconds; a delay of 0 is taken for this long, so that its gradient is finite.
SHORTEST = 1e-9

# With d = rt - t0, s the log of the time scale, D the width of the delay, e_k = (log d - s - m_k) / sd_k, and e'_k the
# same at d - D (minus infinity where that is negative),
#   log p(rt, c) = log sum_k exp(log w_k + log G_k) - log D,   G_k = Phi(e_k) - Phi(e'_k)


@inner(forceinline=True)
def _log_between(low: float, high: float) -> float:
    """log[Phi(high) - Phi(low)], low < high, without cancellation."""
    width = high - low
    if width < NARROW:
        # Three-point Gauss-Legendre: relative error below width^6 high^6 / 1e6.
        middle, reach = 0.5 * (low + high), 0.5 * width * 0.7745966692414834
        average = (8.0 + 10.0 * math.exp(-0.5 * reach * reach) * math.cosh(reach * middle)) / 18.0
        return math.log(width * average) - 0.5 * middle * middle - LOG_2PI_HALF
    if low + high < 0.0:
        low, high = -high, -low
    tail, beyond = upper_tail(low)[0], upper_tail(high)[0]
    return tail + math.log1p(-math.exp(beyond - tail))


class _Block(NamedTuple):
    """What is known of the components in a block, (k, trials): share, phi(e_k) / G_k and phi(e'_k) / G_k, e_k and e'_k.

    The parts with e'_k are 0 where there is no d - D.
    """

    share: Array
    at: Array
    before: Array
    e: Array
    e_before: Array


@inner()
def _density(d: Array, delay: float, s: float, mixture: Components, block: _Block, logp: Array) -> None:
    """log density of the decision times of a block, averaged over the delay; fills in the block."""
    (log_w, mean, log_sd), (share, at, before, e, e_before) = mixture, block
    for i in range(d.shape[0]):
        z, past = math.log(d[i]) - s, d[i] - delay
        z_past = math.log(past) - s if past > 0.0 else -math.inf
        largest = -math.inf
        for k in range(log_w.shape[0]):
            per_sd = math.exp(-log_sd[k])
            e[k, i] = (z - mean[k]) * per_sd
            if past > 0.0:
                e_before[k, i] = (z_past - mean[k]) * per_sd
                log_g = _log_between(e_before[k, i], e[k, i])
                before[k, i] = math.exp(-0.5 * e_before[k, i] ** 2 - LOG_2PI_HALF - log_g)
            else:
                log_g = upper_tail(-e[k, i])[0]
                e_before[k, i] = before[k, i] = 0.0
            at[k, i] = math.exp(-0.5 * e[k, i] ** 2 - LOG_2PI_HALF - log_g)
            share[k, i] = log_w[k] + log_g
            largest = max(largest, share[k, i])
        total = 0.0
        for k in range(log_w.shape[0]):
            share[k, i] = math.exp(share[k, i] - largest)
            total += share[k, i]
        logp[i] = largest + math.log(total) - math.log(delay)
        for k in range(log_w.shape[0]):
            share[k, i] /= total


@inner()
def _accumulate(
    d: Array, delay: float, log_sd: Array, block: _Block, weight: Array, to: Gradients
) -> tuple[float, float, float]:
    """Add the block's gradients by the components; returns those by s, t0 and the delay."""
    by_s, by_t0, by_delay = 0.0, 0.0, 0.0
    (share, at, before, e, e_before), (g_w, g_mean, g_sd) = block, to
    for k in range(log_sd.shape[0]):
        per_sd = math.exp(-log_sd[k])
        for i in range(d.shape[0]):
            q = share[k, i] * weight[i]
            now, then = q * at[k, i] * per_sd, q * before[k, i] * per_sd
            g_w[k] += q
            g_mean[k] -= now - then
            g_sd[k] -= q * (at[k, i] * e[k, i] - before[k, i] * e_before[k, i])
            by_s -= now - then
            by_t0 -= now / d[i]
            if then > 0.0:
                by_t0 += then / (d[i] - delay)
                by_delay += then / (d[i] - delay)
            by_delay -= q / delay
    return by_s, by_t0, by_delay


@nb.njit(cache=True, nogil=True, error_model="numpy")
def delayed_cells(
    rows: Rows, mixtures: Array, g: Array, cells: Cells, law: Law, lapse: Lapse, trials: Trials, to: Totals
) -> None:
    """The way over trials whose decision a uniform delay follows; no tail is heavy."""
    n_choices, shape = (len(trials.starts) - 1) // len(cells.s), (mixtures.shape[2], _BLOCK)
    block = _Block(np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape))
    logp, weight, (cell, choice), rt = np.empty(_BLOCK), np.ones(_BLOCK), rows, trials.rt
    (s, t0, _, delay), (total, (g_s, g_t0, _, g_delay), g_lapse) = cells, to
    for row in range(len(cell)):
        c = cell[row]
        run = c * n_choices + choice[row]
        width = max(delay[c], SHORTEST)
        above, last = with_density(run, c, cells, lapse, trials, to)
        own, to_own = of_row(mixtures, g, row)
        for first in range(above, last, _BLOCK):
            d = rt[first : min(first + _BLOCK, last)] - t0[c]
            _density(d, width, s[c], own, block, logp)
            value, by_lapse = mix_lapse(lapse, logp, weight, len(d))
            total[c] += value
            g_lapse[c] += by_lapse
            by_s, by_t0, by_delay = _accumulate(d, width, own.log_sd, block, weight, to_own)
            g_s[c] += by_s
            g_t0[c] += by_t0
            g_delay[c] += by_delay
