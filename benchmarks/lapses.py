"""What a law of lapses does to tables that have some: bias and coverage, by share and kind of lapses.

    python -m benchmarks.lapses --tables 60 --results lapses.jsonl     # goes on from the file
    python -m benchmarks.lapses --errors rr98 --data FOLDER          # error times, predicted and observed
    python -m benchmarks.lapses --evidence cavanagh --data FOLDER    # for which law published trials speak
    python -m benchmarks.lapses --people --data FOLDER      # one share for all, one of each person; decision 056

Each table is of one person, 2 x 500 trials. Within a seed all tables are the same but for their lapses.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro.distributions as dist
import torch

import hddm_sbi as hs
from benchmarks.convergence import DATA_SETS
from hddm_sbi.analysis.predictive import predicted_table

SHARES = (0.01, 0.05)
N_TRIALS = 1000
#: draws, tuning steps and chains of each fit.
SAMPLING = {"draws": 500, "tune": 500, "chains": 2}
CENTRAL = (0.05, 0.95)

#: the rt and the response of n lapses of a table whose non-decision time is t0.
Lapses = Callable[[np.random.Generator, int, float], tuple[np.ndarray, np.ndarray]]


def _response(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice([-1, 1], n)


KINDS: dict[str, Lapses] = {
    "early": lambda rng, n, t0: (rng.uniform(0.1, t0, n), _response(rng, n)),
    "late": lambda rng, n, t0: (rng.uniform(2.0, 5.0, n), _response(rng, n)),
    "uniform": lambda rng, n, t0: (rng.uniform(0.0, 5.0, n), _response(rng, n)),
    "one response": lambda rng, n, t0: (rng.uniform(0.1, 2.5, n), np.full(n, -1)),
}
CELLS = ((0.0, "none"), *((share, kind) for share in SHARES for kind in KINDS))

#: the probability of a lapse, or its prior, and whether lapses are uniform up to the longest rt or over 10 s.
LAWS: dict[str, tuple[Any, bool]] = {
    "0.05, 10 s": (0.05, False),
    "0.05, range": (0.05, True),
    "Beta(1, 49), 10 s": (dist.Beta(1.0, 49.0), False),
    "Beta(1, 49), range": (dist.Beta(1.0, 49.0), True),
    "Beta(2, 98), range": (dist.Beta(2.0, 98.0), True),
}


def lapse_options(law: str) -> dict[str, Any]:
    """Arguments of `HierarchicalModel` that make this law."""
    lapse, over_range = LAWS[law]
    return {"lapse": lapse, "lapse_seconds": "range" if over_range else 10.0}


def simulated(seed: int, share: float, kind: str) -> tuple[pd.DataFrame, dict[str, float]]:
    """A table with a share of lapses of one kind, and the true coefficients, on the scale of their links."""
    rng = np.random.default_rng(seed)
    hard, gain, a, z, t0 = rng.uniform([0.6, 1.0, 0.8, 0.4, 0.25], [1.4, 2.0, 1.3, 0.6, 0.35])
    easy = np.arange(N_TRIALS) % 2
    trials = hs.simulate("ddm", {"v": hard + gain * easy, "a": a, "z": z, "t0": t0}, seed=seed)
    lapse = np.flatnonzero(rng.permutation(N_TRIALS) < round(share * N_TRIALS))
    if len(lapse):
        trials.loc[lapse, "rt"], trials.loc[lapse, "response"] = KINDS[kind](rng, len(lapse), t0)
    true = {"v[easy]": hard + gain, "v[hard]": hard, "a": np.log(a), "z": np.log(z / (1 - z)), "t0": np.log(t0)}
    return trials.assign(condition=np.where(easy, "easy", "hard")), true


def fitted(trials: pd.DataFrame, law: str, seed: int) -> tuple[hs.HierarchicalModel, Any]:
    """The model and its posterior, by the closed form."""
    model = hs.HierarchicalModel("v ~ 0 + condition", trials, likelihood="exact", **lapse_options(law))
    return model, model.fit(seed=seed, progress=False, **SAMPLING)


def results(seed: int) -> Iterator[dict[str, Any]]:
    """A row for every share, kind and law: each coefficient's bias in posterior sds, and whether it is covered."""
    for share, kind in CELLS:
        trials, true = simulated(seed, share, kind)
        for law in LAWS:
            posterior = fitted(trials, law, seed)[1]["posterior"]
            drift = posterior["v_condition"].to_numpy().reshape(-1, 2)
            draws = {"v[easy]": drift[:, 0], "v[hard]": drift[:, 1]}
            draws |= {name: posterior[f"{name}_Intercept"].to_numpy().ravel() for name in ("a", "z", "t0")}
            row = {"seed": seed, "share": share, "kind": kind, "law": law}
            for name, x in draws.items():
                low, high = np.quantile(x, CENTRAL)
                row[f"bias {name}"] = float((x.mean() - true[name]) / x.std())
                row[f"covered {name}"] = bool(low <= true[name] <= high)
            yield row


def bias_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean bias in posterior sds, the root mean square of all, and the share of true values in the 90 % intervals."""
    bias = rows.filter(like="bias ").rename(columns=lambda name: name.removeprefix("bias "))
    covered = rows.filter(like="covered ").rename(columns=lambda name: name.removeprefix("covered "))
    by = [pd.Categorical(rows[name], list(dict.fromkeys(rows[name]))) for name in ("kind", "share", "law")]
    mean = bias.groupby(by, observed=True).mean()
    rms = (bias**2).mean(axis=1).groupby(by, observed=True).mean() ** 0.5
    inside = covered.astype(float).groupby(by, observed=True).mean().rename(columns=lambda name: f"in {name}")
    table = pd.concat([mean, rms.rename("rms"), inside, inside.mean(axis=1).rename("in all")], axis=1)
    return table.rename_axis(index=["kind", "share", "law"])


def easy_task(folder: Path) -> tuple[pd.DataFrame, list[str], dict[str, Any]]:
    """12 000 trials without lapses, of which 1.6 % are errors, trimmed at 1.5 s as lexical decisions are."""
    trials = hs.simulate("ddm", {"v": 3.0, "a": 0.68, "z": 0.5, "t0": 0.35}, 12_000, seed=1)
    return trials[trials["rt"] < 1.5].reset_index(drop=True), ["z = 0.5"], {}


def ratcliff_rouder(folder: Path) -> tuple[pd.DataFrame, list[str], dict[str, Any]]:
    """rr98, as it is fitted by `benchmarks.convergence`."""
    data_set = DATA_SETS["rr98"]
    return data_set.table(folder), list(data_set.formulas), data_set.options


TABLES = {"easy": easy_task, "rr98": ratcliff_rouder}


def told(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials with their condition, and whether the response is wrong; without those where that cannot be told."""
    if "brightness" not in trials:
        return trials.assign(condition="all", wrong=trials["response"] == -1)
    kept = trials[trials["brightness"] != "middle"]
    right = kept["brightness"].map({"darkest": "dark", "dark": "dark", "light": "light", "lightest": "light"})
    return kept.assign(condition=kept["instruction"] + ", " + kept["brightness"], wrong=kept["response"] != right)


def error_times(trials: pd.DataFrame) -> pd.DataFrame:
    """The share of errors, quantiles of their times and the mean time, by condition."""
    rows = {}
    for condition, part in told(trials).groupby("condition"):
        rt = part.loc[part["wrong"], "rt"]
        quantiles = {f"{q:.0%} s": rt.quantile(q) for q in (0.1, 0.5, 0.9)}
        rows[condition] = {"errors": part["wrong"].mean(), **quantiles, "mean s": rt.mean()}
    return pd.DataFrame.from_dict(rows, orient="index")


def errors(
    name: str, laws: list[str], trials: pd.DataFrame, formulas: list[str], options: dict[str, Any]
) -> pd.DataFrame:
    """Errors by condition in the data and as predicted with each law; then how far off the conditions are on average.

    far off: the mean over conditions of |predicted - observed|.
    """
    observed = error_times(trials)
    tables = {"data": observed}
    for law in laws:
        model = hs.HierarchicalModel(formulas, trials, likelihood="exact", **lapse_options(law), **options)
        posterior = model.fit(seed=1, progress=False, draws=200, tune=400, chains=2)
        predicted = error_times(predicted_table(model, posterior, n_draws=20))
        tables[law] = predicted
        tables[f"far off: {law}"] = (predicted - observed).abs().mean().to_frame("mean").T
        found = posterior["posterior"]
        share = f"{float(found['lapse'].mean()):.4f}" if "lapse" in found else str(model.lapse)
        print(f"{name}, {law}: lapses {share} over {model.lapse_seconds:.2f} s")
    return pd.concat(tables, names=[name, "condition"])


def evidence(name: str, laws: list[str], folder: Path) -> pd.DataFrame:
    """Log evidence of the data set with each law, and what is then known of the share."""
    data_set, rows = DATA_SETS[name], {}
    for law in laws:
        options = {"likelihood": "exact", **data_set.options, **lapse_options(law)}
        model = hs.HierarchicalModel(list(data_set.formulas), data_set.table(folder), **options)
        posterior = model.fit(seed=1, progress=False)
        found = hs.evidence(model, posterior)
        share = model.lapse_share(posterior)
        rows[law] = {
            "log evidence": found.log_evidence,
            "error": found.error,
            "share": share.mean(),
            "sd": share.mean(axis=1).std(),
            "seconds": model.lapse_seconds,
        }
    return pd.concat({name: pd.DataFrame.from_dict(rows, orient="index")})


#: what is said of the lapses of people: one share for all, one of each person, and of each person at exponential times.
OF_PEOPLE: dict[str, tuple[list[str], dict[str, Any]]] = {
    "one share": ([], {"lapse": "estimated", "lapse_seconds": "range"}),
    "by person": (["lapse ~ 1 + (1|subj_idx)"], {"lapse_seconds": "range"}),
    "by person, exponential": (["lapse ~ 1 + (1|subj_idx)"], {"lapse_mean": 1.5}),
}


def people(folder: Path) -> pd.DataFrame:
    """How well cavanagh is explained, and how well its fit converges, by what is said of lapses."""
    data_set, rows = DATA_SETS["cavanagh"], {}
    for name, (formulas, law) in OF_PEOPLE.items():
        options = {"likelihood": "exact", **data_set.options, **law}
        model = hs.HierarchicalModel([*data_set.formulas, *formulas], data_set.table(folder), **options)
        posterior = model.fit(seed=1, progress=False)
        pointwise = model.with_log_likelihood(posterior)["log_likelihood"]["rt_response"]
        convergence = hs.report.summary(model, posterior)
        least = convergence[["ess_bulk", "ess_tail"]].min().min()
        share = model.lapse_share(posterior).mean(0)
        rows[name] = {
            "log likelihood": float(pointwise.sum("trial").mean()),
            "least share": share.min(),
            "largest share": share.max(),
            "least effective draws": least,
            "worst Rhat": convergence["r_hat"].max(),
            "divergences": int(posterior["sample_stats"]["diverging"].sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=60)
    parser.add_argument("--results", type=Path, default=Path("lapses.jsonl"))
    parser.add_argument("--people", action="store_true")
    parser.add_argument("--evidence", nargs="+", choices=DATA_SETS, help="of these data sets")
    parser.add_argument("--errors", nargs="*", choices=TABLES, help="of these tables; of all where none is named")
    parser.add_argument("--laws", nargs="*", choices=LAWS, default=["0.05, 10 s", "Beta(1, 49), range"])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if given.evidence:
        for name in given.evidence:
            print(evidence(name, given.laws, given.data).to_string(float_format="{:.4f}".format), flush=True)
        return
    if given.people:
        print(people(given.data).to_string(float_format="{:.3f}".format))
        return
    if given.errors is not None:
        for name in given.errors or TABLES:
            print(
                errors(name, given.laws, *TABLES[name](given.data)).to_string(float_format="{:.3f}".format), flush=True
            )
        return
    known = [json.loads(line) for line in given.results.read_text().splitlines()] if given.results.exists() else []
    for seed in range(1 + max((row["seed"] for row in known), default=0), given.tables + 1):
        known += (new := list(results(seed)))
        with given.results.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in new)
    n = known[-1]["seed"]
    print(f"{n} tables; standard errors: of a mean bias {n**-0.5:.2f}, of coverage {(0.09 / n) ** 0.5:.3f}")
    print(bias_table(pd.DataFrame(known)).to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
