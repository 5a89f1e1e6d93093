"""Hierarchical drift-diffusion modelling by simulation-based inference."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hddm_sbi.bridge import SBIToPyro
    from hddm_sbi.catalogue import load_likelihood, load_simulator, models, simulate
    from hddm_sbi.declaration import declare, parameter
    from hddm_sbi.errors import InputError
    from hddm_sbi.fits import compare_models, fit_models
    from hddm_sbi.learning import train_likelihood
    from hddm_sbi.model import HierarchicalModel
    from hddm_sbi.outcome import Outcome
    from hddm_sbi.replicas import recover_parameters, run_sbc
    from hddm_sbi.simulator import Parameter, ParameterPrior, Prior, Simulator, Symmetries

_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "simulators").is_dir() and (_CHECKOUT / "pretrained").is_dir():
    # In a checkout the model and weight folders lie beside the package; in a wheel they lie inside it.
    __path__.append(str(_CHECKOUT))

#: public name -> module that defines it, imported on first use so that `import hddm_sbi` costs nothing (PEP 562).
_HOME = {
    "HierarchicalModel": "model",
    "InputError": "errors",
    "Outcome": "outcome",
    "Parameter": "simulator",
    "ParameterPrior": "simulator",
    "Prior": "simulator",
    "SBIToPyro": "bridge",
    "Simulator": "simulator",
    "Symmetries": "simulator",
    "compare_models": "fits",
    "declare": "declaration",
    "fit_models": "fits",
    "load_likelihood": "catalogue",
    "load_simulator": "catalogue",
    "models": "catalogue",
    "parameter": "declaration",
    "recover_parameters": "replicas",
    "run_sbc": "replicas",
    "simulate": "catalogue",
    "train_likelihood": "learning",
}
__all__ = [
    "HierarchicalModel",
    "InputError",
    "Outcome",
    "Parameter",
    "ParameterPrior",
    "Prior",
    "SBIToPyro",
    "Simulator",
    "Symmetries",
    "compare_models",
    "declare",
    "fit_models",
    "load_likelihood",
    "load_simulator",
    "models",
    "parameter",
    "recover_parameters",
    "run_sbc",
    "simulate",
    "train_likelihood",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hddm_sbi' has no attribute {name!r}")
    return getattr(importlib.import_module(f"hddm_sbi.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
