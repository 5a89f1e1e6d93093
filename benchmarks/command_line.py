"""Command line: seconds of `--help`, of a first and a second fit of 4 000 trials, and where those of the second go.

Wall and CPU seconds, process start to end. The table is of one more run, step by step, in a process of its own.
"""

import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from benchmarks.timing import best_seconds

SUBJECTS, TRIALS, CHAINS, TUNE, DRAWS = 20, 100, 4, 1_000, 1_000
PYTHON = [sys.executable, "-m"]


class Clock:
    """Wall and CPU seconds of one step after another."""

    def __init__(self) -> None:
        self.at = time.perf_counter(), time.process_time()

    def lap(self, step: str) -> None:
        """Print what has passed since the last lap."""
        now = time.perf_counter(), time.process_time()
        wall, cpu = (a - b for a, b in zip(now, self.at, strict=True))
        print(f"  {step:58s} {wall:6.2f} {cpu:6.2f}", flush=True)
        self.at = time.perf_counter(), time.process_time()


def steps(table: Path, fitted: Path) -> None:
    """What `hddm-sbi fit` does, with a clock."""
    warnings.simplefilter("ignore")
    clock = Clock()
    import pyro  # noqa: F401

    clock.lap("import torch and Pyro")
    from hddm_sbi.inference import inference_data  # noqa: F401

    clock.lap("import ArviZ, pandas and xarray")
    from hddm_sbi.analysis.experiment import FORMULAS
    from hddm_sbi.data import read_table
    from hddm_sbi.hierarchy.model import HierarchicalModel
    from hddm_sbi.presentation.report import summary

    clock.lap("import hddm_sbi, Numba and scipy")
    model = HierarchicalModel(FORMULAS, read_table(table))
    clock.lap("read the table, build the model")
    model.density  # noqa: B018
    clock.lap("pilot fit; record the density, read its machine code from the cache")
    posterior = model.fit(draws=DRAWS, tune=TUNE, chains=CHAINS, seed=1, progress=False)
    clock.lap(f"sample, {CHAINS} x ({TUNE} + {DRAWS}); Rhat and effective sample sizes")
    summary(model, posterior)
    clock.lap("summary")
    posterior.to_netcdf(str(fitted))
    clock.lap("write")


def run(command: list[str]) -> tuple[float, float, str]:
    """Wall and CPU seconds of a process, and what it printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, printed


def main() -> None:
    import hddm_sbi as hs

    command = [*PYTHON, "hddm_sbi"]
    seconds = best_seconds(lambda: subprocess.run([*command, "--help"], check=True, stdout=subprocess.DEVNULL), 5)
    print(f"--help: {seconds:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        table, fitted = Path(folder, "trials.csv"), Path(folder, "fit.nc")
        experiment = hs.simulate_experiment(SUBJECTS, TRIALS, seed=1)
        experiment.trials.to_csv(table, index=False)
        first, *more = experiment.formulas
        fit = [*command, "fit", str(table), first, *(part for f in more for part in ("-f", f)), "-o", str(fitted)]
        for which in ("first", "second"):
            wall, cpu, _ = run([*fit, "--seed", "1", "--quiet"])
            print(
                f"{which} fit of {2 * SUBJECTS * TRIALS} trials, learned likelihood, {CHAINS} x ({TUNE} + {DRAWS}): "
                f"{wall:.1f} s ({cpu:.1f} CPU s)"
            )
        wall, cpu, printed = run([*PYTHON, "benchmarks.command_line", str(table), str(fitted)])
        print(f"{'where the time goes, in seconds':60s} {'wall':>6s} {'CPU':>6s}")
        print(f"{printed}  {'in all, with the start and end of Python':58s} {wall:6.2f} {cpu:6.2f}")


if __name__ == "__main__":
    if sys.argv[1:]:
        steps(*map(Path, sys.argv[1:]))
    else:
        main()
