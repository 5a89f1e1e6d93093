"""What a call of `train_likelihood` asked for, as one record, and the simulations that it holds out."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods import Card, Network, versions_of
from hddm_sbi.parallel import check_recipe
from hddm_sbi.seeds import derive_seed
from hddm_sbi.simulation import Simulated, Simulator, as_json
from hddm_sbi.training.proposal import Priors, propose
from hddm_sbi.training.recipe import Machine
from hddm_sbi.types import Array

Facts = Mapping[str, Any]

#: fewer simulations than these are refused.
FEWEST = 500
#: the largest number of simulations that are held out for the check.
MOST_HELD_OUT = 5_000


@dataclass(frozen=True)
class TrainingRequest:
    """The arguments of `train_likelihood`, checked. seconds: that the fit may take."""

    simulator: Simulator
    prior: Priors | None
    n_simulations: int
    seed: int
    seconds: float
    folder: Path | str | None
    machine: Machine

    def held_out(self, n: int) -> tuple[Simulated, Array]:
        """n simulations for the check, and their parameters (n, p)."""
        theta = propose(self.simulator, self.prior, n, derive_seed(self.seed, 1, bits=64))
        seed = derive_seed(self.seed, 2, bits=64)
        return self.simulator.simulate_outcomes(theta, seed, n_jobs=self.machine.n_jobs), theta

    def simulate(self, theta: Array) -> Simulated:
        """Simulations to train on at theta (n, p), kept in the folder if there is one."""
        folder = None if self.folder is None else Path(self.folder)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            at = hashlib.sha256(np.ascontiguousarray(theta).tobytes()).hexdigest()
            facts = {"model": self.simulator.name, "seed": self.seed, "simulations": len(theta), "theta": at}
            check_recipe(folder, facts)
        n_jobs, progress = self.machine.n_jobs, self.machine.progress
        return self.simulator.simulate_outcomes(theta, self.seed, n_jobs=n_jobs, progress=progress, folder=folder)

    def card(self, network: Network, architecture: Facts, recipe: Facts, validation: tuple[float, ...]) -> Card:
        """A card without scores."""
        mixture, simulator = network == "mixture", self.simulator
        box = {p.name: (p.low, p.high) for p in (simulator.learned if mixture else simulator.parameters)}
        return Card(
            model=simulator.family if mixture else simulator.name,
            network=network,
            parameters=tuple(box),
            box=box,
            architecture=architecture,
            simulations=self.n_simulations,
            recipe={"seed": self.seed, "prior": {k: str(v) for k, v in (self.prior or {}).items()}, **recipe},
            versions=versions_of("hddm_sbi", "sbi", "torch", "numpy"),
            created=date.today().isoformat(),
            declaration=_declaration(self.simulator),
            discretisation=self.simulator.discretisation,
            validation=validation,
        )


def succeeded(simulated: Simulated, theta: Array) -> tuple[Array, Array]:
    """The simulations that have an outcome, and their parameters. Raises InputError where hardly any has."""
    good = ~simulated.failed
    if good.sum() < FEWEST:
        raise InputError(
            f"{int((~good).sum())} of {len(good)} simulations returned nan"
            + (f" or raised an error, the first {simulated.errors[0]}" if simulated.errors else "")
            + f"; at least {FEWEST} with outcomes are needed. Call the simulator once by hand inside its box."
        )
    return simulated.values[good], theta[good]


def _declaration(simulator: Simulator) -> dict[str, Any]:
    """The simulator for the card; nothing where it holds functions that cannot be written down."""
    try:
        return as_json(simulator)
    except InputError:
        return {}
