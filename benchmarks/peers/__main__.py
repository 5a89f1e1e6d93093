"""Peers: Pyro's NUTS, sbi's estimators in Pyro and HSSM beside this package, in one run.

Every contender fits one chain, on one core, in a process of its own with every cache empty: milliseconds per gradient,
least bulk effective sample size per second of sampling (tuning included) and per second in all (from starting Python to
the last draw, compiling included), and peak memory. Seconds are CPU seconds, so that other work on the machine hardly
matters. Where time is up, that is said, and the draws so far count. See `--help`:

    python -m benchmarks.peers --hssm PYTHON --network ddm.onnx --cavanagh cavanagh.csv
"""

import argparse
import os
import platform
import queue
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import hddm_sbi as hs
from benchmarks.peers.task import Task, heard

ROOT = Path(__file__).parents[2]
#: subjects x 2 conditions of the simulated experiment.
SUBJECTS = 40
OURS = "hddm_sbi"
#: samplers that cannot be asked to end early.
BLIND = ("nuts", "numpyro", "nutpie")
#: of HSSM.
SAMPLERS = ("pymc", "numpyro", "nutpie")
FASTEST = "nutpie"
Row = dict[str, float | str]
COLUMNS = ["trials", "contender", "learned", "draws", "ms", "ess", "sampling", "total", "GiB", "note"]
#: column -> its heading in the docs.
SHOWN = {
    "trials": "trials",
    "contender": "contender",
    "draws": "draws",
    "ms": "ms per gradient",
    "ess": "least ESS",
    "rate": "per s of sampling",
    "rate in all": "per s in all",
    "ours rate": "ours, times",
    "ours rate in all": "in all, times",
    "GiB": "GiB",
    "note": "",
}


@dataclass(frozen=True)
class Contender:
    """module: what is run, by which python. steps: tuning and draws. learned: whether its likelihood is, rather than a
    closed form. file: that it is read from."""

    name: str
    module: str
    python: str
    likelihood: str
    sampler: str
    steps: tuple[int, int]
    learned: bool
    file: str = ""


@dataclass(frozen=True)
class Data:
    """A table of so many trials and the formulas for it."""

    name: str
    trials: int
    table: Path
    formulas: tuple[str, ...]


def contenders(given: argparse.Namespace, estimator: Path) -> Iterator[Contender]:
    """All that can run here; the reason of those that cannot is printed."""
    here = sys.executable
    for kind in ("exact", "neural"):
        yield Contender(f"{OURS}, {kind}", "in_package", here, kind, "nuts", tuple(given.ours), kind == "neural")
    yield Contender("Pyro NUTS, exact", "in_pyro", here, "exact", "plain", tuple(given.pyro), False)
    yield Contender("Pyro NUTS jit_compile, exact", "in_pyro", here, "exact", "jit", tuple(given.pyro), False)
    yield Contender("Pyro NUTS, sbi's MNLE", "in_pyro", here, "", "plain", tuple(given.sbi), True, str(estimator))
    if given.hssm is None or not given.hssm.exists():
        print(f"skipped HSSM: there is no {given.hssm or 'python given; name one by --hssm'}")
        return
    steps, python = tuple(given.steps_hssm), str(given.hssm)
    for sampler in SAMPLERS:
        yield Contender(f"HSSM {sampler}, analytical", "in_hssm", python, "", sampler, steps, False)
    if given.network is None or not given.network.exists():
        print(f"skipped HSSM's network: there is no {given.network or 'file given; name one by --network'}")
        return
    network = str(given.network.resolve())
    for sampler in SAMPLERS:
        yield Contender(f"HSSM {sampler}, network", "in_hssm", python, "", sampler, steps, True, network)


def tables(given: argparse.Namespace, folder: Path) -> Iterator[Data]:
    """The published table, if it is there, and simulated ones."""
    if given.cavanagh is not None and given.cavanagh.exists():
        trials = pd.read_csv(given.cavanagh).rename(columns={"subj_idx": "subject"})
        trials["response"] = np.where(trials["response"] == 1, 1, -1)
        trials[["subject", "rt", "response", "theta"]].to_csv(folder / "cavanagh.csv", index=False)
        yield Data(f"cavanagh, {len(trials)}", len(trials), folder / "cavanagh.csv", ("v ~ theta + (1|subject)",))
    else:
        print(f"skipped the published table: there is no {given.cavanagh or 'file given; name one by --cavanagh'}")
    for n in given.trials:
        path = folder / f"simulated{n}.csv"
        experiment = hs.simulate_experiment(SUBJECTS, n // (2 * SUBJECTS), seed=1)
        experiment.trials.to_csv(path, index=False)
        yield Data(f"simulated, {n}", n, path, experiment.formulas)


def takes_part(contender: Contender, data: Data, most: int) -> bool:
    """Of HSSM's samplers only the fastest has more than `most` trials to fit: the others would take the limit."""
    return data.trials <= most or contender.module != "in_hssm" or contender.sampler == FASTEST


def compete(contender: Contender, data: Data, seconds: float, core: int) -> Row:
    """Run one contender on one core. Peak memory is what the system says of its process."""
    task = Task(
        str(data.table),
        data.formulas,
        contender.likelihood,
        contender.sampler,
        *contender.steps,
        file=contender.file,
        seconds=seconds,
    )
    # Those that look at the clock themselves get a little longer, to say what they have.
    limit = int(seconds * (1.0 if contender.sampler in BLIND else 1.3))

    def confine() -> None:
        os.sched_setaffinity(0, {core})
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))

    with tempfile.TemporaryDirectory() as cache, open(Path(cache, "said"), "w+") as said:
        errors = open(Path(cache, "errors"), "w+")  # noqa: SIM115 - it goes with the folder
        environment = {"NUMBA_CACHE_DIR": cache, "PYTENSOR_FLAGS": f"base_compiledir={cache}", "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [contender.python, "-m", f"benchmarks.peers.{contender.module}", task.text],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=said,
            stderr=errors,
            preexec_fn=confine,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        facts = heard(Path(cache, "said").read_text())
        last_line = Path(cache, "errors").read_text().strip().rpartition("\n")[2]
        errors.close()
    row: Row = {"trials": data.name, "contender": contender.name, "learned": contender.learned, **facts}
    row |= {"GiB": used.ru_maxrss / 2**20, "note": ""}
    if process.returncode in (-signal.SIGKILL, -signal.SIGXCPU) and "ess" not in facts:
        row["note"] = f"stopped after {limit} s"
    elif facts.get("stopped"):
        row["note"] = f"stopped after {seconds:.0f} s" + (", too few draws" if process.returncode > 0 else "")
    elif process.returncode > 0:
        row["note"] = f"failed: {last_line[:120]}"
    print("   ", {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    return row


def results(rows: list[Row]) -> pd.DataFrame:
    """Rates of effective samples, and how many times as high ours is under the same kind of likelihood, closed form or
    learned."""
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    table["rate"], table["rate in all"] = table["ess"] / table["sampling"], table["ess"] / table["total"]
    ours = table["contender"].str.startswith(OURS)
    mine = table[ours].set_index(["trials", "learned"])
    for rate in ("rate", "rate in all"):
        best = [mine[rate].get((row["trials"], row["learned"]), np.nan) for _, row in table.iterrows()]
        table[f"ours {rate}"] = (best / table[rate]).where(~ours)
    return table


def markdown(table: pd.DataFrame) -> str:
    """The table of docs/benchmarks.md."""
    lines = ["| " + " | ".join(SHOWN.values()) + " |", "|" + "---|" * len(SHOWN)]
    for _, row in table.iterrows():
        cells = [row[column] for column in SHOWN]
        texts = [c if isinstance(c, str) else "-" if pd.isna(c) else f"{float(f'{c:.2g}'):g}" for c in cells]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines)


def nearest(table: pd.DataFrame) -> str:
    """Which contender comes nearest to ours."""
    lines = []
    for rate, said in (("ours rate", "of sampling"), ("ours rate in all", "in all")):
        if table[rate].notna().any():
            row = table.loc[table[rate].idxmin()]
            lines.append(
                f"ours makes at least {row[rate]:.1f} times the effective samples per second {said} "
                f"({row['contender']}; {row['trials']})"
            )
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    steps = {"nargs": 2, "type": int, "metavar": ("TUNE", "DRAWS")}
    parser.add_argument("--hssm", type=Path, help="python of an environment with HSSM")
    parser.add_argument("--network", type=Path, help="HSSM's ddm.onnx")
    parser.add_argument("--cavanagh", type=Path, help="HDDM's example data")
    parser.add_argument("--trials", nargs="*", type=int, default=[1_000, 8_000, 40_000])
    parser.add_argument("--seconds", type=float, default=100, help="CPU seconds of one fit, all in")
    parser.add_argument("--most", type=int, default=10_000, help=f"trials for HSSM's samplers other than {FASTEST}")
    parser.add_argument("--cores", nargs="+", type=int, default=sorted(os.sched_getaffinity(0)))
    parser.add_argument("--only", default="", help="contenders with this in their names")
    parser.add_argument("--ours", default=(300, 500), **steps)
    parser.add_argument("--pyro", default=(100, 100), **steps)
    parser.add_argument("--sbi", default=(50, 50), **steps)
    parser.add_argument("--steps-hssm", default=(100, 100), **steps)
    return parser.parse_args()


def main() -> None:
    given = parsed()
    print(f"{platform.machine()}, Python {platform.python_version()}, one core each of {given.cores}")
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(len(given.cores)) as pool:
        folder = Path(name)
        estimator = folder / "mnle.safetensors"
        every = [c for c in contenders(given, estimator) if given.only in c.name]
        if any(c.file == str(estimator) for c in every):
            subprocess.run([sys.executable, "-m", "benchmarks.peers.in_sbi", str(estimator)], check=True, cwd=ROOT)
        cores: queue.Queue[int] = queue.Queue()
        for core in given.cores:
            cores.put(core)

        def on_a_core(contender: Contender, data: Data) -> Row:
            core = cores.get()
            try:
                return compete(contender, data, given.seconds, core)
            finally:
                cores.put(core)

        pairs = [(c, data) for data in tables(given, folder) for c in every if takes_part(c, data, given.most)]
        print(f"{len(pairs)} fits", flush=True)
        rows = list(pool.map(lambda pair: on_a_core(*pair), pairs))
    table = results(rows)
    print(f"\n{markdown(table)}\n\n{nearest(table)}")


if __name__ == "__main__":
    main()
