"""Posterior bias of a learned likelihood, set by set and with its sign: what `hddm-sbi check` averages.

    python -m benchmarks.bias race4 [FILE.safetensors] [--means] [--sets N]

The mode of the likelihood less that of the closed form or equation of its model, on the same trials, in posterior sds;
the sets and the number of trials are those of the card. Of `race4`, seven minutes of a busy core. `--means`: how far
the certificate of a fit of the same trials says that posterior means are off, under the default priors. Where a
posterior lies along a ridge its mode may move far and its mean little. Three minutes of a core for each set of `race4`.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import hddm_sbi as hs
from benchmarks.published import SEED
from hddm_sbi.likelihoods import catalogue, checkpoint
from hddm_sbi.training.accuracy import estimated, inner_region, posterior_bias_at, uniform_thetas
from hddm_sbi.training.shipped import targets


def shifts(likelihood, simulator, theta: np.ndarray, n_trials: int, seed: int) -> list[float]:
    """Shifts of posterior means in posterior sds, as the certificate of a fit of trials at theta (p,) says."""
    rt, choice = simulator.simulate(np.tile(theta, (n_trials, 1)), seed)
    table = pd.DataFrame({"rt": rt, "response": np.array(simulator.choices)[choice]})
    names = estimated(simulator)
    model = hs.HierarchicalModel([f"{name} ~ 1" for name in names], table, likelihood=likelihood, lapse=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        posterior = model.fit(draws=300, tune=300, chains=2, seed=seed, progress=False)
    found = hs.certify(model, posterior).shifts["shift"]
    return [found[f"{name}_Intercept"] for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("weights", nargs="?")
    parser.add_argument("--means", action="store_true")
    parser.add_argument("--sets", type=int, default=16)
    given = parser.parse_args()
    simulator = hs.load_simulator(given.name)
    if given.weights is None:
        likelihood = hs.load_likelihood(given.name)
    else:
        likelihood = checkpoint.load_likelihood(Path(given.weights), simulator)
    reference = catalogue.reference(simulator)
    if reference is None:
        raise SystemExit(f"{given.name} has neither a closed form nor an equation to hold a likelihood against.")
    sets = uniform_thetas(simulator, inner_region(likelihood), given.sets, SEED)
    n_trials, rows = targets(simulator).trials_per_set, []
    for k, at in enumerate(sets):
        seed = SEED + 1000 + k
        if given.means:
            rows.append(shifts(likelihood, simulator, at, n_trials, seed))
        else:
            rows.append(posterior_bias_at(likelihood, reference, at, n_trials, seed))
        print(k, np.round(rows[-1], 3).tolist(), flush=True)
    table = pd.DataFrame(rows, columns=estimated(simulator))
    at = pd.DataFrame(sets, columns=simulator.names)
    print(pd.concat({"theta": at, "bias": table}, axis=1).to_string(float_format="{:.2f}".format))
    print(f"\nmean |bias|\n{table.abs().mean().to_string(float_format='{:.3f}'.format)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
