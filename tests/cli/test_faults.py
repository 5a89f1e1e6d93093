"""Commands that are ended at any moment, and files on a disk that is full: in processes of their own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from moments import digest

import hddm_sbi as hs
from hddm_sbi.cli import main
from hddm_sbi.inference import inference_data

TESTS = Path(__file__).parent.parent
FIT = ["fit", "t.csv", "v ~ condition", "-f", "a = 1", "-f", "z = 0.5", "--likelihood", "exact", "--quiet"]
FIT += ["--draws", "4000", "--tune", "2000", "--chains", "2", "--seed", "1", "--folder", "kept", "-o", "fit.nc"]
#: from the first module that is loaded to the last file that is written; three signals go 1 500 steps into 2 000 of
#: tuning, and 3 000 steps further.
MOMENTS = [
    "import:numpy",
    "import:torch",
    "open:t.csv",
    "open:recipe.json.",
    "import:pyro.distributions",
    "open:chain-0.evaluations",
    "steps:500",
    "steps:1000",
    "open:posterior.nc.",
    "open:fit.nc.",
    "os.rename:fit.nc.",
]
SOME = ["SIGINT import:torch", "SIGKILL steps:3000", "SIGTERM open:fit.nc."]
EVERY = [f"{name} {moment}" for moment in MOMENTS for name in ("SIGKILL", "SIGTERM", "SIGINT")]


def command(folder, ending="SIGKILL never", **environment):
    """A fit on the command line, ended: exit code, and what it said on standard error."""
    done = subprocess.run(
        [sys.executable, TESTS / "ended.py", *ending.split(), *FIT],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


def commanded_here(folder, monkeypatch):
    """The same fit, to its end, in the process of the tests."""
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(main, FIT)
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def trials():
    condition = ["easy", "hard"] * 60
    theta = {"v": [2.0, 1.0] * 60, "a": 1.0, "z": 0.5, "t0": 0.3}
    return hs.simulate("ddm", theta, seed=1).assign(condition=condition)


@pytest.mark.parametrize(
    ("endings", "cache"),
    [(SOME, None), pytest.param(EVERY, "cache", marks=pytest.mark.slow)],
    ids=["some", "every, with kernels to compile"],
)
def test_a_command_that_is_ended_again_and_again_ends_with_the_same_bytes(
    trials, tmp_path, monkeypatch, endings, cache
):
    for name in ("whole", "ended"):
        (tmp_path / name).mkdir()
        trials.to_csv(tmp_path / name / "t.csv", index=False)
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / cache)} if cache else {}
    for ending in endings:
        number, moment = getattr(signal, ending.split()[0]), ending.split()[1]
        code, said = command(tmp_path / "ended", ending, **environment)
        assert "Traceback" not in said, said
        if number == signal.SIGKILL:
            assert code == -number, (ending, said)
        else:
            assert (code, said.count("Interrupted")) == (130, 1), (ending, said)
            # All draws are there: they are written, and then the command ends.
            assert (
                "fit.nc." not in moment or "Interrupted: the 4000 draws of 2 chains made so far are in fit.nc" in said
            )
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    for folder in (ended, whole):
        commanded_here(folder, monkeypatch)
    assert digest(inference_data.read(ended / "fit.nc")) == digest(inference_data.read(whole / "fit.nc"))
    # Beside fit.nc a process that is killed while it writes leaves its part of a file; the folder clears away its own.
    kept = sorted(path.name for path in (whole / "kept").iterdir())
    assert sorted(path.name for path in (ended / "kept").iterdir()) == kept
    for name in ("chain-0.draws", "chain-1.draws", "chain-0.evaluations", "chain-1.evaluations"):
        assert (ended / "kept" / name).read_bytes() == (whole / "kept" / name).read_bytes()


def on_a_small_disk(script, *arguments):
    """Run a script where a file system of its own can be mounted; skip where the system does not allow that."""
    apart = ["unshare", "--mount", "--map-root-user"]
    try:
        allowed = subprocess.run([*apart, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare to mount a small disk with")
    if allowed.returncode:
        pytest.skip(f"a small disk cannot be mounted: {allowed.stderr.strip()}")
    done = subprocess.run([*apart, sys.executable, TESTS / script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


KINDS = ["fit", "fit_folder", "fit_models", "run_sbc", "simulate_outcomes", "train", "likelihood", "write_figures"]
#: those whose draws come back although nothing could be written.
DRAWS = {"fit", "fit_folder"}


@pytest.mark.parametrize(
    "kinds",
    [["fit_folder", "likelihood"], pytest.param([*KINDS, "predict"], marks=pytest.mark.slow)],
    ids=["some", "every"],
)
def test_a_full_disk_costs_a_sentence_and_the_same_call_goes_on(tmp_path, kinds):
    """Rooms from none to more than the smallest file needs; draws that were made are returned or in another place."""
    endings = on_a_small_disk("full_disk.py", tmp_path, *kinds)
    assert {ending["kind"] for ending in endings} == set(kinds)
    for ending in endings:
        first, again = ending["first"], ending["again"]
        assert again == {"said": [], "result": ending["whole"], "left": []}, ending
        assert first["left"] == [], ending
        if first["result"] == ending["whole"] and not first["said"]:
            continue
        (said,) = first["said"]
        assert "No space left on device" in said, ending
        assert said.startswith(("InputError: ", "OSError: ", "SystemExit: 1: Error: ", "the folder ")), ending
        refused = "cannot be written" in said
        assert ending["kind"] not in DRAWS or refused or first["result"] == ending["whole"], ending
    assert any(ending["first"]["said"] for ending in endings)
