"""Command line: seconds of `--help`, process start to end."""

import subprocess
import sys

from benchmarks.timing import best_seconds


def main() -> None:
    command = [sys.executable, "-m", "hddm_sbi", "--help"]
    seconds = best_seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), 5)
    print(f"--help: {seconds:.2f} s")


if __name__ == "__main__":
    main()
