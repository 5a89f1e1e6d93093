"""What outcomes at some parameters are like, by name: accuracy, choice probabilities, means and quantiles of rt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hddm_sbi.likelihoods.likelihood import Likelihood
from hddm_sbi.likelihoods.outcome_law import decision_law
from hddm_sbi.types import Array, Index

#: quantiles of rt that the field plots.
PROBABILITIES = (0.1, 0.3, 0.5, 0.7, 0.9)
#: outcomes that are simulated at each row, where they are not rt and response.
_OUTCOMES = 200


def outcome_quantities(
    likelihood: Likelihood, theta: Array, responses: Sequence[object], correct: Index | None, seed: int
) -> dict[str, Array]:
    """Numbers (n,) by name, at every row of theta (n, p), of trials that are no lapses and are seen whole.

    responses: names of the choices, if not their codes. correct: the position of the correct one in every row, or None.
    seed: of outcomes that are not rt and response, whose means are simulated.
    """
    simulator = likelihood.simulator
    if not simulator.is_decision_model:
        repeated = torch.as_tensor(np.repeat(theta, _OUTCOMES, axis=0))
        values = likelihood.simulate(repeated, seed).reshape(len(theta), _OUTCOMES, -1)
        return _means(values, [(o.name, o.kind, o.categories) for o in simulator.outcomes])
    law = decision_law(likelihood, theta, PROBABILITIES)
    names = [f"[{name}]" for name in (responses or simulator.choices)]
    found: dict[str, Array] = {}
    if correct is not None:
        found["accuracy"] = law.probability[np.arange(len(theta)), correct]
    found |= {f"probability{name}": law.probability[:, c] for c, name in enumerate(names)}
    for c, name in [(len(names), ""), *enumerate(names)]:
        found[f"rt_mean{name}"] = law.mean[:, c]
        found |= {f"rt_q{100 * p:.0f}{name}": law.quantile[:, c, k] for k, p in enumerate(PROBABILITIES)}
    return found


def _means(values: Array, outcomes: Sequence[tuple[str, str, Sequence[object]]]) -> dict[str, Array]:
    """Of simulated outcomes (n, m, k): the mean of each, or the probability of each category."""
    found: dict[str, Array] = {}
    for k, (name, kind, categories) in enumerate(outcomes):
        if kind == "categorical":
            shares = [(values[..., k] == c).mean(1) for c in range(len(categories))]
            found |= {f"{name}[{label}]": share for label, share in zip(categories, shares, strict=True)}
        else:
            found[f"{name}_mean"] = values[..., k].mean(1)
    return found
