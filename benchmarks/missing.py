"""Missing responses and times: whether parameters come back, and what leaving trials out would have done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import hddm_sbi as hs

#: a long experiment of one person, whose omissions are a seventh of the trials.
THETA, N, SEEDS = {"v": 0.8, "a": 1.2, "z": 0.5, "t0": 0.3}, 4_000, 5
OMITTED = 0.15


def table(seed: int) -> tuple[pd.DataFrame, float]:
    """Trials, and the deadline that cuts off so many of them."""
    trials = hs.simulate("ddm", THETA, N, seed=seed)
    return trials, float(trials["rt"].quantile(1 - OMITTED))


def emptied(trials: pd.DataFrame, rows: Any) -> pd.DataFrame:
    """The table with rt and response missing in some rows."""
    return trials.assign(rt=trials["rt"].mask(rows), response=trials["response"].mask(rows))


def cases(seed: int) -> dict[str, tuple[pd.DataFrame, dict[str, Any]]]:
    """Tables of one experiment by how it was seen, and what the model is told."""
    trials, deadline = table(seed)
    late = trials["rt"] > deadline
    between = trials["rt"].between(0.4, deadline)
    untimed = trials.assign(rt=trials["rt"].mask(np.arange(N) % 3 == 0))
    return {
        "all trials": (trials, {}),
        "omissions": (emptied(trials, late), {"deadline": deadline}),
        "omissions left out": (trials[~late], {}),
        "go/no-go": (emptied(trials, late | (trials["response"] == -1)), {"deadline": deadline, "withheld": -1}),
        "go/no-go without a deadline": (emptied(trials, trials["response"] == -1), {"withheld": -1}),
        "truncated": (trials[between], {"truncated": (0.4, deadline)}),
        "truncated, not said": (trials[between], {}),
        "censored": (trials, {"censored": (0.5, deadline)}),
        "a third without a time": (untimed, {}),
        "a third without a response": (trials.assign(response=trials["response"].mask(np.arange(N) % 3 == 0)), {}),
    }


def recovery(likelihood: str, seed: int) -> pd.DataFrame:
    """Posterior means and sds of every case, and how many sds they are off."""
    rows = []
    for name, (trials, said) in cases(seed).items():
        # Responses of one kind hardly tell a bias from a threshold (decision 054).
        bias = "z = 0.5" if "withheld" in said else "z ~ 1"
        model = hs.HierarchicalModel(["v ~ 1", bias], trials, likelihood=likelihood, lapse=0.0, **said)
        draws = model.theta(model.fit(seed=seed, progress=False))[:, 0]
        mean, sd = draws.mean(0), draws.std(0)
        off = (mean - np.array([THETA[p] for p in model.simulator.names]))[sd > 0] / sd[sd > 0]
        told = dict(zip(model.simulator.names, mean, strict=True))
        rows.append({"seed": seed, "table": name, **told, "largest error in sds": np.abs(off).max(), "off": off})
    return pd.DataFrame(rows)


def main() -> None:
    for likelihood in ("exact", "neural"):
        found = pd.concat([recovery(likelihood, seed) for seed in range(1, SEEDS + 1)])
        by = found.groupby("table", sort=False)
        shown = by[list(THETA)].mean()
        shown["rms error in sds"] = [np.sqrt(np.mean(np.square(np.stack([*off])))) for _, off in by["off"]]
        shown["largest"] = by["largest error in sds"].max()
        print(f"{likelihood}, {N} trials, {OMITTED:.0%} after the deadline, mean of {SEEDS} seeds; true {THETA}")
        print(shown.round(3).to_string(), "\n")


if __name__ == "__main__":
    main()
