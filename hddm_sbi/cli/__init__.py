"""The command line: fit, summary, predict, compare, demo, simulate, models, train, check; one verb a module."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from typing_extensions import override

from hddm_sbi.cli.check import check
from hddm_sbi.cli.compare import compare
from hddm_sbi.cli.demo import demo
from hddm_sbi.cli.fit import fit
from hddm_sbi.cli.models import models
from hddm_sbi.cli.output import INTERRUPTED
from hddm_sbi.cli.predict import predict
from hddm_sbi.cli.simulate import simulate
from hddm_sbi.cli.summary import summary
from hddm_sbi.cli.train import train
from hddm_sbi.errors import InputError


class _Verbs(click.Group):
    """Input errors become one message and exit code 2; an interrupt exit code 130. Notes say what is kept."""

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _termination_interrupts():
                return super().invoke(ctx)
        except (InputError, KeyboardInterrupt) as stop:
            refused, said = isinstance(stop, InputError), f": {stop}" if str(stop) else ""
            message = (
                f"Error{_in_flags(self.commands.get(ctx.invoked_subcommand or ''), said)}"
                if refused
                else f"Interrupted{said}."
            )
            click.echo(" ".join([message, *getattr(stop, "__notes__", [])]), err=True)
            ctx.exit(2 if refused else INTERRUPTED)


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """SIGTERM, by which batch systems end a job, is as Ctrl-C; once, so that a result can be written."""

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _in_flags(verb: click.Command | None, message: str) -> str:
    """A message with the flags of a verb for the arguments of Python: `--upper right` for `upper='right'`."""
    options = [o for o in verb.params if isinstance(o, click.Option)] if verb else []
    for option in options:
        message = re.sub(rf"\b{option.name}=(?=\S)", f"{option.opts[-1]} ", message)
    return message


@click.group(
    cls=_Verbs,
    commands=[fit, summary, predict, compare, demo, simulate, models, train, check],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="hddm_sbi")
def main() -> None:
    """Hierarchical drift-diffusion models: exact where a likelihood can be written down, learned where not."""
