"""Parameters at which a simulator is run: spread evenly over its box, or drawn from a prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.stats import qmc
from torch.distributions import Distribution, constraints

from hddm_sbi.errors import InputError, did_you_mean, name_rows
from hddm_sbi.simulation import Link, Parameter, Simulator, parameter
from hddm_sbi.types import Array

Priors = Mapping[str, tuple[float, float] | Distribution]

#: the box of a parameter with a distribution is where all but this share of it lies, on either side.
_TAIL = 1e-3
_DRAWS = 20_000
#: parameter sets that a discrete outcome is counted at, per parameter.
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


def design(simulator: Simulator, prior: Priors | None, n: int, seed: int) -> Array:
    """Parameters of n simulations (n, p), as `propose` draws them; where outcomes can be counted, fewer of them, each
    many times in a row."""
    repeats = max(1, n // (_COUNTED * len(simulator.parameters))) if countable(simulator) else 1
    return np.repeat(propose(simulator, prior, -(-n // repeats), seed), repeats, axis=0)[:n]


def propose(simulator: Simulator, prior: Priors | None, n: int, seed: int) -> Array:
    """n parameter sets (n, p): a scrambled Sobol sequence over the box, in random order, and draws where the prior is a
    distribution. Conditions that are given have either of their codes."""
    rng = np.random.default_rng(seed)
    points = qmc.Sobol(len(simulator.parameters), scramble=True, rng=rng).random_base2((n - 1).bit_length())
    points = points[rng.permutation(n)]
    theta = np.empty((n, len(simulator.parameters)))
    for column, p in enumerate(simulator.parameters):
        chosen = (prior or {}).get(p.name)
        if isinstance(chosen, Distribution):
            theta[:, column] = _draws(chosen, n, [seed, column])
        elif p.from_data:
            theta[:, column] = np.where(points[:, column] < 0.5, p.low, p.high)
        else:
            theta[:, column] = p.low + (p.high - p.low) * points[:, column]
    return theta


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
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        return np.asarray(prior.sample(torch.Size([n])).double().numpy())


def _link(prior: Any) -> Link | None:
    """What the support of a distribution says about the link; None for a box, which speaks for itself."""
    if not isinstance(prior, Distribution):
        return None
    if prior.support in (constraints.positive, constraints.nonnegative):
        return "log"
    return "logit" if prior.support is constraints.unit_interval else "identity"
