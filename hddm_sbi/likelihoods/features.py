"""A parameter as a network sees it: between -2 and 2 over its box, itself or its logarithm."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def linear(x: Tensor, low: float, high: float) -> Tensor:
    """-2 at low, 2 at high."""
    return 4.0 * (x - low) / (high - low) - 2.0


def logarithmic(x: Tensor, low: float, high: float) -> Tensor:
    """The same of the logarithm of a positive parameter."""
    middle, half = 0.5 * math.log(low * high), 0.5 * math.log(high / low)
    return 2.0 * (torch.log(x) - middle) / half
