"""Declare a simulator and run it.

Doors: first_passage, moving_bounds, wiener. All else is imported from here.
"""

from hddm_sbi.simulation.decision_model import DecisionModel
from hddm_sbi.simulation.declare import as_json, declare, from_json
from hddm_sbi.simulation.outcome import Outcome, Simulated, rt_and_response
from hddm_sbi.simulation.parameter import Link, Parameter, ParameterPrior, Prior, parameter
from hddm_sbi.simulation.python_function import BlackBoxSimulator
from hddm_sbi.simulation.simulator import EXACT, Clock, Power, Simulator, Symmetries

__all__ = [
    "EXACT",
    "BlackBoxSimulator",
    "Clock",
    "DecisionModel",
    "Link",
    "Outcome",
    "Parameter",
    "ParameterPrior",
    "Power",
    "Prior",
    "Simulated",
    "Simulator",
    "Symmetries",
    "as_json",
    "declare",
    "from_json",
    "parameter",
    "rt_and_response",
]
