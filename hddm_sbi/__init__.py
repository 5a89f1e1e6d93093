"""Hierarchical drift-diffusion modelling by simulation-based inference."""

import importlib.util
import sys
from pathlib import Path

import lazy_loader

__version__ = "0.1.0"

# The public names stand in `__init__.pyi`; each is imported on first use, so that `import hddm_sbi` costs nothing.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _beside(name: str) -> None:
    """Make the folder `name` beside the package in a checkout the subpackage that it is in a wheel."""
    folder = Path(__file__).resolve().parent.parent / name
    if not (Path(__file__).resolve().parent / name).is_dir() and (folder / "__init__.py").is_file():
        found = importlib.util.spec_from_file_location(f"{__name__}.{name}", folder / "__init__.py")
        assert found is not None
        assert found.loader is not None
        sys.modules[found.name] = importlib.util.module_from_spec(found)
        found.loader.exec_module(sys.modules[found.name])


_beside("simulators")
_beside("pretrained")
