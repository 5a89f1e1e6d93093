"""Names -> things: the models and the pretrained likelihoods that lie beside the package."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from hddm_sbi.errors import InputError, did_you_mean, whole_number
from hddm_sbi.likelihoods import checkpoint
from hddm_sbi.likelihoods.exact import ExactLikelihood
from hddm_sbi.likelihoods.likelihood import Likelihood
from hddm_sbi.likelihoods.numerical import NumericalLikelihood
from hddm_sbi.simulation import DecisionModel, Simulator, as_json

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["neural", "exact", "numerical"]
PRETRAINED = Path(next(iter(importlib.import_module("hddm_sbi.pretrained").__path__)))
_WEIGHTS = ".safetensors"
#: the model that is meant where none is named.
_DEFAULT = "ddm"


#: choices of a race for which there are simulators.
_MOST_CHOICES = 10


@cache
def _modules() -> tuple[ModuleType, ...]:
    """The files of `simulators/`, by name."""
    package = importlib.import_module("hddm_sbi.simulators")
    files = sorted(file.name for file in pkgutil.iter_modules(package.__path__))
    return tuple(importlib.import_module(f"{package.__name__}.{file}") for file in files if not file.startswith("_"))


@cache
def _simulators() -> dict[str, DecisionModel]:
    """Every model that is listed: a file holds one (SIMULATOR), or one for each number of choices (SIMULATORS)."""
    several = (getattr(module, "SIMULATORS", None) or (module.SIMULATOR,) for module in _modules())
    return {simulator.name: simulator for group in several for simulator in group}


@cache
def _of_choices() -> dict[str, DecisionModel]:
    """The same models with more choices, by name: `lba5`, ..., `lba10`."""
    modules = [module for module in _modules() if hasattr(module, "SIMULATORS")]
    numbers = [range(len(module.SIMULATORS[-1].choices) + 1, _MOST_CHOICES + 1) for module in modules]
    more = [module.of_choices(n) for module, those in zip(modules, numbers, strict=True) for n in those]
    return {simulator.name: simulator for simulator in more}


def names() -> tuple[str, ...]:
    """Names of the models that are listed, in the order of the files of `simulators/`."""
    return tuple(_simulators())


def known(name: object) -> bool:
    """Whether there is a model of that name, listed or with more choices than those that are."""
    return isinstance(name, str) and (name in _simulators() or name in _of_choices())


def load_simulator(name: str) -> DecisionModel:
    """A model of the package.

    Parameters
    ----------
    name
        Name of the model; `hs.models()` lists them. Those that end in their number of choices go up to 10 (`lba7`).

    Returns
    -------
    Simulator
        With its parameters, outcomes and, where there is one, its closed form.

    Raises
    ------
    InputError
        Where there is no model of that name.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.load_simulator("ddm").names
    ('v', 'a', 'z', 't0')
    """
    if not known(name):
        raise InputError(
            f"there is no model called {name!r}{did_you_mean(str(name), names())} Models: {', '.join(names())}."
        )
    return _simulators().get(name) or _of_choices()[name]


def load_likelihood(name: str | Path, kind: Kind = "neural", *, simulator: Simulator | None = None) -> Likelihood:
    """The likelihood of a model.

    Parameters
    ----------
    name
        Name of a model, or the path of a `.safetensors` file written by training.
    kind
        "neural": learned, from the weights in the package. "exact": in closed form. "numerical": the model's equation
        solved at every theta, which is slow: a reference.
    simulator
        The simulator of a file, where it is to be run again; the file itself holds no code.

    Returns
    -------
    Likelihood
        A `DecisionLikelihood` for models of rt and response.

    Raises
    ------
    InputError
        Where the model is unknown, has no closed form or no weights, or where the file is truncated, edited, or of
        another model.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.load_likelihood("ddm", kind="exact")
    ExactLikelihood(ddm: v a z t0)
    """
    if not isinstance(name, str | Path):
        raise InputError(f"expected the name of a model, or the path of a likelihood; got {name!r}.")
    path = Path(name)
    if path.suffix == _WEIGHTS or path.is_file():
        if kind != "neural":
            raise InputError(f"{str(path)!r} is a learned likelihood; kind={kind!r} takes the name of a model.")
        card = checkpoint.read_card(path)
        return checkpoint.load_likelihood(
            path, simulator if simulator or card.declaration else load_simulator(card.model)
        )
    if simulator is not None:
        raise InputError(f"simulator= goes with the path of a learned likelihood; got the name {str(name)!r}.")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InputError(f"kind must be 'neural', 'exact' or 'numerical'; got {kind!r}.")
    return _KINDS[kind](load_simulator(str(name)))


def _pretrained(model: DecisionModel) -> Likelihood:
    """The learned likelihood of a model of the package."""
    weights = weights_of(model.name)
    if weights is None:
        raise InputError(
            f"no pretrained likelihood of {model.name!r} is in the package; train one with `hddm-sbi train "
            f"{model.name}`" + (", or use kind='exact'." if model.log_density else ".")
        )
    return checkpoint.load_likelihood(weights, model)


_KINDS = {"neural": _pretrained, "exact": ExactLikelihood, "numerical": NumericalLikelihood}


def choose(simulator: str | Simulator | None, likelihood: str | Path | Likelihood) -> tuple[Simulator, Likelihood]:
    """The model and its likelihood, from what a caller says of either.

    simulator: of the likelihood, or "ddm", where it is None. likelihood: "neural", "exact", the path of a trained
    likelihood, or a Likelihood. Raises InputError where there is none, or where it is that of another model.
    """
    if not (simulator is None or isinstance(simulator, str | Simulator)):
        raise InputError(f"simulator must be the name of a model, or a Simulator; got {simulator!r}.")
    if not isinstance(likelihood, str | Path | Likelihood):
        raise InputError(
            f"likelihood must be 'neural', 'exact', the path of a file, or a Likelihood; got {likelihood!r}."
        )
    model: Simulator | None = load_simulator(simulator) if isinstance(simulator, str) else simulator
    if isinstance(likelihood, Likelihood):
        chosen = likelihood
    elif likelihood == "exact":
        chosen = ExactLikelihood(model or load_simulator(_DEFAULT))
    elif likelihood == "neural":
        model = model or load_simulator(_DEFAULT)
        if not model.compiled or not known(model.name):
            raise InputError(
                f"{model.name!r} is a simulator of your own: its likelihood must be learned first. Train it once, "
                "likelihood = hs.train_likelihood(simulator), and give likelihood=likelihood."
            )
        chosen = load_likelihood(model.name)
    elif Path(likelihood).is_file():
        chosen = load_likelihood(Path(likelihood), simulator=model)
    else:
        raise InputError(
            "likelihood must be 'neural', 'exact', a Likelihood, or the path of a .safetensors file; there is no "
            f"likelihood file {str(likelihood)!r}{did_you_mean(str(likelihood), ('neural', 'exact'))}"
        )
    model = model or chosen.simulator
    if chosen.simulator.name != model.name or chosen.simulator.names != model.names:
        raise InputError(
            f"the likelihood is of the model {chosen.simulator.name!r}, but simulator={model.name!r}; "
            "give the likelihood of that model, or change the simulator."
        )
    return model, chosen


def reference(simulator: DecisionModel) -> ExactLikelihood | NumericalLikelihood | None:
    """What a learned likelihood is judged by: the closed form, else the solved equation; None where neither judges.

    The equation to 1e-3 at the worst trial, which is less than learned ones are off, and NaN where it is not.

    >>> reference(load_simulator("weibull"))
    NumericalLikelihood(weibull: v a z t0 alpha beta)
    """
    if simulator.log_density is not None:
        return ExactLikelihood(simulator)
    judged = simulator.passage is not None and simulator.passage_judges
    return NumericalLikelihood(simulator, tolerance=1e-3, refuses=False) if judged else None


def declaration(simulator: Simulator) -> dict[str, Any]:
    """A simulator of the user's own without its function, as JSON; {} for a model of the package, whose name says all,
    and for one that a file cannot hold."""
    if known(simulator.name) and load_simulator(simulator.name) is simulator:
        return {}
    try:
        return as_json(simulator)
    except InputError:
        return {}


def weights_of(name: str) -> Path | None:
    """The pretrained weights of a model, else those of one accumulator of a race, or None."""
    paths = [PRETRAINED / f"{each}{_WEIGHTS}" for each in (name, load_simulator(name).family)]
    return next((path for path in paths if path.exists()), None)


def models() -> pd.DataFrame:
    """The models of the package.

    Returns
    -------
    DataFrame
        One row per model: its parameters, number of choices, whether it has a closed form and pretrained weights, and
        the scores on the card of those weights.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.models().loc["ddm", "parameters"]
    'v a z t0'
    """
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
    model: str | Simulator,
    theta: Mapping[str, ArrayLike],
    n_trials: int | None = None,
    *,
    seed: int,
    choices: Sequence[object] | None = None,
) -> pd.DataFrame:
    """Simulated trials of a model.

    Parameters
    ----------
    model
        Name of a model of the package, or a simulator.
    theta
        Parameter name -> a number, or one value per trial (n_trials,).
    n_trials
        Needed where all parameters are single numbers.
    seed
        Same seed, same trials.
    choices
        Names of the responses of a decision model in the order of its choices, as `HierarchicalModel` takes them.

    Returns
    -------
    DataFrame
        One row per trial, a column for each outcome: `rt` (seconds) and `response` (codes, or names) of a decision
        model.

    Raises
    ------
    InputError
        Where a parameter is missing, unknown or outside the support of the model, or where a simulation fails.

    Examples
    --------
    >>> simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=2, seed=1).columns.tolist()
    ['rt', 'response']
    >>> race = {"v": 1.5, "A": 0.5, "B": 0.7, "t0": 0.2}
    >>> simulate("lba3", race, n_trials=4, seed=1, choices=["red", "green", "blue"])["response"].tolist()
    ['green', 'red', 'green', 'blue']
    """
    import pandas as pd

    simulator = model if isinstance(model, Simulator) else load_simulator(model)
    lengths = {np.size(value) for value in theta.values() if np.ndim(value) > 0}
    if n_trials is None and not lengths:
        raise InputError("n_trials is needed where every parameter is a single number; for instance n_trials=1000.")
    n = max(lengths) if n_trials is None else whole_number("n_trials", n_trials)
    seed = whole_number("seed", seed, least=0)
    names: tuple[Any, ...] = () if choices is None else _names(simulator, choices)
    values = simulator.simulate_outcomes(simulator.theta_matrix(theta, n), seed).complete(simulator.name)
    table = pd.DataFrame(simulator.labels(values))
    return table.assign(response=[names[int(choice)] for choice in values[:, 1]]) if names else table


def _names(simulator: Simulator, choices: Sequence[object]) -> tuple[Any, ...]:
    """Names of all responses of a simulator, in their order."""
    names = () if isinstance(choices, str | bytes | Mapping) else tuple(choices)
    if not simulator.is_decision_model or len(names) != len(simulator.choices) or len(set(names)) < len(names):
        n = len(simulator.choices) if simulator.is_decision_model else 0
        raise InputError(
            f"choices must name the {n} responses of {simulator.name!r} in their order, {list(simulator.choices)}; got "
            f"{choices!r}."
            if n
            else f"choices={choices!r} is for models of rt and response; {simulator.name!r} is none: leave it out."
        )
    return names
