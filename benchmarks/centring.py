"""How freely a population's sd moves with effects that are centred, not centred, and partly centred.

    python -m benchmarks.centring

Ten simulated subjects whose trials tell much or little of their drifts, `v ~ 1 + (1|subject)` with the closed form.
V is the variance of a subject's drift given its trials and the population. Some 25 CPU s.
"""

import time
import warnings

import arviz as az
import numpy as np
import pandas as pd

import hddm_sbi as hs

#: sd of drifts, trials of each subject, seed.
TABLES = ((0.25, 60, 3), (0.3, 40, 2), (0.3, 40, 1), (0.2, 60, 4), (0.1, 60, 4))
FORMS = {"centred": True, "not": False, "auto": "auto"}


def simulated(sd: float, n_trials: int, seed: int) -> pd.DataFrame:
    """Ten subjects; drifts of mean 1."""
    v = 1.0 + sd * np.random.default_rng(seed).normal(size=10)
    trials = hs.simulate("ddm", {"v": np.repeat(v, n_trials), "a": 1.0, "z": 0.5, "t0": 0.3}, seed=seed)
    return trials.assign(subject=np.repeat([*"abcdefghij"], n_trials))


def main() -> None:
    print(
        "effective draws of the sd of drifts, bulk and tail, of 4 000; divergences; CPU s with compilation where it is"
    )
    print("   sd trials  V / sd²  effects      bulk  tail  divergences  CPU s")
    for sd, n_trials, seed in TABLES:
        data = simulated(sd, n_trials, seed)
        for form, centered in FORMS.items():
            model = hs.HierarchicalModel("v ~ 1 + (1|subject)", data, likelihood="exact", centered=centered)
            found, (term,) = model.pilot.effects["subject"], model.hierarchy.groups
            if centered == "auto":
                form = (
                    "auto, partly" if term.own_trials is not None else "auto, centred" if term.centred else "auto, not"
                )
            began = time.process_time()
            posterior = model.fit(seed=1, progress=False)
            seconds = time.process_time() - began
            draws = posterior["posterior"]["v_1|subject_sigma"].to_numpy()
            bulk, tail = az.ess(draws), az.ess(draws, method="tail")
            diverged = int(posterior["sample_stats"]["diverging"].sum())
            ratio = float(np.median(found.covariance) / found.sds[0] ** 2)
            print(
                f"{sd:5.2f} {n_trials:6d} {ratio:8.2f}  {form:13s}{bulk:5.0f} {tail:5.0f} {diverged:12d} {seconds:6.1f}"
            )


if __name__ == "__main__":
    warnings.simplefilter("ignore", hs.ConvergenceWarning)
    main()
