"""The learned likelihood of outcomes of any kind, imported from here: a chain of laws, each given those before it."""

from hddm_sbi.likelihoods.factored.encoding import EncodedOutcomes as EncodedOutcomes
from hddm_sbi.likelihoods.factored.encoding import Encoding as Encoding
from hddm_sbi.likelihoods.factored.likelihood import Factored as Factored
from hddm_sbi.likelihoods.factored.likelihood import FactoredDecisionLikelihood as FactoredDecisionLikelihood
from hddm_sbi.likelihoods.factored.likelihood import factored_likelihood as factored_likelihood
from hddm_sbi.likelihoods.factored.network import EstimatorShape as EstimatorShape
from hddm_sbi.likelihoods.factored.network import Factor as Factor
from hddm_sbi.likelihoods.factored.network import FactoredNetwork as FactoredNetwork
from hddm_sbi.likelihoods.factored.network import success_of as success_of
