"""Learned likelihoods: scores of `ddm` recomputed, ns per trial with gradient of 40 000 trials."""

import json
from dataclasses import asdict

import hddm_sbi as hs
from benchmarks.exact import seconds_per_gradient
from hddm_sbi.likelihoods import catalogue
from hddm_sbi.training.shipped import score, targets, verdicts

#: models whose likelihood is timed: plain, and under a uniform delay.
TIMED = ("ddm", "full_ddm")


def main() -> None:
    scores = score(catalogue.weights_of("ddm"), hs.load_simulator("ddm"))
    print(json.dumps(asdict(scores), indent=1))
    for name, (value, limit, met) in verdicts(scores, targets(hs.load_simulator("ddm"))).items():
        print(f"{'pass' if met else 'FAIL'}  {name} = {value:.3g} (target: at most {limit:g})")
    exact = seconds_per_gradient(hs.load_likelihood("ddm", kind="exact"), 0.05)
    print(f"closed form of ddm: {exact / 40_000 * 1e9:.1f} ns per trial with gradient")
    for n_cells in (80, 40_000):
        seconds = {x: seconds_per_gradient(hs.load_likelihood(x, kind="neural"), 0.05, n_cells) for x in TIMED}
        for name, each in seconds.items():
            times = f"{each / 40_000 * 1e9:.1f} ns per trial with gradient, {each / seconds['ddm']:.2f} times ddm"
            print(f"{name}, {n_cells} cells: {times}")


if __name__ == "__main__":
    main()
