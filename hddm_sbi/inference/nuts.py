"""NUTS, by nutpie (nuts-rs) on the compiled density, and by Pyro on the model itself."""

from __future__ import annotations

import ctypes
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any

import numpy as np
import torch

from hddm_sbi.errors import InputError
from hddm_sbi.inference.chain_files import ChainFiles
from hddm_sbi.inference.coordinates import Whitening, unwhitened, whitened
from hddm_sbi.inference.density import FlatDensity, not_finite
from hddm_sbi.inference.sampling import INTERRUPTED, OUT_OF_TIME, Draws, Settings
from hddm_sbi.types import Array

#: sd of the normal jitter around the starting point, halved until the density is finite: in whitened coordinates, in
#: which the posterior has sds near 1, and in those of a density without.
_JITTER, _JITTER_UNWHITENED = 1.0, 0.1
_JITTER_TRIES = 12
#: up to so many parameters, a low-rank mass matrix learns from tuning what whitening leaves: how common coefficients go
#: with the effects of all groups at once. Beyond, it costs as much time as it saves (decision 003).
_LOW_RANK_SIZE = 500
#: what nutpie raises for the trace of a chain that failed, and of one that has not begun.
_NOTHING_THERE = (RuntimeError, ValueError)
#: seconds between looks at how far the chains are, and at whether one is to stop.
_LOOK, _POLL = 0.1, 0.05
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


def starting_point(density: FlatDensity, rng: np.random.Generator, whitening: Whitening | None = None) -> Array:
    """The model's starting values with jitter small enough that the density is finite there.

    Jitter on the scale of the posterior: any larger could take a chain into another mode, from where it seldom returns
    (decision 029). Raises InputError where the density is not finite at the starting values themselves.
    """
    scale, coordinates = (_JITTER_UNWHITENED if whitening is None else _JITTER), whitening or unwhitened(density.size)
    at = coordinates.whiten(density.start)
    for _ in range(_JITTER_TRIES):
        x = coordinates.unwhiten(at + scale * rng.normal(size=density.size))
        value, gradient = density(x)
        if np.isfinite(value) and np.isfinite(gradient).all():
            return x
        scale /= 2
    start = {name: value.squeeze(0) for name, value in density.constrain(density.start[np.newaxis]).items()}
    raise not_finite(density.model, start)


class Gate:
    """How many draws the chains of a run may take: one that has them waits for the others, and leaves them the cores.

    One condition serves those who wait here: chains, for more draws to be allowed, and who watches them, for news.
    """

    def __init__(self) -> None:
        self._limit, self._news = inf, threading.Condition()

    def allow(self, draws: float) -> None:
        """Let every chain go on to so many draws."""
        with self._news:
            self._limit = draws
            self._news.notify_all()

    def tell(self) -> None:
        """There is news of a chain."""
        with self._news:
            self._news.notify_all()

    def arrive(self, draws: int) -> None:
        """Wait, in the thread of a chain, until it may take more draws than these."""
        if draws >= self._limit:
            with self._news:
                self._news.notify_all()
                self._news.wait_for(lambda: draws < self._limit)

    def watch(self, there: Callable[[], bool], seconds: float) -> bool:
        """Wait until the chains are there, at most so long; whether they are."""
        with self._news:
            return self._news.wait_for(there, seconds)


class Chain:
    """One chain of nutpie, in whitened coordinates, in a thread of its own.

    draws: (steps, n), unconstrained, of which the first `n_done` are there. trace: what nutpie says of them, once the
    chain has ended. failure: what the density raised. files: of the chain, where it is kept. gate: of the run.
    """

    def __init__(self, density: FlatDensity, whitening: Whitening, settings: Settings, gate: Gate, number: int) -> None:
        self.draws, self.n_done = np.empty((settings.tune + settings.draws, density.size)), 0
        self.failure: Exception | None = None
        self.trace: Any = None
        self._stopped = threading.Event()
        self._collected: Future[Any] = Future()
        self._collected.set_result(None)
        self._n_sound = len(self.draws)
        evaluate, folder = whitened(density.evaluate, whitening), settings.folder
        self.files = None if folder is None else ChainFiles(folder / f"chain-{number}", density.size, evaluate)
        self._density, self._whitening = evaluate if self.files is None else self.files.evaluate, whitening
        self._flat, self._settings, self._gate = density, settings, gate
        self._thread_state: int | None = None
        self._sampler: Any = None

    def start(self, seed: int) -> None:
        """Begin to sample."""
        import nutpie
        from nutpie.compiled_pyfunc import from_pyfunc

        given = self._settings.whitening

        def initial(seed: int) -> Array:
            return self._whitening.whiten(starting_point(self._flat, np.random.default_rng(int(seed) % 2**63), given))

        size, number = self._flat.size, ([np.dtype("float64")], [()], ["number"])
        model = from_pyfunc(
            size, lambda: self._evaluate, lambda *_: self._record, *number, make_initial_point_fn=initial
        )
        self._sampler = nutpie.sample(
            model,
            draws=self._settings.draws,
            tune=self._settings.tune,
            chains=1,
            cores=1,
            seed=seed,
            target_accept=self._settings.target_accept,
            progress_bar=False,
            blocking=False,
            low_rank_modified_mass_matrix=size <= _LOW_RANK_SIZE,
        )
        collector = ThreadPoolExecutor(1)
        self._collected = collector.submit(self._collect)
        self._collected.add_done_callback(lambda _: self._gate.tell())
        collector.shutdown(wait=False)

    def _collect(self) -> Any:
        """The trace of a chain that came to its end; None of one that was told to stop, which takes no more draws.

        nutpie gives a trace once, and Ctrl-C ends the main thread between any two steps: this is a thread of its own.
        """
        while not self._stopped.is_set():
            with suppress(TimeoutError):
                return self._sampler.wait(timeout=_POLL)
        with suppress(*_NOTHING_THERE):
            self._sampler.pause()
        return None

    def check(self) -> None:
        """Take the trace of a chain that has ended. Raises RuntimeError where it, or its density, failed."""
        if self._collected.done():
            self.trace = self._collected.result()
        if self.failure is not None:
            raise RuntimeError(f"{type(self.failure).__name__}: {self.failure}") from self.failure

    def stop(self) -> Future[Any]:
        """Tell the chain to take no more draws. What is returned is done when it does not."""
        self._stopped.set()
        return self._collected

    def end(self) -> None:
        """End a chain that was told to stop, and close its files."""
        if self.trace is None:
            with suppress(*_NOTHING_THERE):
                self.trace = self._collected.result()
        if self.trace is None and self._sampler is not None:
            with warnings.catch_warnings(), suppress(*_NOTHING_THERE):
                # ArviZ warns about a chain that is still tuning, and so has no draws.
                warnings.simplefilter("ignore")
                self.trace = self._sampler.abort()
        if self.files is not None:
            self.files.close()

    @property
    def n_kept(self) -> int:
        """Draws after tuning that are surely in the trace, to which nutpie adds a draw after it was recorded here."""
        return min(self.n_done - (self.trace is None), self._n_sound) - self._settings.tune

    @property
    def n_traced(self) -> int:
        """Draws after tuning that are in the trace of a chain that has ended."""
        # A chain that is stopped while it tunes has a trace without statistics.
        if self.trace is None or "sample_stats" not in self.trace:
            return 0
        return min(int(self.trace.sample_stats.sizes["draw"]), max(self.n_kept, 0))

    def _evaluate(self, y: Array) -> tuple[float, Array]:
        if self._thread_state is None and not self._stopped.is_set():
            # nutpie's threads are not Python's: without this, Python makes and frees a thread state for every gradient,
            # and a fit takes 1.1 to 1.5 times as long (decision 015).
            self._thread_state = ctypes.pythonapi.PyGILState_Ensure()
        try:
            return self._density(y)
        except Exception as failure:
            # An exception inside nutpie would take the other chains with it.
            self.failure, self._n_sound = failure, min(self._n_sound, self.n_done)
            return float("nan"), np.full_like(y, np.nan)

    def _record(self, y: Array) -> dict[str, Array]:
        x = self.draws[self.n_done] = self._whitening.unwhiten(y)
        if self.files is not None:
            self.files.keep(self.n_done, x)
        self.n_done += 1
        self._gate.arrive(self.n_kept)
        if self._thread_state is not None and (self._stopped.is_set() or self.n_done == len(self.draws)):
            ctypes.pythonapi.PyGILState_Release(self._thread_state)
            self._thread_state = None
        return {"number": np.array(float(self.n_done))}


def nutpie_nuts(density: FlatDensity, settings: Settings) -> Draws:
    """NUTS of nutpie (nuts-rs) on the flat density in whitened coordinates, every chain in a thread."""
    starting_point(density, np.random.default_rng(settings.seed), settings.whitening)
    whitening = settings.whitening or unwhitened(density.size)
    gate = Gate()
    chains = [Chain(density, whitening, settings, gate, number) for number in range(settings.chains)]
    draws, stopped = settings.draws, ""
    try:
        for chain, seed in zip(chains, np.random.SeedSequence(settings.seed).generate_state(len(chains)), strict=True):
            chain.start(int(seed))
        draws = _watched(chains, gate, settings)
    except KeyboardInterrupt:
        stopped = INTERRUPTED
    except TimeoutError:
        stopped = OUT_OF_TIME
    except RuntimeError as failure:
        first_line = str(failure).strip().partition("\n")[0]
        stopped = f"a chain failed ({first_line})"
    finally:
        try:
            wait([chain.stop() for chain in chains])
        finally:
            gate.allow(inf)
        for chain in chains:
            chain.end()
    lengths = [min(draws, chain.n_traced) for chain in chains]
    kept = [chain.draws[: settings.tune + length] for chain, length in zip(chains, lengths, strict=True)]
    x = _complete_part(kept, settings.tune, stopped)
    traces = [chain.trace.sample_stats for chain, length in zip(chains, lengths, strict=True) if length]
    stats = {
        ours: np.concatenate([trace[theirs].values[:, : x.shape[1]] for trace in traces])
        for ours, theirs in _STATS.items()
    }
    # nutpie knows the density of its own coordinates.
    stats["lp"] -= whitening.log_slope(x)
    not_kept = [str(chain.files.failure) for chain in chains if chain.files and chain.files.failure]
    return Draws(x, stats, stopped, not_kept=not_kept[0] if not_kept else "")


def _watched(chains: Sequence[Chain], gate: Gate, settings: Settings) -> int:
    """Draws of each chain that are enough, or all; meanwhile, how far they are. Raises TimeoutError when time is up."""
    from tqdm import tqdm

    began, tune = time.perf_counter(), settings.tune
    points = settings.checkpoints if settings.enough else [settings.draws]
    with tqdm(desc="NUTS", unit="draw", disable=not settings.progress) as bar:
        for point in points:
            gate.allow(point)
            bar.total = len(chains) * (tune + point)
            while not gate.watch(partial(_all_there, chains, point), _LOOK):
                bar.update(sum(chain.n_done for chain in chains) - bar.n)
                if time.perf_counter() - began > settings.seconds:
                    raise TimeoutError
            bar.update(bar.total - bar.n)
            x = np.stack([chain.draws[tune : tune + point] for chain in chains])
            if settings.enough and point < settings.draws and settings.enough(x):
                return point
    return settings.draws


def _all_there(chains: Sequence[Chain], draws: int) -> bool:
    """Whether each chain has so many draws. Raises RuntimeError where one failed."""
    for chain in chains:
        chain.check()
    return min(chain.n_kept for chain in chains) >= draws


def pyro_nuts(density: FlatDensity, settings: Settings) -> Draws:
    """Pyro's own NUTS on the Pyro model, chain after chain: slow, and an independent check of the fast path."""
    kept: list[list[Array]] = []
    diverging = np.zeros((settings.chains, settings.draws), dtype=bool)
    try:
        for chain in range(settings.chains):
            kept.append([])
            diverging[chain, _pyro_chain(density, settings, settings.seed + chain, kept[-1])] = True
    except KeyboardInterrupt:
        return Draws(_complete_part(kept, settings.tune, INTERRUPTED), stopped=INTERRUPTED)
    return Draws(_complete_part(kept, settings.tune, ""), {"diverging": diverging})


def _pyro_chain(density: FlatDensity, settings: Settings, seed: int, kept: list[Array]) -> list[int]:
    """One chain, its draws added to `kept` one by one; positions of the draws that diverged."""
    import pyro
    from pyro.infer import MCMC, NUTS

    first = starting_point(density, np.random.default_rng(seed), settings.whitening)

    def record(kernel: NUTS, params: dict[str, torch.Tensor], stage: str, i: int) -> None:
        kept.append(np.concatenate([params[name].detach().reshape(-1).numpy() for name in density.names]))

    with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False), warnings.catch_warnings():
        # Pyro 1.9 calls torch functions that torch 2.13 has renamed.
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(seed)
        start = {name: value.clone() for name, value in density.unflatten(torch.as_tensor(first)).items()}
        mcmc = MCMC(
            NUTS(density.model, target_accept_prob=settings.target_accept),
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
    if not chains and reason == INTERRUPTED:
        raise KeyboardInterrupt("interrupted while tuning: there are no draws to keep yet")
    if not chains:
        raise InputError(f"{reason} while tuning: there are no draws to keep.")
    shortest = min(len(chain) for chain in chains)
    return np.stack([chain[:shortest] for chain in chains])
