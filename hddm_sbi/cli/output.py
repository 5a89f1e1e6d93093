"""The output of a verb: files checked before and written whole, warnings on standard error, a fit until its file."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hddm_sbi.errors import InputError

if TYPE_CHECKING:
    from hddm_sbi.hierarchy.model import HierarchicalModel

INTERRUPTED = 130
#: the result is whole, but not where it should be.
_ELSEWHERE = 1


def check_writable(output: Path) -> None:
    """Raises InputError where a file cannot be written."""
    folder = output.parent
    if not folder.is_dir():
        raise InputError(f"the folder {str(folder)!r} of --output does not exist; create it first.")
    if output.is_dir() or not os.access(output if output.exists() else folder, os.W_OK):
        raise InputError(f"{str(output)!r} cannot be written; choose another --output.")


@contextmanager
def warnings_shown(category: type[Warning]) -> Iterator[None]:
    """Every warning of this category on standard error, at the end of the block."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category)
        yield
    for warning in caught:
        if issubclass(warning.category, category):
            click.echo(f"Warning: {warning.message}", err=True)


def fit_and_write(model: HierarchicalModel, output: Path, **sampling: Any) -> Any:
    """Sample, print the table, write the file; an interrupted run writes what it has and exits with 130."""
    from hddm_sbi.hierarchy.diagnostics import ConvergenceWarning
    from hddm_sbi.presentation.report import summary

    with warnings_shown(ConvergenceWarning):
        posterior = model.fit(**sampling)
        click.echo(summary(model, posterior).to_string())
    written = _write(posterior, output)
    if posterior["posterior"].attrs["interrupted"]:
        sizes = posterior["posterior"].sizes
        click.echo(
            f"Interrupted: the {sizes['draw']} draws of {sizes['chain']} chains made so far are in {written}.", err=True
        )
        sys.exit(INTERRUPTED)
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
