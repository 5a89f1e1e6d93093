"""Simulation-based calibration of one model of every kind: the table of docs/validation.md.

`python -m benchmarks.validation [TABLES] [FOLDER]`: 100 tables of each model by default; the folder keeps them, so that
the same command goes on. `make validate` runs the same models, `tests/analysis/test_validation.py`.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numba as nb
import numpy as np
import pandas as pd
import pyro.distributions as dist
import xarray as xr

import hddm_sbi as hs

#: simulated tables of each model, and of how many subjects and trials each is.
TABLES, SUBJECTS, TRIALS = 100, 5, 30
#: draws and tuning steps of each of two chains.
SETTINGS = {"draws": 250, "tune": 300, "chains": 2, "seed": 1}
V, A, SIGMA = dist.Normal(1.0, 0.5), dist.Normal(0.0, 0.2), dist.HalfNormal(0.3)
GROUPED = "1 + (1|subject)"


def table(**columns: object) -> pd.DataFrame:
    """Subjects and conditions; its outcomes are never looked at."""
    n = SUBJECTS * TRIALS
    trials = pd.DataFrame({"rt": np.full(n, 0.8), "response": np.where(np.arange(n) % 4, 1, -1)})
    return trials.assign(subject=np.repeat(np.arange(SUBJECTS), TRIALS), trial=np.arange(n) % TRIALS, **columns)


def ddm() -> hs.HierarchicalModel:
    formulas = {"v": GROUPED, "a": GROUPED, "z": 0.5, "t0": "1"}
    priors = {"v_Intercept": V, "a_Intercept": A, "t0": dist.Uniform(0.2, 0.4), "sigma": SIGMA}
    return hs.HierarchicalModel(formulas, table(), priors=priors, lapse=0)


def angle() -> hs.HierarchicalModel:
    formulas = {"v": GROUPED, "a": GROUPED, "z": 0.5, "t0": 0.3, "theta": "1"}
    priors = {"v_Intercept": V, "a_Intercept": A, "sigma": SIGMA, "theta": dist.Uniform(0.1, 0.6)}
    return hs.HierarchicalModel(formulas, table(), simulator="angle", priors=priors, lapse=0)


def lba() -> hs.HierarchicalModel:
    formulas = {"v0": "1", "v1": GROUPED, "A": 0.5, "B": "1", "t0": 0.2}
    priors = {"v0_Intercept": V, "v1_Intercept": dist.Normal(2.0, 0.5), "sigma": SIGMA, "B": dist.Gamma(20.0, 25.0)}
    trials = table().assign(response=np.arange(SUBJECTS * TRIALS) % 2)
    return hs.HierarchicalModel(formulas, trials, simulator="lba", priors=priors, lapse=0)


def dmc() -> hs.HierarchicalModel:
    held = {"a": 0.45, "t0": 0.3, "tau": 0.1, "alpha": 2.8, "st0": 0.1}
    priors = {"v_Intercept": dist.Normal(4.5, 0.7), "sigma": SIGMA, "amp": dist.Uniform(0.05, 0.3)}
    trials = table(congruency=np.where(np.arange(SUBJECTS * TRIALS) % 2, 1, -1))
    return hs.HierarchicalModel({"v": GROUPED, "amp": "1", **held}, trials, simulator="dmc", priors=priors, lapse=0)


def omissions() -> hs.HierarchicalModel:
    """Limits differ between trials, so that some tenth of responses come too late."""
    trials = table(limit=np.where(np.arange(SUBJECTS * TRIALS) % 2, 1.0, 1.8))
    priors = {"v_Intercept": V, "a_Intercept": A, "sigma": SIGMA}
    formulas = {"v": GROUPED, "a": "1", "z": 0.5, "t0": 0.3}
    return hs.HierarchicalModel(formulas, trials, priors=priors, lapse=0, deadline="limit")


def learning() -> hs.HierarchicalModel:
    """The model's own choices are paid, and teach it."""
    rng, n = np.random.default_rng(2), SUBJECTS * TRIALS
    trials = table(lower=rng.random(n) < 0.3, upper=rng.random(n) < 0.7)
    trials["feedback"] = np.where(trials["response"] == 1, trials["upper"], trials["lower"]).astype(float)
    rule = hs.delta_rule("feedback", "response", "subject", paid=("lower", "upper"))
    priors = {"v_dq": dist.Normal(2.0, 1.0), "a_Intercept": A, "sigma": SIGMA, "alpha": dist.Beta(2.0, 4.0)}
    formulas = {"v": "0 + dq", "a": GROUPED, "z": 0.5, "t0": 0.3, "alpha": "1"}
    return hs.HierarchicalModel(formulas, trials, likelihood="exact", priors=priors, lapse=0, sequences={"dq": rule})


@hs.declare(
    parameters={"v": (-3, 3), "a": (0.5, 2), "k": (0, 3), "t0": (0.1, 0.6)},
    outcomes={"rt": "positive", "response": (-1, 1)},
    symmetries=hs.Symmetries(shift="t0", scale="a", scale_powers={"v": 1, "k": 2}),
)
@nb.njit
def decaying(v, a, k, t0, rng):  # type: ignore[no-untyped-def]  # as people write it
    """dx = v exp(-k t) dt + dW, from 0 until |x| reaches a."""
    dt = 0.002
    edge = a - 0.5826 * math.sqrt(dt)  # steps overshoot the bound by as much (Siegmund 1985)
    x, t = 0.0, 0.0
    while abs(x) < edge:
        x += v * math.exp(-k * t) * dt + math.sqrt(dt) * rng.standard_normal()
        t += dt
    return t0 + t, 1 if x > 0 else -1


def own_simulator() -> hs.HierarchicalModel:
    likelihood = hs.train_likelihood(decaying, n_simulations=300_000, seed=1, progress=False)
    priors = {"v_Intercept": V, "a_Intercept": A, "sigma": SIGMA, "k": dist.Uniform(0.2, 2.5)}
    formulas = {"v": GROUPED, "a": "1", "k": "1", "t0": 0.3}
    return hs.HierarchicalModel(formulas, table(), simulator=decaying, likelihood=likelihood, priors=priors, lapse=0)


MODELS: dict[str, Callable[[], hs.HierarchicalModel]] = {
    "ddm": ddm,
    "angle": angle,
    "lba": lba,
    "dmc": dmc,
    "omissions": omissions,
    "learning": learning,
    "own simulator": own_simulator,
}


def calibrated(name: str, n_tables: int, folder: Path | None = None) -> xr.Dataset:
    """Ranks of one of the models."""
    with warnings.catch_warnings():
        # A table in which hardly anything differs may have few effective draws.
        warnings.simplefilter("ignore")
        kept = None if folder is None else folder / name.replace(" ", "-")
        return hs.run_sbc(MODELS[name](), n_tables, folder=kept, progress=False, **SETTINGS)


def row(name: str, tables: xr.Dataset) -> str:
    """A line of the table: how far coefficients are off, in posterior sds, and how wide posteriors are."""
    summary = hs.report.sbc_summary(tables)
    off = summary["shift"].abs().max(), summary["spread"].min(), summary["spread"].max()
    verdict = hs.report.sbc_verdict(tables).partition(":")[0]
    p = min(1.0, float(summary["p_value"].min()) * len(summary))
    spread = f"{off[1]:.2f} to {off[2]:.2f}"
    cells = (name, tables.sizes["table"], len(summary), f"{off[0]:.2f}", spread, f"{p:.2g}", verdict)
    return f"| {' | '.join(map(str, cells))} |"


def main(n_tables: int, folder: Path | None) -> None:
    """The table of docs/validation.md."""
    print("| model | tables | quantities | largest shift | spread | p | verdict |")
    print("|---|---|---|---|---|---|---|")
    for name in MODELS:
        began = time.perf_counter()
        print(row(name, calibrated(name, n_tables, folder)), flush=True)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else TABLES, Path(given[1]) if len(given) > 1 else None)
