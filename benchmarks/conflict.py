"""Models of conflict tasks: errors and their times at published parameters, and recovery in a hierarchy."""

import time

import numpy as np
import pandas as pd

import hddm_sbi as hs
from benchmarks.convergence import worst

N = 400_000
#: Ulrich et al. (2015), flanker task, in our units; the mean and sd of the non-decision time are .325 and .028 s.
MEAN, SD = 0.325, 0.028
PUBLISHED = {"v": 4.69, "a": 0.441, "amp": 0.153, "tau": 0.099, "shape": 2.26, "alpha": 2.84}
OBSERVED = {"congruent": (0.024, 370), "incongruent": (0.088, 366)}
CODES = {"congruent": 1.0, "neutral": 0.0, "incongruent": -1.0}
#: of the recovery: subjects, trials of each, half of them incongruent, and sds between subjects on the link scale.
SUBJECTS, TRIALS = 16, 336
SPREAD = {"v": 0.6, "p": 0.6, "a": 0.12, "t0": 0.1}
TYPICAL = {
    "dmc": {"v": 4.7, "a": 0.45, "t0": 0.28, "amp": 0.15, "tau": 0.1, "alpha": 2.8, "st0": 0.1},
    "ssp": {"p": 4.0, "a": 0.55, "t0": 0.28, "ti": 0.1, "sz": 0.2, "st0": 0.1},
}


def published() -> pd.DataFrame:
    """Errors, and mean times in ms, of `dmc` at Ulrich et al.'s parameters beside what was observed."""
    width = SD * np.sqrt(12.0)
    rows = []
    for name, code in CODES.items():
        theta = PUBLISHED | {"t0": MEAN - width / 2, "st0": width, "congruency": code}
        trials = hs.simulate("dmc", theta, N, seed=1)
        error = trials["response"] == -1
        times = [1000 * trials["rt"][rows].mean() for rows in (error, ~error)]
        rows.append((name, error.mean(), *times, *OBSERVED.get(name, (np.nan, np.nan))))
    columns = ["trials", "errors", "error rt", "correct rt", "errors observed", "error rt observed"]
    return pd.DataFrame(rows, columns=columns).round(3)


def recovery(name: str, seed: int = 1) -> tuple[pd.DataFrame, str]:
    """True population values of a simulated hierarchy beside their posterior, and how the fit went."""
    rng, subject = np.random.default_rng(seed), np.repeat(np.arange(SUBJECTS), TRIALS)
    theta = dict(TYPICAL[name]) | {"congruency": np.tile([1.0, -1.0], SUBJECTS * TRIALS // 2)}
    formulas, truth = [], {}
    for parameter, value in TYPICAL[name].items():
        truth[parameter] = value
        formulas.append(f"{parameter} ~ 1" + (" + (1|subject)" if parameter in SPREAD else ""))
        if parameter in SPREAD:
            moved = SPREAD[parameter] * rng.normal(size=SUBJECTS)
            theta[parameter] = (value + moved if parameter in "vp" else value * np.exp(moved))[subject]
    trials = hs.simulate(name, theta, seed=seed).assign(subject=subject, congruency=theta["congruency"])
    began = time.perf_counter()
    model = hs.HierarchicalModel(formulas, trials, simulator=name)
    posterior = model.fit(seed=seed, progress=False)
    seconds = time.perf_counter() - began
    draws = {p: posterior["posterior"][f"{p}_Intercept"].to_numpy().ravel() for p in truth}
    natural = {p: x if p in "vp" else 1 / (1 + np.exp(-x)) if p == "sz" else np.exp(x) for p, x in draws.items()}
    rows = [(p, truth[p], x.mean(), *np.quantile(x, [0.05, 0.95])) for p, x in natural.items()]
    table = pd.DataFrame(rows, columns=["parameter", "true", "mean", "5 %", "95 %"]).round(3)
    found = worst(posterior, model.pyro_model.population_names)
    diverging = int(posterior["sample_stats"]["diverging"].sum())
    return table, (
        f"{name}, {SUBJECTS} x {TRIALS} trials: {seconds:.0f} s, worst Rhat {found['all']:.3f}, "
        f"{found['ess']:.0f} effective draws of the population, {diverging} divergences"
    )


def main() -> None:
    print(published().to_string(index=False))
    for name in TYPICAL:
        table, how = recovery(name)
        print(f"\n{how}\n{table.to_string(index=False)}")


if __name__ == "__main__":
    main()
