"""`hddm-sbi check`: the scores on a likelihood's card, computed again."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hddm_sbi.errors import InputError


@click.command()
@click.argument("model")
def check(model: str) -> None:
    """Recompute the scores on a likelihood's card, and say whether it passes. MODEL: a name or a .safetensors file.

    The code of a simulator of your own is not in the file: its likelihood gets the verdict from its training.
    """
    import json
    from dataclasses import asdict

    from hddm_sbi.likelihoods import catalogue, checkpoint
    from hddm_sbi.likelihoods.scores import HeldOutScores
    from hddm_sbi.training.shipped import score, targets, verdicts

    path = Path(model) if model.endswith(".safetensors") else catalogue.weights_of(catalogue.load_simulator(model).name)
    if path is None:
        raise InputError(f"{model!r} has no pretrained likelihood to check; train one with `hddm-sbi train {model}`.")
    card = checkpoint.read_card(path)
    if card.declaration and isinstance(card.scores, HeldOutScores):
        click.echo(card.scores.verdict)
        sys.exit(0 if card.scores.passed else 1)
    simulator = catalogue.load_simulator(card.model if model.endswith(".safetensors") else model)
    scores = score(path, simulator)
    click.echo(json.dumps(asdict(scores), indent=1))
    passed = verdicts(scores, targets(simulator))
    for name, (value, limit, ok) in passed.items():
        click.echo(f"{'pass' if ok else 'FAIL'}  {name} = {value:.3g} (target: at most {limit:g})")
    sys.exit(0 if all(ok for _, _, ok in passed.values()) else 1)
