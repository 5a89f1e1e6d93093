"""Weights on disk: safetensors beside a JSON card, verified when they are loaded. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from hddm_sbi.errors import InputError
from hddm_sbi.network import Architecture, MixtureNetwork
from hddm_sbi.neural import NeuralLikelihood
from hddm_sbi.reduction import Reduction
from hddm_sbi.simulator import Simulator

#: what the entries of a card are in JSON, where a wrong one would only be noticed later.
_ENTRIES = {"model": str, "architecture": dict, "simulations": int, "sha256": str, "bytes": int, "scores": dict}


@dataclass(frozen=True)
class Card:
    """A checkpoint's passport.

    box: (low, high) per parameter. recipe: what decides the weights, seed included. sha256, bytes: of the weights file.
    scores: name -> value, printed by `scored_by`. versions: of the libraries that made it. discretisation: how far the
    simulations are from the model's law.
    """

    model: str
    parameters: tuple[str, ...]
    box: Mapping[str, tuple[float, float]]
    architecture: Mapping[str, float]
    simulations: int
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]
    created: str
    sha256: str = ""
    bytes: int = 0
    scores: Mapping[str, Any] = field(default_factory=dict)
    scored_by: str = ""
    discretisation: str = ""

    def headline(self) -> dict[str, float]:
        """The scores that fit in a table of models."""
        names = ("KL", "mean_abs_error", "posterior_bias")
        return {"simulations": self.simulations, **{n: self.scores[n] for n in names if n in self.scores}}

    def summary(self) -> str:
        """Simulations and KL in a few words."""
        kl = f", KL {self.scores['KL']:.1e}" if "KL" in self.scores else ""
        return f"{self.simulations:.0e} simulations{kl}".replace("e+0", "e").replace("e-0", "e-")


def card_path(weights: Path) -> Path:
    """The card of a weights file: the same name with `.json`."""
    return weights.with_suffix(".json")


def write_card(weights: Path, card: Card) -> None:
    """Write the card of a weights file."""
    card_path(weights).write_text(json.dumps(asdict(card), indent=1) + "\n")


def save_weights(network: MixtureNetwork, card: Card, weights: Path) -> Card:
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
        raw = json.loads(path.read_text())
        raw["parameters"] = tuple(raw["parameters"])
        raw["box"] = {name: (float(low), float(high)) for name, (low, high) in raw["box"].items()}
        return _checked(Card(**raw))
    except (ValueError, TypeError, KeyError, AttributeError) as reason:
        raise InputError(f"the card {str(path)!r} cannot be read ({reason}); restore it or train again.") from reason


def _checked(card: Card) -> Card:
    for name, kind in _ENTRIES.items():
        value = getattr(card, name)
        if not isinstance(value, kind):
            raise TypeError(f"{name!r} must be a {kind.__name__}; got {value!r}")
    if tuple(card.box) != card.parameters:
        raise ValueError(f"'box' must name {card.parameters} in that order; got {tuple(card.box)}")
    return card


def load_likelihood(weights: Path, simulator: Simulator) -> NeuralLikelihood:
    """A learned likelihood, verified against its card and the model.

    Raises InputError where the file is truncated, was changed after training, or belongs to another model, or where the
    card's box leaves the model's support.
    """
    card = read_card(weights)
    content = weights.read_bytes()
    if card.model != simulator.name or card.parameters != simulator.names:
        raise InputError(
            f"{str(weights)!r} is a likelihood of {card.model!r} ({' '.join(card.parameters)}); expected "
            f"{simulator.name!r} ({' '.join(simulator.names)})."
        )
    for name, (low, high) in card.box.items():
        if not simulator.support[name][0] <= low < high <= simulator.support[name][1]:
            raise InputError(
                f"the card of {str(weights)!r} says a box of {name!r}, [{low:g}, {high:g}], that does not lie inside "
                f"{simulator.support[name]}, where {simulator.name!r} is defined; restore the card or train again."
            )
    if len(content) < card.bytes:
        raise InputError(
            f"{str(weights)!r} is truncated: it has {len(content)} bytes, its card says {card.bytes}; copy it again."
        )
    found = hashlib.sha256(content).hexdigest()
    if found != card.sha256:
        raise InputError(
            f"{str(weights)!r} was changed after training: its sha256 is {found[:12]}…, its card says "
            f"{card.sha256[:12]}…; restore the file or train again."
        )
    return NeuralLikelihood(
        simulator, _network(weights, content, card, simulator), card.box, sha256=card.sha256, summary=card.summary()
    )


def _network(weights: Path, content: bytes, card: Card, simulator: Simulator) -> MixtureNetwork:
    try:
        architecture = Architecture(**card.architecture)  # type: ignore[arg-type]
        network = MixtureNetwork(Reduction(simulator), architecture)
        network.load_state_dict(load(content))
    except (SafetensorError, RuntimeError, TypeError) as reason:
        raise InputError(f"{str(weights)!r} does not hold the network its card describes ({reason}).") from reason
    return network
