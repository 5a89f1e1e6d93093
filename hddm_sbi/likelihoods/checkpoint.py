"""Weights from disk: safetensors beside a JSON card, verified when they are loaded. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.card import Card, card_path, read_card, save_weights, versions_of, write_card
from hddm_sbi.likelihoods.likelihood import Likelihood
from hddm_sbi.likelihoods.mixture.likelihood import MixtureLikelihood
from hddm_sbi.likelihoods.mixture.network import Architecture, MixtureNetwork
from hddm_sbi.likelihoods.mixture.reduction import Reduction
from hddm_sbi.likelihoods.sbi.encoding import Encoding
from hddm_sbi.likelihoods.sbi.estimators import EstimatorShape, build
from hddm_sbi.likelihoods.sbi.likelihood import SbiDecisionLikelihood, SbiLikelihood
from hddm_sbi.simulation import Simulator, from_json

__all__ = ["Card", "card_path", "load_any", "load_likelihood", "read_card", "save_weights", "versions_of", "write_card"]


def load_likelihood(weights: Path, simulator: Simulator) -> MixtureLikelihood:
    """A mixture network's likelihood, verified against its card and the model.

    Raises InputError where the file is truncated, was changed after training, or belongs to another model, or where the
    card's box leaves the model's support.
    """
    card = read_card(weights)
    network = _network(weights, _verified(weights, card, simulator), card, simulator)
    return MixtureLikelihood(simulator, network, card.box, card)


def load_any(weights: Path, simulator: Simulator | None = None) -> Likelihood:
    """Any learned likelihood, verified as above.

    simulator: where the model is not on the card (a shipped one), or is to be simulated: a card holds no code.
    """
    card = read_card(weights)
    model = _declared(weights, card) if simulator is None else simulator
    if card.network == "mixture":
        return load_likelihood(weights, model)
    content = _verified(weights, card, model)
    encoding, estimator = _estimator(weights, content, card, model)
    kind = SbiDecisionLikelihood if model.is_decision_model else SbiLikelihood
    return kind(model, estimator, encoding, card.box, card)


def _declared(weights: Path, card: Card) -> Simulator:
    try:
        return from_json(card.declaration)
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as reason:
        raise InputError(
            f"the card of {str(weights)!r} does not declare a simulator ({type(reason).__name__}: {reason}); restore "
            "it or train again."
        ) from reason


def _verified(weights: Path, card: Card, simulator: Simulator) -> bytes:
    """The content of a weights file that is what its card says, of this model."""
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
    return content


def _network(weights: Path, content: bytes, card: Card, simulator: Simulator) -> MixtureNetwork:
    try:
        architecture = Architecture(**card.architecture)
        network = MixtureNetwork(Reduction(simulator), architecture)
        network.load_state_dict(load(content))
    except (SafetensorError, RuntimeError, TypeError) as reason:
        raise InputError(f"{str(weights)!r} does not hold the network its card describes ({reason}).") from reason
    return network


def _estimator(weights: Path, content: bytes, card: Card, simulator: Simulator) -> tuple[Encoding, Any]:
    """An estimator built from the numbers on its card, with the weights of the file."""
    try:
        sizes = dict(card.architecture)
        location, spread = (tuple(float(x) for x in sizes.pop(name)) for name in ("location", "spread"))
        encoding = Encoding(simulator, location, spread, tuple(int(x) for x in sizes.pop("sizes")))
        estimator = build(encoding, EstimatorShape(**sizes))
        estimator.load_state_dict(load(content))
    except (SafetensorError, RuntimeError, TypeError, ValueError, KeyError) as reason:
        raise InputError(f"{str(weights)!r} does not hold the network its card describes ({reason}).") from reason
    return encoding, estimator
