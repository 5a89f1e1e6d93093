"""A model from the file of its fit: table, formulas, priors, lapses and likelihood, and nothing that runs."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from pyro.distributions import TorchDistribution

from hddm_sbi.data import Sequence as TrialSequence
from hddm_sbi.data import from_record, in_files, monotonic_columns, occurring_in, ordered_levels
from hddm_sbi.errors import FitFileWarning, InputError, TableWarning
from hddm_sbi.hierarchy.fits.belonging import differences
from hddm_sbi.hierarchy.fits.posterior import LIKELIHOOD, check_seals, seals, table_of
from hddm_sbi.hierarchy.fits.record import FitRecord
from hddm_sbi.hierarchy.model import HierarchicalModel
from hddm_sbi.hierarchy.priors.choice import PriorRecord
from hddm_sbi.inference import inference_data
from hddm_sbi.likelihoods import catalogue


def load_model(
    fit: str | Path | Any,
    *,
    likelihood: Any = None,
    priors: Mapping[str, TorchDistribution] | None = None,
    sequences: Mapping[str, TrialSequence] | None = None,
) -> HierarchicalModel:
    """The model of a fit, from its file alone.

    Nothing in the file runs, and nothing is unpickled. The model has the same table, formulas, priors, lapses and
    likelihood, so that `theta`, the log likelihood and predictions are the same.

    Parameters
    ----------
    fit
        A file that `posterior.to_netcdf` wrote, or the posterior itself.
    likelihood
        The likelihood, or the path of its file, where the fit does not lead to it: a class of your own, or a file that
        was moved. It must be the one that was fitted. `keep_likelihood` puts a learned one into the fit.
    priors
        Coefficient name -> Pyro distribution, for priors that a file cannot hold.
    sequences
        Covariate -> rule, for rules of your own, whose functions a file cannot hold.

    Returns
    -------
    HierarchicalModel
        Ready to be fitted again, and to be given to any function together with the posterior.

    Raises
    ------
    InputError
        The file cannot be read, was written by another version in a way that matters, or was edited; or its likelihood
        or a prior is missing, or is not the one that was fitted.

    Warns
    -----
    FitFileWarning
        Where the draws are not those that `fit` wrote: they were selected or edited.

    Examples
    --------
    >>> import tempfile
    >>> import hddm_sbi as hs
    >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=200, seed=1)
    >>> model = hs.HierarchicalModel({"v": "1", "a": "1", "z": 0.5, "t0": 0.3}, data, likelihood="exact")
    >>> posterior = model.fit(draws=1000, tune=300, chains=2, seed=1, progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = posterior.to_netcdf(f"{folder}/fit.nc")
    ...     again = hs.load_model(path)
    >>> again
    HierarchicalModel(ddm, exact likelihood, 200 trials in 1 cell: v ~ 1, a ~ 1, z = 0.5, t0 = 0.3)
    >>> bool((again.theta(posterior) == model.theta(posterior)).all())
    True
    """
    return load_fit(fit, likelihood=likelihood, priors=priors, sequences=sequences)[0]


def load_fit(
    fit: str | Path | Any,
    *,
    likelihood: Any = None,
    priors: Mapping[str, TorchDistribution] | None = None,
    sequences: Mapping[str, TrialSequence] | None = None,
) -> tuple[HierarchicalModel, Any]:
    """The model of a fit, as `load_model` makes it, and its posterior."""
    posterior, beside = read_fit(fit)
    record = FitRecord.read(inference_data.dataset(posterior).attrs)
    known = {name: prior for name, prior in record.priors.items() if name != "lapse" and name not in (priors or {})}
    found = _likelihood(posterior, record, beside) if likelihood is None else likelihood
    observed = map(str, inference_data.dataset(posterior, "observed_data"))
    outcomes = dict(zip(observed, record.outcome_columns, strict=True))
    # What only models of rt and response know.
    decided: dict[str, Any] = outcomes if set(outcomes) == {"rt", "response"} else {}
    if record.lapse_seconds:
        decided["lapse_seconds"] = record.lapse_seconds
    if record.lapse_mean:
        decided["lapse_mean"] = record.lapse_mean
    if record.lapse_choices:
        decided["lapse_choices"] = record.lapse_choices
    with warnings.catch_warnings():
        # The model of the fit has said it.
        warnings.simplefilter("ignore", TableWarning)
        model = HierarchicalModel(
            dict(record.formulas),
            _table(posterior, record),
            simulator=record.model if found in ("neural", "exact") else None,
            likelihood=found,
            priors=record.prior_set or {**{name: prior.build() for name, prior in known.items()}, **(priors or {})},
            lapse=record.lapse.build() if isinstance(record.lapse, PriorRecord) else record.lapse,
            choices=_responses(posterior, record),
            stimulus=record.stimulus or None,
            **record.missing,
            sequences={name: _sequence(name, known, sequences or {}) for name, known in record.sequences.items()},
            centered=dict(record.centred) or "auto",
            **decided,
        )
    _same(model, record)
    return model, posterior


def read_fit(fit: str | Path | Any) -> tuple[Any, Path]:
    """A fit and the folder that it lies in. Raises InputError where it was edited, and warns of edited draws."""
    posterior, beside = (
        (inference_data.read(Path(fit)), Path(fit).parent) if isinstance(fit, str | Path) else (fit, Path())
    )
    try:
        changed = check_seals(posterior)
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"expected the file of a fit, or what model.fit returned; got {type(fit).__name__}.") from None
    if changed:
        warnings.warn(changed, FitFileWarning, stacklevel=3)
    return posterior, beside


def keep_likelihood(model: HierarchicalModel, posterior: Any) -> Any:
    """A fit with the weights of its learned likelihood inside, so that its file needs no other.

    Parameters
    ----------
    model
        The fitted model; its likelihood is learned.
    posterior
        What `model.fit` returned.

    Returns
    -------
    arviz.InferenceData
        The same with one more variable in `constant_data`: the bytes of the likelihood's file, and its card.

    Raises
    ------
    InputError
        The likelihood has no file, as a closed form or a class of your own.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> trials = hs.simulate_experiment(n_subjects=2, n_trials=40).trials
    >>> model = hs.HierarchicalModel({"v": "condition", "a": 1.0, "z": 0.5, "t0": 0.3}, trials)
    >>> posterior = hs.keep_likelihood(model, model.fit(draws=1000, chains=2, seed=1, progress=False))
    >>> hs.load_model(posterior).likelihood.sha256 == model.likelihood.sha256
    True
    """
    check_seals(posterior)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "likelihood.safetensors"
        if not hasattr(model.likelihood, "save"):
            raise InputError(
                f"{model.likelihood!r} has no weights to keep: load_model needs none, or takes likelihood=."
            )
        model.likelihood.save(file)
        weights, card = np.frombuffer(file.read_bytes(), dtype=np.uint8), file.with_suffix(".json").read_text()
    table = table_of(posterior)
    kept = (xr.Dataset() if table is None else table).assign({LIKELIHOOD: (("byte",), weights, {"card": card})})
    own = inference_data.dataset(posterior).copy()
    changed = inference_data.with_groups(posterior, {"posterior": own, "constant_data": kept})
    inference_data.dataset(changed).attrs.update(seals(changed))
    return changed


def _likelihood(posterior: Any, record: FitRecord, beside: Path) -> Any:
    """The likelihood that a fit leads to: inside, by its path, or by its name."""
    inside = table_of(posterior)
    if inside is not None and LIKELIHOOD in inside:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "likelihood.safetensors"
            file.write_bytes(inside[LIKELIHOOD].to_numpy().astype(np.uint8).tobytes())
            file.with_suffix(".json").write_text(str(inside[LIKELIHOOD].attrs["card"]))
            simulator = catalogue.load_simulator(record.model) if catalogue.known(record.model) else None
            return catalogue.load_likelihood(file, simulator=None if record.declaration else simulator)
    if record.likelihood_path:
        paths = [Path(record.likelihood_path), beside / Path(record.likelihood_path).name]
        found = next((path for path in paths if path.is_file()), None)
        if found is None:
            raise InputError(
                f"the likelihood of this fit was the file {record.likelihood_path!r}, which is not there; "
                "give its path, load_model(fit, likelihood=...)."
            )
        return found
    if record.declaration or not catalogue.known(record.model) or record.likelihood not in ("neural", "exact"):
        raise InputError(
            f"the likelihood of this fit is an object of your own ({record.likelihood}, of {record.model!r}), which no "
            "file holds; give it, load_model(fit, likelihood=...)."
        )
    return record.likelihood


def _sequence(name: str, record: Mapping[str, Any], given: Mapping[str, TrialSequence]) -> TrialSequence:
    """The rule behind a covariate: as given, or as its record says."""
    if name in given:
        return given[name]
    if "settings" not in record:
        raise InputError(
            f"the covariate {name!r} of this fit is computed by a rule of your own, {record['rule']!r}, whose function "
            f"no file holds; give it, load_model(fit, sequences={{{name!r}: ...}})."
        )
    return from_record(record)


def _table(posterior: Any, record: FitRecord) -> pd.DataFrame:
    """The trials that were fitted, in the columns that the model uses."""
    observed, constant = inference_data.dataset(posterior, "observed_data"), table_of(posterior)
    outcomes = dict(zip(record.outcome_columns, observed.data_vars, strict=True))
    columns = {}
    # Whether a factor was ordered is not in the file, and only mo() asks for it.
    ordered = {name for rhs in record.formulas.values() if isinstance(rhs, str) for name in monotonic_columns(rhs)}
    for name in record.columns:
        if constant is None or in_files(name) not in constant:
            columns[name] = pd.Series(observed[outcomes[name]].to_numpy())
            continue
        values = constant[in_files(name)].to_numpy()
        columns[name] = (
            _factor(values, record.levels[name], name in ordered) if name in record.levels else pd.Series(values)
        )
        if name in outcomes and values.dtype.kind not in "iuf":
            # A text that is missing is none in a file, and the code of the response is.
            columns[name] = columns[name].where(~np.isnan(observed[outcomes[name]].to_numpy()), None)
    return pd.DataFrame(columns)


def _factor(values: Any, levels: tuple[Any, ...], ordered: bool) -> pd.Series[Any]:
    """A factor with its levels in order; a plain column where that is their own order, unless it must be ordered.

    A plain column of numbers is no factor.
    """
    labels = {str(level): level for level in levels}
    column = pd.Series([labels[str(value)] for value in values.tolist()])
    if not ordered and column.dtype.kind not in "iuf" and tuple(ordered_levels(column).categories.tolist()) == levels:
        return column
    return pd.Series(pd.Categorical(column, categories=list(levels), ordered=ordered))


def _responses(posterior: Any, record: FitRecord) -> list[Any] | None:
    """The names of the responses, as the table has them; None where it has the model's codes."""
    if not record.responses:
        return None
    known = {str(value): value for value in occurring_in(_table(posterior, record)[record.outcome_columns[1]])}
    return [known.get(str(name), name) for name in record.responses]


def _same(model: HierarchicalModel, record: FitRecord) -> None:
    """Refuse a model that is not the one that was fitted."""
    for name, ours, theirs in differences(model, record):
        raise InputError(
            f"the model of this fit cannot be made again: its {name} would be {ours}, and was {theirs}, with "
            f"hddm_sbi {record.versions['hddm_sbi']}. Use that version, or give the likelihood or priors that were "
            "fitted."
        )
