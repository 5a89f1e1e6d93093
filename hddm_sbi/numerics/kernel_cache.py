"""Numba's cache of our kernels: its key covers all source that becomes part of one, and damaged files are made again.

Numba watches the one file that a kernel stands in, reads whatever lies in its cache, and refuses to compile where it
cannot write. Importing this module puts a locator of ours before Numba's, for functions of this package alone.

Machine code calls by module, name, types of arguments, and a number that Numba counts anew in every process. Two caches
may have one number, so functions that a function makes must not have one name, or one of them is run for both.
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
from numba.core import caching, config
from numba.core.dispatcher import Dispatcher
from typing_extensions import override

_PACKAGE = "hddm_sbi"
_DIGEST = hashlib.sha256().digest_size
#: Numba's cache, without its types: its own locators, and its files.
_numba: Any = caching
_locators, _plain_file = tuple(_numba.CacheImpl._locator_classes), _numba.IndexDataCacheFile
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

    @override
    def save(self, key: Any, data: Any) -> None:
        try:
            super().save(key, (self._source_stamp, key, data))
        except OSError as failure:
            _say(f"a compiled kernel could not be kept in {self._cache_path} ({failure})")

    @override
    def load(self, key: Any) -> Any:
        found = super().load(key)
        return found[2] if found is not None and found[:2] == (self._source_stamp, key) else None

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
    ours = isinstance(source_stamp, str) and source_stamp.startswith(_PACKAGE)
    return (CheckedFile if ours else _plain_file)(cache_path, filename_base, source_stamp)


_numba.CacheImpl._locator_classes.insert(0, SourceLocator)
_numba.IndexDataCacheFile = _file
