"""Hierarchical fit of the demo: milliseconds per gradient, and centring of group effects by trials per group."""

import warnings

import numpy as np

import hddm_sbi as hs
from benchmarks.timing import best_seconds
from hddm_sbi.inference import inference_data

TRIALS_PER_SUBJECT = (25, 100, 400, 1_600)
#: slopes that do not differ between subjects, levels that do.
WITH_SLOPES = ["v ~ condition + (condition||subject)", "a ~ 1 + (1|subject)", "t0 ~ 1 + (1|subject)"]
CENTRED = {"chosen per term": "auto", "all non-centred": False, "all centred": True}


def main() -> None:
    warnings.simplefilter("ignore")
    experiment = hs.simulate_experiment()
    model = hs.HierarchicalModel(experiment.formulas, experiment.trials)
    x = model.density.start + 0.05
    eager = hs.flatten(model.hierarchy, model.start, path="eager")
    compiled, pyro = (best_seconds(lambda f=f: f(x)) * 1e3 for f in (model.density, eager))
    print(f"12 subjects x 2 conditions x 100 trials, neural: {compiled:.2f} ms per gradient")
    print(f"the same potential in eager Pyro: {pyro / compiled:.1f} times as long")
    print("minimum effective sample size, exact likelihood, 2 chains x (400 + 400), seed 1:")
    for n_trials in TRIALS_PER_SUBJECT:
        data = hs.simulate_experiment(n_subjects=20, n_trials=n_trials // 2, seed=1).trials
        for name, centred in CENTRED.items():
            model = hs.HierarchicalModel(WITH_SLOPES, data, likelihood="exact", centered=centred)
            posterior = model.fit(draws=400, tune=400, chains=2, seed=1, progress=False)
            _, ess = inference_data.worst_ess(inference_data.dataset(posterior))
            stats = posterior["sample_stats"]
            diverging, gradients = (int(np.sum(stats[name].to_numpy())) for name in ("diverging", "n_steps"))
            rate = ess / posterior["posterior"].attrs["sampling_seconds"]
            print(
                f"  {n_trials:4d} trials per subject, {name:16s}: {1e3 * ess / gradients:5.1f} per 1 000 gradients, "
                f"{rate:6.1f} per second ({diverging} divergences)"
            )


if __name__ == "__main__":
    main()
