"""Fits in a folder that end at one moment of many, each in a forked process: python moments.py FOLDER KIND:MOMENT ...

KIND is a signal (SIGKILL, SIGTERM, SIGINT) that arrives at the moment, or "full": from then on nothing can be written.
Prints a line of JSON for each: how the first process ended and what it said, how the same call ended afterwards, and
whether its draws are those of a fit that nothing ended. Forked before anything is sampled, because threads do not
survive a fork; and after all is imported that a fit imports, which would take most of its time.
"""

import errno
import hashlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import hddm_sbi as hs
from hddm_sbi.hierarchy import model, table_design
from hddm_sbi.hierarchy.fits import fit_folder, fitting, posterior
from hddm_sbi.inference import chain_files, inference_data

TRIALS = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 60, seed=1)
#: looked at once before the end, after 100 draws, which never suffice.
TUNE, DRAWS, ESS = 50, 150, 100_000
#: moment -> the object and name of the function that is called then, and how many calls come before.
MOMENTS = {
    "reading the table": (table_design, "check_table", 0),
    "pilot": (model, "pilot_fit", 0),
    "making the folder": (fit_folder, "_lock", 0),
    "writing the recipe": (os, "fsync", 0),
    "compiling": (model, "flatten", 0),
    "first step": (chain_files.ChainFiles, "evaluate", 0),
    "warm-up": (chain_files.ChainFiles, "keep", TUNE),
    "sampling": (chain_files.ChainFiles, "keep", 2 * TUNE + DRAWS),
    "looking": (fitting.Goal, "reached", 0),
    "naming": (posterior, "variables", 0),
    "before writing": (inference_data, "content", 0),
    "writing": (os, "fsync", 1),
    "checking": (fitting, "second_modes", 0),
}


def known() -> hs.HierarchicalModel:
    return hs.HierarchicalModel({"v": "1", "a": "1", "z": 0.5, "t0": 0.3}, TRIALS, likelihood="exact")


def fit(folder: Path) -> object:
    return known().fit(draws=DRAWS, tune=TUNE, ess=ESS, chains=2, seed=7, folder=folder, progress=False)


def digest(fitted: object) -> str:
    """Of all numbers that are not about the machine."""
    if inference_data.dataset(fitted).attrs["stopped"]:
        return f"stopped: {inference_data.dataset(fitted).attrs['stopped']}"
    hashed = hashlib.sha256()
    for group in ("posterior", "sample_stats", "observed_data"):
        for name, array in sorted(inference_data.dataset(fitted, group).data_vars.items()):
            hashed.update(str(name).encode() + array.to_numpy().tobytes())
    return hashed.hexdigest()


def at(moment: str, act: Callable[[], None]) -> None:
    """Act once, when a moment has come."""
    place, name, before = MOMENTS[moment]
    original, calls = getattr(place, name), []

    def watched(*arguments: object, **others: object) -> object:
        calls.append(1)
        if len(calls) == before + 1:
            act()
        return original(*arguments, **others)

    setattr(place, name, watched)


def fill_the_disk() -> None:
    """Whatever is written from now on does not fit."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    os.fsync = os.pwrite = full  # type: ignore[assignment]


def forked(folder: Path, prepare: Callable[[], None]) -> dict[str, str]:
    """A fit in a process of its own: how it ended, what it said, and the hash of its draws."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        said, result = "", ""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            prepare()
            try:
                result = digest(fit(folder))
            except BaseException as raised:
                said = f"{type(raised).__name__}: {raised}"
        told = [str(w.message) for w in caught if issubclass(w.category, hs.FitFileWarning)]
        os.write(
            theirs, json.dumps({"said": " | ".join([*([said] if said else []), *told]), "result": result}).encode()
        )
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        written = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"code": str(code), **(json.loads(written) if written else {"said": "", "result": ""})}


def main() -> None:
    folder = Path(sys.argv[1])
    # Every process has what is imported and compiled here.
    for name in ("nutpie", "h5netcdf"):
        import_module(name)
    _ = known().density
    whole = forked(folder / "whole", lambda: None)["result"]
    for number, asked in enumerate(sys.argv[2:]):
        kind, _, moment = asked.partition(":")
        act = fill_the_disk if kind == "full" else lambda kind=kind: os.kill(os.getpid(), getattr(signal, kind))
        path = folder / str(number)
        first = forked(path, lambda act=act, moment=moment: at(moment, act))
        before = sorted(file.name for file in path.iterdir()) if path.exists() else []
        again = forked(path, lambda: None)
        print(
            json.dumps(
                {
                    "asked": asked,
                    "before": before,
                    "first": first,
                    "again": again,
                    "same": again["result"] == whole != "",
                    "files": sorted(file.name for file in path.iterdir()),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
