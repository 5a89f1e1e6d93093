"""Stimulus coding: a column of +1 and -1 that says which response every stimulus asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.data.columns import check_columns, is_hashable
from hddm_sbi.data.responses import listed, occurring_in
from hddm_sbi.errors import InputError


def code_stimulus(data: pd.DataFrame, stimulus: str, *, upper: object) -> pd.Series[Any]:
    """+1 for every trial whose stimulus asks for the upper response, and -1 for all others.

    In stimulus coding the bounds are the two responses, left and right for instance, and not correct and error, so that
    `z` is a bias towards one of them. The drift goes to the bound that the stimulus asks for: with the column `side`
    that this makes, it is `v ~ 0 + side`, whose coefficient is positive where responses are right. This is HDDM's
    `HDDMStimulus(split_param="v")`; its drift criterion (`drift_criterion=True`) is the intercept of `v ~ 1 + side`.
    Its `split_param="z"`, where z is mirrored instead, is `z ~ 0 + side` with the responses coded correct and error
    (`correct=`): the link of z is the logit, and logit(1 - z) = -logit(z).

    Parameters
    ----------
    data
        One row per trial.
    stimulus
        Name of the column of stimuli.
    upper
        The stimulus that asks for the upper response; the column then has one other. Where it has more than two, a list
        of all that ask for the upper response.

    Returns
    -------
    pandas.Series
        Of +1 and -1, with the index of `data`.

    Raises
    ------
    InputError
        For stimuli that are missing, or not named by `upper`, or all of one kind; and for more than two, of which
        `upper` names one.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> import pandas as pd
    >>> data = pd.DataFrame({"S": ["face", "house", "house"], "response": ["f", "h", "f"], "rt": [0.5, 0.4, 0.7]})
    >>> data["side"] = hs.code_stimulus(data, "S", upper="face")
    >>> data["side"].tolist()
    [1, -1, -1]
    >>> hs.HierarchicalModel(["v ~ 0 + side", "z ~ 1"], data, likelihood="exact", upper="f")
    HierarchicalModel(ddm, exact likelihood, 3 trials in 2 cells: v ~ 0 + side, a ~ 1, z ~ 1, t0 ~ 1)
    """
    if not is_hashable(stimulus):
        raise InputError(f"stimulus must be the name of a column of the table; got {stimulus!r}.")
    column = check_columns(data, [stimulus])[stimulus].astype(object)
    occurring = occurring_in(column)
    named = list(upper) if isinstance(upper, list | tuple | set | frozenset) else [upper]
    unknown = [value for value in named if not is_hashable(value) or value not in occurring]
    if unknown or not named:
        raise InputError(
            f"upper={upper!r} must be the stimulus in column {stimulus!r} that asks for the upper response, or a list "
            f"of those that do; the column holds {listed(occurring)}."
        )
    others = [value for value in occurring if value not in named]
    if not others:
        raise InputError(
            f"upper={upper!r} leaves no stimulus in column {stimulus!r} that asks for the lower response; without "
            "both, a drift towards the upper response and a bias to it cannot be told apart. Name those of the upper "
            "one alone."
        )
    if len(others) > 1 and named == [upper]:
        raise InputError(
            f"column {stimulus!r} holds {listed(occurring)}, and upper={upper!r} does not say which response the "
            f"others ask for; give a list of all that ask for the upper one, upper=[{upper!r}] if it is alone, and "
            "leave out trials whose stimulus asks for neither."
        )
    return pd.Series(np.where(column.isin(named), 1, -1), index=data.index)
