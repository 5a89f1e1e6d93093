"""Run every benchmark in turn.

`python -m benchmarks.priors` prints the tables of docs/priors.md; `.peers`, `.device`, `.scale`, `.published`,
`.draws`, `.lapses`, `.centring`, `.correlations`, `.conflict`, `.incomplete`, `.missing`, `.races`,
`.learning`, `.language`, `.evidence`, `.certificate`, `.blackbox`, `.going_on`, `.whole_way`, `.validation` and
`.house` run alone.
"""

import platform

import torch

from benchmarks import (
    approximations,
    bridge,
    command_line,
    compiler,
    diffusions,
    distribution,
    exact,
    fit,
    models,
    neural,
    simulator,
)

#: in the order of docs/benchmarks.md.
PARTS = (simulator, diffusions, exact, neural, distribution, models)
PARTS += (command_line, compiler, fit, approximations, bridge)

if __name__ == "__main__":
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    for part in PARTS:
        print(f"\n== {part.__doc__.splitlines()[0]}")
        part.main()
