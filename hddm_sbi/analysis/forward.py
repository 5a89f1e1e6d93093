"""A table simulated trial after trial, where what a trial brings changes the trials after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from hddm_sbi.data import Course, payoffs
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy import AlongTrials, HierarchicalModel
from hddm_sbi.types import Array, Index

#: outcomes (m, k) as they are seen of trials (m,) at theta (m, p), with that seed.
Outcomes = Callable[[Index, Array, list[int]], Array]


def run_forward(
    model: HierarchicalModel, along: AlongTrials, on_cells: Array, seed: Sequence[int], outcomes: Outcomes
) -> tuple[Array, dict[str, Array | None]]:
    """Outcomes (n_trials, k) of a table that is simulated along its sequences, whose own choices feed back into what is
    learned; and what every choice would have brought, by sequence.

    on_cells: (n_cells, q), what the parameter map takes. outcomes: simulates trials.
    """
    values = torch.from_numpy(on_cells)
    rng = np.random.default_rng([*seed, 3])
    walks = [_Walk(course, payoffs(course, model.trials.frame, rng)) for course in along.courses]
    own = [on_cells[:, [along.column(p.name) for p in c.sequence.parameters.values()]] for c in along.courses]
    states = [rule.begins(p[along.design[w.first]]) for rule, w, p in zip(along.rules, walks, own, strict=True)]
    found = np.full_like(model.trials.values, np.nan)
    for number, trials in enumerate(_waves(walks, len(found))):
        at = [(rule, w, p[along.design[trials]]) for rule, w, p in zip(along.rules, walks, own, strict=True)]
        before = [state[w.run[trials]] for state, w in zip(states, walks, strict=True)]
        covariates = {
            w.course.name: torch.from_numpy(rule.after(state, p, w.course.rows[trials])[1])
            for (rule, w, p), state in zip(at, before, strict=True)
        }
        theta = along.theta(values, covariates, trials).numpy()
        found[trials] = outcomes(trials, theta, [*seed, 4, number])
        for i, ((rule, w, p), state) in enumerate(zip(at, before, strict=True)):
            states[i][w.run[trials]] = rule.after(state, p, w.course.read(trials, found[trials], w.paid))[0]
    return found, {w.course.name: w.paid for w in walks}


@dataclass(frozen=True)
class _Walk:
    """A sequence on a table, and what every choice would bring, (n_trials, n_choices)."""

    course: Course
    paid: Array | None

    @cached_property
    def first(self) -> Index:
        """First trial of every sequence."""
        return self.course.trial[self.course.starts[:-1]]

    @cached_property
    def run(self) -> Index:
        """The sequence of every trial, in the order of the table."""
        c = self.course
        return np.repeat(np.arange(len(c.starts) - 1), np.diff(c.starts))[np.argsort(c.trial)]

    @property
    def before(self) -> Index:
        """The trial before every trial, in the order of the table; -1 for the first ones."""
        c = self.course
        before = np.full(len(c.trial), -1)
        before[c.trial[1:]] = c.trial[:-1]
        before[self.first] = -1
        return before


def _waves(walks: Sequence[_Walk], n_trials: int) -> list[Index]:
    """Trials that can be simulated together, wave after wave: those before them are done.

    Raises InputError where two sequences want each other's trials first.
    """
    wave = np.zeros(n_trials, dtype=np.int64)
    befores = [walk.before for walk in walks]
    for _ in range(n_trials + 1):
        next_wave = np.maximum.reduce([np.where(before < 0, 0, wave[before] + 1) for before in befores])
        if (next_wave == wave).all():
            order = np.argsort(wave, kind="stable")
            return np.split(order, np.flatnonzero(np.diff(wave[order])) + 1)
        wave = next_wave
    names = ", ".join(walk.course.name for walk in walks)
    raise InputError(f"the sequences {names} have trials in different orders: each wants some of the others' first.")
