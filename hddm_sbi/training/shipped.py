"""Likelihoods that ship with the package: how each is trained, saved with its card, and scored."""

from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

from hddm_sbi.likelihoods import AccuracyScores, Architecture, ReferenceScores, SimulationScores, catalogue, checkpoint
from hddm_sbi.simulation import DecisionModel, Simulator
from hddm_sbi.training import accuracy
from hddm_sbi.training.accuracy_by_simulation import scores_by_simulation
from hddm_sbi.training.mixture import architecture_for, recipe_for, train_network
from hddm_sbi.training.recipe import Machine, Recipe


@dataclass(frozen=True)
class Targets:
    """What a shipped likelihood must reach: the largest value of each score; trials_per_set: of the posterior bias."""

    KL: float
    mean_abs_error: float
    posterior_bias: float
    trials_per_set: int


def targets(simulator: Simulator) -> Targets:
    """The targets of a model, by the number of parameters of what is learned without shift, delay and scale."""
    inputs = len({p.name for p in simulator.learned} - set(simulator.symmetries.set_apart))
    if inputs <= 2:
        return Targets(5e-6, 0.002, 0.1, 25_000)
    return Targets(1e-5, 0.003, 0.15, 10_000) if inputs == 3 else Targets(5e-5, 0.008, 0.15, 10_000)


def plan(simulator: Simulator) -> tuple[Recipe, Architecture]:
    """How a model's likelihood is trained: as the card of the shipped one says, else by the rules of `mixture`."""
    shipped = catalogue.weights_of(simulator.name)
    if shipped is None:
        return recipe_for(simulator), architecture_for(simulator)
    card = checkpoint.read_card(shipped)
    return Recipe(**card.recipe), Architecture(**card.architecture)


def train_likelihood_of(
    name: str, weights: Path, runs: Path, recipe: Recipe | None = None, machine: Machine | None = None
) -> checkpoint.Card:
    """Train the likelihood of a model, write `weights` and its card, scores included.

    recipe: instead of the model's own. runs: folder that keeps simulations and states; a run that was stopped goes on
    from there.
    """
    simulator = catalogue.load_simulator(name)
    planned, sizes = plan(simulator)
    recipe = recipe or planned
    network = train_network(simulator, recipe, runs, sizes, machine)
    card = checkpoint.Card(
        model=simulator.family,
        network="mixture",
        parameters=tuple(p.name for p in simulator.learned),
        box={p.name: (p.low, p.high) for p in simulator.learned},
        architecture=sizes.as_dict(),
        simulations=recipe.n_thetas * recipe.n_trials,
        recipe=asdict(recipe),
        versions=checkpoint.versions_of("hddm_sbi", "torch", "numpy", "numba"),
        created=date.today().isoformat(),
        discretisation=simulator.discretisation,
    )
    weights.parent.mkdir(parents=True, exist_ok=True)
    card = checkpoint.save_weights(network, card, weights)
    scores = score(weights, simulator)
    return checkpoint.write_card(weights, replace(card, scores=scores, scored_by=f"hddm-sbi check {name}"))


def score(weights: Path, simulator: DecisionModel) -> ReferenceScores | SimulationScores:
    """Scores of a model's weights file: against its closed form, or else its equation, or else its simulator."""
    likelihood = checkpoint.load_likelihood(weights, simulator)
    n_trials = targets(simulator).trials_per_set
    reference = catalogue.reference(simulator)
    if reference is None:
        return scores_by_simulation(likelihood, n_trials=n_trials)
    n_thetas = 400 if reference.kind == "numerical" else None
    return accuracy.scores(likelihood, reference, n_trials=n_trials, n_thetas=n_thetas)


def verdicts(scores: AccuracyScores, limits: Targets) -> dict[str, tuple[float, float, bool]]:
    """Score -> its value, the largest value allowed, and whether it passes."""
    limit_of = asdict(limits)
    return {name: (value, limit_of[name], value <= limit_of[name]) for name, value in scores.headline().items()}
