"""Kernel of learned likelihoods: for a few cells at a time both perceptrons, the mixtures of trials, all gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import torch
from numba import types
from torch import Tensor

from hddm_sbi.likelihoods.mixture.delayed_kernel import delayed_cells, delayed_events
from hddm_sbi.likelihoods.mixture.events_kernel import mixture_events
from hddm_sbi.likelihoods.mixture.kernel import mixture_cells, mixture_rows, normalise
from hddm_sbi.likelihoods.mixture.perceptron import (
    BLOCK,
    Activations,
    Perceptron,
    activations,
    backward,
    forward,
    perceptron,
)
from hddm_sbi.likelihoods.mixture.racing_events_kernel import racing_events
from hddm_sbi.likelihoods.mixture.records import Cells, Law, Rows, Totals, Trials
from hddm_sbi.numerics import FAST, Kernel, Lapses, inner, operator
from hddm_sbi.types import Array, Index

#: least and largest log sd of a component, before it is stretched: the nodes of a quadrature miss narrower ones.
LOG_SDS = (-4.0, 3.0)
#: the ways over the trials of a block, by name; only those that are called are compiled.
_WAYS: dict[str, Callable[..., None]] = {
    "cells": mixture_cells,
    "rows": mixture_rows,
    "delayed": delayed_cells,
    "events": mixture_events,
    "racing events": racing_events,
    "delayed events": delayed_events,
}

# Cells are processed in blocks, so that activations and mixtures are still in the second cache when the backward pass
# reads them. A row of the density's perceptron is a cell and a choice made in it; in a race, every choice. With its
# outputs (o_w, o_m, o_s), and h those of the score's perceptron for every choice with views x,
#   log w = log softmax(o_w) + log P(choice),  log P(choice) = log softmax over choices of h_0 + sum_j h_j x_j
#   m = location + spread o_m,  log sd = log spread + o_s, o_s inside LOG_SDS


@inner(fastmath=FAST, forceinline=True)
def _shares(x: Array, n: int, share: Array, log_total: Array) -> None:
    """Softmax over the first n rows of x (rows, BLOCK), and log sum of exp."""
    largest = np.full(BLOCK, -1e300)
    for k in range(n):
        for b in range(BLOCK):
            share[k, b] = x[k, b]
            largest[b] = max(largest[b], x[k, b])
    log_total[:] = 0.0
    normalise(share, BLOCK, largest, np.empty(BLOCK), log_total)


class _Networks(NamedTuple):
    """Both perceptrons; location, spread and log spread of log reduced decision time."""

    density: Perceptron
    score: Perceptron
    scale: tuple[float, float, float]


class _Features(NamedTuple):
    """Views of every cell and choice (cells, choices, r), and inputs of the two perceptrons; or gradients by them."""

    views: Array
    density: Array
    score: Array


class _Memory(NamedTuple):
    """Memory of a block of cells, used again for the next; g_ are gradients, of the same shapes."""

    #: rows of the density's perceptron; BLOCK of them are a part. Of every part activations, shares of the components
    #: (k, BLOCK) and mixtures (3, k, BLOCK): log weight, mean, log sd.
    rows: Rows
    density: Activations
    share: Array
    mixture: Array
    g_mixture: Array
    #: activations of the score's perceptron for every choice, its probability (choices, BLOCK), log (BLOCK, choices).
    score: Activations
    probability: Array
    log_p: Array
    g_log_p: Array


@inner()
def _memory(net: _Networks, n_choices: int) -> _Memory:
    k = net.density.sizes[-1] // 3
    rows = Rows(np.empty(BLOCK * n_choices, np.int64), np.empty(BLOCK * n_choices, np.int64))
    density, score = activations(n_choices, net.density.sizes), activations(n_choices, net.score.sizes)
    share, probability = np.empty((n_choices, k, BLOCK)), np.empty((n_choices, BLOCK))
    mixture, g_mixture = np.empty((n_choices, 3, k, BLOCK)), np.empty((n_choices, 3, k, BLOCK))
    log_p, g_log_p = np.zeros((BLOCK, n_choices)), np.zeros((BLOCK, n_choices))
    return _Memory(rows, density, share, mixture, g_mixture, score, probability, log_p, g_log_p)


@inner()
def _scored(x: _Features, net: Perceptron, memory: _Memory) -> None:
    """Choice probabilities of a block, and their logs."""
    (n, n_choices, n_x), views, inputs, h, log_p = x.score.shape, x.views, x.score, memory.score.h, memory.log_p
    score, log_total = np.zeros((n_choices, BLOCK)), np.empty(BLOCK)
    for c in range(n_choices):
        for b in range(BLOCK):
            for j in range(n_x):
                h[c, 0, j, b] = inputs[min(b, n - 1), c, j]
        forward(net, memory.score, c)
        for b in range(n):
            score[c, b] = h[c, -1, 0, b]
            for j in range(views.shape[2]):
                score[c, b] += h[c, -1, 1 + j, b] * views[b, c, j]
    _shares(score, n_choices, memory.probability, log_total)
    for b in range(n):
        for c in range(n_choices):
            log_p[b, c] = score[c, b] - log_total[b]


@inner()
def _scored_back(x: _Features, net: Perceptron, memory: _Memory, to: _Features) -> None:
    """Gradients of a block by views and inputs of the score, from those by the log choice probabilities."""
    (n, n_choices, n_x), views, g_views, g_inputs = x.score.shape, x.views, to.views, to.score
    h, probability, by_log_p, together = memory.score.h, memory.probability, memory.g_log_p, np.zeros(n)
    for b in range(n):
        for c in range(n_choices):
            together[b] += by_log_p[b, c]
    for c in range(n_choices):
        out = h[c, -1]
        for b in range(n):
            by_score = by_log_p[b, c] - probability[c, b] * together[b]
            out[0, b] = by_score
            for j in range(views.shape[2]):
                g_views[b, c, j] = by_score * out[1 + j, b]
                out[1 + j, b] = by_score * views[b, c, j]
        backward(net, memory.score, c)
        for b in range(n):
            for j in range(n_x):
                g_inputs[b, c, j] = h[c, 0, j, b]


@inner()
def _rows(starts: Index, n_choices: int, racing: bool, rows: Rows) -> int:
    """Fills in the rows of a block, that is cells and choices that need a mixture, and says how many."""
    n, (cell, choice) = 0, rows
    for run in range(len(starts) - 1):
        if racing or starts[run + 1] > starts[run]:
            cell[n], choice[n] = run // n_choices, run % n_choices
            n += 1
    return n


@inner()
def _mixed(x: Array, rows: Rows, net: _Networks, memory: _Memory) -> None:
    """Mixtures of rows, from the inputs x of the density's perceptron."""
    log_total, (location, spread, log_spread) = np.empty(BLOCK), net.scale
    (cell, choice), log_p = rows, memory.log_p
    for first in range(0, len(cell), BLOCK):
        part, last = first // BLOCK, len(cell) - 1
        h, share, mixture = memory.density.h[part], memory.share[part], memory.mixture[part]
        k, out = len(share), h[-1]
        for b in range(BLOCK):
            row = min(first + b, last)
            for j in range(x.shape[2]):
                h[0, j, b] = x[cell[row], choice[row], j]
        forward(net.density, memory.density, part)
        _shares(out, k, share, log_total)
        for b in range(BLOCK):
            row = min(first + b, last)
            log_total[b] -= log_p[cell[row], choice[row]]
        for i in range(k):
            for b in range(BLOCK):
                mixture[0, i, b] = out[i, b] - log_total[b]
                mixture[1, i, b] = location + spread * out[k + i, b]
                mixture[2, i, b] = log_spread + min(max(out[2 * k + i, b], LOG_SDS[0]), LOG_SDS[1])


@inner()
def _mixed_back(rows: Rows, net: _Networks, memory: _Memory, to: Array) -> None:
    """Gradients by those inputs and by log choice probabilities, from those by the mixtures."""
    together, spread, (cell, choice), by_log_p = np.empty(BLOCK), net.scale[1], rows, memory.g_log_p
    for first in range(0, len(cell), BLOCK):
        part = first // BLOCK
        h, share, g_mixture = memory.density.h[part], memory.share[part], memory.g_mixture[part]
        k, out = len(share), h[-1]
        together[:] = 0.0
        for i in range(k):
            for b in range(BLOCK):
                together[b] += g_mixture[0, i, b]
        for i in range(k):
            for b in range(BLOCK):
                free = LOG_SDS[0] <= out[2 * k + i, b] <= LOG_SDS[1]
                out[i, b] = g_mixture[0, i, b] - share[i, b] * together[b]
                out[k + i, b] = spread * g_mixture[1, i, b]
                out[2 * k + i, b] = g_mixture[2, i, b] if free else 0.0
        backward(net.density, memory.density, part)
        for row in range(first, min(first + BLOCK, len(cell))):
            by_log_p[cell[row], choice[row]] = together[row - first]
            for j in range(to.shape[2]):
                to[cell[row], choice[row], j] = h[0, j, row - first]


# The one place where order decides: arguments and results of the operator, one by one, as the compiler passes them.
# They take 30 of its lines.
@nb.njit(cache=True, nogil=True, error_model="numpy")
def _cells(
    views: Array,
    density_x: Array,
    score_x: Array,
    density_weights: Array,
    density_sizes: Index,
    score_weights: Array,
    score_sizes: Index,
    scale: Array,
    s: Array,
    t0: Array,
    clock: Array,
    delay: Array,
    law: Index,
    lapse: Array,
    lapse_density: Array,
    lapse_rate: float,
    starts: Index,
    rt: Array,
    way: Callable[..., None],
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
    """Per cell: sum over trials of log[(1 - lapse) p exp(lapse_rate rt) + lapse * lapse_density], and its gradients
    (added to zeros)."""
    n_cells, n_choices = views.shape[:2]
    density, score = perceptron(density_weights, density_sizes), perceptron(score_weights, score_sizes)
    net = _Networks(density, score, (scale[0], scale[1], scale[2]))
    laws, memory, scales = Law(law[0] == 1, law[1]), _memory(net, n_choices), len(s) // n_cells
    for start in range(0, n_cells, BLOCK):
        stop = min(start + BLOCK, n_cells)
        at = slice(start, stop)
        x = _Features(views[at], density_x[at], score_x[at])
        g_x = _Features(g_views[at], g_density_x[at], g_score_x[at])
        each = slice(start * scales, stop * scales)
        cells = Cells(s[each], t0[at], clock[at], delay[at])
        g_cells = Cells(g_s[each], g_t0[at], g_clock[at], g_delay[at])
        trials = Trials(starts[start * n_choices : stop * n_choices + 1], rt)
        lapses, to = Lapses(lapse[at], lapse_density, lapse_rate), Totals(total[at], g_cells, g_lapse[at])
        if not laws.racing:
            _scored(x, net.score, memory)
        memory.g_log_p[:], memory.g_mixture[:] = 0.0, 0.0
        n = _rows(trials.starts, n_choices, laws.racing, memory.rows)
        rows = Rows(memory.rows.cell[:n], memory.rows.choice[:n])
        _mixed(x.density, rows, net, memory)
        way(rows, memory.mixture, memory.g_mixture, cells, laws, lapses, trials, to)
        _mixed_back(rows, net, memory, g_x.density)
        if not laws.racing:
            _scored_back(x, net.score, memory, g_x)


def _way() -> types.FunctionType:
    """The type of a way over trials: (rows, mixtures, their gradients, cells, law, lapses, trials, totals).

    mixtures and gradients as in `of_row`. A way adds every cell's sum over trials, relative to `Lapses`, of
    log[(1 - l) p + l u] to the totals, and its gradients to theirs.
    """
    numbers, wholes, mixtures = types.float64[::1], types.int64[::1], types.float64[:, :, :, ::1]
    record = types.BaseTuple.from_types
    cells = record((numbers, numbers, types.float64[:, ::1], numbers), Cells)
    rows, law = record((wholes, wholes), Rows), record((types.boolean, types.int64), Law)
    lapses, trials = record((numbers, numbers, types.float64), Lapses), record((wholes, numbers), Trials)
    totals = record((numbers, cells, numbers), Totals)
    return types.FunctionType(types.void(rows, mixtures, mixtures, cells, law, lapses, trials, totals))


def _signature() -> Any:
    """The types of the arguments and results of `_cells`."""
    numbers, wholes, by_choice = types.float64[::1], types.int64[::1], (types.float64[:, :, ::1],) * 3
    by_cell = numbers, numbers, types.float64[:, ::1], numbers
    networks, lapses = (numbers, wholes, numbers, wholes, numbers), (numbers, numbers, types.float64)
    given = *by_choice, *networks, *by_cell, wholes, *lapses, wholes, numbers
    return types.void(*given, _way(), numbers, *by_choice, *by_cell, numbers)


_KERNEL = Kernel(_cells, _signature(), _WAYS)


def _forward(
    views: Tensor,
    density_x: Tensor,
    score_x: Tensor,
    density_weights: Tensor,
    density_sizes: list[int],
    score_weights: Tensor,
    score_sizes: list[int],
    scale: list[float],
    s: Tensor,
    t0: Tensor,
    clock: Tensor,
    delay: Tensor,
    law: list[int],
    lapse: Tensor,
    lapse_density: list[float],
    lapse_rate: float,
    starts: Tensor,
    rt: Tensor,
    way: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Log likelihood of every cell, then its gradients by views, density_x, score_x, s, t0, clock, delay and lapse.

    views (n, choices, r), and their features of the density and of the score, (n, choices, 2 r). Weights: of every
    layer the matrix (out, in) and the bias, laid end to end; sizes: (layers + 1,). scale: location, spread and its log.
    s, t0, delay (n,), clock (n, 3); in a race, s (n * n_choices,). law: 1 where choices race, and the tail, as in
    `Law`. lapse: their share (n,), and as in `Lapses` their density, of every choice, and the rate at which it falls.
    way: "cells", "delayed" where a delay follows, or "rows", which is faster where cells have few trials and
    choices do not race; one of events where starts and rt are theirs, see `events_kernel.py`.
    """
    arrays = [x.detach().contiguous().numpy() for x in (views, density_x, score_x, density_weights, score_weights)]
    networks = arrays[3], np.array(density_sizes), arrays[4], np.array(score_sizes), np.array(scale)
    by_cell = [x.detach().contiguous().numpy() for x in (s, t0, clock, delay)]
    lapses = lapse.detach().contiguous().numpy(), np.array(lapse_density), lapse_rate
    trials = np.array(law), *lapses, starts.numpy(), rt.numpy(), _WAYS[way]
    results = [torch.zeros(x.shape, dtype=torch.float64) for x in (t0, views, density_x, score_x, s, t0, clock, t0, t0)]
    _KERNEL.compiled(*arrays[:3], *networks, *by_cell, *trials, *(x.numpy() for x in results))
    total, *gradients = results
    return total, *gradients  # type: ignore[return-value]


def _shapes(views: Tensor, density_x: Tensor, score_x: Tensor, *given: Any) -> tuple[Tensor, ...]:
    s, t0, clock = given[5:8]
    return tuple(torch.empty_like(x) for x in (t0, views, density_x, score_x, s, t0, clock, t0, t0))


def _backward(ctx, upstream, *_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
    *by_choice, g_s, g_t0, g_clock, g_delay, g_lapse = ctx.saved_tensors
    wide = upstream.unsqueeze(-1)
    inputs = [wide.unsqueeze(-1) * g for g in by_choice]
    by_s = (wide * g_s.reshape(len(upstream), -1)).reshape(-1)
    by_cell = by_s, upstream * g_t0, wide * g_clock, upstream * g_delay
    return *inputs, *[None] * 5, *by_cell, None, upstream * g_lapse, *[None] * 5


neural_cells = operator("hddm_sbi::neural_cells", _KERNEL, _forward, _shapes, _backward)
