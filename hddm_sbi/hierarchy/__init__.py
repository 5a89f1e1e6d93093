"""Designs x priors x likelihood -> Pyro model -> posterior.

All is imported from here.
"""

from hddm_sbi.hierarchy.along_trials import AlongTrials
from hddm_sbi.hierarchy.fits.belonging import SAME_LIKELIHOOD, check_fit_of, check_model
from hddm_sbi.hierarchy.fits.diagnostics import ConvergenceWarning, went_on
from hddm_sbi.hierarchy.fits.fitting import rescued
from hddm_sbi.hierarchy.fits.posterior import PosteriorWriter, column_of, coordinates, table_of
from hddm_sbi.hierarchy.fits.record import FitRecord, Sampling, approximation
from hddm_sbi.hierarchy.fits.saved import load_model, read_fit
from hddm_sbi.hierarchy.from_prior import prior_draws
from hddm_sbi.hierarchy.model import HierarchicalModel
from hddm_sbi.hierarchy.priors.choice import one_of
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.hierarchy.sites import sampled_sites
from hddm_sbi.hierarchy.terms.new_groups import (
    new_deviations,
    new_theta,
    score_shapes,
    standard_scores,
    typical_theta,
    with_known,
)
from hddm_sbi.hierarchy.terms.rows import of_population

__all__ = [
    "SAME_LIKELIHOOD",
    "AlongTrials",
    "ConvergenceWarning",
    "FitRecord",
    "HierarchicalModel",
    "Hierarchy",
    "PosteriorWriter",
    "Sampling",
    "approximation",
    "check_fit_of",
    "check_model",
    "column_of",
    "coordinates",
    "load_model",
    "new_deviations",
    "new_theta",
    "of_population",
    "one_of",
    "prior_draws",
    "read_fit",
    "rescued",
    "sampled_sites",
    "score_shapes",
    "standard_scores",
    "table_of",
    "typical_theta",
    "went_on",
    "with_known",
]
