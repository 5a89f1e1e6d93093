"""Hierarchical drift-diffusion modelling by simulation-based inference."""

from __future__ import annotations

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "simulators").is_dir() and (_CHECKOUT / "pretrained").is_dir():
    # In a checkout the model and weight folders lie beside the package; in a wheel they lie inside it.
    __path__.append(str(_CHECKOUT))
