"""Independent tasks by joblib, on this machine or a cluster: every result is kept and never computed twice."""

import hashlib
import json
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tqdm import tqdm

from hddm_sbi.errors import FitFileWarning, InputError

Result = TypeVar("Result")
Arguments = tuple[Any, ...]

#: deaths of workers in a row, without a result in between, that end the run.
_DEATHS = 2


class WorkerWarning(UserWarning):
    """A worker process died; the message says what is kept. The run goes on.

    Examples
    --------
    >>> import warnings
    >>> import hddm_sbi as hs
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", hs.WorkerWarning)  # end the run instead
    """


@dataclass(frozen=True)
class ResultStore(Generic[Result]):
    """A folder of results: one file per task, complete or absent.

    suffix: end of the files' names, with its dot. write: result, path -> file. read: path -> result.
    """

    folder: Path
    suffix: str
    write: Callable[[Result, Path], object]
    read: Callable[[Path], Result]

    def path(self, name: str) -> Path:
        """The file of one task."""
        return self.folder / f"{name}{self.suffix}"

    def has(self, name: str) -> bool:
        """Whether the result of a task is there."""
        return self.path(name).exists()

    def keep(self, name: str, result: Result) -> None:
        """Write one result, and its hash beside it."""
        partial = self.folder / f"{name}.{os.getpid()}.part"
        try:
            self.write(result, partial)
            _write_whole(self._hash_path(name), _hash(partial))
            partial.replace(self.path(name))
        finally:
            partial.unlink(missing_ok=True)

    def found(self, name: str) -> Result | None:
        """The result of a task, None where it is not there; a damaged file is moved aside, with a warning."""
        path, beside = self.path(name), self._hash_path(name)
        if not path.exists():
            return None
        try:
            if beside.read_text() != _hash(path):
                raise ValueError("it is not what was written")
            return self.read(path)
        except FileNotFoundError:
            _move_aside(path, f"{beside.name}, which vouches for it, is missing")
        except Exception as reason:
            _move_aside(path, str(reason))
            beside.replace(beside.with_name(f"{beside.name}.damaged"))
        return None

    def _hash_path(self, name: str) -> Path:
        return self.folder / f"{name}{self.suffix}.sha256"

    @contextmanager
    def marked(self) -> Iterator[Path]:
        """A file in the folder, which is created if it is missing; a worker that sees the file sees the folder."""
        mark = self.folder / f"{uuid.uuid4()}.running"
        with _writable(self.folder):
            mark.touch()
        try:
            yield mark
        finally:
            mark.unlink(missing_ok=True)


@contextmanager
def run_folder(folder: Path | str | None) -> Iterator[Path]:
    """The folder of a run, created if it is missing; None: a temporary one, removed at the end unless the run fails."""
    path = Path(tempfile.mkdtemp(prefix="hddm_sbi-")) if folder is None else Path(folder)
    with _writable(path):
        pass
    yield path
    if folder is None:
        shutil.rmtree(path)


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """A folder, created if it is missing, for something to be written there. Raises InputError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as reason:
        raise InputError(f"the folder {str(folder)!r} cannot be written ({reason}); choose another folder.") from reason


def check_recipe(folder: Path, recipe: Mapping[str, object]) -> None:
    """Write what decides the results into the folder, as JSON. Raises InputError if the folder holds another run."""
    path = folder / "recipe.json"
    try:
        known = json.loads(path.read_text()) if path.exists() else None
    except (ValueError, OSError, RecursionError):
        # The results may be those of another run: nothing says whose they are.
        results = [file.name for file in folder.iterdir() if file != path and file.suffix != ".sha256"]
        if results:
            raise InputError(
                f"{path.name} in {str(folder)!r} is damaged, so that nothing says which run its results are of; choose "
                "another folder or remove it."
            ) from None
        known = None
    if known is not None and known != json.loads(json.dumps(recipe)):
        raise InputError(
            f"{str(folder)!r} holds a run with another recipe ({path.name}); choose another folder or remove it."
        )
    with _writable(folder):
        _write_whole(path, json.dumps(recipe, indent=1))


def _write_whole(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _move_aside(path: Path, reason: str) -> None:
    damaged = path.with_name(f"{path.name}.damaged")
    path.replace(damaged)
    warnings.warn(
        f"{str(path)!r} is moved to {damaged.name} and made again: {reason.splitlines()[0] if reason else 'damaged'}",
        FitFileWarning,
        stacklevel=4,
    )


def run_tasks(
    function: Callable[..., Result],
    tasks: Mapping[str, Arguments],
    store: ResultStore[Result] | None = None,
    *,
    n_jobs: int | None = None,
    unit: str = "tasks",
    progress: bool = True,
) -> dict[str, Result]:
    """The result of function(*arguments) for every task, by its name and in the order of `tasks`.

    A worker that dies costs the tasks that the workers were running, which run again. Whatever else ends the run (an
    error, Ctrl-C, a worker that dies every time) is raised with a note on what is done and where it is.

    function: picklable; its result, never None, depends on its arguments alone. tasks: name -> arguments, picklable.
    store: keeps every result as soon as it is there (the worker writes it where it sees the folder, else this process);
    tasks whose file is there do not run. n_jobs: number of processes, None for as many as `joblib.parallel_config`
    says, which chooses the backend too, or one. unit: name of the tasks in the progress bar and in messages.

    >>> run_tasks(pow, {"four": (2, 2), "eight": (2, 3)}, progress=False)
    {'four': 4, 'eight': 8}
    """
    done: dict[str, Any] = {}
    if store is not None:
        done = {name: result for name in tasks if (result := store.found(name)) is not None}
    left = {name: arguments for name, arguments in tasks.items() if name not in done}
    bar = {"desc": unit, "total": len(tasks), "initial": len(tasks) - len(left), "disable": not progress}
    # Run a single task in this process. But isolate the last task of several: it may be the one that killed a worker.
    processes = n_jobs if len(tasks) > 1 else 1
    try:
        with (
            tqdm(**bar) as shown,
            nullcontext() if store is None else store.marked() as mark,
            closing(_results(_Task(function, store, mark), left, processes)) as results,
        ):
            for name, result in results:
                if store is None:
                    done[name] = result
                elif result is not None:
                    store.keep(name, result)
                shown.update()
    except BaseException as stop:
        stop.add_note(_what_is_kept(tasks, store, unit))
        raise
    return {name: done[name] if name in done else store.read(store.path(name)) for name in tasks}  # type: ignore[union-attr]


@dataclass(frozen=True)
class _Task:
    """Runs one task in a worker; returns its name, and its result or None if the result is in the store already."""

    function: Callable[..., Any]
    store: ResultStore[Any] | None
    mark: Path | None

    def __call__(self, name: str, arguments: Arguments) -> tuple[str, Any]:
        try:
            result = self.function(*arguments)
        except Exception as failure:
            failure.add_note(f"This was raised in {name!r}.")
            raise
        if self.store is None or self.mark is None or not self.mark.exists():
            return name, result
        self.store.keep(name, result)
        return name, None


def _results(task: _Task, left: dict[str, Arguments], n_jobs: int | None) -> Generator[tuple[str, Any], None, None]:
    """Names and results of the tasks that are left, as they end; those of dead workers run again."""
    deaths = 0
    while left:
        try:
            with closing(_stream(task, list(left.items()), n_jobs)) as stream:
                for name, result in stream:
                    yield name, result
                    del left[name]
                    deaths = 0
        except BrokenExecutor as death:
            deaths += 1
            # A worker may have written a result and died before it said so.
            for name in [name for name in left if task.store is not None and task.store.has(name)]:
                yield name, None
                del left[name]
            first_line = str(death).strip().partition("\n")[0]
            if deaths == _DEATHS:
                raise InputError(
                    f"the worker processes die ({first_line}); most often the memory is too small for so many: take "
                    f"fewer than n_jobs={n_jobs}."
                ) from death
            warnings.warn(
                f"a worker died ({first_line}): {len(left)} tasks that have no result yet run again",
                WorkerWarning,
                stacklevel=4,
            )


def _stream(
    task: _Task, tasks: list[tuple[str, Arguments]], n_jobs: int | None
) -> Generator[tuple[str, Any], None, None]:
    """Names and results from joblib, each as soon as its task ends."""
    import joblib

    # One task a batch: in a larger one a result would wait for its neighbours, and be lost with them.
    workers = joblib.Parallel(n_jobs=n_jobs, batch_size=1, return_as="generator_unordered")
    stream = workers(joblib.delayed(task)(name, arguments) for name, arguments in tasks)
    with warnings.catch_warnings():
        # loky replaces a worker that has grown, for example by its first import of torch, and warns in a thread of its
        # own. Where warnings are errors, that thread would end and the run would wait forever.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        try:
            yield from stream
        finally:
            # When a run ends early, joblib warns that tasks were cancelled; `_what_is_kept` says more.
            warnings.simplefilter("ignore")
            stream.close()


def _what_is_kept(tasks: Mapping[str, Arguments], store: ResultStore[Result] | None, unit: str) -> str:
    if store is None:
        return f"The {unit} of this call are not kept; the same call begins again."
    done = sum(map(store.has, tasks))
    return (
        f"{done} of {len(tasks)} {unit} are done and lie in {str(store.folder)!r}; the same call with that folder goes "
        "on from there."
    )
