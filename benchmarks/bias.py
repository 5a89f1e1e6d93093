"""Posterior bias of a learned likelihood, set by set and with its sign: what `hddm-sbi check` averages.

    python -m benchmarks.bias race4 [FILE.safetensors [N_SETS]]

The mode of the likelihood less that of the closed form or equation of its model, on the same trials, in posterior sds;
the sets and the number of trials are those of the card. Of `race4`, seven minutes of a busy core.
"""

import sys
from pathlib import Path

import pandas as pd
import torch

import hddm_sbi as hs
from benchmarks.published import SEED
from hddm_sbi.likelihoods import catalogue, checkpoint
from hddm_sbi.training.accuracy import estimated, inner_region, posterior_bias_at, uniform_thetas
from hddm_sbi.training.shipped import targets


def main(name: str, weights: str | None = None, n_sets: int = 16) -> None:
    simulator = hs.load_simulator(name)
    likelihood = hs.load_likelihood(name) if weights is None else checkpoint.load_likelihood(Path(weights), simulator)
    reference = catalogue.reference(simulator)
    if reference is None:
        raise SystemExit(f"{name} has neither a closed form nor an equation to hold a likelihood against.")
    sets = uniform_thetas(simulator, inner_region(likelihood), n_sets, SEED)
    n_trials = targets(simulator).trials_per_set
    bias = [posterior_bias_at(likelihood, reference, at, n_trials, SEED + 1000 + k) for k, at in enumerate(sets)]
    table = pd.DataFrame(bias, columns=estimated(simulator))
    at = pd.DataFrame(sets, columns=simulator.names)
    print(pd.concat({"theta": at, "bias": table}, axis=1).to_string(float_format="{:.2f}".format))
    print(f"\nmean |bias|\n{table.abs().mean().to_string(float_format='{:.3f}'.format)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:3], *map(int, sys.argv[3:4]))
