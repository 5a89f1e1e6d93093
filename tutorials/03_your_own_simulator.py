# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Your own simulator: a drift that decays
# The package does not ship a diffusion model whose drift fades while a decision takes its time, as if attention waned.
# Nobody has written down its likelihood. So: simulate it, learn the likelihood, check it, and fit a hierarchy with it.

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
# ## Twenty lines
# A function of the parameters and of `rng`, the box in which the parameters lie, the kinds of its outcomes. An `rt` and
# a `response` make it a decision model. Numba is not needed, but makes the loop a hundred times as fast.
#
# **Symmetries** are optional and worth a lot. Here: `t0` only shifts response times; stretching space by `a` stretches
# time by a², so what counts are `v a` and `k a²`; and the model with `-v` and `1 - z` is its own mirror image. Five
# parameters become three, and the likelihood is as good as ten times as many simulations would make it.


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
# The verdict is printed: how likely simulations are that training did not see, whether they lie among the likelihood's
# own draws as they should, and whether its total mass is one.

# %%
likelihood = hs.train_likelihood(decaying, n_simulations=SIMULATIONS, seed=1, progress=False)
print(likelihood.card.scores["verdict"])

# %% [markdown]
# One more check, because here we can: without decay this is the ordinary model, whose likelihood is known. The mean
# difference of log densities is the divergence per trial.

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
# ## Keep it
# A safetensors file and a card in JSON: no code in either. On the command line the same is
# `hddm-sbi train my_model.py:decaying -n 1000000 -o decaying.safetensors`, and then
# `hddm-sbi fit trials.csv "k ~ condition" --likelihood decaying.safetensors`.

# %%
likelihood.save("decaying.safetensors")
again = hs.load_likelihood("decaying.safetensors")
again

# %% [markdown]
# ## Fit a hierarchy
# Eight subjects, two conditions: under distraction attention wanes faster.

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
print(hs.report.summary(model, posterior))
print(f"truth: v 2.5 (sd 0.4), log k {math.log(2):.2f} distracted and {math.log(0.8):.2f} quiet")

# %%
hs.plots.plot_predictive(model, posterior, by="condition")
