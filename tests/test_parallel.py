"""Independent tasks: kept as they end, never done twice, and where they are said when a run ends early."""

import joblib
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from seeded import fails_at_3, interrupted_at_3, killed_always, normal, recorded

from hddm_sbi import parallel
from hddm_sbi.errors import FitFileWarning, InputError
from hddm_sbi.parallel import ResultStore, WorkerWarning, check_recipe, run_folder, run_tasks

SEEDS = {f"seed-{seed}": (seed,) for seed in range(6)}


def arrays(folder):
    return ResultStore(folder, ".safetensors", save_file, load_file)


def with_folder(folder):
    return {name: (*given, folder) for name, given in SEEDS.items()}


def same(one, other):
    return list(one) == list(other) and all(np.array_equal(one[name]["x"], other[name]["x"]) for name in one)


def test_a_task_that_always_kills_ends_the_run_and_says_where_the_others_are(tmp_path):
    with (
        joblib.parallel_config(backend="loky", n_jobs=2),
        pytest.warns(WorkerWarning),
        pytest.raises(InputError, match=r"the worker processes die .* fewer than n_jobs=") as stop,
    ):
        run_tasks(killed_always, with_folder(tmp_path), arrays(tmp_path), progress=False)
    kept = sorted(path.stem for path in tmp_path.glob("*.safetensors"))
    # Of the three before it, one may still have been under way in the other worker.
    assert len(kept) >= 2
    assert "seed-3" not in kept
    assert f"{len(kept)} of 6 tasks are done and lie in {str(tmp_path)!r}" in stop.value.__notes__[-1]
    calls = {name: (tmp_path / f"called-{name.removeprefix('seed-')}") for name in kept}
    before = {name: path.read_text() for name, path in calls.items()}
    made = run_tasks(recorded, with_folder(tmp_path), arrays(tmp_path), progress=False)
    assert same(made, {key: normal(*given) for key, given in SEEDS.items()})
    assert before == {name: path.read_text() for name, path in calls.items()}


@pytest.mark.parametrize(("function", "error"), [(fails_at_3, ValueError), (interrupted_at_3, KeyboardInterrupt)])
def test_a_run_that_ends_early_keeps_what_is_done(function, error, tmp_path):
    with pytest.raises(error) as stop:
        run_tasks(function, with_folder(tmp_path), arrays(tmp_path), progress=False)
    assert f"3 of 6 tasks are done and lie in {str(tmp_path)!r}" in stop.value.__notes__[-1]
    if error is ValueError:
        assert stop.value.__notes__[0] == "This was raised in 'seed-3'."
    run_tasks(recorded, with_folder(tmp_path), arrays(tmp_path), progress=False)
    assert (tmp_path / "called-0").read_text() == "x"


def test_an_error_in_a_worker_names_its_task(tmp_path):
    with pytest.raises(ValueError, match="three is unlucky") as stop:
        run_tasks(fails_at_3, with_folder(tmp_path), arrays(tmp_path), n_jobs=2, progress=False)
    assert "This was raised in 'seed-3'." in stop.value.__notes__


def test_a_worker_that_does_not_see_the_folder_sends_its_results(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel._Task, "__call__", lambda task, name, given: (name, task.function(*given)))
    made = run_tasks(recorded, with_folder(tmp_path), arrays(tmp_path), progress=False)
    assert same(made, {key: normal(*given) for key, given in SEEDS.items()})
    assert len(list(tmp_path.glob("*.safetensors"))) == len(SEEDS)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    refused = pytest.raises(InputError, match=r"file' cannot be written .*; choose another folder")
    with refused, run_folder(tmp_path / "file"):
        pass
    (tmp_path / "recipe.json").mkdir()
    with pytest.raises(InputError, match="is damaged, so that nothing says which run"):
        check_recipe(tmp_path, {"seed": 1})

    def read_only(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.touch", read_only)
    with pytest.raises(InputError, match=r"cannot be written \(\[Errno 13\] Permission denied\)"):
        _kept(tmp_path / "new", 100)


def test_a_result_without_its_hash_is_made_again(tmp_path):
    _kept(tmp_path, 100)
    (tmp_path / "b.txt.sha256").unlink()
    with pytest.warns(FitFileWarning, match=r"b\.txt\.sha256, which vouches for it, is missing"):
        assert _kept(tmp_path, 100) == ({"a": 101, "b": 102}, [2])


def test_without_a_store_the_note_says_so():
    with pytest.raises(ZeroDivisionError) as stop:
        run_tasks(divmod, {"fine": (1, 1), "not": (1, 0)}, progress=False)
    assert stop.value.__notes__[-1] == "The tasks of this call are not kept; the same call begins again."


def test_a_result_that_cannot_be_written_leaves_no_file(tmp_path):
    def full(result, path):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left") as stop:
        run_tasks(normal, SEEDS, ResultStore(tmp_path, ".npy", full, load_file), progress=False)
    assert "0 of 6 tasks are done" in stop.value.__notes__[-1]


def test_a_folder_is_of_one_recipe(tmp_path):
    for _ in range(2):
        with run_folder(tmp_path / "a") as folder:
            assert folder == tmp_path / "a"
            check_recipe(folder, {"seed": 1, "box": (0, 1)})
    with pytest.raises(InputError, match="holds a run with another recipe"):
        check_recipe(tmp_path / "a", {"seed": 2})


def test_a_temporary_folder_outlives_only_a_run_that_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel.tempfile, "tempdir", str(tmp_path))
    with run_folder(None) as folder:
        assert folder.parent == tmp_path
    assert not folder.exists()
    with pytest.raises(ValueError, match="unlucky"), run_folder(None) as folder:
        run_tasks(fails_at_3, with_folder(tmp_path), arrays(folder), progress=False)
    assert len(list(folder.glob("*.safetensors"))) == 3


def _kept(folder, results):
    write, read = lambda result, path: path.write_text(str(result)), lambda path: int(path.read_text())
    store = ResultStore(folder, ".txt", write, read)
    calls = []
    return run_tasks(lambda x: calls.append(x) or results + x, {"a": (1,), "b": (2,)}, store, progress=False), calls


@pytest.mark.parametrize("damage", [b"", b"1", b"hello", b"101 ", b"\xff"])
def test_a_damaged_result_is_moved_aside_and_made_again(tmp_path, damage):
    assert _kept(tmp_path, 100) == ({"a": 101, "b": 102}, [1, 2])
    assert _kept(tmp_path, 100) == ({"a": 101, "b": 102}, [])
    (tmp_path / "a.txt").write_bytes(damage)
    with pytest.warns(FitFileWarning, match=r"a\.txt' is moved to a\.txt\.damaged and made again"):
        assert _kept(tmp_path, 100) == ({"a": 101, "b": 102}, [1])
    assert (tmp_path / "a.txt.damaged").read_bytes() == damage
    assert _kept(tmp_path, 100) == ({"a": 101, "b": 102}, [])


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff"])
def test_a_damaged_recipe_does_not_vouch_for_results(tmp_path, damage):
    check_recipe(tmp_path, {"seed": 1})
    (tmp_path / "recipe.json").write_bytes(damage)
    check_recipe(tmp_path, {"seed": 2})
    _kept(tmp_path, 100)
    (tmp_path / "recipe.json").write_bytes(damage)
    with pytest.raises(InputError, match=r"recipe\.json in .* is damaged"):
        check_recipe(tmp_path, {"seed": 2})
