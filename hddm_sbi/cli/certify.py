"""`hddm-sbi certify`: whether a learned likelihood moved the posterior of a fit; `fit` says it where that is cheap."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hddm_sbi.cli.output import check_writable, warnings_shown
from hddm_sbi.errors import FitFileWarning, InputError

if TYPE_CHECKING:
    from hddm_sbi.hierarchy.model import HierarchicalModel

#: of the time of sampling, that a certificate may take unasked, and the draws that are then compared.
_SHARE, _DRAWS = 0.1, 100


@click.command()
@click.argument("fit", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="Writes the corrected posterior.")
@click.option("--draws", type=int, default=None, help="Draws that are compared. [default: 1000; 100 by an equation]")
@click.option(
    "-n", "--simulations", "n_simulations", type=int, default=None, help="Where there is no closed form or equation."
)
@click.option("--likelihood", type=click.Path(path_type=Path), default=None, help="Its file, where it was moved.")
def certify(
    fit: Path, output: Path | None, draws: int | None, n_simulations: int | None, likelihood: Path | None
) -> None:
    """Say whether the learned likelihood of a fit moved its posterior. FIT: the file of `hddm-sbi fit`.

    Every quantity of the population is shown as it is and as it would be with the model's closed form, or its equation
    solved, or what new simulations say, in the place of the learned likelihood.
    Example: hddm-sbi certify fit.nc -o corrected.nc
    """
    if output is not None:
        check_writable(output)
    from hddm_sbi.analysis.certificate import certify as certificate_of
    from hddm_sbi.hierarchy.fits.saved import load_fit
    from hddm_sbi.inference import inference_data

    with warnings_shown(FitFileWarning):
        model, posterior = load_fit(fit, likelihood=likelihood)
    certificate = certificate_of(model, posterior, draws, n_simulations=n_simulations)
    click.echo(f"{certificate.shifts.round(3).to_string()}\n{certificate.verdict}")
    if output is None:
        return
    if certificate.corrected is None:
        raise InputError(f"{str(output)!r} is not written: this posterior cannot be corrected by weights.")
    inference_data.write(certificate.corrected, output)
    click.echo(f"Corrected posterior written to {output}")


def check_certifiable(model: HierarchicalModel) -> None:
    """Raises InputError where no fit of a model can be certified."""
    from hddm_sbi.analysis.certificate import why_not

    if reason := why_not(model):
        raise InputError(f"{reason} Leave out --certify.")


def show_certificate(model: HierarchicalModel, posterior: Any, output: Path, wanted: bool | None = None) -> None:
    """Print the verdict on a fit. wanted: None where a quick one takes less than a tenth of the time of sampling."""
    if wanted is False:
        return
    from hddm_sbi.analysis import certificate

    draws = None if wanted else _DRAWS
    if not wanted:
        sizes, took = posterior["posterior"].sizes, posterior["posterior"].attrs["sampling_seconds"]
        if certificate.why_not(model, sizes["chain"] * sizes["draw"]):
            return
        takes = certificate.seconds(model, posterior, draws)
        if takes > _SHARE * took:
            why = f"it takes about {takes:.0f} s" if math.isfinite(takes) else "that needs new simulations"
            click.echo(f"Not certified, as {why}: hddm-sbi certify {output}, or --certify.")
            return
    try:
        found = certificate.certify(model, posterior, draws)
    except InputError as refusal:
        if wanted:
            raise
        click.echo(f"Not certified: {refusal}")
        return
    click.echo(found.verdict)
    if not found.passed:
        click.echo(f"By quantity, and the corrected posterior: hddm-sbi certify {output} -o corrected.nc")
