"""Bisection of many numbers at once, to rounding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_HALVINGS = 60


def bisect(beyond: Callable[[Tensor], Tensor], first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """What remains of intervals from first to last, of one shape, halved until their ends differ by rounding.

    beyond: whether what is sought lies beyond these middles.
    """
    for _ in range(_HALVINGS):
        middle = 0.5 * (first + last)
        later = beyond(middle)
        first, last = torch.where(later, middle, first), torch.where(later, last, middle)
    return first, last
