"""`hddm-sbi train`: the likelihood of a shipped model, or of a simulator in a Python file, to a file."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hddm_sbi.cli.output import check_writable, warnings_shown
from hddm_sbi.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from hddm_sbi.simulation import Simulator


@click.command()
@click.argument("model")
@click.option("-n", "--simulations", type=click.IntRange(1), default=None, help="For a simulator of your own.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="For a simulator of your own.")
@click.option("--budget", type=float, default=None, help="Seconds of the fit, for a simulator of your own.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="[default: MODEL.safetensors]")
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder that keeps results. [default: runs/MODEL; none for a simulator of your own]",
)
@click.option("--device", default="cpu", show_default=True, help="Where the fit runs: cpu or cuda.")
@click.option("--n-jobs", type=int, default=1, show_default=True, help="Processes that simulate; -1: one per core.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Threads of each process, for a shipped model.",
)
@click.option("--quick", is_flag=True, help="A small recipe that takes seconds, to try the command.")
def train(model: str, output: Path | None, **options: Any) -> None:
    """Train a likelihood and check it.

    MODEL is a name (trained by the shipped recipe; goes on where a stopped run left off), or FILE.py:NAME, a simulator
    of your own made with `hs.declare`. Example: hddm-sbi train my_model.py:simulator -n 100000 -o my_model.safetensors
    """
    if ".py:" in model:
        _train_own(_simulator_at(model), output, options)
    else:
        _train_shipped(model, output, options)


def _train_shipped(model: str, output: Path | None, options: dict[str, Any]) -> None:
    output = output or Path(f"{model}.safetensors")
    check_writable(output)
    from hddm_sbi.training.recipe import Machine, Recipe
    from hddm_sbi.training.shipped import train_likelihood_of

    recipe = Recipe(n_thetas=2_000, n_trials=1_000, steps=500, shard=1_000) if options["quick"] else None
    folder = options["runs"] or Path("runs") / (f"{model}-quick" if options["quick"] else model)
    machine = Machine(options["n_jobs"], options["threads"], options["device"])
    card = train_likelihood_of(model, output, folder, recipe, machine)
    click.echo(f"{output}: {card.summary()}, sha256 {card.sha256[:12]}")


def _train_own(simulator: Simulator, output: Path | None, options: dict[str, Any]) -> None:
    output = output or Path(f"{simulator.name}.safetensors")
    check_writable(output)
    from hddm_sbi.errors import TrainingWarning
    from hddm_sbi.training.train import train_likelihood

    with warnings_shown(TrainingWarning):
        likelihood = train_likelihood(
            simulator,
            n_simulations=options["simulations"],
            seed=options["seed"],
            budget=options["budget"],
            n_jobs=options["n_jobs"],
            folder=options["runs"],
            device=options["device"],
        )
    likelihood.save(output)
    click.echo(f"{output}: {likelihood!r}")


def _simulator_at(place: str) -> Simulator:
    """The simulator called NAME in FILE.py, which is run as if it were imported."""
    from hddm_sbi.simulation import Simulator

    path, _, name = place.rpartition(":")
    if not Path(path).is_file():
        raise InputError(f"there is no file {path!r}; expected FILE.py:NAME, a simulator made with hs.declare.")
    try:
        found = runpy.run_path(path, run_name=Path(path).stem)
    except Exception as reason:
        raise InputError(f"{path!r} cannot be run ({type(reason).__name__}: {reason}); correct it first.") from reason
    simulators = [key for key, value in found.items() if isinstance(value, Simulator)]
    if name not in simulators:
        raise InputError(
            f"{path!r} has no simulator {name!r}{did_you_mean(name, simulators)} It has "
            f"{', '.join(simulators) or 'none'}; make one with the decorator hs.declare."
        )
    return found[name]
