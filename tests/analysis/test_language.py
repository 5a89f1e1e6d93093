"""Posteriors of what the language of models can say have the ranks that they should have; slow."""

import warnings

import numpy as np
import pyro.distributions as dist
import pytest

import hddm_sbi as hs

#: 200 trials of eight subjects.
N, SUBJECTS = 200, 8
HELD = ["z = 0.5", "t0 = 0.3"]
PRIORS = {"v_Intercept": dist.Normal(0.8, 0.5), "a_Intercept": dist.Normal(0.0, 0.3)}


def table():
    """As if each trial were seen whole."""
    trials = hs.simulate("ddm", {"v": 0.8, "a": 1.1, "z": 0.5, "t0": 0.3}, N, seed=1)
    return trials.assign(subject=np.arange(N) % SUBJECTS, limit=np.where(np.arange(N) % 2, 1.0, 1.8))


def omissions():
    trials = table()
    late = trials["rt"] > trials["limit"]
    return trials.assign(rt=trials["rt"].mask(late), response=trials["response"].mask(late)), {"deadline": "limit"}


def go_no_go():
    trials = table()
    nothing = (trials["rt"] > 1.8) | (trials["response"] == -1)
    seen = trials.assign(rt=trials["rt"].mask(nothing), response=trials["response"].mask(nothing))
    return seen, {"deadline": 1.8, "withheld": -1, "likelihood": "neural"}


def truncated():
    trials = table()
    return trials[trials["rt"].between(0.45, 1.8)], {"truncated": (0.45, 1.8)}


def censored():
    trials = table()
    some = np.arange(N) % 5 == 0
    return trials.assign(rt=trials["rt"].mask(some)), {"censored": (0.5, 1.5), "lapse": 0.05}


def correlated():
    formulas = ["v ~ 1 + (1|p|subject)", "a ~ 1 + (1|p|subject)", *HELD]
    return table(), {"formulas": formulas, "priors": {**PRIORS, "sigma": dist.HalfNormal(0.3)}}


def mixed():
    """All that may be missing in one table, its limits by row; effects that share a tag; exponential lapses."""
    trials, row = table(), np.arange(N)
    limits = {"late": trials["limit"].mask(row % 3 == 0), "least": 0.38 + 0.04 * (row % 2), "most": 1.2 + row % 4}
    trials = trials.assign(**limits)
    omitted = trials["rt"] > trials["late"]
    untimed, unanswered = ~omitted & (row % 7 == 0), ~omitted & (row % 7 == 1)
    seen = trials.assign(
        rt=trials["rt"].mask(omitted | untimed), response=trials["response"].mask(omitted | unanswered)
    )
    said = {"deadline": "late", "truncated": ("least", None), "censored": (None, "most"), "lapse_mean": 1.0}
    formulas = ["v ~ 1 + (1|p|subject)", "a ~ 1 + (1|p|subject)", "lapse ~ 1", *HELD]
    priors = {**PRIORS, "sigma": dist.HalfNormal(0.3), "lapse_Intercept": dist.Normal(-2.5, 0.7)}
    return seen[trials["rt"] > trials["least"]], {**said, "formulas": formulas, "priors": priors, "lapse": None}


def learning():
    """What is paid for each choice is known; eight people of 25 trials each."""
    rng = np.random.default_rng(2)
    trials = table().assign(trial=np.arange(N), lower=rng.random(N) < 0.3, upper=rng.random(N) < 0.7)
    trials["feedback"] = np.where(trials["response"] == 1, trials["upper"], trials["lower"]).astype(float)
    rule = hs.delta_rule("feedback", "response", "subject", paid=("lower", "upper"))
    formulas = ["v ~ 0 + dq", "a ~ 1 + (1|subject)", "alpha ~ 1", *HELD]
    priors = {"a_Intercept": PRIORS["a_Intercept"], "v_dq": dist.Normal(2.0, 1.0), "alpha": dist.Beta(2.0, 4.0)}
    return trials, {"formulas": formulas, "priors": priors, "sequences": {"dq": rule}, "lapse": 0.05}


def lapsing():
    """Shares of lapses from .2 % to 30 %, of an exponential time and mostly one response."""
    trials = table()
    rng, some = np.random.default_rng(2), np.arange(N) % 12 == 0
    trials.loc[some, "rt"] = rng.exponential(1.5, some.sum())
    priors = {"lapse_Intercept": dist.Normal(-2.5, 0.7), "lapse_1|subject_sigma": dist.HalfNormal(0.7)}
    said = {"lapse": None, "lapse_mean": 1.5, "lapse_choices": {1: 0.8, -1: 0.2}, "priors": {**PRIORS, **priors}}
    return trials, {**said, "formulas": ["v ~ 1", "a ~ 1", "lapse ~ 1 + (1|subject)", *HELD]}


@pytest.mark.slow
@pytest.mark.parametrize("case", [omissions, go_no_go, truncated, censored, mixed, correlated, learning, lapsing])
def test_posteriors_have_the_ranks_that_they_should_have(case):
    """SBC of 100 tables; the verdict's own false-alarm rate."""
    trials, said = case()
    settings = {"formulas": ["v ~ 1", "a ~ 1", *HELD], "likelihood": "exact", "lapse": 0.0, "priors": PRIORS} | said
    model = hs.HierarchicalModel(data=trials, **settings)
    with warnings.catch_warnings():
        # A table with few responses may have few effective draws.
        warnings.simplefilter("ignore")
        tables = hs.run_sbc(model, 100, progress=False)
    verdict = hs.report.sbc_verdict(tables)
    assert verdict.startswith("Good"), verdict
