"""What fits predict of trials, or of all trials of a group, that are left out (PSIS-LOO), and where that is unsure."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.analysis.fit import ConvergenceWarning, in_files, inference_data
from hddm_sbi.errors import InputError, did_you_mean
from hddm_sbi.types import Array, Index

#: what is left out where it is not all trials of one value of a column.
TRIAL = "trial"
_SHOWN = 5
#: what to do where weights are unreliable: trials, or groups of them.
_OF_TRIALS = (
    "look at those trials (are they decisions? lapse='estimated' lets the model doubt them), or compare by='evidence'"
)
_OF_GROUPS = (
    "the effects of a group that is left out are known from its own trials, and the draws have them as they are with "
    "these; compare by='evidence', which needs no weights"
)


def expected_predictive(fits: Mapping[str, Any], leave_out: str) -> pd.DataFrame:
    """ArviZ's comparison of fits by what they predict of what is left out, the best first.

    leave_out: "trial", or a column of the table, all trials of one value of which are left out together. Warns of each
    fit whose importance weights are not to be trusted. Raises InputError where no table has that column.
    """
    labels, of_trial = _parts(fits, leave_out)
    found = {}
    for name, posterior in fits.items():
        found[name] = inference_data.loo(_summed(posterior, of_trial, len(labels)))
        k = np.asarray(found[name].pareto_k).reshape(-1)
        bad = np.flatnonzero(k > found[name].good_k)
        if len(bad):
            worst = bad[np.argsort(-k[bad])]
            warnings.warn(
                _unreliable(name, leave_out, [labels[i] for i in worst], k, found[name].good_k),
                ConvergenceWarning,
                stacklevel=3,
            )
    table = inference_data.compare(found)
    return table.assign(pareto_k=[float(np.max(found[str(name)].pareto_k)) for name in table.index])


def _unreliable(name: str, leave_out: str, labels: Sequence[Any], k: Array, good: float) -> str:
    """What a Pareto k above the limit says, and what to do. labels: of what is left out, the worst first."""
    shown = ", ".join(map(str, labels[:_SHOWN])) + (f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else "")
    return (
        f"{name}: without {leave_out} {shown}{' (0 = first)' if leave_out == TRIAL else ''} the posterior would be so "
        f"different that its draws cannot be reweighted to it (Pareto k up to {k.max():.2f}, above {good:.2f}, for "
        f"{len(labels)} of {len(k)}), so elpd_loo may be off by more than its standard error: "
        f"{_OF_TRIALS if leave_out == TRIAL else _OF_GROUPS}"
    )


def _parts(fits: Mapping[str, Any], leave_out: str) -> tuple[Sequence[Any], Index]:
    """Labels of what is left out, one at a time, and which of them every trial is in, (n_trials,)."""
    tables = [
        inference_data.dataset(posterior, "constant_data")
        for posterior in fits.values()
        if "constant_data" in inference_data.groups(posterior)
    ]
    if leave_out == TRIAL:
        n = next(iter(_log_likelihood(next(iter(fits.values()))).values())).shape[-1]
        return range(n), np.arange(n)
    column = next((table[in_files(leave_out)] for table in tables if in_files(leave_out) in table), None)
    if column is None:
        known = [TRIAL, *dict.fromkeys(str(name) for table in tables for name in table)]
        raise InputError(
            f"leave_out={leave_out!r}: expected 'trial', or a column of the table, whose trials of one value are left "
            f"out together{did_you_mean(leave_out, known)} Known: {', '.join(known)}."
        )
    labels, of_trial = np.unique(column.to_numpy(), return_inverse=True)
    return labels.tolist(), of_trial.reshape(-1)


def _log_likelihood(posterior: Any) -> dict[str, Array]:
    group = inference_data.dataset(posterior, "log_likelihood")
    return {str(name): x.transpose("chain", "draw", ...).to_numpy() for name, x in group.data_vars.items()}


def _summed(posterior: Any, of_trial: Index, n: int) -> Any:
    """A posterior whose log likelihood is that of each of n parts of the trials."""
    order = np.argsort(of_trial, kind="stable")
    first = np.searchsorted(of_trial[order], np.arange(n))
    parts = {name: np.add.reduceat(x[..., order], first, axis=-1) for name, x in _log_likelihood(posterior).items()}
    return inference_data.add_group(posterior, "log_likelihood", parts, ["part"])
