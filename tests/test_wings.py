"""A module imports only from the wings below its own; importing the package is free and has no effect."""

import graphlib
import subprocess
import sys
import time

from benchmarks.house import ROOT, WINGS, crossings, import_pairs, modules, wing

#: crossings between wings, a name that a module of the own wing hands on counted where it comes from: more means that
#: something lies in the wrong wing. It was 107 when the wings were made, with half as many modules (decision 005).
MOST_CROSSINGS = 146


def test_there_is_a_house():
    """The other tests look at files: there are some, in every wing, and none but the faces lies outside."""
    found = modules()
    assert len(found) > 80
    assert {wing(name) for name in found} == {"", "__main__", *WINGS}
    assert {path.stem for path in (ROOT / "hddm_sbi").glob("*.py")} <= {
        "__init__",
        "__main__",
        "errors",
        "seeds",
        "parallel",
        "types",
    }
    assert len(import_pairs()) > 200


def test_modules_import_from_wings_below_only():
    order = {name: number for number, name in enumerate(WINGS)}
    for module, other in sorted(import_pairs()):
        if wing(module) in order:
            assert order[wing(other)] <= order[wing(module)], f"{module} imports {other} from a wing above"


def test_no_cycles():
    graph: dict[str, set[str]] = {}
    for module, other in import_pairs():
        graph.setdefault(module, set()).add(other)
    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_few_imports_cross_wings():
    assert 0 < len(crossings()) <= MOST_CROSSINGS


def test_inference_knows_no_hierarchy_and_no_decision_model():
    """Pyro's normal, sampled in a process in which no other wing is ever imported."""
    code = """
import sys
import pyro, torch
import numpy as np
from hddm_sbi.inference.density import flatten
from hddm_sbi.inference.sampling import sample

def model():
    pyro.sample("x", pyro.distributions.Normal(torch.tensor(3.0).double(), 2.0))

density = flatten(model, {"x": torch.tensor(0.0).double()})
run = sample(density, draws=1_000, tune=500, chains=2, seed=1, method="nuts", progress=False)
assert density.path == "compiled"
# 2 000 draws, at least 500 effective: 5 standard errors, 1e-6 false alarms.
assert abs(run.x.mean() - 3.0) < 5 * 2.0 / 500**0.5, run.x.mean()
assert abs(np.log(run.x.std() / 2.0)) < 5 / (2 * 500) ** 0.5, run.x.std()
wings = {name.split(".")[1] for name in sys.modules if name.startswith("hddm_sbi.")}
print(*sorted(wings - {"inference", "numerics", "errors", "types"}))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) <= {"simulators", "pretrained"}


def test_only_the_package_itself_is_under_its_name():
    code = "import hddm_sbi.{}"
    for name in ("tests", "docs", "benchmarks", "hddm_sbi"):
        done = subprocess.run([sys.executable, "-c", code.format(name)], capture_output=True, text=True)
        assert "ModuleNotFoundError" in done.stderr, name


def test_tutorials_and_readme_import_no_inner_module():
    files = [ROOT / "README.md", *(ROOT / "tutorials").rglob("*.py")]
    assert len(files) > 4
    for file in files:
        text = file.read_text()
        assert "hddm_sbi as hs" in text, file
        assert "from hddm_sbi" not in text, file


def test_import_is_light_and_changes_nothing():
    code = (
        "import sys, hddm_sbi\n"
        "heavy = {'torch', 'pyro', 'sbi', 'numba', 'pandas', 'numpy', 'arviz'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import hddm_sbi.cli\n"
        "heavy = {'torch', 'pyro', 'sbi', 'numba', 'pandas', 'arviz'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_using_the_package_does_not_import_sbi():
    code = (
        "import sys, torch\n"
        "before = torch.distributions.Distribution._validate_args, torch.get_default_dtype(), torch.get_num_threads()\n"
        "import hddm_sbi as hs\n"
        "hs.load_likelihood('ddm'); hs.HierarchicalModel\n"
        "assert 'sbi' not in sys.modules\n"
        "after = torch.distributions.Distribution._validate_args, torch.get_default_dtype(), torch.get_num_threads()\n"
        "assert before == after\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_takes_less_than_half_a_second():
    """The fastest of three starts, so that a busy machine does not decide."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "hddm_sbi", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.5


def test_no_pickle_is_ever_loaded():
    found = modules()
    assert len(found) > 80
    for name, path in found.items():
        text = path.read_text()
        for forbidden in ("pickle", "torch.load(", "joblib.load", "allow_pickle=True"):
            assert forbidden not in text.replace("unpickle", ""), (name, forbidden)
