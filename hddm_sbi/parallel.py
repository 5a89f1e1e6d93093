"""Independent tasks by joblib, on this machine or a cluster: what is done is kept, and never done twice."""

from __future__ import annotations

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

from hddm_sbi.errors import InputError

Result = TypeVar("Result")
Arguments = tuple[Any, ...]

#: workers that may die one after the other without a result in between, before the run ends.
_DEATHS = 2


class WorkerWarning(UserWarning):
    """A worker process died; the message says what is kept. The run goes on."""


@dataclass(frozen=True)
class ResultStore(Generic[Result]):
    """Where results lie: one file per task, there as a whole or not at all.

    suffix: of the files, with its dot. write: result, path -> file. read: path -> result.
    """

    folder: Path
    suffix: str
    write: Callable[[Result, Path], object]
    read: Callable[[Path], Result]

    def path(self, name: str) -> Path:
        """The file of one task."""
        return self.folder / f"{name}{self.suffix}"

    def keep(self, name: str, result: Result) -> None:
        """Write one result."""
        partial = self.folder / f"{name}.{os.getpid()}.part"
        try:
            self.write(result, partial)
            partial.replace(self.path(name))
        finally:
            partial.unlink(missing_ok=True)

    @contextmanager
    def marked(self) -> Iterator[Path]:
        """A file in the folder, made where need be, by which workers know whether they see the same folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mark = self.folder / f"{uuid.uuid4()}.running"
        mark.touch()
        try:
            yield mark
        finally:
            mark.unlink(missing_ok=True)


@contextmanager
def run_folder(folder: Path | str | None) -> Iterator[Path]:
    """The folder of a run, made where need be; None: a temporary one, which outlives the run only where it fails."""
    chosen = Path(tempfile.mkdtemp(prefix="hddm_sbi-")) if folder is None else Path(folder)
    chosen.mkdir(parents=True, exist_ok=True)
    yield chosen
    if folder is None:
        shutil.rmtree(chosen)


def check_recipe(folder: Path, recipe: Mapping[str, object]) -> None:
    """Write down what decides the results, as JSON knows it. Raises InputError where the folder holds another run's."""
    path = folder / "recipe.json"
    if path.exists() and json.loads(path.read_text()) != json.loads(json.dumps(recipe)):
        raise InputError(
            f"{str(folder)!r} holds a run with another recipe ({path.name}); choose another folder or remove it."
        )
    path.write_text(json.dumps(recipe, indent=1))


def run_tasks(
    function: Callable[..., Result],
    tasks: Mapping[str, Arguments],
    store: ResultStore[Result] | None = None,
    *,
    n_jobs: int | None = None,
    unit: str = "tasks",
    progress: bool = True,
) -> dict[str, Result]:
    """function(*arguments) of every task by its name, in the order of `tasks`, whatever the order they end in.

    function, arguments: picklable; a result, never None, depends on nothing else, so that any number of processes makes
    the same. store: keeps every result as soon as it is there, written by the worker itself where it sees the folder,
    else by this process; tasks whose file is there are not run. n_jobs: processes; None for as many as
    `joblib.parallel_config` says, or one. The backend is joblib's, chosen there as well.

    A worker that dies costs what the workers were at, which runs again. Whatever else ends the run (an error, Ctrl-C,
    a worker that dies every time) is raised with a note on what is done and where it is.

    >>> run_tasks(pow, {"four": (2, 2), "eight": (2, 3)}, progress=False)
    {'four': 4, 'eight': 8}
    """
    done: dict[str, Any] = {}
    left = {name: given for name, given in tasks.items() if store is None or not store.path(name).exists()}
    bar = {"desc": unit, "total": len(tasks), "initial": len(tasks) - len(left), "disable": not progress}
    # What is one task in all is not worth a process; what is left of many may be what killed one.
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
    return {name: done[name] if store is None else store.read(store.path(name)) for name in tasks}


@dataclass(frozen=True)
class _Task:
    """What a worker does: its name and result, or None for a result that lies in the store already."""

    function: Callable[..., Any]
    store: ResultStore[Any] | None
    mark: Path | None

    def __call__(self, name: str, given: Arguments) -> tuple[str, Any]:
        try:
            result = self.function(*given)
        except Exception as failure:
            failure.add_note(f"This was raised in {name!r}.")
            raise
        if self.store is None or self.mark is None or not self.mark.exists():
            return name, result
        self.store.keep(name, result)
        return name, None

    def is_kept(self, name: str) -> bool:
        """Whether the store has the result, which a worker may have written without living to say so."""
        return self.store is not None and self.store.path(name).exists()


def _results(task: _Task, left: dict[str, Arguments], n_jobs: int | None) -> Generator[tuple[str, Any], None, None]:
    """Names and results of what is left, as they come, the tasks of dead workers included."""
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
            for name in [name for name in left if task.is_kept(name)]:
                yield name, None
                del left[name]
            if deaths == _DEATHS:
                raise
            first_line = str(death).strip().partition("\n")[0]
            warnings.warn(
                f"a worker died ({first_line}): {len(left)} tasks that have no result yet run again",
                WorkerWarning,
                stacklevel=4,
            )


def _stream(
    task: _Task, tasks: list[tuple[str, Arguments]], n_jobs: int | None
) -> Generator[tuple[str, Any], None, None]:
    """Names and results from joblib, each as soon as it is there."""
    import joblib

    # One task a batch: otherwise a result would wait for its neighbours, and be lost with them.
    workers = joblib.Parallel(n_jobs=n_jobs, batch_size=1, return_as="generator_unordered")
    stream = workers(joblib.delayed(task)(name, given) for name, given in tasks)
    with warnings.catch_warnings():
        # loky replaces a worker that has grown, as by its first import of torch. It says so in a thread of its own,
        # which would end, and wait forever, where a warning is an error.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        try:
            yield from stream
        finally:
            # Of a run that ended early, joblib says that its tasks were cancelled; so do we, with where the others are.
            warnings.simplefilter("ignore")
            stream.close()


def _what_is_kept(tasks: Mapping[str, Arguments], store: ResultStore[Result] | None, unit: str) -> str:
    if store is None:
        return f"The {unit} of this call are not kept; the same call begins again."
    done = sum(store.path(name).exists() for name in tasks)
    return (
        f"{done} of {len(tasks)} {unit} are done and lie in {str(store.folder)!r}; the same call with that folder goes "
        "on from there."
    )
