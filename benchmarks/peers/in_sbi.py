"""sbi's MNLE for the drift-diffusion model, and our Pyro model with it as the likelihood, by `to_pyro_distribution`.

`python -m benchmarks.peers.in_sbi FILE` trains it: a mixture of normals of log rt, the fastest that sbi has.
"""

import sys
import warnings
from collections.abc import Callable

import numpy as np
import pyro
import torch
from safetensors.torch import load_file, save_file

import hddm_sbi as hs
from benchmarks.peers.task import cpu
from hddm_sbi.hierarchy.pyro_model import Hierarchy

SIMULATIONS, BATCH, EPOCHS = 50_000, 500, 15


def simulated() -> tuple[torch.Tensor, torch.Tensor]:
    """Parameters uniform in the box of our likelihood, and their trials."""
    ddm = hs.load_simulator("ddm")
    low, high = np.array(list(hs.load_likelihood("ddm").box.values())).T
    theta = low + (high - low) * np.random.default_rng(1).random((SIMULATIONS, len(low)))
    rt, choice = ddm.simulate(theta, 1)
    return torch.tensor(theta).float(), torch.tensor(np.stack([rt, choice], 1)).float()


def builder() -> Callable[..., torch.nn.Module]:
    with hs.validation_kept():
        from sbi.neural_nets import likelihood_nn
    return likelihood_nn("mnle", flow_model="mdn", log_transform_x=True)


def train(file: str) -> None:
    """Its weights, trained on those simulations, into a file."""
    with hs.validation_kept():
        from sbi.inference import MNLE
    warnings.simplefilter("ignore")
    torch.manual_seed(1)
    trainer = MNLE(density_estimator=builder(), tracker=hs.SilentTracker(), show_progress_bars=False)
    trainer.append_simulations(*simulated())
    estimator = trainer.train(training_batch_size=BATCH, max_num_epochs=EPOCHS)
    # Its parts share tensors, which safetensors keeps apart.
    save_file({name: value.detach().clone() for name, value in estimator.state_dict().items()}, file)


def observed_by(file: str, hierarchy: Hierarchy) -> Callable[[], None]:
    """The same Pyro model, its trials observed by the estimator in a file; it has no lapses."""
    with hs.validation_kept():
        from sbi.utils.pyroutils import to_pyro_distribution
    estimator = builder()(*simulated())
    estimator.load_state_dict(load_file(file))
    trials = hierarchy.trials
    x, cell = torch.as_tensor(trials.values).float(), torch.as_tensor(trials.cell)
    low, high = torch.tensor(list(hs.load_likelihood("ddm").box.values())).T

    def model() -> None:
        on_cells = hierarchy.sample({})
        # Far outside its simulations its network overflows, which sbi takes for an error.
        theta = hierarchy._stack(on_cells)[cell].float().clamp(low, high)
        with pyro.plate("trial", len(x)):
            pyro.sample("trials", to_pyro_distribution(estimator, theta), obs=x)

    return model


if __name__ == "__main__":
    train(sys.argv[1])
    print(f"sbi's MNLE: {SIMULATIONS} simulations, {EPOCHS} epochs, {cpu():.0f} CPU s, not counted below")
