"""The best of several repeats, for code that runs in one process."""

import time
from collections.abc import Callable


def best_seconds(run: Callable[[], object], repeats: int = 15, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of the fastest repeat, after one that is not counted.

    By `time.process_time` other jobs on the machine disturb them less; the time of children is missing there.
    """
    run()
    seconds = []
    for _ in range(repeats):
        began = clock()
        run()
        seconds.append(clock() - began)
    return min(seconds)
