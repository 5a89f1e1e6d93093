"""sbi trains, evaluates and samples the mixture network, and leaves nothing behind."""

from pathlib import Path

import numpy as np
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.bridge import estimator_builder, validation_kept

N = 20_000


# sbi and what it imports warn about their own future; nothing of ours.
@pytest.mark.filterwarnings("ignore::Warning")
def test_sbi_trains_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    before = torch.distributions.Distribution._validate_args
    with validation_kept():
        from sbi.inference import NLE
        from sbi.utils import BoxUniform
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401 - sbi's default tracker, which we replace
    assert torch.distributions.Distribution._validate_args == before
    simulator = hs.load_simulator("ddm")
    low, high = np.array(list(simulator.box.values())).T
    theta = low + (high - low) * np.random.default_rng(1).random((N, 4))
    rt, choice = simulator.simulate(theta, seed=1)
    x = np.stack([rt, np.array(simulator.choices)[choice]], 1)
    prior = BoxUniform(torch.tensor(low, dtype=torch.float32), torch.tensor(high, dtype=torch.float32))

    class Silent:
        log_dir = None

        def __getattr__(self, name: str):
            return lambda *args, **kwargs: None

    with torch.random.fork_rng():
        torch.manual_seed(1)
        trainer = NLE(prior, density_estimator=estimator_builder(simulator), show_progress_bars=False, tracker=Silent())
        trainer.append_simulations(torch.tensor(theta).float(), torch.tensor(x).float())
        estimator = trainer.train(training_batch_size=500, learning_rate=3e-3, max_num_epochs=8)
        exact = hs.load_likelihood("ddm", kind="exact").trial_log_prob(*map(torch.as_tensor, (rt, choice, theta)))
        learned = estimator.log_prob(torch.tensor(x).float().unsqueeze(0), torch.tensor(theta).float())[0]
        # An untrained network misses by more than 0.5; eight small epochs bring the mean error below 0.05.
        assert float((exact - learned.detach()).mean()) < 0.05
        draws = estimator.sample((4_000,), torch.tensor([[1.0, 1.0, 0.5, 0.3]]))
    assert draws.shape == (4_000, 1, 2)
    assert set(draws[..., 1].unique().tolist()) == {-1.0, 1.0}
    assert float(draws[..., 0].min()) > 0.3
    # P(upper) = 1 / (1 + exp(-2)) = 0.881 for v = a = 1, z = 0.5; 5 standard errors of 4 000 draws plus training error.
    assert abs(float((draws[..., 1] == 1).float().mean()) - 0.8808) < 5 * 0.0051 + 0.02
    assert not list(tmp_path.iterdir())


def test_estimator_matches_the_shipped_likelihood_with_its_weights():
    likelihood = hs.load_likelihood("ddm")
    with validation_kept():
        build = estimator_builder(likelihood.simulator)
    theta = torch.tensor([[1.0, 1.0, 0.5, 0.3], [-2.0, 0.7, 0.4, 0.2]], dtype=torch.float64)
    x = torch.tensor([[0.6, 1.0], [0.9, -1.0]], dtype=torch.float64)
    estimator = build(theta, x).double()
    estimator.net.load_state_dict(likelihood.network.state_dict())
    ours = likelihood.trial_log_prob(x[:, 0], torch.tensor([1, 0]), theta)
    torch.testing.assert_close(estimator.log_prob(x, theta)[0], ours, rtol=0, atol=1e-12)


# sbi and what it imports warn about their own future; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")


@pytest.fixture(scope="module", params=["mdn", "maf", "nsf", "zuko_nsf", "mixture network"])
def estimator(request):
    """Untrained: what is computed once per condition must be what sbi computes per trial, whatever the weights."""
    with torch.random.fork_rng(), validation_kept():
        torch.manual_seed(2)
        if request.param == "mixture network":
            theta = torch.rand(50, 4) * 0.5 + torch.tensor([0.5, 0.8, 0.3, 0.1])
            x = torch.stack([torch.rand(50) + 0.7, torch.tensor([-1.0, 1.0]).repeat(25)], -1)
            return estimator_builder(hs.load_simulator("ddm"))(theta, x), theta[:6], x
        from sbi.neural_nets import likelihood_nn

        theta, x = torch.randn(200, 2), torch.randn(200, 1)
        return likelihood_nn(request.param)(theta, x), theta[:6], x[:50]


def test_log_prob_is_that_of_the_estimator(estimator):
    trained, theta, x = estimator
    index = np.arange(len(x)) % len(theta)
    outcome = x if x.shape[-1] > 1 else x[:, 0]
    expected = trained.log_prob(x.unsqueeze(0), theta[index])[0]
    at = theta.clone().requires_grad_()
    by_index = hs.SBIToPyro(trained, at, index=index)
    by_row = hs.SBIToPyro(trained, theta[index])
    assert by_index.batch_shape == by_row.batch_shape == (len(x),)
    for found in (by_index.log_prob(outcome), by_row.log_prob(outcome)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    direct = theta.clone().requires_grad_()
    (found,) = torch.autograd.grad(by_index.log_prob(outcome).sum(), at)
    (wanted,) = torch.autograd.grad(trained.log_prob(x.unsqueeze(0), direct[index])[0].sum(), direct)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_shapes_expand_and_sample(estimator):
    trained, theta, x = estimator
    one = hs.SBIToPyro(trained, theta[0])
    assert one.batch_shape == ()
    assert one.event_shape == (() if x.shape[-1] == 1 else x.shape[-1:])
    many = one.expand((7,))
    assert many.batch_shape == (7,)
    draws = many.sample((3,))
    assert draws.shape == (3, 7, *one.event_shape)
    assert many.log_prob(draws).shape == (3, 7)


def test_refusals_say_what_is_expected(estimator):
    trained, theta, _ = estimator
    with pytest.raises(hs.InputError, match=f"must have {theta.shape[-1]} parameters"):
        hs.SBIToPyro(trained, theta[:, :1])
    with pytest.raises(hs.InputError, match="index must hold integers from 0 to 5"):
        hs.SBIToPyro(trained, theta, index=[0, 6])
    with pytest.raises(hs.InputError, match="NLE, MNLE or NRE"):
        hs.SBIToPyro(torch.nn.Linear(2, 2), theta)

    class DirectPosterior:
        potential_fn = None

    with pytest.raises(hs.InputError, match="not a likelihood"):
        hs.SBIToPyro(DirectPosterior(), theta)
    with pytest.raises(NotImplementedError, match="not enumerated"):
        hs.SBIToPyro(trained, theta).enumerate_support()
