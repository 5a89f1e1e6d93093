"""Do fits at default settings converge? Their share over published and simulated data sets, likelihoods and seeds.

    python -m benchmarks.convergence                              # every data set, 3 seeds each
    python -m benchmarks.convergence fast_edge cavanagh --seeds 10
    python -m benchmarks.convergence --data FOLDER                # of the published tables; default ../shared/data
    python -m benchmarks.convergence --looks           # fits of 3 000 draws, looked at on their way; decision 073
    python -m benchmarks.convergence --lapse 0.05 --lapse-seconds 10       # the former law of lapses; decision 047

For an older revision: `PYTHONPATH=OTHER_CHECKOUT python benchmarks/convergence.py`. It uses nothing but public names.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import torch

import hddm_sbi as hs

MAX_RHAT = 1.01
#: draws of each chain after which a default fit is looked at; it ends with the last.
LOOKS = (1_000, 1_500, 2_000, 2_500, 3_000)
EARLY = 0.01
BY_SUBJECT = ["a ~ 1 + (1|subj_idx)", "t0 ~ 1 + (1|subj_idx)", "z = 0.5"]


@dataclass(frozen=True)
class DataSet:
    """A table and what is fitted to it.

    table: from the folder of the published tables. likelihoods: those that the model has.
    """

    formulas: tuple[str, ...]
    table: Callable[[Path], pd.DataFrame]
    likelihoods: tuple[str, ...] = ("exact", "neural")
    options: dict[str, Any] = field(default_factory=dict)


def with_early_guesses(trials: pd.DataFrame, seed: int, before: float) -> pd.DataFrame:
    """One trial in a hundred is a guess, uniform in time from 0.1 s to `before`."""
    rng = np.random.default_rng(seed)
    guess = rng.permutation(len(trials)) < EARLY * len(trials)
    other = rng.permutation(trials["response"].to_numpy())
    return trials.assign(
        rt=np.where(guess, rng.uniform(0.1, before, len(trials)), trials["rt"]),
        response=np.where(guess, other, trials["response"]),
    )


def simulated(simulator: str, typical: dict[str, float], easier: tuple[str, float], seed: int = 1) -> pd.DataFrame:
    """10 subjects x 2 conditions x 100 trials with early guesses; the parameter `easier` and t0 differ by subject."""
    rng = np.random.default_rng(seed)
    subject, easy = np.repeat(np.arange(10), 200), np.tile(np.repeat([0, 1], 100), 10)
    theta: dict[str, Any] = dict(typical)
    theta[easier[0]] = theta[easier[0]] + easier[1] * easy + 0.3 * rng.normal(size=10)[subject]
    theta["t0"] = theta["t0"] * np.exp(0.15 * rng.normal(size=10))[subject]
    congruency = np.tile([1, -1], 1000)
    if simulator == "dmc":
        theta["congruency"] = congruency.astype(float)
    trials = with_early_guesses(hs.simulate(simulator, theta, seed=seed), seed, typical["t0"])
    easy_or_hard = np.where(easy == 1, "easy", "hard")
    return trials.assign(subject=subject.astype(str), condition=easy_or_hard, congruency=congruency)


def nineteen(folder: Path) -> pd.DataFrame:
    """The participant of fast_edge among 18 simulated ones, each with 3 conditions x 280 trials."""
    rng = np.random.default_rng(19)
    subject, condition = np.repeat(np.arange(18), 840), np.tile(np.repeat([0, 1, 2], 280), 18)
    v, a, t0 = 2.0 + 0.4 * rng.normal(size=18), np.exp(0.2 * rng.normal(size=18)), np.exp(0.15 * rng.normal(size=18))
    theta = {
        "v": v[subject] * np.tile([1.0, -1.0], 7560),
        "a": 0.7 * a[subject] * np.exp(np.array([-0.25, -0.05, 0.0]))[condition],
        "z": 0.5,
        "t0": 0.3 * t0[subject],
    }
    trials = hs.simulate("ddm", theta, seed=19)
    made = pd.DataFrame(
        {
            "subject": subject.astype(str),
            "condition": np.array(["fast", "normal", "careful"])[condition],
            "side": np.tile(["right", "left"], 7560),
            "choice": np.where(trials["response"] == 1, "right", "left"),
            "rt": trials["rt"],
        }
    )
    return pd.concat([made, pd.read_csv(folder / "fast_edge.csv")], ignore_index=True)


def rr98(folder: Path) -> pd.DataFrame:
    """Ratcliff & Rouder (1998), outliers kept; brightness in the five bins of rtdists."""
    trials = pd.read_csv(folder / "rr98.csv")
    labels = ["darkest", "dark", "middle", "light", "lightest"]
    bins = pd.cut(trials["strength"], [-0.5, 10.5, 13.5, 16.5, 19.5, 32.5], labels=labels)
    return trials.assign(brightness=bins.astype(str))[["id", "instruction", "brightness", "rt", "response"]]


def roitman(folder: Path) -> pd.DataFrame:
    """Roitman & Shadlen (2002), every trial kept."""
    trials = pd.read_csv(folder / "roitman.csv")
    return trials.assign(monkey="m" + trials["monkey"].astype(str))[["monkey", "coh", "rt", "correct"]]


#: a race of two accumulators, without and with thresholds that collapse, ballistic accumulators of ten people and of
#: one, and a conflict task.
RACE = {"v0": 2.0, "v1": 1.4, "a": 1.0, "z": 0.2, "t0": 0.3, "theta": 0.0}
LBA = {"v0": 3.0, "v1": 2.2, "A": 0.6, "B": 0.8, "t0": 0.25}
SMALL_LBA = {"v0": 3.0, "v1": 2.0, "A": 0.3, "B": 0.8, "t0": 0.25}
DMC = {"v": 2.0, "a": 0.8, "t0": 0.3, "amp": 0.15, "tau": 0.06, "alpha": 3.0, "st0": 0.1}

DATA_SETS = {
    "fast_edge": DataSet(
        ("v ~ side", "a ~ condition", "t0 ~ 1"),
        lambda folder: pd.read_csv(folder / "fast_edge.csv"),
        options={"upper": "right", "response": "choice"},
    ),
    "cavanagh": DataSet(
        ("v ~ 0 + stim + (1|subj_idx:stim)", *BY_SUBJECT),
        lambda folder: pd.read_csv(folder / "cavanagh.csv"),
        options={"upper": 1},
    ),
    "rr98": DataSet(
        ("v ~ 0 + id:brightness", "a ~ 0 + id:instruction", "t0 ~ 0 + id:instruction", "z ~ 0 + id"),
        rr98,
        options={"upper": "light"},
    ),
    "roitman": DataSet(
        ("v ~ 0 + monkey:coh", "a ~ 0 + monkey", "t0 ~ 0 + monkey", "z = 0.5"),
        roitman,
        options={"upper": 1, "response": "correct"},
    ),
    "rlddm": DataSet(
        ("v ~ 0 + cond + (1|subj_idx)", *BY_SUBJECT),
        lambda folder: pd.read_csv(folder / "rlddm.csv"),
        options={"upper": 1},
    ),
    "nineteen": DataSet(
        ("v ~ side + (side|subject)", "a ~ condition + (1|subject)", "t0 ~ 1 + (1|subject)", "z = 0.5"),
        nineteen,
        options={"upper": "right", "response": "choice"},
    ),
    "race": DataSet(
        ("v0 ~ condition + (1|subject)", "t0 ~ 1 + (1|subject)", "z = 0.2", "theta = 0"),
        lambda folder: simulated("race", RACE, ("v0", 0.8)),
        ("neural",),
        {"simulator": "race"},
    ),
    "collapsing_race": DataSet(
        ("v0 ~ condition + (1|subject)", "t0 ~ 1 + (1|subject)", "z = 0.2"),
        lambda folder: simulated("race", RACE | {"theta": 0.3}, ("v0", 0.8)),
        ("neural",),
        {"simulator": "race"},
    ),
    "lba": DataSet(
        ("v0 ~ condition + (1|subject)", "t0 ~ 1 + (1|subject)"),
        lambda folder: simulated("lba", LBA, ("v0", 1.0)),
        options={"simulator": "lba"},
    ),
    "lba_small": DataSet(
        ("v0 ~ 1",), lambda folder: hs.simulate("lba", SMALL_LBA, 200, seed=1), options={"simulator": "lba"}
    ),
    "dmc": DataSet(
        ("v ~ condition + (1|subject)", "t0 ~ 1 + (1|subject)"),
        lambda folder: simulated("dmc", DMC, ("v", 1.0)),
        ("neural",),
        {"simulator": "dmc"},
    ),
}


def worst(posterior: Any, population: list[str]) -> dict[str, float | str]:
    """Largest Rhat and smallest effective sample size, of the population and of everything."""
    content = posterior["posterior"]
    dataset = content if hasattr(content, "data_vars") and not hasattr(content, "to_dataset") else content.to_dataset()
    with np.errstate(invalid="ignore", divide="ignore"):
        rhat, bulk, tail = az.rhat(dataset), az.ess(dataset), az.ess(dataset, method="tail")
    largest = {str(name): float(np.nanmax(x.to_numpy())) for name, x in rhat.data_vars.items()}
    least = {
        name: float(min(np.nanmin(bulk[name].to_numpy()), np.nanmin(tail[name].to_numpy()))) for name in population
    }
    name = max(largest, key=lambda n: largest[n])
    return {
        "population": max(largest[n] for n in population),
        "all": largest[name],
        "where": name,
        "ess": min(least.values()),
    }


def model_of(name: str, likelihood: str, folder: Path, lapses: dict[str, float | str]) -> hs.HierarchicalModel:
    """The model of a data set, compiled."""
    data_set = DATA_SETS[name]
    model = hs.HierarchicalModel(
        list(data_set.formulas), data_set.table(folder), likelihood=likelihood, **data_set.options, **lapses
    )
    _ = model.density
    return model


def looks(name: str, model: hs.HierarchicalModel, seeds: list[int], say: bool) -> pd.Series:
    """How many fits have passed after so many draws: a Rhat of at most 1.01 of every number at one of the looks."""
    found = {}
    for seed in seeds:
        drawn = model.fit(draws=LOOKS[-1], seed=seed, progress=False)["posterior"]
        names = model.pyro_model.population_names
        found[seed] = [float(worst({"posterior": drawn.isel(draw=slice(n))}, names)["all"]) for n in LOOKS]
        if say:
            print(f"{name}, seed {seed}: " + ", ".join(f"{rhat:.4f}" for rhat in found[seed]), flush=True)
    every = pd.DataFrame(found, index=list(LOOKS))
    return (every <= MAX_RHAT).astype(int).cummax().sum(axis=1)


def fits(name: str, likelihood: str, model: hs.HierarchicalModel, seeds: list[int], say: bool) -> list[dict[str, Any]]:
    """A row for every seed."""
    rows = []
    for seed in seeds:
        began = time.process_time()
        posterior = model.fit(seed=seed, progress=False)
        found = worst(posterior, model.pyro_model.population_names)
        stats = posterior["sample_stats"]
        lp = stats["lp"].to_numpy().mean(axis=1)
        row = {"data set": name, "likelihood": likelihood, "seed": seed, **found, "lp apart": lp.max() - lp.min()}
        row |= {"diverging": int(stats["diverging"].to_numpy().sum()), "draws": stats["lp"].shape[1]}
        row |= {"CPU s": time.process_time() - began}
        rows.append(row)
        if say:
            print(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One line per data set and likelihood."""
    every = pd.DataFrame(rows)
    grouped = every.groupby(["data set", "likelihood"], sort=False)
    return pd.DataFrame(
        {
            "fits": grouped.size(),
            "pass": grouped["population"].apply(lambda x: int((x <= MAX_RHAT).sum())),
            "pass, all": grouped["all"].apply(lambda x: int((x <= MAX_RHAT).sum())),
            "worst Rhat": grouped["population"].max(),
            "worst, all": grouped["all"].max(),
            "least ESS": grouped["ess"].min(),
            "lp apart": grouped["lp apart"].max(),
            "diverging": grouped["diverging"].sum(),
            "most draws": grouped["draws"].max(),
            "draws": grouped["draws"].mean(),
            "CPU s per fit": grouped["CPU s"].mean(),
        }
    )


def number_or_word(text: str) -> float | str:
    """An argument of `HierarchicalModel` as it is written in a shell."""
    try:
        return float(text)
    except ValueError:
        return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*DATA_SETS, []], metavar="data set")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--likelihood", choices=("exact", "neural"))
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--looks", action="store_true", help="of fits of 3 000 draws, those that passed before")
    parser.add_argument("--every-fit", action="store_true", help="a line for every fit as well")
    parser.add_argument("--lapse", type=number_or_word)
    parser.add_argument("--lapse-seconds", type=number_or_word)
    given = parser.parse_args()
    lapses = {name: getattr(given, name) for name in ("lapse", "lapse_seconds") if getattr(given, name) is not None}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows, passed, seeds = [], {}, list(range(given.first_seed, given.first_seed + given.seeds))
    for name in given.names or DATA_SETS:
        for likelihood in DATA_SETS[name].likelihoods:
            if given.likelihood in (None, likelihood):
                model = model_of(name, likelihood, given.data, lapses)
                if given.looks:
                    passed[name, likelihood] = looks(name, model, seeds, given.every_fit)
                else:
                    rows += fits(name, likelihood, model, seeds, given.every_fit)
    found = pd.DataFrame(passed).T if given.looks else table(rows)
    print(found.to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
