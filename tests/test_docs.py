"""Pages and docstrings that describe the code agree with it."""

import ast
import re
import subprocess

import hddm_sbi as hs
from benchmarks import priors
from benchmarks.house import ROOT, WINGS, modules, tree
from docs.generate import api_page, by_wing, models_page

ARCHITECTURE = ROOT / "docs" / "architecture.md"


def test_architecture_shows_the_tree_of_the_code():
    """Wings in their order, jobs and modules: `python -m benchmarks.house` prints it, to be pasted."""
    shown = re.search(r"```text\n(.*?)\n```", ARCHITECTURE.read_text(), re.DOTALL)[1]
    wings = [name for name in re.findall(r"^  (\w+)(?:/|\.py) ", shown, re.MULTILINE) if not name.startswith("__")]
    assert tuple(wings) == WINGS
    assert shown == tree()


def test_doors_of_the_wings_are_modules():
    found = modules()
    named = {
        name: re.search(r"Doors: ([\w, ]+)\.", path.read_text())
        for name, path in found.items()
        if path.name == "__init__.py" and name.count(".") > 0
    }
    assert sum(doors is not None for doors in named.values()) > 8
    for name, doors in named.items():
        for door in doors[1].split(", ") if doors else ():
            assert f"{name}.{door}" in found, f"{name} names a door {door!r} that it does not have"


def test_every_public_name_is_in_the_api():
    pages = {name: api_page(name, public) for name, public in by_wing().items()}
    headings = re.findall(r"^hs\.(\w+)\n-", "\n".join(pages.values()), re.MULTILINE)
    assert sorted(headings) == sorted(hs.__all__)


def test_every_argument_has_a_paragraph_of_its_own():
    """`Parameters` of a docstring: the arguments one by one, in their order. `Attributes`: one name a paragraph."""
    nodes = [(module, node) for module, path in modules().items() for node in ast.walk(ast.parse(path.read_text()))]
    described = [(module, node) for module, node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    n_paragraphs = 0
    for module, node in described:
        docstring = ast.get_docstring(node) or ""
        for section, body in re.findall(r"^(Parameters|Attributes)\n-+\n((?:.+\n?)+)", docstring, re.MULTILINE):
            named = [line.partition(" : ")[0] for line in body.splitlines() if not line.startswith(" ")]
            where = f"{section} of {module}.{node.name}"
            assert all(name.isidentifier() for name in named), f"{where}: one a paragraph; got {named}"
            assert section == "Attributes" or named == _arguments(node), where
            n_paragraphs += len(named)
    assert n_paragraphs > 300


def _arguments(node: ast.ClassDef | ast.FunctionDef) -> list[str]:
    """The arguments of a function or constructor, or the fields of a dataclass, in their order."""
    if isinstance(node, ast.FunctionDef):
        given, others = node.args, [arg for arg in (node.args.vararg, node.args.kwarg) if arg]
        names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs, *others)]
        return [name for name in names if name not in ("self", "cls")]
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            return _arguments(method)
    fields = [line for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)]
    return [line.target.id for line in fields if not ast.unparse(line.annotation).startswith("ClassVar")]


def test_every_model_is_listed_with_its_parameters():
    page = models_page()
    sections = {text.partition(":")[0]: text for text in page.split("\n## ")[1:]}
    assert set(sections) == set(hs.models().index)
    for name, text in sections.items():
        simulator = hs.load_simulator(name)
        assert simulator.citation in text
        for parameter in simulator.parameters:
            assert f"| `{parameter.name}` | {parameter.description}" in text


def test_every_counterpart_is_listed_with_its_formulas():
    page = models_page()
    sections = {text.partition(":")[0]: text for text in page.split("\n## ")[1:]}
    for name, text in sections.items():
        rows = re.findall(r"^\| (\S+) \| (.*?) \| (.*?) \|", text.partition("In other packages:")[2], re.MULTILINE)
        listed = {package: (model, formulas) for package, model, formulas in rows[2:]}
        counterparts = hs.load_simulator(name).counterparts
        assert set(listed) == set(counterparts)
        for package, there in counterparts.items():
            model, formulas = listed[package]
            assert model == there.model
            written = dict((part.split(" = ") * 2)[:2] for part in re.findall(r"`([^`]*)`", formulas))
            assert written == dict(there.parameters)


def test_files_that_pages_cite_are_there():
    """`name.py` with as much of its path as the page gives; a reader's own file is `my_model.py`."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    files = [f"/{path.relative_to(ROOT)}" for path in ROOT.rglob("*.py") if ".venv" not in path.parts]
    cited = {(page, name) for page in pages for name in re.findall(r"`([\w/]+\.py)`", page.read_text())}
    assert len(cited) > 30
    for page, name in sorted(cited):
        assert name == "my_model.py" or any(path.endswith(f"/{name}") for path in files), f"{page.name} cites {name}"


def test_the_citation_names_the_version_of_the_package():
    assert f"\nversion: {hs.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_make_help_lists_every_target():
    # `make test` runs this inside make, which then says which folder it enters.
    command = ["make", "--no-print-directory", "help"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert [line.split()[0] for line in done.stdout.splitlines()] == targets


def test_the_page_of_priors_is_what_the_benchmark_prints(capsys):
    """`python -m benchmarks.priors` prints the tables anew."""
    priors.main()
    assert capsys.readouterr().out.strip() in (ROOT / "docs" / "priors.md").read_text()
