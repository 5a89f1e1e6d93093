"""The one module that knows what sbi, nflows and zuko keep to themselves, and what they leave behind in a process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional

from hddm_sbi.likelihoods.sbi.splines import Affine, Flow, Splines

if TYPE_CHECKING:
    from sbi.neural_nets.estimators import MixtureDensityEstimator, NFlowsFlow, ZukoFlow


@contextmanager
def validation_kept() -> Iterator[None]:
    """Keep the default of argument validation while sbi is imported: zuko, which sbi imports, switches it off for
    torch, and so for Pyro.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> with hs.validation_kept():
    ...     from sbi.inference import NLE
    """
    before = Distribution._validate_args
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """sbi's and nflows' samplers draw their noise in torch's default precision, whatever the network's."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        yield
    finally:
        torch.set_default_dtype(before)


class SilentTracker:
    """A tracker for sbi's trainers that keeps nothing; their default writes a folder `sbi-logs`.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> with hs.validation_kept():
    ...     from sbi.inference import NLE
    >>> trainer = NLE(tracker=hs.SilentTracker())
    """

    log_dir = None

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Forget one number."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Forget several numbers."""

    def log_params(self, params: dict[str, Any]) -> None:
        """Forget settings."""

    def add_figure(self, name: str, figure: Any, step: int | None = None) -> None:
        """Forget a figure."""

    def flush(self) -> None:
        """Nothing is left to write."""


def normals(estimator: MixtureDensityEstimator, rows: Tensor) -> Tensor | None:
    """log(weight / sd) - log(2 pi) / 2, mean and 1 / sd of the components given each row, (r, 3, k).

    None for outcomes of several numbers, or that are transformed other than by shift and scale.
    """
    if estimator.input_shape.numel() > 1 or estimator._prior_transform is not None:
        return None
    # sbi multiplies 1 x 1 matrices, and checks them, which cannot be compiled.
    net = estimator.net
    hidden = net._hidden_net(estimator.embedding_net(rows))
    root = functional.softplus(net._unconstrained_diagonal_layer(hidden))
    log_weight = net._logits_layer(hidden).log_softmax(-1) + root.log() - 0.5 * math.log(2 * math.pi)
    return torch.stack([log_weight, net._means_layer(hidden), (root * root + net._epsilon).sqrt()], 1)


def standardised(estimator: MixtureDensityEstimator, x: Tensor) -> tuple[Tensor, Tensor | float]:
    """Outcomes as the mixture of an estimator takes them, and the log of how much they are stretched."""
    if not estimator.has_input_transform:
        return x, 0.0
    scale = estimator._transform_scale
    return (x - estimator._transform_shift) / scale, -scale.log().sum()


def zuko_flow(estimator: ZukoFlow, embedded: Tensor) -> Flow | None:
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
    affine = [t and Affine(torch.as_tensor(t.scale), torch.as_tensor(t.loc)) for t in steps]
    return Flow(affine, Splines(spline.horizontal, spline.vertical, spline.derivatives))


def nflows_flow(estimator: NFlowsFlow, rows: Tensor) -> Flow | None:
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
    steps = [Affine(leaf._scale, leaf._shift) if leaf in affine else None for leaf in leaves]
    return Flow(steps, _nflows_splines(splines[0], raw))


def _leaves(transform: torch.nn.Module) -> list[Any]:
    """The transforms of an nflows flow in the order they are applied."""
    parts = getattr(transform, "_transforms", None)
    return [transform] if parts is None else [leaf for part in parts for leaf in _leaves(part)]


def _nflows_splines(transform: Any, raw: Tensor) -> Splines:
    """raw: (m, r, 3 k - 1), widths, heights and inner slopes of k bins before normalisation, as `transform` does it."""
    k, bound, scale = transform.num_bins, transform.tail_bound, math.sqrt(transform.transform_net.hidden_features)
    smallest = raw.new_tensor([[transform.min_bin_width], [transform.min_bin_height]])
    share = smallest + (1 - smallest * k) * (raw[..., : 2 * k] / scale).unflatten(-1, (2, k)).softmax(-1)
    knots = functional.pad(2 * bound * share.cumsum(-1), (1, 0)) - bound
    slope = functional.pad(transform.min_derivative + functional.softplus(raw[..., 2 * k :]), (1, 1), value=1.0)
    return Splines(knots[..., 0, :], knots[..., 1, :], slope)
