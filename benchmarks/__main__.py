"""Run every benchmark in turn."""

import platform

import torch

from benchmarks import bridge, command_line, exact, fit, neural, priors, simulator

if __name__ == "__main__":
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    for part in (simulator, exact, neural, command_line, priors, bridge, fit):
        print(f"\n== {part.__doc__.splitlines()[0]}")
        part.main()
