"""The command line: fit, demo, simulate, models, train, check."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hddm_sbi.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from hddm_sbi.hierarchy.model import HierarchicalModel
    from hddm_sbi.simulation.simulator import Simulator

_INTERRUPTED = 130
#: the result is whole, but not where it was to be.
_ELSEWHERE = 1


def _plain_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Input errors become one message and exit code 2; an interrupt exit code 130. Notes say what is kept."""

    @wraps(command)
    def run(*args: object, **options: object) -> None:
        try:
            command(*args, **options)
        except InputError as error:
            click.echo(" ".join([f"Error: {error}", *_notes(error)]), err=True)
            sys.exit(2)
        except KeyboardInterrupt as stop:
            click.echo(" ".join([f"Interrupted{': ' + str(stop) if str(stop) else ''}.", *_notes(stop)]), err=True)
            sys.exit(_INTERRUPTED)

    return run


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="hddm_sbi")
def main() -> None:
    """Hierarchical drift-diffusion models: exact where a likelihood can be written down, learned where not."""


@main.command()
@click.argument("trials", type=click.Path(path_type=Path))
@click.argument("formula")
@click.option("-f", "--formula", "more", multiple=True, help="One more, e.g. 'a ~ 1 + (1|subject)' or 'z = 0.5'.")
@click.option("--model", "simulator", default=None, help="Model; see `hddm-sbi models`. [default: ddm]")
@click.option("--likelihood", default="neural", show_default=True, help="neural, exact, or a .safetensors file.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("fit.nc"), show_default=True)
@click.option("--draws", type=click.IntRange(1), default=1000, show_default=True, help="Draws per chain.")
@click.option("--tune", type=click.IntRange(1), default=1000, show_default=True, help="Tuning steps per chain.")
@click.option("--chains", type=click.IntRange(1), default=4, show_default=True)
@click.option("--seed", type=int, default=None, help="Same seed, same draws.")
@click.option("--method", type=click.Choice(["nuts", "pyro-nuts", "svi", "laplace"]), default="nuts", show_default=True)
@click.option("--quick", is_flag=True, help="A first look in seconds; says how far its means may still be off.")
@click.option("--upper", default=None, help="The response value that is the upper bound, if not coded +1 and -1.")
@click.option("--rt-column", default="rt", show_default=True)
@click.option("--response-column", default="response", show_default=True)
@click.option("--lapse", type=float, default=None, help="Probability of a lapse trial. [default: 0.05]")
@click.option("--lapse-seconds", type=float, default=10.0, show_default=True, help="Lapses are uniform over these.")
@click.option("--priors", default=None, help="A prior set from the literature, e.g. hddm.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@_plain_errors
def fit(trials: Path, formula: str, more: tuple[str, ...], output: Path, quiet: bool, **options: Any) -> None:
    """Fit a hierarchical model to a table of trials (CSV, TSV, parquet, feather).

    Example: hddm-sbi fit trials.csv "v ~ condition + (1|subject)" -f "a ~ 1 + (1|subject)" -o fit.nc
    """
    _check_writable(output)
    from hddm_sbi.data.trials import read_table
    from hddm_sbi.hierarchy.model import HierarchicalModel

    data = read_table(trials)
    model = HierarchicalModel(
        [formula, *more],
        data,
        simulator=options["simulator"],
        likelihood=options["likelihood"],
        priors=options["priors"],
        lapse=options["lapse"],
        lapse_seconds=options["lapse_seconds"],
        upper=_as_in(data, options["response_column"], options["upper"]),
        rt=options["rt_column"],
        response=options["response_column"],
    )
    click.echo(repr(model))
    sampling = {name: options[name] for name in ("draws", "tune", "chains", "seed", "method", "quick")}
    _fit_and_write(model, output, progress=not quiet, **sampling)


def _fit_and_write(model: HierarchicalModel, output: Path, **sampling: Any) -> Any:
    """Sample, print the table, write the file; an interrupted run writes what it has and exits with 130."""
    from hddm_sbi.hierarchy.diagnostics import ConvergenceWarning
    from hddm_sbi.presentation.report import summary

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        posterior = model.fit(**sampling)
    click.echo(summary(model, posterior))
    for warning in caught:
        click.echo(f"Warning: {warning.message}", err=True)
    written = _write(posterior, output)
    if posterior["posterior"].attrs["interrupted"]:
        sizes = posterior["posterior"].sizes
        click.echo(
            f"Interrupted: the {sizes['draw']} draws of {sizes['chain']} chains made so far are in {written}.", err=True
        )
        sys.exit(_INTERRUPTED)
    if written != output:
        sys.exit(_ELSEWHERE)
    click.echo(f"Posterior written to {output}")
    return posterior


def _write(posterior: Any, output: Path) -> Path:
    """Write a posterior, whole or not at all; where that fails, into a temporary folder. Returns where it is."""
    try:
        return _write_whole(posterior, output)
    except (OSError, RuntimeError) as failure:
        rescued = Path(tempfile.mkdtemp(prefix="hddm_sbi-")) / output.name
        try:
            _write_whole(posterior, rescued)
        except (OSError, RuntimeError):
            raise InputError(
                f"the posterior could be written neither to {output} ({failure}) nor to {rescued.parent}: free some "
                "space and fit again, or fit in Python, where the posterior stays in memory."
            ) from failure
        click.echo(f"Error: {output} could not be written ({failure}); the posterior is in {rescued}.", err=True)
        return rescued


def _write_whole(posterior: Any, path: Path) -> Path:
    aside = path.with_name(f"{path.name}.part")
    try:
        posterior.to_netcdf(str(aside))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def _check_writable(output: Path) -> None:
    folder = output.parent
    if not folder.is_dir():
        raise InputError(f"the folder {str(folder)!r} of --output does not exist; create it first.")
    if output.is_dir() or not os.access(output if output.exists() else folder, os.W_OK):
        raise InputError(f"{str(output)!r} cannot be written; choose another --output.")


def _as_in(data: Any, response: str, upper: str | None) -> object:
    """The value of the response column that is written `upper` on the command line."""
    if upper is None or response not in data:
        return upper
    for value in data[response].unique().tolist():
        if str(value) == upper or (isinstance(value, float) and f"{value:g}" == upper):
            return value
    return upper


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Result folder.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--subjects", type=click.IntRange(2), default=12, show_default=True)
@click.option("--trials", type=click.IntRange(1), default=100, show_default=True, help="Per subject and condition.")
@click.option("--draws", type=click.IntRange(1), default=500, show_default=True)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@_plain_errors
def demo(out: Path, seed: int, subjects: int, trials: int, draws: int, quiet: bool) -> None:
    """Simulate an experiment, fit it, and write the posterior and four figures."""
    out.mkdir(parents=True, exist_ok=True)
    _check_writable(out / "fit.nc")
    from hddm_sbi.analysis.experiment import FORMULAS, simulate_experiment
    from hddm_sbi.hierarchy.model import HierarchicalModel
    from hddm_sbi.presentation.report import write_figures

    experiment = simulate_experiment(subjects, trials, seed)
    experiment.trials.to_csv(out / "trials.csv", index=False)
    model = HierarchicalModel(FORMULAS, experiment.trials)
    click.echo(repr(model))
    posterior = _fit_and_write(model, out / "fit.nc", draws=draws, tune=draws, seed=seed, progress=not quiet)
    for path in write_figures(model, posterior, experiment.truth, out):
        click.echo(f"Figure written to {path}")


@main.command()
@click.argument("model")
@click.argument("parameters", nargs=-1, required=True, metavar="NAME=VALUE...")
@click.option("-n", "--trials", "n_trials", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="CSV file; else standard output.")
@_plain_errors
def simulate(model: str, parameters: tuple[str, ...], n_trials: int, seed: int, output: Path | None) -> None:
    """Simulate trials. Example: hddm-sbi simulate ddm v=1 a=1 z=.5 t0=.3 -n 500"""
    if output is not None:
        _check_writable(output)
    theta = {}
    for text in parameters:
        name, _, value = text.partition("=")
        try:
            theta[name] = float(value)
        except ValueError:
            raise InputError(f"expected NAME=NUMBER, for instance v=1.5; got {text!r}.") from None
    from hddm_sbi.likelihoods.catalogue import simulate as run

    run(model, theta, n_trials, seed=seed).to_csv(output or sys.stdout, index=False)


@main.command()
@_plain_errors
def models() -> None:
    """List the models, their parameters, and how good their likelihoods are."""
    from hddm_sbi.likelihoods.catalogue import models as table

    click.echo(table().to_string(float_format="{:.2g}".format, na_rep="-"))


@main.command()
@click.argument("model")
@click.option("-n", "--simulations", type=click.IntRange(1), default=None, help="Of a simulator of your own.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of a simulator of your own.")
@click.option("--budget", type=float, default=None, help="Seconds that fitting a simulator of your own may take.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="[default: MODEL.safetensors]")
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder that keeps what is done. [default: runs/MODEL; none for a simulator of your own]",
)
@click.option("--device", default="cpu", show_default=True, help="Where the fit runs: cpu or cuda.")
@click.option("--n-jobs", type=int, default=1, show_default=True, help="Processes that simulate; -1: one per core.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of each, in a shipped model.")
@click.option("--quick", is_flag=True, help="A small recipe that takes seconds, to try the command.")
@_plain_errors
def train(
    model: str,
    simulations: int | None,
    seed: int,
    budget: float | None,
    output: Path | None,
    runs: Path | None,
    device: str,
    n_jobs: int,
    threads: int,
    quick: bool,
) -> None:
    """Train a likelihood and check it.

    MODEL is a name (trained by the shipped recipe; goes on where a stopped run left off), or FILE.py:NAME, a simulator
    of your own made with `hs.declare`. Example: hddm-sbi train my_model.py:simulator -n 100000 -o my_model.safetensors
    """
    if ".py:" in model:
        _train_own(model, simulations, seed, budget, output, runs, n_jobs, device)
        return
    output = output or Path(f"{model}.safetensors")
    _check_writable(output)
    from hddm_sbi.training.mixture import Recipe
    from hddm_sbi.training.shipped import train_likelihood_of

    recipe = Recipe(thetas=2_000, trials=1_000, steps=500, shard=1_000) if quick else None
    folder = runs or Path("runs") / (f"{model}-quick" if quick else model)
    card = train_likelihood_of(model, output, folder, recipe, device=device, n_jobs=n_jobs, n_threads=threads)
    click.echo(f"{output}: {card.summary()}, sha256 {card.sha256[:12]}")


def _train_own(
    place: str,
    simulations: int | None,
    seed: int,
    budget: float | None,
    output: Path | None,
    runs: Path | None,
    n_jobs: int,
    device: str,
) -> None:
    """Train the likelihood of a simulator in a Python file."""
    from hddm_sbi.training.train import TrainingWarning, train_likelihood

    simulator = _simulator_at(place)
    output = output or Path(f"{simulator.name}.safetensors")
    _check_writable(output)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TrainingWarning)
        likelihood = train_likelihood(
            simulator, None, simulations, seed, budget, n_jobs=n_jobs, folder=runs, device=device
        )
    for warning in caught:
        if issubclass(warning.category, TrainingWarning):
            click.echo(f"Warning: {warning.message}", err=True)
    likelihood.save(output)
    click.echo(f"{output}: {likelihood!r}")


def _simulator_at(place: str) -> Simulator:
    """The simulator called NAME in FILE.py, which is run as if it were imported."""
    import runpy

    from hddm_sbi.simulation.simulator import Simulator

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


@main.command()
@click.argument("model")
@_plain_errors
def check(model: str) -> None:
    """Recompute the scores on a likelihood's card, and say whether it passes. MODEL: a name or a .safetensors file.

    Of a simulator of your own, which is not in the file, say how it did when it was trained.
    """
    import json

    from hddm_sbi.likelihoods import catalogue, checkpoint
    from hddm_sbi.training.shipped import score, targets, verdicts

    if model.endswith(".safetensors") and checkpoint.read_card(Path(model)).declaration:
        verdict = checkpoint.read_card(Path(model)).scores
        click.echo(verdict["verdict"])
        sys.exit(0 if verdict["passed"] else 1)
    path = Path(model) if model.endswith(".safetensors") else catalogue.weights_of(catalogue.load_simulator(model).name)
    if path is None:
        raise InputError(f"{model!r} has no pretrained likelihood to check; train one with `hddm-sbi train {model}`.")
    scores = score(path)
    click.echo(json.dumps(scores, indent=1))
    passed = verdicts(scores, targets(catalogue.load_simulator(checkpoint.read_card(path).model)))
    for name, (value, limit, ok) in passed.items():
        click.echo(f"{'pass' if ok else 'FAIL'}  {name} = {value:.3g} (target: at most {limit:g})")
    sys.exit(0 if all(ok for _, _, ok in passed.values()) else 1)
