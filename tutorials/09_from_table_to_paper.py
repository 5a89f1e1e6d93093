# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # From a table to a sentence in a paper
# A fit is not an answer yet. This tutorial goes the whole way with one simulated experiment: what the model assumes,
# whether the fit can be trusted, what it says on scales that readers know, how much of it is due to the priors, and
# whether a simpler model would do. It ends with the sentence that a paper would print, its numbers computed.

# %%
import os
import warnings

import hddm_sbi as hs

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # ArviZ announces its next version
    import arviz as az

DRAWS = max(100, int(os.environ.get("TUTORIAL_DRAWS", "1000")))
TRIALS = int(os.environ.get("TUTORIAL_TRIALS", "50"))

# %% [markdown]
# ## The question
# Ten people decide in an easy and in a hard condition. Does difficulty change how fast evidence comes in (the drift
# rate `v`), and by how much does that change what people do?

# %%
trials = hs.simulate_experiment(n_subjects=10, n_trials=TRIALS, seed=4).trials
trials.groupby("condition", observed=True)["rt"].describe().round(2)

# %% [markdown]
# ## Before the fit: what is assumed
# The equations of every condition, the priors, and what these say of parameters and of trials. Read the last table as a
# reviewer would: does it allow what people can do, and nothing absurd?

# %%
formulas = {"v": "condition + (condition|subject)", "a": "1 + (1|subject)", "z": 0.5, "t0": "1 + (1|subject)"}
model = hs.HierarchicalModel(formulas, trials)
print(model.describe())

# %% [markdown]
# ## The fit
# Warnings would say what is not to be trusted. None is good news.

# %%
posterior = model.fit(draws=DRAWS, tune=DRAWS, chains=4, seed=1, progress=False)
summary = hs.report.summary(model, posterior)
print(summary.iloc[:, [0, 1, 2, 3, 6, 8]].to_string())

# %% [markdown]
# ## Did the learned likelihood move it?
# The likelihood of this fit is a neural network. The certificate weights the draws by the closed form, and says how far
# every quantity of the population would move.

# %%
certificate = hs.certify(model, posterior)
print(certificate.verdict)

# %% [markdown]
# ## Does the model predict what was seen?

# %%
axes = hs.plots.plot_predictive(model, posterior, by="condition")

# %% [markdown]
# ## What it says
# Coefficients live on the scale of a link, readers do not. A comparison predicts every trial twice, once as if it were
# hard and once as if it were easy, and averages. `average` is over new people from the population, `typical` is the
# person whose effects are all 0.

# %%
table = hs.comparisons(model, posterior, {"condition": ("hard", "easy")}, rope={"rt_mean": 0.02})
shown = table[table["quantity"].isin(["v", "probability[1]", "rt_mean"])]
print(shown.round(3).to_string(index=False))

# %% [markdown]
# A direction has a posterior probability. A point has a Bayes factor, the ratio of the densities of posterior and prior
# there (Savage and Dickey).

# %%
tests = hs.hypothesis(model, posterior, ["v_condition[hard] < 0", "v_condition[hard] = 0"])
print(tests.round(3).to_string(index=False))

# %% [markdown]
# ## How much of it is due to the priors?
# Power scaling makes the priors a little stronger and a little weaker. Values above .05 say that they inform a
# quantity: standard deviations between ten people often are, the effect of difficulty should not be.

# %%
asked = ["v_Intercept", "v_condition", "v_1|subject_sigma", "v_condition|subject_sigma"]
sensitivity = az.psens(hs.with_log_prior(model, posterior), var_names=asked)
print(sensitivity.to_dataframe().round(3).to_string())

# %% [markdown]
# ## Would a simpler model do?
# The evidence averages over the priors, so it answers for the priors above. Leaving trials out asks how well new trials
# of the same people are predicted. `leave_out="subject"` asks the same of new people; there, weights fail as a rule
# (Pareto k above .7), and `refit=True` fits each model again without each person.

# %%
without = hs.HierarchicalModel({**formulas, "v": "1 + (1|subject)"}, trials)
fits = {"an effect": posterior, "no effect": without.fit(draws=DRAWS, tune=DRAWS, chains=4, seed=1, progress=False)}
evidence = hs.compare_models(fits, by="evidence", models={"an effect": model, "no effect": without})
print(evidence.round(3).to_string())

# %%
scored = {
    "an effect": model.with_log_likelihood(posterior),
    "no effect": without.with_log_likelihood(fits["no effect"]),
}
predicted = hs.compare_models(scored)
print(predicted[["elpd_loo", "elpd_diff", "dse", "pareto_k"]].round(2).to_string())

# %% [markdown]
# ## The sentence
# Every number of it is computed above.


# %%
def interval(quantity: str, scale: float = 1.0, digits: int = 2) -> str:
    """Mean and central 94 % of the average difference, hard - easy."""
    rows = table[(table["contrast"] == "hard - easy") & (table["level"] == "average")]
    found = rows.set_index("quantity").loc[quantity, ["mean", "low", "high"]] * scale
    return "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*found, d=digits)


better = evidence.index[0]
log_bayes_factor = evidence["log_bayes_factor"].max()
error = (evidence["error"] ** 2).sum() ** 0.5
direction = tests["probability"][0]
print(
    f"In {trials['subject'].nunique()} participants ({len(trials)} trials), drift rates differed between the hard and "
    f"the easy condition by {interval('v')} (mean and 94 % credible interval, average over the population; posterior "
    f"probability of a lower rate when hard: {f'{direction:.3f}' if direction < 0.9995 else '> .999'}). This changed "
    f"the probability of upper responses by {interval('probability[1]', 100, 0)} percentage points and mean response "
    f"times by {interval('rt_mean', 1000, 0)} ms. The trials were exp({log_bayes_factor:.1f}) times (standard error of "
    f"the exponent {error:.2f}) as probable under the model with {better} of difficulty on drift rates as under the "
    f"other. The largest R-hat was {summary['r_hat'].max():.3f}, and the learned likelihood moved no mean of the "
    f"population by more than {certificate.shifts['shift'].abs().max():.2f} posterior standard deviations."
)
