"""The command line, ended at a moment: python ended.py SIGNAL MOMENT ARGUMENT ...

MOMENT is what the process does then: "import:NAME" of a module; "open:PART" or "os.rename:PART" of a file with this in
its path, which an audit hook sees before it happens; "steps:N", so many more steps of the first chain in the folder
`kept` than there were, which a thread sees; "never". Nothing of hddm_sbi is loaded before, and nothing of it knows.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

#: bytes of a step of the three numbers of v ~ condition with a and z held: v, a difference, t0.
STEP = 3 * 8


def end_at(number: int, moment: str) -> None:
    """Send the signal to this process when the moment comes, once."""
    kind, _, what = moment.partition(":")
    waiting = [what]

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event == kind and waiting:
            named = str(arguments[0])
            if named == what if kind == "import" else what in named:
                waiting.clear()
                os.kill(os.getpid(), number)

    def count() -> None:
        file = Path("kept/chain-0.draws")
        enough = (file.stat().st_size if file.exists() else 0) + int(what) * STEP
        while not file.exists() or file.stat().st_size < enough:
            time.sleep(0.001)
        os.kill(os.getpid(), number)

    if kind == "steps":
        threading.Thread(target=count, daemon=True).start()
    else:
        sys.addaudithook(watch)


if __name__ == "__main__":
    end_at(getattr(signal, sys.argv[1]), sys.argv[2])
    sys.argv[1:] = sys.argv[3:]
    from hddm_sbi.cli import main

    main()
