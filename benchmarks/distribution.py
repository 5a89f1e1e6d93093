"""What `likelihood.distribution` costs in a Pyro model, beside `pyro.factor` on the sums of the cells.

python -m benchmarks.distribution
"""

import time
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import torch

import hddm_sbi as hs

SUBJECTS, TRIALS, ROUNDS, CALLS = 40, 200, 15, 100


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def ratios(kind: str) -> list[float]:
    """Processor time of the log density and gradient, distribution to factor, in alternation."""
    rng, index = np.random.default_rng(1), np.repeat(np.arange(SUBJECTS), TRIALS)
    data = hs.simulate("ddm", {"v": rng.normal(1, 0.3, SUBJECTS)[index], "a": 1.0, "z": 0.5, "t0": 0.3}, seed=1)
    likelihood = hs.load_likelihood("ddm", kind=kind)
    observed = torch.tensor(data[["rt", "response"]].to_numpy(dtype=float))
    rows = np.stack([data["rt"], data["response"] == 1], axis=1).astype(float)
    trials = likelihood.group_by_cell(rows, index, SUBJECTS)

    def theta():
        with pyro.plate("subject", SUBJECTS):
            v = pyro.sample("v", dist.Normal(number(0.0), 2.0))
        return torch.stack([v, torch.ones_like(v), torch.full_like(v, 0.5), torch.full_like(v, 0.3)], -1)

    def by_distribution():
        at = theta()
        with pyro.plate("trial", len(observed)):
            pyro.sample("trials", likelihood.distribution(at, index=index, lapse=0.02), obs=observed)

    def by_factor():
        at = theta()
        with pyro.plate("cell", SUBJECTS):
            pyro.factor("trials", likelihood.log_prob_by_cell(trials, at, number(0.02)))

    start = {"v": torch.ones(SUBJECTS, dtype=torch.float64)}
    densities = [hs.flatten(model, start) for model in (by_distribution, by_factor)]
    x = densities[0].start + 0.01
    found = []
    for _ in range(ROUNDS):
        seconds = []
        for density in densities:
            began = time.process_time()
            for _ in range(CALLS):
                density(x)
            seconds.append(time.process_time() - began)
        found.append(seconds[0] / seconds[1])
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    for kind in ("exact", "neural"):
        found = ratios(kind)
        print(
            f"{kind}: distribution / factor {np.median(found):.2f} ({min(found):.2f} to {max(found):.2f}), "
            f"{SUBJECTS * TRIALS} trials in {SUBJECTS} cells, {ROUNDS} rounds"
        )


if __name__ == "__main__":
    main()
