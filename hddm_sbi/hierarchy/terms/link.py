"""Link functions: from the real line of a linear predictor onto the box of a likelihood."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hddm_sbi.types import Link

__all__ = ["Link", "edges_on_link", "from_link", "onto_box", "to_link"]

#: the soft edge of a box is this fraction of its width (on the link's scale); of 1 unit where the box is unbounded.
EDGE = 0.01
_WHISKER = 1e-6


def to_link(value: Tensor, link: Link) -> Tensor:
    """The link function itself: identity, log, or log odds."""
    if link == "log":
        return torch.log(value)
    return torch.logit(value) if link == "logit" else value


def from_link(eta: Tensor, link: Link) -> Tensor:
    """Inverse of `to_link`, without a box."""
    if link == "log":
        return torch.exp(eta)
    return torch.sigmoid(eta) if link == "logit" else eta


def onto_box(eta: Tensor, link: Link, low: float, high: float) -> Tensor:
    """Parameter value of the linear predictor eta, smoothly kept inside (low, high).

    value = inverse_link(eta + w softplus((l - eta) / w) - w softplus((eta - h) / w)) with l, h the edges on the link's
    scale and w one hundredth of h - l. Ten edge widths inside the box the value is inverse_link(eta) to 5e-7 of the
    width, so coefficients mean the same whichever likelihood is used; no draw can leave the box.

    >>> float(onto_box(torch.tensor(0.7, dtype=torch.float64), "identity", -5.0, 5.0))
    0.7
    >>> bool(onto_box(torch.tensor(80.0, dtype=torch.float64), "identity", -5.0, 5.0) < 5.0)
    True
    """
    lower, upper = edges_on_link(link, low, high)
    width = EDGE * (upper - lower) if math.isfinite(upper - lower) else EDGE
    # A whisker inside, so that rounding cannot put a value outside.
    lower, upper = lower + _WHISKER * width, upper - _WHISKER * width
    bounded = eta
    if math.isfinite(lower):
        bounded = bounded + width * torch.nn.functional.softplus((lower - eta) / width)
    if math.isfinite(upper):
        bounded = bounded - width * torch.nn.functional.softplus((eta - upper) / width)
    return from_link(bounded, link)


def edges_on_link(link: Link, low: float, high: float) -> tuple[float, float]:
    """The edges of a box on the link's scale, infinite where the link never reaches them."""
    if link == "identity":
        return low, high
    if link == "log":
        return (math.log(low) if low > 0 else -math.inf), (math.log(high) if high < math.inf else math.inf)
    return (math.log(low / (1 - low)) if low > 0 else -math.inf), (
        math.log(high / (1 - high)) if high < 1 else math.inf
    )
