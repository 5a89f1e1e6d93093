# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # By hand: a hierarchical DDM in plain Pyro
# Formulas cannot express every model. Here we write a Pyro model line by line, and use the learned likelihood of the
# package inside it. The model has a part that no formula expresses: a hidden trait of each subject, caution, changes
# both the threshold and the non-decision time.

# %%
import os

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal

import hddm_sbi as hs

DRAWS = int(os.environ.get("TUTORIAL_DRAWS", "1000"))
TRIALS = int(os.environ.get("TUTORIAL_TRIALS", "100"))
SUBJECTS = 10

# %% [markdown]
# ## Data with a hidden trait

# %%
rng = np.random.default_rng(1)
caution = rng.normal(size=SUBJECTS)
subject = np.repeat(np.arange(SUBJECTS), TRIALS)
data = hs.simulate(
    "ddm",
    {
        "v": rng.normal(1.5, 0.3, SUBJECTS)[subject],
        "a": np.exp(0.25 * caution)[subject],
        "z": 0.5,
        "t0": np.exp(np.log(0.3) + 0.15 * caution)[subject],
    },
    seed=1,
)

# %% [markdown]
# ## The likelihood
# `likelihood.distribution(theta, index)` is the likelihood as a Pyro distribution. Its outcomes are rows of rt and
# response, coded as in the table. `theta` has one row for each subject, with columns in the order of the model's
# parameters. `index` says which row each trial belongs to, so the network runs once per subject, not once per trial.

# %%
likelihood = hs.load_likelihood("ddm")
trials = torch.tensor(data[["rt", "response"]].to_numpy(dtype=float))
print(f"columns of theta: {' '.join(likelihood.simulator.names)}")

theta = torch.tensor([[1.5, 1.0, 0.5, 0.3]], dtype=torch.float64).expand(SUBJECTS, 4)
by_distribution = likelihood.distribution(theta, index=subject).log_prob(trials)
by_name = likelihood.log_prob(data["rt"], data["response"], {"v": 1.5, "a": 1.0, "z": 0.5, "t0": 0.3})
print(f"log likelihood: {float(by_distribution.sum()):.6f} and, by names of parameters, {float(by_name.sum()):.6f}")

# %% [markdown]
# ## The model
# This is ordinary Pyro with observed trials. 2 % of the trials may be lapses, so that no single trial can exclude a
# non-decision time.


# %%
def number(value):
    """Double precision throughout: response times near the non-decision time need it."""
    return torch.tensor(value, dtype=torch.float64)


def model():
    drift = pyro.sample("drift", dist.Normal(number(0.0), 2.0))
    drift_sd = pyro.sample("drift_sd", dist.HalfNormal(number(1.0)))
    log_a = pyro.sample("log_a", dist.Normal(number(0.0), 0.5))
    log_t0 = pyro.sample("log_t0", dist.Normal(number(np.log(0.3)), 0.5))
    on_a = pyro.sample("caution_on_a", dist.HalfNormal(number(0.5)))
    on_t0 = pyro.sample("caution_on_t0", dist.Normal(number(0.0), 0.5))
    with pyro.plate("subject", SUBJECTS):
        v = pyro.sample("v", dist.Normal(drift, drift_sd))
        trait = pyro.sample("caution", dist.Normal(number(0.0), 1.0))
    a, t0 = torch.exp(log_a + on_a * trait), torch.exp(log_t0 + on_t0 * trait)
    theta = torch.stack([v, a, torch.full_like(v, 0.5), t0], -1)
    with pyro.plate("trial", len(trials)):
        pyro.sample("trials", likelihood.distribution(theta, index=subject, lapse=0.02), obs=trials)


# %% [markdown]
# ## NUTS on the fast path
# `hs.flatten` records the log density of the model once and compiles it. It sorts the trials once, and sums the
# likelihood by subject. `hs.sample` runs nutpie's NUTS on it.

# %%
START = {"drift": 1.0, "drift_sd": 0.3, "log_a": 0.0, "log_t0": -1.5, "caution_on_a": 0.1, "caution_on_t0": 0.1}
start = {name: number(value) for name, value in START.items()}
start |= {"v": torch.ones(SUBJECTS).double(), "caution": torch.zeros(SUBJECTS).double()}
density = hs.flatten(model, start)
run = hs.sample(density, draws=DRAWS, tune=DRAWS, chains=4, seed=1)
draws = {name: value.flatten(0, 1).numpy() for name, value in density.constrain(run.x).items()}

truth = {"drift": 1.5, "drift_sd": 0.3, "log_a": 0.0, "log_t0": np.log(0.3)}
truth |= {"caution_on_a": 0.25, "caution_on_t0": 0.15}
table = pd.DataFrame(
    {name: {"mean": draws[name].mean(), "sd": draws[name].std(), "truth": value} for name, value in truth.items()}
).T
print(table.round(3).to_string())
print(f"caution, estimated against true: r = {np.corrcoef(draws['caution'].mean(0), caution)[0, 1]:.2f}")

# %% [markdown]
# ## Any other inference of Pyro
# Every inference algorithm of Pyro works on this model. One example is a variational approximation, which takes a few
# seconds.

# %%
pyro.clear_param_store()
with torch.random.fork_rng(), pyro.validation_enabled(False):
    pyro.set_rng_seed(1)
    guide = AutoNormal(model, init_scale=0.05, init_loc_fn=pyro.infer.autoguide.init_to_value(values=start))
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO())
    losses = [svi.step() for _ in range(min(DRAWS, 500))]
print({name: round(float(value), 2) for name, value in guide.median().items() if value.ndim == 0})
