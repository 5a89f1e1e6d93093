"""`hddm-sbi compare`: fits of the same trials side by side, from their files."""

from pathlib import Path
from typing import Any, Literal

import click

from hddm_sbi.cli.output import warnings_shown
from hddm_sbi.errors import InputError


@click.command()
@click.argument("fits", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--by",
    type=click.Choice(["loo", "evidence"]),
    default="loo",
    help="What is predicted of trials that are left out, or the evidence and probability of every model.",
)
@click.option("--leave-out", default="trial", help="By loo: trial, or a column, such as subject.", show_default=True)
@click.option("--refit", is_flag=True, help="By loo: fit again without each trial or group whose Pareto k is too high.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Keeps what refits say; the same command goes on from there."
)
def compare(
    fits: tuple[Path, ...], by: Literal["loo", "evidence"], leave_out: str, refit: bool, folder: Path | None
) -> None:
    """Compare models of the same trials, by PSIS-LOO or by evidence. FITS: files of `hddm-sbi fit`.

    Example: hddm-sbi compare null.nc effect.nc --refit
    """
    if len(set(fits)) < 2:
        raise InputError("expected the files of two fits or more, for instance hddm-sbi compare null.nc effect.nc.")
    if refit and by != "loo":
        raise InputError("--refit is for --by loo; the evidence needs no refits: drop --refit.")
    if folder is not None and not refit:
        raise InputError("--folder keeps what refits say: add --refit, or drop --folder.")
    from hddm_sbi.analysis.comparison import compare_models
    from hddm_sbi.hierarchy.fits.saved import load_fit

    short = len({path.stem for path in fits}) == len(fits)
    # ArviZ warns with a plain UserWarning where importance weights are unreliable.
    with warnings_shown(UserWarning):
        loaded = {path.stem if short else str(path): load_fit(path) for path in fits}
        models = {name: model for name, (model, _) in loaded.items()}
        posteriors = {name: posterior for name, (_, posterior) in loaded.items()}
        if by == "loo":
            posteriors = {name: _with_log_likelihood(*of) for name, of in loaded.items()}
        table = compare_models(posteriors, by, leave_out, models=models, refit=refit, folder=folder)
    click.echo(table.to_string())


def _with_log_likelihood(model: Any, posterior: Any) -> Any:
    return posterior if "log_likelihood" in posterior else model.with_log_likelihood(posterior)
