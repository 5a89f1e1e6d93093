"""`hddm-sbi predict`: trials that a fit predicts, from its file, as CSV."""

from pathlib import Path

import click

from hddm_sbi.cli.output import check_writable, warnings_shown, write_table
from hddm_sbi.errors import FitFileWarning


@click.command()
@click.argument("fit", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="CSV file; else standard output.")
@click.option("--draws", type=click.IntRange(1), default=100, show_default=True, help="Copies of the table.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Same seed, same trials.")
@click.option("--likelihood", type=click.Path(path_type=Path), default=None, help="Its file, where it was moved.")
def predict(fit: Path, output: Path | None, draws: int, seed: int, likelihood: Path | None) -> None:
    """Simulate the trials of a fit again, once for each of some posterior draws. FIT: the file of `hddm-sbi fit`.

    Every row has the number of its draw and of its trial, the predictors, and the predicted outcomes.
    Example: hddm-sbi predict fit.nc -o predictions.csv
    """
    if output is not None:
        check_writable(output)
    from hddm_sbi.analysis.predictive import predicted_table
    from hddm_sbi.hierarchy.fits.saved import load_fit

    with warnings_shown(FitFileWarning):
        model, posterior = load_fit(fit, likelihood=likelihood)
    write_table(predicted_table(model, posterior, draws, seed), output)
