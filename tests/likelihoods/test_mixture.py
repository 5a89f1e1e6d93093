"""The pretrained likelihood agrees with its definition, with the closed form, and with simulations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.catalogue import load_likelihood, load_simulator
from hddm_sbi.likelihoods.decision import SortedTrials, outcome_rows

DDM = load_simulator("ddm")
NEURAL, EXACT = load_likelihood("ddm"), load_likelihood("ddm", kind="exact")
TEST_FAILURE_RATE = 1e-6
#: trials of one choice in a cell around the kernel's block of 128, and cells without trials of one or of either choice.
CELL_SIZES = ((127, 128), (129, 0), (0, 300), (0, 0), (1, 1))
LAPSES = (0.0, 0.05, 0.9)


def uniform_theta(n, seed):
    low, high = np.array(list(NEURAL.box.values())).T
    return np.random.default_rng(seed).uniform(low, high, (n, 4))


def table(seed=8, below=False):
    """(rt, choice, cell, theta): shuffled trials of CELL_SIZES with rt between 1 ms and 3 s above t0.

    below: a third of them below t0 instead, and some at t0 exactly.
    """
    rng = np.random.default_rng(seed)
    theta = uniform_theta(len(CELL_SIZES), seed)
    runs = [(cell, choice) for cell, sizes in enumerate(CELL_SIZES) for choice in (0, 1) for _ in range(sizes[choice])]
    cell, choice = rng.permutation(np.array(runs)).T
    rt = theta[cell, 3] + rng.uniform(0.001, 3.0, len(cell))
    if below:
        rt[::3] = theta[cell[::3], 3] * np.linspace(0.1, 1.3, len(rt[::3])).clip(max=1.0)
    return rt, choice, cell, torch.as_tensor(theta)


def sort(rt, choice, cell):
    return SortedTrials.sort(rt, choice, cell, len(CELL_SIZES), 2)


def by_definition(rt, choice, cell, trials, theta, lapse):
    """Sum over each cell of log[(1 - lapse) p + lapse * lapse_density], one trial at a time."""
    p = torch.exp(NEURAL.log_prob_rows(outcome_rows(rt, choice), theta[cell]))
    mixed = torch.log((1 - lapse) * p + lapse * trials.lapse_density)
    return torch.zeros(len(theta), dtype=torch.float64).index_add(0, torch.as_tensor(cell), mixed)


@pytest.mark.parametrize("lapse", LAPSES)
@pytest.mark.parametrize("below", [False, True], ids=["above t0", "some below t0"])
def test_cells_are_sums_of_trials(lapse, below):
    rt, choice, cell, theta = table(below=below)
    trials = sort(rt, choice, cell)
    found = NEURAL.log_prob_by_cell(trials, theta, torch.tensor(lapse, dtype=torch.float64))
    expected = by_definition(rt, choice, cell, trials, theta, lapse)
    assert torch.isinf(expected).any() == (below and lapse == 0.0)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    assert found[3] == 0.0


@pytest.mark.parametrize(("lapse", "below"), [(0.0, False), (0.05, False), (0.9, False), (0.05, True), (0.9, True)])
def test_gradient_of_cells_is_the_gradient_of_the_definition(lapse, below):
    rt, choice, cell, theta = table(below=below)
    trials = sort(rt, choice, cell)
    gradients = []
    for total in (NEURAL.log_prob_by_cell, lambda *given: by_definition(rt, choice, cell, *given)):
        at, p = theta.clone().requires_grad_(), torch.tensor(lapse, dtype=torch.float64, requires_grad=lapse > 0)
        weight = torch.linspace(0.5, 2.0, len(theta), dtype=torch.float64)
        gradients.append(torch.autograd.grad((weight * total(trials, at, p)).sum(), (at, p) if lapse > 0 else (at,)))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lapse", LAPSES)
def test_gradient_of_cells_agrees_with_finite_differences(lapse):
    rt, choice, cell, theta = table()
    trials = sort(rt, choice, cell)

    def total(at, p):
        return NEURAL.log_prob_by_cell(trials, at, p)

    at, p = theta.clone().requires_grad_(), torch.tensor(lapse, dtype=torch.float64, requires_grad=lapse > 0)
    value = total(at, p)
    gradient = torch.autograd.grad(value.sum(), (at, p) if lapse > 0 else (at,))
    # Five-point differences: truncation falls like h^4, rounding grows like 1e-16 * |value| / h.
    h = 1e-4
    weights = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}
    for column in range(4):
        step = torch.zeros(4, dtype=torch.float64).index_fill(0, torch.tensor(column), h)
        slope = sum(w * total(theta + k * step, p.detach()) for k, w in weights.items()) / h
        torch.testing.assert_close(gradient[0][:, column], slope, rtol=1e-6, atol=1e-6)
    if lapse > 0:
        slope = sum(w * total(theta, p.detach() + k * h).sum() for k, w in weights.items()) / h
        torch.testing.assert_close(gradient[1], slope, rtol=1e-6, atol=1e-6)


def test_order_and_ties_of_trials_do_not_matter():
    rt, choice, cell, theta = table()
    rt = np.maximum(np.round(rt, 2), theta[cell, 3].numpy() + 0.001)
    backwards = slice(None, None, -1)
    lapse = torch.tensor(0.05, dtype=torch.float64)
    one = NEURAL.log_prob_by_cell(sort(rt, choice, cell), theta, lapse)
    other = NEURAL.log_prob_by_cell(sort(rt[backwards], choice[backwards], cell[backwards]), theta, lapse)
    assert torch.equal(one, other)


def test_density_is_zero_at_and_below_the_non_decision_time():
    rt = torch.tensor([0.1, 0.3, 0.3 + 1e-9, 0.31], dtype=torch.float64)
    theta = torch.tensor([[1.0, 1.0, 0.5, 0.3]], dtype=torch.float64).repeat(4, 1).requires_grad_()
    log_p = NEURAL.log_prob_rows(outcome_rows(rt, torch.ones(4, dtype=torch.int64)), theta)
    assert torch.isneginf(log_p).tolist() == [True, True, False, False]
    (gradient,) = torch.autograd.grad(log_p[2:].sum(), theta)
    assert torch.isfinite(gradient).all()


def test_a_value_is_the_same_alone_and_with_a_gradient():
    theta = torch.as_tensor(np.repeat(uniform_theta(30, 4), 10, axis=0))
    rt, choice = theta[:, 3] + torch.linspace(0.01, 3.0, 300, dtype=torch.float64), torch.arange(300) % 2
    alone = NEURAL.log_prob_rows(outcome_rows(rt, choice), theta)
    followed = NEURAL.log_prob_rows(outcome_rows(rt, choice), theta.clone().requires_grad_()).detach()
    torch.testing.assert_close(alone, followed, rtol=1e-12, atol=1e-12)


def test_agrees_with_the_closed_form_on_simulated_trials():
    # The card's target. The sd of |error| is 0.001: the mean of 50 000 is known to 5e-6, so the false-alarm rate
    # at a true mean of 0.0009 is below 1e-9.
    theta = uniform_theta(50_000, 71)
    rt, choice = DDM.simulate(theta, 72)
    at = outcome_rows(rt, choice), torch.as_tensor(theta)
    error = (NEURAL.log_prob_rows(*at) - EXACT.log_prob_rows(*at)).abs()
    assert float(error.mean()) <= 0.002
    assert float(error.std()) < 0.002


def chi_square(rt, choice, theta, bins=10):
    """Chi-square statistic of rt, choice (n, trials), summed over rows of theta (n, p), and its degrees of freedom.

    Bins have equal probability under the network, per choice; those expected to hold fewer than 10 trials are left out.
    """
    mixture = NEURAL.network.mixture(torch.as_tensor(theta))
    reduction, n_trials = NEURAL.network.reduction, rt.shape[1]
    y = torch.log(torch.as_tensor(rt - theta[:, 3:])) - reduction.log_time_scale(torch.as_tensor(theta))[:, None]
    total, freedom = 0.0, 0
    for c in (0, 1):
        log_weight, mean, log_sd = (part[:, c] for part in mixture)
        share = torch.exp(log_weight).sum(-1)
        phi = torch.special.ndtr((y[..., None] - mean[:, None]) * torch.exp(-log_sd)[:, None])
        below = (torch.exp(log_weight)[:, None] * phi).sum(-1) / share[:, None]
        position = (below * bins).long().clamp(max=bins - 1)
        for row in range(len(theta)):
            expected = float(share[row]) * n_trials / bins
            if expected >= 10:
                counts = torch.bincount(position[row][torch.as_tensor(choice[row] == c)], minlength=bins)
                total += float(((counts - expected) ** 2).sum() / expected)
                freedom += bins
    return total, freedom - len(theta)


@pytest.mark.parametrize(("stretch", "fits"), [(1.0, True), (1.02, False), (0.98, False)])
def test_simulated_trials_fall_where_the_network_says(stretch, fits):
    # 40 thetas x 10 000 trials, 610 bins. The network's own KL of 1e-6 adds 2 * 4e5 * 1e-6 = 0.8 to a statistic
    # whose sd is 34. The other direction: a threshold that is 2 % off must be seen.
    theta = uniform_theta(40, 90)
    made_with = theta * [1.0, stretch, 1.0, 1.0]
    rt, choice = DDM.simulate(np.repeat(made_with, 10_000, axis=0), 91)
    statistic, freedom = chi_square(rt.reshape(40, -1), choice.reshape(40, -1), theta)
    assert (statistic < chi2.isf(TEST_FAILURE_RATE, freedom)) == fits


def test_log_prob_takes_codes_and_names():
    theta = {"v": 1.0, "a": np.array([1.0, 1.2]), "z": 0.5, "t0": 0.3}
    log_p = NEURAL.log_prob([0.6, 0.8], [1, -1], theta)
    exact = EXACT.log_prob([0.6, 0.8], [1, -1], theta)
    torch.testing.assert_close(log_p, exact, rtol=0, atol=0.01)
    with pytest.raises(
        InputError, match=r"theta\['v'\] must lie in \[-5, 5\], the box of this neural likelihood; got 6"
    ):
        NEURAL.log_prob([0.6], [1], {**theta, "v": 6.0, "a": 1.0})


def test_repr_says_what_it_was_trained_on():
    assert repr(NEURAL).startswith("MixtureLikelihood(ddm: v a z t0, ")
    assert "solved equations, KL" in repr(NEURAL)
    assert "1e9 simulations, KL" in repr(load_likelihood("rdm"))
