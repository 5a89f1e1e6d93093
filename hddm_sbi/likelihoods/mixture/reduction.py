"""A model's symmetries at work: theta -> what a network still has to learn, as each choice sees it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.features import linear, logarithmic
from hddm_sbi.likelihoods.mixture.time_map import TimeMap
from hddm_sbi.simulation import Clock, Parameter, Power, Simulator

#: a box comes near the end of a support within this share of its width; its distance is never less than the second.
_NEAR, _ROUNDED = 0.15, 0.01


def reducible(simulator: Simulator) -> bool:
    """Whether symmetries reduce it to a mixture network: two choices that mirror each other, or ones that permute."""
    symmetries = simulator.symmetries
    mirrored = len(simulator.choices) == 2 and bool(symmetries.negated or symmetries.complemented)
    return simulator.is_decision_model and (mirrored or bool(symmetries.per_choice))


class Reduction:
    """Reduced parameters of a model, and the views of them from each choice.

    With b the scale parameter: p(t, c; theta) = b^-q p(t / b^q, c; theta', 1), and the shift is taken off t. Reduced
    parameters are all but shift, delay and scale, times b^power (of an angle, its tangent; of a parameter that a
    condition multiplies, the product). A view is the reduced parameters as one choice sees them: mirrored models look
    at their mirror image; where every choice has a parameter of its own, that one comes first and the others follow in
    descending order; an independent accumulator sees its own, in its own unit of time. A model may instead declare
    reduced parameters and unit as functions.

    times: the map of decision times, by the model's clock.
    """

    def __init__(self, simulator: Simulator) -> None:
        symmetries = simulator.symmetries
        if not reducible(simulator):
            raise InputError(
                f"{simulator.name!r} cannot be reduced: expected two choices that mirror each other (`negated`, "
                "`complemented` in its Symmetries), or a parameter of its own for every choice (`per_choice`)."
            )
        clock = simulator.clock
        if symmetries.delay and (simulator.races or clock != Clock()):
            raise InputError(f"{simulator.name!r} has a delay: it may not race, have a heavy tail or a clock.")
        if clock.closing and clock.collapse:
            raise InputError(f"{simulator.name!r} has two clocks; expected `closing` or `collapse`.")
        self.symmetries = symmetries
        self.racing = simulator.races
        self.times = TimeMap(clock.closing, clock.collapse, clock.tail)
        self.delayed = symmetries.delay is not None
        self.n_choices = len(simulator.choices)
        # Counted from the end, where the shared parameters stand in theta and in that of a single accumulator alike.
        learned = simulator.learned
        self._columns = {p.name: column - len(learned) for column, p in enumerate(learned)}
        self._per_choice = () if self.racing else simulator.per_choice
        self._n_own = len(simulator.stems)
        kept = symmetries.reduced or {p.name for p in learned} - set(symmetries.set_apart)
        self.parameters = [p for p in learned if p.name in kept]
        self.names = [p.name for p in self.parameters]
        if symmetries.reduced:
            corners = self.reduce(torch.tensor(list(itertools.product(*((p.low, p.high) for p in learned)))).double())
            ends = zip(corners.amin(0).tolist(), corners.amax(0).tolist(), strict=True)
            self._range = dict(zip(self.names, ends, strict=True))
        else:
            scale = next((p for p in learned if p.name == symmetries.scale), None)
            self._range = {p.name: self._reduced_range(p, scale) for p in self.parameters}

    def _reduced_range(self, parameter: Parameter, scale: Parameter | None) -> tuple[float, float]:
        if scale is None:
            return self._entering(parameter)
        corners = torch.tensor(list(itertools.product(*((p.low, p.high) for p in self.parameters)))).double()
        power = _at(
            self.symmetries.scale_powers.get(parameter.name, 0.0), dict(zip(self.names, corners.T, strict=True))
        )
        powers = [float(power.min()), float(power.max())] if isinstance(power, Tensor) else [float(power)]
        factors = [end**p for end in (scale.low, scale.high) for p in powers]
        ends = [x * factor for x in self._entering(parameter) for factor in factors]
        return min(ends), max(ends)

    def _entering(self, parameter: Parameter) -> tuple[float, float]:
        """The box of a parameter as it enters the model: of an angle, its tangent; of a product, from both factors."""
        if parameter.name in self.symmetries.factors:
            return -parameter.high, parameter.high
        ends = (parameter.low, parameter.high)
        return (math.tan(ends[0]), math.tan(ends[1])) if parameter.name in self.symmetries.tangents else ends

    def shift(self, theta: Tensor) -> Tensor:
        """Non-decision time of every row of theta, (n,)."""
        return self._column(theta, self.symmetries.shift, 0.0)

    def delay(self, theta: Tensor) -> Tensor:
        """Width of the uniform delay of every row of theta, (n,)."""
        return self._column(theta, self.symmetries.delay, 0.0)

    def clock(self, theta: Tensor) -> Tensor:
        """The clock of every row of theta, (n, 3): see `TimeMap.clock`."""
        return self.times.clock(self._by_name(theta), torch.zeros_like(theta[:, 0]))

    def log_time(self, decision: Tensor, theta: Tensor, log_scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log reduced time y of decision times (n, m), by the clock of every row of theta (n, p), and log dy/dt.

        log_scale: (n, m), as by `log_time_scales`; by default that of every row.
        """
        log_scale = self.log_time_scale(theta).unsqueeze(-1) if log_scale is None else log_scale
        return self.times.log_time(decision, log_scale, self.clock(theta))

    def time(self, y: Tensor, theta: Tensor) -> Tensor:
        """The decision time whose log reduced time is y, as every choice sees it: y (n, n_choices), theta (n, p)."""
        return self.times.time(y, self.log_time_scales(theta), self.clock(theta))

    def log_time_scale(self, theta: Tensor) -> Tensor:
        """Log of the factor by which reduced time of what is learned is stretched, (..., p) -> (...): q log b."""
        by_name = self._by_name(theta)
        if self.symmetries.time_unit is not None:
            return torch.log(self.symmetries.time_unit(by_name))
        power = _at(self.symmetries.time_power, by_name)
        return torch.as_tensor(power * torch.log(self._column(theta, self.symmetries.scale, 1.0)))

    def log_time_scales(self, theta: Tensor) -> Tensor:
        """The same as each choice sees it, (n, p) -> (n, n_choices)."""
        if self.racing:
            return self.log_time_scale(self._accumulators(theta))
        return self.log_time_scale(theta).unsqueeze(-1).expand(-1, self.n_choices)

    def views(self, theta: Tensor) -> Tensor:
        """Reduced parameters as each choice sees them, (n, p) -> (n, n_choices, r)."""
        return self.reduce(self._accumulators(theta)) if self.racing else self.by_choice(self.reduce(theta))

    def reduce(self, theta: Tensor) -> Tensor:
        """Reduced parameters of what is learned, in the order of `names`: (..., p) -> (..., r)."""
        by_name, symmetries = self._by_name(theta), self.symmetries
        if symmetries.reduced:
            return torch.stack([symmetries.reduced[name](by_name) for name in self.names], -1)
        scale = self._column(theta, symmetries.scale, 1.0)
        entering = by_name | {name: torch.tan(by_name[name]) for name in symmetries.tangents}
        entering |= {name: by_name[name] * by_name[factor] for name, factor in symmetries.factors.items()}
        powers = {name: _at(power, by_name) for name, power in symmetries.scale_powers.items()}
        return torch.stack([entering[name] * scale ** powers.get(name, 0.0) for name in self.names], -1)

    def _accumulators(self, theta: Tensor) -> Tensor:
        """The parameters of each accumulator of a race, its own and the shared ones: (n, p) -> (n, n_choices, q)."""
        n_own = self._n_own * self.n_choices
        own = theta[:, :n_own].unflatten(1, (self._n_own, self.n_choices)).transpose(1, 2)
        return torch.cat([own, theta[:, None, n_own:].expand(-1, self.n_choices, -1)], -1)

    def by_choice(self, reduced: Tensor) -> Tensor:
        """Reduced parameters (n, r) -> the views of what is learned, (n, n_choices, r); (n, 1, r) of an accumulator."""
        if self.racing:
            return reduced.unsqueeze(1)
        if self._per_choice:
            return self._permuted(reduced)
        mirrored = []
        for column, name in enumerate(self.names):
            x = reduced[:, column]
            mirrored.append(
                -x if name in self.symmetries.negated else 1 - x if name in self.symmetries.complemented else x
            )
        return torch.stack([reduced, torch.stack(mirrored, -1)], 1)

    def _permuted(self, reduced: Tensor) -> Tensor:
        own = torch.stack([reduced[:, self.names.index(name)] for name in self._per_choice], -1)
        rest = [reduced[:, i] for i, name in enumerate(self.names) if name not in self._per_choice]
        views = []
        for choice in range(self.n_choices):
            others = _descending([own[:, c] for c in range(self.n_choices) if c != choice])
            views.append(torch.stack([own[:, choice], *others, *rest], -1))
        return torch.stack(views, 1)

    def choice_features(self, views: Tensor) -> Tensor:
        """Smooth inputs that level off: far out, the score goes on linearly in the parameter itself."""
        return self._features(views, lambda name, x: [torch.tanh(x), torch.tanh(0.25 * x)])

    def density_features(self, views: Tensor) -> Tensor:
        """Smooth inputs of order one, even in the parameters whose sign does not matter once the choice is known."""
        return self._features(views, self._spread)

    def _spread(self, name: str, x: Tensor) -> list[Tensor]:
        half_range = max(abs(end) for end in self._range[name])
        if name in self.symmetries.even_given_choice:
            # Decision times shrink like 1 / |x| where the drift dominates.
            return [torch.log1p(x * x) - 1.5, 2.0 * torch.sqrt(1.0 + x * x) / half_range - 1.0]
        return [2.0 * x / half_range, torch.asinh(x)]

    def _features(self, views: Tensor, unbounded: Callable[[str, Tensor], list[Tensor]]) -> Tensor:
        features = []
        for column, parameter in enumerate(self.parameters):
            x, name = views[..., column], parameter.name
            (low, high), (first, last) = self._range[name], parameter.support
            end = last + _ROUNDED * (last - first)
            if name in self.symmetries.complemented:
                features += [4.0 * (x - 0.5), torch.log(x) + 0.8]
            elif self._near_end(parameter):
                # Itself, and the log distance to the end of its support.
                features += [linear(x, low, high), logarithmic(end - x, end - high, end - low)]
            elif first == 0.0 and low == 0.0:
                features += [linear(x, low, high), 4.0 * (x / high) ** 2 - 2.0]
            elif first == 0.0 < low:
                features += [linear(x, low, high), logarithmic(x, low, high)]
            else:
                features += unbounded(name, x)
        return torch.stack(features, -1)

    def _near_end(self, parameter: Parameter) -> bool:
        """Whether the box comes near the upper end of a parameter's support, where much may happen."""
        first, last = parameter.support
        if not math.isfinite(last - first) or parameter.from_data or parameter.name in self.symmetries.tangents:
            return False
        return parameter.high > last - _NEAR * (last - first)

    def _by_name(self, theta: Tensor) -> dict[str, Tensor]:
        """The columns of theta (..., p); where choices race, of an accumulator, or of the shared parameters."""
        return {name: theta[..., column] for name, column in self._columns.items()}

    def _column(self, theta: Tensor, name: str | None, default: float) -> Tensor:
        return torch.full_like(theta[..., 0], default) if name is None else theta[..., self._columns[name]]


def _at(power: Power, by_name: dict[str, Tensor]) -> float | Tensor:
    """The value of a power at these parameters."""
    return power(by_name) if callable(power) else power


def _descending(columns: list[Tensor]) -> list[Tensor]:
    """Columns (n,) whose numbers descend in every row, by exchanges of neighbours: there is no sort in the compiler."""
    for last in range(len(columns) - 1, 0, -1):
        for i in range(last):
            one, other = columns[i], columns[i + 1]
            columns[i], columns[i + 1] = torch.maximum(one, other), torch.minimum(one, other)
    return columns
