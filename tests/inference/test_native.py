"""Small functions as machine code: the same numbers as torch, and refusals of what they cannot be."""

import numpy as np
import pytest
import torch

from hddm_sbi.inference import Native, UnknownOperationError

#: of a vector of six numbers, all positive.
FUNCTIONS = {
    "arithmetic": lambda x: x[:3] * x[3:] - x[0] / x[1] + 2.0,
    "powers": lambda x: torch.cat([x**2, x**0.5, x ** x.flip(0), 1.0 / x]),
    "elementary": lambda x: torch.stack([x[0].exp(), x[1].log(), x[2].sqrt(), (x[3] - 1.0).abs(), x[4].log1p()]),
    "special": lambda x: torch.cat([torch.special.log_ndtr(x[:2] - 1.0), torch.lgamma(x[2:4]), torch.sigmoid(x[4:])]),
    "choices": lambda x: torch.where(x > 0.5, x, -x).clamp(-0.7, 0.9),
    "comparisons": lambda x: ((x <= 0.5) & (x.flip(0) > 0.2)).double() + (x == x[0]).double(),
    "sums": lambda x: torch.stack([x.sum(), x.prod(), x.max(), x.min(), x.mean(), x @ x.flip(0)]),
    "running sum": lambda x: x.cumsum(0),
    "running product": lambda x: x.cumprod(0),
    "matrices": lambda x: (x[:4].reshape(2, 2) @ x[2:].reshape(2, 2)).reshape(-1),
    "parts": lambda x: torch.cat([x[::2], torch.nn.functional.pad(x[:2], (1, 2)), x.reshape(2, 3).T.reshape(-1)]),
    "constant": lambda x: torch.cat([x, torch.tensor([1.5, -2.0], dtype=torch.float64)]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_same_numbers_as_torch(name):
    function, rng = FUNCTIONS[name], np.random.default_rng(1)
    native = Native(function, np.linspace(0.2, 0.8, 6))
    for x in (*rng.uniform(0.05, 1.2, (20, 6)), np.full(6, 0.5)):
        np.testing.assert_allclose(native(x), function(torch.from_numpy(x)).numpy(), rtol=1e-13, atol=1e-13)


#: torch's gradient of a running product looks up where its first zero is.
WITHOUT_GRADIENT = ("comparisons", "running product")


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in WITHOUT_GRADIENT])
def test_gradients_are_functions_too(name):
    def pull(x):
        given, upstream = x[:6].detach().clone().requires_grad_(True), x[6:]
        (gradient,) = torch.autograd.grad(FUNCTIONS[name](given), given, upstream)
        return gradient

    rng = np.random.default_rng(2)
    width = len(FUNCTIONS[name](torch.linspace(0.2, 0.8, 6, dtype=torch.float64)))
    native = Native(pull, np.concatenate([np.linspace(0.2, 0.8, 6), np.ones(width)]), (6, width))
    for _ in range(10):
        x = np.concatenate([rng.uniform(0.1, 1.0, 6), rng.normal(size=width)])
        np.testing.assert_allclose(native(x), pull(torch.from_numpy(x)).numpy(), rtol=1e-12, atol=1e-12)


def test_missing_numbers_go_where_torch_lets_them():
    def function(x):
        return torch.stack([x[0] + x[1], torch.where(x[1] > 0.0, x[0], x[2]), torch.maximum(x[0], x[2]), x[2]])

    native = Native(function, np.full(3, 0.5))
    for x in ([1.0, np.nan, 2.0], [np.inf, -1.0, 2.0], [-0.0, 0.0, -np.inf]):
        np.testing.assert_array_equal(native(np.array(x)), function(torch.tensor(x, dtype=torch.float64)).numpy())


def test_what_depends_on_the_numbers_is_refused():
    with pytest.raises(UnknownOperationError, match=r"torch\.where"):
        Native(lambda x: x[:4].gather(0, x[4:].long()), np.array([0.1, 0.2, 0.3, 0.4, 1.0, 2.0]))
    with pytest.raises(UnknownOperationError):
        Native(lambda x: x.sort().values, np.linspace(0.2, 0.8, 6))
