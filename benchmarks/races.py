"""A hierarchy of ballistic accumulators, 19 subjects x 830 trials under three instructions, from table to posterior."""

import sys
import time
import warnings

import numpy as np
import pandas as pd

import hddm_sbi as hs
from benchmarks.convergence import worst

SUBJECTS, TRIALS = 19, 830
SIDES, INSTRUCTIONS = np.array(["left", "right"]), np.array(["accuracy", "neutral", "speed"])
#: drifts of the accumulators that match and do not, and distances to the threshold by instruction (log scale).
DRIFTS, GAPS = (3.0, 1.0), np.log([0.9, 0.8, 0.5])
FORMULAS = [
    "v ~ match + (match|subject)",
    "B ~ E + (E|subject)",
    "A ~ 1 + (1|subject)",
    "t0 ~ 1 + (1|subject)",
]


def table(seed: int = 1) -> pd.DataFrame:
    """Trials of people who differ in drift (sd .4), gain (.4), thresholds (.2 on the log scale) and onset (.15)."""
    rng, subject = np.random.default_rng(seed), np.repeat(np.arange(SUBJECTS), TRIALS)
    n = len(subject)
    stimulus, instruction = SIDES[rng.integers(2, size=n)], rng.integers(3, size=n)
    low, gain, onset = (sd * rng.normal(size=SUBJECTS) for sd in (0.4, 0.4, 0.15))
    gap = GAPS + 0.2 * rng.normal(size=(SUBJECTS, 1)) + 0.1 * rng.normal(size=(SUBJECTS, 3))
    wrong, right = DRIFTS[1] + low[subject], DRIFTS[0] + low[subject] + gain[subject]
    theta = {f"v{i}": np.where(stimulus == side, right, wrong) for i, side in enumerate(SIDES)}
    theta |= {"A": 0.5, "B": np.exp(gap[subject, instruction]), "t0": 0.2 * np.exp(onset[subject])}
    trials = hs.simulate("lba", theta, seed=seed)
    return trials.assign(subject=subject, E=INSTRUCTIONS[instruction], S=stimulus, key=SIDES[trials["response"]])


def main(gap: str = FORMULAS[1]) -> None:
    """gap: the formula of the distance to the threshold."""
    warnings.simplefilter("ignore")
    trials = table()
    began = time.perf_counter()
    model = hs.HierarchicalModel(
        [gap, *(f for f in FORMULAS if f[0] != "B")],
        trials,
        simulator="lba",
        likelihood="exact",
        stimulus="S",
        response="key",
        choices=list(SIDES),
    )
    posterior = model.fit(seed=1, progress=sys.stderr.isatty())
    seconds = time.perf_counter() - began
    found, stats = worst(posterior, model.pyro_model.population_names), posterior["sample_stats"]
    print(
        f"lba, {SUBJECTS} x {TRIALS} trials, {gap}: {seconds:.0f} s from table to posterior, worst Rhat "
        f"{found['all']:.3f}, {found['ess']:.0f} effective draws of the population, "
        f"{int(stats['diverging'].sum())} divergences, {float(stats['n_steps'].mean()):.0f} gradients a draw"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
