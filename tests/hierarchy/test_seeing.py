"""A model that sees only some of its trials: its likelihood is that of these, and all else stays."""

import numpy as np
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.analysis.fit import numbers_on_cells, table_log_likelihood
from hddm_sbi.hierarchy import prior_draws

CASES = {
    "plain": (["v ~ scale(x) + (1|subject)", "z = 0.5"], {}),
    "lapses of the table": (["v ~ condition", "lapse ~ 1 + (1|subject)"], {"lapse_seconds": "range"}),
    "deadline": (["v ~ 1 + (1|subject)"], {"deadline": 1.0}),
    "truncated": (["v ~ condition + (1|subject)"], {"truncated": (0.2, None)}),
    "learning": (["v ~ 1 + p", "a ~ 1 + (1|subject)"], {"sequences": {"p": hs.practice("subject")}}),
    "learned": (["v ~ condition + (1|subject)"], {"likelihood": "neural"}),
}


def model_of(case):
    formulas, options = CASES[case]
    trials = hs.simulate_experiment(n_subjects=3, n_trials=10, seed=1).trials
    trials = trials.assign(trial=np.arange(60) % 20, x=np.random.default_rng(1).exponential(size=60))
    if case == "deadline":
        late = trials["rt"] > 1.0
        assert late.any()
        trials = trials.assign(rt=trials["rt"].mask(late), response=trials["response"].mask(late))
    return hs.HierarchicalModel(formulas, trials, **{"likelihood": "exact", **options})


def log_likelihood(model, values, n):
    own = model.uncentred
    return table_log_likelihood(own, *numbers_on_cells(own, values, n))


@pytest.mark.parametrize("case", CASES)
def test_the_parts_make_the_whole(case):
    """Of one subject without any trial of the others, too, and at every draw of the prior."""
    model, n = model_of(case), 20
    drawn = prior_draws(model.uncentred, n, 1)
    values = {name: torch.as_tensor(x) for name, x in drawn.items()}
    first = np.flatnonzero((model.trials.frame["subject"] == model.trials.frame["subject"][0]).to_numpy())
    others = np.setdiff1d(np.arange(60), first)
    parts = [model.seeing(rows) for rows in (first, others)]
    found = sum(log_likelihood(part, values, n) for part in parts)
    np.testing.assert_allclose(found, log_likelihood(model, values, n), rtol=1e-9)
    assert len({model.fingerprint, *(part.fingerprint for part in parts)}) == 3
    assert all(part.prior_table.equals(model.prior_table) for part in parts)
    assert all(part.lapse_seconds == model.lapse_seconds for part in parts)


def test_other_outcomes_and_the_reference_are_of_what_is_seen():
    model = model_of("learned").seeing(np.arange(10))
    assert len(model.reference.uncentred.trials.order) == 10
    slower = model.with_outcomes(model.trials.values + np.array([0.1, 0.0]))
    np.testing.assert_allclose(np.sort(slower.uncentred.trials.rt), np.sort(model.uncentred.trials.rt + 0.1))
