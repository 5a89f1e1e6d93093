"""Draw from the posterior of a flat density: NUTS by nutpie (default) or by Pyro itself."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from hddm_sbi.compile import FlatDensity

Array = NDArray[np.float64]
Method = Literal["nuts", "pyro-nuts"]
METHODS = get_args(Method)

#: sd of the normal jitter around the starting point, on the unconstrained scale; halved until the density is finite.
_JITTER = 0.1
_JITTER_TRIES = 12
#: ArviZ's name -> nutpie's name of what is reported about every draw.
_STATS = {
    "diverging": "diverging",
    "energy": "energy",
    "lp": "logp",
    "n_steps": "n_steps",
    "step_size": "step_size",
    "tree_depth": "depth",
    "reached_max_treedepth": "maxdepth_reached",
    "acceptance_rate": "mean_tree_accept",
}


@dataclass(frozen=True)
class Draws:
    """Unconstrained draws and what the sampler says about them.

    x: (chains, draws, n). stats: name -> (chains, draws). interrupted: stopped by Ctrl-C before the last draw.
    """

    x: Array
    stats: dict[str, NDArray[Any]]
    seconds: float
    interrupted: bool = False


def sample(
    density: FlatDensity,
    model: Callable[[], None],
    *,
    draws: int,
    tune: int,
    chains: int,
    seed: int,
    method: Method,
    progress: bool,
) -> Draws:
    """Posterior draws. The same seed gives the same draws; Ctrl-C keeps the draws so far."""
    began = time.perf_counter()
    run = nutpie_nuts if method == "nuts" else pyro_nuts
    x, stats, interrupted = run(density, model, draws, tune, chains, seed, progress)
    return Draws(x, stats, time.perf_counter() - began, interrupted)


def starting_point(density: FlatDensity, rng: np.random.Generator) -> Array:
    """The model's starting values with jitter small enough that the density is finite there."""
    scale = _JITTER
    for _ in range(_JITTER_TRIES):
        x = density.start + scale * rng.normal(size=density.size)
        value, gradient = density(x)
        if np.isfinite(value) and np.isfinite(gradient).all():
            return x
        scale /= 2
    return density.start


def nutpie_nuts(
    density: FlatDensity, model: Callable[[], None], draws: int, tune: int, chains: int, seed: int, progress: bool
) -> tuple[Array, dict[str, NDArray[Any]], bool]:
    """NUTS of nutpie (nuts-rs) on the flat density."""
    import nutpie
    from nutpie.compiled_pyfunc import from_pyfunc

    def initial(chain_seed: int) -> Array:
        return starting_point(density, np.random.default_rng(int(chain_seed) % 2**63))

    # nutpie gives nothing back when it is stopped early, so every draw is kept here as it is made.
    kept: list[list[Array]] = []

    def recorder(seed1: int, seed2: int, chain: int) -> Callable[[Array], dict[str, Array]]:
        chain_draws: list[Array] = []
        kept.append(chain_draws)

        def record(x: Array) -> dict[str, Array]:
            chain_draws.append(np.array(x))
            return {"x": chain_draws[-1]}

        return record

    compiled = from_pyfunc(
        density.size,
        lambda: density,
        recorder,
        [np.dtype("float64")],
        [(density.size,)],
        ["x"],
        dims={"x": ("unconstrained",)},
        coords={"unconstrained": np.arange(density.size)},
        make_initial_point_fn=initial,
    )
    # The low-rank mass matrix learns how t0, a and v of a group move together: half the steps, twice the sample size.
    # All chains advance together, so that an interrupted run leaves chains of equal length.
    sampler = nutpie.sample(
        compiled,
        draws=draws,
        tune=tune,
        chains=chains,
        cores=chains,
        seed=seed,
        progress_bar=progress,
        low_rank_modified_mass_matrix=True,
        blocking=False,
    )
    try:
        trace = sampler.wait()
    except KeyboardInterrupt:
        sampler.cancel()
        return _complete_part(kept, tune), {}, True
    stats = {ours: trace.sample_stats[theirs].values for ours, theirs in _STATS.items()}
    return trace.posterior["x"].values, stats, False


def pyro_nuts(
    density: FlatDensity, model: Callable[[], None], draws: int, tune: int, chains: int, seed: int, progress: bool
) -> tuple[Array, dict[str, NDArray[Any]], bool]:
    """Pyro's own NUTS on the Pyro model, chain after chain: slow, and an independent check of the fast path."""
    kept: list[list[Array]] = []
    diverging = np.zeros((chains, draws), dtype=bool)
    try:
        for chain in range(chains):
            kept.append([])
            _pyro_chain(density, model, draws, tune, seed + chain, progress, kept[-1], diverging[chain])
    except KeyboardInterrupt:
        return _complete_part(kept, tune), {}, True
    return _complete_part(kept, tune), {"diverging": diverging}, False


def _pyro_chain(
    density: FlatDensity,
    model: Callable[[], None],
    draws: int,
    tune: int,
    seed: int,
    progress: bool,
    kept: list[Array],
    diverging: NDArray[np.bool_],
) -> None:
    import pyro
    from pyro.infer import MCMC, NUTS

    first = starting_point(density, np.random.default_rng(seed))

    def record(kernel: NUTS, params: dict[str, torch.Tensor], stage: str, i: int) -> None:
        kept.append(np.concatenate([params[name].detach().reshape(-1).numpy() for name in density.names]))

    with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False), warnings.catch_warnings():
        # Pyro 1.9 calls torch functions that torch 2.13 has renamed.
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(seed)
        start = {name: value.clone() for name, value in density.unflatten(torch.as_tensor(first)).items()}
        mcmc = MCMC(
            NUTS(model),
            num_samples=draws,
            warmup_steps=tune,
            initial_params=start,
            disable_progbar=not progress,
            hook_fn=record,
        )
        mcmc.run()
    diverging[mcmc.diagnostics()["divergences"]["chain 0"]] = True


def _complete_part(kept: list[list[Array]], tune: int) -> Array:
    """Draws after tuning that every started chain has, (chains, draws, n)."""
    chains = [np.array(chain[tune:]) for chain in kept if len(chain) > tune]
    if not chains:
        raise KeyboardInterrupt("interrupted while tuning: there are no draws to keep yet")
    shortest = min(len(chain) for chain in chains)
    return np.stack([chain[:shortest] for chain in chains])
