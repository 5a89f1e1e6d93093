"""What sbi leaves behind in a process, and how to keep it from doing so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributions import Distribution


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
