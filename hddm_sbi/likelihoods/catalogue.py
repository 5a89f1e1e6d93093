"""Names -> things: the models and the pretrained likelihoods that lie beside the package."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from hddm_sbi.errors import InputError, did_you_mean
from hddm_sbi.likelihoods import checkpoint
from hddm_sbi.likelihoods.exact import ExactLikelihood
from hddm_sbi.likelihoods.likelihood import Likelihood
from hddm_sbi.likelihoods.numerical import NumericalLikelihood
from hddm_sbi.simulation.simulator import Simulator

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["neural", "exact", "numerical"]
PRETRAINED = Path(next(iter(importlib.import_module("hddm_sbi.pretrained").__path__)))
_WEIGHTS = ".safetensors"


@cache
def _simulators() -> dict[str, Simulator]:
    """Every model in `simulators/`: a file holds one (SIMULATOR), or one for each number of choices (SIMULATORS)."""
    package = importlib.import_module("hddm_sbi.simulators")
    found: dict[str, Simulator] = {}
    for file in sorted(pkgutil.iter_modules(package.__path__), key=lambda file: file.name):
        if file.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package.__name__}.{file.name}")
        several = getattr(module, "SIMULATORS", None) or (module.SIMULATOR,)
        found |= {simulator.name: simulator for simulator in several}
    return found


def names() -> tuple[str, ...]:
    """Names of the models, in the order of the files of `simulators/`."""
    return tuple(_simulators())


def load_simulator(name: str) -> Simulator:
    """The model called `name`.

    >>> load_simulator("ddm").names
    ('v', 'a', 'z', 't0')
    """
    if name not in names():
        raise InputError(
            f"there is no model called {name!r}{did_you_mean(name, names())} Models: {', '.join(names())}."
        )
    return _simulators()[name]


def load_likelihood(name: str | Path, kind: Kind = "neural", *, simulator: Simulator | None = None) -> Likelihood:
    """The likelihood of a model: learned ("neural", from the weights in the package), in closed form ("exact"), or its
    equation solved at every theta ("numerical", slow: a reference).

    name: of a model, or the path of a `.safetensors` file written by training. simulator: of such a file, where it is
    to be run again; the file itself holds no code. Raises InputError where the model is unknown, has no closed form or
    no weights, or where the file is truncated, edited, or of another model.
    """
    path = Path(name)
    if path.suffix == _WEIGHTS or path.is_file():
        if kind != "neural":
            raise InputError(f"{str(path)!r} is a learned likelihood; kind={kind!r} takes the name of a model.")
        card = checkpoint.read_card(path)
        return checkpoint.load_any(path, simulator if simulator or card.declaration else load_simulator(card.model))
    if simulator is not None:
        raise InputError(f"simulator= goes with the path of a learned likelihood; got the name {str(name)!r}.")
    if kind == "exact":
        return ExactLikelihood(load_simulator(str(name)))
    if kind == "numerical":
        return NumericalLikelihood(load_simulator(str(name)))
    if kind != "neural":
        raise InputError(f"kind must be 'neural', 'exact' or 'numerical'; got {kind!r}.")
    model = load_simulator(str(name))
    weights = weights_of(model.name)
    if weights is None:
        raise InputError(
            f"no pretrained likelihood of {model.name!r} is in the package; train one with `hddm-sbi train "
            f"{model.name}`" + (", or use kind='exact'." if model.log_density else ".")
        )
    return checkpoint.load_likelihood(weights, model)


def weights_of(name: str) -> Path | None:
    """The pretrained weights of a model, or None."""
    path = PRETRAINED / f"{name}{_WEIGHTS}"
    return path if path.exists() else None


def models() -> pd.DataFrame:
    """One row per model: parameters, choices, whether closed form and pretrained weights exist, scores."""
    import pandas as pd

    rows = {}
    for name in names():
        simulator, weights = load_simulator(name), weights_of(name)
        rows[name] = {
            "title": simulator.title,
            "parameters": " ".join(simulator.names),
            "choices": len(simulator.choices),
            "exact": simulator.log_density is not None,
            "pretrained": weights is not None,
            **(checkpoint.read_card(weights).headline() if weights else {}),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def simulate(
    model: str | Simulator, theta: Mapping[str, ArrayLike], n_trials: int | None = None, *, seed: int
) -> pd.DataFrame:
    """Simulated trials: columns `rt` (seconds) and `response` (codes of the model's choices).

    theta: parameter name -> scalar or one value per trial. n_trials: needed where all are scalars.

    >>> simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=2, seed=1).columns.tolist()
    ['rt', 'response']
    """
    import pandas as pd

    simulator = model if isinstance(model, Simulator) else load_simulator(model)
    lengths = {np.size(value) for value in theta.values() if np.ndim(value) > 0}
    if n_trials is None and not lengths:
        raise InputError("n_trials is needed where every parameter is a single number; for instance n_trials=1000.")
    n = max(lengths) if n_trials is None else n_trials
    rt, choice = simulator.simulate(simulator.theta_matrix(theta, n), seed)
    return pd.DataFrame({"rt": rt, "response": np.array(simulator.choices)[choice]})
