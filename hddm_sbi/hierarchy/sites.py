"""Sampled sites from what a posterior reports: the way back from its variables."""

from __future__ import annotations

from torch import Tensor

from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.hierarchy.terms.coefficients import Values
from hddm_sbi.hierarchy.terms.correlation import Scores

# A posterior reports deviations of groups and correlations. What is sampled of them are levels or offsets, whichever
# `hierarchy` says, and Cholesky factors. The posterior is the same, however its draws were made, so draws of one
# centring are draws of any other.


def sampled_sites(hierarchy: Hierarchy, posterior: Values) -> dict[str, Tensor]:
    """Every sampled site, (...) by name, from a posterior's variables with any leading batch of draws.

    The inverse of `posterior.variables`.
    """
    found = {name: posterior[name] for name in hierarchy.coefficient_names}
    found |= {c.site: c.recovered(posterior) for c in hierarchy.correlations}
    for coefficients in (c for p in hierarchy.predictors for c in p.common):
        found |= coefficients.recovered(posterior)
    known, scores = {**posterior, **found}, Scores()
    # Centred effects come first among those that are correlated.
    for effects in sorted(hierarchy.groups, key=lambda g: not g.centred):
        found[effects.site] = effects.recovered(known, scores)
    return found
