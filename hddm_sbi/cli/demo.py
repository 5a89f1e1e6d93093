"""`hddm-sbi demo`: a simulated experiment, its fit, and the figures."""

from __future__ import annotations

from pathlib import Path

import click

from hddm_sbi.cli.certify import show_certificate
from hddm_sbi.cli.output import check_writable, fit_and_write, write_table
from hddm_sbi.errors import InputError


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Result folder.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--subjects", type=click.IntRange(2), default=12, show_default=True)
@click.option("--trials", type=click.IntRange(1), default=100, show_default=True, help="Per subject and condition.")
@click.option("--draws", type=click.IntRange(1), default=500, show_default=True)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def demo(out: Path, seed: int, subjects: int, trials: int, draws: int, quiet: bool) -> None:
    """Simulate an experiment, fit it, and write the posterior and four figures."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise InputError(f"the folder {str(out)!r} cannot be made ({reason}); choose another --out.") from reason
    check_writable(out / "fit.nc")
    from hddm_sbi.analysis.experiment import simulate_experiment
    from hddm_sbi.hierarchy.model import HierarchicalModel
    from hddm_sbi.presentation.report import write_figures

    experiment = simulate_experiment(subjects, trials, seed)
    write_table(experiment.trials, out / "trials.csv")
    model = HierarchicalModel(experiment.formulas, experiment.trials)
    click.echo(f"{model!r}\n{model.describe().map}")
    posterior = fit_and_write(model, out / "fit.nc", draws=draws, tune=draws, seed=seed, progress=not quiet)
    show_certificate(model, posterior, out / "fit.nc")
    for path in write_figures(model, posterior, experiment.true_values, out):
        click.echo(f"Figure written to {path}")
