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
    return getattr(kind, "row_log_prob", _one_by_one)


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
        log_weight, mean, per_sd = parts.unbind(1)
        e = (y - mean) * per_sd
        terms = log_weight - 0.5 * e * e
        # torch.logsumexp looks for infinities, which takes as long again.
        largest = terms.detach().amax(-1, keepdim=True).clamp(min=_LEAST)
        return (terms - largest).exp().sum(-1).log() + largest.squeeze(-1)

    return _side_by_side(log_prob, y, parts, row) + log_stretch


def _zuko(estimator: ZukoFlow, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    """sbi repeats the embedded condition for every outcome; the flow itself broadcasts."""
    embedded = estimator.embedding_net(rows)
    steps = _zuko_steps(estimator, embedded)
    if steps is None:
        return _side_by_side(lambda y, c: estimator.net(c).log_prob(y), x, embedded, row)
    return _through(steps, x, row)


def _nflows(estimator: NFlowsFlow, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    steps = _nflows_steps(estimator, rows)
    return _one_by_one(estimator, x, rows, row) if steps is None else _through(steps, x, row)


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
    known = np.sort(values.numpy())
    seen = column.numpy()
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
    return table.reshape(-1).index_select(0, torch.tensor(place))


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
    combined = torch.cat([discrete[first], estimator.condition_embedding(rows)[row[first]]], -1)
    if not estimator.log_transform_input:
        return log_p + log_density(estimator.continuous_net, continuous, combined, same)
    y = torch.log(continuous)
    return log_p + log_density(estimator.continuous_net, y, combined, same) - y.sum(-1)


@lru_cache(maxsize=32)
def _alike(labels: bytes) -> tuple[Rows, Rows]:
    """Of whole numbers: where each is found first, and which of these every one is like."""
    _, first, same = np.unique(np.frombuffer(labels, dtype=np.int64), return_index=True, return_inverse=True)
    return first, same


def _ratio(estimator: RatioEstimator, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    """log p(x | condition) / p(x), up to a constant, the condition embedded once per row."""
    embedded = [_each(estimator.embedding_net_theta(rows), row), estimator.embedding_net_x(x)]
    return estimator.net(torch.cat(embedded, -1)).squeeze(-1)


@dataclass(frozen=True)
class _Spline:
    """Monotonic rational-quadratic splines of rows, the identity outside: knots, their values, slopes there, (r, k)."""

    x: Tensor
    y: Tensor
    slope: Tensor


@dataclass(frozen=True)
class _Affine:
    """y = scale x + shift."""

    scale: Tensor
    shift: Tensor


#: a flow of one number: maps that depend on the condition only, one after the other, to a standard normal.
Steps = list["_Spline | _Affine"]


def _zuko_steps(estimator: ZukoFlow, embedded: Tensor) -> Steps | None:
    """sbi's `zuko_nsf` of one number; None for other flows."""
    from torch.distributions import AffineTransform
    from zuko.transforms import MonotonicRQSTransform  # type: ignore[import-untyped]

    if estimator.input_shape.numel() > 1:
        return None
    steps: Steps = []
    for transform in estimator.net(embedded).transform.transforms:
        spline = getattr(transform, "base", transform)
        if isinstance(spline, MonotonicRQSTransform):
            steps.append(_Spline(spline.horizontal[:, 0], spline.vertical[:, 0], spline.derivatives[:, 0]))
        elif isinstance(transform, AffineTransform):
            steps.append(_Affine(torch.as_tensor(transform.scale), torch.as_tensor(transform.loc)))
        else:
            return None
    return steps


def _nflows_steps(estimator: NFlowsFlow, rows: Tensor) -> Steps | None:
    """sbi's `nsf` of one number; None for other flows."""
    from nflows.transforms import (  # type: ignore[import-untyped]
        PiecewiseRationalQuadraticCouplingTransform,
        PointwiseAffineTransform,
    )

    leaves = _leaves(estimator.net._transform)
    known = (PointwiseAffineTransform, PiecewiseRationalQuadraticCouplingTransform)
    if estimator.input_shape.numel() > 1 or not all(isinstance(leaf, known) for leaf in leaves):
        return None
    embedded = estimator.embedding_net(rows)
    return [
        _Affine(leaf._scale, leaf._shift)
        if isinstance(leaf, PointwiseAffineTransform)
        else _nflows_spline(leaf, leaf.transform_net(None, embedded))
        for leaf in leaves
    ]


def _leaves(transform: torch.nn.Module) -> list[Any]:
    """The transforms of an nflows flow in the order they are applied."""
    parts = getattr(transform, "_transforms", None)
    return [transform] if parts is None else [leaf for part in parts for leaf in _leaves(part)]


def _nflows_spline(transform: Any, raw: Tensor) -> _Spline:
    """raw: (r, 3 k - 1), widths, heights and inner slopes of k bins before normalisation."""
    k, bound, scale = transform.num_bins, transform.tail_bound, math.sqrt(transform.transform_net.hidden_features)
    smallest = raw.new_tensor([[transform.min_bin_width], [transform.min_bin_height]])
    share = smallest + (1 - smallest * k) * (raw[:, : 2 * k] / scale).unflatten(-1, (2, k)).softmax(-1)
    knots = functional.pad(2 * bound * share.cumsum(-1), (1, 0)) - bound
    slope = functional.pad(transform.min_derivative + functional.softplus(raw[:, 2 * k :]), (1, 1), value=1.0)
    return _Spline(knots[:, 0], knots[:, 1], slope)


def _through(steps: Steps, x: Tensor, row: Rows) -> Tensor:
    """Log density of a flow of one number, (n,): splines once per row, one bin per outcome.

    nflows and zuko look at every knot for every outcome, and nflows picks outcomes by value, which cannot be traced.
    """
    y, slope, place = x.reshape(-1), x.new_ones(len(x)), torch.tensor(row)
    for step in steps:
        if isinstance(step, _Spline):
            y, more = _bend(step, y, place)
            slope = slope * more
        else:
            y, slope = y * step.scale + step.shift, slope * step.scale.abs()
    return slope.log() - 0.5 * y * y - 0.5 * math.log(2 * math.pi)


def _bend(spline: _Spline, x: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """A spline and its slope (Durkan et al. 2019, eqs. 4 and 5).

    With xi = (x - x0) / width, s = height / width, slopes d0 and d1 at the ends of the bin, b = s - d0,
    c = d0 + d1 - 2 s: y = y0 + height xi (b xi + d0) / (s + c xi (1 - xi)),
    dy/dx = s^2 (c xi^2 + 2 b xi + d0) / (s + c xi (1 - xi))^2.
    """
    knot, inside = _bin(spline.x.detach(), x.detach(), row)
    ends = torch.stack([spline.x, spline.y, spline.slope]).flatten(1)
    (x0, y0, d0), (x1, y1, d1) = ends.index_select(1, knot), ends.index_select(1, knot + 1)
    width, height = x1 - x0, y1 - y0
    s, xi = height / width, (x - x0) / width
    b, c = s - d0, d0 + d1 - 2 * s
    rising = b * xi
    bottom = s + c * (xi - xi * xi)
    steep = s / bottom
    y, slope = y0 + height * xi * (rising + d0) / bottom, steep * steep * ((c * xi + b) * xi + rising + d0)
    return torch.where(inside, y, x), torch.where(inside, slope, 1.0)


def _bin(knots: Tensor, x: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """The knot before every x among those of its row, all rows laid end to end, and whether it lies between the first
    and the last of them, which are the same in all rows."""
    k, bound = knots.shape[1], knots[0, -1]
    start = 4 * bound * torch.arange(len(knots), dtype=torch.float64)
    ends = (knots + start.unsqueeze(-1)).reshape(-1)
    sought = x.clamp(-1.5 * bound, 1.5 * bound) + start.index_select(0, row)
    before = torch.searchsorted(ends, sought, right=True) - 1 - k * row
    return k * row + before.clamp(0, k - 2), x.abs() < bound
