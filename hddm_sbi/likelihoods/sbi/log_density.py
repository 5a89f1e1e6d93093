"""Log density of any sbi estimator, its network evaluated once for all outcomes that share a condition."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hddm_sbi.errors import InputError

if TYPE_CHECKING:
    from sbi.neural_nets.estimators import (
        CategoricalMassEstimator,
        MixedDensityEstimator,
        MixtureDensityEstimator,
        NFlowsFlow,
        ZukoFlow,
    )
    from sbi.neural_nets.ratio_estimators import RatioEstimator

Rows = NDArray[np.int64]
Evaluation = Callable[[Any, Tensor, Tensor, Rows], Tensor]

#: what evaluating a network once costs, in densities of one trial; decides how trials are laid side by side.
_NETWORK_COST = 8
#: log of a density that is 0 in any precision, and finite.
_LEAST = -1e30


def log_density(estimator: Any, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    """Log density of outcomes x (n, *outcome) given conditions `rows[row]`, (n,).

    rows: (r, p). row: (n,), the row of every outcome. The network is evaluated once per row, except where it sees the
    outcome as well (flows of several numbers, `naf` and `unaf`, ratios): there at most the embedding is.
    """
    evaluate = _evaluation(type(estimator))  # type: ignore[arg-type]
    return evaluate(estimator, x, rows, row)


@cache
def _evaluation(kind: type) -> Evaluation:
    """How estimators of this type are evaluated."""
    from sbi.neural_nets.estimators import (
        CategoricalMassEstimator,
        MixedDensityEstimator,
        MixtureDensityEstimator,
        NFlowsFlow,
        ZukoFlow,
    )
    from sbi.neural_nets.ratio_estimators import RatioEstimator

    known: dict[type, Evaluation] = {
        MixedDensityEstimator: _mixed,
        CategoricalMassEstimator: _mass,
        MixtureDensityEstimator: _gaussians,
        ZukoFlow: _zuko,
        NFlowsFlow: _nflows,
        RatioEstimator: _ratio,
    }
    for base, evaluation in known.items():
        if issubclass(kind, base):
            return evaluation
    return _one_by_one


def _one_by_one(estimator: Any, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    """What every estimator can do: a condition for each outcome."""
    return estimator.log_prob(x.unsqueeze(0), _each(rows, row)).reshape(-1)


def _each(rows: Tensor, row: Rows) -> Tensor:
    """`rows[row]`; the rows themselves where each has its outcome already."""
    there = len(rows) == len(row) and (row[:-1] < row[1:]).all()
    return rows if there else rows.index_select(0, torch.tensor(row))


def _gaussians(estimator: MixtureDensityEstimator, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    if estimator.input_shape.numel() > 1 or estimator._prior_transform is not None:
        return _side_by_side(estimator.log_prob, x, rows, row)
    # One number: sbi multiplies 1 x 1 matrices, and checks them, which cannot be traced.
    net = estimator.net
    hidden = net._hidden_net(estimator.embedding_net(rows))
    root = functional.softplus(net._unconstrained_diagonal_layer(hidden))
    log_weight = net._logits_layer(hidden).log_softmax(-1) + root.log() - 0.5 * math.log(2 * math.pi)
    parts = torch.stack([log_weight, net._means_layer(hidden), (root * root + net._epsilon).sqrt()], 1)
    y, log_stretch = x, 0.0
    if estimator.has_input_transform:
        y = (x - estimator._transform_shift) / estimator._transform_scale
        log_stretch = -estimator._transform_scale.log().sum()

    def log_prob(y: Tensor, parts: Tensor) -> Tensor:
        # Components first, so that outcomes lie next to each other.
        log_weight, mean, per_sd = parts.permute(1, 2, 0).unsqueeze(2).contiguous()
        e = (y.squeeze(-1) - mean) * per_sd
        terms = torch.addcmul(log_weight, e, e, value=-0.5)
        # torch.logsumexp looks for infinities, which takes as long again.
        largest = terms.detach().amax(0).clamp(min=_LEAST)
        return (terms - largest).exp().sum(0).log() + largest

    return _side_by_side(log_prob, y, parts, row) + log_stretch


def _zuko(estimator: ZukoFlow, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    """sbi repeats the embedded condition for every outcome; the flow itself broadcasts."""
    embedded = estimator.embedding_net(rows)
    flow = _zuko_flow(estimator, embedded)
    if flow is None:
        return _side_by_side(lambda y, c: estimator.net(c).log_prob(y), x, embedded, row)
    return _through(flow, x, row)


def _nflows(estimator: NFlowsFlow, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    flow = _nflows_flow(estimator, rows)
    return _one_by_one(estimator, x, rows, row) if flow is None else _through(flow, x, row)


def _side_by_side(log_prob: Callable[[Tensor, Tensor], Tensor], x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    """Log densities of an estimator that takes outcomes (m, b, *outcome) for conditions (b, p)."""
    if len(rows) >= len(row):
        return log_prob(x.unsqueeze(0), _each(rows, row)).reshape(-1)
    outcome, repeat, place = map(torch.tensor, _blocks(row.tobytes(), len(rows)))
    return log_prob(x[outcome], rows.index_select(0, repeat)).reshape(-1).index_select(0, place)


@lru_cache(maxsize=32)
def _blocks(row: bytes, n_rows: int) -> tuple[Rows, Rows, Rows]:
    """Outcomes of one row cut into blocks of m, the last one filled up, with m the cheapest.

    Returns the outcomes (m, b), the row of every block (b,), and where each outcome is in the flattened table (n,).
    """
    rows = np.frombuffer(row, dtype=np.int64)
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=n_rows)
    m = min(np.unique(counts[counts > 0]), key=lambda k: (k + _NETWORK_COST) * np.ceil(counts / k).sum())
    blocks = -(-counts // m)
    rank = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows[order]]
    block = (np.cumsum(blocks) - blocks)[rows[order]] + rank // m
    outcome = np.empty((m, blocks.sum()), dtype=np.int64)
    outcome[:, block[rank % m == 0]] = order[rank % m == 0]
    outcome[rank % m, block] = order
    place = np.empty_like(order)
    place[order] = rank % m * blocks.sum() + block
    return outcome, np.repeat(np.arange(n_rows), blocks), place


def _codes(values: Tensor, column: Tensor) -> Rows:
    """Position of every outcome among the categories."""
    seen = column.numpy()
    return _found(values.numpy().astype(seen.dtype).tobytes(), seen.tobytes(), seen.dtype)


@lru_cache(maxsize=32)
def _found(values: bytes, column: bytes, dtype: np.dtype[Any]) -> Rows:
    """`_codes`, remembered: outcomes stay the same from gradient to gradient."""
    known, seen = np.sort(np.frombuffer(values, dtype)), np.frombuffer(column, dtype)
    code = np.searchsorted(known, seen).clip(max=len(known) - 1)
    if (known[code] != seen).any():
        unknown = np.unique(seen[known[code] != seen])
        raise InputError(
            f"the estimator was not trained on outcomes {', '.join(f'{v:g}' for v in unknown[:5])}; it knows "
            f"{len(known)} categories from {known[0]:g} to {known[-1]:g}. Train it on simulations that contain them."
        )
    return code


def _mass(estimator: CategoricalMassEstimator, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    """Log mass of categories, one table of categories per row."""
    if estimator.net.num_variables > 1:
        return _one_by_one(estimator, x, rows, row)
    table = log_table(estimator, rows)
    place = row * table.shape[-1] + _codes(estimator.net.categorical_values_per_var[0], x[:, 0])
    return table.reshape(-1).index_select(0, torch.from_numpy(place))


def log_table(estimator: CategoricalMassEstimator, rows: Tensor) -> Tensor:
    """Log mass of every category of a single outcome given every row of conditions (r, p), (r, k)."""
    # The network is autoregressive, so it does not look at the only outcome and any will do.
    return estimator.net(rows.new_zeros(len(rows), 1), rows).log_softmax(-1)


def _mixed(estimator: MixedDensityEstimator, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    n = estimator.discrete_net.net.num_variables
    return mixed_log_density(estimator, x[:, :-n], x[:, -n:], rows, row)


def mixed_log_density(
    estimator: MixedDensityEstimator, continuous: Tensor, discrete: Tensor, rows: Tensor, row: Rows
) -> Tensor:
    """log p(categories) + log p(continuous | categories): the second network once per row and combination seen."""
    net = estimator.discrete_net.net
    code = [_codes(values, discrete[:, i]) for i, values in enumerate(net.categorical_values_per_var)]
    sizes = (len(rows), *(len(values) for values in net.categorical_values_per_var))
    first, same = _alike(np.ravel_multi_index((row, *code), sizes).tobytes())
    log_p = log_density(estimator.discrete_net, discrete, rows, row)
    embedded = estimator.condition_embedding(rows).index_select(0, torch.from_numpy(row[first]))
    combined = torch.cat([discrete[torch.from_numpy(first)], embedded], -1)
    if not estimator.log_transform_input:
        return log_p + log_density(estimator.continuous_net, continuous, combined, same)
    y = torch.log(continuous)
    return log_p + log_density(estimator.continuous_net, y, combined, same) - y.sum(-1)


@lru_cache(maxsize=32)
def _alike(labels: bytes) -> tuple[Rows, Rows]:
    """Distinct whole numbers: the place of the first of each, and which of them every number equals."""
    _, first, same = np.unique(np.frombuffer(labels, dtype=np.int64), return_index=True, return_inverse=True)
    return first, same


def _ratio(estimator: RatioEstimator, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    """log p(x | condition) / p(x), up to a constant, the condition embedded once per row."""
    embedded = [_each(estimator.embedding_net_theta(rows), row), estimator.embedding_net_x(x)]
    return estimator.net(torch.cat(embedded, -1)).squeeze(-1)


@dataclass(frozen=True)
class _Splines:
    """Monotonic rational-quadratic splines, the identity outside: knots, their values, slopes there, (m, r, k)."""

    x: Tensor
    y: Tensor
    slope: Tensor


@dataclass(frozen=True)
class _Affine:
    """y = scale x + shift."""

    scale: Tensor
    shift: Tensor


@dataclass(frozen=True)
class _Flow:
    """A flow of one number: maps that depend on the condition only, one after the other, to a standard normal.

    None among the steps stands for the next of the splines, of which all rows have theirs.
    """

    steps: list[_Affine | None]
    splines: _Splines


def _zuko_flow(estimator: ZukoFlow, embedded: Tensor) -> _Flow | None:
    """sbi's `zuko_nsf` of one number; None for other flows."""
    from torch.distributions import AffineTransform
    from zuko.flows.gaussianization import ElementWiseTransform  # type: ignore[import-untyped]
    from zuko.transforms import MonotonicRQSTransform  # type: ignore[import-untyped]
    from zuko.utils import unpack  # type: ignore[import-untyped]

    transforms = getattr(estimator.net.transform, "transforms", ())
    splines = [t for t in transforms if isinstance(t, ElementWiseTransform)]
    if estimator.input_shape.numel() > 1 or not splines:
        return None
    raw = torch.stack([t.hyper(embedded) for t in splines])
    spline = splines[0].univariate(*unpack(raw, splines[0].shapes))
    steps = [None if isinstance(t, ElementWiseTransform) else t(embedded) for t in transforms]
    if not isinstance(spline, MonotonicRQSTransform) or not all(isinstance(t, AffineTransform | None) for t in steps):
        return None
    affine = [t and _Affine(torch.as_tensor(t.scale), torch.as_tensor(t.loc)) for t in steps]
    return _Flow(affine, _Splines(spline.horizontal, spline.vertical, spline.derivatives))


def _nflows_flow(estimator: NFlowsFlow, rows: Tensor) -> _Flow | None:
    """sbi's `nsf` of one number; None for other flows."""
    from nflows.transforms import (  # type: ignore[import-untyped]
        PiecewiseRationalQuadraticCouplingTransform,
        PointwiseAffineTransform,
    )

    leaves = _leaves(estimator.net._transform)
    splines = [leaf for leaf in leaves if isinstance(leaf, PiecewiseRationalQuadraticCouplingTransform)]
    affine = [leaf for leaf in leaves if isinstance(leaf, PointwiseAffineTransform)]
    if estimator.input_shape.numel() > 1 or not splines or len(splines) + len(affine) < len(leaves):
        return None
    embedded = estimator.embedding_net(rows)
    raw = torch.stack([leaf.transform_net(None, embedded) for leaf in splines])
    steps = [_Affine(leaf._scale, leaf._shift) if leaf in affine else None for leaf in leaves]
    return _Flow(steps, _nflows_splines(splines[0], raw))


def _leaves(transform: torch.nn.Module) -> list[Any]:
    """The transforms of an nflows flow in the order they are applied."""
    parts = getattr(transform, "_transforms", None)
    return [transform] if parts is None else [leaf for part in parts for leaf in _leaves(part)]


def _nflows_splines(transform: Any, raw: Tensor) -> _Splines:
    """raw: (m, r, 3 k - 1), widths, heights and inner slopes of k bins before normalisation, as `transform` does it."""
    k, bound, scale = transform.num_bins, transform.tail_bound, math.sqrt(transform.transform_net.hidden_features)
    smallest = raw.new_tensor([[transform.min_bin_width], [transform.min_bin_height]])
    share = smallest + (1 - smallest * k) * (raw[..., : 2 * k] / scale).unflatten(-1, (2, k)).softmax(-1)
    knots = functional.pad(2 * bound * share.cumsum(-1), (1, 0)) - bound
    slope = functional.pad(transform.min_derivative + functional.softplus(raw[..., 2 * k :]), (1, 1), value=1.0)
    return _Splines(knots[..., 0, :], knots[..., 1, :], slope)


def _through(flow: _Flow, x: Tensor, row: Rows) -> Tensor:
    """Log density of a flow of one number, (n,): splines once per row, one bin per outcome.

    nflows and zuko look at every knot for every outcome, and nflows picks outcomes by value, which cannot be traced.
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


def _extended(splines: _Splines) -> Tensor:
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
