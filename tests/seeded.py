"""Tasks for a worker process, which imports this file and nothing heavy: seeded, and with accidents."""

import os
import signal

import numpy as np


def normal(seed):
    return {"x": np.random.default_rng(seed).normal(size=5)}


def recorded(seed, folder):
    """`normal`, with a letter in a file for every time that it was called."""
    with open(folder / f"called-{seed}", "a") as file:
        file.write("x")
    return normal(seed)


def killed_once(seed, folder):
    """`recorded`, whose process is killed at seed 3, the first time."""
    if seed == 3 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return recorded(seed, folder)


def killed_always(seed, folder):
    if seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return recorded(seed, folder)


def fails_at_3(seed, folder):
    if seed == 3:
        raise ValueError("three is unlucky")
    return recorded(seed, folder)


def interrupted_at_3(seed, folder):
    if seed == 3:
        raise KeyboardInterrupt
    return recorded(seed, folder)


def slow_draw(mu, rng):
    """A simulation of a tenth of a millisecond."""
    return rng.normal(mu, 1.0, 2_000).mean()
