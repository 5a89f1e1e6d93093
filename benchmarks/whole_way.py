"""Published tables the whole way: described, fitted, certified, predicted, compared, and the evidence of a rival.

`python -m benchmarks.whole_way FOLDER [NAME]`, the folder that has cavanagh.csv and rr98.csv; a name for one of them.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

import hddm_sbi as hs

#: quantities of comparisons that are shown.
SHOWN = ("v", "a", "t0", "probability[1]", "probability[light]", "rt_mean")


@dataclass(frozen=True)
class Study:
    """A table, the model of it, what is asked, and a model without what matters.

    by: columns of predictions. asked: comparisons. said: hypotheses. rival: formulas instead of those of the same
    parameters. options: of the model.
    """

    table: Callable[[Path], pd.DataFrame]
    formulas: Mapping[str, str | float]
    by: tuple[str, ...]
    asked: tuple[dict[str, tuple[Any, Any]], ...]
    said: tuple[str, ...]
    rival: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)

    def model(self, folder: Path, formulas: Mapping[str, str]) -> hs.HierarchicalModel:
        return hs.HierarchicalModel({**self.formulas, **formulas}, self.table(folder), **self.options)


def cavanagh(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "cavanagh.csv", dtype={"dbs": str})


def rr98(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "rr98.csv").query("not outlier").reset_index(drop=True)
    return table.assign(brightness=(table["strength"] - 16) / 16)


STUDIES = {
    "cavanagh": Study(
        cavanagh,
        {"v": "stim + (stim|subj_idx)", "a": "dbs + (1|subj_idx)", "t0": "1 + (1|subj_idx)", "z": 0.5},
        ("stim",),
        ({"stim": ("WL", "LL")}, {"dbs": ("1", "0")}),
        ("v_stim[WL] > 0", "v_stim[WW] = 0", "a_dbs[1] < 0"),
        {"a": "1 + (1|subj_idx)"},
        {"upper": 1},
    ),
    "rr98": Study(
        rr98,
        {"v": "brightness + (brightness|id)", "a": "instruction + (1|id)", "t0": "instruction + (1|id)"},
        ("instruction",),
        ({"instruction": ("speed", "accuracy")}, {"brightness": (0.25, -0.25)}),
        ("a_instruction[speed] < 0", "t0_instruction[speed] < 0", "z_Intercept = 0"),
        {"t0": "1 + (1|id)"},
        {"upper": "light"},
    ),
}


def fitted(model: hs.HierarchicalModel, name: str) -> Any:
    """A posterior at defaults, and what was said of it."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        posterior = model.fit(seed=1, progress=False)
    print(f"{name}: {posterior['posterior'].attrs['sampling_seconds']:.0f} s of sampling")
    for each in said:
        print(f"  warned: {each.message}")
    return posterior


def shown(table: pd.DataFrame, *columns: str) -> str:
    kept = table[table["quantity"].isin(SHOWN)].drop(columns="median")
    return kept.sort_values([*columns], kind="stable").round(3).to_string(index=False)


def run(name: str, study: Study, folder: Path) -> None:
    """Every step of one table."""
    model = study.model(folder, {})
    print(f"\n== {name}: {model!r}")
    print(model.describe().map)
    posterior = fitted(model, "the model")
    began = time.perf_counter()
    certificate = hs.certify(model, posterior)
    print(f"certificate in {time.perf_counter() - began:.1f} s: {certificate.verdict}")
    print(shown(hs.predictions(model, posterior, by=study.by, draws=100), "level", *study.by))
    for pair in study.asked:
        print(shown(hs.comparisons(model, posterior, pair, draws=100), "level", "contrast"))
    print(hs.hypothesis(model, posterior, list(study.said)).round(3).to_string(index=False))
    rival = study.model(folder, study.rival)
    fits = {"the model": posterior, "without": fitted(rival, f"without ({', '.join(study.rival.values())})")}
    print(hs.compare_models(fits, by="evidence", models={"the model": model, "without": rival}).round(3).to_string())


def main(folder: Path, *names: str) -> None:
    for name in names or STUDIES:
        run(name, STUDIES[name], folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
