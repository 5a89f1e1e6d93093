"""The verb of simulation-based inference: a simulator in, a checked likelihood out."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hddm_sbi.errors import InputError, TrainingWarning
from hddm_sbi.likelihoods import EstimatorShape, Factored, HeldOutScores, MixtureLikelihood, reducible
from hddm_sbi.simulation import BlackBoxSimulator, Simulator, declare
from hddm_sbi.training.factored import train_factored
from hddm_sbi.training.mixture import train_mixture
from hddm_sbi.training.proposal import Priors, countable, parameters_of, with_boxes
from hddm_sbi.training.recipe import Machine
from hddm_sbi.training.request import FEWEST, TrainingRequest

Outcomes = Mapping[str, str | tuple[object, ...]]
Learned = Factored | MixtureLikelihood

#: simulations by default: of a Python function, of a vectorised one whose outcomes are counted, and of a compiled
#: decision model with symmetries.
_SIMULATIONS, _COUNTED, _COMPILED = 100_000, 1_000_000, 10_000_000
#: fewer simulations per parameter than this cause a warning.
_FEW = 2_000


def train_likelihood(
    simulator: Simulator | Callable[..., Any],
    prior: Priors | None = None,
    n_simulations: int | None = None,
    seed: int = 1,
    budget: float | None = None,
    *,
    outcomes: Outcomes | None = None,
    vectorised: bool = False,
    shape: EstimatorShape | None = None,
    n_jobs: int | None = None,
    folder: Path | str | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Learned:
    """Learn log p(outcomes | parameters) from simulations, check it, and say how good it is.

    Decision models that declare symmetries get the reduced mixture network of the shipped models. For everything else a
    few networks are fitted, and the one with the best log score on simulations that it has not seen is taken, or a
    simpler one that is as good within a standard error: of categories their probabilities; of counts a mixture or a
    table; of continuous outcomes a mixture, of all of them together or of one after the other. Simulations that fail or
    return nan are counted, left out, and warned about.

    Parameters
    ----------
    simulator
        A `Simulator` (shipped, or made by `hs.declare`), or a function `f(*parameters, rng)` or `f(theta, rng)`, which
        needs `prior` and `outcomes`.
    prior
        Where to simulate: parameter name -> (low, high), spread evenly, or a Pyro distribution. By default the boxes of
        the simulator's parameters. A learned likelihood is valid inside its boxes only.
    n_simulations
        By default 100 000; a million for a vectorised function with one discrete outcome, where the fit takes no
        longer; 10 million for a compiled decision model with symmetries.
    seed
        Same seed, same likelihood, on any number of processes.
    budget
        Seconds that the fit may take, without the simulations. If the budget ends the fit, the seed alone no longer
        decides the result.
    outcomes
        Outcomes of a plain function, name -> kind, as `hs.declare` takes them.
    vectorised
        Whether a plain function takes columns (n,), one for each parameter, and returns columns.
    shape
        Of the only network to fit. None: a few are tried.
    n_jobs
        Processes that simulate; None for as many as `joblib.parallel_config` says, or one.
    folder
        Keeps simulations, so that the same call goes on from there; another simulator needs another folder.
    device
        Where the fit runs, "cpu" or "cuda".
    progress
        Show progress bars, and print the verdict.

    Returns
    -------
    MixtureLikelihood or FactoredDecisionLikelihood or FactoredLikelihood
        The likelihood, with its scores in `card`; `save` writes it.

    Raises
    ------
    InputError
        An argument cannot be used, or hardly any simulation has an outcome.

    Warns
    -----
    TrainingWarning
        Simulations failed or are few, the check failed, or the budget ended the fit.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> def cookies(rate, rng):
    ...     return rng.poisson(rate)
    >>> likelihood = hs.train_likelihood(
    ...     cookies, {"rate": (0.5, 20)}, 20_000, outcomes={"chips": "count"}, vectorised=True, progress=False
    ... )
    >>> round(likelihood.log_prob({"chips": [3, 8]}, {"rate": 5.0}).exp().sum().item(), 1)
    0.2
    """
    model = _simulator(simulator, prior, outcomes, vectorised)
    reduced = reducible(model)
    if n_simulations is None:
        cheap = countable(model) and isinstance(model, BlackBoxSimulator) and model.vectorised
        n_simulations = _COMPILED if reduced and model.compiled else _COUNTED if cheap else _SIMULATIONS
    if isinstance(n_simulations, bool) or not isinstance(n_simulations, int) or n_simulations < FEWEST:
        raise InputError(f"n_simulations must be a whole number of at least {FEWEST}; got {n_simulations!r}.")
    if budget is not None and not budget > 0:
        raise InputError(f"budget must be a number of seconds above 0, or None; got {budget!r}.")
    machine, seconds = Machine(n_jobs, device=device, progress=progress), budget or float("inf")
    request = TrainingRequest(model, prior, n_simulations, seed, seconds, folder, machine)
    likelihood: Learned
    if reduced:
        likelihood, failures = train_mixture(request)
    else:
        likelihood, failures = train_factored(request, shape)
    card = likelihood.card
    assert card is not None
    assert isinstance(card.scores, HeldOutScores)
    for message in (*([failures] if failures else []), *_doubts(card.scores, card.recipe["cut_short"], request)):
        warnings.warn(message, TrainingWarning, stacklevel=2)
    if progress:
        print(card.scores.verdict)
    return likelihood


def _simulator(
    simulator: Simulator | Callable[..., Any], prior: Priors | None, outcomes: Outcomes | None, vectorised: bool
) -> Simulator:
    if isinstance(simulator, Simulator):
        if outcomes is not None:
            raise InputError(f"outcomes= is for plain functions; {simulator!r} declares its own.")
        return with_boxes(simulator, prior)
    if not callable(simulator):
        raise InputError(f"simulator must be a Simulator or a function; got {type(simulator).__name__}.")
    if not prior or not outcomes:
        raise InputError(
            "a plain function needs prior={parameter: (low, high)} and outcomes={name: kind}, for instance "
            "prior={'rate': (0.5, 20)}, outcomes={'chips': 'count'}."
        )
    return with_boxes(declare(parameters_of(prior), outcomes, vectorised=vectorised)(simulator), prior)


def _doubts(scores: HeldOutScores, cut_short: bool, request: TrainingRequest) -> Iterator[str]:
    """Reasons not to trust a likelihood yet."""
    parameters = len(request.simulator.names)
    if not scores.passed:
        yield scores.verdict
    if request.n_simulations < _FEW * parameters:
        yield (
            f"{request.n_simulations} simulations are few for {parameters} parameters (held-out log score "
            f"{scores.log_score:.3f}): take {_FEW * parameters} or more, and see whether the score goes on rising."
        )
    if cut_short:
        yield f"the budget of {request.seconds:g} seconds ended the fit before it converged."
