"""Designs x priors x likelihood -> Pyro model -> posterior.

All is imported from here.
"""

from hddm_sbi.hierarchy.diagnostics import ConvergenceWarning
from hddm_sbi.hierarchy.model import HierarchicalModel
from hddm_sbi.hierarchy.posterior import coordinates, variables
from hddm_sbi.hierarchy.record import Sampling

__all__ = ["ConvergenceWarning", "HierarchicalModel", "Sampling", "coordinates", "variables"]
