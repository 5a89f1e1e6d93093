# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A first hierarchical fit
# An experiment with 12 subjects and two conditions, easy and hard. Subjects differ in drift rate, threshold and
# non-decision time; the hard condition lowers the drift rate. We simulate it, so the truth is known, fit the model that
# made it, and look at the answer in three ways.

# %%
import os

import arviz as az

import hddm_sbi as hs

DRAWS = int(os.environ.get("TUTORIAL_DRAWS", "1000"))
TRIALS = int(os.environ.get("TUTORIAL_TRIALS", "60"))

experiment = hs.simulate_experiment(n_subjects=12, n_trials=TRIALS, seed=1)
experiment.trials.head()

# %% [markdown]
# ## The model
# One formula per parameter, as in lme4. `z` is not mentioned, so it gets an intercept. The likelihood is the learned
# one that ships with the package; `likelihood="exact"` would use the closed form.

# %%
model = hs.HierarchicalModel(
    ["v ~ condition + (1|subject)", "a ~ 1 + (1|subject)", "t0 ~ 1 + (1|subject)"],
    experiment.trials,
)
model

# %% [markdown]
# Every prior, on the scale of its link: `a` and `t0` are modelled on the log scale, `z` on the log odds.

# %%
model.prior_table

# %% [markdown]
# ## The fit
# NUTS. The same seed gives the same draws.

# %%
posterior = model.fit(draws=DRAWS, tune=DRAWS, chains=4, seed=1, progress=False)
print(az.summary(posterior, var_names=model.hierarchy.population_names))

# %% [markdown]
# Read the table: `v_Intercept` is the drift rate in the easy condition, `v_condition[hard]` how much lower it is in the
# hard one, `v_1|subject_sigma` how far subjects lie apart.

# %% [markdown]
# ## Does the model predict the data?
# Grey: observed response times; lower (wrong) responses to the left. Blue: what the fitted model predicts.

# %%
hs.plots.plot_predictive(model, posterior, by="condition")

# %%
hs.plots.plot_predictive(model, posterior, by="subject")

# %% [markdown]
# ## Shrinkage
# What a subject's own trials say (open circles), and what the hierarchy makes of it (filled): extreme subjects are
# pulled towards the population mean, most where their own trials say least.

# %%
hs.plots.plot_shrinkage(model, posterior, parameter="v", group="subject")

# %% [markdown]
# ## Recovery
# The truth is known here: about 94 % of the 94 % intervals should contain it.

# %%
hs.plots.plot_recovery(model, posterior, experiment.truth)
