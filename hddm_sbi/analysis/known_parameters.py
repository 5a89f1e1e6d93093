"""Coefficients to simulate a model at: draws of its prior, draws of a posterior, or what the caller says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyro
import torch
from numpy.typing import ArrayLike, NDArray

from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.model import HierarchicalModel
from hddm_sbi.hierarchy.posterior import variables
from hddm_sbi.inference import inference_data

#: posterior name -> value, of every coefficient and deviation of a model.
Truth = Mapping[str, NDArray[np.float64]]


def prior_draw(model: HierarchicalModel, seed: int) -> Truth:
    """One draw of every coefficient and deviation from the prior."""
    with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False):
        torch.manual_seed(seed)
        trace = pyro.poutine.trace(model.hierarchy).get_trace()
    sites: dict[str, torch.Tensor] = {
        name: torch.as_tensor(node["value"]) for name, node in trace.nodes.items() if node["type"] == "sample"
    }
    return {name: np.asarray(value) for name, value in variables(model.hierarchy, sites).items()}


def posterior_draws(model: HierarchicalModel, posterior: Any, n: int) -> dict[int, Truth]:
    """n draws of what `model.fit` returned, evenly spaced."""
    flat = inference_data.dataset(posterior).stack(sample=("chain", "draw")).transpose("sample", ...)
    chosen = np.linspace(0, flat.sizes["sample"] - 1, n).astype(int)
    return {
        index: checked_values(model, {str(name): array.to_numpy()[draw] for name, array in flat.data_vars.items()})
        for index, draw in enumerate(chosen)
    }


def checked_values(model: HierarchicalModel, truth: Mapping[str, ArrayLike]) -> Truth:
    """The same as arrays, if they are those of this model. Raises InputError otherwise."""
    expected = prior_draw(model, 0)
    if set(truth) != set(expected):
        missing, unknown = sorted(set(expected) - set(truth)), sorted(set(truth) - set(expected))
        raise InputError(
            f"truth must give every coefficient and deviation of the model, {sorted(expected)}; it lacks "
            f"{missing or 'none'}, and names {unknown or 'none'} that are not there."
        )
    given = {name: np.asarray(truth[name], dtype=np.float64) for name in expected}
    for name, value in given.items():
        if value.shape != expected[name].shape:
            raise InputError(f"truth[{name!r}] must have the shape {expected[name].shape}; got {value.shape}.")
    return given
