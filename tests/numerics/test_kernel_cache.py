"""The cache of compiled kernels: stale, damaged, unwritable, full; each in processes of its own, each right."""

import gc
import os
import platform
import shutil
import subprocess
import sys

import pytest
from numba.core.dispatcher import Dispatcher

import hddm_sbi as hs
from hddm_sbi.numerics import kernel_cache
from hddm_sbi.numerics.kernel_cache import digest
from hddm_sbi.simulation.decision_model import _races, _trials

#: a module with a constant and a function that another module's kernel inlines, and that one.
INNER = """
import numba as nb
FACTOR = {factor}

@nb.njit
def scaled(x):
    return FACTOR * x{more}
"""
OUTER = """
import numba as nb
from hddm_sbi.inner import FACTOR, scaled

def closing(shift):
    @nb.njit
    def shifted(x):
        return x + shift
    return shifted

shifted = closing({shift})

@nb.njit(cache=True)
def kernel(x):
    return shifted(scaled(x)) + 0.0 * FACTOR
"""
#: the same module with a kernel that takes a record.
RECORD = """
from typing import NamedTuple
import numba as nb

class {name}(NamedTuple):
    one: float
    two: float

@nb.njit(cache=True)
def added(pair):
    return pair.one + pair.two

def kernel(x):
    return added({name}(x, {value}))

kernel.stats = added.stats
"""
#: two kernels of one place, as our factories name them.
MADE = """
import numba as nb

def made(factor):
    def times(x):
        return factor * x
    times.__qualname__ += str(factor)
    return nb.njit(cache=True)(times)

twice, thrice = made(2.0), made(3.0)

def kernel(x):
    return 10.0 * twice(x) + thrice(x)

class Stats:
    @property
    def cache_hits(self):
        return {"both": min(sum(f.stats.cache_hits.values()) for f in (twice, thrice))}

kernel.stats = Stats()
"""
RUN = """
import importlib.util, sys, pathlib
import hddm_sbi.numerics
for folder in sys.argv[1:]:
    for name in ("inner", "outer"):
        spec = importlib.util.spec_from_file_location(f"hddm_sbi.{name}", pathlib.Path(folder) / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[f"hddm_sbi.{name}"] = module
        spec.loader.exec_module(module)
    kernel = sys.modules["hddm_sbi.outer"].kernel
    print(kernel(2.0), sum(kernel.stats.cache_hits.values()))
"""


def write(folder, factor=3.0, more="", shift=0.0):
    (folder / "inner.py").write_text(INNER.format(factor=factor, more=more))
    (folder / "outer.py").write_text(OUTER.format(shift=shift))


def run_each(*folders, before="", **environment):
    """In one process: value of every folder's kernel, and whether it came from the cache; what the process said."""
    done = subprocess.run(
        [sys.executable, "-c", before + RUN, *map(str, folders)],
        env={**os.environ, "NUMBA_CACHE_DIR": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = (line.split() for line in done.stdout.splitlines())
    return [(float(value), int(hits) > 0) for value, hits in lines], done.stderr


def run(folder, **environment):
    """Value of the kernel, whether it came from the cache, and what the process said."""
    (known,), said = run_each(folder, **environment)
    return *known, said


@pytest.fixture
def package(tmp_path):
    write(tmp_path)
    return tmp_path


def test_kernels_of_one_place_are_kept_beside_each_other(package):
    """Where they had one name, each process threw away what another had compiled."""
    (package / "outer.py").write_text(MADE)
    assert run(package)[:2] == (46.0, False)
    assert run(package)[:2] == (46.0, True)


def test_machine_code_of_another_kernel_is_not_run(package):
    """Two processes gave one number to two files, and what was read was what the other one had written."""
    (package / "outer.py").write_text(MADE)
    run(package)
    one, other = (package / "__pycache__").glob("outer.*.nbc")
    shutil.copy(one, other)
    assert run(package)[:2] == (46.0, False)
    assert run(package)[:2] == (46.0, True)


def test_no_two_kernels_have_one_name():
    """Machine code of two processes calls by names: the first crossings of two models had one, and after simulations of
    ddm_exp those of ornstein were of ddm_exp (a mean of .51 s for 1.06)."""
    for name in hs.models().index:
        hs.load_simulator(name)
    for made in (_trials(0, 4), _trials(0, 5), _trials(2, 1), _races(2, 1, 3), _races(3, 1, 3)):
        assert isinstance(made, Dispatcher)
    digests = {}
    for kernel in (x for x in gc.get_objects() if issubclass(type(x), Dispatcher)):
        function = kernel.py_func
        if function.__module__.startswith("hddm_sbi"):
            digests.setdefault((function.__module__, function.__qualname__), set()).add(digest(function))
    assert sum("first_crossing" in name for _, name in digests) >= 4
    assert [name for name, found in digests.items() if len(found) > 1] == []


def test_a_kernel_is_compiled_again_when_anything_in_it_changes(package):
    assert run(package)[:2] == (6.0, False)
    assert run(package)[:2] == (6.0, True)
    write(package, factor=5.0)
    assert run(package)[:2] == (10.0, False)
    write(package, factor=5.0, more=" + 1.0")
    assert run(package)[:2] == (11.0, False)
    write(package, factor=5.0, more=" + 1.0", shift=2.0)
    assert run(package)[:2] == (13.0, False)
    os.utime(package / "inner.py", (1, 1))
    assert run(package)[:2] == (13.0, True)


def test_a_kernel_of_a_record_that_was_renamed_is_compiled_again(package):
    """The index of the old file names a type that is no longer there."""
    for name, value in (("Pair", 1.0), ("Two", 2.0)):
        (package / "outer.py").write_text(RECORD.format(name=name, value=value))
        assert run(package)[:2] == (2.0 + value, False)
        assert run(package)[:2] == (2.0 + value, True)


def test_damaged_files_are_made_again(package, tmp_path_factory):
    run(package)
    damaged = {}
    for kind in ("nbi", "nbc"):
        (path,) = (package / "__pycache__").glob(f"outer.*.{kind}")
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]
        for damage, left in {
            "empty": b"",
            "cut": content[:middle],
            "bit": flipped,
            "text": b"hello",
            "gone": None,
        }.items():
            folder = damaged[kind, damage] = tmp_path_factory.mktemp("damaged") / "package"
            shutil.copytree(package, folder)
            victim = folder / "__pycache__" / path.name
            if left is None:
                victim.unlink()
            else:
                victim.write_bytes(left)
    whole = tmp_path_factory.mktemp("whole") / "package"
    shutil.copytree(package, whole)
    assert run(whole)[:2] == (6.0, True)
    for from_cache in (False, True):
        known, _ = run_each(*damaged.values())
        assert dict(zip(damaged, known, strict=True)) == dict.fromkeys(damaged, (6.0, from_cache))


def test_without_a_folder_that_can_be_written_it_works_and_says_so_once(package, tmp_path):
    """Root writes wherever there are folders: so here are files in their place."""
    (package / "__pycache__").write_text("")
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache", "PYTHONDONTWRITEBYTECODE": "1"}
    value, _, said = run(package, **nowhere)
    assert value == 6.0
    assert said.count("UserWarning: no folder for compiled kernels can be written") == 1
    assert "NUMBA_CACHE_DIR" in said
    assert run(package, **nowhere, NUMBA_CACHE_DIR=str(tmp_path / "cache"))[1:] == (False, "")
    assert run(package, **nowhere, NUMBA_CACHE_DIR=str(tmp_path / "cache"))[1:] == (True, "")


def test_two_processes_at_an_empty_cache_agree(package):
    command, environment = [sys.executable, "-c", RUN, str(package)], {**os.environ, "NUMBA_CACHE_DIR": ""}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    assert [float(each.communicate()[0].split()[0]) for each in both] == [6.0, 6.0]
    assert run(package)[:2] == (6.0, True)


#: before the others: where machine code that comes with the package lies.
WITH_PACKAGE = """
import sys, pathlib
from hddm_sbi.numerics import kernel_cache
kernel_cache.COMPILED = pathlib.Path({folder!r})
{then}
"""
KEPT = "kernel_cache.keep_with_package()"
FOR_ANY_PROCESSOR = {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": ""}


@pytest.fixture
def coming_along(package, tmp_path_factory):
    """A folder with machine code of the package, compiled for any processor with AVX2."""
    folder = tmp_path_factory.mktemp("compiled")
    known, _ = run_each(package, before=WITH_PACKAGE.format(folder=str(folder), then=KEPT), **FOR_ANY_PROCESSOR)
    assert known == [(6.0, False)]
    assert not list(package.rglob("*.nbc"))
    return folder


@pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code comes along for x86-64 only")
class TestMachineCodeThatComesAlong:
    def test_it_is_run_where_nothing_else_is_kept(self, package, coming_along):
        before = WITH_PACKAGE.format(folder=str(coming_along), then="")
        assert run_each(package, before=before)[0] == [(6.0, True)]
        assert not list(package.rglob("*.nbc"))

    def test_not_what_was_compiled_from_other_source(self, package, coming_along):
        write(package, factor=5.0)
        before = WITH_PACKAGE.format(folder=str(coming_along), then="")
        assert run_each(package, before=before)[0] == [(10.0, False)]

    def test_not_what_is_damaged(self, package, coming_along):
        (code,) = coming_along.glob("*.nbc")
        content = bytearray(code.read_bytes())
        content[len(content) // 2] ^= 16
        code.write_bytes(bytes(content))
        before = WITH_PACKAGE.format(folder=str(coming_along), then="")
        assert run_each(package, before=before)[0] == [(6.0, False)]

    @pytest.mark.parametrize(
        ("then", "environment"),
        [
            ("kernel_cache.get_host_cpu_features = lambda: {'sse4.2': True, 'avx': True}", {}),
            ("", {"NUMBA_CPU_NAME": "generic"}),
        ],
    )
    def test_not_on_other_processors(self, package, coming_along, then, environment):
        before = WITH_PACKAGE.format(folder=str(coming_along), then=then)
        assert run_each(package, before=before, **environment)[0] == [(6.0, False)]

    def test_it_is_kept_for_any_processor_or_not_at_all(self):
        with pytest.raises(RuntimeError, match="NUMBA_CPU_NAME"):
            kernel_cache.keep_with_package()
