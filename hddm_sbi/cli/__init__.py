"""The command line: fit, summary, certify, predict, compare, demo, simulate, models, train, check; a verb a module."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import click

from hddm_sbi.cli.certify import certify
from hddm_sbi.cli.check import check
from hddm_sbi.cli.compare import compare
from hddm_sbi.cli.demo import demo
from hddm_sbi.cli.fit import fit
from hddm_sbi.cli.models import models
from hddm_sbi.cli.output import ELSEWHERE, INTERRUPTED
from hddm_sbi.cli.predict import predict
from hddm_sbi.cli.simulate import simulate
from hddm_sbi.cli.summary import summary
from hddm_sbi.cli.train import train
from hddm_sbi.errors import InputError

#: what may stand behind the name of an argument in a message: a list, a text, a number or a word.
_VALUE = r"\[[^]]*\]|'[^']*'|[\w./-]*\w|\.\.\."


class _Verbs(click.Group):
    """Input errors become one message and exit code 2; an interrupt exit code 130. Notes say what is kept.

    A file that cannot be written or read becomes one message and exit code 1.
    """

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
        except BrokenPipeError:
            raise
        except OSError as failure:
            what = f"Error: {failure}; free some space, or choose another place."
            click.echo(" ".join([what, *getattr(failure, "__notes__", [])]), err=True)
            ctx.exit(ELSEWHERE)


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
    for option in (o for o in (verb.params if verb else ()) if isinstance(o, click.Option)):
        message = re.sub(rf"\b{option.name}=({_VALUE})?", partial(_as_flag, option.opts[-1]), message)
    return message


def _as_flag(flag: str, argument: re.Match[str]) -> str:
    value = argument[1] or ""
    if value.startswith("["):
        value = ",".join(part.strip(" '") for part in value[1:-1].split(","))
    return flag if value in ("", "True") else f"{flag} {value}"


@click.group(
    cls=_Verbs,
    commands=[fit, summary, certify, predict, compare, demo, simulate, models, train, check],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="hddm_sbi")
def main() -> None:
    """Hierarchical drift-diffusion models: exact where a likelihood can be written down, learned where not."""
