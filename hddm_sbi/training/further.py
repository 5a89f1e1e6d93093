"""Training where a posterior lies: simulations at its draws, and the network that goes on from there."""

from dataclasses import dataclass, field

import numpy as np

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods import Factored
from hddm_sbi.seeds import derive_seed
from hddm_sbi.training.factored import trained_further
from hddm_sbi.training.proposal import propose
from hddm_sbi.training.request import succeeded
from hddm_sbi.types import Array

#: parameters are drawn from the posterior made wider by this factor; and the share that is spread over the box, so that
#: the network keeps what it knew.
_WIDER, _ELSEWHERE = 2.0, 0.1


@dataclass
class Further:
    """Simulations for a likelihood beyond those of its training, as they come.

    likelihood: learned from a simulator that is here. n_jobs: processes that simulate.
    """

    likelihood: Factored
    seed: int
    n_jobs: int | None = None
    _values: list[Array] = field(default_factory=list)
    _theta: list[Array] = field(default_factory=list)

    def simulate(self, draws: Array, n: int) -> None:
        """n more simulations around draws (draws, cells, p) of a posterior."""
        simulator, seed = self.likelihood.simulator, derive_seed(self.seed, len(self._values), bits=63)
        theta = around(self.likelihood, draws, n, seed)
        values, theta = succeeded(simulator.simulate_outcomes(theta, seed, n_jobs=self.n_jobs), theta)
        self._values.append(values)
        self._theta.append(theta)

    def trained(self, part: slice = slice(None)) -> Factored:
        """The likelihood after training on some of these simulations, by default all."""
        values, theta = np.concatenate(self._values)[part], np.concatenate(self._theta)[part]
        return trained_further(self.likelihood, values, theta, self.seed)


def around(likelihood: Factored, draws: Array, n: int, seed: int) -> Array:
    """Parameters (n, p) around draws (draws, cells, p) of a posterior, twice as wide, inside the box."""
    rng = np.random.default_rng(seed)
    n_near = n - round(_ELSEWHERE * n)
    mean = draws.mean(0)
    draw, cell = rng.integers(0, len(draws), n_near), rng.integers(0, draws.shape[1], n_near)
    near = mean[cell] + _WIDER * (draws[draw, cell] - mean[cell])
    low, high = np.array([likelihood.box[name] for name in likelihood.simulator.names]).T
    anywhere = propose(likelihood.simulator, None, n - n_near, seed)
    return rng.permutation(np.concatenate([np.clip(near, low, high), anywhere]))


def why_not_further(likelihood: object) -> str:
    """Why a likelihood cannot go on training, or ""."""
    if not isinstance(likelihood, Factored):
        return (
            f"{likelihood!r} was not learned by hs.train_likelihood from a simulator without symmetries; only such a "
            "likelihood goes on training."
        )
    if not likelihood.simulator.can_simulate:
        return (
            f"the simulator of {likelihood!r} is not here, as files hold no code: load it together, "
            "hs.load_likelihood(path, simulator=...)."
        )
    return ""


def check_further(likelihood: object) -> Factored:
    """The likelihood, if it can go on training. Raises InputError with the reason where it cannot."""
    if refusal := why_not_further(likelihood):
        raise InputError(refusal)
    assert isinstance(likelihood, Factored)
    return likelihood
