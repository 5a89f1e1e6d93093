"""The accumulators of a race beside the table: which response each has, and whether it matches the stimulus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.data.syntax import CHOICE, MATCH, OWN, Formula
from hddm_sbi.errors import InputError
from hddm_sbi.types import Index


@dataclass(frozen=True)
class Accumulators:
    """The accumulators of a race.

    responses: of each, as the table writes it, in the order of the model's choices. stimulus: position of the response
    that the stimulus of every trial asks for, (n_trials,); None where no formula needs it.
    """

    responses: tuple[Any, ...]
    stimulus: Index | None = None

    def columns(self, n_trials: int) -> dict[str, Any]:
        """`choice`, and `match` (1 or 0), of the trials once per accumulator: (n_accumulators * n_trials,).

        >>> pd.DataFrame(Accumulators(("left", "right"), np.array([1])).columns(1))
          choice  match
        0   left      0
        1  right      1
        """
        n = len(self.responses)
        accumulator = np.repeat(np.arange(n), n_trials)
        responses = pd.Index(list(self.responses), dtype=object).infer_objects()
        choice = {CHOICE: pd.Categorical.from_codes(accumulator, responses, ordered=True)}
        if self.stimulus is None:
            return choice
        return {**choice, MATCH: (accumulator == np.tile(self.stimulus, n)).astype(np.int64)}


def stimulus_column(
    stimulus: str | None,
    formulas: Mapping[str, Formula | float],
    stems: Mapping[str, tuple[str, ...]],
    data: pd.DataFrame,
    response: str,
) -> str | None:
    """The column that `match` in formulas needs of a table, None where no formula has it.

    Raises InputError where it is not named, or named for a model without accumulators, and where the table has columns
    that are called as those of accumulators, or lacks them.
    """
    if stimulus is not None and not stems:
        raise InputError(f"stimulus={stimulus!r} is for models whose choices are accumulators; leave it out.")
    if stimulus is not None and not isinstance(stimulus, str):
        raise InputError(f"stimulus must be the name of a column of the table; got {stimulus!r}.")
    parsed, columns = [f for f in formulas.values() if isinstance(f, Formula)], getattr(data, "columns", ())
    for formula in parsed:
        for name in (name for name in OWN if name in formula.own and name in columns and name != response):
            raise InputError(
                f"formula '{formula}': {name!r} is a column of the table, and what formulas of all accumulators call "
                "their own; rename the column."
            )
        for name in (name for name in OWN if stems and name in formula.columns and name not in columns):
            raise InputError(
                f"formula '{formula}': the table has no column {name!r}, and {formula.parameter} is that of one "
                f"accumulator, or of none; {name} stands in formulas of all of them: {' '.join(stems)}."
            )
    asking = [formula for formula in parsed if MATCH in formula.own]
    if asking and stimulus is None:
        raise InputError(
            f"formula '{asking[0]}': {MATCH} says whether the response of an accumulator is the right one; name the "
            "column that has the right response of each trial, for instance stimulus='S'."
        )
    return stimulus if asking else None
