"""The learned likelihood of the shipped models: a reduced mixture network, imported from here, and its kernels."""

from hddm_sbi.likelihoods.mixture.cross_entropy import cross_entropy as cross_entropy
from hddm_sbi.likelihoods.mixture.likelihood import MixtureLikelihood as MixtureLikelihood
from hddm_sbi.likelihoods.mixture.network import Architecture as Architecture
from hddm_sbi.likelihoods.mixture.network import Mixture as Mixture
from hddm_sbi.likelihoods.mixture.network import MixtureNetwork as MixtureNetwork
from hddm_sbi.likelihoods.mixture.reduction import Reduction as Reduction
from hddm_sbi.likelihoods.mixture.reduction import reducible as reducible
