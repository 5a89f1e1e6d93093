"""Loud and specific warnings about a posterior that should not be trusted yet."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from hddm_sbi.hierarchy.link import edges_on_link, to_link
from hddm_sbi.hierarchy.predictor import Predictor
from hddm_sbi.inference import inference_data

MAX_RHAT = 1.01
MIN_ESS = 400
#: draws this near an edge of the box (fraction of its width on the link's scale), in this share of draws, are reported.
_NEAR_EDGE = 0.02
_SHARE_AT_EDGE = 0.05


class ConvergenceWarning(UserWarning):
    """The posterior is not to be trusted yet; the message says which part, and what to do."""


def warn(posterior: xr.Dataset, stats: Mapping[str, NDArray[np.generic]], chains: int) -> None:
    """Warn about Rhat above 1.01, effective sample sizes below 400, and divergent transitions, naming the worst."""
    problems = []
    if chains > 1:
        name, rhat = inference_data.worst_rhat(posterior)
        if rhat > MAX_RHAT:
            problems.append(f"Rhat of {name} is {rhat:.3f} (above {MAX_RHAT}): run more tuning and draws")
    name, ess = inference_data.worst_ess(posterior)
    if ess < MIN_ESS:
        problems.append(f"the effective sample size of {name} is {ess:.0f} (below {MIN_ESS}): take more draws")
    diverging = int(np.sum(stats.get("diverging", 0)))
    if diverging:
        problems.append(
            f"{diverging} of {np.size(stats['diverging'])} draws diverged: tune longer, tighten the priors of group "
            "standard deviations, or force centered=True or False"
        )
    for problem in problems:
        warnings.warn(problem, ConvergenceWarning, stacklevel=5)


def warn_quick(population: xr.Dataset, stats: Mapping[str, NDArray[np.generic]]) -> None:
    """Say how far the means of a quick look's population parameters may be off, and what it cannot tell."""
    name, ess = inference_data.worst_ess(population)
    rhat_name, rhat = inference_data.worst_rhat(population)
    diverging = int(np.sum(stats.get("diverging", 0)))
    warnings.warn(
        f"a quick look: the Monte Carlo error of population means is up to {ess**-0.5:.2f} posterior sds ({name}), and "
        f"the largest Rhat is {rhat:.3f} ({rhat_name}), with {diverging} divergences: fit without quick=True for "
        "results to report",
        ConvergenceWarning,
        stacklevel=5,
    )


def warn_approximate(method: str) -> None:
    """Warn that a normal approximation's error is unknown."""
    warnings.warn(
        f"method={method!r} is a normal approximation whose error no diagnostic shows: against NUTS, population means "
        "were off by posterior sds (docs/benchmarks.md); for a fast answer that can be trusted, fit(quick=True)",
        ConvergenceWarning,
        stacklevel=5,
    )


def warn_stopped(reason: str, chains: int, draws: int) -> None:
    """Say that sampling ended early, why, and what there is."""
    warnings.warn(
        f"sampling ended early, {reason}: the {draws} draws made so far (chains: {chains}) are returned",
        ConvergenceWarning,
        stacklevel=5,
    )


def warn_at_edge(predictor: Predictor, values: NDArray[np.float64], cells: list[str]) -> None:
    """Warn where draws of one parameter press against the box. values: (draws, n_cells); cells: their descriptions."""
    eta = to_link(torch.as_tensor(values), predictor.link).numpy()
    lower, upper = edges_on_link(predictor.link, predictor.low, predictor.high)
    margin = _NEAR_EDGE * (upper - lower) if np.isfinite(upper - lower) else _NEAR_EDGE
    for edge, pressed, value in (
        ("lower", eta < lower + margin, predictor.low),
        ("upper", eta > upper - margin, predictor.high),
    ):
        share = pressed.mean(axis=0)
        worst = int(share.argmax())
        if share[worst] > _SHARE_AT_EDGE:
            warnings.warn(
                f"{share[worst]:.0%} of the draws of {predictor.name!r} press against the {edge} edge ({value:g}) "
                f"of the likelihood's box in {cells[worst]}{_others(share)}: the posterior is cut off there. "
                "Check the trials (seconds? outliers?), or use a likelihood with a wider box (likelihood='exact').",
                ConvergenceWarning,
                stacklevel=5,
            )


def _others(share: NDArray[np.float64]) -> str:
    more = int((share > _SHARE_AT_EDGE).sum()) - 1
    return f" and {more} other cells" if more > 0 else ""
