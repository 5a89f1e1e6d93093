"""Trials without a time, without a response, or without either: laws of every likelihood of rt and response."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from laws import random_thetas

import hddm_sbi as hs
from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.decision import outcome_rows

NAMES = [("ddm", "exact"), ("lba", "exact"), ("ddm", "neural"), ("race3", "neural"), ("full_ddm", "neural")]
LAPSE, DEADLINE = torch.tensor(0.05, dtype=torch.float64), 1.2


@pytest.fixture(scope="module", params=NAMES, ids=[" ".join(each) for each in NAMES])
def likelihood(request):
    return hs.load_likelihood(request.param[0], kind=request.param[1])


def table(likelihood, seed=1, n_cells=4, n=40):
    """Trials of some cells, a fifth of each kind of missing, whose masked entries are not numbers."""
    theta = random_thetas(likelihood.simulator, n_cells, seed, margin=0.3)
    cell = np.repeat(np.arange(n_cells), n // n_cells)
    values = np.stack(likelihood.simulator.simulate(theta[cell], seed), -1)
    observed = np.array([[1, 1], [1, 1], [0, 1], [1, 0], [0, 0]], dtype=bool)[np.arange(n) % 5]
    return np.where(observed, values, np.nan), observed, cell, torch.tensor(theta)


def grouped(likelihood, values, observed, cell):
    return likelihood.group_by_cell(values, cell, int(cell.max()) + 1, observed=observed, deadline=DEADLINE)


def one_row(likelihood, observed, rt, choice, row, lapse=LAPSE):
    """Probability of one outcome, as `log_prob_by_cell` has it."""
    trials = grouped(likelihood, np.array([[rt, choice]]), np.array([observed]), np.zeros(1, dtype=np.int64))
    return float(likelihood.log_prob_by_cell(trials, row, lapse).exp()[0])


@pytest.mark.parametrize("lapse", [0.0, 0.05])
def test_all_outcomes_add_to_one(likelihood, lapse):
    """Responses before the deadline and omissions; and the responses before it are those of the density, by quadrature
    (400 nodes between the non-decision time and the deadline, 1e-4)."""
    lapse = torch.tensor(lapse, dtype=torch.float64)
    row = torch.tensor(random_thetas(likelihood.simulator, 1, 3, margin=0.4))
    choices = range(len(likelihood.simulator.choices))
    omitted = one_row(likelihood, (False, False), np.nan, np.nan, row, lapse)
    untimed = [one_row(likelihood, (False, True), np.nan, c, row, lapse) for c in choices]
    assert omitted + sum(untimed) == pytest.approx(1.0, abs=1e-8)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    t0 = float(row[0, likelihood.simulator.names.index("t0")])
    total = float(lapse) * t0 / 10.0
    rt = t0 + 0.5 * (DEADLINE - t0) * (1 + nodes)
    cell, rows = np.zeros(len(rt), dtype=np.int64), row.expand(len(rt), -1)
    timed = grouped(likelihood, np.stack([rt, rt], 1), np.tile([True, False], (len(rt), 1)), cell)
    density = likelihood.incomplete_rows(timed, rows, lapse).exp().numpy()
    total += 0.5 * (DEADLINE - t0) * float(weights @ density)
    assert total == pytest.approx(sum(untimed), abs=1e-4)
    each = [
        likelihood.log_prob_by_trial(
            grouped(likelihood, outcome_rows(rt, np.full(len(rt), c)).numpy(), None, cell), row, lapse
        )
        for c in choices
    ]
    np.testing.assert_allclose(sum(log_p.exp().numpy() for log_p in each), density, rtol=1e-10)


def test_cells_are_sums_of_rows(likelihood):
    values, observed, cell, theta = table(likelihood)
    trials = grouped(likelihood, values, observed, cell)
    complete, incomplete = trials.order, trials.incomplete.order
    assert sorted([*complete, *incomplete]) == list(range(len(values)))
    rows = np.empty(len(values))
    rows[complete] = likelihood.log_prob_by_trial(trials, theta, LAPSE)
    rows[incomplete] = likelihood.incomplete_rows(trials, theta[trials.incomplete.cell], LAPSE)
    expected = np.bincount(cell, rows)
    np.testing.assert_allclose(likelihood.log_prob_by_cell(trials, theta, LAPSE), expected, rtol=1e-9)


def test_gradient_agrees_with_differences(likelihood):
    values, observed, cell, theta = table(likelihood)
    trials = grouped(likelihood, values, observed, cell)
    at, lapse = theta.clone().requires_grad_(), LAPSE.clone().requires_grad_()
    gradient = torch.autograd.grad(likelihood.log_prob_by_cell(trials, at, lapse).sum(), (at, lapse))
    for column in range(theta.shape[1]):
        step = torch.zeros(theta.shape[1]).double().index_fill(0, torch.tensor(column), 1e-5)
        up, down = (likelihood.log_prob_by_cell(trials, theta + sign * step, LAPSE) for sign in (1, -1))
        torch.testing.assert_close(gradient[0][:, column], (up - down) / 2e-5, rtol=1e-4, atol=1e-4)
    up, down = (likelihood.log_prob_by_cell(trials, theta, LAPSE + sign * 1e-6).sum() for sign in (1, -1))
    torch.testing.assert_close(gradient[1], (up - down) / 2e-6, rtol=1e-5, atol=1e-5)


def test_a_mask_of_nothing_changes_no_bit(likelihood):
    theta = random_thetas(likelihood.simulator, 4, 5, margin=0.3)
    cell = np.repeat(np.arange(4), 10)
    values = np.stack(likelihood.simulator.simulate(theta[cell], 5), -1)
    plain = likelihood.group_by_cell(values, cell, 4)
    masked = grouped(likelihood, values, np.ones_like(values, dtype=bool), cell)
    assert masked.incomplete is None
    one, other = (likelihood.log_prob_by_cell(t, torch.tensor(theta), LAPSE) for t in (plain, masked))
    assert torch.equal(one, other)
    whole, trials = table(likelihood)[0], grouped(likelihood, *table(likelihood)[:3])
    complete = replace(trials, incomplete=None)
    alone = likelihood.group_by_cell(whole[trials.order], cell[trials.order], 4, trials.lapse_seconds)
    one, other = (likelihood.log_prob_by_cell(t, torch.tensor(theta), LAPSE) for t in (complete, alone))
    assert torch.equal(one, other)


def test_an_omission_needs_a_deadline():
    likelihood = hs.load_likelihood("ddm", kind="exact")
    with pytest.raises(InputError, match=r"needs a deadline.*row 1"):
        likelihood.group_by_cell(
            np.array([[0.5, 1.0], [0.0, 0.0]]),
            np.zeros(2, dtype=np.int64),
            1,
            observed=np.array([[True] * 2, [False] * 2]),
        )
