"""Posterior bias of a learned likelihood to first order, set by set: minutes where `hddm-sbi check` takes an hour.

    python -m benchmarks.bias race4 [FILE.safetensors [N_SETS]]

With g and h the scores of the learned likelihood and of the closed form or equation of its model at the truth, summed
over the same 10 000 trials, and J their information, modes differ by J^-1 (g - h): what both owe to chance cancels. The
sets are those of the card, whose search for the modes stays in the box: of `race` it finds .099 where this says .136.
So compare weights by it.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import hddm_sbi as hs
from benchmarks.published import SEED, TRIALS_PER_SET, reference_of
from hddm_sbi import checkpoint
from hddm_sbi.calibration import box_precision, conditions, inner_region, trial_scores, uniform
from hddm_sbi.likelihood import DecisionLikelihood


def bias_at(likelihood: DecisionLikelihood, reference: DecisionLikelihood, theta: np.ndarray, seed: int) -> np.ndarray:
    """Posterior mode under the likelihood less that under the reference, in posterior sds, of all estimated."""
    simulator = reference.simulator
    estimated = [column for column, p in enumerate(simulator.parameters) if not p.given]
    cells = conditions(simulator, theta)
    rows = cells[np.arange(TRIALS_PER_SET) % len(cells)]
    rt, choice = simulator.simulate(rows, seed)
    learned, true = (trial_scores(each, rows, rt, choice)[:, estimated] for each in (likelihood, reference))
    prior = box_precision(likelihood, [simulator.names[column] for column in estimated])
    covariance = np.linalg.inv(true.T @ true + np.diag(prior))
    return covariance @ (learned - true).sum(0) / np.sqrt(np.diag(covariance))


def main(name: str, weights: str | None = None, n_sets: int = 16) -> None:
    simulator = hs.load_simulator(name)
    likelihood = hs.load_likelihood(name) if weights is None else checkpoint.load_likelihood(Path(weights), simulator)
    reference = reference_of(name)
    if reference is None:
        raise SystemExit(f"{name} has neither a closed form nor an equation to hold a likelihood against.")
    sets = uniform(simulator, inner_region(likelihood), n_sets, SEED)
    bias = [bias_at(likelihood, reference, theta, SEED + 1000 + k) for k, theta in enumerate(sets)]
    table = pd.DataFrame(bias, columns=[p.name for p in simulator.parameters if not p.given])
    at = pd.DataFrame(sets, columns=simulator.names)
    print(pd.concat({"theta": at, "bias": table}, axis=1).to_string(float_format="{:.2f}".format))
    print(f"\nmean |bias|\n{table.abs().mean().to_string(float_format='{:.3f}'.format)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:3], *map(int, sys.argv[3:4]))
