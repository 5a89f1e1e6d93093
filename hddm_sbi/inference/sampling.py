"""The table of samplers, and drawing by the name of one; light, because the command line lists the names."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from hddm_sbi.errors import InputError, did_you_mean, whole_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hddm_sbi.inference.coordinates import Whitening
    from hddm_sbi.inference.density import FlatDensity
    from hddm_sbi.types import Array

#: acceptance that the step size of NUTS is tuned for.
TARGET_ACCEPT = 0.8
#: why sampling may end early, beside a chain that fails.
INTERRUPTED, OUT_OF_TIME = "interrupted", "out of time"
#: draws of each chain at the first look whether they suffice.
FIRST_LOOK = 100


@dataclass(frozen=True)
class Settings:
    """How much to draw, and from which seed.

    Parameters
    ----------
    draws : int
        Number of draws of each chain that are kept.
    tune : int
        Number of steps of each chain before the draws; they are not kept.
    chains : int
        Number of chains.
    seed : int
        The same seed gives the same draws.
    progress : bool
        Whether to show a progress bar.
    whitening : Whitening, optional
        Coordinates in which the posterior is rounder than in those of the density. A sampler may use them.
    enough : callable, optional
        Whether draws (chains, draws, n) suffice, asked at the numbers of draws that `checkpoints` gives: sampling ends
        with the first that do.
    seconds : float
        Sampling ends after so many.
    folder : Path, optional
        Keeps every chain as it comes; sampling with the same density and seed goes on from there.
    target_accept : float
        The acceptance that the step size of "nuts" is tuned for: nearer to 1, steps are smaller and fewer diverge.
    first_look : int
        Draws of each chain when `enough` is asked first.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.Settings(draws=1000, tune=500, chains=4, seed=1).progress
    False
    """

    draws: int
    tune: int
    chains: int
    seed: int
    progress: bool = False
    whitening: Whitening | None = None
    enough: Callable[[Array], bool] | None = None
    seconds: float = inf
    folder: Path | None = None
    target_accept: float = TARGET_ACCEPT
    first_look: int = FIRST_LOOK

    @property
    def checkpoints(self) -> list[int]:
        """Numbers of draws at which `enough` is asked: each a fifth more than the last, up to all of them.

        At least half as many as at the first look come in between.

        >>> Settings(draws=200, tune=1, chains=1, seed=1).checkpoints
        [100, 150, 200]
        >>> Settings(draws=3000, tune=1, chains=1, seed=1, first_look=1000).checkpoints
        [1000, 1500, 2000, 2500, 3000]
        """
        points = [self.first_look]
        while points[-1] < self.draws:
            points.append(points[-1] + max(self.first_look // 2, points[-1] // 5, 1))
        return [point for point in points if point < self.draws] + [self.draws]


@dataclass(frozen=True)
class Draws:
    """Unconstrained draws and what the sampler says about them.

    Parameters
    ----------
    x : array (chains, draws, n)
        Draws on the unconstrained scale; `FlatDensity.constrain` turns them into the sites of the model.
    stats : dict of str to array (chains, draws)
        What is known about each draw, by ArviZ's names ("diverging", "n_steps", ...).
    stopped : str
        Why sampling ended before the last draw; empty where it did not.
    seconds : float
        Wall time; `sample` notes it.
    not_kept : str
        Why the folder of the settings could not be written; empty where it could.

    Examples
    --------
    >>> import numpy as np
    >>> import hddm_sbi as hs
    >>> hs.Draws(np.zeros((4, 1000, 3)), stopped="interrupted").stopped
    'interrupted'
    """

    x: Array
    stats: dict[str, NDArray[Any]] = field(default_factory=dict)
    stopped: str = ""
    seconds: float = 0.0
    not_kept: str = ""


@dataclass(frozen=True)
class Sampler:
    """One way of drawing from a posterior. An entry in `SAMPLERS` makes it a `method` of every fit.

    Parameters
    ----------
    run : callable or str
        ``run(density, settings) -> Draws``, for a `FlatDensity` and `Settings`; the same ``settings.seed`` should give
        the same draws. Or its place, "module:function", to import it when it first runs.
    exact : bool
        Whether its draws come from the posterior itself, so that Rhat and effective sample sizes say whether to trust
        them. If not, every fit warns that it is an approximation.
    centring : bool
        Whether group effects are centred as the model chose. If not, the sampler gets the model without centring.
    open_ended : bool
        Whether it heeds `enough`, `seconds` and `folder` of the settings.

    Examples
    --------
    An entry of your own, here independent draws around the start, is then known by its name. Processes that
    `hs.run_sbc` starts know it if it is entered in a module that they import.

    >>> import numpy as np, pyro, torch
    >>> import hddm_sbi as hs
    >>> def around_the_start(density, settings):
    ...     rng = np.random.default_rng(settings.seed)
    ...     return hs.Draws(density.start + rng.normal(size=(settings.chains, settings.draws, density.size)))
    >>> hs.SAMPLERS["around"] = hs.Sampler(around_the_start, exact=False)
    >>> density = hs.flatten(lambda: pyro.sample("x", pyro.distributions.Normal(0.0, 1.0)), {"x": torch.tensor(0.0)})
    >>> hs.sample(density, draws=5, method="around").x.shape
    (4, 5, 1)
    >>> del hs.SAMPLERS["around"]
    """

    run: Callable[[FlatDensity, Settings], Draws] | str
    exact: bool = True
    centring: bool = True
    open_ended: bool = False


#: name, as in `fit(method=...)` -> sampler. Laplace: where groups do not differ at all, only the model without centring
#: has a mode.
SAMPLERS: dict[str, Sampler] = {
    "nuts": Sampler("hddm_sbi.inference.nuts:nutpie_nuts", open_ended=True),
    "pyro-nuts": Sampler("hddm_sbi.inference.nuts:pyro_nuts"),
    "svi": Sampler("hddm_sbi.inference.approximation:variational", exact=False),
    "laplace": Sampler("hddm_sbi.inference.approximation:laplace", exact=False, centring=False),
}


def find_sampler(method: str) -> Sampler:
    """The sampler of that name. Raises InputError with the known names."""
    if method not in SAMPLERS:
        known = ", ".join(map(repr, SAMPLERS))
        raise InputError(f"method must be one of {known}; got {method!r}{did_you_mean(str(method), list(SAMPLERS))}")
    return SAMPLERS[method]


def sample(
    density: FlatDensity,
    *,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    seed: int = 1,
    method: str = "nuts",
    progress: bool = False,
    whitening: Whitening | None = None,
    enough: Callable[[Array], bool] | None = None,
    seconds: float = inf,
    folder: Path | None = None,
    target_accept: float = TARGET_ACCEPT,
    first_look: int = FIRST_LOOK,
) -> Draws:
    """Draw from the posterior of a flat density.

    Ctrl-C and a chain's failure keep the draws made so far.

    Parameters
    ----------
    density : FlatDensity
        What `flatten` made of a Pyro model.
    draws : int
        Number of draws of each chain that are kept.
    tune : int
        Number of steps of each chain before the draws; they are not kept.
    chains : int
        Number of chains; those of "nuts" run in threads.
    seed : int
        The same seed gives the same draws.
    method : str
        A name in `SAMPLERS`: "nuts" (nutpie), "pyro-nuts" (Pyro's own, slow), or a normal approximation: "laplace" (at
        the mode) or "svi" (Pyro's AutoNormal guide).
    progress : bool
        Whether to show a progress bar.
    whitening : Whitening, optional
        The coordinates in which "nuts" samples, instead of those of the density.
    enough : callable, optional
        Whether unconstrained draws (chains, draws, n) suffice; "nuts" asks at growing numbers of draws, the same for
        the same seed, and ends with the first that do. `draws` is then the most.
    seconds : float
        "nuts" ends after so many, with the draws so far.
    folder : Path, optional
        "nuts" keeps every chain there as it comes. The same call goes on from there and ends with the same draws.
    target_accept : float
        The acceptance that the step size of "nuts" is tuned for: nearer to 1, steps are smaller and fewer diverge.
    first_look : int
        Draws of each chain when `enough` is asked first.

    Returns
    -------
    Draws
        Unconstrained; ``density.constrain(run.x)`` gives the sites of the model.

    Raises
    ------
    InputError
        For an unknown method, one that takes a fixed number of draws where `enough` or `seconds` is given, or where the
        density is not finite at the start.

    Examples
    --------
    >>> import pyro, torch
    >>> import hddm_sbi as hs
    >>> def model():
    ...     pyro.sample("x", pyro.distributions.LogNormal(torch.tensor(0.0).double(), 0.5))
    >>> run = hs.sample(hs.flatten(model, {"x": torch.tensor(1.0)}), draws=500, chains=2, seed=1)
    >>> run.x.shape, sorted(run.stats)[:3]
    ((2, 500, 1), ['acceptance_rate', 'diverging', 'energy'])
    """
    sampler, began = find_sampler(method), time.perf_counter()
    if not sampler.open_ended and (enough is not None or seconds < inf):
        raise InputError(
            f"method={method!r} takes a fixed number of draws: leave out ess= and minutes=, or use 'nuts'."
        )
    call = resolve_name(sampler.run) if isinstance(sampler.run, str) else sampler.run
    seed = whole_number("seed", seed, least=0)
    settings = Settings(
        draws, tune, chains, seed, progress, whitening, enough, seconds, folder, target_accept, first_look
    )
    drawn: Draws = call(density, settings)
    return replace(drawn, seconds=time.perf_counter() - began)
