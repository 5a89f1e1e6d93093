"""The house in numbers: wings, lines, imports between wings, long functions; of the working tree or of a git revision.

`python -m benchmarks.house` prints them for the working tree, `python -m benchmarks.house 00a8975` for that revision.
`tests/test_wings.py` enforces the same definitions.
"""

import argparse
import ast
import io
import subprocess
import tarfile
import tempfile
import textwrap
import tokenize
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
#: functions of more lines than this are listed.
LONG = 50

#: how imports are counted, see `import_pairs`.
Way = Literal["written", "lent", "defined"]

#: lowest first; a module may import from the wings before its own, and from its own.
WINGS = (
    "types",
    "errors",
    "seeds",
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


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the package and of `simulators/`, by its dotted name."""
    found = {}
    for folder, prefix in ((root / "hddm_sbi", "hddm_sbi"), (root / "simulators", "hddm_sbi.simulators")):
        for path in sorted(folder.rglob("*.py")):
            parts = [prefix, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def wing(module: str) -> str:
    """The wing of a module: the part after the package's name, or "" of the package itself."""
    return module.split(".")[1] if "." in module else ""


def _sources(path: Path, module: str) -> dict[str, tuple[str, str]]:
    """Name in a module -> the module of ours that it is imported from, and its name there; inside functions and
    `if TYPE_CHECKING` too. A lazy `__init__` says it in its stub. A plain import is a name of its own."""
    stub = path.with_suffix(".pyi")
    tree = ast.parse((stub if path.name == "__init__.py" and stub.exists() else path).read_text())
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            source = ".".join(part for part in ((module if node.level else ""), node.module) if part)
            found |= {alias.asname or alias.name: (source, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name: (alias.name, "") for alias in node.names}
    return {name: (source, there) for name, (source, there) in found.items() if (source, there) != (module, name)}


def import_pairs(root: Path = ROOT, by: Way = "written") -> set[tuple[str, str]]:
    """(importing, imported) modules, the package's own `__init__` left out.

    by: "written": where the import statement takes a name from. "lent": the same, but a name that a module of the own
    wing only hands on is taken from where that has it. "defined": where the name is defined, whatever handed it on.
    """
    sources = {name: _sources(path, name) for name, path in modules(root).items()}

    def origin(module: str, source: str, name: str) -> str:
        while name in sources.get(source, ()) and (by == "defined" or (by == "lent" and wing(source) == wing(module))):
            source, name = sources[source][name]
        inner = f"{source}.{name}"
        return inner if inner in sources and name not in sources[source] else source

    found = {(module, origin(module, *source)) for module in sources for source in sources[module].values()}
    return {(m, other) for m, other in found if other in sources and other not in (m, "hddm_sbi") and m != "hddm_sbi"}


def crossings(root: Path = ROOT, by: Way = "lent") -> set[tuple[str, str]]:
    """Pairs in different wings. These do not count: everyone may refuse and derive a seed, faces and models reach where
    they must."""
    low, apart = ("types", "errors", "seeds", "simulators"), ("cli", "simulators", "__main__")
    return {
        (module, other)
        for module, other in import_pairs(root, by)
        if wing(module) != wing(other) and wing(module) not in apart and wing(other) not in low
    }


def _length(function: ast.FunctionDef) -> int:
    """Lines of a function without its decorators and its docstring."""
    docstring = function.body[0] if ast.get_docstring(function) is not None else None
    return function.end_lineno - function.lineno + 1 - (docstring.end_lineno - docstring.lineno + 1 if docstring else 0)


def functions(root: Path = ROOT) -> list[tuple[int, str]]:
    """(lines, dotted name) of every function and method, the longest first."""
    found = [
        (_length(node), f"{module}.{node.name}")
        for module, path in modules(root).items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    return sorted(found, reverse=True)


def code_lines(path: Path) -> int:
    """Lines with code: neither blank, nor comment, nor docstring."""
    text = path.read_text()
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        documented = (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
        )
        if documented:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def first_line(path: Path) -> str:
    """The first line of a module's docstring: what it is for."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def _order(module: str) -> tuple[int, str]:
    """Wings from the lowest to the highest, what lies in none of them first."""
    return (WINGS.index(wing(module)) if wing(module) in WINGS else -1, module)


def tree(root: Path = ROOT) -> str:
    """Every folder with the first line of its `__init__` and the names of its modules; single files with their own."""
    found = modules(root)
    packages = [name for name, path in found.items() if path.name == "__init__.py"]
    lines = []
    for name in sorted(found, key=_order):
        parent, _, leaf = name.rpartition(".")
        if name in packages:
            files = " ".join(
                other.rpartition(".")[2]
                for other in found
                if other.rpartition(".")[0] == name and other not in packages
            )
            lines.append(("  " * name.count("."), f"{leaf}/", first_line(found[name])))
            if parent:
                lines += [("", "", line) for line in textwrap.wrap(files, 92)]
        elif parent == "hddm_sbi":
            lines.append(("  ", f"{leaf}.py", first_line(found[name])))
    return "\n".join(f"{indent + name:<18} {text}".rstrip() for indent, name, text in lines)


def _counts(root: Path) -> list[str]:
    """Imports between modules and between wings, by every way of counting."""
    lent = crossings(root)
    ways = {
        "as the tests count": lent,
        "as import statements are written": crossings(root, "written"),
        "from the module that defines each name": crossings(root, "defined"),
        "the first, with faces, models, errors, seeds and types": {
            (module, other) for module, other in import_pairs(root, "lent") if wing(module) != wing(other)
        },
        "pairs of wings in the first": {(wing(module), wing(other)) for module, other in lent},
    }
    return [
        f"imports between modules              {len(import_pairs(root))}",
        "crossings between wings:",
        *(f"  {len(found):>3}  {way}" for way, found in ways.items()),
    ]


def report(root: Path = ROOT) -> str:
    """The tree and the counts."""
    found, sizes = modules(root), functions(root)
    files = [path for folder in ("hddm_sbi", "simulators") for path in (root / folder).rglob("*.py*")]
    lines = {path: path.read_text().count("\n") for path in files if path.suffix in (".py", ".pyi")}
    outside = [name for name in found if wing(name) not in ("", "__main__", *WINGS)]
    long = [f"  {count:>3}  {name}" for count, name in sizes if count > LONG]
    return "\n".join(
        [
            tree(root),
            "",
            f"lines of hddm_sbi/ and simulators/   {sum(lines.values())}",
            f"of these code                        {sum(map(code_lines, lines))}",
            f"modules                              {len(found)}",
            f"files at the top level of hddm_sbi/  {sum(path.parent == root / 'hddm_sbi' for path in lines)}",
            *([f"no wings: {len(outside)} modules lie in none"] if outside else _counts(root)),
            f"functions                            {len(sizes)}",
            f"functions over {LONG} lines             {len(long)}",
            *long,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("revision", nargs="?", help="a git revision; the working tree without it")
    revision = parser.parse_args().revision
    if revision is None:
        print(report())
        return
    archive = ["git", "-C", str(ROOT), "archive", revision, "hddm_sbi", "simulators"]
    packed = subprocess.run(archive, check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed)) as files:
            files.extractall(folder, filter="data")
        print(report(Path(folder)))


if __name__ == "__main__":
    main()
