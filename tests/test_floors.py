"""A module imports only from lower floors; importing the package is free and has no effect."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import hddm_sbi

PACKAGE = Path(hddm_sbi.__file__).parent

#: lowest first; a module may import from the lines above its own.
FLOORS = [
    {"errors"},
    {"tasks"},
    {"vecmath", "ranks", "design", "passage", "outcome", "kernels"},
    {"blackbox"},
    {"simulator", "clock"},
    {"syntax", "trials", "crossing", "diffusion", "wiener", "declaration"},
    {"formula", "proposal", "encoding"},
    {"simulators"},
    {"likelihood", "link", "cards"},
    {"priors"},
    {"reduction"},
    {"delayed", "perceptron", "mixture"},
    {"neural_cells"},
    {"network", "exact", "numerical", "repeats"},
    {"neural", "bridge"},
    {"estimators"},
    {"learned", "fitting", "checking"},
    {"checkpoint", "training", "calibration"},
    {"learning"},
    {"catalogue"},
    {"predictor", "simulated", "experiment"},
    {"pretraining"},
    {"hierarchy"},
    {"pooled", "compiler", "idata", "posterior"},
    {"pilot"},
    {"start", "whitening"},
    {"compile"},
    {"approximation", "native"},
    {"inference", "diagnostics"},
    {"model"},
    {"predictive", "fits", "truths"},
    {"replicas"},
    {"plots"},
    {"table_plots"},
    {"report"},
    {"cli", "__init__"},
    {"__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}

#: the compiler's own floors, lowest first.
COMPILER = [
    {"lazy", "schedule", "elementary", "graph"},
    {"program"},
    {"lowering"},
    {"pointwise", "views", "sums", "indexing"},
    {"operations"},
    {"emit"},
]


def imported_modules(path: Path, package: str = "hddm_sbi") -> set[str]:
    """Modules of our own, of one package, that a file imports anywhere, `if TYPE_CHECKING` included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module == package
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if inside else {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.removeprefix(f"{package}.").split(".")[0] for name in names if name.startswith(f"{package}.")}


def test_every_module_has_a_floor():
    assert {path.stem for path in PACKAGE.glob("*.py")} <= set(FLOOR)
    assert {path.stem for path in (PACKAGE / "compiler").glob("*.py")} == {"__init__"}.union(*COMPILER)


def test_modules_import_from_lower_floors_only():
    files = {path: path.stem for path in PACKAGE.glob("*.py")}
    files |= dict.fromkeys((PACKAGE.parent / "simulators").glob("*.py"), "simulators")
    for path, name in files.items():
        for other in imported_modules(path):
            assert FLOOR[other] < FLOOR[name], f"{path.name} (floor {FLOOR[name]}) imports {other} ({FLOOR[other]})"


def test_modules_of_the_compiler_import_from_lower_floors_only():
    floor = {name: number for number, names in enumerate(COMPILER) for name in names}
    for path in (PACKAGE / "compiler").glob("[!_]*.py"):
        for other in imported_modules(path, "hddm_sbi.compiler"):
            assert floor[other] < floor[path.stem], f"{path.name} imports {other}"
        for other in imported_modules(path) - {"compiler"}:
            assert FLOOR[other] < FLOOR["compiler"], f"{path.name} imports {other}"


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
    for path in PACKAGE.glob("*.py"):
        text = path.read_text()
        for forbidden in ("pickle", "torch.load(", "joblib.load", "allow_pickle=True"):
            assert forbidden not in text.replace("unpickle", ""), (path.name, forbidden)
