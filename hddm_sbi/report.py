"""A fit in words and pictures: the table on the screen, the figures in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from hddm_sbi import idata
from hddm_sbi.model import HierarchicalModel


def summary(model: HierarchicalModel, posterior: Any) -> str:
    """The population's coefficients: mean, sd, 94 % interval, effective sample sizes, Rhat."""
    table = idata.summary(posterior, model.hierarchy.population_names)
    links = ", ".join(f"{p.name}: {p.link}" for p in model.hierarchy.predictors if p.link != "identity")
    note = f"\nCoefficients are on the scale of the link ({links})." if links else ""
    return table.to_string() + note


def write_figures(model: HierarchicalModel, posterior: Any, truth: Mapping[str, ArrayLike], folder: Path) -> list[Path]:
    """Predicted response times by condition and by subject, shrinkage of drifts, recovery of the truth: PNG files."""
    import matplotlib.pyplot as plt

    from hddm_sbi import plots

    made = {
        "predictive_condition": plots.plot_predictive(model, posterior, "condition")[0],
        "predictive_subject": plots.plot_predictive(model, posterior, "subject")[0],
        "shrinkage": plots.plot_shrinkage(model, posterior),
        "recovery": plots.plot_recovery(model, posterior, truth)[0],
    }
    paths = []
    for name, ax in made.items():
        paths.append(folder / f"{name}.png")
        ax.figure.savefig(paths[-1], dpi=150)
        plt.close(ax.figure)
    return paths
