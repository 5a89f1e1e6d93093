"""NUTS, by nutpie (nuts-rs) on the compiled density, and by Pyro on the model itself."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from hddm_sbi.errors import InputError
from hddm_sbi.inference.coordinates import Whitening, unwhitened, whitened
from hddm_sbi.inference.density import FlatDensity, not_finite
from hddm_sbi.inference.sampling import Draws, Settings
from hddm_sbi.types import Array

#: sd of the normal jitter around the starting point, on the unconstrained scale; halved until the density is finite.
_JITTER = 0.1
_JITTER_TRIES = 12
#: up to so many parameters, a low-rank mass matrix learns from tuning what whitening leaves: how common coefficients go
#: with the effects of all groups at once. Beyond, it costs as much time as it saves (decision 003).
_LOW_RANK_SIZE = 500
#: seconds between looks at how far the chains are.
_LOOK = 0.1
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


def starting_point(density: FlatDensity, rng: np.random.Generator) -> Array:
    """The model's starting values with jitter small enough that the density is finite there.

    Raises InputError where it is not finite at the starting values themselves.
    """
    scale = _JITTER
    for _ in range(_JITTER_TRIES):
        x = density.start + scale * rng.normal(size=density.size)
        value, gradient = density(x)
        if np.isfinite(value) and np.isfinite(gradient).all():
            return x
        scale /= 2
    start = {name: value.squeeze(0) for name, value in density.constrain(density.start[np.newaxis]).items()}
    raise not_finite(density.model, start)


class Chain:
    """One chain of nutpie, in whitened coordinates.

    Nutpie gives nothing back when it is stopped early, so every draw is kept here. model: as nutpie takes it. draws:
    (steps, n), unconstrained, of which the first `n_done` are there. failure: what the density raised.
    """

    def __init__(self, density: FlatDensity, whitening: Whitening, steps: int) -> None:
        from nutpie.compiled_pyfunc import from_pyfunc

        self.draws, self.n_done = np.empty((steps, density.size)), 0
        self.failure: Exception | None = None
        self._density, self._whitening = whitened(density.evaluate, whitening), whitening
        self._thread_state: int | None = None

        def initial(seed: int) -> Array:
            return whitening.whiten(starting_point(density, np.random.default_rng(int(seed) % 2**63)))

        number = [np.dtype("float64")], [()], ["number"]
        self.model = from_pyfunc(
            density.size, lambda: self._evaluate, lambda *_: self._record, *number, make_initial_point_fn=initial
        )

    def _evaluate(self, y: Array) -> tuple[float, Array]:
        if self._thread_state is None:
            # nutpie's threads are not Python's: without this, Python makes and frees a thread state for every gradient,
            # and a fit takes 1.1 to 1.5 times as long (decision 015).
            self._thread_state = ctypes.pythonapi.PyGILState_Ensure()
        try:
            return self._density(y)
        except Exception as failure:
            # An exception inside nutpie would take the other chains with it.
            self.failure = failure
            return float("nan"), np.full_like(y, np.nan)

    def _record(self, y: Array) -> dict[str, Array]:
        self.draws[self.n_done] = self._whitening.unwhiten(y)
        self.n_done += 1
        if self.n_done == len(self.draws) and self._thread_state is not None:
            ctypes.pythonapi.PyGILState_Release(self._thread_state)
        return {"number": np.array(float(self.n_done))}


def nutpie_nuts(density: FlatDensity, settings: Settings) -> Draws:
    """NUTS of nutpie (nuts-rs) on the flat density in whitened coordinates, every chain in a thread."""
    import nutpie

    starting_point(density, np.random.default_rng(settings.seed))
    whitening, tune = settings.whitening or unwhitened(density.size), settings.tune
    steps = tune + settings.draws
    chains = [Chain(density, whitening, steps) for _ in range(settings.chains)]
    seeds = np.random.SeedSequence(settings.seed).generate_state(settings.chains).tolist()
    options = {"draws": settings.draws, "tune": tune, "chains": 1, "cores": 1}
    options["low_rank_modified_mass_matrix"] = density.size <= _LOW_RANK_SIZE
    samplers = [
        nutpie.sample(chain.model, seed=chain_seed, progress_bar=False, blocking=False, **options)
        for chain, chain_seed in zip(chains, seeds, strict=True)
    ]
    try:
        traces = _watched(samplers, chains, settings.chains * steps, settings.progress)
    except (KeyboardInterrupt, RuntimeError) as failure:
        for sampler in samplers:
            sampler.cancel()
        first_line = str(failure).strip().partition("\n")[0]
        reason = "interrupted" if isinstance(failure, KeyboardInterrupt) else f"a chain failed ({first_line})"
        return Draws(_complete_part([chain.draws[: chain.n_done] for chain in chains], tune, reason), stopped=reason)
    stats = {
        ours: np.concatenate([trace.sample_stats[theirs].values for trace in traces]) for ours, theirs in _STATS.items()
    }
    return Draws(np.stack([chain.draws[tune:] for chain in chains]), stats)


def _watched(samplers: Sequence[Any], chains: Sequence[Chain], total: int, progress: bool) -> list[Any]:
    """What nutpie returns once all chains have ended; meanwhile, how far they are."""
    from tqdm import tqdm

    traces = []
    with tqdm(total=total, desc="NUTS", unit="draw", disable=not progress) as bar:
        for sampler in samplers:
            ended = False
            while not ended:
                with suppress(TimeoutError):
                    traces.append(sampler.wait(timeout=_LOOK))
                    ended = True
                bar.update(sum(chain.n_done for chain in chains) - bar.n)
                failed = next((chain.failure for chain in chains if chain.failure is not None), None)
                if failed is not None:
                    raise RuntimeError(f"{type(failed).__name__}: {failed}") from failed
    return traces


def pyro_nuts(density: FlatDensity, settings: Settings) -> Draws:
    """Pyro's own NUTS on the Pyro model, chain after chain: slow, and an independent check of the fast path."""
    kept: list[list[Array]] = []
    diverging = np.zeros((settings.chains, settings.draws), dtype=bool)
    try:
        for chain in range(settings.chains):
            kept.append([])
            diverging[chain, _pyro_chain(density, settings, settings.seed + chain, kept[-1])] = True
    except KeyboardInterrupt:
        return Draws(_complete_part(kept, settings.tune, "interrupted"), stopped="interrupted")
    return Draws(_complete_part(kept, settings.tune, ""), {"diverging": diverging})


def _pyro_chain(density: FlatDensity, settings: Settings, seed: int, kept: list[Array]) -> list[int]:
    """One chain, its draws added to `kept` one by one; positions of the draws that diverged."""
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
            NUTS(density.model),
            num_samples=settings.draws,
            warmup_steps=settings.tune,
            initial_params=start,
            disable_progbar=not settings.progress,
            hook_fn=record,
        )
        mcmc.run()
    return list(mcmc.diagnostics()["divergences"]["chain 0"])


def _complete_part(kept: Sequence[Sequence[Array] | Array], tune: int, reason: str) -> Array:
    """Draws after tuning that every started chain has, (chains, draws, n)."""
    chains = [np.array(chain[tune:]) for chain in kept if len(chain) > tune]
    if not chains and reason == "interrupted":
        raise KeyboardInterrupt("interrupted while tuning: there are no draws to keep yet")
    if not chains:
        raise InputError(f"{reason} while tuning: there are no draws to keep.")
    shortest = min(len(chain) for chain in chains)
    return np.stack([chain[:shortest] for chain in chains])
