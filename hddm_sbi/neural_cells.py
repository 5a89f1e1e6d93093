"""Kernel of learned likelihoods: of a few cells at a time the network, the mixtures of their trials, all gradients."""

from __future__ import annotations

import numba as nb
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hddm_sbi.delayed import delayed_cells
from hddm_sbi.kernels import KERNELS, Kernel
from hddm_sbi.mixture import mixture_cells
from hddm_sbi.perceptron import BLOCK, backward, forward, transposed
from hddm_sbi.vecmath import FAST, exp_negative, log_positive

Array = NDArray[np.float64]
Index = NDArray[np.int64]

#: least and largest log sd of a component, before it is stretched.
LOG_SDS = (-6.0, 3.0)

# Cells go through in blocks, so that activations and mixtures stay in the second cache from the way out to the way
# back. A row of the density's perceptron is a choice that was made in a cell; where choices race, every choice. Of its
# outputs (o_w, o_m, o_s) and those of the score's perceptron, h for every choice with views x,
#   log w = log softmax(o_w) + log P(choice),  log P(choice) = log softmax over choices of h_0 + sum_j h_j x_j
#   m = location + spread o_m,  log sd = log spread + o_s, o_s inside LOG_SDS


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _shares(x: Array, n: int, share: Array, log_total: Array) -> None:
    """Softmax over the first n rows of x (rows, BLOCK), and log sum of exp."""
    largest, total = np.full(BLOCK, -1e300), np.zeros(BLOCK)
    for k in range(n):
        for b in range(BLOCK):
            largest[b] = max(largest[b], x[k, b])
    for k in range(n):
        for b in range(BLOCK):
            share[k, b] = exp_negative(x[k, b] - largest[b])
            total[b] += share[k, b]
    for b in range(BLOCK):
        log_total[b] = largest[b] + log_positive(total[b])
        total[b] = 1.0 / total[b]
    for k in range(n):
        for b in range(BLOCK):
            share[k, b] *= total[b]


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
def _rows(starts: Index, n_choices: int, racing: bool, cell: Index, choice: Index) -> int:
    """Fills in the cells and choices of a block that need a mixture; how many they are."""
    n = 0
    for run in range(len(starts) - 1):
        if racing or starts[run + 1] > starts[run]:
            cell[n], choice[n] = run // n_choices, run % n_choices
            n += 1
    return n


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
    mixtures: Array,
) -> None:
    """Mixtures (3, cells, choices, k) of some rows: log weight, mean, log sd. share (k, BLOCK): of the components."""
    n, k, log_total = len(cell), len(share), np.empty(BLOCK)
    location, spread, log_spread = scale
    for b in range(BLOCK):
        row = min(b, n - 1)
        for j in range(density_x.shape[2]):
            h[0, j, b] = density_x[cell[row], choice[row], j]
    forward(weights, sizes, h, slope)
    out = h[-1]
    _shares(out, k, share, log_total)
    for b in range(n):
        for i in range(k):
            mixtures[0, cell[b], choice[b], i] = out[i, b] - log_total[b] + log_p[cell[b], choice[b]]
            mixtures[1, cell[b], choice[b], i] = location + spread * out[k + i, b]
            mixtures[2, cell[b], choice[b], i] = log_spread + min(max(out[2 * k + i, b], LOG_SDS[0]), LOG_SDS[1])


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _mixed_back(
    g_mixtures: Array,
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
    k, out, spread = len(share), h[-1], scale[1]
    for b in range(len(cell)):
        by_w, by_mean, by_sd = g_mixtures[:, cell[b], choice[b]]
        together = by_w.sum()
        by_log_p[cell[b], choice[b]] = together
        for i in range(k):
            out[i, b] = by_w[i] - share[i, b] * together
            out[k + i, b] = spread * by_mean[i]
            out[2 * k + i, b] = by_sd[i] if LOG_SDS[0] <= out[2 * k + i, b] <= LOG_SDS[1] else 0.0
    backward(turned, sizes, zeros, h, slope)
    for b in range(len(cell)):
        for j in range(g_density_x.shape[2]):
            g_density_x[cell[b], choice[b], j] = h[0, j, b]


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
    h, score_h = (
        np.empty((n_choices, len(density_sizes), units, BLOCK)),
        np.empty((n_choices, len(score_sizes), score_units, BLOCK)),
    )
    slope, score_slope = np.empty_like(h), np.empty_like(score_h)
    turned, score_turned = transposed(density_weights, density_sizes), transposed(score_weights, score_sizes)
    zeros, score_zeros = np.zeros(units), np.zeros(score_units)
    share, choice_share = np.empty((n_choices, k, BLOCK)), np.empty((n_choices, BLOCK))
    log_p, by_log_p = np.zeros((BLOCK, n_choices)), np.zeros((BLOCK, n_choices))
    shape = 3, BLOCK, n_choices, k
    mixtures, g_mixtures = np.empty(shape), np.empty(shape)
    cell, choice = np.empty(BLOCK * n_choices, np.int64), np.empty(BLOCK * n_choices, np.int64)
    for first in range(0, n_cells, BLOCK):
        n = min(BLOCK, n_cells - first)
        at = slice(first, first + n)
        runs = starts[first * n_choices : (first + n) * n_choices + 1]
        if not racing:
            score = score_weights, score_sizes, score_h, score_slope
            _scored(score_x[at], views[at], *score, choice_share, log_p)
        n_rows = _rows(runs, n_choices, racing, cell, choice)
        for part in range(-(-n_rows // BLOCK)):
            mine = slice(part * BLOCK, min((part + 1) * BLOCK, n_rows))
            density = density_weights, density_sizes, scale, h[part], slope[part], share[part]
            _mixed(density_x[at], cell[mine], choice[mine], *density, log_p, mixtures)
        g_mixtures[:] = 0.0
        given = mixtures[0, :n], mixtures[1, :n], mixtures[2, :n], s[at], t0[at]
        to = g_mixtures[0, :n], g_mixtures[1, :n], g_mixtures[2, :n], g_s[at], g_t0[at]
        lapses = lapse, lapse_density, runs, rt, total[at]
        if delayed:
            delayed_cells(*given, delay[at], *lapses, *to, g_delay[at], g_lapse[at])
        else:
            mixture_cells(*given, clock[at], racing, tail, *lapses, *to, g_clock[at], g_lapse[at])
        by_log_p[:] = 0.0
        for part in range(-(-n_rows // BLOCK)):
            mine = slice(part * BLOCK, min((part + 1) * BLOCK, n_rows))
            back = turned, density_sizes, scale, zeros, h[part], slope[part], share[part]
            _mixed_back(g_mixtures, cell[mine], choice[mine], *back, by_log_p, g_density_x[at])
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
def _(
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
) -> tuple[Tensor, ...]:
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
