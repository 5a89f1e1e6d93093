"""The best of several repeats, for code that runs in one process."""

import time
from collections.abc import Callable


def best_seconds(run: Callable[[], object], repeats: int = 15) -> float:
    """Seconds of the fastest repeat, after one that is not counted."""
    run()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
