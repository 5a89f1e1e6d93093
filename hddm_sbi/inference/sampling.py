"""Draw from the posterior of a flat density: NUTS by nutpie (default) or by Pyro itself."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from hddm_sbi.errors import InputError
from hddm_sbi.inference.approximation import laplace, variational
from hddm_sbi.inference.compiler.emit import Compiled
from hddm_sbi.inference.coordinates import Whitening, unwhitened
from hddm_sbi.inference.density import FlatDensity, not_finite
from hddm_sbi.types import Array

Method = Literal["nuts", "pyro-nuts", "svi", "laplace"]
METHODS = get_args(Method)

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


@dataclass(frozen=True)
class Draws:
    """Unconstrained draws and what the sampler says about them.

    x: (chains, draws, n). stats: name -> (chains, draws). stopped: why, where sampling ended before the last draw.
    """

    x: Array
    stats: dict[str, NDArray[Any]]
    seconds: float
    stopped: str = ""


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
    whitening: Whitening | None = None,
) -> Draws:
    """Posterior draws. The same seed gives the same draws. Ctrl-C and a chain's failure keep the draws so far.

    whitening: the coordinates in which nutpie samples, instead of those of the density.

    Raises InputError where the density is not finite at the start.
    """
    began = time.perf_counter()
    if method == "laplace":
        x = laplace(density, (chains, draws), seed)
        return Draws(x, {}, time.perf_counter() - began)
    if method == "svi":
        x = variational(density, model, (chains, draws), seed)
        return Draws(x, {}, time.perf_counter() - began)
    if method == "nuts":
        x, stats, stopped = nutpie_nuts(
            density, whitening or unwhitened(density.size), draws, tune, chains, seed, progress
        )
    else:
        x, stats, stopped = pyro_nuts(density, model, draws, tune, chains, seed, progress)
    return Draws(x, stats, time.perf_counter() - began, stopped)


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


class Chain(Protocol):
    """A density for one chain of nutpie, which gives nothing back when it is stopped early: so draws are kept here.

    model: as nutpie takes it. draws: (steps, n), of which the first `made` are there. failure: what the density raised.
    """

    model: Any
    draws: Array
    failure: Exception | None

    @property
    def made(self) -> int:
        """Draws made so far."""


class PythonChain:
    """A density for one chain of nutpie, called from Python, in whitened coordinates."""

    def __init__(self, density: FlatDensity, whitening: Whitening, steps: int, initial: Callable[[int], Array]) -> None:
        from nutpie.compiled_pyfunc import from_pyfunc

        self.draws, self.made = np.empty((steps, density.size)), 0
        self.failure: Exception | None = None
        self._density, self._whitening = density, whitening
        number = [np.dtype("float64")], [()], ["number"]
        self.model = from_pyfunc(
            density.size, lambda: self._evaluate, lambda *_: self._record, *number, make_initial_point_fn=initial
        )

    def _evaluate(self, y: Array) -> tuple[float, Array]:
        try:
            value, gradient = self._density(self._whitening.unwhiten(y))
            return value, self._whitening.gradient(gradient)
        except Exception as failure:
            # An exception inside nutpie would take the other chains with it.
            self.failure = failure
            return float("nan"), np.full_like(y, np.nan)

    def _record(self, y: Array) -> dict[str, Array]:
        self.draws[self.made] = self._whitening.unwhiten(y)
        self.made += 1
        return {"number": np.array(float(self.made))}


def chain_of(density: FlatDensity, whitening: Whitening, steps: int) -> Chain:
    """A compiled density by C functions, where this version of nutpie takes them as we do; others from Python."""

    def initial(seed: int) -> Array:
        return whitening.whiten(starting_point(density, np.random.default_rng(int(seed) % 2**63)))

    if isinstance(density.evaluate, Compiled):
        try:
            from hddm_sbi.inference.nutpie_native import NativeChain

            return NativeChain(density.evaluate, whitening, steps, initial)
        except (ImportError, AttributeError, TypeError) as reason:
            warnings.warn(
                f"sampling calls Python, up to 1.5 times slower: nutpie takes C functions in another way ({reason})",
                stacklevel=2,
            )
    return PythonChain(density, whitening, steps, initial)


def nutpie_nuts(
    density: FlatDensity, whitening: Whitening, draws: int, tune: int, chains: int, seed: int, progress: bool
) -> tuple[Array, dict[str, NDArray[Any]], str]:
    """NUTS of nutpie (nuts-rs) on the flat density in whitened coordinates, every chain in a thread."""
    import nutpie

    starting_point(density, np.random.default_rng(seed))
    kept = [chain_of(density, whitening, tune + draws) for _ in range(chains)]
    seeds = np.random.SeedSequence(seed).generate_state(chains).tolist()
    options = {"draws": draws, "tune": tune, "chains": 1, "cores": 1}
    options["low_rank_modified_mass_matrix"] = density.size <= _LOW_RANK_SIZE
    samplers = [
        nutpie.sample(chain.model, seed=chain_seed, progress_bar=False, blocking=False, **options)
        for chain, chain_seed in zip(kept, seeds, strict=True)
    ]
    try:
        traces = _watched(samplers, kept, chains * (tune + draws), progress)
    except (KeyboardInterrupt, RuntimeError) as failure:
        for sampler in samplers:
            sampler.cancel()
        first_line = str(failure).strip().partition("\n")[0]
        reason = "interrupted" if isinstance(failure, KeyboardInterrupt) else f"a chain failed ({first_line})"
        return _complete_part([chain.draws[: chain.made] for chain in kept], tune, reason), {}, reason
    stats = {
        ours: np.concatenate([trace.sample_stats[theirs].values for trace in traces]) for ours, theirs in _STATS.items()
    }
    return np.stack([chain.draws[tune:] for chain in kept]), stats, ""


def _watched(samplers: Sequence[Any], kept: Sequence[Chain], total: int, progress: bool) -> list[Any]:
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
                bar.update(sum(chain.made for chain in kept) - bar.n)
                failed = next((chain.failure for chain in kept if chain.failure is not None), None)
                if failed is not None:
                    raise RuntimeError(f"{type(failed).__name__}: {failed}") from failed
    return traces


def pyro_nuts(
    density: FlatDensity, model: Callable[[], None], draws: int, tune: int, chains: int, seed: int, progress: bool
) -> tuple[Array, dict[str, NDArray[Any]], str]:
    """Pyro's own NUTS on the Pyro model, chain after chain: slow, and an independent check of the fast path."""
    kept: list[list[Array]] = []
    diverging = np.zeros((chains, draws), dtype=bool)
    try:
        for chain in range(chains):
            kept.append([])
            _pyro_chain(density, model, draws, tune, seed + chain, progress, kept[-1], diverging[chain])
    except KeyboardInterrupt:
        return _complete_part(kept, tune, "interrupted"), {}, "interrupted"
    return _complete_part(kept, tune, ""), {"diverging": diverging}, ""


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


def _complete_part(kept: Sequence[Sequence[Array] | Array], tune: int, reason: str) -> Array:
    """Draws after tuning that every started chain has, (chains, draws, n)."""
    chains = [np.array(chain[tune:]) for chain in kept if len(chain) > tune]
    if not chains and reason == "interrupted":
        raise KeyboardInterrupt("interrupted while tuning: there are no draws to keep yet")
    if not chains:
        raise InputError(f"{reason} while tuning: there are no draws to keep.")
    shortest = min(len(chain) for chain in chains)
    return np.stack([chain[:shortest] for chain in chains])
