"""From unconstrained draws to the posterior a person reads: named variables, coordinates, data, and what made it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from hddm_sbi.data.trials import Trials
from hddm_sbi.hierarchy.diagnostics import approximation, convergence_problems, early_end, edge_problems, quick_look
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.hierarchy.record import FitRecord
from hddm_sbi.inference import inference_data
from hddm_sbi.types import Array, Index

#: posterior draws, evenly spaced, that are checked for pressing against the box.
_EDGE_DRAWS = 200


@dataclass(frozen=True)
class PosteriorWriter:
    """Writes draws of one model of one table as ArviZ's posterior, and reads parameters back from it."""

    hierarchy: Hierarchy
    trials: Trials

    def write(self, sites: Mapping[str, Tensor], stats: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]) -> Any:
        """InferenceData of sampled sites (chains, draws, ...), with the data that they were sampled from."""
        coords, dims = coordinates(self.hierarchy)
        observed = self.hierarchy.likelihood.simulator.labels(self.trials.values)
        constant = {
            str(name): column.to_numpy() if column.dtype.kind in "biuf" else column.astype(str).to_numpy(dtype=str)
            for name, column in self.trials.frame[list(self.trials.predictors)].items()
        }
        groups = {
            "posterior": variables(self.hierarchy, sites),
            "sample_stats": stats,
            "observed_data": observed,
            "constant_data": constant,
        }
        coords["trial"] = list(range(len(self.trials)))
        dims.update({name: ["trial"] for name in (*observed, *constant)})
        return inference_data.build({name: group for name, group in groups.items() if group}, coords, dims, attrs)

    def theta(self, posterior: Any, draws: Index | None = None) -> Array:
        """Parameters of every cell for posterior draws, (n_draws, n_cells, p); see `HierarchicalModel.theta`."""
        chosen = inference_data.draws(posterior, draws)
        values = {str(name): torch.tensor(array.values) for name, array in chosen.data_vars.items()}
        theta = self.hierarchy.theta(values)
        return theta.expand(chosen.sizes["sample"], *theta.shape[-2:]).numpy()

    def with_log_likelihood(self, posterior: Any) -> Any:
        """The same posterior with the pointwise log likelihood, lapses included, as group `log_likelihood`."""
        known, lapse = inference_data.dataset(posterior), self.hierarchy.lapse
        shape = (known.sizes["chain"], known.sizes["draw"])
        lapses = np.full(np.prod(shape), lapse) if isinstance(lapse, float) else known["lapse"].to_numpy().reshape(-1)
        pointwise = log_likelihood(self.hierarchy, self.theta(posterior), lapses).reshape(*shape, -1)
        name = "_".join(outcome.name for outcome in self.hierarchy.likelihood.simulator.outcomes)
        return inference_data.add_group(posterior, "log_likelihood", {name: pointwise}, ["trial"])

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
            yield from convergence_problems(known, stats)
        total = chains * draws
        theta = self.theta(posterior, inference_data.evenly_spaced(total, min(_EDGE_DRAWS, total)))
        rows = self.trials.frame[list(self.trials.predictors)].iloc[self.trials.cells.first].to_dict("records")
        cells = [", ".join(f"{name}={value}" for name, value in row.items()) or "all trials" for row in rows]
        names = self.hierarchy.likelihood.simulator.names
        for predictor in self.hierarchy.predictors:
            yield from edge_problems(predictor, theta[:, :, names.index(predictor.name)], cells)


def variables(hierarchy: Hierarchy, sites: Mapping[str, Tensor]) -> dict[str, Array]:
    """Posterior variables (chains, draws, ...) from sampled sites: coefficients, deviations, standard deviations."""
    kept = {name: sites[name] for name in hierarchy.coefficient_names}
    return {name: value.numpy() for name, value in {**kept, **hierarchy.named(sites)}.items()}


def coordinates(hierarchy: Hierarchy) -> tuple[dict[str, list[Any]], dict[str, list[str]]]:
    """Coords and dims of every posterior variable.

    `v_condition` has the dim `v_condition_dim` with the levels; `v_1|subject` the dim `subject`; a deviation with
    several columns both.
    """
    coords: dict[str, list[Any]] = {}
    dims: dict[str, list[str]] = {}
    for p in hierarchy.predictors:
        for c in p.common:
            if c.levels is not None:
                coords[f"{c.name}_dim"], dims[c.name] = list(c.levels), [f"{c.name}_dim"]
        for g in p.groups:
            coords[g.factor] = list(g.levels)
            for name, term in zip(g.effect_names, g.terms, strict=True):
                dims[name] = [g.factor]
                if term.levels is not None:
                    coords[f"{name}_dim"] = list(term.levels)
                    dims[name], dims[f"{name}_sigma"] = [g.factor, f"{name}_dim"], [f"{name}_dim"]
            if g.correlated:
                rows, columns = f"{g.name}_corr_dim", f"{g.name}_corr_dim_bis"
                coords[rows] = coords[columns] = list(g.column_labels)
                dims[f"{g.name}_corr"] = [rows, columns]
    return coords, dims


def log_likelihood(hierarchy: Hierarchy, theta: Array, lapse: Array) -> Array:
    """Pointwise log likelihood, lapses included, (n_draws, n) in the caller's order of trials.

    theta: (n_draws, n_cells, p). lapse: (n_draws,).
    """
    trials, out = hierarchy.trials, np.empty((len(theta), len(hierarchy.trials.order)))
    with torch.no_grad():
        for draw in range(len(theta)):
            of_draw = torch.as_tensor(theta[draw]), torch.as_tensor(lapse[draw])
            out[draw, trials.order] = hierarchy.likelihood.log_prob_by_trial(trials, *of_draw)
    return out
