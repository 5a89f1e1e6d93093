"""Tables that are simulated along their sequences: what a model chooses is what it learns from."""

import numpy as np
import pandas as pd
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.analysis.predictive import simulate_table

SUBJECTS, LONG = 5, 40


def table(seed=1):
    """Five subjects of 40 trials, rows in no order; the upper choice pays 1, the lower one nothing, noise added."""
    rng, n = np.random.default_rng(seed), SUBJECTS * LONG
    rows = pd.DataFrame(
        {
            "rt": rng.gamma(4.0, 0.15, n) + 0.35,
            "response": rng.choice([-1, 1], n),
            "subject": np.arange(n) % SUBJECTS,
            "trial": np.arange(n) // SUBJECTS,
            "lower": rng.normal(0.0, 0.1, n),
            "upper": rng.normal(1.0, 0.1, n),
        }
    )
    rows["feedback"] = np.where(rows["response"] == 1, rows["upper"], rows["lower"])
    return rows.sample(frac=1.0, random_state=seed, ignore_index=True)


def learner(rows, formulas=None, **said):
    rule = hs.delta_rule("feedback", "response", "subject", paid=("lower", "upper"))
    formulas = formulas or {"v": "0 + dq", "a": "1", "z": 0.5, "t0": "1", "alpha": "1"}
    return hs.HierarchicalModel(formulas, rows, likelihood="exact", sequences={"dq": rule}, lapse=0.0, **said)


def at(model, **values):
    """Numbers on the cells at these coefficients."""
    sites = {name: torch.tensor(values[name], dtype=torch.float64) for name in model.uncentred.coefficient_names}
    return model.uncentred.on_cells(sites).numpy()


TRUE = {"v_dq": 3.0, "a_Intercept": 0.1, "t0_Intercept": -1.2, "alpha_Intercept": -1.0}


def test_what_is_learned_follows_the_models_own_choices():
    """Values of the simulated table by hand, from its own choices and what these pay."""
    model = learner(table())
    on_cells = at(model, **TRUE)
    replica = model.with_outcomes(*simulate_table(model, on_cells, 0.0, [1]))
    frame = replica.trials.frame
    assert (frame["response"] != model.trials.frame["response"]).any()
    np.testing.assert_array_equal(frame["feedback"], np.where(frame["response"] == 1, frame["upper"], frame["lower"]))
    alpha, expected = 1 / (1 + np.exp(1.0)), np.empty(len(frame))
    for _, part in frame.sort_values("trial").groupby("subject"):
        q = np.array([0.5, 0.5])
        for row, trial in part.iterrows():
            expected[row] = 3.0 * (q[1] - q[0])
            k = int(trial["response"] == 1)
            q[k] += alpha * (trial["feedback"] - q[k])
    theta = replica.uncentred.parameter_map.rows(torch.from_numpy(on_cells), replica.uncentred.trials)
    np.testing.assert_allclose(theta[:, 0], expected, rtol=1e-10, atol=1e-12)


def test_trials_are_simulated_at_what_was_learned_before_them():
    """With a drift of 60 times the difference of values every choice is the better one, once they differ by .3."""
    model = learner(table())
    on_cells = at(model, **{**TRUE, "v_dq": 60.0})
    replica = model.with_outcomes(*simulate_table(model, on_cells, 0.0, [1]))
    drift = replica.uncentred.parameter_map.rows(torch.from_numpy(on_cells), replica.uncentred.trials)[:, 0].numpy()
    clear = np.abs(drift) > 0.3 * 60.0
    assert clear.sum() > 50
    np.testing.assert_array_equal(replica.trials.frame["response"][clear], np.sign(drift[clear]))


def test_a_simulated_table_is_that_of_a_model_of_its_own():
    """A model that is made of the simulated table has the same likelihood there."""
    rows = table()
    model = learner(rows.assign(rt=rows["rt"].clip(upper=1.9)), deadline=2.0)
    on_cells = at(model, **TRUE)
    replica = model.with_outcomes(*simulate_table(model, on_cells, 0.0, [2]))
    assert replica.trials.frame["response"].isna().any()
    anew = learner(replica.trials.frame, deadline=2.0)
    likelihoods = []
    for each in (replica, anew):
        own = each.uncentred
        theta = own.parameter_map.rows(torch.from_numpy(on_cells), own.trials)
        likelihoods.append(float(each.likelihood.log_prob_by_cell(own.trials, theta, torch.tensor(0.0).double()).sum()))
    assert likelihoods[0] == pytest.approx(likelihoods[1], rel=1e-12)


def test_people_who_learn_get_better():
    """Share of the better choice in the first and last quarter of 40 simulated tables."""
    model = learner(table())
    on_cells = at(model, **TRUE)
    choices = np.stack([simulate_table(model, on_cells, 0.0, [seed])[0][:, 1] for seed in range(40)])
    trial = model.trials.frame["trial"].to_numpy()
    early, late = choices[:, trial < LONG // 4].mean(), choices[:, trial >= 3 * LONG // 4].mean()
    # A standard error is below .01.
    assert early + 0.1 < late
    assert late > 0.9


def test_two_sequences_and_the_same_seed():
    rows = table().assign(block=lambda t: t["trial"] // 10)
    sequences = {
        "dq": hs.delta_rule("feedback", "response", "subject"),
        "tired": hs.fatigue(["subject", "block"]),
        "after": hs.post_error_slowing("response", ["subject"]),
    }
    formulas = {"v": "0 + dq", "a": "1 + tired + after", "z": 0.5, "t0": "1", "alpha": "1"}
    model = hs.HierarchicalModel(formulas, rows, likelihood="exact", sequences=sequences, lapse=0.1)
    on_cells = at(model, **TRUE, a_tired=0.2, a_after=0.1, fatigue_rate_Intercept=-3.0)
    one, again, other = (simulate_table(model, on_cells, 0.1, [seed])[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert np.isfinite(one).all()


def test_sequences_that_want_each_others_trials_first():
    rows = table().assign(back=lambda t: -t["trial"])
    sequences = {"x": hs.sticky_choice("response", "subject"), "y": hs.fatigue("subject", order="back")}
    model = hs.HierarchicalModel(["v ~ x + y", "z = 0.5"], rows, likelihood="exact", sequences=sequences, lapse=0.0)
    names = dict.fromkeys(model.uncentred.coefficient_names, 0.1)
    with pytest.raises(hs.InputError, match="x, y have trials in different orders"):
        simulate_table(model, at(model, **names), 0.0, [1])
