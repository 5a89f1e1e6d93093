"""What every sampler is asked for, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hddm_sbi.inference.coordinates import Whitening
    from hddm_sbi.types import Array


@dataclass(frozen=True)
class Settings:
    """How much to draw, and from which seed.

    Parameters
    ----------
    draws, tune : int
        Draws of each chain that are kept, and steps before them that are not.
    chains : int
        Number of chains.
    seed : int
        The same seed gives the same draws.
    progress : bool
        Whether to show a progress bar.
    whitening : Whitening, optional
        Coordinates in which the posterior is rounder than in those of the density. A sampler may use them.
    """

    draws: int
    tune: int
    chains: int
    seed: int
    progress: bool = False
    whitening: Whitening | None = None


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
    """

    x: Array
    stats: dict[str, NDArray[Any]] = field(default_factory=dict)
    stopped: str = ""
    seconds: float = 0.0
