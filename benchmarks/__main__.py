"""Run every benchmark in turn.

`python -m benchmarks.priors` prints the tables of docs/priors.md; `.peers`, `.device`, `.scale` and `.published` run
alone.
"""

import platform

import torch

from benchmarks import approximations, bridge, command_line, compiler, diffusions, exact, fit, models, neural, simulator

if __name__ == "__main__":
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    for part in (simulator, diffusions, exact, neural, models, command_line, compiler, fit, approximations, bridge):
        print(f"\n== {part.__doc__.splitlines()[0]}")
        part.main()
