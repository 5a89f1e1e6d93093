"""Training on a GPU: the same loss as on the CPU; refused, with a remedy, where there is none."""

import pytest
import torch
from click.testing import CliRunner
from factory import cookies

import hddm_sbi as hs
from hddm_sbi.cli import main
from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.catalogue import load_simulator, names
from hddm_sbi.likelihoods.mixture import Architecture, MixtureNetwork, Reduction
from hddm_sbi.training.histograms import simulate_histograms
from hddm_sbi.training.mixture import _loss, fit_network, new_network
from hddm_sbi.training.recipe import Machine, Recipe

DDM = load_simulator("ddm")
RECIPE = Recipe(n_thetas=400, n_trials=200, bins=16, steps=200, batch=64, shard=400, seed=7)
THERE = torch.cuda.is_available()

needs_gpu = pytest.mark.skipif(not THERE, reason="torch finds no GPU on this machine")
needs_none = pytest.mark.skipif(THERE, reason="this machine has a GPU, and training on it is not refused")


@pytest.mark.gpu
@needs_gpu
def test_same_loss_on_a_gpu(tmp_path):
    """The same weights at the start and the same batches, so 200 steps apart only by rounding in single precision."""
    data = simulate_histograms(DDM, RECIPE, tmp_path, Machine(progress=False))
    losses = {}
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        network = new_network(DDM, RECIPE, Architecture())
        network = fit_network(network, RECIPE, data, tmp_path / device, Machine(device=device, progress=False))
        assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}
        losses[device] = float(_loss(network, data).detach())
    assert losses["cuda"] == pytest.approx(losses["cpu"], abs=2e-3)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("simulator", [DDM, cookies], ids=["mixture network", "factored network"])
@pytest.mark.filterwarnings("ignore::hddm_sbi.errors.TrainingWarning")
def test_train_likelihood_on_a_gpu(simulator):
    likelihood = hs.train_likelihood(simulator, n_simulations=20_000, seed=1, device="cuda", progress=False)
    assert likelihood.card.scores.passed


@pytest.mark.parametrize("name", names())
def test_a_step_of_the_fit_keeps_to_one_device(name):
    """On torch's device without memory, which refuses operands from the CPU as a GPU does."""
    network = MixtureNetwork(Reduction(load_simulator(name)), Architecture(hidden=8)).to("meta")
    n_choices = 1 if network.reduction.racing else network.reduction.n_choices
    batch = {
        "theta": torch.zeros(5, len(network.reduction.names), device="meta"),
        "share": torch.zeros(5, n_choices, 7, device="meta"),
        "mean": torch.zeros(5, n_choices, 7, device="meta"),
    }
    loss = _loss(network, batch)
    loss.backward()
    assert {loss.device.type, *(parameter.grad.device.type for parameter in network.parameters())} == {"meta"}


def test_operands_from_the_cpu_are_refused():
    with pytest.raises(RuntimeError, match="not on the expected device meta"):
        torch.zeros(3, device="meta") + torch.zeros(3)


@needs_none
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_refused_without_a_gpu(device):
    with pytest.raises(InputError, match=f"device='{device}' needs a GPU, .* finds none: train on 'cpu', or install"):
        Machine(device=device)
    with pytest.raises(InputError, match="needs a GPU"):
        hs.train_likelihood(DDM, n_simulations=5_000, device=device, progress=False)


@pytest.mark.parametrize("device", ["gpu", "meta", "mps"])
def test_other_devices_are_refused(device):
    with pytest.raises(InputError, match=f"device must be 'cpu', 'cuda', .* got '{device}'"):
        Machine(device=device)


@needs_none
def test_command_line_refuses_before_it_simulates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["train", "ddm", "--quick", "--device", "cuda"])
    assert result.exit_code == 2
    assert "train on 'cpu'" in result.stderr
    assert not list(tmp_path.rglob("*.safetensors"))
