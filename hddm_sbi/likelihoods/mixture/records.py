"""Records that the mixture kernels take, each of a type of its own: two of them cannot be swapped unseen."""

from __future__ import annotations

from typing import NamedTuple

from hddm_sbi.types import Array, Index


class Law(NamedTuple):
    """How decision times come about; the same for all cells.

    racing: choices are independent accumulators. tail: 1 where the late tail is heavy, -1 where the early one is, else
    0.
    """

    racing: bool
    tail: int


class Cells(NamedTuple):
    """Log time scale and non-decision time of every cell (n,), its clock (n, 3), and the width of its delay (n,).

    Where choices race, each has a log time scale: s is (n * n_choices,), cell by cell.

    The clock is one over the time at which decisions end, or 0, and rate and power of the collapse.
    """

    s: Array
    t0: Array
    clock: Array
    delay: Array


class Components(NamedTuple):
    """A mixture of normals (k,), or those of rows side by side (k, rows)."""

    log_w: Array
    mean: Array
    log_sd: Array


class Trials(NamedTuple):
    """rt in ascending order within every run; run cell * n_choices + choice begins at its entry of `starts`."""

    starts: Index
    rt: Array


class Rows(NamedTuple):
    """Cells and choices that need a mixture."""

    cell: Index
    choice: Index


class Gradients(NamedTuple):
    """Gradients by `Components`, laid out as they are."""

    log_w: Array
    mean: Array
    log_sd: Array


class Totals(NamedTuple):
    """What the trials of a cell add up to: its log likelihood (n,), and the gradients by cells and lapse."""

    total: Array
    cells: Cells
    lapse: Array
