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
