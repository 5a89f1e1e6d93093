"""A Pyro model as a function of one flat vector: its log density and gradient, recorded once and compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from pyro.distributions import Unit
from pyro.infer.autoguide.initialization import init_to_value
from pyro.infer.mcmc.util import initialize_model
from pyro.poutine.messenger import Messenger
from torch import Tensor

from hddm_sbi.errors import InputError
from hddm_sbi.inference.compiler.operations import UnknownOperationError
from hddm_sbi.inference.compiler.recorder import compile_function
from hddm_sbi.types import Array

#: how a density is evaluated: as a program without Python, or by Pyro every time.
Route = Literal["compiled", "eager"]
Evaluate = Callable[[Array], tuple[float, Array]]
Potential = Callable[[Tensor], tuple[Tensor, Tensor]]
#: how far from the start compiled and eager evaluations are compared, and how closely they must agree: networks of sbi
#: are in single precision when Pyro runs them.
_NEAR, _SAME = 0.05, 1e-3


@dataclass(frozen=True)
class FlatDensity:
    """Unconstrained log density of a Pyro model as a function of one flat vector; `flatten` makes it.

    Called with a vector (n,), it returns the log density and its gradient (n,).

    Parameters
    ----------
    model : callable
        The Pyro model.
    names : tuple of str
        Its sampled sites, in the order of the vector.
    shapes : tuple of tuple of int
        Their unconstrained shapes.
    start : array (n,)
        Where sampling starts.
    path : str
        Which of two equal evaluations runs: "compiled" (a program without Python, recorded once) or "eager" (Pyro,
        every time).
    potential : callable
        Pyro's potential energy of unconstrained sites.
    transforms : dict of str to Transform
        From each site to its unconstrained scale.
    evaluate : callable
        What runs when the density is called.

    Examples
    --------
    >>> import numpy as np, pyro, torch
    >>> import hddm_sbi as hs
    >>> def model():
    ...     pyro.sample("sd", pyro.distributions.Exponential(torch.tensor(1.0).double()))
    >>> density = hs.flatten(model, {"sd": torch.tensor(1.0).double()})
    >>> density  # -sd + log sd, at log sd = 0
    FlatDensity(1 number: sd, compiled)
    >>> log_density, gradient = density(np.zeros(1))
    >>> log_density, gradient
    (-1.0, array([0.]))
    >>> density.constrain(np.zeros((2, 1)))
    {'sd': tensor([1., 1.], dtype=torch.float64)}
    """

    model: Callable[[], None]
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    start: Array
    path: Route
    potential: Callable[[Mapping[str, Tensor]], Tensor]
    transforms: Mapping[str, torch.distributions.Transform]
    evaluate: Evaluate

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return len(self.start)

    @property
    def positions(self) -> dict[str, NDArray[np.int64]]:
        """Positions in the vector of each site's numbers, in the shape of the site."""
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        pieces = np.split(np.arange(self.size), np.cumsum(sizes)[:-1])
        return {n: piece.reshape(shape) for n, shape, piece in zip(self.names, self.shapes, pieces, strict=True)}

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Log density and gradient, (n,) -> (float, (n,))."""
        return self.evaluate(np.array(x, dtype=np.float64))

    def __repr__(self) -> str:
        return f"FlatDensity({self.size} number{'s' if self.size != 1 else ''}: {', '.join(self.names)}, {self.path})"

    def unflatten(self, x: Tensor) -> dict[str, Tensor]:
        """Unconstrained sites from (..., n)."""
        return _unflatten(x, self.names, self.shapes)

    def constrain(self, draws: Array) -> dict[str, Tensor]:
        """Sampled sites on their own scales, from unconstrained draws (..., n)."""
        flat = torch.as_tensor(np.ascontiguousarray(draws, dtype=np.float64))
        with torch.no_grad():
            return {name: self.transforms[name].inv(value) for name, value in self.unflatten(flat).items()}

    def unconstrain(self, sites: Mapping[str, Tensor]) -> Array:
        """The inverse of `constrain`: draws (..., n) from sampled sites on their own scales."""
        parts = []
        for name, shape in zip(self.names, self.shapes, strict=True):
            value = self.transforms[name](sites[name])
            parts.append(value.reshape(*value.shape[: value.dim() - len(shape)], -1))
        return torch.cat(parts, -1).numpy()


def flatten(model: Callable[[], None], start: Mapping[str, Tensor], path: Route = "compiled") -> FlatDensity:
    """The log density of a Pyro model, recorded once and compiled.

    A model that cannot be compiled runs in Pyro, and one warning says why: an operation that the compiler does not
    know, or code that depends on the values of sites (`if float(a) > 0`). Compiled densities are in double precision.

    Parameters
    ----------
    model : callable
        A Pyro model without arguments, all of its sampled sites continuous.
    start : dict of str to tensor
        A value of each sampled site, on its own scale: where sampling starts.
    path : {"compiled", "eager"}
        The fastest evaluation to try.

    Returns
    -------
    FlatDensity
        A function of one unconstrained vector, for `sample` or any sampler of your own.

    Raises
    ------
    InputError
        Where the log density is not finite at `start`; it names the sites.

    Examples
    --------
    >>> import pyro, torch
    >>> import hddm_sbi as hs
    >>> heights = torch.tensor([1.62, 1.75, 1.81]).double()
    >>> def model():
    ...     mean = pyro.sample("mean", pyro.distributions.Normal(torch.tensor(1.7).double(), 0.2))
    ...     pyro.sample("heights", pyro.distributions.Normal(mean, 0.1).expand([3]).to_event(1), obs=heights)
    >>> density = hs.flatten(model, {"mean": torch.tensor(1.7).double()})
    >>> density.path, density.size
    ('compiled', 1)
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
    """The error that names the sites whose log density is not finite at the constrained values `start`."""
    with torch.no_grad(), pyro.validation_enabled(False):
        trace = pyro.poutine.trace(pyro.poutine.condition(model, dict(start))).get_trace()
        trace.compute_log_prob()
    sums = {name: float(node["log_prob_sum"]) for name, node in trace.nodes.items() if "log_prob_sum" in node}
    found = [f"{name}: {value:g}" for name, value in sums.items() if not np.isfinite(value)]
    return InputError(
        f"the log density is not finite where sampling starts ({', '.join(found) or 'its gradient is not'}): check the "
        "trials and the priors of those terms; a likelihood of your own must be finite for every trial."
    )


def _fastest(potential: Potential, x0: Tensor, path: Route) -> tuple[Evaluate, Route]:
    """The evaluation asked for, or Pyro's where the model cannot be compiled."""
    eager = _on_arrays(potential)
    if path == "eager":
        return eager, "eager"
    try:
        compiled = compile_function(potential, x0)
    except (UnknownOperationError, RuntimeError) as reason:
        first_line = str(reason).strip().partition("\n")[0]
        what = f"it could not be compiled ({first_line})"
    else:
        if _agree(compiled, eager, x0.numpy()):
            return compiled, "compiled"
        what = "what it computes depends on the values of its sites in ways that torch does not see"
    warnings.warn(f"the model runs in Pyro, 100 times slower than compiled: {what}", stacklevel=3)
    return eager, "eager"


def _agree(one: Evaluate, other: Evaluate, x0: Array) -> bool:
    """Whether two evaluations are the same near x0, where one of them was not recorded."""
    x = x0 + _NEAR * np.cos(np.arange(len(x0)))
    (value, gradient), (expected, slope) = one(x), other(x)
    scale = max(np.abs(slope).max(initial=1.0), 1.0)
    same = np.allclose(value, expected, rtol=_SAME, atol=_SAME, equal_nan=True)
    return same and np.allclose(gradient, slope, rtol=_SAME, atol=_SAME * scale, equal_nan=True)


def _on_arrays(potential: Potential) -> Evaluate:
    one_at_a_time = Lock()

    def evaluate(x: Array) -> tuple[float, Array]:
        # Pyro's handlers are global: it evaluates a model for one thread at a time.
        with one_at_a_time:
            log_density, gradient = potential(torch.from_numpy(x))
        return float(log_density), gradient.numpy()

    return evaluate


def _unflatten(x: Tensor, names: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]) -> dict[str, Tensor]:
    sizes = [int(np.prod(shape)) for shape in shapes]
    pieces = torch.split(x, sizes, dim=-1)
    return {
        name: piece.reshape((*x.shape[:-1], *shape)) for name, shape, piece in zip(names, shapes, pieces, strict=True)
    }
