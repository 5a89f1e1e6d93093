# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Races by accumulator
# In a race every response has an accumulator, and the first to finish is the response. What a person knows of the
# stimulus is in the difference between accumulators: the one whose response is right is faster. One formula describes
# all of them. We simulate an experiment with a known answer, fit it with two formulas, and read the result.

# %%
import os

import numpy as np

import hddm_sbi as hs

DRAWS = int(os.environ.get("TUTORIAL_DRAWS", "500"))
TRIALS = int(os.environ.get("TUTORIAL_TRIALS", "100"))
SUBJECTS = 10

# %% [markdown]
# ## Data
# Ten subjects see a stimulus that asks for the left or the right key (`S`), in blocks that ask for speed or for
# accuracy. The accumulator that matches the stimulus has a drift of about 3, the other one of 1.5. Under speed `B`, the
# distance from the highest start to the threshold, is half as large. All subjects like the right key: its accumulator
# has 0.4 more, whatever the stimulus.

# %%
rng = np.random.default_rng(1)
SIDES = np.array(["left", "right"])
subject = np.repeat(np.arange(SUBJECTS), 2 * TRIALS)
speed = np.tile(np.repeat([False, True], TRIALS), SUBJECTS)
stimulus = SIDES[rng.integers(2, size=len(subject))]
gain = rng.normal(1.5, 0.3, SUBJECTS)[subject]

drift = {side: 1.5 + gain * (stimulus == side) + 0.4 * (side == "right") for side in SIDES}
gap = np.where(speed, 0.4, 0.8)
data = hs.simulate("lba", {"v0": drift["left"], "v1": drift["right"], "A": 0.5, "B": gap, "t0": 0.2}, seed=1)
data = data.assign(
    subject=subject,
    instruction=np.where(speed, "speed", "accuracy"),
    S=stimulus,
    key=SIDES[data["response"]],
)
data.head()

# %% [markdown]
# ## The model
# `v` stands for `v0` and `v1`, the drifts of both accumulators. Its formula has the columns of the table, and two more
# that tell accumulators apart:
#
# | | |
# |---|---|
# | `match` | 1 for the accumulator whose response is the right one in this trial, 0 for the others (EMC2's `lM`) |
# | `choice` | the response of the accumulator, as the table writes it (EMC2's `lR`) |
#
# `stimulus="S"` names the column that has the right response of each trial. `choices=` names the responses of the table
# in the order of the model.

# %%
model = hs.HierarchicalModel(
    ["v ~ match + choice + (0 + match|subject)", "B ~ 0 + instruction"],
    data,
    simulator="lba",
    likelihood="exact",
    stimulus="S",
    response="key",
    choices=["left", "right"],
)
model

# %%
model.prior_table

# %% [markdown]
# ## The fit

# %%
posterior = model.fit(draws=DRAWS, tune=DRAWS, chains=4, seed=1, progress=False)
print(hs.report.summary(model, posterior).to_string())

# %% [markdown]
# `v_Intercept` is the drift of the left accumulator where it does not match. `v_match` is what matching adds: how well
# people tell the stimuli apart. `v_choice[right]` is the bias to the right key. `v_match|subject_sigma` is how far
# subjects differ in what matching adds. `B_instruction` has log `B` under each instruction: log(0.8) = -0.22 and
# log(0.4) = -0.92. Range of starts, distance and non-decision time make up for each other; with a level for each
# instruction (`0 +`) they sample better than with an intercept and a difference.

# %% [markdown]
# ## Does the model predict the data?
# A race has a panel for each stimulus, with the distribution of each response.

# %%
axes = hs.plots.plot_predictive(model, posterior, by="S")

# %% [markdown]
# ## Other formulas
# - `v ~ 1` gives all accumulators one drift. Without any formula of `v`, each has its own, as with `v0 ~ 1`, `v1 ~ 1`.
# - `v ~ 0 + choice:S` has a drift for every accumulator and stimulus, as `v0 ~ 0 + S` and `v1 ~ 0 + S` together have.
# - `v ~ match * instruction` lets speed change how well people tell the stimuli apart.
# - `B ~ 0 + instruction + choice` has the bias in the distance to the threshold, and `sv ~ 0 + match` another standard
#   deviation of the drift for the matching accumulator; that of the others stays at 1, which sets the scale.
# - With three responses and more the formulas are the same: `match` marks the right one.

# %%
apart = hs.HierarchicalModel(
    ["v0 ~ 0 + S", "v1 ~ 0 + S", "B ~ 0 + instruction"],
    data,
    simulator="lba",
    likelihood="exact",
    response="key",
    choices=["left", "right"],
)
apart
