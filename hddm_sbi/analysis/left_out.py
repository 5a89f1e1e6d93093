"""What fits predict of trials, or of all trials of a group, that are left out (PSIS-LOO), and where that is unsure."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.analysis.refits import Refit
from hddm_sbi.errors import InputError, did_you_mean
from hddm_sbi.hierarchy import ConvergenceWarning, HierarchicalModel, approximation, column_of, table_of
from hddm_sbi.inference import inference_data
from hddm_sbi.types import Array, Index

#: what is left out where it is not all trials of one value of a column.
TRIAL = "trial"
#: standard error of what one refit says, in nats, above which that says little.
_UNSURE = 0.5
_SHOWN = 5
#: what to do where weights are unreliable: trials, or groups of them.
_OF_TRIALS = (
    "look at those trials (are they decisions? an estimated lapse= lets the model doubt them), fit again without each "
    "by refit=True ({cost}), or compare by='evidence'"
)
_OF_GROUPS = (
    "the effects of a group that is left out are known from its own trials, and the draws have them as they are with "
    "these; fit again without each by refit=True ({cost}), or compare by='evidence', which needs no weights"
)


@dataclass(frozen=True)
class LeftOut:
    """What fits of one table predict of parts of its trials, each left out in turn.

    by: "trial", or a column, all trials of one value of which are one part. labels: of the parts. of_trial: the part of
    every trial. fits, log_p, found: by name the posterior, the log likelihood of each part at its draws (chains, draws,
    n_parts), and ArviZ's PSIS-LOO. refits: by name and part what a fit without it says; see `Refit.run`.
    """

    by: str
    labels: Sequence[Hashable]
    of_trial: Index
    fits: Mapping[str, Any]
    log_p: Mapping[str, Array]
    found: Mapping[str, Any]
    refits: Mapping[str, Mapping[int, Mapping[str, Any]]]

    @classmethod
    def of(cls, fits: Mapping[str, Any], by: str) -> LeftOut:
        """From posteriors with a pointwise log likelihood. Raises InputError where no table has that column."""
        labels, of_trial = _parts(fits, by)
        log_p = {name: _summed(posterior, of_trial, len(labels)) for name, posterior in fits.items()}
        groups = {
            name: inference_data.add_group(posterior, "log_likelihood", {"parts": log_p[name]}, ["part"])
            for name, posterior in fits.items()
        }
        found = {name: inference_data.loo(posterior) for name, posterior in groups.items()}
        return cls(by, labels, of_trial, fits, log_p, found, {name: {} for name in fits})

    def unreliable(self, name: str) -> list[int]:
        """Parts whose weights are not to be trusted, the worst first."""
        k = self._k(name)
        return sorted(np.flatnonzero(k > self.found[name].good_k).tolist(), key=lambda part: -k[part])

    def tasks(self, models: Mapping[str, HierarchicalModel], most: int | None) -> dict[tuple[str, int], Refit]:
        """What is fitted again, by name and part: all that is unreliable, or the worst so many of each fit."""
        return {
            (name, part): Refit.of(
                models[name],
                posterior,
                np.flatnonzero(self.of_trial == part),
                self.labels[part],
                np.ascontiguousarray(self.log_p[name][..., part]),
            )
            for name, posterior in self.fits.items()
            for part in self.unreliable(name)[:most]
        }

    def with_refits(self, said: Mapping[tuple[str, int], Mapping[str, Any]]) -> LeftOut:
        """The same with what refits say in the place of weights; `Refit.run` of every task."""
        refits = {name: {part: of for (n, part), of in said.items() if n == name} for name in self.fits}
        found = {
            name: inference_data.with_exact(loo, {part: of["log_p"] for part, of in refits[name].items()})
            for name, loo in self.found.items()
        }
        return replace(self, found=found, refits=refits)

    def table(self) -> pd.DataFrame:
        """ArviZ's comparison, the best first, with the largest k that is left."""
        table = inference_data.compare(self.found)
        return table.assign(
            pareto_k=[float(np.max(self._k(str(name)))) for name in table.index],
            refits=[len(self.refits[str(name)]) for name in table.index],
        )

    def problems(self) -> list[str]:
        """Of each fit what is not to be trusted, and what to do."""
        said = [text for name in self.fits for text in self._of_method(name)]
        said += [self._of_weights(name) for name in self.fits if self.unreliable(name)]
        return said + [text for name in self.fits for text in self._of_refits(name)]

    def _k(self, name: str) -> Array:
        return np.asarray(self.found[name].pareto_k).reshape(-1)

    def _named(self, parts: Sequence[int]) -> str:
        shown = ", ".join(str(self.labels[part]) for part in parts[:_SHOWN])
        more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
        return f"without {self.by} {shown}{more}{' (0 = first)' if self.by == TRIAL else ''}"

    def _of_method(self, name: str) -> list[str]:
        """That draws are those of an approximation, whose own error no weight knows."""
        method = approximation(inference_data.dataset(self.fits[name]).attrs)
        if not method:
            return []
        return [
            f"{name}: its draws come from method={method!r}, an approximation, and elpd_loo is that of the "
            "approximation: fit with method='nuts' before you conclude."
        ]

    def _of_weights(self, name: str) -> str:
        """What a Pareto k above the limit says, and what to do."""
        parts, k, good = self.unreliable(name), self._k(name), self.found[name].good_k
        seconds = float(inference_data.dataset(self.fits[name]).attrs.get("sampling_seconds", np.nan))
        cost = f"{len(parts)} fit{'s' if len(parts) > 1 else ''}"
        cost += "" if np.isnan(seconds) else f", about {_duration(seconds * len(parts))}"
        return (
            f"{name}: {self._named(parts)} the posterior would be so different that its draws cannot be reweighted to "
            f"it (Pareto k up to {k.max():.2f}, above {good:.2f}, for {len(parts)} of {len(k)}), so elpd_loo may be "
            f"off by more than its standard error: {(_OF_TRIALS if self.by == TRIAL else _OF_GROUPS).format(cost=cost)}"
        )

    def _of_refits(self, name: str) -> list[str]:
        """What refits warn of, once, and which of them know too little."""
        refits, said = self.refits[name], []
        warned = [part for part, of in refits.items() if of["warnings"]]
        if warned:
            said.append(f"{name}: the fit {self._named(warned)} warns: {refits[warned[0]]['warnings'][0]}")
        unsure = [part for part, of in refits.items() if not of["error"] < _UNSURE]
        if unsure:
            worst = max(refits[part]["error"] for part in unsure)
            said.append(
                f"{name}: {self._named(unsure)} the density of what was left out is known up to a standard error of "
                f"{worst:.1f} nats only, as draws with and without it hardly meet: fit with more draws="
            )
        return said


def expected_predictive(left_out: LeftOut) -> pd.DataFrame:
    """ArviZ's comparison of fits by what they predict of what is left out, the best first; warns of what is unsure."""
    for text in left_out.problems():
        warnings.warn(text, ConvergenceWarning, stacklevel=3)
    return left_out.table()


def _duration(seconds: float) -> str:
    """In the unit that one thinks in: seconds, minutes, hours."""
    unit, name = next(((u, n) for u, n in ((3600.0, "h"), (60.0, "min")) if seconds >= 2 * u), (1.0, "s"))
    return f"{max(seconds / unit, 1.0):.0f} {name}"


def _parts(fits: Mapping[str, Any], leave_out: str) -> tuple[Sequence[Hashable], Index]:
    """Labels of what is left out, one at a time, and which of them every trial is in, (n_trials,)."""
    if leave_out == TRIAL:
        n = next(iter(_log_likelihood(next(iter(fits.values()))).values())).shape[-1]
        return range(n), np.arange(n)
    columns = (column_of(posterior, leave_out) for posterior in fits.values() if isinstance(leave_out, str))
    column = next((column for column in columns if column is not None), None)
    if column is None:
        tables = [table for table in map(table_of, fits.values()) if table is not None]
        known = [TRIAL, *dict.fromkeys(str(name) for table in tables for name in table)]
        raise InputError(
            f"leave_out={leave_out!r}: expected 'trial', or a column of the table, whose trials of one value are left "
            f"out together{did_you_mean(str(leave_out), known)} Known: {', '.join(known)}."
        )
    labels, of_trial = np.unique(column, return_inverse=True)
    return labels.tolist(), of_trial.reshape(-1)


def _log_likelihood(posterior: Any) -> dict[str, Array]:
    group = inference_data.dataset(posterior, "log_likelihood")
    return {str(name): x.transpose("chain", "draw", ...).to_numpy() for name, x in group.data_vars.items()}


def _summed(posterior: Any, of_trial: Index, n: int) -> Array:
    """Log likelihood of each of n parts of the trials at every draw, (chains, draws, n)."""
    order = np.argsort(of_trial, kind="stable")
    first = np.searchsorted(of_trial[order], np.arange(n))
    (x,) = _log_likelihood(posterior).values()
    return np.asarray(np.add.reduceat(x[..., order], first, axis=-1))
