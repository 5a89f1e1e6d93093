"""Log density of any sbi estimator, its network evaluated once for all outcomes that share a condition."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.cells import alike
from hddm_sbi.likelihoods.sbi import splines
from hddm_sbi.likelihoods.sbi.compatibility import nflows_flow, normals, standardised, zuko_flow

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
    parts = normals(estimator, rows)
    if parts is None:
        return _side_by_side(estimator.log_prob, x, rows, row)
    y, log_stretch = standardised(estimator, x)
    return _side_by_side(_of_normals, y, parts, row) + log_stretch


def _of_normals(y: Tensor, parts: Tensor) -> Tensor:
    """Log density of mixtures of normals, y (m, b, 1), parts (b, 3, k)."""
    # Components first, so that outcomes lie next to each other.
    log_weight, mean, per_sd = parts.permute(1, 2, 0).unsqueeze(2).contiguous()
    e = (y.squeeze(-1) - mean) * per_sd
    terms = torch.addcmul(log_weight, e, e, value=-0.5)
    # torch.logsumexp looks for infinities, which takes as long again.
    largest = terms.detach().amax(0).clamp(min=_LEAST)
    return (terms - largest).exp().sum(0).log() + largest


def _zuko(estimator: ZukoFlow, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    """sbi repeats the embedded condition for every outcome; the flow itself broadcasts."""
    embedded = estimator.embedding_net(rows)
    flow = zuko_flow(estimator, embedded)
    if flow is None:
        return _side_by_side(lambda y, c: estimator.net(c).log_prob(y), x, embedded, row)
    return splines.log_prob(flow, x, row)


def _nflows(estimator: NFlowsFlow, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    flow = nflows_flow(estimator, rows)
    return _one_by_one(estimator, x, rows, row) if flow is None else splines.log_prob(flow, x, row)


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
    first, same = alike(np.ravel_multi_index((row, *code), sizes).tobytes())
    log_p = log_density(estimator.discrete_net, discrete, rows, row)
    embedded = estimator.condition_embedding(rows).index_select(0, torch.from_numpy(row[first]))
    combined = torch.cat([discrete[torch.from_numpy(first)], embedded], -1)
    if not estimator.log_transform_input:
        return log_p + log_density(estimator.continuous_net, continuous, combined, same)
    y = torch.log(continuous)
    return log_p + log_density(estimator.continuous_net, y, combined, same) - y.sum(-1)


def _ratio(estimator: RatioEstimator, x: Tensor, rows: Tensor, row: Rows) -> Tensor:
    """log p(x | condition) / p(x), up to a constant, the condition embedded once per row."""
    embedded = [_each(estimator.embedding_net_theta(rows), row), estimator.embedding_net_x(x)]
    return estimator.net(torch.cat(embedded, -1)).squeeze(-1)
