"""A Pyro model as a function of one flat vector: its log density and gradient, traced once into a graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from pyro.infer.autoguide.initialization import init_to_value
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from hddm_sbi.graph import simplify

Array = NDArray[np.float64]
Path = Literal["traced", "eager"]


@dataclass(frozen=True)
class FlatDensity:
    """Unconstrained log density of a Pyro model over one flat vector.

    names, shapes: of the sites, in the order of the vector. start: (n,) unconstrained. path: which of the equivalent
    evaluations runs: "traced" (a graph recorded once) or "eager" (Pyro itself, every time).
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    start: Array
    path: Path
    potential: Callable[[Mapping[str, Tensor]], Tensor]
    transforms: Mapping[str, torch.distributions.Transform]
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]]

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return len(self.start)

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Log density and gradient, (n,) -> (float, (n,))."""
        log_density, gradient = self.evaluate(torch.tensor(x, dtype=torch.float64))
        return float(log_density), gradient.numpy()

    def unflatten(self, x: Tensor) -> dict[str, Tensor]:
        """Unconstrained sites from (..., n)."""
        return _unflatten(x, self.names, self.shapes)

    def constrain(self, draws: Array) -> dict[str, Tensor]:
        """Sampled sites on their own scales, from unconstrained draws (..., n)."""
        flat = torch.as_tensor(np.ascontiguousarray(draws, dtype=np.float64))
        with torch.no_grad():
            return {name: self.transforms[name].inv(value) for name, value in self.unflatten(flat).items()}


def flatten(model: Callable[[], None], start: Mapping[str, Tensor], path: Path = "traced") -> FlatDensity:
    """Flat density of a Pyro model, started at the constrained values `start`.

    The potential is Pyro's own; `path="traced"` records its operations once with `make_fx`. A model that cannot be
    recorded runs eagerly, with one warning that says why.
    """
    with pyro.validation_enabled(False), torch.random.fork_rng(devices=[]):
        _, potential, transforms, trace = initialize_model(model, init_strategy=init_to_value(values=dict(start)))
    first = {name: transforms[name](trace.nodes[name]["value"].detach().double()) for name in sorted(transforms)}
    names, shapes = tuple(first), tuple(tuple(value.shape) for value in first.values())
    x0 = torch.cat([value.reshape(-1) for value in first.values()])

    def evaluate(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_(True)
        with pyro.validation_enabled(False):
            log_density = -potential(_unflatten(x, names, shapes))
        (gradient,) = torch.autograd.grad(log_density, x)
        return log_density.detach(), gradient

    run, taken = _trace(evaluate, x0) if path == "traced" else (evaluate, path)
    return FlatDensity(names, shapes, x0.numpy(), taken, potential, transforms, run)


def _trace(
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]], x0: Tensor
) -> tuple[Callable[[Tensor], tuple[Tensor, Tensor]], Path]:
    try:
        graph = simplify(make_fx(evaluate)(x0), x0)
    except (RuntimeError, NotImplementedError, TypeError) as reason:
        warnings.warn(f"the model runs eagerly, 5 to 10 times slower: it could not be traced ({reason})", stacklevel=3)
        return evaluate, "eager"
    with torch.inference_mode(), warnings.catch_warnings():
        # TorchScript is deprecated, and still the quickest interpreter of a graph: no Python between operations.
        warnings.simplefilter("ignore")
        script = torch.jit.trace(graph, (x0,), check_trace=False)

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            log_density, gradient = script(x)
        return log_density, gradient

    return run, "traced"


def _unflatten(x: Tensor, names: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]) -> dict[str, Tensor]:
    sizes = [int(np.prod(shape)) for shape in shapes]
    pieces = torch.split(x, sizes, dim=-1)
    return {
        name: piece.reshape((*x.shape[:-1], *shape)) for name, shape, piece in zip(names, shapes, pieces, strict=True)
    }
