# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Your own simulator: a drift that decays
# In this model the drift rate decays during a decision, as if attention waned. The package has no such model, and its
# likelihood has no closed form. We write a simulator, learn the likelihood, check it, and fit a hierarchical model.

# %%
import math
import os

import numba as nb
import numpy as np
import pandas as pd
import torch

import hddm_sbi as hs

DRAWS = int(os.environ.get("TUTORIAL_DRAWS", "1000"))
TRIALS = int(os.environ.get("TUTORIAL_TRIALS", "100"))
SIMULATIONS = int(os.environ.get("TUTORIAL_SIMULATIONS", "1000000"))

# %% [markdown]
# ## The simulator in twenty lines
# A declaration has three parts: a function of the parameters and of `rng`, the box of the parameters, and the kinds of
# the outcomes. A simulator with the outcomes `rt` and `response` is a decision model. Numba is optional; it makes the
# loop a hundred times as fast.
#
# **Symmetries** are optional too, and they help a lot. This model has three. `t0` only shifts response times. If space
# is stretched by `a`, time is stretched by a², so that only `v a` and `k a²` matter. The model with `-v` and `1 - z` is
# its mirror image. The network then has three inputs instead of five, and is as accurate as with ten times as many
# simulations.


# %%
@hs.declare(
    parameters={"v": (-4, 4), "a": (0.4, 2), "z": (0.2, 0.8), "k": (0, 4), "t0": (0, 1)},
    outcomes={"rt": "positive", "response": (-1, 1)},
    symmetries=hs.Symmetries(shift="t0", scale="a", scale_powers={"v": 1, "k": 2}, negated=("v",), complemented=("z",)),
)
@nb.njit
def decaying(v, a, z, k, t0, rng):
    """Diffusion whose drift decays: dx = v exp(-k t) dt + dW, from (2z - 1) a until |x| reaches a."""
    dt = 0.002
    edge = a - 0.5826 * math.sqrt(dt)  # steps overshoot the bound by as much (Siegmund 1985)
    x, t = (2 * z - 1) * a, 0.0
    while abs(x) < edge:
        x += v * math.exp(-k * t) * dt + math.sqrt(dt) * rng.standard_normal()
        t += dt
    return t0 + t, 1 if x > 0 else -1


hs.simulate(decaying, {"v": 2.0, "a": 1.0, "z": 0.5, "k": 1.0, "t0": 0.3}, n_trials=5, seed=1)

# %% [markdown]
# ## Learn the likelihood
# The verdict uses simulations that training has not seen. It gives their log score, says whether their ranks among
# draws from the likelihood are uniform, and whether the total probability is one.

# %%
likelihood = hs.train_likelihood(decaying, n_simulations=SIMULATIONS, seed=1, progress=False)
print(likelihood.card.scores.verdict)

# %% [markdown]
# One more check is possible here: without decay this is the ordinary drift-diffusion model, whose likelihood is known.
# The number is the Kullback-Leibler divergence per trial.

# %%
exact = hs.load_likelihood("ddm", kind="exact")
rng = np.random.default_rng(1)
theta = {"v": rng.uniform(-3, 3, 5_000), "a": rng.uniform(0.6, 1.6, 5_000), "z": 0.5, "t0": 0.3}
trials = hs.simulate("ddm", theta, seed=1)
gap = exact.log_prob(trials["rt"], trials["response"], theta) - likelihood.log_prob(
    trials["rt"], trials["response"], {**theta, "k": 0.0}
)
print(f"without decay: {float((torch.expm1(-gap) + gap).mean()):.4f} nats per trial from the closed form")

# %% [markdown]
# ## Save and load
# `save` writes the weights (safetensors) and a card (JSON). Neither contains code. On the command line,
# `hddm-sbi train my_model.py:decaying -n 1000000 -o decaying.safetensors` trains and saves, and
# `hddm-sbi fit trials.csv "k ~ condition" --likelihood decaying.safetensors` fits.

# %%
likelihood.save("decaying.safetensors")
again = hs.load_likelihood("decaying.safetensors")
again

# %% [markdown]
# ## Fit a hierarchy
# We simulate eight subjects in two conditions. Under distraction the drift decays faster.

# %%
subject = np.repeat([f"s{i}" for i in range(8)], 2 * TRIALS)
distracted = np.tile(np.repeat([False, True], TRIALS), 8)
level = dict(zip(np.unique(subject), rng.normal(2.5, 0.4, 8), strict=True))
data = hs.simulate(
    decaying,
    {
        "v": pd.Series(subject).map(level).to_numpy(),
        "a": 1.0,
        "z": 0.5,
        "k": np.where(distracted, 2.0, 0.8),
        "t0": 0.3,
    },
    seed=2,
)
data["subject"], data["condition"] = subject, np.where(distracted, "distracted", "quiet")

model = hs.HierarchicalModel(
    ["v ~ 1 + (1|subject)", "k ~ 0 + condition", "z = 0.5"], data, simulator=decaying, likelihood=again
)
model

# %%
posterior = model.fit(draws=DRAWS, tune=DRAWS, chains=4, seed=1, progress=False)
print(hs.report.summary(model, posterior).to_string())
print(f"truth: v 2.5 (sd 0.4), log k {math.log(2):.2f} distracted and {math.log(0.8):.2f} quiet")

# %%
axes = hs.plots.plot_predictive(model, posterior, by="condition")
