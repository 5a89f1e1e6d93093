"""Coefficients to simulate a model at: draws of its prior, draws of a posterior, or what the caller says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyro
import torch
from numpy.typing import ArrayLike

from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.model import HierarchicalModel
from hddm_sbi.hierarchy.posterior import variables
from hddm_sbi.inference import inference_data
from hddm_sbi.types import Array

#: posterior name -> value, of every coefficient and deviation of a model.
TrueValues = Mapping[str, Array]


def prior_draw(model: HierarchicalModel, seed: int) -> TrueValues:
    """One draw of every coefficient and deviation from the prior."""
    with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False):
        torch.manual_seed(seed)
        trace = pyro.poutine.trace(model.hierarchy).get_trace()
    sites: dict[str, torch.Tensor] = {
        name: torch.as_tensor(node["value"]) for name, node in trace.nodes.items() if node["type"] == "sample"
    }
    return {name: np.asarray(value) for name, value in variables(model.hierarchy, sites).items()}


def posterior_draws(model: HierarchicalModel, posterior: Any, n: int) -> list[TrueValues]:
    """n draws of what `model.fit` returned, evenly spaced."""
    draws = inference_data.draws(posterior)
    return [
        checked_values(model, {str(name): array.to_numpy()[draw] for name, array in draws.data_vars.items()})
        for draw in inference_data.evenly_spaced(draws.sizes["sample"], n)
    ]


def checked_values(model: HierarchicalModel, values: Mapping[str, ArrayLike]) -> TrueValues:
    """The same as arrays, if they are those of this model. Raises InputError otherwise."""
    expected = prior_draw(model, 0)
    if set(values) != set(expected):
        missing, unknown = sorted(set(expected) - set(values)), sorted(set(values) - set(expected))
        raise InputError(
            f"true_values must give every coefficient and deviation of the model, {sorted(expected)}; it lacks "
            f"{missing or 'none'}, and names {unknown or 'none'} that are not there."
        )
    arrays = {name: np.asarray(values[name], dtype=np.float64) for name in expected}
    for name, value in arrays.items():
        if value.shape != expected[name].shape:
            raise InputError(f"true_values[{name!r}] must have the shape {expected[name].shape}; got {value.shape}.")
    return arrays
