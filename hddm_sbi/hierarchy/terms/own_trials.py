"""What the trials of every group alone say of its level, and offsets that have it: partly centred effects."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# With a level m + u, u ~ N(0, s²), of which a group's trials say x with variance d, u given s is
#   N(w (x - m), s² (1 - w)),  w = s² / (s² + d):
# neither the multiple u / s of the population's sd nor the level itself, as d is large or small beside s², but both in
# part (Papaspiliopoulos, Roberts & Sköld 2007; Gorinova, Moore & Hoffman 2020). The offset y is the rest of u,
#   u = w (x - m) + s √(1 - w) y,
# whose posterior depends on s as little as x and d are right. Its prior has location -s (x - m) / (d k) and scale
# k = √(1 + s² / d) = 1 / √(1 - w), so that u = s (y - location) / scale.


@dataclass(frozen=True)
class OwnTrials:
    """Estimates of levels, x, and their variances, d: (n_levels, k) each."""

    level: Tensor
    variance: Tensor

    def offset_prior(self, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale of offsets, (..., n_levels, k), from m (..., k) and s (..., n_levels or 1, k)."""
        scale = torch.sqrt(1.0 + sd**2 / self.variance)
        return -sd * (self.level - mean.unsqueeze(-2)) / (self.variance * scale), scale
