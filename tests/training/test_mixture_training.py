"""Training: a recipe decides the weights, a stopped run goes on to the same ones, and the file is a likelihood."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from mutations import mutated

from hddm_sbi.errors import FitFileWarning, InputError
from hddm_sbi.likelihoods import catalogue
from hddm_sbi.likelihoods.card import read_card
from hddm_sbi.likelihoods.catalogue import load_likelihood, load_simulator
from hddm_sbi.likelihoods.exact import ExactLikelihood
from hddm_sbi.likelihoods.mixture import Architecture, Mixture, MixtureLikelihood, cross_entropy
from hddm_sbi.seeds import derive_seed
from hddm_sbi.training import accuracy, histograms, mixture, shipped
from hddm_sbi.training.fit_state import FitState
from hddm_sbi.training.histograms import simulate_histograms
from hddm_sbi.training.mixture import train_network
from hddm_sbi.training.proposal import design_widened, share_rows
from hddm_sbi.training.recipe import Machine, Recipe

DDM = load_simulator("ddm")
SMALL = Architecture(components=3, hidden=8, choice_hidden=8)
TINY = Recipe(n_thetas=60, n_trials=200, bins=12, steps=40, batch=16, shard=25, seed=7)
QUIET = Machine(progress=False)


def weights_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def run(folder, recipe=TINY, **options):
    return weights_of(train_network(DDM, recipe, folder, SMALL, dataclasses.replace(QUIET, **options)))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def stop_at(monkeypatch, module, name, call):
    """Interrupt, as Ctrl-C would, the call-th call of a function of a module."""
    original, calls = getattr(module, name), iter(range(call))

    def stopping(*arguments):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, name, stopping)


def test_same_recipe_same_weights_on_any_number_of_threads(tmp_path):
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        one = run(tmp_path / "one")
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(99)
        assert same(one, run(tmp_path / "two", n_threads=2))


def test_another_seed_gives_other_weights(tmp_path):
    one, other = run(tmp_path / "one"), run(tmp_path / "two", dataclasses.replace(TINY, seed=8))
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_run_stopped_while_simulating_goes_on(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, histograms, "simulated_shard", 2)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped")
    kept = sorted(path.name for path in (tmp_path / "stopped").glob("histograms-*.safetensors"))
    assert kept == ["histograms-0000.safetensors", "histograms-0001.safetensors"]
    with monkeypatch.context() as patch:
        stop_at(patch, histograms, "simulated_shard", 1)
        resumed = run(tmp_path / "stopped")
    assert same(resumed, run(tmp_path / "whole"))


@pytest.mark.parametrize("optimizer", ["soap", "adam"])
def test_run_stopped_while_fitting_goes_on_to_the_same_weights(tmp_path, monkeypatch, optimizer):
    # The state is written every 100 steps: the run stops at 210 and goes on from 200.
    monkeypatch.setattr(mixture, "_STATE_STEPS", 100)
    recipe = dataclasses.replace(TINY, steps=230, optimizer=optimizer)
    with monkeypatch.context() as patch:
        stop_at(patch, mixture, "_loss", 210)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", recipe)
    with monkeypatch.context() as patch:
        stop_at(patch, mixture, "_loss", 30)
        resumed = run(tmp_path / "stopped", recipe)
    assert same(resumed, run(tmp_path / "whole", recipe))


def test_a_damaged_state_is_moved_aside_and_a_full_disk_leaves_the_last_one(tmp_path, monkeypatch):
    """After 40 mutations: a warning, and a beginning from step 0."""
    recipe = dataclasses.replace(TINY, steps=3)
    run(tmp_path, recipe)
    (path,), rng = list(tmp_path.glob("state.safetensors")), np.random.default_rng(1)
    content = path.read_bytes()
    network, average = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    state = FitState(network, average, torch.optim.Adam(network.parameters()))
    for kind in range(40):
        path.write_bytes(mutated(content, kind, rng))
        with pytest.warns(FitFileWarning, match=r"moved to state\.safetensors\.damaged, and the fit begins again"):
            assert state.resume(path) == 0
        assert not path.exists()
    path.write_bytes(content)
    monkeypatch.setattr("pathlib.Path.rename", no_space)
    with pytest.raises(OSError, match="No space left"):
        state.save(path, 4)
    assert path.read_bytes() == content
    assert not list(tmp_path.glob("*.part"))


def no_space(*_):
    raise OSError(28, "No space left on device")


def test_another_optimizer_is_refused_before_anything_is_simulated():
    with pytest.raises(InputError, match="optimizer must be 'soap' or 'adam'; got 'sgd'"):
        dataclasses.replace(TINY, optimizer="sgd")


def test_finished_run_is_not_repeated(tmp_path, monkeypatch):
    first = run(tmp_path)
    stop_at(monkeypatch, mixture, "_loss", 0)
    stop_at(monkeypatch, histograms, "simulated_shard", 0)
    assert same(first, run(tmp_path))


@pytest.mark.parametrize("change", [{"seed": 8}, {"steps": 41}, {"n_trials": 100}])
def test_folder_of_another_recipe_is_refused(tmp_path, change):
    run(tmp_path)
    with pytest.raises(InputError, match="holds a run with another recipe"):
        run(tmp_path, dataclasses.replace(TINY, **change))


def test_design_covers_a_little_more_than_the_box():
    theta = design_widened(DDM.parameters, ("t0", None), 1_000, 3)
    assert theta.shape == (1_000, 4)
    np.testing.assert_array_equal(theta[:, 3], 0.0)
    for column, p in enumerate(DDM.parameters[:3]):
        assert p.support[0] < theta[:, column].min() < p.low < p.high < theta[:, column].max() < p.support[1]
    # A Sobol sequence: in every tenth of every range, 100 of 1 000 points to within a few, not to within 3 * sqrt(90).
    shares = [np.histogram(theta[:, column], 10)[0] for column in range(3)]
    assert np.abs(np.array(shares) - 100).max() <= 10


def test_histograms_are_those_of_the_simulated_trials(tmp_path):
    data = simulate_histograms(DDM, TINY, tmp_path, QUIET)
    assert {name: tuple(tensor.shape) for name, tensor in data.items()} == {
        "theta": (60, 2),
        "share": (60, 2, 12),
        "mean": (60, 2, 12),
    }
    theta = design_widened(DDM.parameters, ("t0", None), TINY.n_thetas, TINY.seed)
    np.testing.assert_allclose(data["theta"], np.stack([theta[:, 0] * theta[:, 1], theta[:, 2]], 1), rtol=1e-6)
    # Every shard, simulated again with a seed of its own and counted by numpy.
    for shard, first in enumerate(range(0, TINY.n_thetas, TINY.shard)):
        rows = np.repeat(theta[first : first + TINY.shard], TINY.n_trials, axis=0)
        rt, choice = DDM.simulate(rows, derive_seed(TINY.seed, shard, 0, bits=64))
        y = np.log(rt / rows[:, 1] ** 2).reshape(-1, TINY.n_trials)
        for i, (times, choices) in enumerate(zip(y, choice.reshape(y.shape), strict=True), start=first):
            for c in (0, 1):
                mine, share = times[choices == c], data["share"][i, c].numpy()
                counts = np.histogram(mine, TINY.bins)[0] if len(mine) > 1 else len(mine) * np.eye(TINY.bins)[0]
                np.testing.assert_array_equal(np.rint(share * TINY.n_trials), counts)
                total = float((share * data["mean"][i, c].numpy()).sum())
                assert total == pytest.approx(mine.sum() / TINY.n_trials, abs=1e-5)


def test_a_short_training_learns(tmp_path):
    # 5e5 simulations, 600 steps of a small network. For scale: sbi's MNLE on 1e5 simulations has a KL of 4e-2.
    recipe = Recipe(n_thetas=1_000, n_trials=500, bins=48, steps=600, batch=64, shard=500, seed=1)
    network = train_network(DDM, recipe, tmp_path, Architecture(hidden=32, choice_hidden=32), QUIET)
    result = accuracy.accuracy(MixtureLikelihood(DDM, network, DDM.box), ExactLikelihood(DDM), DDM.box, 10_000, 3)
    assert result.kl + 5 * result.kl_se < 2e-3


def test_training_ends_in_a_file_that_is_a_likelihood(tmp_path, monkeypatch):
    scores = dataclasses.replace(read_card(catalogue.weights_of("ddm")).scores, KL=0.5)
    monkeypatch.setattr(shipped, "score", lambda weights, simulator: scores)
    cards = []
    for name in ("one", "two"):
        path = tmp_path / "new" / f"{name}.safetensors"
        cards.append(shipped.train_likelihood_of("ddm", path, tmp_path / name, TINY, QUIET))
        assert load_likelihood(path).sha256 == cards[-1].sha256
    assert cards[0] == cards[1]
    assert cards[0].simulations == 60 * 200
    assert cards[0].recipe == dataclasses.asdict(TINY)
    assert read_card(path).scores == cards[0].scores == scores
    assert repr(load_likelihood(path)) == "MixtureLikelihood(ddm: v a z t0, 1e4 simulations, KL 5.0e-1)"


def test_a_shipped_likelihood_is_trained_again_as_its_card_says(monkeypatch):
    """`levy` has more components than the rule for new models gives it."""
    levy, card = load_simulator("levy"), read_card(catalogue.weights_of("levy"))
    recipe, architecture = shipped.plan(levy)
    assert (recipe, architecture.as_dict()) == (Recipe(**card.recipe), card.architecture)
    monkeypatch.setattr(catalogue, "weights_of", lambda _: None)
    assert shipped.plan(levy)[1] == mixture.architecture_for(levy) != architecture


@pytest.mark.slow
def test_training_on_1e8_simulations_reaches_the_accuracy_of_the_prototype(tmp_path):
    # Prototype, same simulations and steps: KL 6.9e-6. 20 000 thetas x 5 000 trials, 8 000 steps.
    recipe = Recipe(n_thetas=20_000, n_trials=5_000, bins=48, steps=8_000, batch=256)
    network = train_network(DDM, recipe, tmp_path, machine=QUIET)
    region = {**DDM.box, "v": (-3.0, 3.0)}
    result = accuracy.accuracy(MixtureLikelihood(DDM, network, DDM.box), ExactLikelihood(DDM), region, 100_000, 3)
    assert result.kl < 1e-5 + 5 * result.kl_se


def test_the_loss_by_the_kernel_is_that_by_torch():
    """Value and gradient of 7 mixtures of 5 components at 200 points each, which fill one block and a part of another;
    single precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        parts = [torch.randn(7, 5, requires_grad=True) for _ in Mixture._fields]
        z, share = 2.0 * torch.randn(7, 200), torch.rand(7, 200)
    by_torch = -(share * Mixture(*(part.unsqueeze(1) for part in parts)).log_prob(z)).sum()
    by_kernel = cross_entropy(Mixture(*parts), z, share)
    torch.testing.assert_close(by_kernel, by_torch)
    torch.testing.assert_close(torch.autograd.grad(3 * by_kernel, parts), torch.autograd.grad(3 * by_torch, parts))


def test_rows_that_share_all_but_some_columns():
    """Groups of four differ in z alone, whose values lie as in the design; the others are its first rows."""
    theta = design_widened(DDM.parameters, ("t0", None), 1_000, 3)
    shared = share_rows(theta, [name == "z" for name in DDM.names], 4)
    assert np.array_equal(shared[:, 2], theta[:, 2])
    assert np.array_equal(shared[::4, [0, 1, 3]], theta[:250, [0, 1, 3]])
    assert all(np.array_equal(shared[k::4, [0, 1, 3]], shared[::4, [0, 1, 3]]) for k in range(4))
