"""What `hddm-sbi train` and `hddm-sbi check` do: train a model's likelihood, save it with its card, and score it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hddm_sbi import calibration, catalogue, checkpoint
from hddm_sbi.errors import InputError
from hddm_sbi.exact import ExactLikelihood
from hddm_sbi.network import Architecture
from hddm_sbi.training import Recipe, train

#: what a shipped likelihood must reach: score -> largest value allowed.
TARGETS = {"KL": 5e-6, "mean_abs_error": 0.002, "posterior_bias": 0.1}


def train_likelihood_of(
    name: str,
    weights: Path,
    runs: Path,
    recipe: Recipe | None = None,
    *,
    device: str = "cpu",
    n_threads: int = 1,
    progress: bool = True,
) -> checkpoint.Card:
    """Train the likelihood of a model by its recipe, write `weights` and its card, scores included.

    runs: folder where simulations and states are kept; a run that was stopped goes on from there.
    """
    simulator, recipe, architecture = catalogue.load_simulator(name), recipe or Recipe(), Architecture()
    network = train(simulator, recipe, runs, architecture, device=device, n_threads=n_threads, progress=progress)
    card = checkpoint.Card(
        model=name,
        parameters=simulator.names,
        box=simulator.box,
        architecture=architecture.as_dict(),
        simulations=recipe.thetas * recipe.trials,
        recipe=asdict(recipe),
        versions={package: version(package) for package in ("hddm_sbi", "torch", "numpy", "numba")},
        created=date.today().isoformat(),
    )
    weights.parent.mkdir(parents=True, exist_ok=True)
    card = checkpoint.save_weights(network, card, weights)
    if simulator.log_density is None:
        return card
    scored = replace(card, scores=score(weights), scored_by=f"hddm-sbi check {name}")
    checkpoint.write_card(weights, scored)
    return scored


def score(weights: Path) -> dict[str, Any]:
    """Scores of a weights file against the closed form of its model. Raises InputError where there is none."""
    simulator = catalogue.load_simulator(checkpoint.read_card(weights).model)
    if simulator.log_density is None:
        raise InputError(f"{simulator.name!r} has no closed form to be scored against.")
    return calibration.scores(checkpoint.load_likelihood(weights, simulator), ExactLikelihood(simulator))


def verdicts(scores: Mapping[str, Any]) -> dict[str, bool]:
    """Whether each target is met."""
    return {name: bool(scores[name] <= limit) for name, limit in TARGETS.items()}
