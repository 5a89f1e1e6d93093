"""Kernel of learned likelihoods: of a few cells at a time the network, the mixtures of their trials, all gradients."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import torch
from torch import Tensor

from hddm_sbi.likelihoods.mixture.delayed_kernel import delayed_cells
from hddm_sbi.likelihoods.mixture.kernel import mixture_cells, mixture_rows, normalise
from hddm_sbi.likelihoods.mixture.perceptron import BLOCK, backward, forward, transposed
from hddm_sbi.numerics.operators import KERNELS, Kernel
from hddm_sbi.numerics.vecmath import FAST
from hddm_sbi.types import Array, Index

#: least and largest log sd of a component, before it is stretched.
LOG_SDS = (-6.0, 3.0)
#: rows of no more trials than this are taken side by side.
_FEW = 6

# Cells go through in blocks, so that activations and mixtures stay in the second cache from the way out to the way
# back. A row of the density's perceptron is a choice that was made in a cell; where choices race, every choice. Of its
# outputs (o_w, o_m, o_s) and those of the score's perceptron, h for every choice with views x,
#   log w = log softmax(o_w) + log P(choice),  log P(choice) = log softmax over choices of h_0 + sum_j h_j x_j
#   m = location + spread o_m,  log sd = log spread + o_s, o_s inside LOG_SDS


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _shares(x: Array, n: int, share: Array, log_total: Array) -> None:
    """Softmax over the first n rows of x (rows, BLOCK), and log sum of exp."""
    largest = np.full(BLOCK, -1e300)
    for k in range(n):
        for b in range(BLOCK):
            share[k, b] = x[k, b]
            largest[b] = max(largest[b], x[k, b])
    log_total[:] = 0.0
    normalise(share, BLOCK, largest, np.empty(BLOCK), log_total)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _scored(
    score_x: Array, views: Array, weights: Array, sizes: Index, h: Array, slope: Array, share: Array, log_p: Array
) -> None:
    """Choice probabilities of a block, share (choices, BLOCK), and their logs, log_p (BLOCK, choices)."""
    n, n_choices, n_x = score_x.shape
    score, log_total = np.zeros((n_choices, BLOCK)), np.empty(BLOCK)
    for c in range(n_choices):
        for b in range(BLOCK):
            for j in range(n_x):
                h[c, 0, j, b] = score_x[min(b, n - 1), c, j]
        forward(weights, sizes, h[c], slope[c])
        for b in range(n):
            score[c, b] = h[c, -1, 0, b]
            for j in range(views.shape[2]):
                score[c, b] += h[c, -1, 1 + j, b] * views[b, c, j]
    _shares(score, n_choices, share, log_total)
    for b in range(n):
        for c in range(n_choices):
            log_p[b, c] = score[c, b] - log_total[b]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _scored_back(
    by_log_p: Array,
    share: Array,
    views: Array,
    turned: Array,
    sizes: Index,
    zeros: Array,
    h: Array,
    slope: Array,
    g_views: Array,
    g_score_x: Array,
) -> None:
    """Gradients of a block by views and features of the score, from those by the log choice probabilities."""
    n, n_choices, n_x = g_score_x.shape
    for c in range(n_choices):
        out = h[c, -1]
        for b in range(n):
            by_score = by_log_p[b, c] - share[c, b] * by_log_p[b].sum()
            out[0, b] = by_score
            for j in range(views.shape[2]):
                g_views[b, c, j] = by_score * out[1 + j, b]
                out[1 + j, b] = by_score * views[b, c, j]
        backward(turned, sizes, zeros, h[c], slope[c])
        for b in range(n):
            for j in range(n_x):
                g_score_x[b, c, j] = h[c, 0, j, b]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _rows(starts: Index, n_choices: int, racing: bool, cell: Index, choice: Index) -> tuple[int, int]:
    """Fills in the cells and choices of a block that need a mixture; how many they are, and their most trials."""
    n, most = 0, 0
    for run in range(len(starts) - 1):
        trials = starts[run + 1] - starts[run]
        if racing or trials > 0:
            cell[n], choice[n] = run // n_choices, run % n_choices
            n, most = n + 1, max(most, trials)
    return n, most


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _mixed(
    density_x: Array,
    cell: Index,
    choice: Index,
    weights: Array,
    sizes: Index,
    scale: tuple[float, float, float],
    h: Array,
    slope: Array,
    share: Array,
    log_p: Array,
    mixture: Array,
) -> None:
    """Mixtures (3, k, BLOCK) of some rows: log weight, mean, log sd. share (k, BLOCK): of the components."""
    n, k, log_total = len(cell), len(share), np.empty(BLOCK)
    location, spread, log_spread = scale
    for b in range(BLOCK):
        row = min(b, n - 1)
        for j in range(density_x.shape[2]):
            h[0, j, b] = density_x[cell[row], choice[row], j]
    forward(weights, sizes, h, slope)
    out = h[-1]
    _shares(out, k, share, log_total)
    for b in range(BLOCK):
        row = min(b, n - 1)
        log_total[b] -= log_p[cell[row], choice[row]]
    for i in range(k):
        for b in range(BLOCK):
            mixture[0, i, b] = out[i, b] - log_total[b]
            mixture[1, i, b] = location + spread * out[k + i, b]
            mixture[2, i, b] = log_spread + min(max(out[2 * k + i, b], LOG_SDS[0]), LOG_SDS[1])


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _mixed_back(
    g_mixture: Array,
    cell: Index,
    choice: Index,
    turned: Array,
    sizes: Index,
    scale: tuple[float, float, float],
    zeros: Array,
    h: Array,
    slope: Array,
    share: Array,
    by_log_p: Array,
    g_density_x: Array,
) -> None:
    """Gradients of some rows by features of the density and by log choice probabilities, from those by the mixtures."""
    k, out, spread, together = len(share), h[-1], scale[1], np.zeros(BLOCK)
    for i in range(k):
        for b in range(BLOCK):
            together[b] += g_mixture[0, i, b]
    for i in range(k):
        for b in range(BLOCK):
            free = LOG_SDS[0] <= out[2 * k + i, b] <= LOG_SDS[1]
            out[i, b] = g_mixture[0, i, b] - share[i, b] * together[b]
            out[k + i, b] = spread * g_mixture[1, i, b]
            out[2 * k + i, b] = g_mixture[2, i, b] if free else 0.0
    backward(turned, sizes, zeros, h, slope)
    for b in range(len(cell)):
        by_log_p[cell[b], choice[b]] = together[b]
        for j in range(g_density_x.shape[2]):
            g_density_x[cell[b], choice[b], j] = h[0, j, b]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _trials(
    cell: Index,
    choice: Index,
    most: int,
    mixture: Array,
    s: Array,
    t0: Array,
    clock: Array,
    delay: Array,
    racing: bool,
    delayed: bool,
    tail: int,
    lapse: float,
    lapse_density: float,
    starts: Index,
    rt: Array,
    by_cell: Array,
    g_by_cell: Array,
    total: Array,
    g_mixture: Array,
    g_s: Array,
    g_t0: Array,
    g_clock: Array,
    g_delay: Array,
    g_lapse: Array,
) -> None:
    """Adds the trials of a block, whose mixtures (parts, 3, k, BLOCK) are made: few of a row side by side, else run by
    run, from by_cell (3, cells, choices, k)."""
    if most <= _FEW and not (racing or delayed):
        for first in range(0, len(cell), BLOCK):
            at = cell[first : first + BLOCK]
            run = at * by_cell.shape[2] + choice[first : first + BLOCK]
            part = first // BLOCK
            w, m, sd = mixture[part, 0], mixture[part, 1], mixture[part, 2]
            g_w, g_mean, g_sd = g_mixture[part, 0], g_mixture[part, 1], g_mixture[part, 2]
            place = at, starts[run], starts[run + 1], s, t0, clock
            to = g_w, g_mean, g_sd, g_s, g_t0, g_clock, g_lapse
            mixture_rows(w, m, sd, *place, tail, lapse, lapse_density, rt, total, *to)
        return
    n = len(s)
    # Element by element: to assign a slice takes Numba seconds to compile.
    for row in range(len(cell)):
        for part in range(3):
            for k in range(by_cell.shape[3]):
                by_cell[part, cell[row], choice[row], k] = mixture[row // BLOCK, part, k, row % BLOCK]
    g_by_cell[:] = 0.0
    w, m, sd = by_cell[0, :n], by_cell[1, :n], by_cell[2, :n]
    g_w, g_mean, g_sd = g_by_cell[0, :n], g_by_cell[1, :n], g_by_cell[2, :n]
    if delayed:
        to = g_w, g_mean, g_sd, g_s, g_t0, g_delay, g_lapse
        delayed_cells(w, m, sd, s, t0, delay, lapse, lapse_density, starts, rt, total, *to)
    else:
        to = g_w, g_mean, g_sd, g_s, g_t0, g_clock, g_lapse
        mixture_cells(w, m, sd, s, t0, clock, racing, tail, lapse, lapse_density, starts, rt, total, *to)
    for row in range(len(cell)):
        for part in range(3):
            for k in range(by_cell.shape[3]):
                g_mixture[row // BLOCK, part, k, row % BLOCK] = g_by_cell[part, cell[row], choice[row], k]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _cells(
    views: Array,
    density_x: Array,
    score_x: Array,
    density_weights: Array,
    density_sizes: Index,
    score_weights: Array,
    score_sizes: Index,
    location: float,
    spread: float,
    log_spread: float,
    s: Array,
    t0: Array,
    clock: Array,
    delay: Array,
    racing: bool,
    delayed: bool,
    tail: int,
    lapse: float,
    lapse_density: float,
    starts: Index,
    rt: Array,
    total: Array,
    g_views: Array,
    g_density_x: Array,
    g_score_x: Array,
    g_s: Array,
    g_t0: Array,
    g_clock: Array,
    g_delay: Array,
    g_lapse: Array,
) -> None:
    """Per cell: sum over trials of log[(1 - lapse) p + lapse * lapse_density] and its gradients (added to zeros)."""
    n_cells, n_choices = views.shape[:2]
    k, scale = density_sizes[-1] // 3, (location, spread, log_spread)
    units, score_units = density_sizes.max(), score_sizes.max()
    h = np.empty((n_choices, len(density_sizes), units, BLOCK))
    score_h = np.empty((n_choices, len(score_sizes), score_units, BLOCK))
    slope, score_slope = np.empty_like(h), np.empty_like(score_h)
    turned, score_turned = transposed(density_weights, density_sizes), transposed(score_weights, score_sizes)
    zeros, score_zeros = np.zeros(units), np.zeros(score_units)
    share, choice_share = np.empty((n_choices, k, BLOCK)), np.empty((n_choices, BLOCK))
    log_p, by_log_p = np.zeros((BLOCK, n_choices)), np.zeros((BLOCK, n_choices))
    # Mixtures side by side, as the perceptron makes them, and by cell and choice.
    mixture, g_mixture = np.empty((n_choices, 3, k, BLOCK)), np.empty((n_choices, 3, k, BLOCK))
    by_cell, g_by_cell = np.empty((3, BLOCK, n_choices, k)), np.empty((3, BLOCK, n_choices, k))
    cell, choice = np.empty(BLOCK * n_choices, np.int64), np.empty(BLOCK * n_choices, np.int64)
    for start in range(0, n_cells, BLOCK):
        n = min(BLOCK, n_cells - start)
        at = slice(start, start + n)
        runs = starts[start * n_choices : (start + n) * n_choices + 1]
        if not racing:
            score = score_weights, score_sizes, score_h, score_slope
            _scored(score_x[at], views[at], *score, choice_share, log_p)
        by_log_p[:], g_mixture[:] = 0.0, 0.0
        n_rows, most = _rows(runs, n_choices, racing, cell, choice)
        for first in range(0, n_rows, BLOCK):
            part, mine = first // BLOCK, slice(first, min(first + BLOCK, n_rows))
            density = density_weights, density_sizes, scale, h[part], slope[part], share[part]
            _mixed(density_x[at], cell[mine], choice[mine], *density, log_p, mixture[part])
        place = s[at], t0[at], clock[at], delay[at], racing, delayed, tail, lapse, lapse_density, runs, rt
        to = g_mixture, g_s[at], g_t0[at], g_clock[at], g_delay[at], g_lapse[at]
        _trials(cell[:n_rows], choice[:n_rows], most, mixture, *place, by_cell, g_by_cell, total[at], *to)
        for first in range(0, n_rows, BLOCK):
            part, mine = first // BLOCK, slice(first, min(first + BLOCK, n_rows))
            back = turned, density_sizes, scale, zeros, h[part], slope[part], share[part]
            _mixed_back(g_mixture[part], cell[mine], choice[mine], *back, by_log_p, g_density_x[at])
        if not racing:
            score_back = score_turned, score_sizes, score_zeros, score_h, score_slope
            _scored_back(by_log_p, choice_share, views[at], *score_back, g_views[at], g_score_x[at])


@torch.library.custom_op("hddm_sbi::neural_cells", mutates_args=())
def neural_cells(
    views: Tensor,
    density_x: Tensor,
    score_x: Tensor,
    density_weights: Tensor,
    density_sizes: list[int],
    score_weights: Tensor,
    score_sizes: list[int],
    location: float,
    spread: float,
    log_spread: float,
    s: Tensor,
    t0: Tensor,
    clock: Tensor,
    delay: Tensor,
    racing: bool,
    delayed: bool,
    tail: int,
    lapse: Tensor,
    lapse_density: float,
    starts: Tensor,
    rt: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Log likelihood of every cell, then its gradients by views, density_x, score_x, s, t0, clock, delay and lapse.

    views (n, choices, r), and their features of the density and of the score, (n, choices, 2 r). Weights: of every
    layer the matrix (out, in) and the bias, laid end to end; sizes: (layers + 1,). s, t0, delay (n,), clock (n, 3).
    """
    arrays = [x.detach().contiguous().numpy() for x in (views, density_x, score_x, density_weights, score_weights)]
    networks = arrays[3], np.array(density_sizes), arrays[4], np.array(score_sizes), location, spread, log_spread
    by_cell = [x.detach().contiguous().numpy() for x in (s, t0, clock, delay)]
    trials = racing, delayed, tail, float(lapse), lapse_density, starts.numpy(), rt.numpy()
    results = [torch.zeros(x.shape, dtype=torch.float64) for x in (t0, views, density_x, score_x, s, t0, clock, t0, t0)]
    _cells(*arrays[:3], *networks, *by_cell, *trials, *(x.numpy() for x in results))  # type: ignore[call-arg, arg-type]
    total, *gradients = results
    return total, *gradients  # type: ignore[return-value]


@neural_cells.register_fake
def _(views: Tensor, density_x: Tensor, score_x: Tensor, *given: Any) -> tuple[Tensor, ...]:
    s, t0, clock = given[7:10]
    return tuple(torch.empty_like(x) for x in (t0, views, density_x, score_x, s, t0, clock, t0, t0))


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[1:])


def _backward(ctx, upstream, *_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
    *by_choice, g_s, g_t0, g_clock, g_delay, g_lapse = ctx.saved_tensors
    wide = upstream.unsqueeze(-1)
    inputs = [wide.unsqueeze(-1) * g for g in by_choice]
    by_cell = upstream * g_s, upstream * g_t0, wide * g_clock, upstream * g_delay
    by_lapse = (upstream * g_lapse).sum()
    return *inputs, *[None] * 7, *by_cell, *[None] * 3, by_lapse, *[None] * 3


neural_cells.register_autograd(_backward, setup_context=_save)
KERNELS["hddm_sbi::neural_cells"] = Kernel(_cells)
