"""What it costs to look whether draws suffice: processor seconds of fits that end at the first look, and with `ess=`.

    python -m benchmarks.going_on [repeats]     # default 5
    PYTHONPATH=OTHER_CHECKOUT python benchmarks/going_on.py    # at an older revision, of which draws are the same

The first ratio is that of a default fit that passes after 1 000 draws to one with `draws=1000`, which is not looked at.
Other jobs on the machine disturb processor seconds less than seconds, so every figure is a median of fits in turn.
"""

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import hddm_sbi as hs

DATA = Path(__file__).parents[2] / "shared" / "data"
WAYS: dict[str, dict[str, Any]] = {"draws=1000": {"draws": 1_000}, "default": {}, "ess=1000": {"ess": 1_000}}


def demo() -> hs.HierarchicalModel:
    experiment = hs.simulate_experiment(seed=1)
    return hs.HierarchicalModel(experiment.formulas, experiment.trials)


def fast_edge() -> hs.HierarchicalModel:
    formulas = ["v ~ side", "a ~ condition", "t0 ~ 1"]
    table = pd.read_csv(DATA / "fast_edge.csv")
    return hs.HierarchicalModel(formulas, table, likelihood="exact", upper="right", response="choice")


MODELS: dict[str, Callable[[], hs.HierarchicalModel]] = {"fast_edge, closed form": fast_edge, "demo, learned": demo}


def main(repeats: int) -> None:
    warnings.simplefilter("ignore")
    for name, make in MODELS.items():
        model = make()
        model.fit(draws=10, tune=10, seed=1, progress=False)
        spent: dict[str, list[tuple[float, float, int]]] = {way: [] for way in WAYS}
        for seed in range(1, repeats + 1):
            for way, options in WAYS.items():
                processor, clock = time.process_time(), time.perf_counter()
                draws = model.fit(seed=seed, progress=False, **options)["posterior"].sizes["draw"]
                spent[way].append((time.process_time() - processor, time.perf_counter() - clock, draws))
        for way, rows in spent.items():
            ratios = np.divide(*(np.array([row[0] for row in spent[w]]) for w in (way, "draws=1000")))
            processor, clock, draws = np.median(rows, axis=0)
            print(
                f"{name:24s} {way:12s} {draws:5.0f} draws, {processor:6.2f} CPU s, {clock:6.2f} s, "
                f"{np.median(ratios):.3f} of draws=1000 ({ratios.min():.3f} to {ratios.max():.3f})",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
