"""Command line: seconds of `--help`, and of a second fit of 4 000 trials, process start to end."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing import best_seconds
from hddm_sbi.experiment import FORMULAS, simulate_experiment


def main() -> None:
    command = [sys.executable, "-m", "hddm_sbi"]
    seconds = best_seconds(lambda: subprocess.run([*command, "--help"], check=True, stdout=subprocess.DEVNULL), 5)
    print(f"--help: {seconds:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        table, fitted = Path(folder, "trials.csv"), Path(folder, "fit.nc")
        simulate_experiment(n_subjects=20, n_trials=100, seed=1).trials.to_csv(table, index=False)
        first, *more = FORMULAS
        fit = [*command, "fit", str(table), first, *(part for f in more for part in ("-f", f)), "-o", str(fitted)]
        for which in ("first", "second"):
            began = time.perf_counter()
            subprocess.run([*fit, "--seed", "1", "--quiet"], check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - began
            print(f"{which} fit of 4 000 trials, learned likelihood, 4 x (1 000 + 1 000): {seconds:.1f} s")


if __name__ == "__main__":
    main()
