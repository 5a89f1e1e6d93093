"""What a person waits for: import, construct, start, compile, sample; without caches, with them, and six formulas.

`python -m benchmarks.waiting` measures the working tree, `python -m benchmarks.waiting 00a8975` that revision as well,
and prints ratios. The table is the demo's; the last one has a covariate of every trial, 10 subjects x 250, and is all
that `python -m benchmarks.waiting 00a8975 covariate` takes; `first` instead is the first fit and the next ones alone.
Every measurement is a process of its own. Seconds are those of its processor time, which other jobs on the machine
disturb less; of sampling, of all threads. Machine code that comes with a wheel is run where the working tree has it
(`python .ci/wheel.py dist ddm` brings it).
"""

import compileall
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import hddm_sbi as hs
from hddm_sbi.numerics import kernel_cache

ROOT = Path(__file__).parents[1]
Run = dict[str, list[float]]
KINDS = ("exact", "neural")
PARTS = ("import", "construct", "start", "compile", "sample")
FORMULAS = (
    ("v ~ condition + (condition|subject)", "a ~ 1 + (1|subject)", "t0 ~ 1 + (1|subject)"),
    ("v ~ condition + (1|subject)", "a ~ 1 + (1|subject)", "t0 ~ 1 + (1|subject)"),
    ("v ~ 1 + (1|subject)", "a ~ condition + (1|subject)", "t0 ~ 1 + (1|subject)"),
    ("v ~ condition + (condition||subject)", "a ~ 1 + (1|subject)"),
    ("v ~ condition + (condition|subject)", "a ~ condition + (1|subject)", "z = 0.5"),
    ("v ~ condition + (1|subject)", "a ~ 1 + (1|subject)", "t0 ~ condition + (1|subject)", "z ~ 1 + (1|subject)"),
)
COVARIATE = ("v ~ difficulty + (difficulty|subject)", "a ~ 1 + (1|subject)", "t0 ~ 1 + (1|subject)")
#: runs with any revision: prints the seconds of each part, of the formulas one after another, with so many draws.
CHILD = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
table, kind, formulas, draws = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
rows, marks = [], [time.process_time()]
import pandas
import hddm_sbi as hs
hs.HierarchicalModel
data = pandas.read_csv(table)
for formula in formulas:
    marks.append(time.process_time())
    model = hs.HierarchicalModel(list(formula), data, likelihood=kind)
    marks.append(time.process_time())
    getattr(model, "start", None)
    marks.append(time.process_time())
    model.density
    marks.append(time.process_time())
    model.fit(draws=draws, tune=draws, seed=1, progress=False)
    marks.append(time.process_time())
    rows.append([after - before for before, after in zip(marks, marks[1:])])
    marks = []
print(json.dumps(rows))
"""


def seconds(
    tree: Path, table: str, kind: str, formulas: tuple[tuple[str, ...], ...], cache: str, draws: int = 1_000
) -> list[list[float]]:
    """Seconds of the parts, for each formula in turn; the first comes with the import. draws: and as many to tune."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "NUMBA_CACHE_DIR": cache,
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", CHILD, table, kind, json.dumps(formulas), str(draws)]
    done = subprocess.run(command, env=environment, cwd=cache, check=True, capture_output=True, text=True)
    rows: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return [row if len(row) == len(PARTS) else [0.0, *row] for row in rows]


def compare(title: str, run: Run) -> None:
    """Print the parts of every revision, and the ratio of the last to the first."""
    for name, times in run.items():
        parts = ", ".join(f"{part} {s:5.2f}" for part, s in zip(PARTS, times, strict=True))
        print(f"  {title:32s} {name:8s} {parts}; in all {sum(times):6.2f}", flush=True)
    if len(run) > 1:
        old, *_, new = run.values()
        # A part that did not exist has no ratio.
        ratio = {part: n / o for part, o, n in zip(PARTS, old, new, strict=True) if o > 0.01}
        ready = sum(new[:3]) / sum(old[:3])
        parts = ", ".join(f"{part} {r:.2f}" for part, r in ratio.items())
        print(f"  {'':32s} ratio    {parts}; until there is a start {ready:.2f}; in all {sum(new) / sum(old):.2f}")


def demo(trees: dict[str, Path], kind: str, caches: dict[str, str], table: str, six: bool) -> None:
    """The demo's table with one likelihood: a first process, further ones, and six formulas in one."""
    hs.simulate_experiment(n_subjects=10, n_trials=50, seed=1).trials.to_csv(table, index=False)
    first, second = FORMULAS[:1], FORMULAS[1:2]
    for title, formulas in (("without caches", first), ("a new formula", second), ("the same again", second)):
        compare(f"{kind}, {title}", {n: seconds(t, table, kind, formulas, caches[n])[0] for n, t in trees.items()})
    if not six:
        return
    each = {n: seconds(t, table, kind, FORMULAS, caches[n]) for n, t in trees.items()}
    compare(f"{kind}, six formulas", {n: [sum(p) for p in zip(*rows, strict=True)] for n, rows in each.items()})


def covariate(trees: dict[str, Path], caches: dict[str, dict[str, str]], table: str) -> None:
    """A table whose every trial is a cell, with both likelihoods; the first process fills the caches."""
    rng = np.random.default_rng(1)
    difficulty, subject = rng.normal(size=2_500), np.arange(2_500) % 10
    theta = {"v": 1.0 - 0.4 * difficulty + rng.normal(scale=0.2, size=10)[subject], "a": 1.2, "z": 0.5, "t0": 0.3}
    trials = hs.simulate("ddm", theta, n_trials=2_500, seed=1).assign(difficulty=difficulty, subject=subject)
    trials.to_csv(table, index=False)
    sampling = {}
    for kind in caches:
        for draws in (10, 1_000):
            run = {n: seconds(t, table, kind, (COVARIATE,), caches[kind][n], draws)[0] for n, t in trees.items()}
        compare(f"{kind}, a covariate per trial", run)
        sampling[kind] = {name: times[-1] for name, times in run.items()}
    for name in trees:
        times = sampling["neural"][name] / sampling["exact"][name]
        print(f"  learned, times the closed form   {name:8s} sample {times:.2f}")


def main(revision: str | None, part: str = "") -> None:
    print("machine code comes along" if kernel_cache.COMPILED.is_dir() else "no machine code comes along")
    with tempfile.TemporaryDirectory() as folder:
        trees = {"now": ROOT}
        if revision is not None:
            old = Path(folder) / "tree"
            subprocess.run(["git", "worktree", "add", "--detach", str(old), revision], cwd=ROOT, check=True)
            trees = {revision: old, "now": ROOT}
        try:
            for tree in trees.values():
                # As pip does where it installs: a first fit need not compile Python's source.
                compileall.compile_dir(tree, quiet=2)
            table = str(Path(folder) / "table.csv")
            caches = {kind: {name: str(Path(folder) / f"{name} {kind}") for name in trees} for kind in KINDS}
            for kind in KINDS:
                for cache in caches[kind].values():
                    Path(cache).mkdir()
                if part != "covariate":
                    demo(trees, kind, caches[kind], table, six=part != "first")
            if part != "first":
                covariate(trees, caches, table)
        finally:
            if revision is not None:
                subprocess.run(["git", "worktree", "remove", "--force", str(old)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main(*(sys.argv[1:] or [None]))
