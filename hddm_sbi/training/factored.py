"""The likelihood of any simulator: a few networks fitted to its simulations, the best on those held out, checked."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods import (
    EncodedOutcomes,
    Encoding,
    EstimatorShape,
    Factor,
    Factored,
    FactoredNetwork,
    factored_likelihood,
    success_of,
)
from hddm_sbi.seeds import derive_seed
from hddm_sbi.simulation import Simulated, Simulator
from hddm_sbi.training.descent import Descent
from hddm_sbi.training.held_out import check
from hddm_sbi.training.proposal import countable, design_parameters
from hddm_sbi.training.request import MOST_HELD_OUT, TrainingRequest, succeeded
from hddm_sbi.training.safety import safe_outcomes
from hddm_sbi.types import Array

#: share of the simulations that are held out, for the choice of a network and its check, and their smallest number.
_HELD_OUT, _FEWEST_HELD_OUT = 0.05, 200
#: rows of a batch, of simulations and of conditions whose outcomes are counted; their largest share of all rows.
_BATCH, _COUNTED_BATCH, _SHARE = 500, 16, 0.1
#: bends below this share of those that noise makes are alike.
_STRAIGHT = 0.1
#: simulations for a step, the least and the largest number of steps; looks at the clock.
_PER_STEP, _FEWEST_STEPS, _MOST_STEPS, _LOOKS = 50, 500, 4_000, 10
#: simulations that end at the same number by no chance; and a share of all that is small.
_MANY, _FEW = 20, 0.01
#: standard errors by which a network that costs more must be better.
_CLEAR = 2.0
#: numbers of components that are tried, of continuous outcomes and of counts alone.
_COMPONENTS, _OF_COUNTS = (1, 3, EstimatorShape().components), (1, 4)


class Phase(NamedTuple):
    """How a network is fitted: the step size, batches this times as large, this share of the steps."""

    step_size: float
    batches: int = 1
    steps: float = 1.0


#: at first, by steps whose noise keeps it from following that of the simulations; then the best one once more with less
#: noise, of which outcomes that are nearly certain ask (docs/decisions/074); and where it goes on training elsewhere.
_FIRST, _FINE, _FURTHER = Phase(3e-2), Phase(1e-2, batches=8, steps=0.5), Phase(3e-3, batches=4)


def shapes(simulator: Simulator) -> list[EstimatorShape]:
    """Networks that are tried, those that cost less in a fit first."""
    continuous = sum(not outcome.discrete for outcome in simulator.outcomes)
    counts = any(outcome.kind == "count" for outcome in simulator.outcomes)
    if not continuous and not counts:
        return [EstimatorShape()]
    tried = [EstimatorShape(components=k) for k in (_COMPONENTS if continuous else _OF_COUNTS)]
    if continuous > 1:
        tried.append(EstimatorShape(chained=True))
    return tried + ([EstimatorShape(tabulated=True)] if counts else [])


def train_factored(request: TrainingRequest, shape: EstimatorShape | None) -> tuple[Factored, str]:
    """The likelihood that was asked for, and what to say about simulations that failed."""
    simulator = request.simulator
    n_held_out = int(np.clip(_HELD_OUT * request.n_simulations, _FEWEST_HELD_OUT, MOST_HELD_OUT))
    held_out, held_out_theta = request.held_out(n_held_out)
    theta = design_parameters(simulator, request.prior, request.n_simulations - n_held_out, request.seed)
    training = request.simulate(theta)
    simulated = Simulated(np.concatenate([held_out.values, training.values]), held_out.errors + training.errors)
    everywhere = np.concatenate([held_out_theta, theta])
    values, theta = succeeded(simulated, everywhere)
    n_held_out -= int(held_out.failed.sum())
    left_out = _few_at_limits(simulator, values)
    n_held_out -= int(left_out[:n_held_out].sum())
    values, theta = values[~left_out], theta[~left_out]
    encoding = Encoding.of(simulator, values[n_held_out:], theta[n_held_out:])
    rows = Rows.of(encoding, values[n_held_out:], theta[n_held_out:]).to(request.machine.device)
    unseen = Rows.of(encoding, values[:n_held_out], theta[:n_held_out]).to(request.machine.device)
    deadline, tried = time.monotonic() + request.seconds, [shape] if shape else shapes(simulator)
    (shape, network, losses, _), cut_short = fit_best(request, rows, unseen, tried, deadline)
    if simulated.failed.any():
        network.success = fit_success(encoding, everywhere, simulated.failed, shape, request.seed)
    recipe = {"failed": int(simulated.failed.sum()), "cut_short": cut_short}
    card = request.card("factored", {**shape.as_dict(), **encoding.as_dict()}, recipe, losses)
    likelihood = factored_likelihood(network, encoding, simulator.box, card)
    # Each half begins elsewhere: what a network owes to its beginning is an error, too.
    others = [replace(request, seed=derive_seed(request.seed, k)) for k in (0, 1)]
    halves = [fit_best(each, rows.at(slice(k, None, 2)), unseen, [shape], deadline) for k, each in enumerate(others)]
    each = [factored_likelihood(half.network, encoding, simulator.box, card) for half, _ in halves]
    safe = None if any(late for _, late in halves) else safe_outcomes(likelihood, each, request.seed)
    scores = check(likelihood, values[:n_held_out], theta[:n_held_out], request.seed, safe)
    likelihood.card = replace(card, scores=scores)
    return likelihood, " ".join(filter(None, [simulated.statement(), _said_of(left_out)]))


def _few_at_limits(simulator: Simulator, values: Array) -> NDArray[np.bool_]:
    """Which outcomes (n, k) lie at a limit, the smallest or largest number of a column that many simulations end at, if
    few do.

    A network would learn a spike there, which costs what it has for all other outcomes and may lie anywhere beyond the
    box. Where many outcomes lie at a limit, the spike is the law of those.
    """
    at_limits = np.zeros(len(values), dtype=bool)
    for x in values[:, [not outcome.discrete for outcome in simulator.outcomes]].T:
        for limit in (x.min(), x.max()):
            there = x == limit
            at_limits |= there & (_MANY <= there.sum() <= _FEW * len(x))
    return at_limits


def _said_of(left_out: NDArray[np.bool_]) -> str:
    """How many simulations were left out at limits, in one sentence; "" where none was."""
    if not left_out.any():
        return ""
    return (
        f"{left_out.sum()} of {len(left_out)} simulations end at the smallest or largest number of an outcome, as if "
        "cut there, and were left out: the likelihood is that of outcomes within these limits."
    )


@dataclass(frozen=True)
class Rows:
    """Simulations as networks are fitted to them.

    condition (n, width). continuous (n, c), discrete (n, d): encoded outcomes; a single discrete outcome is counted
    where neighbouring rows have the same condition, and discrete (n, size) are the shares of its values in so many
    repeats.
    """

    encoding: Encoding
    condition: Tensor
    continuous: Tensor
    discrete: Tensor
    repeats: int | None = None

    @classmethod
    def of(cls, encoding: Encoding, values: Array, theta: Array) -> "Rows":
        """Simulated outcomes (n, k) at theta (n, p). Raises InputError for response times before the shift."""
        simulator = encoding.simulator
        at = torch.as_tensor(theta)
        encoded = encoding.encode(torch.as_tensor(values), at)
        if not bool(torch.isfinite(encoded.log_stretch).all()):
            name = simulator.symmetries.shift
            raise InputError(
                f"rt is at or below {name!r} in some simulations, but symmetries declare {name!r} as a shift."
            )
        condition = encoding.condition(at).float()
        if countable(simulator):
            return _counted(encoding, condition, encoded)
        return cls(encoding, condition, encoded.continuous.float(), encoded.discrete.float())

    def __len__(self) -> int:
        return len(self.condition)

    def at(self, rows: Tensor | slice) -> "Rows":
        """Some of the rows."""
        return replace(
            self, condition=self.condition[rows], continuous=self.continuous[rows], discrete=self.discrete[rows]
        )

    def to(self, device: str) -> "Rows":
        """On another device."""
        moved = {name: getattr(self, name).to(device) for name in ("condition", "continuous", "discrete")}
        return replace(self, **moved)

    @property
    def counted(self) -> bool:
        """Whether outcomes are counted."""
        return self.repeats is not None

    @property
    def batch(self) -> int:
        """How many rows a step takes at first."""
        return _COUNTED_BATCH if self.counted else _BATCH

    @property
    def n_simulations(self) -> int:
        """How many simulations the rows are of."""
        return len(self) * (self.repeats or 1)

    def log_score(self, network: FactoredNetwork) -> Tensor:
        """Log density of every row, (n,)."""
        if self.counted:
            return (self.discrete * network.log_table(self.condition)).sum(-1)
        return network.log_prob(self.continuous, self.discrete, self.condition)

    def loss(self, network: FactoredNetwork, n: int) -> Tensor:
        """Minus the mean log posterior density of the weights by n simulations of which these are some.

        The k weights w that bend a number away from a straight line have the prior |w|^-k, flat in the logarithm of
        their size (automatic relevance determination, MacKay 1995), where size is how far they bend it, as a mean
        square. Noise bends it by about k / n.
        """
        if self.counted:
            log_table, bends = network.log_table_and_bends(self.condition)
            score = (self.discrete * log_table).sum(-1)
        else:
            score, bends = network.log_prob_and_bends(self.continuous, self.discrete, self.condition)
        noise = next(network.factors).bent.in_features / n
        return 0.5 * noise * torch.log(bends + _STRAIGHT * noise).sum() - score.mean()


def _counted(encoding: Encoding, condition: Tensor, encoded: EncodedOutcomes) -> Rows:
    """Distinct neighbouring conditions, and the share of every value among their outcomes."""
    rows, row = torch.unique_consecutive(condition, dim=0, return_inverse=True)
    (size,) = encoding.sizes
    places = row * size + encoded.discrete[:, 0].long()
    counts = torch.bincount(places, minlength=len(rows) * size).reshape(len(rows), size).float()
    # A condition that lost simulations weighs less, as it does without counting.
    repeats = counts.sum(-1).max()
    return Rows(encoding, rows, rows[:, :0], counts / repeats, int(repeats))


class Fitted(NamedTuple):
    """A network, its shape, minus its log score of validation rows along the fit, and this of every row at the end."""

    shape: EstimatorShape
    network: FactoredNetwork
    losses: tuple[float, ...]
    score: Tensor


def fit_best(
    request: TrainingRequest, training: Rows, validation: Rows, tried: Sequence[EstimatorShape], deadline: float
) -> tuple[Fitted, bool]:
    """Fit a network of every shape, choose one by the log scores of the validation rows, and fit that more finely,
    if this is better; and whether the deadline ended the fit."""
    steps = int(np.clip(request.n_simulations // _PER_STEP, _FEWEST_STEPS, _MOST_STEPS))
    total = round(steps * (len(tried) * _FIRST.steps + _FINE.steps))
    with tqdm(total=total, desc="fit", unit=" steps", disable=not request.machine.progress) as bar:

        def goes_on(loss: float, n_steps: int) -> bool:
            bar.update(n_steps)
            bar.set_postfix(validation=f"{loss:.4f}")
            return time.monotonic() <= deadline

        def fitted(phase: Phase, shape: EstimatorShape, network: FactoredNetwork, before: tuple[float, ...]) -> Fitted:
            n = round(phase.steps * steps)
            network, losses = _fit(network, training, validation, phase, n, request.seed, goes_on)
            with torch.no_grad():
                return Fitted(shape, network, (*before, *losses), validation.log_score(network))

        fits = []
        for shape in tried:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(request.seed)
                network = FactoredNetwork(training.encoding, shape).to(request.machine.device)
            fits.append(fitted(_FIRST, shape, network, ()))
            if time.monotonic() > deadline:
                break
        best = _best(fits)
        if time.monotonic() <= deadline:
            finer = fitted(_FINE, best.shape, copy.deepcopy(best.network), best.losses)
            # They cost the same in a fit.
            best = max(best, finer, key=lambda fit: float(fit.score.mean()))
    shape, network, losses, score = best
    return Fitted(shape, network.cpu(), losses, score), time.monotonic() > deadline


def _best(fits: Sequence[Fitted]) -> Fitted:
    """Which network to take, of those that cost less first.

    The first whose mean score is within two standard errors of the best one's: what cannot be told from noise is not
    paid for, nor with what components that have nothing to say may do beyond the box.
    """
    scores = torch.stack([fit.score for fit in fits])
    behind = scores[scores.mean(1).argmax()] - scores
    within = behind.mean(1) <= _CLEAR * behind.std(1) / scores.shape[1] ** 0.5
    return fits[int(within.int().argmax())]


def trained_further(likelihood: Factored, values: Array, theta: Array, seed: int) -> Factored:
    """The same likelihood whose network goes on training, on simulations (n, k) at theta (n, p).

    From where it is: so it changes where these simulations say so, and their noise changes it elsewhere little.
    """
    rows = Rows.of(likelihood.encoding, values, theta)
    network = copy.deepcopy(likelihood.network).float()
    for factor in network.factors:
        factor.requires_grad_(True)
    steps = int(np.clip(len(theta) // _PER_STEP, _FEWEST_STEPS, _MOST_STEPS))
    descent = Descent(network, steps, _FURTHER.step_size)
    for number, batch in enumerate(_batches(len(rows), _FURTHER.batches * rows.batch, steps, seed)):
        descent.step(number, -rows.at(batch).log_score(network).mean())
    card = likelihood.card
    assert card is not None
    recipe, simulations = {**card.recipe, "further": len(theta)}, card.simulations + len(theta)
    card = replace(card, recipe=recipe, simulations=simulations, sha256="", scores=None, validation=())
    return factored_likelihood(descent.average, likelihood.encoding, likelihood.box, card)


def fit_success(
    encoding: Encoding, theta: Array, failed: NDArray[np.bool_], shape: EstimatorShape, seed: int
) -> Factor:
    """Where simulations succeed: theta (n, p), failed (n,)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        descent = Descent(success_of(encoding, shape), _FEWEST_STEPS, _FIRST.step_size)
    condition = encoding.condition(torch.as_tensor(theta)).float()
    position = torch.as_tensor(~failed).long().unsqueeze(-1)
    for number, rows in enumerate(_batches(len(condition), _BATCH, _FEWEST_STEPS, seed)):
        log_p = descent.network(condition[rows]).log_softmax(-1).gather(-1, position[rows])
        descent.step(number, -log_p.mean())
    return descent.average


def _fit(
    network: FactoredNetwork,
    training: Rows,
    validation: Rows,
    phase: Phase,
    steps: int,
    seed: int,
    goes_on: Callable[[float, int], bool],
) -> tuple[FactoredNetwork, list[float]]:
    """The mean of late weights, and minus the log score of the validation rows along the fit."""
    descent, losses, between = Descent(network, steps, phase.step_size), [], max(1, steps // _LOOKS)
    for number, rows in enumerate(_batches(len(training), phase.batches * training.batch, steps, seed)):
        descent.step(number, training.at(rows).loss(network, training.n_simulations))
        if (number + 1) % between == 0:
            with torch.no_grad():
                losses.append(-float(validation.log_score(descent.average).mean()))
            if not goes_on(losses[-1], between):
                break
    return descent.average, losses


def _batches(n: int, batch: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Rows of every step, a tenth of all at most: each row once before any comes again."""
    batch = max(1, min(batch, round(_SHARE * n)))
    rng, order = np.random.default_rng(seed), np.empty(0, dtype=np.int64)
    for _ in range(steps):
        if len(order) < batch:
            order = rng.permutation(n)
        rows, order = order[:batch], order[batch:]
        yield torch.as_tensor(rows)
