"""Parameters that move along trials: covariates of sequences, and the rows of theta that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from hddm_sbi.data import Course, at_one
from hddm_sbi.errors import InputError, name_rows
from hddm_sbi.hierarchy.parameter_map import CellTrials, OnCells, ParameterMap
from hddm_sbi.hierarchy.priors.choice import median
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.hierarchy.terms.coefficients import Values
from hddm_sbi.hierarchy.terms.link import from_link, onto_box, to_link
from hddm_sbi.hierarchy.terms.predictor import Predictor
from hddm_sbi.inference import Native, UnknownOperationError
from hddm_sbi.numerics import apply_rule, recur
from hddm_sbi.types import Array, Index, Link

#: values at which a rule is recorded, and others at which what was recorded must be the same.
_RECORDED, _COMPARED = 0.3, 0.6
#: of a central difference, on the scale of a link.
_STEP = 1e-4


class CompiledRule:
    """The rule of a sequence on a table as machine code, and its pullback.

    order: trials as `recur` takes them. begin, begin_of: of every number of the state. n_states, width: how many
    numbers the state and the covariate are.
    """

    def __init__(self, course: Course, design: Index) -> None:
        trial = course.trial
        # Of what is missing the state knows nothing, and a derivative of 0 times nan would be nan.
        in_order = np.nan_to_num(course.rows)[trial], course.known[trial], design[trial], trial, course.starts
        self.order = tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in in_order)
        begins = [at for numbers in course.begins.values() for at in numbers]
        names = list(course.sequence.parameters)
        self.begin = torch.tensor([0.0 if isinstance(at, str) else at for at in begins], dtype=torch.float64)
        self.begin_of = torch.tensor([names.index(at) if isinstance(at, str) else -1 for at in begins])
        self.n_states = len(begins)
        n = len(begins) + len(names)

        def pull(x: Tensor) -> Tensor:
            given, upstream = x.detach().split([n + course.rows.shape[1], len(x) - n - course.rows.shape[1]])
            given = given.clone().requires_grad_(True)
            result = course.rule(given)
            if not result.requires_grad:
                return torch.zeros(n, dtype=torch.float64)
            (gradient,) = torch.autograd.grad(result, given, upstream)
            return gradient[:n]

        parts = len(begins), len(names), course.rows.shape[1]
        self.step = self._native(course, course.rule, parts)
        self.width = self.step.m - self.n_states
        self._check_known(course, n)
        self.pull = self._native(course, pull, (*parts, self.n_states, self.width))

    def _check_known(self, course: Course, n: int) -> None:
        """Refuse a covariate that is not known before its own trial ends, or that needs what is missing."""
        if self._needs(n, [columns for columns, _ in course.of_outcomes]):
            raise InputError(
                f"the rule {course.sequence.name!r} returns a covariate that depends on the response, or what follows "
                "from it, of the trial itself, which the covariate is to explain; return what was known before it."
            )
        for at, column in enumerate(course.sequence.columns.values()):
            missing = np.flatnonzero(np.isnan(course.rows[:, at]))
            if missing.size and self._needs(n, [slice(at, at + 1)]):
                raise InputError(
                    f"the covariate of the rule {course.sequence.name!r} depends on column {column!r}, which has "
                    f"missing values in {name_rows(missing.tolist())} (0 = first); fill them in."
                )

    def _needs(self, n: int, columns: Sequence[slice]) -> bool:
        """Whether the covariate depends on some of what the rule reads, which follows n other numbers."""
        x = np.full(self.step.n, _RECORDED)
        for part in columns:
            x[n + part.start : n + part.stop] = np.nan
        return bool(np.isnan(self.step(x)[self.n_states :]).any())

    def after(self, state: Array, parameters: Array, rows: Array) -> tuple[Array, Array]:
        """The rule on many trials at once: states (m, n_states), parameters (m, k), what it reads (m, columns) -> the
        states after them, and the covariates (m, width). Where something is missing that it reads, the state stays."""
        x, p, row = (np.ascontiguousarray(part) for part in (state, parameters, rows))
        result = np.empty((len(state), self.n_states + self.width))
        apply_rule(self.step.address, x, p, row, result)
        known = np.isfinite(rows).all(1, keepdims=True)
        return np.where(known, result[:, : self.n_states], state), result[:, self.n_states :]

    def begins(self, parameters: Array) -> Array:
        """The state before the first trial, (m, n_states), from parameters there (m, k)."""
        state = np.tile(self.begin.numpy(), (len(parameters), 1))
        for at, of in enumerate(self.begin_of.tolist()):
            if of >= 0:
                state[:, at] = parameters[:, of]
        return state

    def _native(self, course: Course, function: Any, parts: Sequence[int]) -> Native:
        spread = np.linspace(0.9, 1.1, sum(parts))
        try:
            function(torch.from_numpy(_RECORDED * spread))
        except InputError:
            raise
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as reason:
            own = course.sequence
            raise InputError(
                f"the rule {own.name!r} cannot be computed ({type(reason).__name__}: {reason}); it is a function of "
                f"dicts of tensors, (state, row, parameters) -> state, covariate: state {list(own.start)}, row "
                f"{[*own.columns, *own.choices]}, parameters {list(own.parameters)}."
            ) from reason
        try:
            made = Native(function, _RECORDED * spread, parts)
        except (UnknownOperationError, RuntimeError) as reason:
            raise InputError(
                f"the rule {course.sequence.name!r} cannot be compiled ({str(reason).partition(chr(10))[0]}); it may "
                "use torch's functions of numbers, sums and products, and chooses by torch.where, not by `if`."
            ) from reason
        x = _COMPARED * spread
        if not np.allclose(made(x), function(torch.from_numpy(x)).detach().numpy(), rtol=1e-9, atol=1e-12):
            raise InputError(
                f"what the rule {course.sequence.name!r} does depends on the values that it sees in ways that torch "
                "does not record, such as `if`; choose by torch.where."
            )
        return made


@dataclass(frozen=True)
class Along:
    """One parameter of the likelihood that moves with covariates, on the scale of its link.

    covariates: by name, which of a covariate's numbers it takes: that of its accumulator, or None for the difference
    of two.
    """

    name: str
    predictor: Predictor
    covariates: Mapping[str, int | None]


@dataclass(frozen=True)
class AlongTrials(ParameterMap):
    """Every trial has a theta of its own, which depends on the trials before it.

    names: of the likelihood's parameters. design: (n_trials,) cell of each trial. courses: of the sequences. moved:
    parameters that move with them. further: those of the rules, and the moved ones where a covariate is 1.

    On the scale of the links, eta(trial) = eta_0(cell) + sum over covariates c(trial) (eta_1(cell) - eta_0(cell)), with
    eta_1 the predictor where that covariate is 1, and eta_0 where all are 0.
    """

    names: tuple[str, ...]
    design: Index
    courses: tuple[Course, ...]
    moved: tuple[Along, ...]

    @property
    @override
    def further(self) -> tuple[str, ...]:
        """What it takes beside the likelihood's parameters."""
        ones = [at_one(along.name, covariate) for along in self.moved for covariate in along.covariates]
        return (*ones, *self.of_rules)

    @property
    def of_rules(self) -> dict[str, Course]:
        """The parameters of rules, and which sequence each belongs to."""
        return {p.name: course for course in self.courses for p in course.sequence.parameters.values()}

    @cached_property
    def rules(self) -> tuple[CompiledRule, ...]:
        """The rules as machine code, made when they are first needed."""
        return tuple(CompiledRule(course, self.design) for course in self.courses)

    @override
    def rows(self, values: Tensor, trials: CellTrials) -> Tensor:
        if values.dim() > 2:
            return torch.stack([self.rows(each, trials) for each in values])
        return self.theta(values, self.covariates(values))

    def covariates(self, values: Tensor) -> dict[str, Tensor]:
        """Every covariate of every trial, (n_trials, numbers), from the values on the design's cells (n_cells, q)."""
        found: dict[str, Tensor] = {}
        for course, rule in zip(self.courses, self.rules, strict=True):
            own = values[:, [self.column(p.name) for p in course.sequence.parameters.values()]]
            addresses = rule.step.address, rule.pull.address
            found[course.name] = recur(own, rule.begin, rule.begin_of, *rule.order, rule.width, *addresses)[0]
        return found

    def theta(self, values: Tensor, covariates: Mapping[str, Tensor], trials: Index | slice = slice(None)) -> Tensor:
        """Theta (m, p) of trials (m,), by default all, where the covariates are these, (m, numbers)."""
        cell = torch.from_numpy(self.design[trials])
        columns = {name: values[:, i] for i, name in enumerate((*self.names, *self.further))}
        moved = {along.name: along for along in self.moved}
        found = []
        for name in self.names:
            base = columns[name][cell]
            if name in moved:
                for covariate, number in moved[name].covariates.items():
                    slope = columns[at_one(name, covariate)] - columns[name]
                    base = base + number_of(covariates[covariate], number) * slope[cell]
                p = moved[name].predictor
                base = onto_box(base, p.link, p.low, p.high)
            found.append(base)
        return torch.stack(found, -1)

    def with_outcomes(self, values: Array, paid: Mapping[str, Array | None]) -> AlongTrials:
        """The same of a table with other outcomes, (n_trials, k), where choices would bring what is paid."""
        every = np.arange(len(values))
        courses = [replace(c, rows=c.read(every, values, paid.get(c.name))) for c in self.courses]
        return replace(self, courses=tuple(courses))

    @property
    @override
    def facts(self) -> dict[str, Any]:
        """Every sequence as plain data; of a rule that a file cannot hold, what it makes of some numbers."""
        found = {}
        for course, rule in zip(self.courses, self.rules, strict=True):
            tried = [f"{y:.9g}" for y in rule.step(_COMPARED * np.linspace(0.9, 1.1, rule.step.n))]
            own = {} if course.sequence.settings is not None else {"of some numbers": tried}
            found[course.name] = {**course.sequence.record, **own}
        return found

    @override
    def cell(self, trials: CellTrials) -> Index:
        return self.design

    def column(self, name: str) -> int:
        """Where a number is among the values on the design's cells."""
        return (*self.names, *self.further).index(name)

    def __getstate__(self) -> dict[str, Any]:
        """Without machine code, which belongs to its process."""
        return {name: value for name, value in self.__dict__.items() if name != "rules"}


def number_of(covariate: Tensor, number: int | None) -> Tensor:
    """A covariate's number for one parameter, (m,), from all of them, (m, numbers)."""
    if covariate.shape[1] == 1:
        return covariate[:, 0]
    return covariate[:, 1] - covariate[:, 0] if number is None else covariate[:, number]


def settled(hierarchy: Hierarchy) -> Hierarchy:
    """The same model on trials where the covariates of sequences are known numbers, those at the prior medians of the
    rules' parameters, of which its trials then say nothing."""
    own = hierarchy.parameter_map
    if not isinstance(own, AlongTrials):
        return hierarchy
    values = torch.zeros(hierarchy.n_cells, len(own.names) + len(own.further), dtype=torch.float64)
    for p in (p for p in hierarchy.predictors if p.name in own.of_rules):
        at = {c.name: median(c.prior) if c.levels is None else median(c.prior).expand(len(c.levels)) for c in p.common}
        none = [torch.zeros(len(g.levels), g.matrix.shape[1], dtype=torch.float64) for g in p.groups]
        values[:, own.column(p.name)] = onto_box(p.linear(at, none), p.link, p.low, p.high)
    for name in (name for name in own.of_rules if name in hierarchy.fixed):
        values[:, own.column(name)] = hierarchy.fixed[name]
    return _on_trials(hierarchy, own, own.covariates(values))


def tangent(hierarchy: Hierarchy, values: Values) -> Hierarchy:
    """The linear model on trials whose numbers move as those of a model do near a posterior's variables; itself where
    it is linear.

    A rule's parameters move what its covariate moves: by its slope, times the derivative of the covariate by the
    parameter on the scale of its link, when it moves for all trials of a sequence.
    """
    own = hierarchy.parameter_map
    if not isinstance(own, AlongTrials):
        return hierarchy
    at, cell = hierarchy.on_cells(values), torch.from_numpy(own.design)
    known = _on_trials(hierarchy, own, own.covariates(at))

    def moved(p: Predictor) -> Predictor:
        course = own.of_rules.get(p.name)
        if course is None:
            return p
        by = _derivative(own, at, p)[course.name]
        along = [a for a in own.moved if course.name in a.covariates]
        slopes = [at[:, own.column(at_one(a.name, course.name))] - at[:, own.column(a.name)] for a in along]
        each = [s[cell] * number_of(by, a.covariates[course.name]) for s, a in zip(slopes, along, strict=True)]
        factor, n = torch.cat(each).unsqueeze(-1), len(along)
        common = tuple(replace(c, matrix=c.matrix.expand(p.n_rows, -1).repeat(n, 1) * factor) for c in p.common)
        groups = tuple(replace(g, matrix=g.matrix.repeat(n, 1) * factor, index=g.index.repeat(n)) for g in p.groups)
        names = tuple(a.name for a in along)
        return replace(p, parameters=names, common=common, groups=groups, offset=None, n_rows=n * p.n_rows)

    return replace(known, predictors=tuple(map(moved, known.predictors)))


def _derivative(own: AlongTrials, at: Tensor, p: Predictor) -> dict[str, Tensor]:
    """Of every covariate by a rule's parameter on the scale of its link, by a central difference."""
    shifted = []
    for step in (_STEP, -_STEP):
        values = at.clone()
        values[:, own.column(p.name)] = from_link(to_link(at[:, own.column(p.name)], p.link) + step, p.link)
        shifted.append(own.covariates(values))
    up, down = shifted
    return {name: (up[name] - down[name]) / (2 * _STEP) for name in up}


def _on_trials(hierarchy: Hierarchy, own: AlongTrials, covariates: Mapping[str, Tensor]) -> Hierarchy:
    """The model on trials where covariates are these."""
    cell = torch.from_numpy(own.design)

    def known(p: Predictor) -> Predictor:
        mine = [along.covariates for along in own.moved if along.predictor.name == p.name]
        numbers = {n: torch.stack([number_of(covariates[n], each[n]) for each in mine], -1) for n in p.along}
        return p.known_along(cell, numbers)

    fixed = {name: x[cell] if isinstance(x, Tensor) and x.dim() else x for name, x in hierarchy.fixed.items()}
    predictors = tuple(map(known, hierarchy.predictors))
    return replace(hierarchy, predictors=predictors, fixed=fixed, parameter_map=OnCells())


def typical_spread(course: Course, *, difference: bool) -> float:
    """Standard deviation over trials of a covariate, or of the difference of its two numbers, at the medians of the
    default priors of the rule's parameters; 1 where it does not vary."""
    rule = CompiledRule(course, np.zeros(len(course.rows), dtype=np.int64))
    middle = [
        p.fixed if p.fixed is not None else _middle(p.prior.link, p.prior.intercept.location, (p.low, p.high))
        for p in course.sequence.parameters.values()
    ]
    at = torch.tensor([middle], dtype=torch.float64)
    covariate = recur(at, rule.begin, rule.begin_of, *rule.order, rule.width, rule.step.address, rule.pull.address)[0]
    found = float((number_of(covariate, None) if difference else covariate).std(correction=0))
    return found if 0.0 < found < np.inf else 1.0


def _middle(link: Link, eta: float, box: tuple[float, float]) -> float:
    return float(onto_box(torch.tensor(eta, dtype=torch.float64), link, *box))


def along_trials(
    predictors: Sequence[Predictor],
    courses: Sequence[Course],
    names: Sequence[str],
    design: Index,
    accumulators: Mapping[str, int],
) -> AlongTrials:
    """The map of a hierarchical model whose predictors have covariates of sequences.

    names: of the likelihood's parameters. design: cell of every trial. accumulators: of a race, the choice of each of
    its parameters.
    """
    for p in (p for p in predictors if p.along and p.parameters[0] not in names):
        raise InputError(
            f"the formula of {p.name!r} has {p.along[0]!r}, which is computed along trials: only parameters of the "
            f"model itself can move with it, {', '.join(names)}."
        )
    moved = [
        Along(name, p, {covariate: accumulators.get(name) for covariate in p.along})
        for p in predictors
        for name in p.parameters[: len(p.parameters) // (1 + len(p.along))]
        if p.along
    ]
    made = AlongTrials(tuple(names), design, tuple(courses), tuple(moved))
    for along, course, rule in ((a, c, r) for a in moved for c, r in zip(courses, made.rules, strict=True)):
        if rule.width > 2 and along.covariates.get(course.name, 0) is None:
            raise InputError(
                f"{course.name!r} has a number for each of {rule.width} choices, and {along.name} is the parameter of "
                "none of them; use it in a formula of all accumulators, or of one."
            )
    return made
