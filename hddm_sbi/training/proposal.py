"""Parameters at which a simulator runs: spread evenly over its box, or drawn from a prior."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.stats import qmc
from torch.distributions import Distribution, constraints

from hddm_sbi.errors import InputError, did_you_mean, name_rows
from hddm_sbi.seeds import derive_seed
from hddm_sbi.simulation import Link, Parameter, Simulator, parameter
from hddm_sbi.types import Array

Priors = Mapping[str, tuple[float, float] | Distribution]

#: share of a distribution that lies outside its box, on either side; and draws that find the box.
_TAIL = 1e-3
_DRAWS = 20_000
#: parameter sets at which a discrete outcome is counted, per parameter of the model.
_COUNTED = 1_000


def parameters_of(prior: Priors) -> dict[str, Parameter]:
    """Parameters of a plain function by their priors: a box (low, high), or a distribution of one number."""
    return {name: parameter(name, *_box(name, p), link=_link(p)) for name, p in prior.items()}


def with_boxes(simulator: Simulator, prior: Priors | None) -> Simulator:
    """The simulator with the boxes of a prior. Raises InputError where the prior leaves the simulator's domain."""
    unknown = [name for name in prior or {} if name not in simulator.names]
    if unknown:
        hint = did_you_mean(unknown[0], simulator.names)
        raise InputError(
            f"prior names {unknown[0]!r}, which is no parameter of {simulator.name!r}{hint} Parameters: "
            f"{', '.join(simulator.names)}."
        )
    changed = []
    for p in simulator.parameters:
        if prior is not None and p.name in prior:
            _check_domain(p, prior[p.name])
            low, high = _box(p.name, prior[p.name])
            p = replace(p, low=max(low, p.support[0]), high=min(high, p.support[1]))
        changed.append(p)
    return replace(simulator, parameters=tuple(changed))


def countable(simulator: Simulator) -> bool:
    """Whether its outcome is a single discrete one, whose values can be counted."""
    return len(simulator.outcomes) == 1 and simulator.outcomes[0].discrete


def design_parameters(simulator: Simulator, prior: Priors | None, n: int, seed: int) -> Array:
    """Parameters of n simulations (n, p), as `propose` draws them.

    Where outcomes can be counted there are fewer parameter sets, each many times in a row.
    """
    repeats = max(1, n // (_COUNTED * len(simulator.parameters))) if countable(simulator) else 1
    return np.repeat(propose(simulator, prior, -(-n // repeats), seed), repeats, axis=0)[:n]


def propose(simulator: Simulator, prior: Priors | None, n: int, seed: int) -> Array:
    """n parameter sets (n, p): a scrambled Sobol sequence over the box, in random order.

    Where the prior is a distribution the values are draws of it.
    """
    rng = np.random.default_rng(seed)
    points = _sobol(len(simulator.parameters), n, rng)[rng.permutation(n)]
    theta = _in_boxes(simulator.parameters, points)
    for column, name in enumerate(simulator.names):
        law = (prior or {}).get(name)
        if isinstance(law, Distribution):
            theta[:, column] = _draws(law, n, [seed, column])
    return theta


def design_widened(parameters: Sequence[Parameter], at_zero: Collection[str | None], n: int, seed: int) -> Array:
    """n parameter sets (n, p): a scrambled Sobol sequence over the boxes widened by 5 % of their width.

    Widening keeps the edge of the box inside the training region. Parameters named in `at_zero` are 0.
    """
    points = _sobol(len(parameters), n, np.random.default_rng(seed))[:n]
    theta = _in_boxes([_widened(p) for p in parameters], points)
    theta[:, [p.name in at_zero for p in parameters]] = 0.0
    return theta


def share_rows(theta: Array, alone: Collection[bool], together: int) -> Array:
    """The same design (n, p) with so many consecutive rows alike in every column but those that are alone (p,)."""
    n, kept = len(theta), ~np.asarray(alone)
    shared = theta.copy()
    shared[:, kept] = np.repeat(theta[: -(-n // together)], together, axis=0)[:n][:, kept]
    return shared


def _sobol(dimensions: int, n: int, rng: np.random.Generator) -> Array:
    """At least n points of a scrambled Sobol sequence."""
    return np.asarray(qmc.Sobol(dimensions, scramble=True, rng=rng).random_base2((n - 1).bit_length()))


def _in_boxes(parameters: Sequence[Parameter], points: Array) -> Array:
    """Points (n, p) of the unit cube in the boxes of the parameters; a condition from the data has one of its codes."""
    low, high = np.array([(p.low, p.high) for p in parameters]).T
    theta = low + (high - low) * points
    for column, p in enumerate(parameters):
        if p.from_data:
            theta[:, column] = among_codes(p, points[:, column])
    return theta


def among_codes(condition: Parameter, points: Array) -> Array:
    """Points (n,) of [0, 1) as codes of a condition, all of them alike in number."""
    return np.asarray(condition.codes)[(len(condition.codes) * points).astype(np.int64)]


def _widened(p: Parameter) -> Parameter:
    if p.from_data:
        return p
    margin = 0.05 * (p.high - p.low)
    low, high = max(p.low - margin, (p.low + p.support[0]) / 2), min(p.high + margin, (p.high + p.support[1]) / 2)
    return replace(p, low=low, high=high)


def _check_domain(p: Parameter, prior: Any) -> None:
    values = _draws(prior, _DRAWS, [0]) if isinstance(prior, Distribution) else np.array(prior, dtype=np.float64)
    wrong = np.flatnonzero((values < p.support[0]) | (values > p.support[1]))
    if wrong.size:
        share = f"{wrong.size} of {values.size} draws, such as" if isinstance(prior, Distribution) else "its box has"
        raise InputError(
            f"the prior of {p.name!r} leaves the domain of {p.name!r}, {p.support}: {share} {values[wrong[0]]:.4g}. "
            "Truncate it, or give a box inside the domain."
        )


def _box(name: str, prior: Any) -> tuple[float, float]:
    if not isinstance(prior, Distribution):
        try:
            low, high = (float(end) for end in prior)
        except (TypeError, ValueError):
            raise InputError(
                f"the prior of {name!r} must be a box (low, high) or a Pyro distribution; got {prior!r}."
            ) from None
        return low, high
    values = _draws(prior, _DRAWS, [0])
    infinite = np.flatnonzero(~np.isfinite(values))
    if infinite.size:
        raise InputError(f"the prior of {name!r} draws infinite numbers ({name_rows(infinite.tolist())} of its draws).")
    low, high = np.quantile(values, [_TAIL, 1 - _TAIL])
    return float(low), float(high)


def _draws(prior: Distribution, n: int, seed: list[int]) -> Array:
    if prior.batch_shape or prior.event_shape:
        raise InputError(
            f"a prior must be a distribution of one number; got one of shape {tuple(prior.sample().shape)}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(*seed))
        return np.asarray(prior.sample(torch.Size([n])).double().numpy())


def _link(prior: Any) -> Link | None:
    """The link that the support of a distribution implies; None for a box, from which `parameter` derives it."""
    if not isinstance(prior, Distribution):
        return None
    if prior.support in (constraints.positive, constraints.nonnegative):
        return "log"
    return "logit" if prior.support is constraints.unit_interval else "identity"
