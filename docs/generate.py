"""Pages generated from the code: one of the API for every wing with public names, and one of all models."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pandas as pd

import hddm_sbi as hs
from benchmarks.house import ROOT, WINGS, first_line, modules
from hddm_sbi.simulation import Counterpart, Parameter, Simulator


def write_pages(docs: Path) -> None:
    """Write `api/` and `models.md` into the folder of the pages."""
    (docs / "api").mkdir(exist_ok=True)
    (docs / "models.md").write_text(models_page())
    pages = {name: api_page(name, public) for name, public in by_wing().items()}
    for name, page in pages.items():
        (docs / "api" / f"{name}.rst").write_text(page)
    listed = "\n".join(f"   {name}" for name in pages)
    (docs / "api" / "index.rst").write_text(
        f"{_heading('API')}\nThe public names, by the part of the package that they belong to. "
        "All are attributes of the package: ``import hddm_sbi as hs``.\n\n"
        f".. toctree::\n   :maxdepth: 2\n\n{listed}\n"
    )


def by_wing() -> dict[str, dict[str, str]]:
    """Public names and the modules that the stub takes them from, by wing, the highest wing first."""
    stub = re.findall(
        r"^from \.(\S+) import (\w+) as \w+$", (ROOT / "hddm_sbi" / "__init__.pyi").read_text(), re.MULTILINE
    )
    found: dict[str, dict[str, str]] = {name: {} for name in reversed(WINGS)}
    for module, name in sorted(stub, key=lambda line: (line[1].endswith("Warning"), line[1].lower())):
        found[module.partition(".")[0]][name] = f"hddm_sbi.{module}"
    return {name: public for name, public in found.items() if public}


def api_page(name: str, public: dict[str, str]) -> str:
    """One wing's public names, classes and functions each with its docstring, modules with all they hold."""
    parts = [_heading(name.capitalize()), first_line(modules()[f"hddm_sbi.{name}"]), ""]
    for public_name, module in public.items():
        parts += [_heading(f"hs.{public_name}", "-"), *_directive(public_name, module), ""]
    return "\n".join(parts)


def _directive(name: str, module: str) -> list[str]:
    """The directive of one public name."""
    value = getattr(hs, name)
    if inspect.ismodule(value):
        own = [
            key for key, member in inspect.getmembers(value, inspect.isfunction) if member.__module__ == value.__name__
        ]
        return [f".. autofunction:: hddm_sbi.{name}.{key}" for key in own if not key.startswith("_")]
    if inspect.isclass(value):
        own_base = any(base.__module__.startswith("hddm_sbi") for base in value.__bases__)
        options = [":members:"] * (not issubclass(value, Warning)) + [":show-inheritance:"] * own_base
        return [f".. autoclass:: hddm_sbi.{name}", *(f"   {option}" for option in options)]
    if inspect.isroutine(value):
        return [f".. autofunction:: hddm_sbi.{name}"]
    # A table: the comment above it is its docstring.
    return [f".. autodata:: {module}.{name}", "   :no-value:"]


def _heading(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}"


def models_page() -> str:
    """Every model: what it is called, its parameters with meaning, unit and box, its citation and its scores."""
    table = hs.models()
    parts = [
        "# Models",
        "`hs.simulate(name, ...)` simulates a model, `hs.load_likelihood(name)` is its learned likelihood. The page is "
        "generated from the code (`simulators/`, one file per model) and from the cards beside the weights, by "
        "`python -m docs.generate`.",
        "",
        "Every model names its counterparts in other packages, with their parameters as formulas of ours. "
        '`hs.convert({"v": 0.5, "a": 1.4, "z": 0.5, "t": 0.3}, model="ddm", source="HDDM")` converts from there, and '
        "`target=` into there. `Ratcliff` stands for papers and programs with noise s = 0.1.",
        "",
        _table(_overview(table)),
    ]
    for name in table.index:
        simulator = hs.load_simulator(name)
        parts += ["", f"## {name}: {simulator.title}", f"{simulator.citation}.", "", _parameters(simulator)]
        if simulator.counterparts:
            parts += ["", "In other packages:", "", _counterparts(simulator)]
    return "\n".join(parts) + "\n"


def _overview(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `hs.models()` without titles, which are the headings, and with links to them."""
    shown = table.drop(columns=["title", "pretrained"]).rename(columns=lambda name: name.replace("_", " "))
    headings = [f"{name} {title}".lower() for name, title in table["title"].items()]
    anchors = [re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings]
    shown.insert(0, "model", [f"[{name}](#{anchor})" for name, anchor in zip(table.index, anchors, strict=True)])
    return shown.astype({"simulations": float})


def _parameters(simulator: Simulator) -> str:
    """The parameters of a model, one a row."""
    return _table(pd.DataFrame([_row(parameter) for parameter in simulator.parameters]))


def _counterparts(simulator: Simulator) -> str:
    """What other packages call the model and its parameters, one package a row."""
    return _table(pd.DataFrame([_elsewhere(package, there) for package, there in simulator.counterparts.items()]))


def _elsewhere(package: str, there: Counterpart) -> dict[str, str]:
    formulas = (name if name == formula else f"{name} = {formula}" for name, formula in there.parameters.items())
    held = [
        f"{name} = {value if isinstance(value, str) else f'{value:g}'} here" for name, value in there.without.items()
    ]
    return {
        "package": package,
        "model there": there.model,
        "parameters there, by those here": ", ".join(f"`{formula}`" for formula in formulas),
        "where": "; ".join([*held, *([there.note] if there.note else [])]),
    }


def _row(parameter: Parameter) -> dict[str, str]:
    low, high = parameter.typical
    return {
        "parameter": f"`{parameter.name}`",
        "meaning": parameter.description + (" (a column of the table)" if parameter.from_data else ""),
        "unit": parameter.unit,
        "box": f"{parameter.low:g} to {parameter.high:g}",
        "typical": f"{low:g} to {high:g}",
        "link": parameter.prior.link,
    }


def _table(frame: pd.DataFrame) -> str:
    """A table in Markdown; a number that is missing is a dash."""
    rows = [frame.columns, ["---"] * len(frame.columns), *(map(_cell, row) for row in frame.to_numpy())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Write the pages into this folder."""
    write_pages(Path(__file__).resolve().parent)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if pd.isna(value) else f"{value:.2g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
