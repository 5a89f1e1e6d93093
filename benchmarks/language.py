"""Published tables in the language of models: interactions of HDDM's tutorial, parameters by instruction with a tag.

`python -m benchmarks.language FOLDER`, the folder that has cavanagh.csv and rr98.csv; half an hour on two cores.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

import hddm_sbi as hs


def models(folder: Path) -> Iterator[tuple[str, hs.HierarchicalModel]]:
    """Every table with the model that its literature asks for."""
    cavanagh = pd.read_csv(folder / "cavanagh.csv", dtype={"dbs": str})
    conflict = ["v ~ 0 + stim + (1|subj_idx)", "a ~ theta*conf*dbs + (1|subj_idx)", "t0 ~ 1 + (1|subj_idx)", "z = 0.5"]
    for likelihood in ("exact", "neural"):
        name = f"cavanagh, theta by conflict by stimulation, {likelihood}"
        yield name, hs.HierarchicalModel(conflict, cavanagh, likelihood=likelihood, upper=1.0)
    rr98 = pd.read_csv(folder / "rr98.csv")
    rr98 = rr98[rr98["outlier"] == 0]
    instructed = [
        "v ~ scale(strength) + (scale(strength)|id)",
        "a ~ 0 + instruction + (0 + instruction|p|id)",
        "t0 ~ 0 + instruction + (0 + instruction|p|id)",
    ]
    yield (
        "rr98, thresholds by instruction, a tag",
        hs.HierarchicalModel(instructed, rr98, likelihood="exact", upper="light"),
    )


def main(folder: Path) -> None:
    """Fit each at defaults, and print its population and what the sampler says."""
    for name, model in models(folder):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            posterior = model.fit(seed=1, progress=False)
        summary = hs.report.summary(model, posterior)
        kept = summary[~summary.index.str.contains("_corr")].iloc[:, [0, 1, 2, 3, 6, 7, 8]]
        print(f"{name}: {posterior['posterior'].attrs['sampling_seconds']:.0f} s of sampling")
        print(kept.round(3).to_string())
        for each in said:
            print(f"  warned: {each.message}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
