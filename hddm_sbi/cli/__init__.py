"""The command line: fit, demo, simulate, models, train, check; one verb a module."""

from __future__ import annotations

from typing import Any

import click
from typing_extensions import override

from hddm_sbi.cli.check import check
from hddm_sbi.cli.demo import demo
from hddm_sbi.cli.fit import fit
from hddm_sbi.cli.models import models
from hddm_sbi.cli.output import INTERRUPTED
from hddm_sbi.cli.simulate import simulate
from hddm_sbi.cli.train import train
from hddm_sbi.errors import InputError


class _Verbs(click.Group):
    """Input errors become one message and exit code 2; an interrupt exit code 130. Notes say what is kept."""

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (InputError, KeyboardInterrupt) as stop:
            refused, said = isinstance(stop, InputError), f": {stop}" if str(stop) else ""
            message = f"Error{said}" if refused else f"Interrupted{said}."
            click.echo(" ".join([message, *getattr(stop, "__notes__", [])]), err=True)
            ctx.exit(2 if refused else INTERRUPTED)


@click.group(
    cls=_Verbs,
    commands=[fit, demo, simulate, models, train, check],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="hddm_sbi")
def main() -> None:
    """Hierarchical drift-diffusion models: exact where a likelihood can be written down, learned where not."""
