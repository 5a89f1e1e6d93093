"""The house as the tests and benchmarks see it: files, wings, and which module imports which."""

import ast
from pathlib import Path

import hddm_sbi

PACKAGE = Path(hddm_sbi.__file__).resolve().parent
ROOT = PACKAGE.parent

#: lowest first; a module may import from the wings before its own, and from its own.
WINGS = (
    "types",
    "errors",
    "parallel",
    "numerics",
    "inference",
    "simulation",
    "data",
    "simulators",
    "likelihoods",
    "training",
    "hierarchy",
    "analysis",
    "presentation",
    "cli",
)


def modules() -> dict[str, Path]:
    """Every module of the package and of `simulators/`, by its dotted name."""
    found = {}
    for folder, prefix in ((PACKAGE, "hddm_sbi"), (ROOT / "simulators", "hddm_sbi.simulators")):
        for path in folder.rglob("*.py"):
            parts = [prefix, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def wing(module: str) -> str:
    """The wing of a module: the part after the package's name, or "" of the package itself."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of our own that a file imports anywhere, inside functions and `if TYPE_CHECKING` too."""
    named = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
    found = named & set(known)
    # A package that is only passed through on the way to a module of it is not meant.
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def import_pairs() -> set[tuple[str, str]]:
    """(importing, imported) modules, the package's own `__init__` left out."""
    known = modules()
    return {
        (module, other)
        for module, path in known.items()
        for other in imports(path, known) - {"hddm_sbi"}
        if module != "hddm_sbi"
    }


def crossings() -> set[tuple[str, str]]:
    """Pairs in different wings. Everyone may refuse, and faces and models reach where they must: these do not count."""
    low, apart = ("types", "errors", "simulators"), ("cli", "simulators", "__main__")
    return {
        (module, other)
        for module, other in import_pairs()
        if wing(module) != wing(other) and wing(module) not in apart and wing(other) not in low
    }
