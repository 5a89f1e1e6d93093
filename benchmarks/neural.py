"""Learned likelihood: the scores on its card recomputed, and milliseconds per gradient, 40 000 trials in 80 cells."""

import json
from dataclasses import asdict

import hddm_sbi as hs
from benchmarks.exact import seconds_per_gradient
from hddm_sbi.likelihoods import catalogue
from hddm_sbi.training.shipped import score, targets, verdicts


def main() -> None:
    scores = score(catalogue.weights_of("ddm"))
    print(json.dumps(asdict(scores), indent=1))
    for name, (value, limit, met) in verdicts(scores, targets(hs.load_simulator("ddm"))).items():
        print(f"{'pass' if met else 'FAIL'}  {name} = {value:.3g} (target: at most {limit:g})")
    neural, exact = hs.load_likelihood("ddm"), hs.load_likelihood("ddm", kind="exact")
    for likelihood in (neural, exact):
        print(f"{likelihood.kind}: {seconds_per_gradient(likelihood, 0.05) * 1e3:.1f} ms per gradient")


if __name__ == "__main__":
    main()
