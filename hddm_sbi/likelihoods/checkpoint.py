"""Weights from disk: safetensors beside a JSON card, verified when they are loaded. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import overload

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.card import Card, card_path, read_card, save_weights, seal, versions_of, write_card
from hddm_sbi.likelihoods.factored import (
    Encoding,
    EstimatorShape,
    Factored,
    FactoredDecisionLikelihood,
    FactoredNetwork,
    factored_likelihood,
)
from hddm_sbi.likelihoods.learned import LearnedLikelihood
from hddm_sbi.likelihoods.mixture import Architecture, MixtureLikelihood, MixtureNetwork, Reduction
from hddm_sbi.simulation import DecisionModel, Simulator, from_json

#: bytes of a weights file; those of the package have a hundred thousand at most.
_LARGEST = 2**29

__all__ = ["Card", "card_path", "load_likelihood", "read_card", "save_weights", "seal", "versions_of", "write_card"]


@overload
def load_likelihood(weights: Path, simulator: DecisionModel) -> MixtureLikelihood | FactoredDecisionLikelihood: ...


@overload
def load_likelihood(weights: Path, simulator: Simulator | None = None) -> LearnedLikelihood: ...


def load_likelihood(weights: Path, simulator: Simulator | None = None) -> LearnedLikelihood:
    """A learned likelihood, verified against its card and the model.

    simulator: where the model is not on the card (a shipped one), or is to be simulated: a card holds no code. Raises
    InputError where the file is truncated, was changed after training, or belongs to another model, or where the card's
    box leaves the model's support.
    """
    card = read_card(weights)
    model = _declared(weights, card) if simulator is None else simulator
    content = _verified(weights, card, model)
    try:
        # A network is built with random weights, which those of the file replace: the caller's generator stays.
        with torch.random.fork_rng(devices=[]):
            return (_mixture if card.network == "mixture" else _factored)(card, load(content), model)
    except (SafetensorError, RuntimeError, TypeError, ValueError, KeyError, ArithmeticError) as reason:
        raise InputError(f"{str(weights)!r} does not hold the network its card describes ({reason}).") from reason


def _declared(weights: Path, card: Card) -> Simulator:
    try:
        return from_json(card.declaration)
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, ArithmeticError) as reason:
        raise InputError(
            f"the card of {str(weights)!r} does not declare a simulator ({type(reason).__name__}: {reason}); restore "
            "it or train again."
        ) from reason


def _verified(weights: Path, card: Card, simulator: Simulator) -> bytes:
    """The content of a weights file that is what its card says, of this model."""
    # A race has the network of one accumulator, or one that was trained for its number of choices.
    own, of_family = (simulator.name, simulator.parameters), (simulator.family, simulator.learned)
    named = {(model, tuple(p.name for p in parameters)): parameters for model, parameters in (own, of_family)}
    if (card.model, card.parameters) not in named:
        raise InputError(
            f"{str(weights)!r} is a likelihood of {card.model!r} ({' '.join(card.parameters)}); expected "
            f"{simulator.name!r} ({' '.join(simulator.names)})."
        )
    parameters = named[card.model, card.parameters]
    for p, (low, high) in zip(parameters, card.box.values(), strict=True):
        if not p.support[0] <= low < high <= p.support[1]:
            raise InputError(
                f"the card of {str(weights)!r} says a box of {p.name!r}, [{low:g}, {high:g}], that does not lie inside "
                f"{p.support}, where {simulator.name!r} is defined; restore the card or train again."
            )
    size = weights.stat().st_size
    if size < card.bytes:
        raise InputError(
            f"{str(weights)!r} is truncated: it has {size} bytes, its card says {card.bytes}; copy it again."
        )
    if size > _LARGEST:
        raise InputError(f"{str(weights)!r} has {size} bytes; a likelihood has at most {_LARGEST}.")
    content = weights.read_bytes()
    found = seal(card, content)
    if hashlib.sha256(content).hexdigest() == card.sha256:
        raise InputError(
            f"the card of {str(weights)!r} is of an older version, whose sha256 protects the weights alone: train "
            "again, or, where you trust the card, seal it: `from hddm_sbi.likelihoods.checkpoint import read_card, "
            "write_card; from pathlib import Path; p = Path(...); write_card(p, read_card(p))`."
        )
    if found != card.sha256:
        raise InputError(
            f"{str(weights)!r} or its card was changed after training: their sha256 is {found[:12]}…, the card says "
            f"{card.sha256[:12]}…; restore both files or train again."
        )
    return content


def _check_sizes(weights: int, state: dict[str, Tensor]) -> None:
    """Refuse a network of more weights than its file holds, before it is built; and weights that are no numbers."""
    held = sum(tensor.numel() for tensor in state.values())
    if weights > held:
        raise ValueError(f"it needs {weights} weights, and the file holds {held}")
    broken = [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise ValueError(f"the weights {broken[0]!r} are not finite")


def _mixture(card: Card, state: dict[str, Tensor], simulator: Simulator) -> MixtureLikelihood:
    architecture, reduction = Architecture(**card.architecture), Reduction(simulator)
    _check_sizes(architecture.weights_at_least(reduction.racing), state)
    network = MixtureNetwork(reduction, architecture)
    network.load_state_dict(state)
    of_all = {name: card.box[stem] for stem, members in simulator.stems.items() for name in members if stem in card.box}
    return MixtureLikelihood(simulator, network, {n: {**card.box, **of_all}[n] for n in simulator.names}, card)


def _factored(card: Card, state: dict[str, Tensor], simulator: Simulator) -> Factored:
    """A network built from the numbers on its card, with the weights of the file."""
    numbers = dict(card.architecture)
    encoding = Encoding.from_dict(simulator, numbers)
    shape = EstimatorShape(**numbers)
    _check_sizes(shape.weights_at_least(encoding), state)
    network = FactoredNetwork(encoding, shape, some_failed=bool(card.recipe["failed"]))
    network.load_state_dict(state)
    return factored_likelihood(network, encoding, card.box, card)
