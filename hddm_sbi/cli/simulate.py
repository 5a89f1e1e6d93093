"""`hddm-sbi simulate`: trials of a model at given parameters, as CSV."""

from __future__ import annotations

from pathlib import Path

import click

from hddm_sbi.cli.output import check_writable, write_table
from hddm_sbi.errors import InputError


@click.command()
@click.argument("model")
@click.argument("parameters", nargs=-1, required=True, metavar="NAME=VALUE...")
@click.option("-n", "--trials", "n_trials", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--choices", default=None, help="Names of the responses in the order of its choices: red,green,blue.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="CSV file; else standard output.")
def simulate(
    model: str, parameters: tuple[str, ...], n_trials: int, seed: int, choices: str | None, output: Path | None
) -> None:
    """Simulate trials. Example: hddm-sbi simulate ddm v=1 a=1 z=.5 t0=.3 -n 500"""
    if output is not None:
        check_writable(output)
    theta = {}
    for text in parameters:
        name, _, value = text.partition("=")
        try:
            theta[name] = float(value)
        except ValueError:
            raise InputError(f"expected NAME=NUMBER, for instance v=1.5; got {text!r}.") from None
    import hddm_sbi as hs

    names = None if choices is None else choices.split(",")
    write_table(hs.simulate(model, theta, n_trials, seed=seed, choices=names), output)
