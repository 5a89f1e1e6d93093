"""Training where a posterior lies: simulations at its draws, and the network that goes on from there."""

from dataclasses import dataclass, field

import numpy as np

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods import Factored, Likelihood, tilted_by
from hddm_sbi.seeds import derive_seed
from hddm_sbi.training.factored import trained_further
from hddm_sbi.training.proposal import propose
from hddm_sbi.training.request import succeeded
from hddm_sbi.types import Array

#: simulations that tell what a likelihood should be: of networks and Python functions, and of compiled simulators; and
#: how many separate parts of them there are, whose differences are the error.
_FUNCTION, _COMPILED = 100_000, 1_000_000
_PARTS = 8
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


def retold(
    likelihood: Likelihood, draws: Array, n: int | None, seed: int, n_jobs: int | None
) -> tuple[list[Likelihood], list[Likelihood]]:
    """What n simulations around draws (draws, cells, p) of a posterior say the likelihood is.

    Returns likelihoods whose mean log density it is; and those by separate parts of the simulations, whose spread is
    the error of their mean. Of a network that can go on training both are what it learns from one half each. Of any
    other likelihood of rt and response it is a ratio that is regressed on the parameters.
    """
    simulator = likelihood.simulator
    if isinstance(likelihood, Factored):
        n = n or _FUNCTION
        further = Further(likelihood, seed, n_jobs)
        further.simulate(draws, n)
        halves: list[Likelihood] = [further.trained(slice(k, None, 2)) for k in (0, 1)]
        return halves, halves
    n = n or (_COMPILED if simulator.compiled else _FUNCTION)
    theta = around(likelihood, draws, n, seed, elsewhere=0.0)
    values, theta = succeeded(simulator.simulate_outcomes(theta, seed, n_jobs=n_jobs), theta)
    whole, *parts = tilted_by(likelihood, values, theta, _PARTS)
    return [whole], [*parts]


def around(likelihood: Likelihood, draws: Array, n: int, seed: int, elsewhere: float = _ELSEWHERE) -> Array:
    """Parameters (n, p) around draws (draws, cells, p) of a posterior, twice as wide, inside the box."""
    rng = np.random.default_rng(seed)
    n_near = n - round(elsewhere * n)
    mean = draws.mean(0)
    draw, cell = rng.integers(0, len(draws), n_near), rng.integers(0, draws.shape[1], n_near)
    near = mean[cell] + _WIDER * (draws[draw, cell] - mean[cell])
    low, high = np.array([likelihood.box[name] for name in likelihood.simulator.names]).T
    anywhere = propose(likelihood.simulator, None, n - n_near, seed)
    return rng.permutation(np.concatenate([np.clip(near, low, high), anywhere]))


def why_not_retold(likelihood: Likelihood) -> str:
    """Why simulations cannot say what a likelihood should be, or ""."""
    if not (likelihood.simulator.is_decision_model or isinstance(likelihood, Factored)):
        return f"{likelihood!r} is neither of rt and response, nor was it learned by hs.train_likelihood."
    if not likelihood.simulator.can_simulate:
        return (
            f"the simulator of {likelihood!r} is not here, as files hold no code: load it together, "
            "hs.load_likelihood(path, simulator=...)."
        )
    return ""


def check_further(likelihood: object) -> Factored:
    """The likelihood, if it can go on training. Raises InputError with the reason where it cannot."""
    if not isinstance(likelihood, Factored):
        raise InputError(
            f"{likelihood!r} was not learned by hs.train_likelihood from a simulator without symmetries; only such a "
            "likelihood goes on training."
        )
    if refusal := why_not_retold(likelihood):
        raise InputError(refusal)
    return likelihood
