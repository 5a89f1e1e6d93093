# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # The cookie factory: a likelihood that nobody wrote down
# A factory bakes chocolate-chip cookies at five locations. We count the chips in some cookies and want to know how
# many chips each location puts into a cookie. The oven is a black box: we can run it, but we cannot write down its
# likelihood. So we learn the likelihood from simulations, and use it in three ordinary Pyro models: one rate for all
# locations (pooled), an unrelated rate for each location (unpooled), and related rates (hierarchical).
#
# The black box of this tutorial draws from a Poisson distribution, so the exact posterior is known for comparison.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch

import hddm_sbi as hs

with hs.validation_kept():
    from sbi.inference import NLE
    from sbi.neural_nets.net_builders.categorial import build_categoricalmassestimator

DRAWS = int(os.environ.get("TUTORIAL_DRAWS", "3000"))
SIMULATIONS = int(os.environ.get("TUTORIAL_SIMULATIONS", "100000"))
rng = np.random.default_rng(1)


def bake(rate):
    """The black box: chips in one cookie per rate."""
    return rng.poisson(rate)


TRUE_RATES = np.array([9.3, 6.0, 9.6, 8.9, 8.1])
location = np.repeat(np.arange(5), [30, 30, 30, 30, 5])
chips = torch.tensor(bake(TRUE_RATES[location]), dtype=torch.float64)
pd.Series(chips.numpy()).groupby(location).agg(["size", "mean"])

# %% [markdown]
# ## Learn the likelihood
# We simulate cookies at many rates, and sbi learns p(chips | rate). Two choices matter.
#
# **Counts are categories.** A categorical estimator gives one probability to each count, and the probabilities add up
# to one. A small estimator is smooth in the rate. The alternative is a flow on counts with uniform noise. It is as
# accurate for a single cookie, but its log density is not smooth in the rate, and the posterior depends on that:
# standard deviations are wrong by up to 25 %.
#
# **The network sees the logarithm of a positive parameter.** The log probability of a count is nearly linear in the
# logarithm of the rate, and a network without hidden blocks learns it best. `python -m benchmarks.bridge` prints the
# comparison.

# %%
MOST_CHIPS = 45
log_rate = torch.tensor(np.log(rng.uniform(0.5, 20.0, SIMULATIONS))).float().unsqueeze(-1)
simulated = torch.tensor(bake(log_rate.exp().numpy())).float().clamp(max=MOST_CHIPS)


def table_of_counts(log_rate, counts):
    """An estimator of all counts; by default sbi only knows the counts that occur in its training simulations."""
    every_count = torch.arange(MOST_CHIPS + 1.0).unsqueeze(-1)
    known = torch.full((1,), MOST_CHIPS + 1)
    return build_categoricalmassestimator(
        every_count, log_rate, num_hidden=20, num_layers=0, num_categories_per_variable=known
    )


estimator = None
with torch.random.fork_rng():
    torch.manual_seed(1)
    # Steps become smaller and batches larger, and both reduce the noise of the gradient. Five epochs at each setting
    # are enough. sbi waits for the validation score to stop rising, and warns that it has not.
    for batch, step in [(500, 5e-3), (1_000, 1e-3), (5_000, 3e-4)]:
        build = table_of_counts if estimator is None else lambda *_, trained=estimator: trained
        trainer = NLE(density_estimator=build, tracker=hs.SilentTracker(), show_progress_bars=False)
        trainer.append_simulations(log_rate, simulated)
        estimator = trainer.train(training_batch_size=batch, learning_rate=step, max_num_epochs=5)

# %% [markdown]
# Here the exact probabilities are known, so we can compare.

# %%
counts = torch.arange(26.0)
for rate, color in [(6.0, "tab:blue"), (9.5, "tab:orange")]:
    learned = hs.SBIToPyro(estimator, torch.tensor([np.log(rate)])).log_prob(counts).exp().detach()
    plt.plot(counts, learned, "o", color=color, label=f"learned, rate {rate}")
    plt.plot(counts, dist.Poisson(rate).log_prob(counts).exp(), color=color, label="Poisson")
plt.xlabel("chips")
plt.ylabel("probability")
_ = plt.legend()

# %% [markdown]
# ## Three models, two likelihoods
# `hs.SBIToPyro` turns the estimator into a Pyro distribution. Its `index` says which location each cookie comes from,
# so the network runs once per location and not once per cookie. Everything else is ordinary Pyro. The likelihood is an
# argument of each model, so that we write each model once.


# %%
def learned_chips(rate, index):
    """The learned likelihood."""
    return hs.SBIToPyro(estimator, rate.log().unsqueeze(-1), index=index)


def poisson_chips(rate, index):
    """The likelihood we pretend not to know."""
    return dist.Poisson(rate[index])


def pooled(chips_given):
    """One rate for all."""
    with pyro.plate("factory", 1):
        rate = pyro.sample("rate", dist.Gamma(2.0, 0.2))
    with pyro.plate("cookie", len(chips)):
        pyro.sample("chips", chips_given(rate, np.zeros_like(location)), obs=chips)


def unpooled(chips_given):
    """A rate for each location, unrelated."""
    with pyro.plate("location", len(TRUE_RATES)):
        rate = pyro.sample("rate", dist.Gamma(2.0, 0.2))
    with pyro.plate("cookie", len(chips)):
        pyro.sample("chips", chips_given(rate, location), obs=chips)


def hierarchical(chips_given):
    """Rates of locations are drawn from a population with mean mu and standard deviation sigma."""
    mu = pyro.sample("mu", dist.Gamma(2.0, 0.2))
    sigma = pyro.sample("sigma", dist.Exponential(1.0))
    with pyro.plate("location", len(TRUE_RATES)):
        rate = pyro.sample("rate", dist.Gamma((mu / sigma) ** 2, mu / sigma**2))
    with pyro.plate("cookie", len(chips)):
        pyro.sample("chips", chips_given(rate, location), obs=chips)


# %% [markdown]
# `hs.flatten` records a model once, and `hs.sample` samples it with NUTS. `pyro.infer.NUTS`, `SVI` and `Predictive`
# work as well.

# %%
START = {"mu": torch.tensor(8.0), "sigma": torch.tensor(1.0)}


def fit(model, chips_given, n_rates):
    """Posterior draws, name -> (draws, ...)."""
    start = {"rate": torch.full((n_rates,), 8.0), **(START if model is hierarchical else {})}
    density = hs.flatten(lambda: model(chips_given), start)
    run = hs.sample(density, draws=DRAWS, tune=max(DRAWS // 3, 25), chains=2, seed=1)
    return {name: value.flatten(0, 1).numpy() for name, value in density.constrain(run.x).items()}


posterior = {
    (model.__name__, chips_given.__name__): fit(model, chips_given, 1 if model is pooled else 5)
    for model in (pooled, unpooled, hierarchical)
    for chips_given in (poisson_chips, learned_chips)
}

# %% [markdown]
# ## Do they agree?
# We compare the learned with the exact likelihood: the difference of the posterior means in posterior standard
# deviations, and the ratio of the standard deviations.

# %%
rows = []
for model in ("pooled", "unpooled", "hierarchical"):
    analytic, learned = posterior[model, "poisson_chips"], posterior[model, "learned_chips"]
    for name, draws in analytic.items():
        sd = draws.std(0)
        shift, ratio = (learned[name].mean(0) - draws.mean(0)) / sd, learned[name].std(0) / sd
        for k, (mean, by, times) in enumerate(zip(*map(np.atleast_1d, (draws.mean(0), shift, ratio)), strict=True)):
            rows.append((model, f"{name}[{k}]" if draws.ndim > 1 else name, mean, by, times))
agreement = pd.DataFrame(rows, columns=["model", "parameter", "mean", "shift in sds", "ratio of sds"])
print(agreement.round(3).to_string(index=False))

# %% [markdown]
# ## Shrinkage
# The hierarchical model pulls every location towards the common mean. The interval of the location with five cookies
# becomes shorter, because the other locations tell what rates are plausible.

# %%
alone = posterior["unpooled", "learned_chips"]["rate"]
together = posterior["hierarchical", "learned_chips"]
fig, ax = plt.subplots()
for offset, draws, label, marker in [(-0.1, alone, "unpooled", "o"), (0.1, together["rate"], "hierarchical", "s")]:
    low, high = np.quantile(draws, [0.03, 0.97], axis=0)
    middle = draws.mean(0)
    ax.errorbar(np.arange(5) + offset, middle, [middle - low, high - middle], fmt=marker, label=label)
ax.plot(np.arange(5), TRUE_RATES, "k_", markersize=20, label="truth")
ax.axhline(together["mu"].mean(), color="0.7", label="common mean")
ax.set_xticks(np.arange(5), [f"{i}\n{n} cookies" for i, n in enumerate(np.bincount(location))])
ax.set_xlabel("location")
ax.set_ylabel("chips per cookie")
_ = ax.legend()

# %% [markdown]
# ## A sixth location
# No cookies come from this location yet. We draw its rate from the population, and its cookies from the learned
# likelihood.

# %%
with torch.random.fork_rng():
    torch.manual_seed(1)
    mu, sigma = torch.tensor(together["mu"]), torch.tensor(together["sigma"])
    new_rate = dist.Gamma((mu / sigma) ** 2, mu / sigma**2).sample()
    new_chips = hs.SBIToPyro(estimator, new_rate.log().unsqueeze(-1)).sample()
plt.figure()
plt.hist(new_chips.numpy(), bins=np.arange(-0.5, 26.5), density=True, color="0.8", label="chips in a cookie")
plt.hist(new_rate.numpy(), bins=60, range=(0, 26), density=True, histtype="step", label="rate of the location")
plt.xlabel("a new location")
plt.legend()
print(f"a cookie from a new location: {new_chips.mean():.1f} chips, 94 % between", np.quantile(new_chips, [0.03, 0.97]))

# %% [markdown]
# ## The same with formulas
# The same takes three calls: declare the black box, train, fit. `hs.train_likelihood` trains a few networks, takes the
# best, and checks it on simulations that training has not seen. It counts the cookies of each rate before it trains, so
# two million simulations take little longer than a hundred thousand. The declaration includes the prior of the
# parameter: rates of locations follow a Gamma distribution, as in the models above.

# %%
around = hs.Prior("halfnormal", 0.0, 1.0)
population = hs.ParameterPrior("identity", hs.Prior("gamma", 10.0, 7.0), hs.Prior("normal", 0.0, 2.0), around, "gamma")


@hs.declare(
    parameters={"rate": hs.parameter("rate", 0.5, 20.0, "chips per cookie", prior=population)},
    outcomes={"chips": "count"},
    vectorised=True,
)
def cookies(rate, rng):
    """The black box, with its randomness as an argument."""
    return rng.poisson(rate)


likelihood = hs.train_likelihood(cookies, n_simulations=20 * SIMULATIONS, seed=1, progress=False)
print(likelihood.card.scores.verdict)

# %%
table = pd.DataFrame({"location": location.astype(str), "chips": chips.numpy().astype(int)})
FORMULAS = {"pooled": "rate ~ 1", "unpooled": "rate ~ 0 + location", "hierarchical": "rate ~ 1 + (1|location)"}
PRIORS = {
    "pooled": {"rate_Intercept": dist.Gamma(2.0, 0.2)},
    "unpooled": {"rate_location": dist.Gamma(2.0, 0.2)},
    "hierarchical": {"rate_Intercept": dist.Gamma(2.0, 0.2), "rate_1|location_sigma": dist.Exponential(1.0)},
}
by_formula = {}
for name, formula in FORMULAS.items():
    model = hs.HierarchicalModel(formula, table, likelihood=likelihood, priors=PRIORS[name])
    fitted = model.fit(draws=DRAWS, tune=max(DRAWS // 3, 25), chains=4, seed=1, progress=False)
    by_formula[name] = model.theta(fitted)[:, :, 0]
    analytic = posterior[name, "poisson_chips"]["rate"]
    shift = (by_formula[name].mean(0) - analytic.mean(0)) / analytic.std(0)
    print(f"{name}: rates shifted by {np.abs(shift).max():.3f} posterior sds of the analytic model at most")

# %% [markdown]
# The last fit also predicts a new location: we draw its rate from the population, and its cookies from the likelihood.

# %%
draws = fitted.posterior.stack(sample=("chain", "draw"))
mean, sd = draws["rate_Intercept"].to_numpy(), draws["rate_1|location_sigma"].to_numpy()
new_rate = np.random.default_rng(1).gamma((mean / sd) ** 2, sd**2 / mean).clip(0.5, 20.0)
new_chips = likelihood.sample({"rate": new_rate}, seed=1)["chips"]
print(f"a cookie from a new location: {new_chips.mean():.1f} chips, 94 % between", np.quantile(new_chips, [0.03, 0.97]))
