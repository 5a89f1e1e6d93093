"""What stands against a posterior, loud and specific: every function returns messages, which `fit` warns with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from hddm_sbi.errors import name_rows
from hddm_sbi.hierarchy.pilot.empirical_bayes import SecondMode
from hddm_sbi.hierarchy.terms.link import edges_on_link, to_link
from hddm_sbi.hierarchy.terms.predictor import Predictor
from hddm_sbi.inference import inference_data
from hddm_sbi.types import Array

MAX_RHAT = 1.01
MIN_ESS = 400
#: draws this near an edge of the box (fraction of its width on the link's scale), in this share of draws, are reported.
_NEAR_EDGE = 0.02
_SHARE_AT_EDGE = 0.05
#: acceptances of ever smaller steps, one of which is named where draws diverged.
_ACCEPTANCES = (0.95, 0.99, 0.999)

#: what the sampler says of every draw, by name.
Stats = Mapping[Any, Any]


class ConvergenceWarning(UserWarning):
    """The posterior is not to be trusted yet; the message says which part, and what to do.

    Examples
    --------
    >>> import warnings
    >>> import hddm_sbi as hs
    >>> warnings.simplefilter("error", hs.ConvergenceWarning)  # a script that must not go on with such a posterior
    >>> warnings.simplefilter("default", hs.ConvergenceWarning)
    """


def convergence_problems(posterior: xr.Dataset, stats: Stats, accepted: float) -> Iterator[str]:
    """Rhat above 1.01, effective sample sizes below 400, and divergent transitions, naming the worst. accepted: what
    the step size was tuned for."""
    if high := high_rhat(posterior):
        yield f"{high}: {_apart(stats) or 'run more tuning and draws'}"
    name, ess = inference_data.worst_ess(posterior)
    if ess < MIN_ESS:
        yield f"the effective sample size of {name} is {ess:.0f} (below {MIN_ESS}): take more draws"
    diverging = int(np.sum(stats.get("diverging", 0)))
    if diverging:
        higher = next((f"fit with target_accept={share:g}, " for share in _ACCEPTANCES if share > accepted), "")
        yield (
            f"{diverging} of {np.size(stats['diverging'])} draws diverged at target_accept={accepted:g}: {higher}"
            "tighten the priors of group standard deviations, or force centered=True or False"
        )


def high_rhat(posterior: xr.Dataset) -> str:
    """The largest Rhat, where it is above 1.01, or ""."""
    name, rhat = inference_data.worst_rhat(posterior) if posterior.sizes["chain"] > 1 else ("", 1.0)
    return f"Rhat of {name} is {rhat:.3f} (above {MAX_RHAT})" if rhat > MAX_RHAT else ""


def _apart(stats: Stats) -> str:
    """Which chains are in a mode of their own, and how much lower its log posterior is; "" where none is."""
    if "lp" not in stats:
        return ""
    lp = np.asarray(stats["lp"])
    lower = lp.mean(axis=1).max() - lp.mean(axis=1)
    worse = np.flatnonzero(lower > np.median(lp.std(axis=1)))
    if not len(worse):
        return ""
    named = ", ".join(f"{chain} (by {lower[chain]:.1f})" for chain in worse)
    return (
        f"chains are in different modes, and the log posterior of chain {named} is lower than that of the best: more "
        "draws do not help; look at the fastest and slowest trials, and at the priors of what differs between chains"
    )


def second_modes(found: Sequence[SecondMode], posterior: xr.Dataset, rt: Array) -> Iterator[str]:
    """Modes of like weight between which the chains seldom move. rt: of all trials, in the order of the table."""
    for mode in found:
        array = posterior[mode.variable]
        at = dict(zip(array.dims[2:], mode.index, strict=True))
        draws, labels = array.isel(at).to_numpy(), [str(array[dim].to_numpy()[i]) for dim, i in at.items()]
        nearer = np.abs(draws - mode.second) < np.abs(draws - mode.first)
        moves = np.count_nonzero(np.diff(nearer, axis=1))
        if moves >= MIN_ESS:
            continue
        named = f"{mode.variable}[{', '.join(labels)}]" if labels else mode.variable
        trials = mode.trials.tolist()
        remedy = "take many more draws" if moves else "fit twice, with a prior around each"
        yield (
            f"{named} has two modes of like weight, near {mode.first:.3f} and near {mode.second:.3f}, where the log "
            f"posterior is lower by about {mode.lower:.1f}: {name_rows(trials)} (0 = first; rt {rt[trials].min():.3f} "
            f"to {rt[trials].max():.3f}) are lapses in one of them and not in the other. {nearer.mean():.0%} of the "
            f"draws are in the second, and the chains moved between both {moves} times, so that share is not to be "
            f"trusted: leave those trials out if they are no decisions, or {remedy}"
        )


def quick_look(population: xr.Dataset, stats: Stats) -> str:
    """How far the means of a quick look's population parameters may be off, and what it cannot tell."""
    name, ess = inference_data.worst_ess(population)
    rhat_name, rhat = inference_data.worst_rhat(population)
    diverging = int(np.sum(stats.get("diverging", 0)))
    return (
        f"a quick look: the Monte Carlo error of population means is up to {ess**-0.5:.2f} posterior sds ({name}), and "
        f"the largest Rhat is {rhat:.3f} ({rhat_name}), with {diverging} divergences: fit without quick=True for "
        "results to report"
    )


def approximation(method: str) -> str:
    """An approximation's error is unknown."""
    return (
        f"method={method!r} is an approximation whose error no diagnostic shows: against NUTS, population means of "
        "'svi' and 'laplace' were off by posterior sds (docs/benchmarks.md); for a fast answer that can be trusted, "
        "fit(quick=True)"
    )


def early_end(reason: str, chains: int, draws: int) -> str:
    """Sampling ended early, why, and what there is."""
    return f"sampling ended early, {reason}: the {draws} draws made so far (chains: {chains}) are returned"


def went_on(posterior: xr.Dataset) -> str:
    """That Rhat asked for more draws than a fit takes first, or ""."""
    least, taken = posterior.attrs.get("least_draws", 0), posterior.sizes["draw"]
    if not 0 < least < taken:
        return ""
    return f"Sampling went on to {taken} draws of each chain, because Rhat was above {MAX_RHAT} after {least}."


def edge_problems(name: str, predictor: Predictor, values: Array, cells: Sequence[str]) -> Iterator[str]:
    """Draws of one parameter that press against the box. values: (draws, n_cells); cells: their descriptions."""
    eta = to_link(torch.as_tensor(values), predictor.link).numpy()
    lower, upper = edges_on_link(predictor.link, predictor.low, predictor.high)
    margin = _NEAR_EDGE * (upper - lower) if np.isfinite(upper - lower) else _NEAR_EDGE
    for edge, pressed, value in (
        ("lower", eta < lower + margin, predictor.low),
        ("upper", eta > upper - margin, predictor.high),
    ):
        share = pressed.mean(axis=0)
        worst = int(share.argmax())
        more = int((share > _SHARE_AT_EDGE).sum()) - 1
        if share[worst] > _SHARE_AT_EDGE:
            yield (
                f"{share[worst]:.0%} of the draws of {name!r} press against the {edge} edge ({value:g}) "
                f"of the likelihood's box in {cells[worst]}{f' and {more} other cells' if more else ''}: the posterior "
                "is cut off there. Check the trials (seconds? outliers?), or use a likelihood with a wider box "
                "(likelihood='exact')."
            )
