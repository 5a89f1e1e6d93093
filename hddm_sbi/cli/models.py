"""`hddm-sbi models`: what there is to fit."""

from __future__ import annotations

import click


@click.command()
def models() -> None:
    """List the models, their parameters, and how good their likelihoods are."""
    import hddm_sbi as hs

    click.echo(hs.models().to_string(float_format="{:.2g}".format, na_rep="-"))
