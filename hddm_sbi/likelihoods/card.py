"""A checkpoint's passport: what made it and how good it is, as JSON beside the weights; both are written here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors.torch import save
from torch import nn

from hddm_sbi.errors import InputError

Network = Literal["mixture", "sbi"]

#: what the entries of a card are in JSON, where a wrong one would only be noticed later.
_ENTRIES = {
    "model": str,
    "architecture": dict,
    "simulations": int,
    "sha256": str,
    "bytes": int,
    "scores": dict,
    "declaration": dict,
}


@dataclass(frozen=True)
class Card:
    """A checkpoint's passport.

    Attributes
    ----------
    model, parameters
        The model, and its parameters in order.
    network
        What the weights are of: the mixture network of a decision model, or an estimator of sbi.
    box
        (low, high) of each parameter, where the network was trained.
    architecture
        Sizes of the network, as plain numbers.
    simulations, recipe
        How many, and what decides the weights, seed included.
    versions, created
        Of the libraries that made it, and the day.
    sha256, bytes
        Of the weights file.
    scores, scored_by
        Name -> value, and the command that prints them.
    declaration
        A simulator that the package does not ship, without its function.
    validation
        Loss per outcome held out, epoch by epoch.
    discretisation
        How far the simulations are from the model's law.
    """

    model: str
    network: Network
    parameters: tuple[str, ...]
    box: Mapping[str, tuple[float, float]]
    architecture: Mapping[str, Any]
    simulations: int
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]
    created: str
    sha256: str = ""
    bytes: int = 0
    scores: Mapping[str, Any] = field(default_factory=dict)
    scored_by: str = ""
    declaration: Mapping[str, Any] = field(default_factory=dict)
    validation: tuple[float, ...] = ()
    discretisation: str = ""

    def headline(self) -> dict[str, float]:
        """The scores that fit in a table of models."""
        names = ("KL", "mean_abs_error", "posterior_bias")
        return {"simulations": self.simulations, **{n: self.scores[n] for n in names if n in self.scores}}

    def summary(self) -> str:
        """Simulations and KL in a few words."""
        kl = f", KL {self.scores['KL']:.1e}" if "KL" in self.scores else ""
        if "log_score" in self.scores:
            return f"{self.simulations} simulations, log score {self.scores['log_score']:.3f}"
        return f"{self.simulations:.0e} simulations{kl}".replace("e+0", "e").replace("e-0", "e-")


def card_path(weights: Path) -> Path:
    """The card of a weights file: the same name with `.json`."""
    return weights.with_suffix(".json")


def write_card(weights: Path, card: Card) -> None:
    """Write the card of a weights file."""
    card_path(weights).write_text(json.dumps(asdict(card), indent=1) + "\n")


def save_weights(network: nn.Module, card: Card, weights: Path) -> Card:
    """Write weights and card; returns the card with the hash and size of the file."""
    # One entry only: safetensors writes several in random order, and the same weights would not be the same bytes.
    identity = {"likelihood": f"{card.model}: {' '.join(card.parameters)}"}
    content = save({k: v.float().contiguous() for k, v in network.state_dict().items()}, identity)
    complete = Card(**{**asdict(card), "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)})
    weights.write_bytes(content)
    write_card(weights, complete)
    return complete


def read_card(weights: Path) -> Card:
    """The card of a weights file. Raises InputError where file or card is missing or the card cannot be read."""
    if not weights.is_file():
        raise InputError(
            f"there is no likelihood file {str(weights)!r}; expected a .safetensors file with a .json card."
        )
    path = card_path(weights)
    if not path.is_file():
        raise InputError(f"{str(weights)!r} has no card; expected {path.name!r} beside it (they are written together).")
    try:
        raw = _known(json.loads(path.read_text()))
        raw["parameters"] = tuple(raw["parameters"])
        raw["validation"] = tuple(float(loss) for loss in raw.get("validation", ()))
        raw["box"] = {name: (float(low), float(high)) for name, (low, high) in raw["box"].items()}
        return _checked(Card(**raw))
    except (ValueError, TypeError, KeyError, AttributeError) as reason:
        raise InputError(f"the card {str(path)!r} cannot be read ({reason}); restore it or train again.") from reason


def _known(raw: dict[str, Any]) -> dict[str, Any]:
    """The entries of a card, none of them unknown and none missing."""
    unknown = set(raw) - {f.name for f in fields(Card)}
    missing = {f.name for f in fields(Card) if f.default is MISSING and f.default_factory is MISSING} - set(raw)
    if unknown or missing:
        raise ValueError(f"missing entries: {sorted(missing)}, unknown entries: {sorted(unknown)}")
    return raw


def _checked(card: Card) -> Card:
    if card.network not in get_args(Network):
        raise ValueError(f"'network' must be one of {get_args(Network)}; got {card.network!r}")
    for name, kind in _ENTRIES.items():
        value = getattr(card, name)
        if not isinstance(value, kind):
            raise TypeError(f"{name!r} must be a {kind.__name__}; got {value!r}")
    if tuple(card.box) != card.parameters:
        raise ValueError(f"'box' must name {card.parameters} in that order; got {tuple(card.box)}")
    return card


def versions_of(*packages: str) -> dict[str, str]:
    """Installed versions by package."""
    return {package: _version(package) for package in packages}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "uninstalled checkout"
