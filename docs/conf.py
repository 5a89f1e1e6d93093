"""The site (`make docs`): the pages of this folder, the tutorials executed, and API and models from the code."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain

from docs.generate import write_pages

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

project = "hddm_sbi"
author = "the authors of hddm_sbi"
extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["conf.py", "generate.py"]

# A block without a language is output, not Python.
highlight_language = "text"

html_theme = "furo"
html_title = "hddm_sbi"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["wide.css"]
# Nothing is loaded from elsewhere, so that the site can be read offline.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}

default_role = "name"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
myst_heading_anchors = 3

# Tutorials are scripts in percent format, and run from top to bottom: with their own tables, and fewer draws and
# simulations where they have many, so that the site takes minutes.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = os.environ.get("DOCS_EXECUTE", "force")
nb_execution_timeout = 1200
nb_execution_raise_on_error = True
nb_merge_streams = True
# Of a script that is not run nobody says that it is Python.
suppress_warnings = ["myst-nb.lexer"] if nb_execution_mode == "off" else []
for name, value in {"TUTORIAL_DRAWS": "1000", "TUTORIAL_SIMULATIONS": "100000"}.items():
    os.environ.setdefault(name, value)
# tqdm misses ipywidgets; of sbi's epochs tutorial 02 speaks itself.
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found,ignore:Maximum number of epochs"
# A file that a tutorial saves lands in a folder of its own.
nb_execution_in_temp = True

for script in sorted((ROOT / "tutorials").glob("*.py")):
    (HERE / "tutorials").mkdir(exist_ok=True)
    shutil.copy(script, HERE / "tutorials")
write_pages(HERE)


def name_role(role: str, raw: str, text: str, *place: Any) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """`text` in single backticks of a docstring: a link where it is a public name, and code where it is not."""
    if not re.fullmatch(r"[\w.]+", text):
        return [nodes.literal(raw, text)], []
    target = text.replace("hs.", "hddm_sbi.", 1) if text.startswith("hs.") else text
    return PythonDomain.roles["obj"]("py:obj", raw, f"{text} <{target}>", *place)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_role("name", name_role)
