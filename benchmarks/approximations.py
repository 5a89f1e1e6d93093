"""Approximations: worst error of a population mean against NUTS, in posterior sds, 8 000 trials, exact likelihood.

40 subjects x 2 conditions x 100 trials of the demo's experiment, seed 1; NUTS is 4 chains x (500 + 1 000).
"""

import time
import warnings
from typing import Any

import numpy as np
import torch

import hddm_sbi as hs
from hddm_sbi.inference import inference_data

WAYS: dict[str, dict[str, Any]] = {
    "quick=True": {"quick": True},
    'method="svi"': {"method": "svi"},
    'method="laplace"': {"method": "laplace"},
}


def main() -> None:
    warnings.simplefilter("ignore")
    experiment = hs.simulate_experiment(n_subjects=40, n_trials=100, seed=1)
    model = hs.HierarchicalModel(experiment.formulas, experiment.trials, likelihood="exact")
    model.density  # noqa: B018 - compiled before the clock starts

    def means(**options: Any) -> tuple[dict[str, float], dict[str, float], float, float]:
        """Mean and sd of every population parameter, CPU seconds, least effective sample size."""
        began = time.process_time()
        posterior = model.fit(seed=1, progress=False, **options)
        seconds = time.process_time() - began
        draws = inference_data.dataset(posterior)[model.hierarchy.population_names]
        flat = {
            f"{name}{list(at) if at else ''}": draws[name].to_numpy().reshape(-1, *draws[name].shape[2:])[:, *at]
            for name in draws
            for at in np.ndindex(*draws[name].shape[2:])
        }
        _, ess = inference_data.worst_ess(draws)
        return {k: v.mean() for k, v in flat.items()}, {k: v.std() for k, v in flat.items()}, seconds, ess

    reference, sds, seconds, ess = means(draws=1_000, tune=500, chains=4)
    print(f"NUTS, 4 x (500 + 1 000): {seconds:.1f} CPU s, least effective sample size {ess:.0f}")
    for name, options in WAYS.items():
        mean, _, seconds, _ = means(**options)
        error = {k: abs(mean[k] - reference[k]) / sds[k] for k in reference}
        worst = {
            kind: max(
                (k for k in error if k.endswith("_sigma") == (kind == "sd between groups")), key=error.__getitem__
            )
            for kind in ("coefficient", "sd between groups")
        }
        found = ", ".join(f"{error[k]:.2f} in a {kind} ({k})" for kind, k in worst.items())
        print(f"{name}: off by {found}; {seconds:.1f} CPU s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
