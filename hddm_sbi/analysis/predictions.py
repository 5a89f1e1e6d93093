"""Predictions of a fit on natural scales: parameters, accuracy and response times of cells and of groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from hddm_sbi.analysis.fit import Fit
from hddm_sbi.analysis.numbers import POPULATION, Request, numbers_of
from hddm_sbi.data import Formula, check_by
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy import HierarchicalModel


def predictions(
    model: HierarchicalModel,
    posterior: Any,
    by: str | Sequence[str] = (),
    level: str = POPULATION,
    *,
    draws: int = 200,
    groups: int = 30,
    seed: int = 1,
) -> pd.DataFrame:
    """Parameters, accuracy and response times of cells, on their natural scales.

    A number is computed for every row of the design and averaged over the trials of a cell, as `avg_predictions` of
    marginaleffects does. There are two answers for a population, which differ wherever a link or a response time is no
    straight line: `typical`, for the subject whose effects are all 0; and `average`, the mean over subjects, computed
    from new subjects that are drawn from the population. Neither includes lapses, deadlines or limits.

    Parameters
    ----------
    model
        The fitted model.
    posterior
        What `model.fit` returned.
    by
        Columns whose values tell cells apart, each one that a formula names; none for the whole table.
    level
        "population", or the grouping column of which every level gets its own numbers, such as "subject".
    draws
        Evenly spaced draws for accuracy and response times; 0 leaves these out. Parameters have all draws.
    groups
        Number of new subjects in each draw over which averages are taken. They are quasi-random, so 30 of them are as
        good as many random ones. They are the same in all draws, so they do not widen intervals.
    seed
        Same seed, same new subjects.

    Returns
    -------
    pandas.DataFrame
        One row for every cell and quantity: the columns of `by`; `level`, "typical" and "average", or the column of the
        groups instead; `quantity`; mean, median and sd of the posterior, and the ends of its central 94 %, `low` and
        `high`. Quantities are the parameters that are estimated; `accuracy`, where responses are correct and error or
        the stimulus is known; `probability[response]`; `rt_mean` and the quantiles `rt_q10` to `rt_q90` in seconds, of
        all responses and of each, `rt_mean[response]`. For other outcomes, means, by simulation. Response times
        are computed from the density of the likelihood, not simulated. If more than 30 rows of a cell differ, for
        instance by a covariate, 30 of them are used, evenly spaced along its trials.

    Raises
    ------
    InputError
        A column that is no predictor or no group, or the posterior is of another model.

    Examples
    --------
    >>> import warnings
    >>> import hddm_sbi as hs
    >>> warnings.simplefilter("ignore", hs.ConvergenceWarning)
    >>> trials = hs.simulate_experiment(n_subjects=4, n_trials=50).trials
    >>> formulas = {"v": "condition + (1|subject)", "a": 1.0, "z": 0.5, "t0": 0.3}
    >>> model = hs.HierarchicalModel(formulas, trials, likelihood="exact")
    >>> posterior = model.fit(draws=50, tune=100, chains=2, seed=1, progress=False)
    >>> table = hs.predictions(model, posterior, by="condition", draws=50)
    >>> table.columns.tolist()
    ['condition', 'level', 'quantity', 'mean', 'median', 'sd', 'low', 'high']
    >>> table[table["quantity"] == "rt_q50"][["condition", "level"]].values.tolist()
    [['easy', 'typical'], ['hard', 'typical'], ['easy', 'average'], ['hard', 'average']]
    """
    fit = Fit.of(model, posterior)
    return numbers_of(fit, by, level, Request.checked(groups, draws, seed)).table()


def subject_table(
    model: HierarchicalModel, posterior: Any, by: str | Sequence[str] = (), level: str = "subject"
) -> pd.DataFrame:
    """One row per subject, for people who go on in R, SPSS or JASP.

    Parameters
    ----------
    model
        The fitted model.
    posterior
        What `model.fit` returned.
    by
        Conditions within subjects. A parameter whose formula names them gets one column per condition.
    level
        The grouping column that names the subjects.

    Returns
    -------
    pandas.DataFrame
        The subject, and the values of predictors that are the same in all its trials; then for every parameter its
        posterior mean and sd on the natural scale, averaged over the subject's trials: `v`, `v_sd`, or `v_easy`,
        `v_easy_sd` with by="condition"; `v_` beside a predictor `v`. `to_csv("subjects.csv", index=False)` writes it.
        Estimates of subjects are drawn towards the mean of the population: differences between groups of subjects
        belong into the formulas.

    Raises
    ------
    InputError
        A column that is no predictor or no group, or the posterior is of another model.

    Examples
    --------
    >>> import warnings
    >>> import hddm_sbi as hs
    >>> warnings.simplefilter("ignore", hs.ConvergenceWarning)
    >>> trials = hs.simulate_experiment(n_subjects=3, n_trials=30).trials
    >>> formulas = {"v": "condition + (1|subject)", "a": "1", "z": 0.5, "t0": 0.3}
    >>> model = hs.HierarchicalModel(formulas, trials, likelihood="exact")
    >>> posterior = model.fit(draws=50, tune=100, chains=2, seed=1, progress=False)
    >>> hs.subject_table(model, posterior, by="condition").columns.tolist()
    ['subject', 'v_easy', 'v_easy_sd', 'v_hard', 'v_hard_sd', 'a', 'a_sd']
    """
    fit = Fit.of(model, posterior)
    if level == POPULATION:
        raise InputError(
            f"level={level!r} is no group; expected one of {list(model.grouping_columns)}. Of the population: "
            "hs.predictions(model, posterior)."
        )
    names = check_by(by, model.design_columns, model.grouping_columns)
    table = numbers_of(fit, names, level, Request(groups=2, draws=0, seed=0)).table()
    whole = numbers_of(fit, (), level, Request(groups=2, draws=0, seed=0)).table()
    frame = model.trials.frame
    groups = frame.groupby(level, sort=False, observed=True)
    own = [name for name in model.trials.predictors if name != level and (groups[name].nunique() == 1).all()]
    found = groups[own].first() if own else pd.DataFrame(index=pd.Index(frame[level].unique(), name=level))
    numbers = dict[str, pd.Series]()
    for predictor in model.uncentred.predictors:
        formula = model.formulas[predictor.name]
        varying = isinstance(formula, Formula) and bool(names) and formula.varies_with(names)
        for parameter in predictor.parameters:
            rows = (table if varying else whole).query("quantity == @parameter")
            labels = [parameter] * len(rows)
            if varying:
                labels = ["_".join([parameter, *map(str, cell)]) for cell in rows[list(names)].itertuples(index=False)]
            for label, part in rows.assign(label=labels).groupby("label", sort=False):
                numbers |= {str(label): part.set_index(level)["mean"], f"{label}_sd": part.set_index(level)["sd"]}
    told = pd.DataFrame(numbers, index=found.index).rename(columns={name: f"{name}_" for name in [level, *own]})
    return pd.concat([found, told], axis=1).reset_index()
