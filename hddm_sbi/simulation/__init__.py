"""Declare a simulator and run it.

Doors: first_passage, moving_bounds, wiener. All else is imported from here.
"""

from hddm_sbi.simulation.counterpart import Counterpart as Counterpart
from hddm_sbi.simulation.decision_model import DecisionModel as DecisionModel
from hddm_sbi.simulation.declare import as_json as as_json
from hddm_sbi.simulation.declare import declare as declare
from hddm_sbi.simulation.declare import from_json as from_json
from hddm_sbi.simulation.first_passage import Law as Law
from hddm_sbi.simulation.first_passage import Passage as Passage
from hddm_sbi.simulation.first_passage import Solution as Solution
from hddm_sbi.simulation.observation import Observation as Observation
from hddm_sbi.simulation.outcome import Outcome as Outcome
from hddm_sbi.simulation.outcome import Simulated as Simulated
from hddm_sbi.simulation.outcome import rt_and_response as rt_and_response
from hddm_sbi.simulation.parameter import Link as Link
from hddm_sbi.simulation.parameter import Parameter as Parameter
from hddm_sbi.simulation.parameter import ParameterPrior as ParameterPrior
from hddm_sbi.simulation.parameter import Prior as Prior
from hddm_sbi.simulation.parameter import parameter as parameter
from hddm_sbi.simulation.python_function import BlackBoxSimulator as BlackBoxSimulator
from hddm_sbi.simulation.simulator import EXACT as EXACT
from hddm_sbi.simulation.simulator import Clock as Clock
from hddm_sbi.simulation.simulator import Power as Power
from hddm_sbi.simulation.simulator import Simulator as Simulator
from hddm_sbi.simulation.simulator import Symmetries as Symmetries
