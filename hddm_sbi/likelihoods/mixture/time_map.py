"""From decision times to the coordinate in which mixtures are normal, and back, by the clock that a model declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from hddm_sbi.likelihoods.mixture.collapse import collapse, log_time_on

#: steps of Newton's method, of which six reach rounding up to z = 60, where y = 1 860.
_STEPS = 7


class TimeMap:
    """Decision time t, log reduced time y and coordinate z, s the log of the time scale.

    y = log t - log(1 - r t) - s, r one over the time at which decisions end; where bounds collapse, log t + C - s as in
    `collapse.py`. z = y; where the late tail is heavy, exponential in y, z = y - w + sqrt(1 + 2w) - 1, w = log(1 +
    exp(y)): from y to sqrt(2y), where such a tail is that of a normal; where the early tail is, the same of -y, and -z.

    closing, collapse, tail: as a simulator's clock declares them. As an attribute, tail is 1 where the late tail is
    heavy, -1 where the early one is, else 0.
    """

    def __init__(
        self,
        closing: Callable[[Mapping[str, Tensor]], Any] | None,
        collapse: Callable[[Mapping[str, Tensor]], tuple[Any, Any]] | None,
        tail: Literal["late", "early"] | None,
    ) -> None:
        self._closing, self._collapse = closing, collapse
        self.tail = {None: 0, "late": 1, "early": -1}[tail]

    def clock(self, by_name: Mapping[str, Tensor], nothing: Tensor) -> Tensor:
        """r, and rate and power of the collapse, (n, 3), at parameters by name; nothing: zeros (n,)."""
        closing = nothing if self._closing is None else torch.as_tensor(self._closing(by_name))
        rate, power = (nothing, nothing) if self._collapse is None else self._collapse(by_name)
        return torch.stack([closing, rate, power], -1)

    def log_time(self, decision: Tensor, log_scale: Tensor, clock: Tensor) -> tuple[Tensor, Tensor]:
        """y of decision times (n, m) before all decisions end, and log dy/dt; log_scale (n, m or 1), clock (n, 3)."""
        closing, rate, power = clock.unsqueeze(1).unbind(-1)
        left = 1.0 - decision * closing
        y = torch.log(decision / left) - log_scale
        log_slope = -torch.log(decision * left)
        if self._collapse is None:
            return y, log_slope
        later, log_stretch = collapse(torch.log(decision), rate, power)
        return y + later, log_slope + log_stretch

    def time(self, y: Tensor, log_scale: Tensor, clock: Tensor) -> Tensor:
        """The decision time whose log reduced time is y; y (n, m), log_scale (n, m or 1), clock (n, 3) -> (n, m)."""
        closing, rate, power = clock.unsqueeze(1).unbind(-1)
        on_clock = y + log_scale
        if self._collapse is not None:
            return torch.exp(log_time_on(on_clock, rate, power))
        return torch.exp(on_clock) / (1.0 + torch.exp(on_clock) * closing)

    def coordinate(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """z of log reduced times, and log dz/dy; all of one shape."""
        if self.tail == 0:
            return y, torch.zeros_like(y)
        outward = self.tail * y
        w = torch.nn.functional.softplus(outward)
        root = torch.sqrt(1.0 + 2.0 * w)
        return self.tail * (outward - w + root - 1.0), torch.log1p(torch.sigmoid(outward) * (1.0 / root - 1.0))

    def log_time_at(self, z: Tensor) -> Tensor:
        """The y whose coordinate is z, by Newton's method from y = z: z is concave in y, so no step goes too far."""
        if self.tail == 0:
            return z
        y = z
        for _ in range(_STEPS):
            at, log_slope = self.coordinate(y)
            y = y + (z - at) * torch.exp(-log_slope)
        return y
