"""What a user installs: weights and models in the wheel, the README's example, small files."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import hddm_sbi as hs
from hddm_sbi.likelihoods.catalogue import weights_of
from hddm_sbi.likelihoods.checkpoint import read_card

ROOT = Path(__file__).resolve().parent.parent


def test_the_wheel_holds_every_module_models_and_weights(tmp_path: Path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {"hddm_sbi/cli/__init__.py", "hddm_sbi/simulators/ddm.py", "hddm_sbi/pretrained/ddm.safetensors"}
    assert expected | {"hddm_sbi/pretrained/ddm.json", "hddm_sbi/py.typed"} <= names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "hddm_sbi").rglob("*.py")}
    assert len(modules) > 150
    assert not modules - names
    simulators = {f"hddm_sbi/simulators/{path.name}" for path in (ROOT / "simulators").glob("*.py")}
    pretrained = {f"hddm_sbi/pretrained/{path.name}" for path in (ROOT / "pretrained").iterdir() if path.is_file()}
    others = names - modules - simulators - pretrained
    # A checkout that made a wheel with machine code still has that.
    left = {name for name in others if ".dist-info/" not in name and "/numerics/compiled/" not in name}
    stubs = {f"hddm_sbi/{folder}__init__.pyi" for folder in ("", "inference/", "likelihoods/", "numerics/")}
    assert left == {"hddm_sbi/py.typed"} | stubs


def test_the_version_is_the_distribution_s():
    assert hs.__version__ == metadata.version("hddm_sbi")


def test_every_package_that_is_imported_is_declared():
    """By the distributions that are installed here; pyarrow and dask are imported by others, for us."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.match(r"[\w-]+", text).group().lower() for text in project["dependencies"]}
    sources = [*(ROOT / "hddm_sbi").rglob("*.py"), *(ROOT / "simulators").rglob("*.py")]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source.read_text()))]
    froms = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    names = froms | {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    others = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"hddm_sbi"}
    assert {"llvmlite", "torch", "pyro"} <= others
    found = metadata.packages_distributions()
    missing = {name for name in others if not {d.lower().replace("_", "-") for d in found[name]} & declared}
    assert missing == set()


def test_public_names():
    for name in hs.__all__:
        assert getattr(hs, name) is not None
    with pytest.raises(AttributeError, match="attribute fit"):
        hs.fit  # noqa: B018
    assert set(hs.__all__) <= set(dir(hs))


def test_every_public_name_has_an_example():
    """Of the modules, every function that they define."""
    found = {name: getattr(hs, name) for name in hs.__all__}
    for module in [thing for thing in found.values() if inspect.ismodule(thing)]:
        inside = {f"{module.__name__}.{name}": thing for name, thing in vars(module).items() if name[0] != "_"}
        found |= {name: f for name, f in inside.items() if inspect.isfunction(f) and f.__module__ == module.__name__}
    documented = [name for name, thing in found.items() if inspect.isclass(thing) or inspect.isfunction(thing)]
    assert len(documented) > 50
    assert [name for name in documented if ">>> " not in (inspect.getdoc(found[name]) or "")] == []


def test_every_argument_of_a_public_function_is_described():
    """By numpydoc: a line with its name, alone or with others, below "Parameters"."""
    functions = [thing for thing in (getattr(hs, name) for name in hs.__all__) if inspect.isfunction(thing)]
    assert len(functions) > 30
    for function in functions:
        said = (inspect.getdoc(function) or "").partition("Parameters\n----------\n")[2]
        described = {
            name.strip()
            for line in re.findall(r"^([\w, *]+)(?: :.*)?$", said, re.MULTILINE)
            for name in line.split(",")
        }
        asked = {
            str(p).partition(":")[0].partition("=")[0].strip("* ")
            for p in inspect.signature(function).parameters.values()
        }
        assert asked <= {name.lstrip("*") for name in described}, function.__name__


def test_models_table():
    table = hs.models()
    assert table.loc["ddm", "exact"]
    assert table.loc["ddm", "pretrained"]
    for name in table.index[table["pretrained"]]:
        assert table.loc[name, "KL"] == read_card(weights_of(name)).scores.KL


def test_the_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The first Python block of the README, at most ten lines of code, with fewer draws."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    few = code.replace(".fit(", ".fit(draws=20, tune=40, chains=2, progress=False, ")
    script = "import warnings; warnings.simplefilter('ignore')\nimport matplotlib; matplotlib.use('Agg')\n" + few
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_weights_stay_small():
    assert sum(path.stat().st_size for path in (ROOT / "pretrained").iterdir() if path.is_file()) < 10 * 2**20
