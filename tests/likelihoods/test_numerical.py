"""The numerical likelihood: the equation behind the one interface, and the scores it gives."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.catalogue import load_likelihood, names
from hddm_sbi.likelihoods.cells import Events, Ranges
from hddm_sbi.likelihoods.decision import SortedTrials, outcome_rows
from hddm_sbi.likelihoods.exact import ExactLikelihood
from hddm_sbi.likelihoods.likelihood import shift_of
from hddm_sbi.likelihoods.numerical import NumericalLikelihood
from hddm_sbi.training import accuracy

SOLVED = [name for name in names() if hs.load_simulator(name).passage is not None]


DMC = hs.load_simulator("dmc")
REFERENCE = NumericalLikelihood(DMC)


class Drifted(NumericalLikelihood):
    """The density of a model whose drift is larger by .05."""

    def log_prob_rows(self, values, theta):
        by = torch.zeros(9, dtype=torch.float64)
        by[0] = 0.05
        return super().log_prob_rows(values, theta + by)


DRIFTED = Drifted(DMC)
DRIFTED.box = REFERENCE.box = DMC.box


def some_trials(name, n_thetas, n, seed):
    simulator = hs.load_simulator(name)
    low, high = np.array(list(simulator.box.values())).T
    share = np.random.default_rng(seed).uniform(0.2, 0.8, (n_thetas, len(low)))
    share[:, [p.from_data for p in simulator.parameters]] = 1.0
    theta = np.repeat(low + (high - low) * share, n // n_thetas, axis=0)
    return torch.tensor(theta), *(torch.tensor(x) for x in simulator.simulate(theta, seed))


def test_without_leak_or_collapse_it_is_the_closed_form():
    """`ornstein` with g = 0 against `ddm`, values and gradients, 1e-6 and 1e-4 of the largest."""
    theta, rt, choice = some_trials("ornstein", 3, 300, seed=1)
    theta[:, 4] = 0.0
    leaky, plain = theta.clone().requires_grad_(), theta[:, :4].clone().requires_grad_()
    got = NumericalLikelihood(hs.load_simulator("ornstein")).log_prob_rows(outcome_rows(rt, choice), leaky)
    expected = ExactLikelihood(hs.load_simulator("ddm")).log_prob_rows(outcome_rows(rt, choice), plain)
    likely = expected > expected.max() - 15
    assert likely.sum() > 290
    assert (got - expected)[likely].abs().max() < 1e-6
    got[likely].sum().backward()
    expected[likely].sum().backward()
    gap = (leaky.grad[:, :4] - plain.grad).abs().max(0).values
    assert (gap < 1e-4 * plain.grad.abs().max(0).values).all()


@pytest.mark.parametrize("name", SOLVED)
def test_a_finer_grid_changes_nothing(name):
    """What is told at a random theta against a single grid of 2 000 points: 1e-6 at every trial."""
    theta, rt, _ = some_trials(name, 1, 500, seed=2)
    simulator = hs.load_simulator(name)
    t = (rt - theta[:, simulator.names.index("t0")]).numpy()
    passage = simulator.passage(*theta[0].tolist(), t_max=1.05 * t.max())
    fine = replace(passage, grids=(2_000,))
    np.testing.assert_allclose(passage.log_density(t), fine.log_density(t), rtol=0, atol=1e-6)


#: decision times, seconds: absurdly early, usual, absurdly late; and onsets themselves.
TIMES = ([5e-324, 1e-300, 1e-16, 1e-8, 1e-6], [0.05, 0.3, 1.0, 10.0], [1e3, 1e6], [0.0])


def asked(likelihood, theta):
    """Everything that a numerical likelihood tells of one theta (1, p): tensors, or None where it refuses."""
    shift = shift_of(likelihood.simulator, theta)
    for times in TIMES:
        rt = shift + torch.tensor(times, dtype=torch.float64)
        rows = theta.expand(len(rt), -1).clone().requires_grad_(True)
        for what in ("density", "cdf", "survival"):
            values = outcome_rows(rt, torch.zeros_like(rt))
            try:
                if what == "density":
                    log_p = likelihood.log_prob_rows(values, rows)
                    yield log_p.detach(), torch.autograd.grad(log_p[log_p > -torch.inf].sum(), rows)[0]
                elif what == "cdf":
                    yield torch.log(likelihood.cdf_rows(values, theta.expand(len(rt), -1))), theta
                else:
                    yield likelihood.log_survival_rows(rt, theta.expand(len(rt), -1)), theta
            except InputError as refusal:
                assert "cannot be solved to 1e-06 at" in str(refusal)  # noqa: PT017 - each refusal, not one
                yield None


@pytest.mark.parametrize("name", SOLVED)
@pytest.mark.parametrize("n", [1, pytest.param(16, marks=pytest.mark.slow)])
def test_at_corners_and_absurd_times_it_tells_numbers_or_refuses(name, n):
    """At the middle of the box it tells some; at no corner a NaN, a density above all bounds, or another exception."""
    simulator = hs.load_simulator(name)
    likelihood = NumericalLikelihood(simulator)
    middle = [p.high if p.from_data else (p.low + p.high) / 2 for p in simulator.parameters]
    every = np.array(list(itertools.product(*((p.low, p.high) for p in simulator.parameters))))
    corners = np.random.default_rng(7).permutation(every)[:n]
    told = 0
    for row in (middle, *corners):
        for answer in asked(likelihood, torch.tensor(np.array(row)).unsqueeze(0)):
            if answer is not None:
                told += 1
                log_p, gradient = answer
                assert not log_p.isnan().any()
                # A density of 1e9 per second is that of a decision within a nanosecond.
                assert (log_p < 20.0).all()
                assert gradient.isfinite().all()
    assert told >= 2


@pytest.mark.parametrize("name", SOLVED)
def test_choice_probabilities_are_right(name):
    """In the middle of the usual ranges: they sum to 1, and the median by `quantile` has half of them before it."""
    simulator = hs.load_simulator(name)
    theta = {p.name: p.high if p.from_data else sum(p.typical) / 2 for p in simulator.parameters}
    likelihood, last = NumericalLikelihood(simulator), simulator.choices[-1]
    probabilities = likelihood.choice_probabilities(theta)
    assert abs(probabilities.sum() - 1) < 1e-6
    median = likelihood.quantile([0.5], [last], theta)
    assert float(likelihood.cdf(median, [last], theta)) == pytest.approx(float(probabilities[0, -1]) / 2, rel=1e-6)


def test_cells_are_sums_of_trials():
    theta, rt, choice = some_trials("ornstein", 2, 100, seed=3)
    likelihood = load_likelihood("ornstein", kind="numerical")
    trials = SortedTrials.sort(rt.numpy(), choice.numpy(), np.repeat([0, 1], 50), 2, 2)
    for lapse in (0.0, 0.1):
        per_cell = likelihood.log_prob_by_cell(trials, theta[[0, 50]], torch.tensor(lapse, dtype=torch.float64))
        density = torch.exp(likelihood.log_prob_rows(outcome_rows(rt, choice), theta))
        expected = torch.log((1 - lapse) * density + lapse * trials.lapse_density).reshape(2, 50).sum(1)
        np.testing.assert_allclose(per_cell.numpy(), expected.numpy(), rtol=1e-6)


def test_accuracy_with_conditions_given():
    result = accuracy.accuracy(DRIFTED, REFERENCE, DMC.box, 400, seed=1, n_thetas=4)
    assert result.kl > 0
    assert set(result.score_error) == {"v", "a", "t0", "amp", "tau", "shape", "alpha", "st0"}


@pytest.mark.slow
def test_a_known_error_is_found():
    """A likelihood whose drift is off by .05 has its mode that much lower, in units of the exact sd; the rest stays."""
    mean, _ = accuracy.posterior_bias(DRIFTED, REFERENCE, 400, 1, seed=4)
    assert list(mean) == ["v", "a", "t0", "amp", "tau", "alpha", "st0"]
    assert mean.pop("v") > 0.05
    assert max(mean.values()) < 0.01


def test_unknown_equation_is_refused():
    with pytest.raises(InputError, match="declares no `passage`"):
        load_likelihood("lca3", kind="numerical")
    with pytest.raises(InputError, match="'neural', 'exact' or 'numerical'"):
        load_likelihood("ddm", kind="other")


def test_survival_is_that_of_the_closed_form():
    """Up to 2 s; to 1e-6, relative."""
    rt, theta = torch.tensor([0.6, 1.0, 2.0]).double(), torch.tensor([[1.0, 1.0, 0.5, 0.3]] * 3).double()
    simulator = hs.load_simulator("ornstein")
    columns = [simulator.names.index(name) for name in ("v", "a", "z", "t0")]
    at = torch.zeros(3, len(simulator.names)).double().index_copy(1, torch.tensor(columns), theta)
    found = NumericalLikelihood(simulator).log_survival_rows(rt, at)
    expected = ExactLikelihood(hs.load_simulator("ddm")).log_survival_rows(rt, theta)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_events_are_those_of_the_closed_form():
    """An omission, a withheld and an untimed response, a limited range, a time alone: to 1e-6, slopes to 1e-4."""
    inf = np.inf
    low = [[1.2, 1.2], [0.0, 1.2], [1.0, 0.0], [0.5, 0.5], [0.7, 0.7]]
    high = [[inf, inf], [inf, inf], [0.0, inf], [0.9, 0.9], [0.7, 0.7]]
    events = Events(np.arange(5), Ranges(np.array(low), np.array(high)), np.ones(5))
    theta = {"v": 0.8, "a": 1.1, "z": 0.45, "t0": 0.3}
    ornstein, ddm = (hs.load_simulator(name) for name in ("ornstein", "ddm"))
    value, slope = [], []
    for likelihood in (NumericalLikelihood(ornstein), ExactLikelihood(ddm)):
        names = likelihood.simulator.names
        row = torch.tensor([[theta.get(name, 0.0) for name in names]], dtype=torch.float64)
        at = row.repeat(5, 1).requires_grad_()
        lapse, law = torch.full((5,), 0.05, dtype=torch.float64), hs.LapseLaw((1.0, 1.0), 10.0)
        value.append(likelihood.events_by_cell(events, at, lapse, law))
        (by_all,) = torch.autograd.grad(value[-1].sum(), at)
        slope.append(by_all[:, [names.index(name) for name in theta]])
    torch.testing.assert_close(*value, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(*slope, rtol=1e-4, atol=1e-5)
