"""Designs x priors x likelihood -> Pyro model -> posterior.

All is imported from here.
"""

from hddm_sbi.hierarchy.along_trials import AlongTrials
from hddm_sbi.hierarchy.diagnostics import ConvergenceWarning
from hddm_sbi.hierarchy.fitting import rescued
from hddm_sbi.hierarchy.model import HierarchicalModel
from hddm_sbi.hierarchy.posterior import coordinates, variables
from hddm_sbi.hierarchy.record import FitRecord, Sampling
from hddm_sbi.hierarchy.saved import read_fit

__all__ = [
    "AlongTrials",
    "ConvergenceWarning",
    "FitRecord",
    "HierarchicalModel",
    "Sampling",
    "coordinates",
    "read_fit",
    "rescued",
    "variables",
]
