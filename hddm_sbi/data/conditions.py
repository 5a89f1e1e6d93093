"""Conditions that a simulator receives from the table: their codes, and congruency that seems the wrong way round."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd

from hddm_sbi.data.columns import at_rows
from hddm_sbi.data.recoding import CONGRUENCY
from hddm_sbi.data.responses import occurring_in
from hddm_sbi.data.syntax import Formula
from hddm_sbi.data.trials import Trials
from hddm_sbi.errors import InputError, TableWarning
from hddm_sbi.types import Array

#: what the codes of congruency stand for.
_CONGRUENCY = {1.0: "congruent", 0.0: "neutral", -1.0: "incongruent"}


def check_codes(trials: Trials, column: str, codes: tuple[float, ...]) -> Array:
    """A condition that the simulator receives, (n,): a column that holds its codes.

    Raises InputError with the positions of the rows (0 = first) that hold anything else.
    """
    values = trials.frame[column]
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isin(numbers, codes))
    if wrong.size:
        meaning = _CONGRUENCY if column == CONGRUENCY else {}
        expected = [f"{code:+g} ({meaning[code]})" if code in meaning else f"{code:+g}" for code in codes[::-1]]
        remedy = "recode it"
        if meaning:
            said = " or ".join(f"congruent={label!r}" for label in occurring_in(values))
            remedy = f"say which is congruent: {said}; and which is neutral, if one is: neutral="
        raise InputError(
            f"column {column!r} is a condition of the model and must be {', '.join(expected[:-1])} or {expected[-1]}; "
            f"got {values.tolist()[wrong[0]]!r} in {at_rows(wrong)}; {remedy}."
        )
    return numbers


def warn_reversed(trials: Trials, congruency: Array, formulas: Mapping[str, Formula | float]) -> None:
    """Warn where incongruent trials are faster and more often correct than congruent ones, in every subject.

    congruency: +1, 0 or -1, (n,). formulas: their grouping factor with the most levels is that of subjects.
    """
    bars = [bar for formula in formulas.values() if isinstance(formula, Formula) for bar in formula.bars]
    factors = [trials.frame.groupby(list(columns), observed=True).ngroup() for bar in bars for columns in bar.factors]
    subject = max(factors, key=lambda factor: factor.nunique(), default=0)
    table = pd.DataFrame(
        {"group": subject, "congruent": congruency > 0, "rt": trials.rt, "correct": trials.choice},
    )[(congruency != 0) & np.isfinite(trials.values).all(1)]
    if table.empty:
        return
    by = table.groupby(["group", "congruent"])
    rt, correct = by["rt"].median().unstack().dropna(), by["correct"].mean().unstack().dropna()
    if rt.shape[1] < 2 or rt.empty or not ((rt[False] < rt[True]) & (correct[False] > correct[True])).all():
        return
    where = f"in all {len(rt)} groups" if len(rt) > 1 else "here"
    said = [f"{rt[one].mean():.3g} s, {correct[one].mean():.1%} correct" for one in (False, True)]
    warnings.warn(
        f"congruency seems the wrong way round: incongruent trials (-1) are faster and more often correct {where}, "
        f"{said[0]}, than congruent ones, {said[1]}. In trials of +1, what is to be ignored helps: change the sign, or "
        "name the other label by congruent=; and responses must be correct (upper bound) or error.",
        TableWarning,
        stacklevel=4,
    )
