"""Closed-form likelihood against a high-precision series (mpmath), finite differences, and probability theory."""

import dataclasses
import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import hddm_sbi as hs
from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.decision import SortedTrials, outcome_rows
from hddm_sbi.likelihoods.exact import ExactLikelihood

EXACT = hs.load_likelihood("ddm", kind="exact")
BOX = np.array(list(EXACT.simulator.box.values()))


def series(t: float, choice: int, v: float, a: float, z: float) -> mpmath.mpf:
    """Log density of the Wiener first-passage time in 60 digits, by its two series (Navarro & Fuss 2009)."""
    v, a, z, t = map(mpmath.mpf, (v, a, z, t))
    if choice == 1:
        v, z = -v, 1 - z
    u = t / (2 * a) ** 2
    if u < 0.5:
        total = mpmath.fsum((z + 2 * k) * mpmath.exp(-((z + 2 * k) ** 2) / (2 * u)) for k in range(-30, 31))
        f = total / mpmath.sqrt(2 * mpmath.pi * u**3)
    else:
        pi = mpmath.pi
        f = pi * mpmath.fsum(k * mpmath.sin(k * pi * z) * mpmath.exp(-(k**2) * pi**2 * u / 2) for k in range(1, 40))
    return mpmath.log(f) - 2 * mpmath.log(2 * a) - v * 2 * a * z - v * v * t / 2


def tail_and_box_points(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """theta with t0 = 0 over the box and, in z, beyond it; decision times from 1e-4 to 60 in units of a²."""
    rng = np.random.default_rng(seed)
    theta = BOX[:, 0] + (BOX[:, 1] - BOX[:, 0]) * rng.random((n, 4))
    theta[: n // 8, 2] = rng.uniform(0.01, 0.1, n // 8)
    theta[n // 8 : n // 4, 2] = rng.uniform(0.9, 0.99, n // 4 - n // 8)
    theta[:, 3] = 0.0
    t = theta[:, 1] ** 2 * np.exp(rng.uniform(np.log(1e-4), np.log(60), n))
    return theta, t, rng.integers(0, 2, n)


def log_p(theta: np.ndarray, t: np.ndarray, choice: np.ndarray) -> torch.Tensor:
    return EXACT.log_prob_rows(outcome_rows(t, choice), torch.tensor(theta))


def test_log_density_over_the_box_and_its_tails():
    """1 000 points; error below 1e-10 (relative where |log p| > 1), with log p from +8 down to -700 and beyond."""
    theta, t, choice = tail_and_box_points(1_000, seed=1)
    with mpmath.workdps(60):
        expected = np.array([float(series(ti, ci, *row[:3])) for ti, ci, row in zip(t, choice, theta, strict=True)])
    assert (expected < -600).any()
    error = np.abs(log_p(theta, t, choice).numpy() - expected) / np.maximum(1.0, np.abs(expected))
    assert error.max() < 1e-10


def test_gradient_against_high_precision_differences():
    """100 points; central differences with step 1e-20 in 60 digits are exact to 1e-30."""
    theta, t, choice = tail_and_box_points(100, seed=2)
    at = torch.tensor(theta, requires_grad=True)
    (gradient,) = torch.autograd.grad(EXACT.log_prob_rows(outcome_rows(t, choice), at).sum(), at)
    with mpmath.workdps(60):
        h = mpmath.mpf("1e-20")
        for i in range(len(t)):
            x = [mpmath.mpf(float(q)) for q in (t[i], *theta[i, :3])]

            def f(x: list, choice: int = choice[i]) -> mpmath.mpf:
                return series(x[0], choice, *x[1:])

            slope = [
                (f([*x[:j], x[j] + h, *x[j + 1 :]]) - f([*x[:j], x[j] - h, *x[j + 1 :]])) / (2 * h) for j in range(4)
            ]
            expected = np.array([float(s) for s in (slope[1], slope[2], slope[3], -slope[0])])
            error = np.abs(gradient[i].numpy() - expected) / np.maximum(1.0, np.abs(expected))
            assert error.max() < 1e-9, (theta[i], t[i], choice[i], gradient[i], expected)


def test_mass_is_one():
    """Trapezoid in log t, 20 001 points: exact to 1e-9 for a smooth density that vanishes at both ends."""
    y = np.linspace(np.log(1e-6), np.log(400), 20_001)
    for v, a, z in [(0.0, 1.0, 0.5), (3.0, 0.5, 0.2), (-5.0, 2.5, 0.9), (1.0, 2.0, 0.1)]:
        theta = np.tile([v, a, z, 0.0], (len(y), 1))
        density = sum(np.exp(log_p(theta, np.exp(y), np.full(len(y), c)).numpy() + y) for c in (0, 1))
        assert abs(np.trapezoid(density, y) - 1.0) < 1e-8


def test_nothing_at_or_below_the_non_decision_time():
    theta = torch.tensor([[1.0, 1.0, 0.5, 0.3]] * 3, dtype=torch.float64, requires_grad=True)
    values = EXACT.log_prob_rows(
        outcome_rows(torch.tensor([0.2, 0.3, 0.301], dtype=torch.float64), torch.tensor([0, 1, 1])), theta
    )
    assert values[:2].tolist() == [-np.inf, -np.inf]
    assert torch.isfinite(values[2])
    (gradient,) = torch.autograd.grad(values[2], theta)
    assert torch.equal(gradient[:2], torch.zeros(2, 4, dtype=torch.float64))


def cells(
    n_cells: int = 6, per_cell: int = 150
) -> tuple[torch.Tensor, SortedTrials, np.ndarray, np.ndarray, np.ndarray]:
    """Simulated trials, one cell left empty, and a few below t0."""
    rng = np.random.default_rng(4)
    theta = np.column_stack(
        [
            rng.uniform(-2, 2, n_cells),
            rng.uniform(0.5, 2, n_cells),
            rng.uniform(0.3, 0.7, n_cells),
            np.full(n_cells, 0.3),
        ]
    )
    cell = np.repeat(np.arange(n_cells - 1), per_cell)
    rt, choice = EXACT.simulator.simulate(theta[cell], seed=4)
    rt[:5] = [0.1, 0.2, 0.3, 0.3001, 9.0]
    return torch.tensor(theta), SortedTrials.sort(rt, choice, cell, n_cells, 2), rt, choice, cell


@pytest.mark.parametrize("lapse", [0.05, 0.6])
def test_cells_are_sums_over_trials_with_lapses(lapse):
    theta, trials, rt, choice, cell = cells()
    each = EXACT.log_prob_rows(outcome_rows(rt, choice), theta[cell]).exp()
    mixed = torch.log((1 - lapse) * each + lapse * trials.lapse_density)
    expected = torch.zeros(len(theta), dtype=torch.float64).index_add(0, torch.tensor(cell), mixed)
    got = EXACT.log_prob_by_cell(trials, theta, torch.tensor(lapse, dtype=torch.float64))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert got[-1] == 0.0


def test_cells_without_lapses_need_every_trial_above_t0():
    theta, trials, *_ = cells()
    no_lapse = torch.zeros((), dtype=torch.float64)
    values = EXACT.log_prob_by_cell(trials, theta, no_lapse)
    assert values[0] == -np.inf
    assert torch.isfinite(values[1:]).all()


def test_cell_gradients_by_finite_differences():
    theta, trials, *_ = cells()
    theta[:, 3] = 0.25
    lapse = torch.tensor(0.07, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda th, la: EXACT.log_prob_by_cell(trials, th, la),
        (theta.requires_grad_(), lapse.requires_grad_()),
        eps=1e-6,
        rtol=1e-5,
        atol=1e-4,
    )


def test_lapse_density_has_mass_one():
    _, trials, *_ = cells()
    assert sum(trials.lapses.at_start) * trials.lapses.seconds == pytest.approx(1.0, abs=1e-15)
    longer = SortedTrials.sort(np.array([0.5, 14.0]), np.array([0, 1]), np.array([0, 0]), 1, 2)
    assert longer.lapses.at_start == [1 / 28, 1 / 28]
    assert longer.lapse_density.tolist() == [1 / 28, 1 / 28]


def test_operator_is_well_formed():
    theta, trials, *_ = cells()
    kernel, starts, times = EXACT._kernel, torch.tensor(trials.starts), torch.tensor(trials.rt)
    lapse, law = torch.full((len(theta),), 0.05, dtype=torch.float64), (trials.lapses.at_start, trials.lapses.rate)
    torch.library.opcheck(torch.ops.hddm_sbi.exact_cells.default, (theta, lapse, *law, starts, 2, times, kernel))


def test_maximum_likelihood_is_unbiased():
    """8 fits of 20 000 trials: each parameter's mean error in standard errors is N(0, 1/8); 5 sds, 2e-6 in all."""
    rng, no_lapse, step = np.random.default_rng(7), torch.zeros((), dtype=torch.float64), 1e-5
    errors = []
    for k in range(8):
        theta = np.array([rng.uniform(-2, 2), rng.uniform(0.5, 1.5), rng.uniform(0.35, 0.65), rng.uniform(0.2, 0.5)])
        rows = np.tile(theta, (20_000, 1))
        rt, choice = EXACT.simulator.simulate(rows, seed=100 + k)
        trials = SortedTrials.sort(rt, choice, np.zeros(20_000, np.int64), 1, 2)

        def loss(x, trials=trials):
            at = torch.tensor(x[None], requires_grad=True)
            total = -EXACT.log_prob_by_cell(trials, at, no_lapse).sum()
            return float(total.detach()), torch.autograd.grad(total, at)[0][0].numpy()

        box = list(EXACT.simulator.box.values())
        mode = minimize(loss, theta, jac=True, method="L-BFGS-B", bounds=box, options={"ftol": 1e-14}).x
        curvature = [(loss(mode + step * e)[1] - loss(mode - step * e)[1]) / (2 * step) for e in np.eye(4)]
        errors.append((mode - theta) / np.sqrt(np.diag(np.linalg.inv(curvature))))
    assert np.abs(np.mean(errors, axis=0)).max() < 5 / np.sqrt(8)


def test_a_model_without_closed_form_says_so():
    open_form = dataclasses.replace(EXACT.simulator, log_density=None)
    with pytest.raises(InputError, match="no closed-form likelihood"):
        ExactLikelihood(open_form)


@pytest.mark.parametrize("lapse", [0.0, 0.05])
@pytest.mark.parametrize("kind", ["exact", "neural"])
def test_sums_over_a_million_trials_are_accurate(kind, lapse):
    """Against math.fsum, whose only rounding is the last: relative 1e-13; a plain sum in order may reach 1e-10."""
    n, theta = 1_000_000, torch.tensor([[1.0, 1.2, 0.45, 0.3]], dtype=torch.float64)
    likelihood = hs.load_likelihood("ddm", kind=kind)
    rt, choice = hs.load_simulator("ddm").simulate(theta.numpy().repeat(1_000, 0), seed=1)
    rt, choice = np.tile(rt, n // 1_000), np.tile(choice, n // 1_000)
    trials = SortedTrials.sort(rt, choice, np.zeros(n, dtype=np.int64), 1, 2)
    log_p = likelihood.log_prob_rows(outcome_rows(rt, choice), theta.expand(n, -1))
    lapses = np.log(lapse * trials.lapse_density.numpy()) if lapse else -np.inf
    mixed = np.logaddexp(np.log1p(-lapse) + log_p.numpy(), lapses)
    total = likelihood.log_prob_by_cell(trials, theta, torch.tensor(lapse, dtype=torch.float64))
    error = abs(float(total) / math.fsum(mixed) - 1)
    assert error < 1e-13, error
