"""The verb of simulation-based inference: a simulator in, a checked likelihood out."""

from __future__ import annotations

import copy
import hashlib
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.card import Card
from hddm_sbi.likelihoods.mixture.likelihood import MixtureLikelihood
from hddm_sbi.likelihoods.mixture.network import Architecture, MixtureNetwork
from hddm_sbi.likelihoods.mixture.reduction import reducible
from hddm_sbi.likelihoods.sbi.encoding import Encoding
from hddm_sbi.likelihoods.sbi.estimators import EstimatorShape
from hddm_sbi.likelihoods.sbi.likelihood import SbiDecisionLikelihood, SbiLikelihood
from hddm_sbi.parallel import check_recipe, run_folder
from hddm_sbi.simulation import BlackBoxSimulator, Simulated, Simulator, as_json, declare
from hddm_sbi.training.estimator import fit_estimator
from hddm_sbi.training.held_out import check
from hddm_sbi.training.mixture import Recipe, check_device, hash_seed, train
from hddm_sbi.training.proposal import Priors, countable, design, parameters_of, propose, with_boxes
from hddm_sbi.types import Array

Learned = SbiLikelihood | SbiDecisionLikelihood | MixtureLikelihood

#: simulations by default: of a Python function, of a vectorised one whose outcomes are counted, and of a compiled
#: decision model with symmetries.
_SIMULATIONS, _COUNTED, _COMPILED = 100_000, 1_000_000, 10_000_000
#: fewer simulations per parameter than this draw a warning, fewer in all are refused.
_FEW, _FEWEST = 2_000, 500
#: share of the simulations kept for the check, at least and at most so many.
_CHECKED, _CHECKED_RANGE = 0.05, (200, 5_000)


class TrainingWarning(UserWarning):
    """A learned likelihood is not to be trusted yet, or not everywhere; the message says why and what to do."""


def train_likelihood(
    simulator: Simulator | Callable[..., Any],
    prior: Priors | None = None,
    n_simulations: int | None = None,
    seed: int = 1,
    budget: float | None = None,
    *,
    outcomes: Mapping[str, str | tuple[object, ...]] | None = None,
    vectorised: bool = False,
    shape: EstimatorShape | None = None,
    n_jobs: int | None = None,
    folder: Path | str | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Learned:
    """Learn log p(outcomes | parameters) from simulations, check it, and say how good it is.

    Main arguments
    simulator: a `Simulator` (shipped, or made by `hs.declare`), or a function `f(*parameters, rng)` or `f(theta, rng)`,
        then with `prior` and `outcomes`.
    prior: where to simulate: parameter name -> (low, high), spread evenly, or a Pyro distribution. Default: the boxes
        of the simulator's parameters. A learned likelihood holds inside its boxes only.
    n_simulations: default 100 000; a million of a vectorised function whose one outcome is discrete, for there the fit
        takes no longer; 10 million for a compiled decision model with symmetries.
    seed: same seed, same likelihood, on any number of processes.
    budget: seconds the fit may take (not the simulations); where it ends the fit, a seed no longer decides it all.

    Other arguments
    outcomes, vectorised: of a plain function; see `hs.declare`. shape: sizes of the estimator. n_jobs: processes
    that simulate; None for as many as `joblib.parallel_config` says, or one. folder: keeps simulations as they are
    made, and the same call goes on from there; another function needs another folder. device: where the fit runs,
    "cpu" or "cuda". progress: show bars, and print the verdict.

    Decision models that declare symmetries get the reduced mixture network of the shipped models. Everything else gets
    an estimator of sbi, trained by sbi: a table for counts and categories, a mixture or spline flow for continuous
    outcomes, MNLE for both. Simulations that fail or return nan are counted, left out, and warned about.

        likelihood = hs.train_likelihood(bake, {"rate": (0.5, 20)}, outcomes={"chips": "count"})
    """
    model = _simulator(simulator, prior, outcomes, vectorised)
    reduced = reducible(model)
    if n_simulations is None:
        cheap = countable(model) and isinstance(model, BlackBoxSimulator) and model.vectorised
        n_simulations = _COMPILED if reduced and model.compiled else _COUNTED if cheap else _SIMULATIONS
    if isinstance(n_simulations, bool) or not isinstance(n_simulations, int) or n_simulations < _FEWEST:
        raise InputError(f"n_simulations must be a whole number of at least {_FEWEST}; got {n_simulations!r}.")
    if budget is not None and not budget > 0:
        raise InputError(f"budget must be a number of seconds above 0, or None; got {budget!r}.")
    check_device(device)
    job = TrainingRequest(model, prior, n_simulations, seed, budget or float("inf"), n_jobs, folder, device, progress)
    likelihood, statement = _train_mixture(job) if reduced else _train_estimator(job, shape or EstimatorShape())
    _tell(likelihood, job, statement)
    return likelihood


@dataclass(frozen=True)
class TrainingRequest:
    """What was asked for."""

    simulator: Simulator
    prior: Priors | None
    n_simulations: int
    seed: int
    seconds: float
    n_jobs: int | None
    folder: Path | str | None
    device: str
    progress: bool

    def card(self, architecture: Mapping[str, Any], recipe: Mapping[str, Any], validation: tuple[float, ...]) -> Card:
        """A card without scores."""
        return Card(
            model=self.simulator.name,
            parameters=self.simulator.names,
            box=self.simulator.box,
            architecture=architecture,
            simulations=self.n_simulations,
            recipe={"seed": self.seed, "prior": {k: str(v) for k, v in (self.prior or {}).items()}, **recipe},
            versions={name: _version(name) for name in ("hddm_sbi", "sbi", "torch", "numpy")},
            created=date.today().isoformat(),
            declaration=_declaration(self.simulator),
            discretisation=self.simulator.discretisation,
            validation=validation,
        )


def _declaration(simulator: Simulator) -> dict[str, Any]:
    """The simulator for the card; nothing where it holds functions that cannot be written down."""
    try:
        return as_json(simulator)
    except InputError:
        return {}


def _simulator(
    simulator: Simulator | Callable[..., Any],
    prior: Priors | None,
    outcomes: Mapping[str, str | tuple[object, ...]] | None,
    vectorised: bool,
) -> Simulator:
    if isinstance(simulator, Simulator):
        if outcomes is not None:
            raise InputError(f"outcomes= is for plain functions; {simulator!r} declares its own.")
        return with_boxes(simulator, prior)
    if not callable(simulator):
        raise InputError(f"simulator must be a Simulator or a function; got {type(simulator).__name__}.")
    if not prior or not outcomes:
        raise InputError(
            "a plain function needs prior={parameter: (low, high)} and outcomes={name: kind}, for instance "
            "prior={'rate': (0.5, 20)}, outcomes={'chips': 'count'}."
        )
    return with_boxes(declare(parameters_of(prior), outcomes, vectorised=vectorised)(simulator), prior)


def _fresh(job: TrainingRequest, n: int) -> tuple[Simulated, Array]:
    """n simulations for the check, and where they were made (n, p)."""
    theta = propose(job.simulator, job.prior, n, hash_seed(job.seed, 1))
    return job.simulator.simulate_outcomes(theta, hash_seed(job.seed, 2), n_jobs=job.n_jobs), theta


# ---- any outcomes: an sbi estimator


def _train_estimator(job: TrainingRequest, shape: EstimatorShape) -> tuple[SbiLikelihood | SbiDecisionLikelihood, str]:
    held = int(np.clip(_CHECKED * job.n_simulations, *_CHECKED_RANGE))
    unseen, unseen_theta = _fresh(job, held)
    theta = design(job.simulator, job.prior, job.n_simulations - held, job.seed)
    seen = job.simulator.simulate_outcomes(
        theta, job.seed, n_jobs=job.n_jobs, progress=job.progress, folder=_folder(job, theta)
    )
    made = Simulated(np.concatenate([unseen.values, seen.values]), unseen.errors + seen.errors)
    values, theta = _succeeded(made, np.concatenate([unseen_theta, theta]))
    encoding = Encoding.of(job.simulator, values, theta)
    held -= int(unseen.failed.sum())
    trained, at = torch.as_tensor(values[held:]), torch.as_tensor(theta[held:])
    encoded = encoding.encode(trained, at)
    if not bool(torch.isfinite(encoded.log_stretch).all()):
        name = job.simulator.symmetries.shift
        raise InputError(f"rt is at or below {name!r} in some simulations, but symmetries declare {name!r} as a shift.")
    fitted = fit_estimator(
        encoding,
        shape,
        encoding.condition(at),
        encoded,
        seed=job.seed,
        seconds=job.seconds,
        device=job.device,
        progress=job.progress,
    )
    architecture = {
        **shape.as_dict(),
        "location": encoding.location,
        "spread": encoding.spread,
        "sizes": encoding.sizes,
    }
    recipe = {"failed": int(made.failed.sum()), "cut_short": fitted.cut_short}
    card = job.card(architecture, recipe, fitted.validation)
    kind = SbiDecisionLikelihood if job.simulator.is_decision_model else SbiLikelihood
    likelihood = kind(job.simulator, fitted.estimator, encoding, job.simulator.box, card)
    found = check(likelihood, values[:held], theta[:held], job.seed)
    likelihood.card = replace(card, scores=found.scores())
    return likelihood, made.statement()


def _folder(job: TrainingRequest, theta: Array) -> Path | None:
    """Where simulations at theta are kept, if they are to be."""
    if job.folder is None:
        return None
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    at = hashlib.sha256(np.ascontiguousarray(theta).tobytes()).hexdigest()
    check_recipe(folder, {"model": job.simulator.name, "seed": job.seed, "simulations": len(theta), "theta": at})
    return folder


def _succeeded(made: Simulated, theta: Array) -> tuple[Array, Array]:
    """The simulations that have an outcome. Raises InputError where hardly any has."""
    good = ~made.failed
    if good.sum() < _FEWEST:
        raise InputError(
            f"{int((~good).sum())} of {len(good)} simulations returned nan"
            + (f" or raised an error, the first {made.errors[0]}" if made.errors else "")
            + f"; at least {_FEWEST} with outcomes are needed. Call the simulator once by hand inside its box."
        )
    return made.values[good], theta[good]


# ---- rt and response with symmetries: the reduced mixture network


def _train_mixture(job: TrainingRequest) -> tuple[MixtureLikelihood, str]:
    thetas = int(np.clip(job.n_simulations // 50, 500, 40_000))
    trials = max(1, job.n_simulations // thetas)
    recipe = Recipe(
        thetas=thetas,
        trials=trials,
        # Of so few trials per theta every one can have a bin of its own.
        bins=int(np.clip(trials, 8, 64)),
        steps=int(np.clip(job.n_simulations // 100, 1_000, 4_000)),
        seed=job.seed,
        shard=2_500,
    )
    architecture = Architecture(components=12) if job.simulator.clock.tail else Architecture()
    fresh, at = map(torch.as_tensor, _succeeded(*_fresh(job, _CHECKED_RANGE[1])))
    validation, deadline = [], time.monotonic() + job.seconds

    def watch(network: MixtureNetwork) -> bool:
        network = copy.deepcopy(network).cpu()
        with torch.no_grad():
            mixture = network.mixture(at.float())
            log_p = network.log_prob(fresh[:, 0].float(), fresh[:, 1].long(), at.float(), mixture)
        validation.append(-float(log_p.mean()))
        return time.monotonic() > deadline

    with run_folder(job.folder) as folder:
        network = train(
            job.simulator,
            recipe,
            folder,
            architecture,
            device=job.device,
            n_jobs=job.n_jobs,
            progress=job.progress,
            watch=watch,
        )
        failed = _failed(folder, recipe)
    facts = {**asdict(recipe), "failed": failed, "cut_short": time.monotonic() > deadline}
    card = job.card(architecture.as_dict(), facts, tuple(validation))
    likelihood = MixtureLikelihood(job.simulator, network, job.simulator.box, card=card)
    found = check(likelihood, fresh.numpy(), at.numpy(), job.seed)
    likelihood.card = replace(card, scores=found.scores())
    return likelihood, (f"{failed} of {job.n_simulations} simulations failed and were left out." if failed else "")


def _failed(folder: Path, recipe: Recipe) -> int:
    """Simulations that are in no bin of any histogram."""
    shares = [load_file(path)["share"].sum((1, 2)) for path in folder.glob("histograms-*.safetensors")]
    return round(recipe.trials * float((1 - torch.cat(shares).double()).sum()))


# ---- in words


def _tell(likelihood: Learned, job: TrainingRequest, statement: str) -> None:
    assert likelihood.card is not None
    scores, parameters = likelihood.card.scores, len(job.simulator.names)
    if statement:
        warnings.warn(statement, TrainingWarning, stacklevel=3)
    if not scores["passed"]:
        warnings.warn(scores["verdict"], TrainingWarning, stacklevel=3)
    if job.n_simulations < _FEW * parameters:
        warnings.warn(
            f"{job.n_simulations} simulations are few for {parameters} parameters (held-out log score "
            f"{scores['log_score']:.3f}): take {_FEW * parameters} or more, and see whether the score goes on rising.",
            TrainingWarning,
            stacklevel=3,
        )
    if likelihood.card.recipe["cut_short"]:
        warnings.warn(
            f"the budget of {job.seconds:g} seconds ended the fit before it converged.", TrainingWarning, stacklevel=3
        )
    if job.progress:
        print(scores["verdict"])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "uninstalled checkout"
