"""Numba's cache of our kernels: its key covers all source that becomes part of one, and damaged files are made again.

Numba watches the one file that a kernel stands in, reads whatever lies in its cache, and refuses to compile where it
cannot write. Importing this module puts a locator of ours before Numba's, for functions of this package alone.

Machine code calls by module, name, types of arguments, and a number that Numba counts anew in every process. Two caches
may have one number, so functions that a function makes must not have one name, or one of them is run for both.

A wheel may bring machine code along (`.ci/wheel.py`), for processors with AVX2 and the Python and Numba that made it.
It is looked at where the user's own cache has nothing; everybody else compiles.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from llvmlite.binding import get_host_cpu_features
from numba.core import caching, config
from numba.core.dispatcher import Dispatcher
from typing_extensions import override

_PACKAGE = "hddm_sbi"
_DIGEST = hashlib.sha256().digest_size
#: Numba's cache, without its types: its own locators, and its files.
_numba: Any = caching
_locators, _plain_file = tuple(_numba.CacheImpl._locator_classes), _numba.IndexDataCacheFile
#: machine code that comes with the package, the processor that it is for, by LLVM's name, and what this one has.
COMPILED, PROCESSOR = Path(__file__).parent / "compiled", "x86-64-v3"
_INSTRUCTIONS = ("avx2", "bmi", "bmi2", "cx16", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sahf", "sse4.2", "xsave")
#: folder of a source file, and the one that the user names -> folder of Numba's cache. Numba would write a file into it
#: for every function, to see whether it can.
_FOLDERS: dict[tuple[str, str], str] = {}


class SourceLocator:
    """Numba's folder for the cache of a function of ours, and a stamp of all that the function is compiled from."""

    def __init__(self, function: FunctionType, file: str, folder: str) -> None:
        self._py_file, self._lineno = file, function.__code__.co_firstlineno
        self._folder, self._stamp = folder, f"{_PACKAGE} {digest(function)}"

    def get_cache_path(self) -> str:
        """The folder."""
        return self._folder

    def ensure_cache_path(self) -> None:
        """Make the folder; Numba's locator has tried to write there."""
        Path(self._folder).mkdir(parents=True, exist_ok=True)

    def get_source_stamp(self) -> str:
        """What is kept is used as long as this is the same."""
        return self._stamp

    def get_disambiguator(self) -> str:
        """A part of the files' names."""
        return str(self._lineno)

    @classmethod
    def from_function(cls, function: FunctionType, file: str) -> SourceLocator | None:
        """The locator of a function of ours, None of any other."""
        if not function.__module__.startswith(_PACKAGE):
            return None
        key = str(Path(file).parent), config.CACHE_DIR  # type: ignore[attr-defined]
        if key not in _FOLDERS:
            found = next((there for kind in _locators if (there := kind.from_function(function, file))), None)
            _FOLDERS[key] = found.get_cache_path() if found else _folder_of_this_process()
        return cls(function, file, _FOLDERS[key])


class CheckedFile(_plain_file):  # type: ignore[valid-type,misc]
    """Files of a cache that end in their sha256. One that is cut, empty or changed counts as none and is made again.

    Numba numbers the files of a function's machine code, and an index says which is whose. Two processes may give one
    number twice, so each file says itself what it is of.
    """

    def __init__(
        self, cache_path: str, filename_base: str, source_stamp: str, compiled: CompiledFile | None = None
    ) -> None:
        super().__init__(cache_path, filename_base, source_stamp)
        self._compiled = compiled

    @override
    def save(self, key: Any, data: Any) -> None:
        try:
            super().save(key, (self._source_stamp, key, data))
        except OSError as failure:
            _say(f"a compiled kernel could not be kept in {self._cache_path} ({failure})")

    @override
    def load(self, key: Any) -> Any:
        found = super().load(key)
        if found is not None and found[:2] == (self._source_stamp, key):
            return found[2]
        return self._compiled.load(key) if self._compiled else None

    @override
    def _load_index(self) -> Any:
        try:
            return super()._load_index() if _is_whole(Path(self._index_path)) else {}
        except (AttributeError, ImportError):
            # A record that older kernels took has another name by now, or is gone.
            return {}

    @override
    def _load_data(self, name: str) -> Any:
        path = Path(self._data_path(name))
        if not _is_whole(path):
            raise FileNotFoundError(path)
        return super()._load_data(name)

    @override
    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[io.BytesIO]:
        content = io.BytesIO()
        yield content
        with super()._open_for_write(filepath) as file:
            file.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest())


class CompiledFile(CheckedFile):
    """Machine code of a function that comes with the package, whatever the processor: by types of arguments and system.

    Its stamp covers what else Numba's key names.
    """

    def __init__(self, source_stamp: str) -> None:
        super().__init__(str(COMPILED), source_stamp.replace(" ", "-"), source_stamp)

    @override
    def save(self, key: Any, data: Any) -> None:
        super().save(_of_any_processor(key), data)

    @override
    def load(self, key: Any) -> Any:
        return super().load(_of_any_processor(key))


def _of_any_processor(key: Any) -> Any:
    types_of_arguments, (system, *_), *_ = key
    return types_of_arguments, system


def keep_with_package() -> None:
    """From now on, what is compiled is kept in `COMPILED`.

    Raises RuntimeError unless the environment tells Numba to compile for `PROCESSOR`.
    """
    if config.CPU_NAME != PROCESSOR or config.CPU_FEATURES != "":  # type: ignore[attr-defined]
        raise RuntimeError(f'expected NUMBA_CPU_NAME="{PROCESSOR}" and NUMBA_CPU_FEATURES="" in the environment')
    COMPILED.mkdir(exist_ok=True)
    _numba.IndexDataCacheFile = _file_with_package


def digest(function: FunctionType) -> str:
    """Hash of a function and of all that becomes part of its machine code: what it calls, the constants it reads."""
    hashed = hashlib.sha256()
    _add(function, hashed.update, set())
    return hashed.hexdigest()


def _add(value: Any, update: Callable[[bytes], object], seen: set[int]) -> None:
    """Add what a value is to a hash."""
    if isinstance(value, Dispatcher):
        _add(dict(value.targetoptions), update, seen)
        value = value.py_func
    if isinstance(value, FunctionType) and value.__module__.startswith(_PACKAGE):
        if id(value) not in seen:
            seen.add(id(value))
            update(value.__qualname__.encode())
            _add_code(value.__code__, value.__globals__, update, seen)
            for cell in value.__closure__ or ():
                _add(cell.cell_contents, update, seen)
    elif isinstance(value, np.ndarray):
        update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
    elif isinstance(value, Mapping | set | frozenset):
        _add(tuple(sorted(value.items() if isinstance(value, Mapping) else value, key=str)), update, seen)
    elif isinstance(value, tuple | list):
        update(f"{len(value)}".encode())
        for part in value:
            _add(part, update, seen)
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        update(repr(value).encode())
    else:
        update(_source_of(value))


def _add_code(code: CodeType, names: Mapping[str, Any], update: Callable[[bytes], object], seen: set[int]) -> None:
    """Add bytecode, its constants, and the global values that it names."""
    update(code.co_code + repr(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _add_code(constant, names, update, seen)
        else:
            _add(constant, update, seen)
    for name in code.co_names:
        if name in names:
            _add(names[name], update, seen)


def _source_of(value: Any) -> bytes:
    """The whole source of the module of ours that something comes from; the name of anything else."""
    module = value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", None))
    file = getattr(sys.modules.get(module), "__file__", None)
    if module.startswith(_PACKAGE) and file:
        return _file_digest(file)
    return f"{module} {getattr(value, '__qualname__', None) or type(value).__qualname__}".encode()


@cache
def _file_digest(file: str) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()


def _is_whole(path: Path) -> bool:
    """Whether a file ends in the hash of what stands before."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return len(content) > _DIGEST and hashlib.sha256(content[:-_DIGEST]).digest() == content[-_DIGEST:]


@cache
def _folder_of_this_process() -> str:
    """A folder that ends with the process, where no other can be written."""
    folder = tempfile.mkdtemp(prefix=f"{_PACKAGE}-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _say("no folder for compiled kernels can be written")
    return folder


@cache
def _say(problem: str) -> None:
    warnings.warn(
        f"{problem}: every new process compiles them again, which takes up to a minute. Set the environment variable "
        "NUMBA_CACHE_DIR to a folder that can be written.",
        UserWarning,
        stacklevel=2,
    )


def _file(cache_path: str, filename_base: str, source_stamp: Any) -> Any:
    """The files of a function's cache: ours are checked."""
    if not _is_ours(source_stamp):
        return _plain_file(cache_path, filename_base, source_stamp)
    return CheckedFile(
        cache_path, filename_base, source_stamp, CompiledFile(source_stamp) if _runs_compiled() else None
    )


def _file_with_package(cache_path: str, filename_base: str, source_stamp: Any) -> Any:
    return (
        CompiledFile(source_stamp) if _is_ours(source_stamp) else _plain_file(cache_path, filename_base, source_stamp)
    )


def _is_ours(source_stamp: Any) -> bool:
    return isinstance(source_stamp, str) and source_stamp.startswith(_PACKAGE)


@cache
def _runs_compiled() -> bool:
    """Whether machine code comes with the package that runs here, and Numba is not told to compile for another."""
    if not COMPILED.is_dir() or config.CPU_NAME or config.CPU_FEATURES:  # type: ignore[attr-defined]
        return False
    features = get_host_cpu_features()
    return all(features.get(name) for name in _INSTRUCTIONS)


_numba.CacheImpl._locator_classes.insert(0, SourceLocator)
_numba.IndexDataCacheFile = _file
