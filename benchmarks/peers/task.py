"""What a contender is told, and what it says: one line of JSON each way. Imports nothing that HSSM's Python lacks."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

SAID = "RESULT "
#: gradients that are timed.
TIMED = 20
#: the law of lapses of our models, held as HSSM holds its own.
LAPSES = {"lapse": 0.05, "lapse_seconds": 10.0}


@dataclass(frozen=True)
class Task:
    """One fit of one chain.

    formulas: with our names of parameters. file: that the likelihood is read from, if it is. seconds: after which to
    give up.
    """

    table: str
    formulas: tuple[str, ...]
    likelihood: str
    sampler: str
    tune: int
    draws: int
    seed: int = 1
    file: str = ""
    seconds: float = float("inf")

    @classmethod
    def told(cls) -> "Task":
        """The task on the command line."""
        return cls(**json.loads(sys.argv[1]))

    @property
    def text(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))

    @property
    def spent(self) -> bool:
        """Whether it is time to give up."""
        return cpu() > self.seconds


def cpu() -> float:
    """CPU seconds of this process and of its compilers since Python started."""
    compilers = os.times()
    return time.process_time() + compilers.children_user + compilers.children_system


def say(**facts: float) -> None:
    """Facts about the run; what was said before a contender is stopped is kept.

    ms: milliseconds per gradient. sampling, total: CPU seconds, of sampling with its tuning, and from starting
    Python to the last draw. draws: made after tuning. ess: the least bulk effective sample size among all parameters.
    """
    print(SAID + json.dumps(facts), flush=True)


def heard(printed: str) -> dict[str, float]:
    """All that was said."""
    facts: dict[str, float] = {}
    for line in printed.splitlines():
        if line.startswith(SAID):
            facts |= json.loads(line.removeprefix(SAID))
    return facts


def milliseconds(gradient: Callable[[], object]) -> float:
    """CPU milliseconds of one gradient: the mean of so many, after one that is not counted."""
    gradient()
    began = cpu()
    for _ in range(TIMED):
        gradient()
    return 1e3 * (cpu() - began) / TIMED


def least_bulk_ess(posterior: Mapping[str, np.ndarray]) -> float:
    """Of variables (chains, draws, ...)."""
    import arviz

    found = arviz.ess(arviz.convert_to_dataset(dict(posterior)), method="bulk")
    return float(min(np.nanmin(values.to_numpy()) for values in found.data_vars.values()))
