"""A disk that is really full: python full_disk.py FOLDER KIND ..., where a small one can be mounted (unshare --mount).

For each kind of file and each room that is left (kB): what is written with so much room, what is said, what is left
behind, and what the same call gives once there is room. A line of JSON for each.
"""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from moments import TRIALS, digest
from moments import fit as fit_in_folder
from seeded import slow_draw

import hddm_sbi as hs
from hddm_sbi.cli import main
from hddm_sbi.inference import inference_data
from hddm_sbi.likelihoods.card import save_weights
from hddm_sbi.likelihoods.catalogue import load_simulator
from hddm_sbi.likelihoods.mixture import Architecture
from hddm_sbi.training.mixture import train_network
from hddm_sbi.training.recipe import Machine, Recipe

#: of the disk, MB, and what is left of it before a call, kB.
SIZE, ROOMS = 8, (0, 4, 12, 40)
SAMPLING = {"draws": 100, "tune": 50, "chains": 2, "seed": 7, "progress": False}
RECIPE = Recipe(n_thetas=60, n_trials=200, bins=12, steps=40, batch=16, shard=25, seed=7)


def model() -> hs.HierarchicalModel:
    return hs.HierarchicalModel({"v": "1", "a": "1", "z": 0.5, "t0": 0.3}, TRIALS, likelihood="exact")


def of_bytes(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()


def commanded(*arguments: object) -> None:
    """Run a command; its message, where it has one, is raised."""
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    if done.exit_code:
        raise SystemExit(f"{done.exit_code}: {done.stderr.strip().splitlines()[-1]}")


def fitted(folder: Path) -> str:
    """`fit -o`; where the file could not be written, the one that the message names."""
    table = folder.parent.parent / "t.csv"
    options = ["-f", "z = 0.5", "-f", "t0 = 0.3", "--likelihood", "exact", "--quiet", "--seed", 7]
    options += ["--draws", 100, "--tune", 50, "--chains", 2]
    try:
        commanded("fit", table, "v ~ 1", *options, "-o", folder / "fit.nc")
    except SystemExit as ended:
        raise SystemExit(
            ended, digest(inference_data.read(Path(re.search(r"is in (\S+\.nc)", str(ended))[1])))
        ) from None
    return digest(inference_data.read(folder / "fit.nc"))


def several(folder: Path) -> str:
    made = hs.fit_models({"one": model(), "two": model()}, folder=folder, **SAMPLING)
    return digest(made["one"]) + digest(made["two"])


def tables(folder: Path) -> str:
    options = {**SAMPLING, "chains": 1, "method": "laplace", "seed": 1}
    return of_bytes(hs.run_sbc(model(), 4, folder=folder, **options)["mean"].to_numpy().tobytes())


def simulations(folder: Path) -> str:
    simulator = hs.declare({"mu": (0.0, 1.0)}, {"x": "real"})(slow_draw)
    made = simulator.simulate_outcomes(np.full((20_000, 1), 0.5), 1, folder=folder)
    return of_bytes(made.values.tobytes())


def trained(folder: Path) -> str:
    architecture = Architecture(components=3, hidden=8, choice_hidden=8)
    network = train_network(load_simulator("ddm"), RECIPE, folder, architecture, Machine(progress=False))
    return of_bytes(*(x.numpy().tobytes() for x in network.state_dict().values()))


def likelihood(folder: Path) -> str:
    known = hs.load_likelihood("ddm")
    save_weights(known.network, dataclasses.replace(known.card), folder / "ddm.safetensors")
    return hs.load_likelihood(folder / "ddm.safetensors").card.sha256


def figures(folder: Path) -> str:
    experiment = hs.simulate_experiment(4, 20, seed=1)
    known = hs.HierarchicalModel(experiment.formulas, experiment.trials, likelihood="exact")
    posterior = known.fit(draws=20, tune=20, chains=2, seed=1, progress=False)
    files = hs.report.write_figures(known, posterior, experiment.true_values, folder)
    return of_bytes(*(file.read_bytes() for file in files))


def predictions(folder: Path) -> str:
    commanded("predict", folder.parent.parent / "fit.nc", "-o", folder / "p.csv", "--draws", 20)
    return of_bytes((folder / "p.csv").read_bytes())


KINDS: dict[str, Callable[[Path], str]] = {
    "fit": fitted,
    "fit_folder": lambda folder: digest(fit_in_folder(folder)),
    "fit_models": several,
    "run_sbc": tables,
    "simulate_outcomes": simulations,
    "train": trained,
    "likelihood": likelihood,
    "write_figures": figures,
    "predict": predictions,
}


def ended(make: Callable[[Path], str], folder: Path) -> dict[str, object]:
    """What a call gave, and what it said in exceptions and in warnings about files."""
    said, result = [], ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = make(folder)
        except SystemExit as raised:
            said, result = [f"SystemExit: {raised.args[0]}"], raised.args[1] if len(raised.args) > 1 else ""
        except Exception as raised:
            said = [f"{type(raised).__name__}: {raised}"]
    said += [str(w.message) for w in caught if issubclass(w.category, hs.FitFileWarning)]
    left = [str(file.relative_to(folder)) for file in folder.rglob("*.part")]
    return {"said": said, "result": result, "left": left}


def fill(disk: Path, room: int) -> None:
    """Leave so many kB."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(file.tell() - 1024 * room)


def check(kind: str, disk: Path, elsewhere: Path) -> None:
    make = KINDS[kind]
    (elsewhere / kind).mkdir(parents=True)
    whole = make(elsewhere / kind)
    for room in ROOMS:
        folder = disk / f"{kind}-{room}"
        folder.mkdir()
        fill(disk, room)
        first = ended(make, folder)
        (disk / "filler").unlink()
        again = ended(make, folder)
        print(json.dumps({"kind": kind, "room": room, "whole": whole, "first": first, "again": again}), flush=True)


def run() -> None:
    folder, kinds = Path(sys.argv[1]), sys.argv[2:]
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}m", "none", disk], check=True)
    TRIALS.to_csv(folder / "t.csv", index=False)
    inference_data.write(model().fit(**SAMPLING), folder / "fit.nc")
    os.chdir(folder)
    for kind in kinds:
        check(kind, disk, folder / "elsewhere")


if __name__ == "__main__":
    run()
