"""What a model predicts of trials that are left out, by fitting it again without them."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hddm_sbi.analysis.fit import Fit, table_log_likelihood
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy import ConvergenceWarning, FitRecord, HierarchicalModel, check_fit_of
from hddm_sbi.inference import bridged
from hddm_sbi.seeds import derive_seed
from hddm_sbi.types import Array, Index

#: draws whose parameters are in memory at a time.
_BLOCK = 250


@dataclass(frozen=True)
class Refit:
    """A model that is fitted again without some of its trials, as it was fitted with them.

    record: how. rows: positions of the trials that are left out. label: of them. of_all: their log likelihood at draws
    of the fit of all trials (chains, draws).
    """

    model: HierarchicalModel
    record: FitRecord
    rows: Index
    label: Hashable
    of_all: Array

    @classmethod
    def of(cls, model: HierarchicalModel, posterior: Any, rows: Index, label: Hashable, of_all: Array) -> Refit:
        """Raises InputError where the posterior is not that of this model, or no sample of a posterior."""
        record, _ = check_fit_of(model, posterior)
        if record.approximate:
            raise InputError(
                f"a posterior comes from method={record.method!r}, an approximation, and refits would be compared with "
                "its draws: fit with method='nuts', or leave out refit=."
            )
        if len(rows) == len(model.trials):
            raise InputError(f"without {label!r} no trial is left: leave out something smaller.")
        return cls(model, record, rows, label, of_all)

    @property
    def name(self) -> str:
        """What it is known by in a folder: the model, its draws, and what is left out."""
        of = json.dumps([self.model.fingerprint, self.rows.tolist(), self.record.attributes()])
        return f"refit-{hashlib.sha256(of.encode() + self.of_all.tobytes()).hexdigest()[:16]}"

    def run(self) -> dict[str, Any]:
        """log_p: log density of these trials given all others; its standard error; and what the refit warns of.

        With p(y_out | y_others) = Z, the posterior of all trials is that of the others times p(y_out | theta) / Z, so
        that Z is the ratio of two integrals, and both fits say what it is (bridge sampling).
        """
        record, others = self.record, np.setdiff1d(np.arange(len(self.model.trials)), self.rows)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            posterior = self.model.seeing(others).fit(
                None if record.least_draws else record.draws,
                record.tune,
                record.chains,
                derive_seed(record.seed, int(self.rows[0])),
                record.method,
                ess=record.ess or None,
                progress=False,
            )
        stopped = posterior["posterior"].attrs["stopped"]
        if stopped == "interrupted":
            raise KeyboardInterrupt
        if stopped:
            raise InputError(f"without {self.label!r}: {stopped}.")
        log_p, error = bridged(self.of_all, self._at_draws(posterior))
        said = [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]
        return {"log_p": log_p, "error": error, "warnings": said}

    def _at_draws(self, posterior: Any) -> Array:
        """Log likelihood of the trials that are left out, at draws of a posterior (chains, draws)."""
        fit = Fit.of(self.model.seeing(self.rows), posterior)
        every = fit.spaced(fit.n_draws)
        blocks = np.array_split(every, -(-len(every) // _BLOCK))
        found = [table_log_likelihood(fit.model.uncentred, *fit.parameters(block)) for block in blocks]
        return np.concatenate(found).reshape(fit.known.sizes["chain"], fit.known.sizes["draw"])
