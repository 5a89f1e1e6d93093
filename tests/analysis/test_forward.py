"""Tables that are simulated along their sequences: what a model chooses is what it learns from."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.analysis.fit import Fit
from hddm_sbi.analysis.predictive import simulate_table
from hddm_sbi.data import payoffs

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


PEOPLE = {"v": "0 + dq + (0 + dq|subject)", "a": "1", "z": 0.5, "t0": "1", "alpha": "1 + (1|subject)"}


@pytest.fixture(scope="module")
def fitted():
    """A learner whose subjects differ in rate and slope, few draws of it, and the same where payoffs are not said."""
    model = learner(table(), PEOPLE)
    posterior = fit_briefly(model)
    sequences = {"dq": hs.delta_rule("feedback", "response", "subject")}
    untold = hs.HierarchicalModel(PEOPLE, table(), likelihood="exact", sequences=sequences, lapse=0.0)
    return model, posterior, untold


def fit_briefly(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        return model.fit(draws=20, tune=50, chains=2, seed=1, progress=False)


def session(subjects, long=30, seed=5):
    """A new table: rows in no order, no outcomes; the lower choice pays now, and differently in every trial."""
    rng, n = np.random.default_rng(seed), long * len(subjects)
    rows = pd.DataFrame({"subject": np.repeat(subjects, long), "trial": np.tile(np.arange(long), len(subjects))})
    rows = rows.assign(lower=rng.normal(1.0, 0.3, n), upper=rng.normal(0.0, 0.3, n))
    return rows.sample(frac=1.0, random_state=seed, ignore_index=True)


def test_a_new_table_by_hand(fitted):
    """A plain loop over trials at a fixed draw: values of what the model itself chose, and its choices and times."""
    model, posterior, _ = fitted
    rows, seed = session([3, 0]), 4
    predicted = hs.posterior_predictive(model, posterior, rows, draws=4, seed=seed)["posterior_predictive"]
    chain, draw, number = 1, 1, 3
    at = posterior["posterior"].isel(chain=chain, draw=int(predicted["draw"][draw]))
    rt, response = (predicted[name].to_numpy()[chain, draw] for name in ("rt", "response"))
    slope = {k: float(at["v_dq"] + at["v_dq|subject"].sel(subject=k)) for k in (0, 3)}
    rate = {k: 1 / (1 + np.exp(-float(at["alpha_Intercept"] + at["alpha_1|subject"].sel(subject=k)))) for k in (0, 3)}
    a, t0 = (np.exp(float(at[f"{name}_Intercept"])) for name in ("a", "t0"))
    q = {k: [0.5, 0.5] for k in (0, 3)}
    for trial in range(30):
        now = rows[rows["trial"] == trial]
        theta = [[slope[k] * (q[k][1] - q[k][0]), a, 0.5, t0] for k in now["subject"]]
        made = model.likelihood.simulate(torch.tensor(theta, dtype=torch.float64), [seed, number, 4, trial])
        np.testing.assert_allclose(rt[now.index], made[:, 0], rtol=1e-5)
        np.testing.assert_array_equal(response[now.index], 2 * made[:, 1] - 1)
        for (_, row), choice in zip(now.iterrows(), made[:, 1].astype(int), strict=True):
            own, paid = q[row["subject"]], row[("lower", "upper")[choice]]
            own[choice] += rate[row["subject"]] * (paid - own[choice])
    assert len(set(response)) == 2


def test_the_fitted_table_as_a_new_one(fitted):
    """The same trials, whether the table is given again or not, with its outcomes or without."""
    model, posterior, untold = fitted
    for each in (model, untold):
        expected = hs.posterior_predictive(each, posterior, draws=2)["posterior_predictive"]
        for rows in (table(), table().drop(columns=["rt", "response", "feedback"])):
            found = hs.posterior_predictive(each, posterior, rows, draws=2)
            np.testing.assert_array_equal(found["posterior_predictive"]["rt"], expected["rt"])
            assert ("observed_data" in found.groups()) == ("rt" in rows)


def test_new_subjects_learn_at_rates_of_the_population(fitted):
    """800 new subjects in 20 draws: mean and sd of log odds of their rates, 5 standard errors (1e-6 each)."""
    model, posterior, _ = fitted
    new, fit = model.on_table(session(range(100, 900), 2)), Fit.of(model, posterior)
    values = fit.values(np.arange(20))
    along, numbers = new.uncentred.parameter_map, fit.on_table(new, values, 1)[0]
    first = new.trials.frame.drop_duplicates("subject").index
    eta = torch.logit(torch.from_numpy(numbers[:, along.design[first], along.column("alpha")])).numpy()
    sigma, middle = values["alpha_1|subject_sigma"].numpy(), values["alpha_Intercept"].numpy()
    assert (np.abs(eta.mean(1) - middle) < 5 * sigma / np.sqrt(800)).all()
    assert (np.abs(eta.std(1) / sigma - 1) < 5 / np.sqrt(1600)).all()


def test_what_choices_bring_in_a_new_table(fitted):
    """Of columns; of the new table's own outcomes; and of those that were fitted, of subjects that were, or of all."""
    model, _, untold = fitted
    rows, rng = session([2, 77]), np.random.default_rng(1)

    def brought(model, rows):
        new = model.on_table(rows)
        return payoffs(new.uncentred.parameter_map.courses[0], new.trials.frame, rng)

    np.testing.assert_array_equal(brought(model, rows), rows[["lower", "upper"]])
    paid = brought(untold, rows)
    seen = table()
    for choice, code in enumerate((-1, 1)):
        own = seen.loc[(seen["response"] == code) & (seen["subject"] == 2), "feedback"]
        assert set(paid[rows["subject"] == 2, choice]) <= set(own)
        assert set(paid[rows["subject"] == 77, choice]) <= set(seen.loc[seen["response"] == code, "feedback"])
        assert len(set(paid[rows["subject"] == 77, choice]) - set(own)) > 5
    told = rows.assign(rt=0.6, response=np.where(rows["trial"] % 2, 1, -1), feedback=np.where(rows["trial"] % 2, 9, 7))
    np.testing.assert_array_equal(brought(untold, told), [[7.0, 9.0]] * len(rows))


def test_a_new_table_of_a_race_with_names_and_columns_of_its_own():
    """Choices in a second column, right responses in a third, and a new person: all by name."""
    names, rng = ("left", "middle", "right"), np.random.default_rng(1)
    rows = table().assign(response=rng.choice(names, SUBJECTS * LONG), right=rng.choice(names, SUBJECTS * LONG))
    rows["chosen"] = rows["response"]
    sequences = {
        "q": hs.delta_rule("feedback", "chosen", "subject"),
        "after": hs.post_error_slowing("chosen", "subject", correct="right"),
    }
    formulas = {"v": "1 + q", "a": "1 + after", "alpha": "1 + (1|subject)"}
    told = {"simulator": "race3", "likelihood": "neural", "choices": names}
    model = hs.HierarchicalModel(formulas, rows, sequences=sequences, **told)
    posterior = fit_briefly(model)
    new = pd.DataFrame({"subject": [0] * 9 + ["new"] * 9, "trial": [*range(9)] * 2, "right": "left"})
    with pytest.raises(hs.InputError, match="the data have no column 'right'"):
        hs.posterior_predictive(model, posterior, new.drop(columns="right"))
    with pytest.raises(hs.InputError, match="column 'right' must hold responses"):
        hs.posterior_predictive(model, posterior, new.assign(right="up"))
    predicted = hs.posterior_predictive(model, posterior, new, draws=6)["posterior_predictive"]
    assert predicted["response"].shape == (2, 3, 18)
    assert np.isfinite(predicted["rt"]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trial": None}, r"sequences\['dq'\] needs the order of trials, and the table has no column 'trial'"),
        ({"trial": 3}, "'trial' is 3 twice for subject"),
        ({"trial": np.nan}, "column 'trial' has missing values in rows 0, 1"),
        ({"subject": None}, "the data have no column 'subject'"),
        ({"upper": None}, "the data have no column 'upper'"),
        ({"upper": "much"}, "sequence 'dq': paid must be a column of numbers; 'upper' holds 'much' in rows 0, 1"),
        ({"upper": np.nan}, "sequence 'dq': column 'upper' is missing in every row"),
        ({"dq": 0.5}, "'dq' is a column of the table; .* or leave the column out"),
        ({"rt": 0.5, "response": 2}, "column 'response' must be"),
    ],
)
def test_refusals_of_new_tables(fitted, change, message):
    model, posterior, _ = fitted
    rows = session([0, 8])
    for name, value in change.items():
        rows = rows.drop(columns=name) if value is None else rows.assign(**{name: value})
    with pytest.raises(hs.InputError, match=message):
        hs.posterior_predictive(model, posterior, rows)


def test_refusals_where_nothing_says_what_choices_bring(fitted):
    _, posterior, untold = fitted
    rows = session([0, 8])
    with pytest.raises(hs.InputError, match=r"column 'feedback' is what choices brought, .* 'rt' and 'response': give"):
        hs.posterior_predictive(untold, posterior, rows.assign(feedback=1.0))
    told = rows.assign(rt=0.5, response=1)
    with pytest.raises(hs.InputError, match="the data have no column 'feedback'"):
        hs.posterior_predictive(untold, posterior, told)
    with pytest.raises(hs.InputError, match=r"choice 0 .* was never made, so the table does not say what it pays"):
        hs.posterior_predictive(untold, posterior, told.assign(feedback=1.0))
    rule = hs.delta_rule("feedback", "response", ["subject", "pair"])
    with_pairs = table().assign(pair=lambda t: np.where(t["trial"] % 2, "AB", "CD"))
    model = hs.HierarchicalModel(PEOPLE, with_pairs, likelihood="exact", sequences={"dq": rule}, lapse=0.0)
    with pytest.raises(hs.InputError, match=r"column 'pair' holds 'EF' in rows 0, 1, .* not say what choices bring"):
        model.on_table(rows.assign(pair="EF"))
    assert len(model.on_table(rows.assign(pair="AB")).trials) == 60


@pytest.mark.parametrize("ask", [hs.predictions, hs.subject_table, lambda m, p: hs.comparisons(m, p, {"load": (0, 1)})])
def test_cells_have_no_parameters_where_these_follow_from_choices(ask):
    model = learner(table().assign(load=lambda t: t["trial"] % 2), {**PEOPLE, "a": "1 + load"})
    with pytest.raises(hs.InputError, match=r"by dq, which depends .*posterior_predictive\(model, posterior, data=\)"):
        ask(model, fit_briefly(model))
