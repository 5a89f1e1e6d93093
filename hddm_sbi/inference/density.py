"""A Pyro model as a function of one flat vector: its log density and gradient, recorded once and compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyro
import torch
from numba.core.errors import NumbaError
from numpy.typing import NDArray
from pyro.distributions import Unit
from pyro.infer.autoguide.initialization import init_to_value
from pyro.infer.mcmc.util import initialize_model
from pyro.poutine.messenger import Messenger
from torch import Tensor, fx

from hddm_sbi.errors import InputError
from hddm_sbi.inference.compiler.emit import emit
from hddm_sbi.inference.compiler.graph import record, simplify
from hddm_sbi.inference.compiler.lowering import UnknownOperationError
from hddm_sbi.types import Array

Path = Literal["compiled", "traced", "eager"]
Evaluate = Callable[[Array], tuple[float, Array]]
Potential = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class FlatDensity:
    """Unconstrained log density of a Pyro model over one flat vector.

    model: the Pyro model. names, shapes: of its sites, in the order of the vector. start: (n,) unconstrained. path:
    which of the equivalent evaluations runs: "compiled" (one Numba function), "traced" (a graph recorded once) or
    "eager" (Pyro itself, every time).
    """

    model: Callable[[], None]
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    start: Array
    path: Path
    potential: Callable[[Mapping[str, Tensor]], Tensor]
    transforms: Mapping[str, torch.distributions.Transform]
    evaluate: Evaluate

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return len(self.start)

    @property
    def positions(self) -> dict[str, NDArray[np.int64]]:
        """Where the numbers of every site stand in the vector, in the site's shape."""
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        pieces = np.split(np.arange(self.size), np.cumsum(sizes)[:-1])
        return {n: piece.reshape(shape) for n, shape, piece in zip(self.names, self.shapes, pieces, strict=True)}

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Log density and gradient, (n,) -> (float, (n,))."""
        return self.evaluate(np.array(x, dtype=np.float64))

    def unflatten(self, x: Tensor) -> dict[str, Tensor]:
        """Unconstrained sites from (..., n)."""
        return _unflatten(x, self.names, self.shapes)

    def constrain(self, draws: Array) -> dict[str, Tensor]:
        """Sampled sites on their own scales, from unconstrained draws (..., n)."""
        flat = torch.as_tensor(np.ascontiguousarray(draws, dtype=np.float64))
        with torch.no_grad():
            return {name: self.transforms[name].inv(value) for name, value in self.unflatten(flat).items()}


def flatten(model: Callable[[], None], start: Mapping[str, Tensor], path: Path = "compiled") -> FlatDensity:
    """Flat density of a Pyro model, started at the constrained values `start`.

    The potential is Pyro's own. Its operations are recorded once and compiled; a model with an operation that the
    compiler does not know runs as the recorded graph, and one that cannot be recorded runs in Pyro, with one warning
    that says why. `path` asks for less than that. What is compiled is in double precision throughout.
    Raises InputError where the log density is not finite at `start`.
    """
    with pyro.validation_enabled(False), torch.random.fork_rng(devices=[]):
        try:
            _, potential, transforms, trace = initialize_model(
                _Summed()(model), init_strategy=init_to_value(values=dict(start))
            )
        except ValueError as failure:
            raise not_finite(model, start) from failure
    first = {name: transforms[name](trace.nodes[name]["value"].detach().double()) for name in sorted(transforms)}
    names, shapes = tuple(first), tuple(tuple(value.shape) for value in first.values())
    x0 = torch.cat([value.reshape(-1) for value in first.values()])

    def differentiate(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_(True)
        with pyro.validation_enabled(False):
            log_density = -potential(_unflatten(x, names, shapes))
        (gradient,) = torch.autograd.grad(log_density, x)
        return log_density.detach(), gradient

    evaluate, taken = _fastest(differentiate, x0, path)
    return FlatDensity(model, names, shapes, x0.numpy(), taken, potential, transforms, evaluate)


class _Summed(Messenger):
    """Observed sites whose distribution has a `log_prob_sum`, which costs less than its `log_prob`, as one factor."""

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if msg["is_observed"] and msg["mask"] is None and hasattr(msg["fn"], "log_prob_sum"):
            msg["fn"], msg["value"] = Unit(msg["fn"].log_prob_sum(msg["value"])), torch.empty(0)


def not_finite(model: Callable[[], None], start: Mapping[str, Tensor]) -> InputError:
    """The error that names the sites of a model that are not finite at the constrained values `start`."""
    with torch.no_grad(), pyro.validation_enabled(False):
        trace = pyro.poutine.trace(pyro.poutine.condition(model, dict(start))).get_trace()
        trace.compute_log_prob()
    sums = {name: float(node["log_prob_sum"]) for name, node in trace.nodes.items() if "log_prob_sum" in node}
    found = [f"{name}: {value:g}" for name, value in sums.items() if not np.isfinite(value)]
    return InputError(
        f"the log density is not finite where sampling starts ({', '.join(found) or 'its gradient is not'}): check the "
        "trials and the priors of those terms; a likelihood of your own must be finite for every trial."
    )


def _fastest(potential: Potential, x0: Tensor, path: Path) -> tuple[Evaluate, Path]:
    """The evaluation asked for, or the next fastest that the model allows."""
    if path == "eager":
        return _on_arrays(potential), "eager"
    try:
        graph = record(potential, x0)
        values = simplify(graph, x0)
    except (RuntimeError, NotImplementedError, TypeError) as reason:
        _warn("the model runs eagerly, 100 times slower than compiled: it could not be traced", reason)
        return _on_arrays(potential), "eager"
    if path == "compiled":
        try:
            return emit(graph, values), "compiled"
        except (UnknownOperationError, NumbaError) as reason:
            _warn("the model runs as a graph, 30 times slower than compiled: it could not be compiled", reason)
    return _on_arrays(_run(graph)), "traced"


def _warn(message: str, reason: Exception) -> None:
    first_line = str(reason).strip().partition("\n")[0]
    warnings.warn(f"{message} ({first_line})", stacklevel=4)


def _run(graph: fx.GraphModule) -> Potential:
    """A graph, its operations run by torch one by one."""

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            log_density, gradient = graph(x)
        return log_density, gradient

    return run


def _on_arrays(potential: Potential) -> Evaluate:
    def evaluate(x: Array) -> tuple[float, Array]:
        log_density, gradient = potential(torch.from_numpy(x))
        return float(log_density), gradient.numpy()

    return evaluate


def _unflatten(x: Tensor, names: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]) -> dict[str, Tensor]:
    sizes = [int(np.prod(shape)) for shape in shapes]
    pieces = torch.split(x, sizes, dim=-1)
    return {
        name: piece.reshape((*x.shape[:-1], *shape)) for name, shape, piece in zip(names, shapes, pieces, strict=True)
    }
