"""`hddm-sbi summary`: the table of a fit, from its file."""

from pathlib import Path

import click

from hddm_sbi.cli.output import print_summary, warnings_shown
from hddm_sbi.errors import FitFileWarning


@click.command()
@click.argument("fit", type=click.Path(path_type=Path))
def summary(fit: Path) -> None:
    """Print the population's coefficients of a fit. FIT: the file that `hddm-sbi fit` wrote.

    Example: hddm-sbi summary fit.nc
    """
    from hddm_sbi.presentation.report import summary_of_fit

    with warnings_shown(FitFileWarning):
        table = summary_of_fit(fit)
    print_summary(table)
