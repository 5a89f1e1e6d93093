"""Covariates along trials and their gradients: beside a loop in plain torch and its autograd."""

import numpy as np
import pytest
import torch

from hddm_sbi.inference import Native
from hddm_sbi.numerics.recurrence import apply_rule, recur

N_CELLS, N_TRIALS, STATES, PARAMETERS, COLUMNS, WIDTH = 4, 60, 2, 3, 2, 2


def rule(x):
    """Two states, three parameters of which the last is where the second state begins, two columns."""
    s, p, row = x[:2], x[2:5], x[5:]
    after = s + torch.sigmoid(p[0]) * (row - s) * torch.tensor([1.0, 0.5], dtype=torch.float64)
    return torch.cat([after, (s * p[1]).exp()])


def pull(x):
    given, upstream = x[:7].detach().clone().requires_grad_(True), x[7:]
    (gradient,) = torch.autograd.grad(rule(given), given, upstream)
    return gradient[: STATES + PARAMETERS]


@pytest.fixture(scope="module")
def compiled():
    parts = STATES, PARAMETERS, COLUMNS
    return Native(rule, np.full(7, 0.3), parts), Native(pull, np.full(11, 0.3), (*parts, STATES, WIDTH))


def table(seed=1):
    """Three sequences of 7, 1 and 52 trials; a sixth of the trials leave the state as it is."""
    rng = np.random.default_rng(seed)
    rows = torch.from_numpy(rng.normal(size=(N_TRIALS, COLUMNS)))
    known = torch.from_numpy((rng.random(N_TRIALS) < 5 / 6).astype(np.int64))
    cell = torch.from_numpy(rng.integers(0, N_CELLS, N_TRIALS))
    return rows, known, cell, torch.from_numpy(rng.permutation(N_TRIALS)), torch.tensor([0, 7, 8, N_TRIALS])


def looped(parameters, begin, order):
    """The same trial by trial, in torch."""
    rows, known, cell, trial, starts = order
    found = [None] * N_TRIALS
    for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        state = torch.stack([begin, parameters[cell[first], 2]])
        for i in range(first, last):
            y = rule(torch.cat([state, parameters[cell[i]], rows[i]]))
            found[int(trial[i])] = y[STATES:]
            state = y[:STATES] if known[i] else state
    return torch.stack(found)


def recurred(parameters, order, compiled):
    step, back = compiled
    begin, begin_of = torch.tensor([0.25, 0.0], dtype=torch.float64), torch.tensor([-1, 2])
    return recur(parameters, begin, begin_of, *order, WIDTH, step.address, back.address)[0]


def test_covariates_and_gradients(compiled):
    order, rng = table(), np.random.default_rng(2)
    parameters = torch.from_numpy(rng.normal(size=(N_CELLS, PARAMETERS))).requires_grad_(True)
    upstream = torch.from_numpy(rng.normal(size=(N_TRIALS, WIDTH)))
    expected = looped(parameters, torch.tensor(0.25, dtype=torch.float64), order)
    found = recurred(parameters, order, compiled)
    np.testing.assert_allclose(found.detach(), expected.detach(), rtol=1e-13)
    of_loop, own = (torch.autograd.grad(y, parameters, upstream)[0] for y in (expected, found))
    np.testing.assert_allclose(own, of_loop, rtol=1e-11, atol=1e-12)


def test_gradient_by_differences(compiled):
    """Central differences of the covariates themselves: no derivative of torch's."""
    order, rng = table(3), np.random.default_rng(4)
    at, along = rng.normal(size=(2, N_CELLS, PARAMETERS))
    upstream = torch.from_numpy(rng.normal(size=(N_TRIALS, WIDTH)))

    def value(shift):
        return float((recurred(torch.from_numpy(at + shift * along), order, compiled) * upstream).sum())

    given = torch.from_numpy(at).requires_grad_(True)
    (gradient,) = torch.autograd.grad(recurred(given, order, compiled), given, upstream)
    difference = (value(1e-5) - value(-1e-5)) / 2e-5
    assert float((gradient * torch.from_numpy(along)).sum()) == pytest.approx(difference, rel=1e-8)


def test_a_table_without_trials_and_one_of_unknown_trials(compiled):
    parameters = torch.full((N_CELLS, PARAMETERS), 0.3, dtype=torch.float64, requires_grad=True)
    rows, known, cell, trial, starts = table()
    still = recurred(parameters, (rows, torch.zeros_like(known), cell, trial, starts), compiled)
    # The state never moves: the covariates are those of the start, (begin, parameter) times a parameter, exponentiated.
    np.testing.assert_allclose(still.detach()[0], np.exp([0.25 * 0.3, 0.3 * 0.3]), rtol=1e-14)
    assert (still == still[0]).all()
    none = (rows[:0], known[:0], cell[:0], trial[:0], starts[:1])
    assert recurred(parameters, none, compiled).shape == (0, WIDTH)


def test_many_rows_at_once(compiled):
    rng = np.random.default_rng(5)
    parts = [rng.normal(size=(9, k)) for k in (STATES, PARAMETERS, COLUMNS)]
    result = np.empty((9, STATES + WIDTH))
    apply_rule(compiled[0].address, *parts, result)
    expected = [rule(torch.from_numpy(np.concatenate(row))).numpy() for row in zip(*parts, strict=True)]
    np.testing.assert_allclose(result, expected, rtol=1e-14)
