"""The output of a verb: files checked before and written whole, warnings on standard error, a fit until its file."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hddm_sbi.errors import FitFileWarning, InputError

if TYPE_CHECKING:
    import pandas as pd

    from hddm_sbi.hierarchy.model import HierarchicalModel

INTERRUPTED = 130
#: the result is not where it should be: elsewhere and whole, or nowhere.
ELSEWHERE = 1


def check_writable(output: Path) -> None:
    """Raises InputError where a file cannot be written."""
    folder = output.parent
    if not folder.is_dir():
        raise InputError(f"the folder {str(folder)!r} of --output does not exist; create it first.")
    if output.is_dir() or not os.access(output if output.exists() else folder, os.W_OK):
        raise InputError(f"{str(output)!r} cannot be written; choose another --output.")


@contextmanager
def warnings_shown(*categories: type[Warning]) -> Iterator[None]:
    """Every warning of these categories on standard error, at the end of the block."""
    with warnings.catch_warnings(record=True) as caught:
        for category in categories:
            warnings.simplefilter("always", category)
        yield
    for warning in caught:
        if issubclass(warning.category, categories):
            click.echo(f"Warning: {warning.message}", err=True)


def write_table(table: pd.DataFrame, output: Path | None) -> None:
    """Write a table as CSV, a whole file or none; to standard output where none is named."""
    if output is None:
        table.to_csv(sys.stdout, index=False)
        return
    from hddm_sbi.inference import inference_data

    inference_data.write_whole(table.to_csv(index=False).encode(), output)


def print_summary(table: pd.DataFrame) -> None:
    """Print the summary of a fit, and whether it went on."""
    click.echo(table.to_string())
    if said := table.attrs["went_on"]:
        click.echo(said)


def fit_and_write(model: HierarchicalModel, output: Path, **sampling: Any) -> Any:
    """Sample, print the table, write the file; an interrupted run writes what it has and exits with 130."""
    from hddm_sbi.hierarchy.fits.diagnostics import ConvergenceWarning
    from hddm_sbi.presentation.report import summary

    with warnings_shown(ConvergenceWarning, FitFileWarning):
        posterior = model.fit(**sampling)
    interrupted = bool(posterior["posterior"].attrs["interrupted"])
    try:
        written = _write(posterior, output)
    except KeyboardInterrupt:
        # To write takes a moment, to sample took longer.
        written, interrupted = _write(posterior, output), True
    print_summary(summary(model, posterior))
    if interrupted:
        sizes = posterior["posterior"].sizes
        click.echo(
            f"Interrupted: the {sizes['draw']} draws of {sizes['chain']} chains made so far are in {written}.", err=True
        )
        sys.exit(INTERRUPTED)
    if written != output:
        sys.exit(ELSEWHERE)
    click.echo(f"Posterior written to {output}")
    return posterior


def _write(posterior: Any, output: Path) -> Path:
    """Write a posterior, whole or not at all; where there is no room, elsewhere or in parts. Returns where it is."""
    from hddm_sbi.inference import inference_data

    content = inference_data.content(posterior)
    try:
        inference_data.write_whole(content, output)
    except OSError as failure:
        rescued, how = _rescued(content, output, failure)
        click.echo(f"Error: {output} could not be written ({failure}); the posterior is in {rescued}{how}.", err=True)
        return rescued
    return output


def _rescued(content: bytes, output: Path, failure: OSError) -> tuple[Path, str]:
    """Write a file into a temporary folder, in parts where files may not be so large: where, and how to read it."""
    from hddm_sbi.inference import inference_data

    try:
        rescued = Path(tempfile.mkdtemp(prefix="hddm_sbi-")) / output.name
        try:
            inference_data.write_whole(content, rescued)
        except OSError as too_large:
            if too_large.errno != errno.EFBIG:
                raise
            import resource  # of Unix, where this error comes from

            size = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
            for number, start in enumerate(range(0, len(content), size)):
                inference_data.write_whole(content[start : start + size], Path(f"{rescued}.{number:04d}"))
            return rescued, f".0000 and so on, in parts as large as files may be: join them, cat {rescued}.* > fit.nc"
    except OSError:
        raise InputError(
            f"the posterior could be written neither to {output} ({failure}) nor to {tempfile.gettempdir()}: free some "
            "space and fit again; --folder keeps the chains while they are sampled."
        ) from failure
    return rescued, ""
