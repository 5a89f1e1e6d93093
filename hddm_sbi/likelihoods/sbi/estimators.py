"""sbi's estimators by the kinds of outcomes, rebuilt from plain numbers: nothing but weights comes from a file."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from hddm_sbi.likelihoods.card import check_sizes
from hddm_sbi.likelihoods.sbi.compatibility import spread_out, validation_kept
from hddm_sbi.likelihoods.sbi.encoding import Encoding

if TYPE_CHECKING:
    from sbi.neural_nets.estimators import CategoricalMassEstimator, MixedDensityEstimator
    from sbi.neural_nets.estimators.base import ConditionalDensityEstimator

#: sbi adds this to the precisions of its mixtures, where it is not in the normalising constant.
_EPSILON = 1e-9


@dataclass(frozen=True)
class EstimatorShape:
    """Sizes of an estimator. All its layers are smooth, because samplers follow gradients.

    Parameters
    ----------
    hidden
        Number of units in each hidden layer.
    depth
        Number of hidden layers of the perceptron on the parameters.
    components
        Number of normals in the mixture, for one continuous outcome.
    transforms
        Number of transforms of the spline flow, for several continuous outcomes.
    bins
        Number of bins of each of its splines.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> hs.EstimatorShape(hidden=32)
    EstimatorShape(hidden=32, depth=2, components=8, transforms=3, bins=8)
    """

    hidden: int = 48
    depth: int = 2
    components: int = 8
    transforms: int = 3
    bins: int = 8

    def __post_init__(self) -> None:
        check_sizes(asdict(self))

    def weights_at_least(self, n_continuous: int, sizes: tuple[int, ...]) -> int:
        """How many weights an estimator has at least: n_continuous outcomes, and discrete ones of these sizes."""
        flow = self.transforms * max(self.hidden, self.bins) if n_continuous > 1 else 0
        mixture = self.components if n_continuous == 1 else 0
        return self.hidden * max(self.hidden * (self.depth - 1), flow, mixture, sum(sizes))

    def as_dict(self) -> dict[str, int]:
        """Plain numbers, for the card."""
        return asdict(self)


def build(encoding: Encoding, shape: EstimatorShape) -> ConditionalDensityEstimator:
    """An untrained estimator of encoded outcomes given encoded parameters.

    Discrete outcomes: a table of categories, one after the other. One continuous outcome: a mixture of normals;
    several: a neural spline flow. Both kinds: MNLE, continuous outcomes given the discrete ones.
    """
    with validation_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not encoding.sizes:
            return _continuous(encoding.n_continuous, _perceptron(encoding.width, shape), shape, encoding.width)
        if not encoding.n_continuous:
            return _categories(encoding.sizes, encoding.width, _perceptron(encoding.width, shape), shape.hidden)
        return _mixed(encoding, shape)


def kind(encoding: Encoding) -> Literal["categorical", "continuous", "mixed"]:
    """Which outcomes an estimator is for."""
    if not encoding.sizes:
        return "continuous"
    return "mixed" if encoding.n_continuous else "categorical"


def _continuous(n: int, embedding: nn.Module, shape: EstimatorShape, width: int) -> ConditionalDensityEstimator:
    """n continuous outcomes given `embedding` of an input of some width, which ends in `hidden` numbers."""
    from sbi.neural_nets.estimators import MixtureDensityEstimator
    from sbi.neural_nets.estimators.mixture_density_estimator import MultivariateGaussianMDN
    from sbi.neural_nets.net_builders import build_zuko_nsf

    if n > 1:
        example = torch.randn(8, n), torch.randn(8, width)
        flow = {"hidden_features": shape.hidden, "num_transforms": shape.transforms, "num_bins": shape.bins}
        unscaled = {"z_score_x": "none", "z_score_y": "none"}
        return build_zuko_nsf(*example, embedding_net=embedding, activation=nn.SiLU, **flow, **unscaled)
    network = MultivariateGaussianMDN(
        1, shape.hidden, shape.hidden, shape.components, hidden_net=nn.Identity(), epsilon=_EPSILON
    )
    spread_out(network)
    return MixtureDensityEstimator(network, torch.Size([1]), torch.Size([width]), embedding_net=embedding)


def _categories(sizes: tuple[int, ...], width: int, embedding: nn.Module, hidden: int) -> CategoricalMassEstimator:
    """Discrete outcomes, one after the other, given `embedding` of an input, which ends in `hidden` numbers."""
    from sbi.neural_nets.estimators import CategoricalMADE, CategoricalMassEstimator

    made = CategoricalMADE(
        torch.tensor(sizes),
        num_hidden_features=hidden,
        categorical_values=[torch.arange(float(size)) for size in sizes],
        num_context_features=hidden,
        num_blocks=0 if len(sizes) == 1 else 1,
        activation=nn.functional.silu,
        embedding_net=embedding,
    )
    return CategoricalMassEstimator(made, torch.Size([len(sizes)]), torch.Size([width]))


def _mixed(encoding: Encoding, shape: EstimatorShape) -> MixedDensityEstimator:
    from sbi.neural_nets.estimators import MixedDensityEstimator

    n, width, sizes = encoding.n_continuous, encoding.width, encoding.sizes
    combined = nn.Sequential(OneHot(sizes), _perceptron(sum(sizes) + width, shape))
    return MixedDensityEstimator(
        discrete_net=_categories(sizes, width, _perceptron(width, shape), shape.hidden),
        continuous_net=_continuous(n, combined, shape, len(sizes) + width),
        input_shape=torch.Size([n + len(sizes)]),
        condition_shape=torch.Size([width]),
    )


class OneHot(nn.Module):
    """Positions of categories in the first columns -> indicators; the other columns as they are."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, x: Tensor) -> Tensor:
        """(n, k + rest) -> (n, sum of sizes + rest)."""
        indicators = [
            (x[..., i, None] == torch.arange(size, dtype=x.dtype, device=x.device)).to(x.dtype)
            for i, size in enumerate(self.sizes)
        ]
        return torch.cat([*indicators, x[..., len(self.sizes) :]], -1)


def _perceptron(width: int, shape: EstimatorShape) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(shape.depth):
        layers += [nn.Linear(shape.hidden if i else width, shape.hidden), nn.SiLU()]
    return nn.Sequential(*layers)
