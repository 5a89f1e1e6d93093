"""A chain of perceptrons: the law of each outcome given the parameters and the outcomes before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor, nn

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.card import check_sizes
from hddm_sbi.likelihoods.cells import alike
from hddm_sbi.likelihoods.factored.encoding import Encoding
from hddm_sbi.likelihoods.factored.laws import Categories, Counts, DiscreteLaw, Law, Mixture
from hddm_sbi.types import Index


@dataclass(frozen=True)
class EstimatorShape:
    """Sizes and kind of the network that learns a simulator's likelihood.

    Parameters
    ----------
    hidden
        Number of units in each hidden layer.
    depth
        Number of hidden layers.
    components
        Number of components of each mixture: of continuous outcomes, and of counts that are not tabulated.
    chained
        Whether each continuous outcome has a mixture of its own given those before it, so that any dependence can be
        learned. False: one mixture of all of them together, with linear regressions between them in each component.
        For a single outcome the two are the same.
    tabulated
        Whether each count has a probability of its own. False: a mixture of smooth distributions and a share of zeros,
        for which fewer simulations suffice.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.EstimatorShape(hidden=32)
    EstimatorShape(hidden=32, depth=2, components=8, chained=False, tabulated=False)
    """

    hidden: int = 24
    depth: int = 2
    components: int = 8
    chained: bool = False
    tabulated: bool = False

    def __post_init__(self) -> None:
        check_sizes({name: getattr(self, name) for name in ("hidden", "depth", "components")})
        for name in ("chained", "tabulated"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be True or False; got {getattr(self, name)!r}.")

    def weights_at_least(self, encoding: Encoding) -> int:
        """How many weights a network of these encoded outcomes has at least."""
        discrete = [outcome for outcome in encoding.simulator.outcomes if outcome.discrete]
        tables = [self.tabulated or outcome.kind == "categorical" for outcome in discrete]
        widths = [size if table else self.components for table, size in zip(tables, encoding.sizes, strict=True)]
        mixture = self.components if encoding.n_continuous else 0
        return self.hidden * max(self.hidden * (self.depth - 1), sum(widths) + mixture)

    def as_dict(self) -> dict[str, int]:
        """Plain numbers, for the card."""
        return asdict(self)


class Factor(nn.Module):
    """The law of some outcomes; its numbers by a perceptron beside a straight line, smooth in the parameters.

    width: number of inputs that come from parameters. law: of the outcomes. discrete, continuous: how many earlier
    outcomes of either kind it depends on. extra: inputs that stand for those.
    """

    def __init__(self, width: int, law: Law, shape: EstimatorShape, discrete: int, continuous: int, extra: int) -> None:
        super().__init__()
        self.law, self.discrete, self.continuous = law, discrete, continuous
        inputs, start = width + extra, law.start
        layers: list[nn.Module] = []
        for i in range(shape.depth):
            layers += [nn.Linear(shape.hidden if i else inputs, shape.hidden), nn.SiLU()]
        self.hidden = nn.Sequential(*layers)
        n = len(start) - law.n_constant
        self.bent, self.straight = nn.Linear(shape.hidden, n), nn.Linear(inputs, n, bias=False)
        self.constant = nn.Parameter(start[n:].clone())
        with torch.no_grad():
            self.bent.weight.mul_(0.1)
            self.bent.bias.copy_(start[:n])
            self.straight.weight.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, inputs) -> numbers of the law (n, ...)."""
        numbers = self.bent(self.hidden(inputs)) + self.straight(inputs)
        return torch.cat([numbers, self.constant.expand(len(inputs), -1)], -1)

    def outcomes(self, continuous: Tensor, discrete: Tensor) -> Tensor:
        """Those of all outcomes (n, c) and (n, d) of which this is the law."""
        if isinstance(self.law, Mixture):
            return continuous[:, self.continuous : self.continuous + self.law.outcomes]
        return discrete[:, self.discrete :][:, :1]

    def bends(self, inputs: Tensor, numbers: Tensor) -> Tensor:
        """How far each of its numbers (n, ...) is from a straight line in the inputs (n, inputs), as a mean square."""
        line = self.straight(inputs) + self.bent.bias
        return (numbers[:, : line.shape[-1]] - line).square().mean(0)


class FactoredNetwork(nn.Module):
    """log p(outcomes | parameters) of encoded outcomes: discrete ones first, then continuous ones.

    success: where some simulations failed, the probabilities that one fails or succeeds; else None.
    """

    def __init__(self, encoding: Encoding, shape: EstimatorShape, some_failed: bool = False) -> None:
        super().__init__()
        self.outcomes = tuple(o for o in encoding.simulator.outcomes if o.discrete)
        self.sizes, width, n = encoding.sizes, encoding.width, encoding.n_continuous
        factors: list[Factor] = []
        extra = 0
        for k, (outcome, size) in enumerate(zip(self.outcomes, self.sizes, strict=True)):
            tabulated = outcome.kind == "categorical" or shape.tabulated
            law: Law = Categories(size) if tabulated else Counts(size, shape.components)
            factors.append(Factor(width, law, shape, k, 0, extra))
            extra += size if outcome.kind == "categorical" else 2
        k = len(self.sizes)
        if shape.chained:
            factors += [Factor(width, Mixture(1, shape.components), shape, k, i, extra + i) for i in range(n)]
        elif n:
            factors.append(Factor(width, Mixture(n, shape.components), shape, k, 0, extra))
        self._factors = nn.ModuleList(factors)
        self.success = success_of(encoding, shape) if some_failed else None

    @property
    def factors(self) -> Iterator[Factor]:
        """Of the outcomes, one after the other."""
        for factor in self._factors:
            assert isinstance(factor, Factor)
            yield factor

    def log_prob(self, continuous: Tensor, discrete: Tensor, rows: Tensor, row: Index | None = None) -> Tensor:
        """Log density of encoded outcomes (n, c) and (n, d), each given `rows[row]`: rows (r, width), row (n,) -> (n,).

        A perceptron runs once for the outcomes that share its inputs. row: None where every outcome has a row of its
        own, in order; then all operands may lie on a GPU.
        """
        laws = self._laws(continuous, discrete, rows, row)
        return reduce(torch.add, (law.log_prob(numbers, x) for law, numbers, x in laws))

    def log_mass(self, low: Tensor, high: Tensor, discrete: Tensor, rows: Tensor, row: Index) -> Tensor:
        """Log probability of discrete outcomes (n, d), with the only continuous one in (low, high], (n, 1) each; rows
        and row as in `log_prob`."""
        laws = self._laws(low, discrete, rows, row)
        parts = (
            law.log_mass(numbers, low, high) if isinstance(law, Mixture) else law.log_prob(numbers, x)
            for law, numbers, x in laws
        )
        return reduce(torch.add, parts)

    def log_prob_and_bends(self, continuous: Tensor, discrete: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """`log_prob` with a row for every outcome; and how far the numbers of all laws are from straight lines in their
        inputs, as mean squares."""
        log_p, bends = [], []
        for factor in self.factors:
            inputs, _ = self._inputs(factor, continuous, discrete, rows, None)
            numbers = factor(inputs)
            log_p.append(factor.law.log_prob(numbers, factor.outcomes(continuous, discrete)))
            bends.append(factor.bends(inputs, numbers))
        return reduce(torch.add, log_p), torch.cat(bends)

    def log_table(self, rows: Tensor) -> Tensor:
        """Log probability of every value of a single discrete outcome: (r, width) -> (r, size)."""
        return self.log_table_and_bends(rows)[0]

    def log_table_and_bends(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """`log_table`, and bends as in `log_prob_and_bends`."""
        (factor,) = self.factors
        assert isinstance(factor.law, DiscreteLaw)
        numbers = factor(rows)
        return factor.law.log_table(numbers), factor.bends(rows, numbers)

    def sample(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded outcomes (n, c) and (n, d), one for each of the rows (n, width), by torch's global generator."""
        continuous, discrete = rows[:, :0], rows[:, :0]
        for factor in self.factors:
            inputs, _ = self._inputs(factor, continuous, discrete, rows, None)
            x = factor.law.sample(factor(inputs))
            if isinstance(factor.law, Mixture):
                continuous = torch.cat([continuous, x], -1)
            else:
                discrete = torch.cat([discrete, x], -1)
        return continuous, discrete

    def _laws(
        self, continuous: Tensor, discrete: Tensor, rows: Tensor, row: Index | None
    ) -> Iterator[tuple[Law, Tensor, Tensor]]:
        """Of every factor the law, and for each outcome its numbers and what it is the law of."""
        for factor in self.factors:
            inputs, same = self._inputs(factor, continuous, discrete, rows, row)
            yield factor.law, _each(factor(inputs), same), factor.outcomes(continuous, discrete)

    def _inputs(
        self, factor: Factor, continuous: Tensor, discrete: Tensor, rows: Tensor, row: Index | None
    ) -> tuple[Tensor, Index | None]:
        """Distinct inputs of a factor, and which of them every outcome has; None for each its own."""
        same = row
        if row is not None:
            codes = [discrete[:, k].long().numpy() for k in range(factor.discrete)]
            labels = np.ravel_multi_index((row, *codes), (len(rows), *self.sizes[: factor.discrete]))
            first, same = alike(labels.tobytes())
            rows, discrete = rows.index_select(0, torch.from_numpy(row[first])), discrete[torch.from_numpy(first)]
        inputs = [rows, *self._indicators(discrete, factor.discrete)]
        if factor.continuous:
            # The network sees an outlier, but not at its full length.
            inputs = [_each(part, same) for part in inputs]
            inputs.append(torch.asinh(continuous[:, : factor.continuous]))
            same = None
        return torch.cat(inputs, -1), same

    def _indicators(self, discrete: Tensor, n: int) -> list[Tensor]:
        """The first n discrete outcomes as inputs: which category; the root of a count, and whether it is 0."""
        parts = []
        for k, (outcome, size) in enumerate(zip(self.outcomes[:n], self.sizes[:n], strict=True)):
            x = discrete[:, k, None]
            if outcome.kind == "categorical":
                parts.append((x == torch.arange(size, dtype=x.dtype, device=x.device)).to(x.dtype))
            else:
                parts += [4.0 * torch.sqrt(x / size) - 2.0, (x == 0).to(x.dtype)]
        return parts


def success_of(encoding: Encoding, shape: EstimatorShape) -> Factor:
    """The law of whether a simulation fails or succeeds."""
    return Factor(encoding.width, Categories(2), shape, 0, 0, 0)


def _each(rows: Tensor, same: Index | None) -> Tensor:
    """The row of every outcome."""
    return rows if same is None else rows.index_select(0, torch.from_numpy(same))
