"""Learned likelihoods: a network per cell, a mixture per trial, in one pass with the analytic gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numba as nb
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hddm_sbi.likelihood import Likelihood, SortedTrials
from hddm_sbi.network import Mixture, MixtureNetwork
from hddm_sbi.simulator import Simulator
from hddm_sbi.vecmath import FAST, exp_negative, log_positive, mix_lapse, total_of

Array = NDArray[np.float64]

_BLOCK = 128
_LOG_2PI_HALF = 0.9189385332046727
#: rows of theta that go through the network at a time where every trial has its own.
_CHUNK = 16_384

# With d = rt - t0, y = log d - s (s: log of the time scale), e_k = (y - m_k) / sd_k:
#   log p(rt, c) = log sum_k exp(log w_ck - log sd_k - e_k² / 2) - log(2 pi) / 2 - log d


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _mixture(
    rt: Array, t0: float, s: float, log_w: Array, mean: Array, log_sd: Array, e: Array, q: Array, logp: Array
) -> None:
    """log p of up to a block of trials above t0; leaves e_k and the responsibility of component k in e and q."""
    n, k = rt.shape[0], log_w.shape[0]
    largest, total, log_d = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    for i in range(n):
        log_d[i] = log_positive(rt[i] - t0)
        largest[i] = -1e300
        total[i] = 0.0
    for j in range(k):
        per_sd, constant, m = math.exp(-log_sd[j]), log_w[j] - log_sd[j] - _LOG_2PI_HALF, mean[j]
        for i in range(n):
            e[j, i] = (log_d[i] - s - m) * per_sd
            q[j, i] = constant - 0.5 * e[j, i] * e[j, i]
            largest[i] = max(largest[i], q[j, i])
    for j in range(k):
        for i in range(n):
            q[j, i] = exp_negative(q[j, i] - largest[i])
            total[i] += q[j, i]
    for i in range(n):
        logp[i] = largest[i] + log_positive(total[i]) - log_d[i]
        total[i] = 1.0 / total[i]
    for j in range(k):
        for i in range(n):
            q[j, i] *= total[i]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, forceinline=True)
def _accumulate(
    rt: Array, t0: float, log_sd: Array, e: Array, q: Array, weight: Array, g_w: Array, g_mean: Array, g_sd: Array
) -> tuple[float, float]:
    """Add the block's gradients by log weight, mean and log sd; return those by s and t0."""
    n, k = rt.shape[0], log_sd.shape[0]
    slope = np.zeros(_BLOCK)
    for j in range(k):
        per_sd = math.exp(-log_sd[j])
        by_w, by_mean, by_sd = 0.0, 0.0, 0.0
        for i in range(n):
            r = q[j, i] * weight[i]
            re = r * e[j, i]
            by_w += r
            by_mean += re
            by_sd += re * e[j, i] - r
            slope[i] -= re * per_sd
        g_w[j] += by_w
        g_mean[j] += by_mean * per_sd
        g_sd[j] += by_sd
    by_s, by_t0 = 0.0, 0.0
    for i in range(n):
        by_s -= slope[i]
        by_t0 -= (slope[i] - weight[i]) / (rt[i] - t0)
    return by_s, by_t0


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _cells(
    log_w: Array,
    mean: Array,
    log_sd: Array,
    s: Array,
    t0: Array,
    lapse: float,
    lapse_density: float,
    starts: NDArray[np.int64],
    rt: Array,
    total: Array,
    g_w: Array,
    g_mean: Array,
    g_sd: Array,
    g_s: Array,
    g_t0: Array,
    g_lapse: Array,
) -> None:
    """Per cell: sum over trials of log[(1 - lapse) p + lapse * lapse_density] and its gradients (added to zeros)."""
    n_choices, k = log_w.shape[1], log_w.shape[2]
    e, q = np.empty((k, _BLOCK)), np.empty((k, _BLOCK))
    logp, weight = np.empty(_BLOCK), np.ones(_BLOCK)
    log_lapse = math.log(lapse * lapse_density) if lapse > 0.0 else -math.inf
    log_odds = math.log1p(-lapse) - log_lapse
    for run in range(len(starts) - 1):
        c, j = run // n_choices, run % n_choices
        # At or below t0 there is no density, only a lapse.
        above = starts[run] + np.searchsorted(rt[starts[run] : starts[run + 1]], t0[c], side="right")
        below = above - starts[run]
        if below > 0:
            total[c] += below * log_lapse
            g_lapse[c] += below / lapse if lapse > 0.0 else 0.0
        for first in range(above, starts[run + 1], _BLOCK):
            block = rt[first : min(first + _BLOCK, starts[run + 1])]
            n = len(block)
            _mixture(block, t0[c], s[c], log_w[c, j], mean[c, j], log_sd[c, j], e, q, logp)
            if lapse > 0.0:
                total[c] += n * log_lapse + mix_lapse(logp, weight, n, log_odds)
                regular = total_of(weight, n)
                g_lapse[c] += (n - regular) / lapse - regular / (1.0 - lapse)
            else:
                total[c] += total_of(logp, n)
            by_s, by_t0 = _accumulate(block, t0[c], log_sd[c, j], e, q, weight, g_w[c, j], g_mean[c, j], g_sd[c, j])
            g_s[c] += by_s
            g_t0[c] += by_t0


@torch.library.custom_op("hddm_sbi::mixture_cells", mutates_args=())
def mixture_cells(
    log_w: Tensor,
    mean: Tensor,
    log_sd: Tensor,
    s: Tensor,
    t0: Tensor,
    lapse: Tensor,
    lapse_density: float,
    starts: Tensor,
    rt: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Log likelihood of every cell, then its gradients by log_w, mean, log_sd, s, t0 and lapse."""
    inputs = [x.detach().contiguous().numpy() for x in (log_w, mean, log_sd, s, t0)]
    outputs = [np.zeros(tuple(x.shape)) for x in (t0, log_w, mean, log_sd, s, t0, t0)]
    _cells(*inputs, float(lapse), lapse_density, starts.numpy(), rt.numpy(), *outputs)  # type: ignore[call-arg, arg-type]
    total, g_w, g_mean, g_sd, g_s, g_t0, g_lapse = (torch.from_numpy(x) for x in outputs)
    return total, g_w, g_mean, g_sd, g_s, g_t0, g_lapse


@mixture_cells.register_fake
def _(
    log_w: Tensor,
    mean: Tensor,
    log_sd: Tensor,
    s: Tensor,
    t0: Tensor,
    lapse: Tensor,
    lapse_density: float,
    starts: Tensor,
    rt: Tensor,
) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(x) for x in (t0, log_w, mean, log_sd, s, t0, t0))


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[1:])


def _backward(ctx, upstream, *_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
    g_w, g_mean, g_sd, g_s, g_t0, g_lapse = ctx.saved_tensors
    wide = upstream.unsqueeze(-1).unsqueeze(-1)
    by_lapse = (upstream * g_lapse).sum()
    return wide * g_w, wide * g_mean, wide * g_sd, upstream * g_s, upstream * g_t0, by_lapse, None, None, None


mixture_cells.register_autograd(_backward, setup_context=_save)


class NeuralLikelihood(Likelihood):
    """A likelihood learned from simulations: normalised by construction, smooth, zero at and below the shift.

    network: trained weights, used in float64. box: where it was trained. sha256: of the weights file, "" if unsaved.
    summary: what its card says in a few words.
    """

    kind = "neural"

    def __init__(
        self,
        simulator: Simulator,
        network: MixtureNetwork,
        box: Mapping[str, tuple[float, float]],
        *,
        sha256: str = "",
        summary: str = "",
    ) -> None:
        super().__init__(simulator, box)
        self.network = network.double().requires_grad_(False)
        self.sha256, self._summary = sha256, summary

    def mixture(self, theta: Tensor) -> Mixture:
        """Mixture over log reduced decision time for every row of theta and every choice, (n, n_choices, k)."""
        mixture: Mixture = self.network(self.network.reduction.reduce(theta))
        return mixture

    def cell_log_prob(self, theta: Tensor, trials: SortedTrials, lapse: Tensor) -> Tensor:
        """See `Likelihood.cell_log_prob`; the network runs once per cell."""
        reduction = self.network.reduction
        starts, rt = torch.from_numpy(trials.starts), torch.from_numpy(trials.rt)
        s, t0 = reduction.log_time_scale(theta), reduction.shift(theta)
        total, *_ = mixture_cells(*self.mixture(theta), s, t0, lapse, trials.lapse_density, starts, rt)
        return total

    def trial_log_prob(self, rt: Tensor, choice: Tensor, theta: Tensor) -> Tensor:
        """See `Likelihood.trial_log_prob`; the network runs once per row of theta, or once per distinct row where no
        gradient is asked for."""
        if theta.requires_grad or len(theta) == 0:
            chunks = [
                self._log_prob(*part) for part in zip(*(x.split(_CHUNK) for x in (rt, choice, theta)), strict=True)
            ]
            return torch.cat(chunks)
        rows, inverse = torch.unique(theta, dim=0, return_inverse=True)
        mixture = Mixture(
            *(torch.cat(parts) for parts in zip(*(self.mixture(r) for r in rows.split(_CHUNK)), strict=True))
        )
        return self._density(rt, theta, Mixture(*(part[inverse, choice] for part in mixture)))

    def _log_prob(self, rt: Tensor, choice: Tensor, theta: Tensor) -> Tensor:
        each = torch.arange(len(rt))
        return self._density(rt, theta, Mixture(*(part[each, choice] for part in self.mixture(theta))))

    def _density(self, rt: Tensor, theta: Tensor, mixture: Mixture) -> Tensor:
        reduction = self.network.reduction
        d = rt - reduction.shift(theta)
        # The untaken branch must stay finite, or its gradient would be nan.
        log_d = torch.log(torch.where(d > 0, d, 1.0))
        log_p = mixture.log_prob(log_d - reduction.log_time_scale(theta)) - log_d
        return torch.where(d > 0, log_p, -torch.inf)

    def __repr__(self) -> str:
        summary = f", {self._summary}" if self._summary else ""
        return f"NeuralLikelihood({self.simulator.name}: {' '.join(self.simulator.names)}{summary})"
