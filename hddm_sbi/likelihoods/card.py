"""A checkpoint's passport: what made it and how good it is, as JSON beside the weights; both are written here."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from inspect import formatannotation
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from safetensors.torch import save
from torch import nn

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.scores import KINDS, Scores, trained_on

Network = Literal["mixture", "factored"]
#: bytes of a card; those of this package have three thousand, and a thousand parameters would need a million.
_LARGEST = 4_000_000
#: how deep the entries of a card are nested.
_DEPTH = 8
_LARGEST_NUMBER = 1e30
#: characters of another library's message in ours.
_SAID = 300
_Kind = TypeVar("_Kind", bound="Card | Scores")


@dataclass(frozen=True)
class Card:
    """A checkpoint's passport.

    Attributes
    ----------
    model
        Name of the model.
    network
        What the weights are of: the mixture network of a decision model, or an estimator of sbi.
    parameters
        Names of its parameters, in the order of the columns of theta.
    box
        (low, high) of each parameter, where the network was trained.
    architecture
        Sizes of the network, as plain numbers.
    simulations
        Number of simulations that it was trained on; 0 where the model's equation was solved instead.
    recipe
        What decides the weights, seed included.
    versions
        Library -> the version of it that trained the network.
    created
        The day of the training, such as "2026-11-28".
    sha256
        Seal of the weights and of all else on this card.
    bytes
        Size of the weights file, in bytes.
    scores
        How good the likelihood is; None before it is scored.
    scored_by
        The command that prints the scores; "" where there is none.
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
    scores: Scores | None = None
    scored_by: str = ""
    declaration: Mapping[str, Any] = field(default_factory=dict)
    validation: tuple[float, ...] = ()
    discretisation: str = ""

    def headline(self) -> dict[str, float]:
        """What fits in a table of models."""
        return {"simulations": self.simulations, **(self.scores.headline() if self.scores else {})}

    def summary(self) -> str:
        """Simulations and the first of the scores in a few words."""
        if self.scores:
            return self.scores.summary(self.simulations)
        return trained_on(self.simulations)


def card_path(weights: Path) -> Path:
    """The card of a weights file: the same name with `.json`."""
    return weights.with_suffix(".json")


def seal(card: Card, content: bytes) -> str:
    """Hash of the weights and of everything on the card but itself: all that decides a number, and its scores.

    It tells an accident or a careless edit, not a forgery: who edits a card can seal it again.
    """
    # As it comes back from a file, where a number that was 1 is 1.0.
    facts = _plain(_card(json.loads(json.dumps(_plain(replace(card, sha256="", bytes=len(content)))))))
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode() + b"\0" + content).hexdigest()


def write_card(weights: Path, card: Card) -> Card:
    """Write the card of a weights file, sealed; returns it."""
    complete = _sealed(card, weights.read_bytes())
    _replace({card_path(weights): _written(complete)})
    return complete


def save_weights(network: nn.Module, card: Card, weights: Path) -> Card:
    """Write weights and card; returns the card with its seal and the size of the file."""
    # One entry only: safetensors writes several in random order, and the same weights would not be the same bytes.
    identity = {"likelihood": f"{card.model}: {' '.join(card.parameters)}"}
    content = save({k: v.float().contiguous() for k, v in network.state_dict().items()}, identity)
    complete = _sealed(card, content)
    _replace({weights: content, card_path(weights): _written(complete)})
    return complete


def _sealed(card: Card, content: bytes) -> Card:
    return replace(card, sha256=seal(card, content), bytes=len(content))


def _written(card: Card) -> bytes:
    return (json.dumps(_plain(card), indent=1) + "\n").encode()


def _replace(files: dict[Path, bytes]) -> None:
    """Write files whole, and all or none of them. Raises OSError where there is no room."""
    asides = {path: path.with_name(f"{path.name}.{os.getpid()}.part") for path in files}
    try:
        for path, content in files.items():
            asides[path].write_bytes(content)
        for path, aside in asides.items():
            aside.replace(path)
    finally:
        for aside in asides.values():
            aside.unlink(missing_ok=True)


def read_card(weights: Path) -> Card:
    """The card of a weights file. Raises InputError where file or card is missing or the card cannot be read."""
    if not weights.is_file():
        raise InputError(
            f"there is no likelihood file {str(weights)!r}; expected a .safetensors file with a .json card."
        )
    path = card_path(weights)
    if not path.is_file():
        raise InputError(f"{str(weights)!r} has no card; expected {path.name!r} beside it (they are written together).")
    if path.stat().st_size > _LARGEST:
        raise InputError(f"the card {str(path)!r} has more than {_LARGEST} bytes, which no card has; restore it.")
    try:
        raw = json.loads(path.read_text())
        _check_values(raw)
        return _card(raw)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as reason:
        said = str(reason)[:_SAID]
        raise InputError(f"the card {str(path)!r} cannot be read ({said}); restore it or train again.") from reason


def _plain(card: Card) -> dict[str, Any]:
    """A card as JSON."""
    scores = {"kind": card.scores.kind, **asdict(card.scores)} if card.scores else None
    return {**asdict(card), "scores": scores}


def _card(raw: dict[str, Any]) -> Card:
    """A card from its JSON."""
    raw["parameters"] = tuple(raw["parameters"])
    raw["validation"] = tuple(float(loss) for loss in raw.get("validation", ()))
    raw["box"] = {name: (float(low), float(high)) for name, (low, high) in raw["box"].items()}
    raw["scores"] = _scores(raw.get("scores"))
    card = _built(Card, raw)
    if tuple(card.box) != card.parameters:
        raise ValueError(f"'box' must name {card.parameters} in that order; got {tuple(card.box)}")
    return card


def _check_values(raw: dict[str, Any]) -> None:
    """Refuse JSON that is nested deeper than a card, and numbers there that are not finite or absurdly large."""
    for entry in ("box", "architecture", "simulations", "recipe", "declaration"):
        left = [(raw[entry], _DEPTH)]
        while left:
            value, depth = left.pop()
            if isinstance(value, dict | list):
                if depth == 0:
                    raise ValueError(f"{entry!r} is nested more than {_DEPTH} deep")
                left += [(part, depth - 1) for part in (value.values() if isinstance(value, dict) else value)]
            elif isinstance(value, int | float) and not abs(value) <= _LARGEST_NUMBER:
                raise ValueError(f"the numbers of {entry!r} must be finite")


def _scores(raw: dict[str, Any] | None) -> Scores | None:
    """The scores of a card, of the kind that it names."""
    if raw is None:
        return None
    kind = raw.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"'kind' of the scores must be one of {tuple(KINDS)}; got {kind!r}")
    return _built(KINDS[kind], raw)


def _built(kind: type[_Kind], raw: dict[str, Any]) -> _Kind:
    """A card or its scores, with no entry unknown, missing or of another type."""
    names, types = {f.name for f in fields(kind)}, get_type_hints(kind)
    if set(raw) != names:
        missing, unknown = sorted(names - set(raw)), sorted(set(raw) - names)
        raise ValueError(f"{kind.__name__}: missing entries: {missing}, unknown entries: {unknown}")
    for name, value in raw.items():
        origin, options = get_origin(types[name]), get_args(types[name])
        allowed = options if origin is UnionType else origin or types[name]
        if not (value in options if origin is Literal else isinstance(value, allowed)):
            raise TypeError(f"{name!r} must be {formatannotation(types[name])}; got {value!r}")
    return kind(**raw)


def check_sizes(sizes: Mapping[str, object]) -> None:
    """Refuse sizes of a network that are not whole numbers from 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputError(f"{name} must be a whole number from 1; got {size!r}.")


def versions_of(*packages: str) -> dict[str, str]:
    """Installed versions by package."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "uninstalled checkout"
    return found
