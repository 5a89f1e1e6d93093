"""From unconstrained draws to the posterior a person reads: named variables, coordinates, data, and what made it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from hddm_sbi.data import Trials, in_files, records
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.fits.diagnostics import (
    approximation,
    convergence_problems,
    early_end,
    edge_problems,
    quick_look,
)
from hddm_sbi.hierarchy.fits.record import FitRecord
from hddm_sbi.hierarchy.pilot.centring import acceptance
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.inference import inference_data
from hddm_sbi.types import Array, Index

#: posterior draws, evenly spaced, that are checked for pressing against the box.
_EDGE_DRAWS = 200
#: attributes that tell an edited fit: hashes of the model that it says it is of, and of its draws.
_MODEL, _DRAWS = "model_sha256", "draws_sha256"
#: name, among the columns of the table, of the bytes of a likelihood that is kept in the file.
LIKELIHOOD = "likelihood.safetensors"


@dataclass(frozen=True)
class PosteriorWriter:
    """Writes draws of one model of one table as ArviZ's posterior, and reads parameters back from it."""

    hierarchy: Hierarchy
    trials: Trials

    def write(self, sites: Mapping[str, Tensor], stats: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]) -> Any:
        """InferenceData of sampled sites (chains, draws, ...), with the data that they were sampled from."""
        coords, dims = coordinates(self.hierarchy)
        data = self.data()
        coords[self.trial] = list(range(len(self.trials)))
        of_data = {group: {name: [self.trial] for name in columns} for group, columns in data.items()}
        groups = {"posterior": variables(self.hierarchy, sites), "sample_stats": stats, **data}
        present = {name: group for name, group in groups.items() if group}
        written = inference_data.build(present, coords, {"posterior": dims, **of_data}, attrs)
        inference_data.dataset(written).attrs.update(seals(written))
        return written

    def data(self) -> dict[str, dict[str, NDArray[Any]]]:
        """The table: outcomes as the simulator labels them, where it has any; and its other columns, with responses
        that are coded otherwise."""
        # Copies: who edits a posterior does not edit the model.
        frame = self.trials.frame
        if not self.trials.has_outcomes:
            return {"observed_data": {}, "constant_data": self.columns([*map(str, frame)])}
        outcomes = self.hierarchy.likelihood.simulator.labels(self.trials.values.copy())
        told = dict(zip(self.trials.outcomes, outcomes.values(), strict=True))
        alike = [name for name, labels in told.items() if _cells(frame[name]) == _cells(pd.Series(labels))]
        others = [name for name in map(str, frame) if name not in (*self.trials.predictors, *alike)]
        return {"observed_data": outcomes, "constant_data": self.columns((*self.trials.predictors, *others))}

    def columns(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Columns of the table as a file can hold them."""
        return {in_files(name): plain(self.trials.frame[name]) for name in names}

    @property
    def trial(self) -> str:
        """Name of the dimension of trials, none that a column has."""
        outcomes = [outcome.name for outcome in self.hierarchy.likelihood.simulator.outcomes]
        columns = map(in_files, [*map(str, self.trials.frame), *self.trials.outcomes, *outcomes])
        return _free("trial", {*columns, *group_dims(self.hierarchy).values()})

    def theta(self, known: xr.Dataset, draws: Index | None = None) -> Array:
        """Parameters of every cell for posterior draws, (n_draws, n_cells, p); see `HierarchicalModel.theta`."""
        own = self.hierarchy
        return own.parameter_map.rows(torch.from_numpy(self.on_cells(known, draws)), own.trials).numpy()

    def on_cells(self, known: xr.Dataset, draws: Index | None = None) -> Array:
        """What the parameter map takes, for posterior draws, (n_draws, n_cells of the design, q)."""
        chosen = inference_data.draws(known, draws)
        values = {str(name): torch.tensor(array.values) for name, array in chosen.data_vars.items()}
        found = self.hierarchy.on_cells(values)
        return found.expand(chosen.sizes["sample"], *found.shape[-2:]).numpy()

    def lapse(self, known: xr.Dataset, draws: Index | None = None) -> Array:
        """Probability of a lapse in every cell for posterior draws, (n_draws, n_cells)."""
        chosen = inference_data.draws(known, draws)
        share = self.hierarchy.share({str(name): torch.tensor(x.values) for name, x in chosen.data_vars.items()})
        share = share if self.hierarchy.lapse is None else share.unsqueeze(-1)
        return share.expand(chosen.sizes["sample"], self.hierarchy.trials.n_cells).numpy()

    def with_log_likelihood(self, posterior: Any, known: xr.Dataset) -> Any:
        """A posterior with the pointwise log likelihood, lapses included, as group `log_likelihood`.

        known: the variables that this model has.
        """
        shape = known.sizes["chain"], known.sizes["draw"]
        pointwise = log_likelihood(self.hierarchy, self.theta(known), self.lapse(known)).reshape(*shape, -1)
        name = "_".join(outcome.name for outcome in self.hierarchy.likelihood.simulator.outcomes)
        return inference_data.add_group(posterior, "log_likelihood", {name: pointwise}, [self.trial])

    def with_log_prior(self, posterior: Any, known: xr.Dataset) -> Any:
        """A posterior with the log prior of every coefficient, as group `log_prior`. known: the model's variables."""
        drawn = known.transpose("chain", "draw", ...).data_vars.items()
        found = log_priors(self.hierarchy, {str(name): torch.tensor(x.to_numpy()) for name, x in drawn})
        return inference_data.add_group(posterior, "log_prior", {name: x.numpy() for name, x in found.items()}, [])

    def problems(self, posterior: Any, record: FitRecord) -> Iterator[str]:
        """What stands against trusting a posterior that `write` returned, in words."""
        known = inference_data.dataset(posterior)
        stats = inference_data.dataset(posterior, "sample_stats") if "sample_stats" in posterior else xr.Dataset()
        chains, draws = known.sizes["chain"], known.sizes["draw"]
        if record.stopped:
            yield early_end(record.stopped, chains, draws)
        if record.approximate:
            yield approximation(record.method)
        elif record.quick:
            yield quick_look(known[self.hierarchy.population_names], stats)
        else:
            yield from convergence_problems(known, stats, record.target_accept or acceptance(self.hierarchy))
        total = chains * draws
        some = inference_data.evenly_spaced(total, min(_EDGE_DRAWS, total))
        theta, lapse = self.theta(known, some), self.lapse(known, some)
        doubts = self.hierarchy.likelihood.doubts(torch.as_tensor(theta.reshape(-1, theta.shape[-1])))
        if doubts:
            yield doubts
        rows = records(self.trials.frame[list(self.trials.predictors)].iloc[self.trials.cells.first])
        cells = [", ".join(f"{name}={value}" for name, value in row.items()) or "all trials" for row in rows]
        cells = [cells[cell] for cell in self.hierarchy.parameter_map.cell(self.hierarchy.trials)]
        names = self.hierarchy.likelihood.simulator.names
        for together, predictor in self.hierarchy.estimated:
            name = together[0] if len(together) == 1 else predictor.name
            values = theta[:, :, names.index(together[0])] if together[0] in names else lapse
            yield from edge_problems(name, predictor, values, cells)


def variables(hierarchy: Hierarchy, sites: Mapping[str, Tensor]) -> dict[str, Array]:
    """Posterior variables (chains, draws, ...) from sampled sites: coefficients, deviations, standard deviations."""
    kept = {name: sites[name] for name in hierarchy.coefficient_names}
    return {name: value.numpy() for name, value in {**kept, **hierarchy.named(sites)}.items()}


def log_priors(hierarchy: Hierarchy, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Log prior density of every coefficient by its name, (chains, draws), from variables (chains, draws, ...)."""
    return {
        name: prior.log_prob(values[name]).reshape(*values[name].shape[:2], -1).sum(-1)
        for name, prior in hierarchy.coefficient_priors().items()
    }


def opened(posterior: Any) -> tuple[xr.Dataset, xr.Dataset]:
    """The draws of a posterior, and the predictors that it was fitted to, empty where it has none.

    Raises InputError for anything else.
    """
    try:
        known, table = inference_data.dataset(posterior), table_of(posterior)
    except (KeyError, TypeError, AttributeError):
        raise InputError(
            f"posterior must be what model.fit returned, or read from its file; got {type(posterior).__name__}."
        ) from None
    if not (known.sizes.get("chain") and known.sizes.get("draw")):
        raise InputError(
            "posterior must have draws, along the dimensions 'chain' and 'draw', as model.fit returns them; it has the "
            f"dimensions {dict(known.sizes)}. Select draws with a slice or a list, which keeps both."
        )
    return known, xr.Dataset() if table is None else table


def table_of(posterior: Any, group: str = "constant_data") -> xr.Dataset | None:
    """The predictors, or the outcomes (observed_data), that a posterior was fitted to; None where it has none."""
    return inference_data.dataset(posterior, group) if group in inference_data.groups(posterior) else None


def column_of(posterior: Any, name: str) -> NDArray[Any] | None:
    """A predictor that a posterior was fitted to, as a file holds it; None where it has none of that name."""
    table = table_of(posterior)
    return None if table is None or in_files(name) not in table else table[in_files(name)].to_numpy()


def plain(column: pd.Series[Any]) -> NDArray[Any]:
    """A column as a file can hold it: numbers in full width, true and false, or text, "" where missing."""
    kind = column.dtype.kind
    if kind in "iuf":
        return column.to_numpy(dtype=np.float64 if kind == "f" else np.int64, copy=True)
    if kind == "b":
        return column.to_numpy(dtype=bool, copy=True)
    return np.array(["" if cell is None else str(cell) for cell in _cells(column)], dtype=str)


def _cells(column: pd.Series[Any]) -> list[Any]:
    """The cells of a column, None where missing."""
    return column.astype(object).where(column.notna(), None).tolist()


def _free(name: str, taken: Container[str]) -> str:
    """The name, with underscores after it until it is not taken."""
    while name in taken:
        name += "_"
    return name


def group_dims(hierarchy: Hierarchy) -> dict[str, str]:
    """Dimension of every grouping factor, and of what parts its groups: its own name, unless that is taken.

    ArviZ needs some names, and other parts of the model have some.
    """
    taken = {"chain", "draw", "sample"} | {
        f"{name}{end}" for name in hierarchy.names for end in ("", "_dim", "_dim_bis")
    }
    dims: dict[str, str] = {}
    columns = [column for g in hierarchy.groups for column in (g.factor, *([] if g.by is None else [g.by.column]))]
    for column in dict.fromkeys(columns):
        dims[column] = _free(column, taken)
        taken.add(dims[column])
    return dims


def coordinates(hierarchy: Hierarchy) -> tuple[dict[str, list[Any]], dict[str, list[str]]]:
    """Coords and dims of every posterior variable.

    `v_condition` has the dim `v_condition_dim` with the levels; `v_1|subject` the dim `subject`; a deviation with
    several columns both. A standard deviation or a correlation by parts of the groups has the dim of these first.
    """
    coords: dict[str, list[Any]] = {}
    dims: dict[str, list[str]] = {}
    of_factor = group_dims(hierarchy)
    for p in hierarchy.predictors:
        for c in p.common:
            for name, levels in c.labels.items():
                coords[f"{name}_dim"], dims[name] = list(levels), [f"{name}_dim"]
        for g in p.groups:
            group = of_factor[g.factor]
            coords[group] = list(g.levels)
            parts = [] if g.by is None else [of_factor[g.by.column]]
            if g.by is not None:
                coords[parts[0]] = list(g.by.levels)
            for name, term in zip(g.effect_names, g.terms, strict=True):
                own = [] if term.levels is None else [f"{name}_dim"]
                coords |= {dim: list(term.levels or ()) for dim in own}
                dims[name] = [group, *own]
                if own or parts:
                    dims[f"{name}_sigma"] = [*parts, *own]
            if (correlation := g.own_correlation) is not None:
                name = correlation.reported
                rows, columns = f"{name}_dim", f"{name}_dim_bis"
                coords[rows] = coords[columns] = list(correlation.labels)
                dims[name] = [*parts, rows, columns]
    return coords, dims


def log_likelihood(hierarchy: Hierarchy, theta: Array, lapse: Array) -> Array:
    """Pointwise log likelihood, lapses included, (n_draws, n) in the caller's order of trials.

    theta: (n_draws, n_cells, p). lapse: (n_draws, n_cells).
    """
    with torch.no_grad():
        return np.stack(
            [
                hierarchy.likelihood.log_prob_by_trial(hierarchy.trials, torch.as_tensor(at), torch.as_tensor(share))
                for at, share in zip(theta, lapse, strict=True)
            ]
        )


def seals(posterior: Any) -> dict[str, str]:
    """Hash of the record and the table, and hash of the draws and what the sampler said of them, as attributes."""
    attrs = dict(inference_data.dataset(posterior).attrs)
    record = FitRecord.read(attrs).attributes()
    return {
        _MODEL: _hash(posterior, ("observed_data", "constant_data"), json.dumps(record, sort_keys=True)),
        _DRAWS: _hash(posterior, ("posterior", "sample_stats")),
    }


def check_seals(posterior: Any) -> str:
    """What to warn about draws that are not those of the fit, or "". Raises InputError where the model was edited.

    A seal tells an accident or a careless edit, not a forgery: who edits a file can seal it again.
    """
    attrs, found = inference_data.dataset(posterior).attrs, seals(posterior)
    if attrs.get(_MODEL) != found[_MODEL]:
        raise InputError(
            "the record or the table of this fit was edited after it was written (its sha256 is another): take the "
            "file as fit wrote it, or fit again."
        )
    if attrs.get(_DRAWS) != found[_DRAWS]:
        return "the draws in this fit are not those that the sampler wrote: they were selected or edited"
    return ""


def _hash(posterior: Any, groups: tuple[str, ...], text: str = "") -> str:
    hashed = hashlib.sha256(text.encode())
    for group in (group for group in groups if group in inference_data.groups(posterior)):
        content = inference_data.dataset(posterior, group)
        for name in sorted(map(str, content.variables)):
            array = content[name].to_numpy()
            plain = array.astype(np.float64) if array.dtype.kind in "iufb" else np.array(array.astype(str).tolist())
            hashed.update(f"{group} {name} {plain.shape} {content[name].attrs.get('card', '')}".encode())
            hashed.update(plain.tobytes() if plain.dtype.kind == "f" else "\0".join(plain.reshape(-1)).encode())
    return hashed.hexdigest()
