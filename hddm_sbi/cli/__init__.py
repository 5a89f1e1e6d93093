"""The command line: fit, summary, certify, predict, compare, demo, simulate, models, train, check; a verb a module."""

from __future__ import annotations

import importlib
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import click

from hddm_sbi.cli.output import ELSEWHERE, INTERRUPTED
from hddm_sbi.errors import InputError

#: what `--help` says of each verb, the first sentence of its own help; its module is loaded where it is called.
_VERBS = {
    "certify": "Say whether the learned likelihood of a fit moved its posterior.",
    "check": "Recompute the scores on a likelihood's card, and say whether it passes.",
    "compare": "Compare models of the same trials, by PSIS-LOO or by evidence.",
    "demo": "Simulate an experiment, fit it, and write the posterior and four figures.",
    "fit": "Fit a hierarchical model to a table of trials (CSV, TSV, parquet, feather).",
    "models": "List the models, their parameters, and how good their likelihoods are.",
    "predict": "Simulate the trials of a fit again, once for each of some posterior draws.",
    "simulate": "Simulate trials.",
    "summary": "Print the population's coefficients of a fit.",
    "train": "Train a likelihood and check it.",
}
#: what may stand behind the name of an argument in a message: a list, a pair, a text, a number or a word.
_VALUE = r"\[[^]]*\]|\([^)]*\)|'[^']*'|[\w./-]*\w|\.\.\."


class _Verbs(click.Group):
    """Input errors become one message and exit code 2; an interrupt exit code 130. Notes say what is kept.

    A file that cannot be written or read becomes one message and exit code 1.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        found = getattr(importlib.import_module(f"{__name__}.{cmd_name}"), cmd_name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _termination_interrupts():
                return super().invoke(ctx)
        except (InputError, KeyboardInterrupt) as stop:
            refused, said = isinstance(stop, InputError), f": {stop}" if str(stop) else ""
            message = (
                f"Error{_in_flags(self.get_command(ctx, ctx.invoked_subcommand or ''), said)}"
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
        argument = rf"\b{option.name}(?:=({_VALUE})?|\[('\w+')\])"
        message = re.sub(argument, partial(_as_flag, option.opts[-1]), message)
    return message


def _as_flag(flag: str, argument: re.Match[str]) -> str:
    value = argument[1] or argument[2] or ""
    if value.startswith(("[", "(")):
        parts = (part.strip(" '") for part in value[1:-1].split(","))
        # On the command line nothing stands where there is no limit.
        value = ",".join("" if part == "None" else part for part in parts)
    return flag if value in ("", "True") else f"{flag} {value}"


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="hddm_sbi")
def main() -> None:
    """Hierarchical drift-diffusion models: exact where a likelihood can be written down, learned where not."""
