"""Private parts of a dependency are known to one module, so that its next version breaks one place."""

import ast

from benchmarks.house import modules

#: dependency -> the one module that knows its private parts.
ADAPTERS = {
    "sbi, nflows, zuko": "hddm_sbi.likelihoods.sbi.compatibility",
    "torch": "hddm_sbi.inference.compiler.recorder",
    "numba": "hddm_sbi.numerics.operators",
    "numba's cache": "hddm_sbi.numerics.kernel_cache",
}
#: dependency without private names, whose modules are not documented as public -> the one module that imports it.
IMPORTED_ONCE = {
    "formulae": "hddm_sbi.data.formulae_parts",
    "nutpie": "hddm_sbi.inference.nuts",
    "arviz": "hddm_sbi.inference.inference_data",
}
#: names of objects whose class, or whose module, is the one at hand.
OWN = {"self", "cls", "ctx", "new"}


def private(name):
    return name.startswith("_") and not name.startswith("__")


def at_hand(value):
    return isinstance(value, ast.Name) and value.id in OWN


def own_names(tree):
    """Names that the classes of a module define: methods, and attributes that they assign."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and at_hand(node.value):
            yield node.attr


def private_parts(tree):
    """(line, name) of what a module takes from foreign objects and packages though its name begins with an underscore.

    Not seen: what a class inherits and reads as its own.
    """
    own = set(own_names(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            if not at_hand(node.value) and node.attr not in own:
                yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("hddm_sbi"):
            yield from ((node.lineno, part) for part in node.module.split(".") if private(part))
            yield from ((node.lineno, alias.name) for alias in node.names if private(alias.name))
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if any(map(private, alias.name.split("."))))


def test_private_parts_are_seen():
    code = (
        "import torch._dynamo\nfrom torch._ops import x\ny = net._hidden\nz = self._own\nw = f()._part\nv = a.__dict__"
    )
    assert [line for line, _ in private_parts(ast.parse(code))] == [1, 2, 3, 5]


def test_only_adapters_touch_private_parts():
    found = {name: list(private_parts(ast.parse(path.read_text()))) for name, path in modules().items()}
    assert len(found) > 80
    touching = {name for name, parts in found.items() if parts}
    # An adapter without private parts is none, and would hide that nothing is seen.
    assert touching == set(ADAPTERS.values()), {name: parts for name, parts in found.items() if parts}


def test_inner_modules_of_a_dependency_are_imported_in_one_place():
    for dependency, adapter in IMPORTED_ONCE.items():
        found = {
            name
            for name, path in modules().items()
            for node in ast.walk(ast.parse(path.read_text()))
            if (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == dependency)
            or (isinstance(node, ast.Import) and any(a.name.partition(".")[0] == dependency for a in node.names))
        }
        assert found == {adapter}, dependency
