# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Missing responses and deadlines
# People do not always respond in time. Trials without a response are slow ones more often than fast ones, so a fit that
# leaves them out finds a drift that is too high. They stay in the table, and the model is told why they are empty.

# %%
import os

import numpy as np

import hddm_sbi as hs

DRAWS = int(os.environ.get("TUTORIAL_DRAWS", "1000"))
TRIALS = int(os.environ.get("TUTORIAL_TRIALS", "150"))
SUBJECTS = 12

# %% [markdown]
# ## A table with omissions
# Twelve people have 1.6 s for every response. What comes later is not recorded: `rt` and `response` are missing (NaN).

# %%
rng = np.random.default_rng(1)
subject = np.repeat(np.arange(SUBJECTS), TRIALS)
drift = 0.8 + 0.4 * rng.normal(size=SUBJECTS)
trials = hs.simulate("ddm", {"v": drift[subject], "a": 1.1, "z": 0.5, "t0": 0.3}, seed=1).assign(subject=subject)
late = trials["rt"] > 1.6
trials.loc[late, ["rt", "response"]] = np.nan
print(f"{late.mean():.0%} of the trials have no response; mean drift {drift.mean():.2f}")

# %% [markdown]
# ## The model
# `deadline=1.6` says by when those trials had no response. Where it differs between trials it is the name of a column.
# Each of them adds the probability that a trial takes longer.

# %%
formulas = ["v ~ 1 + (1|subject)", "a ~ 1", "z = 0.5", "t0 ~ 1"]
model = hs.HierarchicalModel(formulas, trials, deadline=1.6)
posterior = model.fit(draws=DRAWS, tune=DRAWS, seed=1, progress=False)
print(hs.report.summary(model, posterior).iloc[:4, :2].to_string())

# %% [markdown]
# The same without these trials: a higher drift and a lower threshold than the trials were made with (1.1, the logarithm
# of which is 0.095).

# %%
removed = hs.HierarchicalModel(formulas, trials[~late])
without = removed.fit(draws=DRAWS, tune=DRAWS, seed=1, progress=False)
print(hs.report.summary(removed, without).iloc[:4, :2].to_string())

# %% [markdown]
# What the model predicts has omissions, too: the titles of the panels compare their shares.

# %%
axes = hs.plots.plot_predictive(model, posterior, by="subject")

# %% [markdown]
# ## Go/no-go
# In a go/no-go task one of the two responses is given by not responding. `withheld=-1` says which. A trial without a
# key press is then either a decision for "no" or, with a deadline, one that came too late.

# %%
go = hs.simulate("ddm", {"v": drift[subject], "a": 1.1, "z": 0.5, "t0": 0.3}, seed=2).assign(subject=subject)
nothing = (go["response"] == -1) | (go["rt"] > 1.6)
go.loc[nothing, ["rt", "response"]] = np.nan
model = hs.HierarchicalModel(formulas, go, withheld=-1, deadline=1.6)
posterior = model.fit(draws=DRAWS, tune=DRAWS, seed=1, progress=False)
print(hs.report.summary(model, posterior).iloc[:4, :2].to_string())

# %% [markdown]
# ## Times that were cut off
# Some tables come without responses below or above some time. `truncated=(0.4, 2.0)` says that those trials were
# removed, and divides by what is left. `censored=(None, 2.0)` says of trials that are still there, but whose time is
# infinite or longer than that, that they took longer. Both may be columns, and all of this may meet in one table.

# %%
cut = hs.simulate("ddm", {"v": drift[subject], "a": 1.1, "z": 0.5, "t0": 0.3}, seed=3).assign(subject=subject)
cut = cut[cut["rt"].between(0.4, 2.0)]
model = hs.HierarchicalModel(formulas, cut, truncated=(0.4, 2.0))
posterior = model.fit(draws=DRAWS, tune=DRAWS, seed=1, progress=False)
print(hs.report.summary(model, posterior).iloc[:4, :2].to_string())

# %% [markdown]
# Two more cases need no word: where only the time of a trial is missing, its response counts; and where only the
# response is missing, its time does. Both are taken for missing by chance.
#
# Marks such as -999 are refused, not taken for times: `trials["rt"].replace(-999, float("nan"))` makes them missing.
