"""Density of a flow of one number: rational-quadratic splines whose knots depend on the condition only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Splines:
    """Monotonic rational-quadratic splines, the identity outside: knots, their values, slopes there, (m, r, k)."""

    x: Tensor
    y: Tensor
    slope: Tensor


@dataclass(frozen=True)
class Affine:
    """y = scale x + shift."""

    scale: Tensor
    shift: Tensor


@dataclass(frozen=True)
class Flow:
    """A flow of one number: maps that depend on the condition only, one after the other, to a standard normal.

    None among the steps stands for the next of the splines, of which all rows have theirs.
    """

    steps: list[Affine | None]
    splines: Splines


def log_prob(flow: Flow, x: Tensor, row: NDArray[np.int64]) -> Tensor:
    """Log density of a flow of one number, (n,): splines once per row, one bin per outcome.

    nflows and zuko look at every knot for every outcome, and nflows picks outcomes by value, which cannot be compiled.
    """
    y, slope, place = x.reshape(-1), x.new_ones(len(x)), torch.tensor(row)
    knots = _extended(flow.splines)
    of_all_bins = knots[0, 0].numel() < len(x)
    table = _coefficients(knots[..., :-1], knots[..., 1:]) if of_all_bins else knots
    splines = zip(flow.splines.x.detach(), table.flatten(2).unbind(1), strict=True)
    for step in flow.steps:
        if step is None:
            edges, columns = next(splines)
            at = _bin(edges, y.detach(), place) + table.shape[-1] * place
            bins = columns.index_select(1, at)
            y, more = _bend(bins if of_all_bins else _coefficients(bins, columns.index_select(1, at + 1)), y)
            slope = slope * more
        else:
            y, slope = y * step.scale + step.shift, slope * step.scale.abs()
    return slope.log() - 0.5 * y * y - 0.5 * math.log(2 * math.pi)


def _extended(splines: Splines) -> Tensor:
    """x, y and slope of the knots, (3, m, r, k + 2), with one more at either end: from there on y = x, as the outer
    slopes are 1."""
    knots = torch.stack([splines.x, splines.y, splines.slope])
    further = knots.new_tensor([1.0, 1.0, 0.0]).reshape(3, 1, 1, 1)
    return torch.cat([knots[..., :1] - further, knots, knots[..., -1:] + further], -1)


def _bin(edges: Tensor, x: Tensor, row: Tensor) -> Tensor:
    """Which of the extended knots of its row, edges (r, k), comes before every x (n,); the first for all that are
    smaller."""
    # Over the knots of all rows, laid end to end, the search takes six times as long.
    return torch.searchsorted(edges.index_select(0, row), x.unsqueeze(-1), right=True).squeeze(-1)


def _coefficients(begin: Tensor, end: Tensor) -> Tensor:
    """Coefficients of the bins between knots (3, ...): x0, y0, d0, B, G, G / s and w of `_bend`, (7, ...)."""
    (x0, y0, d0), (x1, y1, d1) = begin, end
    w = x1 - x0
    s = (y1 - y0) / w
    g = (d0 + d1 - 2.0 * s) / (w * w)
    return torch.stack([x0, y0, d0, (s - d0) / w, g, g / s, w])


def _bend(bins: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """A spline and its slope at every x (n,), by the coefficients of its bin (7, n) (Durkan et al. 2019, eqs. 4 and 5).

    A bin begins at x0, y0 and is w wide and h high; s = h / w, d0 and d1 are the slopes at its ends, u = x - x0,
    B = (s - d0) / w, G = (d0 + d1 - 2 s) / w^2, q = 1 + G / s u (w - u):
    y = y0 + u (B u + d0) / q, dy/dx = (G u^2 + 2 B u + d0) / q^2.
    """
    x0, y0, d0, b, g, bow, w = bins
    u = x - x0
    bent, q = b * u + d0, 1.0 + bow * u * (w - u)
    return y0 + u * bent / q, ((g * u + b) * u + bent) / (q * q)
