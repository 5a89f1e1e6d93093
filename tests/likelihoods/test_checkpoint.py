"""Weights come back as they were saved, and whatever was done to a file is refused with a reason."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods import checkpoint
from hddm_sbi.likelihoods.catalogue import PRETRAINED, load_likelihood, load_simulator, weights_of
from hddm_sbi.likelihoods.mixture import Architecture, MixtureNetwork, Reduction
from hddm_sbi.likelihoods.scores import HeldOutScores

DDM = load_simulator("ddm")


@pytest.fixture
def weights(tmp_path):
    """A copy of the pretrained weights and their card, to spoil."""
    for suffix in (".safetensors", ".json"):
        shutil.copy(PRETRAINED / f"ddm{suffix}", tmp_path / f"mine{suffix}")
    return tmp_path / "mine.safetensors"


def edit(weights, **changes):
    """Change entries of the card."""
    path = checkpoint.card_path(weights)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def reseal(weights):
    """Make the card vouch for itself and for whatever the weights file now holds."""
    checkpoint.write_card(weights, checkpoint.read_card(weights))


def refusal(weights):
    with pytest.raises(InputError) as caught:
        load_likelihood(weights)
    return str(caught.value)


def small_network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return MixtureNetwork(Reduction(DDM), Architecture(components=3, hidden=8, choice_hidden=8))


def card_of(network, **changes):
    card = checkpoint.Card(
        model="ddm",
        network="mixture",
        parameters=DDM.names,
        box=DDM.box,
        architecture=network.architecture.as_dict(),
        simulations=20_000,
        recipe={"seed": 2},
        versions={"torch": torch.__version__},
        created="2026-01-31",
    )
    return dataclasses.replace(card, **changes)


def test_what_is_saved_comes_back(tmp_path):
    network, path = small_network(), tmp_path / "small.safetensors"
    box = {**DDM.box, "v": (-2.0, 2.0)}
    saved = checkpoint.save_weights(network, card_of(network, box=box), path)
    loaded = load_likelihood(path)
    assert checkpoint.read_card(path) == saved
    assert loaded.box == box
    assert loaded.sha256 == saved.sha256 == checkpoint.seal(saved, path.read_bytes())
    assert saved.bytes == path.stat().st_size
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor.double()), name


def test_same_weights_same_bytes_on_disk(tmp_path):
    network = small_network()
    for name in ("one", "two"):
        checkpoint.save_weights(network, card_of(network), tmp_path / f"{name}.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_a_full_disk_leaves_the_likelihood_that_was_there(tmp_path, monkeypatch):
    """Weights and card are replaced together or not at all."""
    path, likelihood = tmp_path / "mine.safetensors", load_likelihood("ddm")
    likelihood.save(path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    write, written = Path.write_bytes, []

    def full(self, content):
        write(self, content[:100])
        written.append(self)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        return len(content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        load_likelihood("lnr").save(path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_copy_of_the_pretrained_weights_is_the_pretrained_likelihood(weights):
    rt, response = [0.6, 0.8], [1, -1]
    theta = {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}
    assert torch.equal(
        load_likelihood(weights).log_prob(rt, response, theta), load_likelihood("ddm").log_prob(rt, response, theta)
    )
    assert torch.equal(
        load_likelihood(str(weights)).log_prob(rt, response, theta),
        load_likelihood("ddm").log_prob(rt, response, theta),
    )


def test_folder_called_like_a_model_is_not_taken_for_its_weights(tmp_path, monkeypatch):
    (tmp_path / "ddm").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_likelihood("ddm").sha256 == checkpoint.read_card(weights_of("ddm")).sha256


def test_truncated_file(weights):
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    assert f"is truncated: it has {len(content) - 100} bytes, its card says {len(content)}; copy it" in refusal(weights)
    weights.write_bytes(b"")
    assert "is truncated: it has 0 bytes" in refusal(weights)


@pytest.mark.parametrize("position", [0, 300, -1])
def test_edited_byte(weights, position):
    content = bytearray(weights.read_bytes())
    content[position] ^= 1
    weights.write_bytes(bytes(content))
    said = refusal(weights)
    assert "or its card was changed after training: their sha256 is" in said
    assert "restore both files or train again" in said


def test_longer_file(weights):
    weights.write_bytes(weights.read_bytes() + b"\0")
    assert "was changed after training" in refusal(weights)


def test_card_of_another_model(weights):
    edit(weights, model="abl")
    assert "there is no model called 'abl'" in refusal(weights)
    with pytest.raises(InputError, match=r"is a likelihood of 'abl' \(v a z t0\); expected 'ddm' \(v a z t0\)"):
        checkpoint.load_likelihood(weights, DDM)


def test_card_with_other_parameters(weights):
    names = ["a", "v", "z", "t0"]
    edit(weights, parameters=names, box={name: DDM.box[name] for name in names})
    assert "is a likelihood of 'ddm' (a v z t0); expected 'ddm' (v a z t0)" in refusal(weights)


def test_card_of_another_network(weights, tmp_path):
    network = small_network()
    checkpoint.save_weights(network, card_of(network), tmp_path / "small.safetensors")
    shutil.copy(tmp_path / "small.json", checkpoint.card_path(weights))
    edit(weights, bytes=weights.stat().st_size)
    assert "was changed after training" in refusal(weights)
    reseal(weights)
    assert "does not hold the network its card describes" in refusal(weights)


def test_missing_file_and_missing_card(weights, tmp_path):
    assert "there is no likelihood file" in refusal(tmp_path / "nothing.safetensors")
    checkpoint.card_path(weights).unlink()
    said = refusal(weights)
    assert "has no card; expected 'mine.json' beside it" in said


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", "{}", '{"model": "ddm"}', '"ddm"', b"\xff\xfe\x00", '{"parameters": 1}'],
)
def test_broken_card(weights, text):
    checkpoint.card_path(weights).write_bytes(text if isinstance(text, bytes) else text.encode())
    said = refusal(weights)
    assert "mine.json' cannot be read" in said
    assert "restore it or train again" in said


@pytest.mark.parametrize(
    "changes",
    [
        {"box": {"v": [-5.0]}},
        {"box": [1, 2]},
        {"unexpected": 1},
        {"network": "flow"},
        {"network": "sbi"},
        {"bytes": "many"},
        {"sha256": None},
        {"model": None},
        {"model": ["ddm"]},
        {"box": {}},
        {"architecture": {"components": "many"}},
        {"architecture": {"components": -1}},
        {"architecture": {"flavour": 1}},
        {"architecture": None},
        {"scores": {}},
        {"scores": []},
        {"scores": {"KL": 1e-6}},
        {"scores": {"kind": ["reference"]}},
        {"simulations": "many"},
    ],
)
def test_card_whose_entries_make_no_sense(weights, changes):
    edit(weights, **changes)
    refusal(weights)


@pytest.mark.parametrize("model", ["ddm", "ddm_exp", "levy", "own", "none"])
def test_scores_of_every_kind_come_back(tmp_path, model):
    own = HeldOutScores(
        log_score=-1.2,
        information=0.3,
        p_value=0.5,
        where="rt",
        distance=0.01,
        mass=None,
        ranked=2_000,
        safe_outcomes=560,
        passed=True,
        verdict="Good",
    )
    scores = own if model == "own" else checkpoint.read_card(weights_of(model)).scores if model != "none" else None
    network, path = small_network(), tmp_path / "small.safetensors"
    saved = checkpoint.save_weights(network, card_of(network, scores=scores), path)
    assert saved.scores == scores
    assert checkpoint.read_card(path) == saved


@pytest.mark.parametrize(
    ("changes", "mention"),
    [
        ({"kind": "guessed"}, r"'kind' of the scores must be one of \('reference', .*\); got 'guessed'"),
        ({"kind": "held out"}, r"HeldOutScores: missing entries: \['distance', .*unknown entries: \['KL', "),
        ({"elegance": 1.0}, r"missing entries: \[\], unknown entries: \['elegance'\]"),
        ({"KL": "small"}, "'KL' must be float; got 'small'"),
        ({"tails": 0.1}, r"'tails' must be dict\[str, float\]; got 0.1"),
    ],
)
def test_scores_that_make_no_sense_are_named(weights, changes, mention):
    card = json.loads(checkpoint.card_path(weights).read_text())
    edit(weights, scores=card["scores"] | changes)
    with pytest.raises(InputError, match=rf"cannot be read \(.*{mention}.*\); restore it or train again"):
        load_likelihood(weights)


@pytest.mark.parametrize("limits", [[-0.1, 2.5], [0.3, float("inf")], [2.5, 0.3], [0.3, 0.3], [float("nan"), 2.5]])
def test_a_box_outside_the_support_of_the_model_is_refused(weights, limits):
    """Of `z`, which is defined on [0, 1]."""
    edit(weights, box={**{name: list(ends) for name, ends in DDM.box.items()}, "z": limits})
    said = refusal(weights)
    assert "box of 'z'" in said or "the numbers of 'box' must be finite" in said


class Malicious:
    """Unpickling this would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("vouched", [False, True], ids=["old card", "card made to match"])
@pytest.mark.parametrize("writer", [lambda thing, file: pickle.dump(thing, file), torch.save], ids=["pickle", "torch"])
def test_renamed_pickle_is_refused_and_never_run(weights, tmp_path, vouched, writer):
    with weights.open("wb") as file:
        writer(Malicious(tmp_path / "owned"), file)
    if vouched:
        reseal(weights)
    refusal(weights)
    assert not (tmp_path / "owned").exists()


def numbers_of(value, path=()):
    """Where the numbers of a card are, with those of its scores."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers_of(part, (*path, key))
    elif isinstance(value, int | float):
        yield path


def test_every_number_on_a_card_is_sealed(weights):
    """A tenth more, or one more: another likelihood, another verdict, or another origin. None loads."""
    path = checkpoint.card_path(weights)
    original = path.read_text()
    places = list(numbers_of(json.loads(original)))
    assert len(places) > 50
    for place in places:
        raw = json.loads(original)
        inner = raw
        for key in place[:-1]:
            inner = inner[key]
        old = inner[place[-1]]
        inner[place[-1]] = old + 1 if isinstance(old, int) else 1.1 * old + 1e-12
        path.write_text(json.dumps(raw))
        refusal(weights)
    path.write_text(original)
    load_likelihood(weights)


def test_a_card_sealed_by_an_older_version_says_so(weights):
    edit(weights, sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
    assert "of an older version, whose sha256 protects the weights alone" in refusal(weights)
    reseal(weights)
    load_likelihood(weights)


@pytest.mark.parametrize("name", ["components", "hidden", "depth", "choice_hidden", "choice_depth"])
@pytest.mark.parametrize("size", [10**9, 10**12, 10**400, 0, -1, 2.5, True, None])
def test_sizes_that_the_file_cannot_hold_are_refused_before_they_are_built(weights, name, size):
    card = json.loads(checkpoint.card_path(weights).read_text())
    edit(weights, architecture=card["architecture"] | {name: size})
    with contextlib.suppress(InputError):
        reseal(weights)
    refusal(weights)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"box": [Infinity]}',
        '{"box": NaN}',
        '{"simulations": 1' + "0" * 5000 + "}",
        '{"simulations": 1e999}',
    ],
    ids=["brackets", "objects", "infinity", "nan", "digits", "exponent"],
)
def test_cards_of_absurd_shape(weights, text):
    checkpoint.card_path(weights).write_text(text)
    said = refusal(weights)
    assert "cannot be read" in said
    assert len(said) < 1000


@pytest.mark.parametrize("nested", [[[[[[[[[[[1]]]]]]]]]], {"a": [float("inf")]}, {"a": float("nan")}, 1e31])
def test_absurd_values_in_a_card(weights, nested):
    card = json.loads(checkpoint.card_path(weights).read_text())
    for entry in ("architecture", "recipe", "declaration", "box"):
        checkpoint.card_path(weights).write_text(json.dumps(card | {entry: {"x": nested}}))
        refusal(weights)


@pytest.mark.parametrize("which", ["weights", "card"])
def test_a_sparse_file_of_many_gigabytes_is_not_read(weights, which):
    size = 40 * 2**30
    path = weights if which == "weights" else checkpoint.card_path(weights)
    if which == "weights":
        edit(weights, bytes=size)
    with path.open("r+b") as file:
        file.truncate(size)
    assert "bytes" in refusal(weights)


def test_weights_that_are_no_numbers(tmp_path):
    network, path = small_network(), tmp_path / "small.safetensors"
    network.density[0].weight.data[0, 0] = float("nan")
    checkpoint.save_weights(network, card_of(network), path)
    assert "are not finite" in refusal(path)
