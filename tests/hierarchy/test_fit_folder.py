"""A fit in a folder: killed, interrupted, out of room or out of time, the same call ends with the same bytes."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from copy import copy
from pathlib import Path

import numpy as np
import pytest
from moments import MOMENTS
from mutations import mutated

import hddm_sbi as hs
from hddm_sbi.inference import inference_data

#: a fit that is slow enough to be killed: the density is a Python function that waits.
FIT = """
import dataclasses, sys, time, warnings
import hddm_sbi as hs

warnings.simplefilter("ignore", hs.ConvergenceWarning)
trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 60, seed=1)
model = hs.HierarchicalModel({"v": "1", "a": "1", "z": 0.5, "t0": 0.3}, trials, likelihood="exact", lapse=0.05)
compiled, calls = model.density.evaluate, []

def evaluate(x):
    calls.append(1)
    time.sleep(float(sys.argv[2]))
    return compiled(x)

model.__dict__["density"] = dataclasses.replace(model.density, evaluate=evaluate)
print("ready", flush=True)
posterior = model.fit(draws=100, tune=100, chains=2, seed=7, folder=sys.argv[1], progress=False)
known = posterior["posterior"]
print("calls", len(calls), "stopped", known.attrs["stopped"] or "no", known.sizes["draw"], flush=True)
"""


FILES = [*(f"chain-{i}.{kind}" for i in range(2) for kind in ("draws", "evaluations"))]
FILES = [*FILES, "lock", "posterior.nc", "recipe.json"]


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "fit.py"
    path.write_text(FIT)
    return path


def start(script, folder, slow=0.0, before=""):
    command = f"{before} exec {sys.executable} {script} {folder} {slow}"
    process = subprocess.Popen(
        ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def finish(process):
    out, errors = process.communicate(timeout=120)
    return process.returncode, out.split(), errors


def draws(folder):
    posterior = inference_data.read(folder / "posterior.nc")
    return {g: inference_data.dataset(posterior, g) for g in ("posterior", "sample_stats", "observed_data")}


@pytest.fixture(scope="module")
def model():
    trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 60, seed=1)
    return hs.HierarchicalModel({"v": "1", "a": "1", "z": 0.5, "t0": 0.3}, trials, likelihood="exact", lapse=0.05)


def fit(model, folder, **options):
    return model.fit(**{"tune": 100, "chains": 2, "seed": 7, "progress": False, "folder": folder, **options})


def counted(model):
    """A copy of a model, and a list with an entry for every evaluation of its density."""
    other, calls = copy(model), []
    compiled = model.density.evaluate

    def evaluate(x):
        calls.append(1)
        return compiled(x)

    other.__dict__["density"] = dataclasses.replace(model.density, evaluate=evaluate)
    return other, calls


def finished(model, folder):
    """The fit of the script, or the rest of it, in this process: how many evaluations it took."""
    watched, calls = counted(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        posterior = fit(watched, folder, draws=100)["posterior"]
    assert (posterior.attrs["stopped"], posterior.sizes["draw"]) == ("", 100)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    return len(calls)


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """An uninterrupted run: its groups, and its evaluations."""
    folder = tmp_path_factory.mktemp("whole") / "fit"
    evaluations = finished(model, folder)
    return draws(folder), evaluations


def wait_for(folder, steps):
    """Until a chain has so many steps on file."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        file = folder / "chain-0.draws"
        if file.exists() and file.stat().st_size >= steps * 16:
            return
        time.sleep(0.01)
    raise AssertionError("no draws on file")


@pytest.mark.parametrize(
    ("number", "steps"), [pytest.param(signal.SIGKILL, 60, marks=pytest.mark.slow), (signal.SIGTERM, 150)]
)
def test_a_killed_fit_goes_on_and_ends_with_the_same_bytes(script, whole, model, tmp_path, number, steps):
    groups, evaluations = whole
    process = start(script, tmp_path / "fit", slow=0.002)
    wait_for(tmp_path / "fit", steps)
    process.send_signal(number)
    code, _, _ = finish(process)
    assert code == -number
    if steps > 100:
        # Readable before it goes on.
        so_far = inference_data.dataset(model.kept_draws(tmp_path / "fit"))
        n = so_far.sizes["draw"]
        assert 0 < n < 100
        assert all(so_far[name].equals(groups["posterior"][name].isel(draw=slice(n))) for name in so_far.data_vars)
    else:
        with pytest.raises(hs.InputError, match="they are still tuning"):
            model.kept_draws(tmp_path / "fit")
    # of the evaluations on file none is made again; a process that is killed loses the last few.
    assert finished(model, tmp_path / "fit") < (0.9 if steps < 100 else 0.6) * evaluations
    again = draws(tmp_path / "fit")
    assert all(again[name].equals(group) for name, group in groups.items())


def test_an_interrupted_fit_keeps_its_draws_and_goes_on(script, whole, model, tmp_path):
    """Meanwhile the folder is no other process's."""
    process = start(script, tmp_path / "fit", slow=0.002)
    wait_for(tmp_path / "fit", 10)
    with pytest.raises(hs.InputError, match="another process is fitting in"):
        fit(model, tmp_path / "fit")
    wait_for(tmp_path / "fit", 130)
    process.send_signal(signal.SIGINT)
    code, said, errors = finish(process)
    assert (code, said[3]) == (0, "interrupted"), errors
    so_far = draws(tmp_path / "fit")["posterior"]
    n = so_far.sizes["draw"]
    assert 0 < n < 100
    assert so_far.equals(whole[0]["posterior"].isel(draw=slice(n)))
    finished(model, tmp_path / "fit")
    assert draws(tmp_path / "fit")["posterior"].equals(whole[0]["posterior"])


def test_a_limit_on_the_size_of_files_loses_no_draws(script, tmp_path):
    """As a full disk: the chains cannot be kept, the posterior cannot be written, and all draws are returned."""
    code, said, errors = finish(start(script, tmp_path / "fit", before="ulimit -f 4;"))
    assert (code, said[2:]) == (0, ["stopped", "no", "100"]), errors
    assert "is incomplete: its chains could not be kept ([Errno 27] File too large)" in errors
    assert "All draws are returned" in errors
    assert not (tmp_path / "fit" / "posterior.nc").exists()


@pytest.mark.filterwarnings("ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning")
def test_the_posterior_of_a_folder_is_read_and_not_sampled_again(model, tmp_path):
    first = fit(model, tmp_path, draws=100)
    written = (tmp_path / "posterior.nc").stat().st_mtime_ns
    again = fit(model, tmp_path, draws=100, seed=None)
    assert (tmp_path / "posterior.nc").stat().st_mtime_ns == written
    assert again["posterior"].equals(first["posterior"])
    longer = fit(model, tmp_path, draws=150)
    assert longer["posterior"].isel(draw=slice(100)).equals(first["posterior"])
    damaged = (tmp_path / "posterior.nc").read_bytes()[:-1000]
    (tmp_path / "posterior.nc").write_bytes(damaged)
    with pytest.warns(hs.FitFileWarning, match=r"moved to posterior\.nc\.damaged and made again"):
        assert fit(model, tmp_path, draws=150)["posterior"].equals(longer["posterior"])
    (tmp_path / "recipe.json").write_text("{")
    with pytest.warns(hs.FitFileWarning, match=r"moved to recipe\.json\.damaged"):
        fit(model, tmp_path, draws=150)
    assert json.loads((tmp_path / "recipe.json").read_text())["seed"] == 7


@pytest.mark.filterwarnings("ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning")
def test_the_folder_of_another_fit_is_refused(model, tmp_path):
    fit(model, tmp_path, draws=20)
    slower = model.with_outcomes(model.trials.values + np.array([0.1, 0.0]))
    for other, options, what in ((slower, {}, "model"), (model, {"tune": 50, "seed": 8}, "tune, seed")):
        with pytest.raises(hs.InputError, match=rf"holds another fit \(of another {what}\); choose another folder"):
            fit(other, tmp_path, draws=20, **options)
    (tmp_path / "file").write_text("")
    with pytest.raises(hs.InputError, match="cannot be written"):
        fit(model, tmp_path / "file", draws=20)
    with pytest.raises(hs.InputError, match="folder must be a path or None; got 3"):
        fit(model, 3)


#: in the default suite; every signal at every moment in `make validate`.
SOME = ["SIGKILL:writing the recipe", "SIGTERM:first step", "full:warm-up", "SIGINT:sampling"]
SOME = [*SOME, "SIGKILL:looking", "SIGKILL:writing"]
EVERY = [f"{kind}:{moment}" for moment in MOMENTS for kind in ("SIGKILL", "SIGTERM", "SIGINT", "full")]


@pytest.mark.parametrize("asked", [SOME, pytest.param(EVERY, marks=pytest.mark.slow)], ids=["some", "every"])
def test_a_fit_that_ends_at_any_moment_goes_on_and_ends_with_the_same_draws(tmp_path, asked):
    """Or it has them all, where nothing could be written; then one sentence says so."""
    script = Path(__file__).parent.parent / "moments.py"
    done = subprocess.run([sys.executable, script, tmp_path, *asked], capture_output=True, text=True, check=True)
    endings = [json.loads(line) for line in done.stdout.splitlines()]
    assert [ending["asked"] for ending in endings] == asked
    for ending in endings:
        kind, first, again = ending["asked"].partition(":")[0], ending["first"], ending["again"]
        assert (again["said"], ending["same"], ending["files"]) == ("", True, FILES), ending
        if kind in ("SIGKILL", "SIGTERM"):
            assert first["code"] == str(-getattr(signal, kind)), ending
        elif kind == "SIGINT":
            kept = first["result"] in ("stopped: interrupted", again["result"])
            assert kept or first["said"].startswith("KeyboardInterrupt: "), ending
        else:
            assert first["result"] == again["result"] or first["said"].startswith("InputError: the folder"), ending
            told = "cannot be written" in first["said"] or "is incomplete" in first["said"]
            assert told or "posterior.nc" in ending["before"], ending


def evaluations(folder):
    return sum(file.stat().st_size for file in folder.glob("*.evaluations")) // (8 * 4)


@pytest.mark.parametrize(("less", "more"), [({"draws": 60}, {"draws": 120}), ({"ess": 40}, {"ess": 2000})])
@pytest.mark.filterwarnings("ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning")
def test_a_fit_that_has_ended_goes_on_for_more(model, tmp_path, less, more):
    watched, calls = counted(model)
    whole = fit(model, None, **more)["posterior"]
    first = fit(watched, tmp_path, **less)["posterior"]
    before, _ = evaluations(tmp_path), calls.clear()
    longer = fit(watched, tmp_path, **more)["posterior"]
    assert longer.equals(whole)
    assert longer.isel(draw=slice(first.sizes["draw"])).equals(first)
    assert first.sizes["draw"] < longer.sizes["draw"]
    # None of those on file is made again; a start for each chain, and one to check it, are not kept.
    assert before > 500
    assert len(calls) <= evaluations(tmp_path) - before + 3


@pytest.mark.parametrize("n", [24, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning")
def test_mutated_folders(model, tmp_path, n):
    """One file of a folder is changed, cut, lengthened, emptied or a folder: the same draws, or a refusal."""
    whole = fit(model, tmp_path / "whole", draws=40, tune=40)["posterior"]
    rng, refused = np.random.default_rng(1), 0
    for i in range(n):
        folder = tmp_path / str(i)
        shutil.copytree(tmp_path / "whole", folder)
        if i % 2:
            (folder / "posterior.nc").unlink()
        victim = folder / sorted(file.name for file in folder.iterdir())[i // 2 % len(list(folder.iterdir()))]
        if i % 12 > 9:
            victim.unlink()
            victim.mkdir()
        elif victim.stat().st_size:
            victim.write_bytes(mutated(victim.read_bytes(), i // 4, rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", hs.FitFileWarning)
                assert fit(model, folder, draws=40, tune=40)["posterior"].equals(whole)
        except hs.InputError:
            refused += 1
    assert 0 < refused < n / 2


def test_sampling_goes_on_until_it_is_enough(model):
    """Bulk and tail of every population quantity, after a number of draws that the seed decides."""
    posterior = fit(model, None, ess=700)
    table = hs.report.summary(model, posterior)
    assert table[["ess_bulk", "ess_tail"]].min().min() >= 700
    assert table["r_hat"].max() <= 1.01
    n = posterior["posterior"].sizes["draw"]
    assert n in hs.Settings(draws=10_000, tune=100, chains=2, seed=7).checkpoints
    again = fit(model, None, ess=700, minutes=100)
    assert again["posterior"].equals(posterior["posterior"])
    assert again["posterior"].attrs["ess"] == 700
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        short = fit(model, None, ess=100_000, draws=200)
    (said,) = (str(w.message) for w in caught if "ess=" in str(w.message))
    assert said.startswith("ess=100000 was not reached: ")
    assert said.endswith("effective draws (bulk or tail) after 200 draws of each of 2 chains; raise draws=200")
    assert short["posterior"].equals(posterior["posterior"].isel(draw=slice(200)))


def test_minutes_are_a_budget(model):
    with pytest.warns(hs.ConvergenceWarning, match="sampling ended early, out of time: the .* draws made so far"):
        posterior = fit(model, None, draws=10_000_000, minutes=0.05)
    assert posterior["posterior"].attrs["interrupted"] == 0
    assert posterior["posterior"].attrs["stopped"] == "out of time"
    assert posterior["posterior"].sizes["draw"] > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ess": 0}, "ess must be a whole number of at least 1; got 0"),
        ({"ess": 1.5}, "ess must be a whole number"),
        ({"minutes": -1}, "minutes must be a positive number or None; got -1"),
        ({"minutes": True}, "minutes must be a positive number"),
        ({"minutes": float("nan")}, "minutes must be a positive number"),
        ({"ess": 100, "quick": True}, "leave out quick="),
        ({"ess": 100, "method": "laplace"}, "method='laplace' takes a fixed number of draws"),
        ({"minutes": 1, "method": "svi"}, "method='svi' takes a fixed number of draws"),
    ],
)
def test_goals_that_cannot_be_are_refused(model, options, message):
    with pytest.raises(hs.InputError, match=message):
        fit(model, None, **options)
