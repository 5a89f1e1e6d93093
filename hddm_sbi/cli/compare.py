"""`hddm-sbi compare`: fits of the same trials side by side, from their files."""

from pathlib import Path
from typing import Any

import click

from hddm_sbi.cli.output import warnings_shown
from hddm_sbi.errors import InputError


@click.command()
@click.argument("fits", nargs=-1, required=True, type=click.Path(path_type=Path))
def compare(fits: tuple[Path, ...]) -> None:
    """Compare models by the expected log predictive density of new trials (PSIS-LOO). FITS: files of `hddm-sbi fit`.

    Example: hddm-sbi compare null.nc effect.nc
    """
    if len(set(fits)) < 2:
        raise InputError("expected the files of two fits or more, for instance hddm-sbi compare null.nc effect.nc.")
    from hddm_sbi.analysis.comparison import compare_models

    short = len({path.stem for path in fits}) == len(fits)
    # ArviZ warns with a plain UserWarning where importance weights are unreliable.
    with warnings_shown(UserWarning):
        named = {path.stem if short else str(path): _with_log_likelihood(path) for path in fits}
        table = compare_models(named)
    click.echo(table.to_string())


def _with_log_likelihood(path: Path) -> Any:
    from hddm_sbi.hierarchy.saved import load_fit

    model, posterior = load_fit(path)
    return posterior if "log_likelihood" in posterior else model.with_log_likelihood(posterior)
