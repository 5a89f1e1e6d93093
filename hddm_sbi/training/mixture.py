"""The reduced mixture network: designed simulations in, weights or a checked likelihood out."""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hddm_sbi.likelihoods import Architecture, Mixture, MixtureLikelihood, MixtureNetwork, Reduction, cross_entropy
from hddm_sbi.parallel import check_recipe, run_folder
from hddm_sbi.simulation import DecisionModel, Simulator
from hddm_sbi.training.descent import Descent
from hddm_sbi.training.fit_state import FitState
from hddm_sbi.training.held_out import check
from hddm_sbi.training.histograms import n_failed, simulate_histograms
from hddm_sbi.training.recipe import Machine, Recipe
from hddm_sbi.training.request import MOST_HELD_OUT, TrainingRequest, succeeded

#: sees the mean network during a fit, and ends the fit by returning True.
Callback = Callable[[MixtureNetwork], bool]

#: steps between two calls of the callback, and between two written states.
_CALLBACK_STEPS, _STATE_STEPS = 500, 2_000
#: the least and the largest number of steps of a user's model.
_FEWEST_STEPS, _MOST_STEPS = 1_000, 4_000


def train_network(
    simulator: Simulator,
    recipe: Recipe,
    folder: Path,
    architecture: Architecture | None = None,
    machine: Machine | None = None,
    callback: Callback | None = None,
) -> MixtureNetwork:
    """Simulate, compress and fit. `folder` keeps everything, and a run that was stopped goes on from there.

    callback: called with the mean network every 500 steps.
    """
    architecture, machine = architecture or Architecture(), machine or Machine()
    folder.mkdir(parents=True, exist_ok=True)
    learned = {p.name: [p.low, p.high] for p in simulator.learned}
    check_recipe(folder, {"learned": learned, **asdict(recipe), **architecture.as_dict()})
    data = simulate_histograms(simulator, recipe, folder, machine)
    return fit_network(new_network(simulator, recipe, architecture), recipe, data, folder, machine, callback)


def train_mixture(request: TrainingRequest) -> tuple[MixtureLikelihood, str]:
    """The likelihood that was asked for, and what to say about simulations that failed."""
    n_thetas = int(np.clip(request.n_simulations // 50, 500, 40_000))
    n_trials = max(1, request.n_simulations // n_thetas)
    recipe = Recipe(
        n_thetas=n_thetas,
        n_trials=n_trials,
        # With so few trials per theta every one can have a bin of its own.
        bins=int(np.clip(n_trials, 8, 64)),
        steps=int(np.clip(request.n_simulations // 100, _FEWEST_STEPS, _MOST_STEPS)),
        seed=request.seed,
        shard=2_500,
    )
    architecture = Architecture(components=12) if request.simulator.clock.tail else Architecture()
    values, theta = map(torch.as_tensor, succeeded(*request.held_out(MOST_HELD_OUT)))
    validation, deadline = [], time.monotonic() + request.seconds

    def callback(network: MixtureNetwork) -> bool:
        network = copy.deepcopy(network).cpu()
        with torch.no_grad():
            mixture = network.mixture(theta.float())
            rows = torch.arange(len(theta))
            log_p = network.log_prob(values[:, 0].float(), values[:, 1].long(), theta.float(), mixture, rows)
        validation.append(-float(log_p.mean()))
        return time.monotonic() > deadline

    with run_folder(request.folder) as folder:
        network = train_network(request.simulator, recipe, folder, architecture, request.machine, callback)
        failed = n_failed(folder, recipe)
    facts = {**asdict(recipe), "failed": failed, "cut_short": time.monotonic() > deadline}
    card = request.card("mixture", architecture.as_dict(), facts, tuple(validation))
    likelihood = MixtureLikelihood(request.simulator, network, request.simulator.box, card=card)
    likelihood.card = replace(card, scores=check(likelihood, values.numpy(), theta.numpy(), request.seed))
    return likelihood, (f"{failed} of {request.n_simulations} simulations failed and were left out." if failed else "")


def new_network(simulator: Simulator, recipe: Recipe, architecture: Architecture) -> MixtureNetwork:
    """A network with the first weights of a recipe."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return MixtureNetwork(Reduction(simulator), architecture)


def fit_network(
    network: MixtureNetwork,
    recipe: Recipe,
    data: dict[str, Tensor],
    folder: Path,
    machine: Machine,
    callback: Callback | None = None,
) -> MixtureNetwork:
    """Minimise - sum share * log p(choice, y) on a cosine schedule; the mean of late weights is returned.

    data: as `simulate_histograms` returns them. The state is written to `folder` every 2 000 steps, and a stopped run
    goes on from it.
    """
    descent = Descent(network.to(machine.device), recipe.steps, recipe.learning_rate, recipe.optimizer)
    data = {name: value.to(machine.device) for name, value in data.items()}
    state, path = FitState(descent.network, descent.average, descent.optimizer), folder / "state.safetensors"
    first, steps = state.resume(path), recipe.steps
    bar = tqdm(range(first, steps), initial=first, total=steps, desc="fit", disable=not machine.progress, mininterval=5)
    for step in bar:
        # Each step draws its batch from its own stream, so that a resumed run sees the same batches.
        rows = np.random.default_rng([recipe.seed, step]).integers(0, len(data["theta"]), recipe.batch)
        loss = _loss(network, {name: value[torch.as_tensor(rows)] for name, value in data.items()})
        descent.step(step, loss)
        if (step + 1) % _STATE_STEPS == 0 or step + 1 == steps:
            bar.set_postfix(loss=f"{float(loss.detach()):.5f}")
            state.save(path, step + 1)
            # Reloading changes the memory layout and hence rounding. Reload in every run, so that resumed and
            # uninterrupted runs agree to the bit.
            state.resume(path)
        if callback is not None and (step + 1) % _CALLBACK_STEPS == 0 and callback(descent.average):
            break
    return descent.average.cpu()


def _loss(network: MixtureNetwork, batch: dict[str, Tensor]) -> Tensor:
    mixture = network(network.reduction.by_choice(batch["theta"]))
    z, log_stretch = network.reduction.times.coordinate(batch["mean"])
    share = batch["share"]
    flat = Mixture(*(part.flatten(0, 1) for part in mixture))
    return (cross_entropy(flat, z.flatten(0, 1), share.flatten(0, 1)) - (share * log_stretch).sum()) / len(share)


def recipe_for(simulator: Simulator) -> Recipe:
    """The recipe of a new likelihood: the more inputs a network has, the more thetas with fewer trials each.

    P weights and N trials leave a KL of P / 2N (decision 011); a model with a closed form, or whose equation can be
    solved, is spared that, once its densities are seen at enough points (decision 062). With interacting accumulators
    each trial informs all choices, so fewer trials per theta suffice.
    """
    n = len(simulator.choices)
    if isinstance(simulator, DecisionModel) and (simulator.log_density or simulator.passage):
        together = 8 if simulator.passage and simulator.solved_for_all else 1
        return Recipe(n_thetas=60_000, n_trials=0, bins=256, steps=30_000, together=together)
    if len(Reduction(simulator).names) <= 2:
        return Recipe()
    if _interacting(simulator):
        return Recipe(n_thetas=200_000, n_trials=2_500 // n, bins=192 // n)
    return Recipe(n_thetas=200_000, n_trials=2_500)


def architecture_for(simulator: Simulator) -> Architecture:
    """The sizes of a new network: more components for a heavy tail, and for the humps of a diffusion with many inputs,
    or of one whose bounds stand long and then fall.

    With many inputs the network is wider as well.
    """
    components = 12 if simulator.clock.tail else 8
    if len(Reduction(simulator).names) <= 4 and not simulator.clock.collapse:
        return Architecture(components=components)
    if _interacting(simulator):
        return Architecture(components=components, hidden=96, choice_hidden=96)
    return Architecture(components=16, hidden=96)


def _interacting(simulator: Simulator) -> bool:
    return bool(simulator.per_choice) and not simulator.races
