# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A first hierarchical fit
# An experiment has 12 subjects and two conditions, easy and hard. Subjects differ in drift rate, threshold and
# non-decision time; the hard condition lowers the drift rate. We simulate the experiment, so that the true parameters
# are known, fit the model that generated the trials, and look at the posterior in three ways.

# %%
import os
from tempfile import TemporaryDirectory

import hddm_sbi as hs

DRAWS = int(os.environ.get("TUTORIAL_DRAWS", "1000"))
TRIALS = int(os.environ.get("TUTORIAL_TRIALS", "60"))

experiment = hs.simulate_experiment(n_subjects=12, n_trials=TRIALS, seed=1)
experiment.trials.head()

# %% [markdown]
# ## The model
# There is one formula per parameter, as in lme4. No formula mentions `z`, so it gets an intercept. The likelihood is
# the learned one in the package; `likelihood="exact"` would use the closed form.

# %%
model = hs.HierarchicalModel(
    ["v ~ condition + (1|subject)", "a ~ 1 + (1|subject)", "t0 ~ 1 + (1|subject)"],
    experiment.trials,
)
model

# %% [markdown]
# What does the model assume? The equations say what every parameter is in every condition. Priors are on the scale of
# the parameter's link: log for `a` and `t0`, logit (log odds) for `z`. The last two tables show what the priors imply,
# for parameters on their natural scale and for the trials of a new subject.

# %%
print(model.describe())

# %% [markdown]
# ## The fit
# The sampler is NUTS. The same seed gives the same draws.

# %%
posterior = model.fit(draws=DRAWS, tune=DRAWS, chains=4, seed=1, progress=False)
print(hs.report.summary(model, posterior).to_string())

# %% [markdown]
# `v_Intercept` is the drift rate in the easy condition. `v_condition[hard]` is the difference between the hard and the
# easy condition. `v_1|subject_sigma` is the standard deviation between subjects.

# %% [markdown]
# ## Keeping the fit
# `to_netcdf` writes the posterior with all that made it, and `load_model` makes the model again in another session.
# `model.fit(ess=1000, minutes=30, folder="fit")` samples until it is enough, and goes on after an interruption.

# %%
with TemporaryDirectory() as folder:
    posterior.to_netcdf(f"{folder}/fit.nc")
    print(hs.load_model(f"{folder}/fit.nc"))

# %% [markdown]
# ## Does the model predict the data?
# Grey shows the observed response times, with lower (wrong) responses to the left. Blue shows the predictions of the
# fitted model.

# %%
axes = hs.plots.plot_predictive(model, posterior, by="condition")

# %%
axes = hs.plots.plot_predictive(model, posterior, by="subject")

# %% [markdown]
# ## What does it say?
# Coefficients are on the scale of a link. Predictions are on natural scales, for the typical subject, whose effects are
# all 0, and averaged over the subjects of the population.

# %%
table = hs.predictions(model, posterior, by="condition")
print(table[table["quantity"].isin(["v", "a", "t0", "probability[1]", "rt_mean", "rt_q50"])].round(3).to_string())

# %% [markdown]
# How much do the conditions differ? `direction` is the posterior probability of the sign of the difference, and
# `in_rope` that of a difference that is too small to matter.

# %%
table = hs.comparisons(model, posterior, {"condition": ("hard", "easy")}, rope={"rt_mean": 0.02})
print(table[table["quantity"].isin(["v", "probability[1]", "rt_mean"])].round(3).to_string())

# %%
hypotheses = ["v_condition[hard] < 0", "v_condition[hard] > -1", "v_condition[hard] = -0.7"]
print(hs.hypothesis(model, posterior, hypotheses).round(3).to_string())

# %% [markdown]
# For R or SPSS, one row per subject:

# %%
hs.subject_table(model, posterior, by="condition").head()

# %% [markdown]
# ## Shrinkage
# Open circles are estimates from the trials of each subject alone. Filled circles are estimates of the hierarchical
# model. It pulls extreme subjects towards the population mean, and more so if their own trials carry little
# information.

# %%
axes = hs.plots.plot_shrinkage(model, posterior, parameter="v", group="subject")

# %% [markdown]
# ## Recovery
# The true parameters are known here. About 94 % of the 94 % intervals should contain them.

# %%
axes = hs.plots.plot_recovery(model, posterior, experiment.true_values)
