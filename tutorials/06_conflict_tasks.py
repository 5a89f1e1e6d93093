# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Conflict tasks
# In a flanker task, people report the arrow in the middle and ignore its neighbours, which point the same way
# (congruent), the other way (incongruent), or nowhere (neutral). In the diffusion model for conflict tasks (`dmc`), the
# neighbours give a brief impulse to the evidence, towards the correct response or away from it.

# %%
import os

import numpy as np
import pandas as pd

import hddm_sbi as hs

DRAWS = int(os.environ.get("TUTORIAL_DRAWS", "1000"))
TRIALS = int(os.environ.get("TUTORIAL_TRIALS", "100"))
SUBJECTS = 10

# %% [markdown]
# ## A table
# Responses are correct or error, not left or right. The column `congruency` has labels, as an experiment writes them.
# The parameters are near those that Ulrich et al. (2015) found in a flanker task, in our units: noise 1, and seconds.

# %%
rng = np.random.default_rng(1)
label = np.tile(np.repeat(["comp", "neutral", "incomp"], TRIALS), SUBJECTS)
subject = np.repeat(np.arange(SUBJECTS), 3 * TRIALS)
drift = 4.7 + 0.5 * rng.normal(size=SUBJECTS)
onset = 0.28 * np.exp(0.1 * rng.normal(size=SUBJECTS))
theta = {
    "v": drift[subject],
    "a": 0.45,
    "t0": onset[subject],
    "amp": 0.15,
    "tau": 0.1,
    "alpha": 2.8,
    "st0": 0.1,
    "congruency": np.select([label == "comp", label == "neutral"], [1, 0], -1),
}
trials = hs.simulate("dmc", theta, seed=1).assign(subject=subject, congruency=label)
trials["response"] = np.where(trials["response"] == 1, "correct", "error")
pd.crosstab(trials["congruency"], trials["response"], normalize="index").round(3)

# %% [markdown]
# ## The model
# Nothing is guessed: `congruent=` and `neutral=` say what the labels mean (+1 and 0 in the model; the third is -1), and
# `upper=` which response is correct. Starting points vary from trial to trial by a beta law with the parameter `alpha`,
# and non-decision times uniformly from `t0` to `t0 + st0`, as in other packages; errors of people are fast because of
# it. The data tell the time of the peak, `(shape - 1) tau`, and hardly its two factors: `shape` is held at 2 where no
# formula says otherwise.

# %%
model = hs.HierarchicalModel(
    ["v ~ 1 + (1|subject)", "t0 ~ 1 + (1|subject)", "amp ~ 1", "tau ~ 1"],
    trials,
    simulator="dmc",
    upper="correct",
    congruent="comp",
    neutral="neutral",
)
model

# %%
posterior = model.fit(draws=DRAWS, tune=DRAWS, chains=4, seed=1, progress=False)
print(hs.report.summary(model, posterior).to_string())

# %% [markdown]
# ## Does the model predict the conflict?
# Errors to the left are many and fast where the neighbours mislead.

# %%
axes = hs.plots.plot_predictive(model, posterior, by="congruency")

# %% [markdown]
# ## The same in numbers of other packages
# `hs.convert` gives the parameters in the units of DMCfun (milliseconds, noise 4) and dRiftDM.

# %%
means = {name: float(np.mean(values)) for name, values in theta.items() if name != "congruency"}
hs.convert(means | {"shape": 2.0}, model="dmc", target="dRiftDM")

# %% [markdown]
# The shrinking spotlight (`ssp`) is fitted in the same way. Its interference time `ti` says how long the neighbours
# count: until the spotlight has shrunk to the target. Its width at first, `sda`, is held at 1.8 items, because the data
# tell `ti` alone.
