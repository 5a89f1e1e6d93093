# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Learning
# People who choose between options learn what these are worth. What they have learned changes from trial to trial, with
# parameters of its own, such as a learning rate. A *sequence* computes it along the trials of each person, and its
# result stands in formulas like a column of the table.

# %%
import os

import numpy as np
import pandas as pd
import torch

import hddm_sbi as hs

DRAWS = int(os.environ.get("TUTORIAL_DRAWS", "1000"))
TRIALS = int(os.environ.get("TUTORIAL_TRIALS", "120"))
SUBJECTS = 12

# %% [markdown]
# ## People who learn
# Twelve people choose between two options, of which the upper one pays in 7 of 10 trials and the lower one in 3. Their
# drift is 3 times the difference of what they hold the options to be worth, and they learn at a rate of about .2.

# %%
rng = np.random.default_rng(1)
rate = 1 / (1 + np.exp(1.4 - 0.6 * rng.normal(size=SUBJECTS)))
value = np.full((SUBJECTS, 2), 0.5)
parts = []
for trial in range(TRIALS):
    drift = 3.0 * (value[:, 1] - value[:, 0])
    part = hs.simulate("ddm", {"v": drift, "a": 1.0, "z": 0.5, "t0": 0.3}, seed=trial)
    pays = rng.random((SUBJECTS, 2)) < [0.3, 0.7]
    chosen = (part["response"] == 1).astype(int).to_numpy()
    won = pays[np.arange(SUBJECTS), chosen].astype(float)
    value[np.arange(SUBJECTS), chosen] += rate * (won - value[np.arange(SUBJECTS), chosen])
    parts.append(part.assign(subject=np.arange(SUBJECTS), trial=trial, feedback=won))
trials = pd.concat(parts, ignore_index=True)
quarter = pd.cut(trials["trial"], 4, labels=["first", "second", "third", "last"])
print((trials["response"] == 1).groupby(quarter, observed=True).mean().round(2).to_string())

# %% [markdown]
# ## The model
# `hs.delta_rule` is the rule of Rescorla and Wagner: after each trial, the value of the choice that was made moves
# towards its feedback, by a share that is the learning rate `alpha`. `by="subject"` says who learns by themselves, and
# the column `trial` in which order. The covariate is called `dq` here: with two choices it is the difference of their
# values, upper less lower. `alpha` has a formula like any other parameter.

# %%
rule = hs.delta_rule(feedback="feedback", chosen="response", by="subject")
formulas = ["v ~ 0 + dq + (0 + dq|subject)", "a ~ 1", "z = 0.5", "t0 ~ 1", "alpha ~ 1 + (1|subject)"]
model = hs.HierarchicalModel(formulas, trials, likelihood="exact", sequences={"dq": rule})
posterior = model.fit(draws=DRAWS, tune=DRAWS, seed=1, progress=False)
print(hs.report.summary(model, posterior).iloc[:, [0, 1, 8, 9]].to_string())

# %% [markdown]
# `alpha` is on the logit scale: -1.4 is a rate of .2, and `v_dq` was 3. The rates of single people come with it:

# %%
draws = posterior["posterior"]
estimate = 1 / (1 + np.exp(-(draws["alpha_Intercept"] + draws["alpha_1|subject"])))
print(pd.DataFrame({"true": rate, "estimate": estimate.mean(("chain", "draw"))}).round(2).T.to_string())

# %% [markdown]
# ## What it predicts
# Predictions run forward, trial after trial: the model learns from its own choices. What the other option would have
# paid is not in the table, so feedback is drawn from what was seen after that choice; `paid=` in the rule says it where
# it is known.

# %%
axes = hs.plots.plot_predictive(model, posterior, by="subject")

# %% [markdown]
# A new table needs no outcomes: its rows say who does which trials in which order. Here twenty new people, drawn from
# the population, do a task that was never run, in which the options change places halfway. `paid=` says so.


# %%
def reversed_halfway(table, rng):
    """What the two options pay in every trial."""
    late = table["trial"].to_numpy()[:, np.newaxis] >= TRIALS // 2
    return (rng.random((len(table), 2)) < np.where(late, [0.7, 0.3], [0.3, 0.7])).astype(float)


reversal = hs.delta_rule("feedback", "response", "subject", paid=reversed_halfway)
task = hs.HierarchicalModel(formulas, trials, likelihood="exact", sequences={"dq": reversal})
new = pd.DataFrame({"subject": np.repeat(np.arange(100, 120), TRIALS), "trial": np.tile(np.arange(TRIALS), 20)})
predicted = hs.posterior_predictive(task, posterior, new, draws=20)["posterior_predictive"]
upper = pd.Series((predicted["response"] == 1).mean(("chain", "draw")).to_numpy())
quarter = pd.cut(new["trial"], 4, labels=["first", "second", "third", "last"])
print(upper.groupby(quarter, observed=True).mean().round(2).to_string())

# %% [markdown]
# ## Other rules
# Sequences are not only about values. `hs.dual_rate_rule` has rates for gains and for losses, `hs.forgetting_rule`
# lets values of other choices fade, `hs.kalman_rule` learns fast what it does not know yet. `hs.sticky_choice` is for
# habits, `hs.practice` and `hs.fatigue` for what changes with time, `hs.post_error_slowing` for trials after errors.
# Several of them may stand in one model; races have one value for each accumulator.

# %%
several = {"dq": rule, "habit": hs.sticky_choice("response", "subject"), "left": hs.practice("subject")}
model = hs.HierarchicalModel(
    ["v ~ 0 + dq", "z ~ 1 + habit", "t0 ~ 1 + left"], trials, likelihood="exact", sequences=several
)
print(model.prior_table)

# %% [markdown]
# ## A rule of your own
# A rule is a function of one trial: from what is known before it, what the table says of it, and the parameters, to
# what is known after it and the covariate. It is written in torch, and compiled with its gradient. Here people learn
# less and less: the rate falls with every trial, from `first` on.

# %%


@hs.sequence(
    start={"q": 0.5, "n": 1.0},
    parameters={"first": (0.0, 1.0), "fall": (0.0, 2.0)},
    columns=["feedback"],
    choices=["response"],
    by="subject",
    payoff="feedback",
)
def slower(state, row, parameters):
    """The rate of trial n is first * n^-fall."""
    q, n = state["q"], state["n"]
    now = parameters["first"] * torch.exp(-parameters["fall"] * torch.log(n))
    return {"q": q + now * row["response"] * (row["feedback"] - q), "n": n + 1.0}, q


model = hs.HierarchicalModel("v ~ 0 + dq", trials, likelihood="exact", sequences={"dq": slower})
posterior = model.fit(draws=DRAWS, tune=DRAWS, seed=1, progress=False)
print(hs.report.summary(model, posterior).iloc[:, [0, 1, 8]].to_string())

# %% [markdown]
# A trial in which something is missing that the rule reads, a response or its feedback, teaches nothing, and counts
# otherwise like any other.
