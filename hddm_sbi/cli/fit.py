"""`hddm-sbi fit`: a table of trials and formulas in, a posterior out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hddm_sbi.cli.certify import check_certifiable, show_certificate
from hddm_sbi.cli.output import check_writable, fit_and_write, warnings_shown
from hddm_sbi.errors import TableWarning
from hddm_sbi.inference import SAMPLERS

#: options that say how to sample, not what.
_SAMPLING = ("draws", "tune", "chains", "seed", "method", "ess", "minutes", "folder", "quick", "target_accept")


def _number_or(word: str, convert: Callable[..., float]) -> Callable[..., float | str | None]:
    """What reads an option that is a number, or this word."""

    def read(context: click.Context, option: click.Parameter, given: str | None) -> float | str | None:
        try:
            return given if given in (None, word) else convert(given, option, context)
        except click.BadParameter as reason:
            raise click.BadParameter(f"{reason.message.rstrip('.')}, nor is it {word!r}.", context, option) from None

    return read


def _limit(written: str) -> float | str:
    """A limit of time: seconds, or the name of a column."""
    try:
        return float(written)
    except ValueError:
        return written


def _limits(context: click.Context, option: click.Parameter, given: str | None) -> object:
    """What reads an option of two limits, with nothing for no limit: ",2.5"."""
    if given is None:
        return None
    ends = given.split(",")
    if len(ends) != 2:
        raise click.BadParameter(f"must be SHORTEST,LONGEST, as in 0.2,2.5 or ,2.5; got {given!r}.", context, option)
    return tuple(_limit(end.strip()) if end.strip() else None for end in ends)


def _shares(context: click.Context, option: click.Parameter, given: str | None) -> dict[str, float] | None:
    """What reads an option of a probability for every response: left=0.7,right=0.3."""
    if given is None:
        return None
    try:
        return {name.strip(): float(share) for name, _, share in (part.rpartition("=") for part in given.split(","))}
    except ValueError:
        raise click.BadParameter(
            f"must be RESPONSE=PROBABILITY,..., as in left=0.7,right=0.3; got {given!r}.", context, option
        ) from None


_SHARE = click.FloatRange(0.0, 1.0, min_open=True, max_open=True)
_LAPSE = _number_or("estimated", click.FloatRange(0.0, 1.0, max_open=True).convert)
_SECONDS = _number_or("range", click.FloatRange(0.0, min_open=True).convert)


@click.command()
@click.argument("trials", type=click.Path(path_type=Path))
@click.argument("formula")
@click.option("-f", "--formula", "more", multiple=True, help="One more, e.g. 'a ~ 1 + (1|subject)' or 'z = 0.5'.")
@click.option("--model", "simulator", default=None, help="Model; see `hddm-sbi models`. [default: ddm]")
@click.option("--likelihood", default="neural", show_default=True, help="neural, exact, or a .safetensors file.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("fit.nc"), show_default=True)
@click.option("--draws", type=click.IntRange(1), default=None, help="Draws per chain. [default: 1000 to 3000, by Rhat]")
@click.option("--tune", type=click.IntRange(1), default=1000, show_default=True, help="Tuning steps per chain.")
@click.option("--chains", type=click.IntRange(1), default=4, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=None, help="Same seed, same draws.")
@click.option("--method", type=click.Choice(list(SAMPLERS)), default="nuts", show_default=True)
@click.option("--ess", type=click.IntRange(1), default=None, help="Go on until so many effective draws of each.")
@click.option("--minutes", type=float, default=None, help="The most time; what there is by then is written.")
@click.option("--folder", type=click.Path(path_type=Path), default=None, help="Keeps the chains; goes on from there.")
@click.option("--quick", is_flag=True, help="A first look in seconds; says how far its means may still be off.")
@click.option("--target-accept", type=_SHARE, default=None, help="Nearer to 1, fewer draws diverge. [default: 0.8]")
@click.option("--upper", default=None, help="The response value that is the upper bound, if not coded +1 and -1.")
@click.option("--choices", default=None, help="The responses in the order of its choices: left,right,none.")
@click.option("--correct", default=None, help="Column of the correct responses: a response is correct, or error.")
@click.option("--stimulus", default=None, help="Column of the right responses of a race, for `match` in formulas.")
@click.option("--congruent", default=None, help="The label of congruent trials in the column congruency, if not +1.")
@click.option("--neutral", default=None, help="The label of neutral trials in the column congruency, if not 0.")
@click.option("--deadline", callback=lambda _, __, given: given and _limit(given), help="Seconds, or a column of them.")
@click.option("--withheld", default=None, help="The response that is given by not responding.")
@click.option("--censored", callback=_limits, help="SHORTEST,LONGEST time that was measured; outside, only its side.")
@click.option("--truncated", callback=_limits, help="SHORTEST,LONGEST time; trials outside were removed.")
@click.option("--rt-column", "rt", default="rt", show_default=True, help="In seconds: divide milliseconds by 1000.")
@click.option("--response-column", "response", default="response", show_default=True)
@click.option("--lapse", callback=_LAPSE, help="Probability of a lapse. [default: estimated]")
@click.option("--lapse-seconds", callback=_SECONDS, help="Lapses are uniform over these. [default: range]")
@click.option("--lapse-mean", type=click.FloatRange(0.0, min_open=True), help="Lapses are exponential; mean, seconds.")
@click.option("--lapse-choices", callback=_shares, help="How probable each response is in a lapse: left=0.7,right=0.3.")
@click.option(
    "--sequence",
    "sequences",
    multiple=True,
    help="A covariate that a rule computes along trials: 'dq = delta_rule(feedback, response, by=subject)'.",
)
@click.option("--priors", default=None, help="A prior set from the literature, e.g. hddm.")
@click.option(
    "--certify/--no-certify",
    "certified",
    default=None,
    help="Whether a learned likelihood moved the posterior. [default: where that takes a tenth of the fit]",
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def fit(
    trials: Path,
    formula: str,
    more: tuple[str, ...],
    output: Path,
    certified: bool | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Fit a hierarchical model to a table of trials (CSV, TSV, parquet, feather).

    Example: hddm-sbi fit trials.csv "v ~ condition + (1|subject)" -f "a ~ 1 + (1|subject)" -o fit.nc
    """
    check_writable(output)
    from hddm_sbi.data import CONGRUENCY, read_table
    from hddm_sbi.data.sequences.written import read_sequence
    from hddm_sbi.hierarchy.model import HierarchicalModel

    data = read_table(trials)
    sampling = {name: options.pop(name) for name in _SAMPLING}
    if options["lapse_seconds"] is None:
        del options["lapse_seconds"]
    options["upper"] = _as_in(data, options["response"], options["upper"])
    if options["withheld"] is not None:
        options["withheld"] = _response(data, options["response"], options["withheld"])
    if options["choices"] is not None:
        options["choices"] = [_as_in(data, options["response"], name) for name in options["choices"].split(",")]
    if options["lapse_choices"] is not None:
        shares = options["lapse_choices"].items()
        options["lapse_choices"] = {_response(data, options["response"], name): share for name, share in shares}
    for label in ("congruent", "neutral"):
        options[label] = _as_in(data, CONGRUENCY, options[label])
    options["sequences"] = dict(map(read_sequence, options["sequences"])) or None
    with warnings_shown(TableWarning):
        model = HierarchicalModel([formula, *more], data, **options)
    if certified:
        check_certifiable(model)
    click.echo(f"{model!r}\n{model.describe().map}")
    posterior = fit_and_write(model, output, progress=not quiet, **sampling)
    show_certificate(model, posterior, output, certified)


def _response(data: Any, column: str, written: str) -> object:
    """The withheld response as the table writes it, or, where it stands for none there, as a code of the model."""
    found = _as_in(data, column, written)
    return int(written) if found is written and written.lstrip("+-").isdigit() else found


def _as_in(data: Any, column: str, written: str | None) -> object:
    """The value of a column that is written like this on the command line."""
    if written is None or column not in data:
        return written
    for value in data[column].unique().tolist():
        if str(value) == written or (isinstance(value, float) and f"{value:g}" == written):
            return value
    return written
