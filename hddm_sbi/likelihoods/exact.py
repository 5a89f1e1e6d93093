"""Closed-form likelihoods: a model's own log density and gradient, driven over sorted trials with lapses."""

from __future__ import annotations

from collections.abc import Callable

import numba as nb
import numpy as np
import torch
from numba import types
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.decision import DecisionLikelihood, SortedTrials
from hddm_sbi.numerics.operators import Kernel, operator
from hddm_sbi.numerics.vecmath import dot, lapse_law, mix_lapse, total_of
from hddm_sbi.simulation import DecisionModel, Simulator
from hddm_sbi.types import Array

#: trials whose densities are in flight at a time: small enough for the first-level cache.
_BLOCK = 128

_f8, _i8 = types.float64, types.int64
_DENSITY = types.FunctionType(types.void(_f8[::1], _i8, _f8[::1], _f8[::1], _f8[:, ::1]))


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _cells(
    theta: Array,
    lapse: float,
    lapse_density: float,
    starts: NDArray[np.int64],
    n_choices: int,
    rt: Array,
    density: Callable[..., None],
    total: Array,
    grad: Array,
    grad_lapse: Array,
) -> None:
    """Per cell: sum over trials of log[(1 - lapse) p + lapse * lapse_density], gradients by theta and lapse."""
    p = theta.shape[1]
    logp, weight, partial = np.empty(_BLOCK), np.ones(_BLOCK), np.empty((p, _BLOCK))
    lapses = lapse_law(lapse, lapse_density)
    total[:] = 0.0
    grad[:] = 0.0
    grad_lapse[:] = 0.0
    for run in range(theta.shape[0] * n_choices):
        cell, choice = run // n_choices, run % n_choices
        for first in range(starts[run], starts[run + 1], _BLOCK):
            last = min(first + _BLOCK, starts[run + 1])
            n = last - first
            density(theta[cell], choice, rt[first:last], logp, partial)
            value, by_lapse = mix_lapse(lapses, logp, weight, n)
            total[cell] += value
            grad_lapse[cell] += by_lapse
            for j in range(p):
                grad[cell, j] += dot(weight, partial[j], n) if lapse > 0.0 else total_of(partial[j], n)


# A torch operator takes tensors, numbers and strings, so it names a model's kernel by a key, of this process only.
_DENSITIES: dict[str, Callable[..., None]] = {}
_SIGNATURE = types.void(_f8[:, ::1], _f8, _f8, _i8[::1], _i8, _f8[::1], _DENSITY, _f8[::1], _f8[:, ::1], _f8[::1])
_KERNEL = Kernel(_cells, _SIGNATURE, _DENSITIES)


def _forward(
    theta: Tensor, lapse: Tensor, lapse_density: float, starts: Tensor, n_choices: int, rt: Tensor, kernel: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Log likelihood of every cell, its gradient by theta, and by the lapse probability."""
    total, grad, grad_lapse = np.empty(len(theta)), np.empty(tuple(theta.shape)), np.empty(len(theta))
    _KERNEL.compiled(
        theta.detach().contiguous().numpy(),
        float(lapse),
        lapse_density,
        starts.numpy(),
        n_choices,
        rt.numpy(),
        _DENSITIES[kernel],
        total,
        grad,
        grad_lapse,
    )
    return torch.from_numpy(total), torch.from_numpy(grad), torch.from_numpy(grad_lapse)


def _shapes(theta: Tensor, *given: object) -> tuple[Tensor, Tensor, Tensor]:
    return theta.new_empty(theta.shape[0]), theta.new_empty(theta.shape), theta.new_empty(theta.shape[0])


def _backward(ctx, upstream, *_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
    grad, grad_lapse = ctx.saved_tensors
    return upstream.unsqueeze(-1) * grad, (upstream * grad_lapse).sum(), None, None, None, None, None


exact_cells = operator("hddm_sbi::exact_cells", _KERNEL, _forward, _shapes, _backward)


class ExactLikelihood(DecisionLikelihood):
    """The closed form that a model declares as its `log_density`, on the model's whole support.

    Raises InputError for a model without a closed form.
    """

    kind = "exact"

    def __init__(self, simulator: Simulator) -> None:
        if not isinstance(simulator, DecisionModel) or simulator.log_density is None:
            raise InputError(f"{simulator.name!r} has no closed-form likelihood; use the learned one, kind='neural'.")
        super().__init__(simulator, simulator.support)
        self._log_density = simulator.log_density

    @property
    def _kernel(self) -> str:
        """The key of the model's kernel in this process, made anew where a likelihood comes from another one."""
        key = f"{self.simulator.name}#{id(self._log_density)}"
        _DENSITIES[key] = self._log_density
        return key

    @override
    def log_prob_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        """Every row is a cell of one trial."""
        n, n_choices = len(values), len(self.simulator.choices)
        after = torch.arange(n_choices) > values[:, 1:]
        starts = torch.cat([(torch.arange(n).unsqueeze(1) + after).reshape(-1), torch.tensor([n])])
        no_lapse = torch.zeros((), dtype=torch.float64)
        return exact_cells(theta, no_lapse, 0.0, starts, n_choices, values[:, 0].contiguous(), self._kernel)[0]

    @override
    def complete_by_cell(self, trials: SortedTrials, theta: Tensor, lapse: Tensor) -> Tensor:
        starts, rt = torch.from_numpy(trials.starts), torch.from_numpy(trials.rt)
        return exact_cells(theta, lapse, trials.lapse_density, starts, trials.n_choices, rt, self._kernel)[0]
