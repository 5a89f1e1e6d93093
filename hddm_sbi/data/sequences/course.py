"""A sequence on a table: which trial follows which, and what its rule reads of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from hddm_sbi.data.columns import at_rows
from hddm_sbi.data.design import find_cells
from hddm_sbi.data.responses import listed, positions
from hddm_sbi.data.sequences.sequence import Sequence, Start
from hddm_sbi.data.syntax import Formula
from hddm_sbi.data.trials import Trials
from hddm_sbi.errors import InputError
from hddm_sbi.types import Array, Index

#: what is read of the outcomes of a trial, where predictions put others in their place.
_RT, _CHOICE, _PAYOFF = "rt", "choice", "payoff"


@dataclass(frozen=True)
class Seen:
    """What choices were seen to bring.

    frame: of some trials, the columns whose levels have sequences of their own. choice: (n,) positions, nan where
    missing. payoff: (n,), nan where nothing is known.
    """

    frame: pd.DataFrame
    choice: Array
    payoff: Array


@dataclass(frozen=True)
class Course:
    """A sequence's way through a table.

    name: of the covariate. trial: (n,) trials, one sequence after the other, each in its order. starts: of the
    sequences, and the end. rows: (n_trials, columns) what the rule reads of every trial, in the order of the table: its
    columns, then 1 and 0 for every choice; nan where something is missing. of_outcomes: which of the columns follow
    from what the model explains, and from what there. aliases: columns of the table that have the model's responses
    beside its own, and how they write each choice. seen: where a payoff follows from choices, what they brought.
    """

    name: str
    sequence: Sequence
    n_choices: int
    trial: Index
    starts: Index
    rows: Array
    of_outcomes: tuple[tuple[slice, str], ...]
    aliases: Mapping[str, tuple[Any, ...]]
    seen: Seen | None

    @property
    def known(self) -> Index:
        """1 where nothing is missing that the rule reads, else 0, in the order of the table."""
        return np.asarray(np.isfinite(self.rows).all(1), dtype=np.int64)

    @property
    def given(self) -> tuple[str, ...]:
        """Columns that the rule reads, or that pay, and that do not follow from outcomes: a new table has them too."""
        own, known = self.sequence, {columns.start for columns, _ in self.of_outcomes}
        read = [column for at, column in enumerate(own.columns.values()) if at not in known]
        places = range(len(own.columns), self.rows.shape[1], max(1, self.n_choices))
        read += [column for at, column in zip(places, own.choices.values(), strict=True) if at not in known]
        return (*read, *(() if callable(own.paid) else own.paid or ()))

    @property
    def begins(self) -> dict[str, tuple[Start, ...]]:
        """Every state before the first trial."""
        return self.sequence.begins(self.n_choices)

    def rule(self, x: Tensor) -> Tensor:
        """The rule from one vector to one: states, parameters, what is read -> states, covariate. Raises InputError
        where it does not return what it should."""
        own, at = self.sequence, 0
        state: dict[str, Tensor] = {}
        for name, begin in self.begins.items():
            state[name] = x[at : at + len(begin)] if len(begin) > 1 or isinstance(own.start[name], tuple) else x[at]
            at += len(begin)
        parameters = {name: x[at + i] for i, name in enumerate(own.parameters)}
        at += len(parameters)
        row = {name: x[at + i] for i, name in enumerate(own.columns)}
        at += len(row)
        for i, name in enumerate(own.choices):
            row[name] = x[at + i * self.n_choices : at + (i + 1) * self.n_choices]
        result = own.step(state, row, parameters)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Mapping)):
            raise InputError(
                f"the rule {own.name!r} must return a dict of states and a covariate, state, covariate; got "
                f"{type(result).__name__}."
            )
        parts = [*(result[0][name] for name in state), result[1]]
        flat = [torch.as_tensor(part, dtype=torch.float64).reshape(-1) for part in parts]
        sizes = [len(part) for part in flat]
        wanted = [len(begin) for begin in self.begins.values()]
        if sizes[:-1] != wanted or sizes[-1] not in (1, self.n_choices):
            raise InputError(
                f"the rule {own.name!r} must return states of {wanted} numbers and a covariate of one, or of one for "
                f"each of {self.n_choices} choices; got {sizes[:-1]} and {sizes[-1]}."
            )
        return torch.cat(flat)

    def read(self, trials: Index, values: Array, paid: Array | None) -> Array:
        """What the rule reads of some trials (m,) if their outcomes are these, (m, k), in the order of `rows`.

        paid: (n_trials, n_choices), what every choice brings; None for what the table says.
        """
        rows, choice = self.rows[trials], values[:, -1]
        missing = np.isnan(choice)
        at = np.where(missing, 0, choice).astype(np.int64)
        for columns, what in self.of_outcomes:
            if what == _RT:
                rows[:, columns] = np.where(np.isfinite(values[:, :1]), values[:, :1], np.nan)
            elif what == _CHOICE:
                rows[:, columns] = np.where(missing[:, np.newaxis], np.nan, np.eye(self.n_choices)[at])
            elif paid is not None:
                rows[:, columns] = np.where(missing, np.nan, paid[trials, at])[:, np.newaxis]
        return rows

    def columns(self, frame: pd.DataFrame, values: Array, paid: Array | None) -> dict[str, NDArray[np.generic]]:
        """The columns of the table, beside those of outcomes, that would be others if its outcomes were these."""
        own, rows = self.sequence, self.read(np.arange(len(frame)), values, paid)
        found: dict[str, NDArray[np.generic]] = {}
        for at, (key, column) in enumerate(own.columns.items()):
            if key == own.payoff:
                found[column] = rows[:, at]
        choice = values[:, -1]
        for column, names in self.aliases.items():
            told = pd.Series(names, dtype=object).to_numpy()[np.where(np.isnan(choice), 0, choice).astype(np.int64)]
            told[np.isnan(choice)] = None
            found[column] = pd.Series(told).infer_objects().to_numpy()
        return found

    def of_new(self, trials: Trials, codes: tuple[Any, ...], groups: Collection[str]) -> Course:
        """The same sequence on a new table. codes: of the model's choices. groups: columns that may have new levels.

        Raises InputError as `course` does, and where nothing says what choices bring.
        """
        made = course(self.name, self.sequence, trials, codes, self)
        told, seen = trials.has_outcomes or self.sequence.paid is not None, self.seen
        known = {} if seen is None or told else {name: seen.frame[name] for name in self.sequence.by}
        for column, levels in ((name, levels) for name, levels in known.items() if name not in groups):
            unknown = np.flatnonzero(~trials.frame[column].isin(levels))
            if unknown.size:
                raise InputError(
                    f"sequence {self.name!r}: column {column!r} holds {trials.frame[column].tolist()[unknown[0]]!r} in "
                    f"{at_rows(unknown)}, and the table that was fitted does not say what choices bring there: say it "
                    "by paid=, columns of what each choice pays, in the model of the fitted table made again."
                )
        return made


def course(
    name: str, sequence: Sequence, trials: Trials, codes: tuple[Any, ...], fitted: Course | None = None
) -> Course:
    """A sequence on a table. codes: of the model's choices. fitted: of a new table the sequence on the one that was
    fitted, which says which columns have the model's responses, and what choices bring where there are no outcomes.

    Raises InputError for a table without their order, or with two trials at one place in it; and for columns that are
    not numbers, or not responses.
    """
    if sequence.choices and not codes:
        raise InputError(
            f"sequence {name!r}: its rule reads choices, {', '.join(map(repr, sequence.choices.values()))}, and the "
            f"outcomes of the model, {', '.join(trials.outcomes)}, are none; take a rule that reads numbers alone."
        )
    trial, starts = _runs(name, sequence, trials.frame)
    read, outcomes = [_numbers(name, sequence, key, column, trials) for key, column in sequence.columns.items()], []
    for at, (key, column) in enumerate(sequence.columns.items()):
        if key == sequence.payoff or column == trials.outcomes[0]:
            outcomes.append((slice(at, at + 1), _PAYOFF if key == sequence.payoff else _RT))
    aliases: dict[str, tuple[Any, ...]] = {}
    for column in sequence.choices.values():
        at, choice, own = sum(part.shape[1] for part in read), *_choice(name, column, trials, codes, fitted)
        missing = np.isnan(choice)
        one_hot = np.eye(len(codes))[np.where(missing, 0, choice).astype(np.int64)]
        one_hot[missing] = np.nan
        read.append(one_hot)
        if own:
            outcomes.append((slice(at, at + len(codes)), _CHOICE))
        if own and column != trials.outcomes[-1]:
            names = range(len(codes))
            aliases[column] = (
                tuple(_written(trials.frame[column], choice, k, trials.responses or codes) for k in names)
                if fitted is None
                else fitted.aliases[column]
            )
    for column in () if callable(sequence.paid) else sequence.paid or ():
        _numbers(name, sequence, "paid", column, trials)
    rows = np.concatenate([np.empty((len(trials), 0)), *read], 1)
    seen = _seen(sequence, trials, rows) if fitted is None or trials.has_outcomes else fitted.seen
    return Course(name, sequence, len(codes), trial, starts, rows, tuple(outcomes), aliases, seen)


def _runs(name: str, sequence: Sequence, frame: pd.DataFrame) -> tuple[Index, Index]:
    """Trials, one sequence after the other, each in its order; and where the sequences start, and the end."""
    order = _order(name, sequence, frame)
    group = find_cells(frame, sequence.by).of_trial
    trial = np.lexsort((order, group)).astype(np.int64)
    same = np.flatnonzero((np.diff(group[trial]) == 0) & (np.diff(order[trial]) == 0))
    if same.size:
        two = np.sort(trial[[same[0], same[0] + 1]])
        where = ", ".join(f"{column} {frame[column].tolist()[two[0]]!r}" for column in sequence.by)
        raise InputError(
            f"sequence {name!r}: {sequence.order!r} is {order[two[0]]:g} twice{f' for {where}' if where else ''}, in "
            f"{at_rows(two)}, so there is no telling which of these trials came first; number the trials of each "
            "sequence, or name in by= what tells the sequences apart."
        )
    return trial, np.flatnonzero(np.diff(group[trial], prepend=-1, append=-1)).astype(np.int64)


def _seen(sequence: Sequence, trials: Trials, rows: Array) -> Seen | None:
    """What choices were seen to bring in a table; None where nothing follows from them. rows: as `Course` has them."""
    if not sequence.payoff:
        return None
    payoff = rows[:, list(sequence.columns).index(sequence.payoff)]
    return Seen(trials.frame[list(sequence.by)], trials.values[:, -1], payoff)


def _written(column: pd.Series[Any], choice: Array, k: int, names: tuple[Any, ...]) -> Any:
    """How a column writes a choice: as in its first trial, or by its name where it was never made."""
    there = np.flatnonzero(choice == k)
    return column.tolist()[there[0]] if there.size else names[k]


def _order(name: str, sequence: Sequence, frame: pd.DataFrame) -> Array:
    column = frame[sequence.order]
    if pd.api.types.is_bool_dtype(column.dtype) or not pd.api.types.is_numeric_dtype(column.dtype):
        raise InputError(
            f"sequence {name!r}: column {sequence.order!r} must be numbers that ascend with the trials; got "
            f"{column.dtype}."
        )
    return column.to_numpy(dtype=np.float64)


def _numbers(name: str, sequence: Sequence, key: str, column: str, trials: Trials) -> Array:
    """A column of numbers, (n, 1), nan where missing, as all payoffs of a new table without outcomes."""
    if column == trials.outcomes[0]:
        return np.where(np.isfinite(trials.values[:, :1]), trials.values[:, :1], np.nan)
    if key == sequence.payoff and column not in trials.frame:
        return np.full((len(trials), 1), np.nan)
    values = trials.frame[column]
    if not pd.api.types.is_numeric_dtype(values.dtype):
        found = values.dropna()
        wrong = np.flatnonzero(pd.to_numeric(values.astype(object), errors="coerce").isna() & values.notna())
        shown = (
            f"{found.iloc[0]}, as {values.dtype}"
            if not wrong.size
            else f"{values.iloc[wrong[0]]!r} in {at_rows(wrong)}"
        )
        remedy = "a column of responses is named in choices=" if sequence.settings is None else "convert it"
        raise InputError(f"sequence {name!r}: {key} must be a column of numbers; {column!r} holds {shown}: {remedy}.")
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isnan(numbers).all():
        raise InputError(
            f"sequence {name!r}: column {column!r} is missing in every row, so that its rule learns nothing."
        )
    infinite = np.flatnonzero(np.isinf(numbers))
    if infinite.size:
        raise InputError(f"sequence {name!r}: column {column!r} is infinite in {at_rows(infinite)}; expected numbers.")
    return numbers[:, np.newaxis]


def _choice(
    name: str, column: str, trials: Trials, codes: tuple[Any, ...], fitted: Course | None
) -> tuple[Array, bool]:
    """Positions of the choices in a column, nan where missing; and whether they are those that the model explains.

    A column of the same choices in every trial that has both is taken for them, in the table that was fitted.
    """
    response = trials.values[:, -1]
    if column == trials.outcomes[-1] or (fitted is not None and column in fitted.aliases):
        return response, True
    values, numbered = trials.frame[column], tuple(range(len(codes)))
    occurring = set(values.dropna().unique().tolist())
    by_number = not trials.responses and not occurring <= set(codes) and occurring <= set(numbered)
    try:
        choice = positions(values, numbered if by_number else codes, () if by_number else trials.responses)
    except InputError:
        raise InputError(
            f"sequence {name!r}: column {column!r} must hold responses, {listed(list(trials.responses or codes))}, or "
            f"their positions {listed(list(numbered))}; it holds {listed(sorted(occurring, key=str))}."
        ) from None
    both = ~np.isnan(choice) & ~np.isnan(response)
    return choice, fitted is None and bool(both.any() and (choice[both] == response[both]).all())


def payoffs(course: Course, frame: pd.DataFrame, rng: np.random.Generator) -> Array | None:
    """What every choice would bring in every trial, (n_trials, n_choices); None where nothing follows from choices.

    Where the sequence does not say, it is what that choice was seen to bring, drawn at random from trials with the same
    levels of `by`, or of fewer of these where it was never made there.
    """
    own, n, seen = course.sequence, len(frame), course.seen
    if seen is None:
        return None
    if callable(own.paid):
        found = np.asarray(own.paid(frame, rng), dtype=np.float64)
        if found.shape != (n, course.n_choices):
            raise InputError(
                f"sequence {course.name!r}: paid must return {(n, course.n_choices)} numbers, trials by choices; got "
                f"{found.shape}."
            )
        return found
    if own.paid is not None:
        return frame[list(own.paid)].to_numpy(dtype=np.float64, na_value=np.nan)
    drawn, both = np.full((n, course.n_choices), np.nan), pd.concat([frame[list(own.by)], seen.frame])
    for level in range(len(own.by) + 1):
        group = find_cells(both.reset_index(drop=True), own.by[level:]).of_trial
        for k in range(course.n_choices):
            _draw(drawn[:, k], group, np.where(seen.choice == k, seen.payoff, np.nan), rng)
    if np.isnan(drawn).any():
        never = int(np.flatnonzero(np.isnan(drawn).any(0))[0])
        raise InputError(
            f"sequence {course.name!r}: choice {never} (0 = first) was never made, so the table does not say what it "
            "pays; say it by paid=."
        )
    return drawn


def _draw(drawn: Array, group: Index, seen: Array, rng: np.random.Generator) -> None:
    """Fill in what is nan by numbers seen in trials of the same group. group: of the trials, then of those seen."""
    n, own, group = int(group.max()) + 1, group[: len(drawn)], group[len(drawn) :]
    there = np.flatnonzero(~np.isnan(seen))
    there = there[np.argsort(group[there], kind="stable")]
    first, count = np.searchsorted(group[there], np.arange(n)), np.bincount(group[there], minlength=n)
    empty = np.flatnonzero(np.isnan(drawn) & (count[own] > 0))
    chosen = first[own[empty]] + (rng.random(len(empty)) * count[own[empty]]).astype(np.int64)
    drawn[empty] = seen[there[chosen]]


def check_names(sequences: object, parameters: Collection[str], columns: Collection[str]) -> dict[str, Sequence]:
    """The sequences of a model by the names of their covariates.

    Raises InputError for names that cannot stand in a formula, or are taken: by the model's parameters, by columns of
    the table, or by one another.
    """
    if sequences is None:
        return {}
    if not isinstance(sequences, Mapping):
        raise InputError(f"sequences must be a dict, name of a covariate -> rule; got {sequences!r}.")
    known = dict.fromkeys(parameters, "a parameter of the model")
    for name, each in sequences.items():
        if not (isinstance(name, str) and name.isidentifier()):
            raise InputError(f"sequences names {name!r}; expected a name that can stand in a formula.")
        if not isinstance(each, Sequence):
            raise InputError(
                f"sequences[{name!r}] must be a rule such as hs.delta_rule(...), or one made by hs.sequence; got "
                f"{each!r}."
            )
        if len(columns) and each.order not in columns:
            groups = f".groupby({list(each.by)})" if each.by else ""
            raise InputError(
                f"sequences[{name!r}] needs the order of trials, and the table has no column {each.order!r}: name one, "
                f"order=, or number the rows where they are in order, data.assign(trial=data{groups}.cumcount())."
            )
        if name in columns:
            raise InputError(
                f"sequences[{name!r}]: {name!r} is a column of the table; give the covariate another name, or leave "
                "the column out."
            )
        named = [(name, "a covariate"), *((p.name, f"a parameter of {name!r}") for p in each.parameters.values())]
        for own, what in named:
            if own in known:
                raise InputError(
                    f"sequences[{name!r}]: {own!r} would be {what}, and is {known[own]}; give it another name."
                )
            known[own] = what
    return dict(sequences)


def check_used(sequences: Mapping[str, Sequence], formulas: Mapping[str, Formula | float]) -> None:
    """Refuse a sequence that no formula has."""
    used = {name for formula in formulas.values() if isinstance(formula, Formula) for name in formula.along}
    for name in (name for name in sequences if name not in used):
        raise InputError(
            f"sequences[{name!r}] stands in no formula; add it where it belongs, as in v ~ 1 + {name}, or leave it out."
        )
